"""Monte Carlo estimates of a vote over random k-subsets, with their standard error.

For the items that no exact estimate covers: more than two answers, or a filter within strata.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spct.scaling.kept import Pair
from spct.scaling.subsets import Ranks, Subsets
from spct.scaling.votes import FILTERS, Ballots, Bools, Floats, Index, Method, Votes, decide

CELLS = 1 << 20  # array elements that one chunk of items may take


def moments(
    votes: Votes,
    cast: Ballots,
    subsets: Subsets,
    rows: Index,
    method: Method,
    pairs: Sequence[Pair],
) -> Floats:
    """Mean credit, mean squared credit, shares of ties and wins, ``(pairs, 4, rows)``.

    ``votes`` and ``cast`` hold those items alone; ``rows`` are their places in ``subsets``. Where
    ``votes`` have strata, subsets take equally from each.
    """
    found = np.empty((len(pairs), 4, len(rows)))
    step = max(1, CELLS // (subsets.subsets * max(1, votes.n)))
    for start in range(0, len(rows), step):
        here = np.arange(start, min(start + step, len(rows)))
        part, own = votes.take(here), cast.take(here)
        if part.stratum is None:
            ranks = subsets.ranks(rows[here])
        else:
            ranks = subsets.stratified(rows[here], part.stratum)
        lots = subsets.ranks(rows[here], "lots") if method == "random_voting" else ranks
        order = own.order[:, None, :]
        ranks, lots = (np.take_along_axis(array, order, axis=2) for array in (ranks, lots))
        for at, (k, keep) in enumerate(pairs):
            members = ranks < k
            if method in FILTERS:
                members &= np.cumsum(members, axis=2, dtype=np.int16) <= keep
            elif method == "random_voting":
                members = _by_lot(members, own.usable, lots, keep)
            credit, tied = decide(members.astype(np.float32) @ own.points, part)
            found[at][:, here] = np.stack([credit, credit**2, tied, credit == 1]).mean(axis=2)
    return found


def _by_lot(members: Bools, usable: Index, lots: Ranks, keep: int) -> Bools:
    """The ``keep`` usable members ``(rows, subsets, n)`` of the lowest lots."""
    members &= np.arange(members.shape[2]) < usable[:, None, None]
    at = np.empty(lots.shape, dtype=np.int64)
    np.put_along_axis(at, lots.astype(np.int64), np.arange(lots.shape[2])[None, None], axis=2)
    drawn = np.take_along_axis(members, at, axis=2)
    drawn &= np.cumsum(drawn, axis=2, dtype=np.int16) <= keep
    return np.take_along_axis(drawn, lots.astype(np.int64), axis=2)
