"""Exact votes over all k-subsets where few sets of samples can be the ones that vote."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from spct.scaling.kept import Pair, by_last, by_size
from spct.scaling.votes import Ballots, Bools, Floats, Index, Method, Votes, decide_by_answer

MOST_SETS = 50_000  # an item and pair: a few milliseconds; C(64, 3), every k of 16 or 17 samples
CELLS = 1 << 17  # elements of one array of a chunk of items
Voters = tuple[int, int, Floats]  # size of a set, ranks it comes from, weight by its last rank


def few(cast: Ballots, method: Method, pair: Pair) -> Bools:
    """For which items ``(I,)`` the sets of samples that may vote are few enough to list."""
    n, result = cast.order.shape[1], np.empty(len(cast.usable), dtype=np.bool_)
    pools = _pools(cast, method)
    for pool in np.unique(pools):
        sets = sum(comb(ranks, size) for size, ranks, _ in _voters(n, int(pool), method, pair))
        result[pools == pool] = sets <= MOST_SETS
    return result


def moments(votes: Votes, cast: Ballots, method: Method, pair: Pair) -> Floats:
    """Mean credit, mean squared credit, shares of ties and wins of each item, ``(4, I)``."""
    found = np.zeros((4, len(cast.usable)))
    pools = _pools(cast, method)
    for pool in np.unique(pools):
        rows = np.flatnonzero(pools == pool)
        for voters in _voters(votes.n, int(pool), method, pair):
            members, weights = _listed(votes.n, voters)
            step = max(1, CELLS // (len(members) * votes.answers.shape[1]))
            for start in range(0, len(rows), step):
                here = rows[start : start + step]
                totals = cast.points[here].transpose(2, 0, 1) @ members.T
                credit, tied = decide_by_answer(totals, votes.take(here))
                parts = credit, credit**2, tied, credit == 1
                found[:, here] += np.stack([part @ weights for part in parts])
    return found


def _pools(cast: Ballots, method: Method) -> Index:
    """Samples that a random choice is made from; other methods need no difference of items."""
    return cast.usable if method == "random_voting" else np.full_like(cast.usable, -1)


def _voters(n: int, pool: int, method: Method, pair: Pair) -> list[Voters]:
    k, keep = pair
    if method != "random_voting":
        return [(keep, n - k + keep, by_last(n, k, keep))]
    chance = by_size(n, pool, k, keep)
    return [(int(m), pool, np.full(n, chance[m])) for m in np.flatnonzero(chance)]


def _listed(n: int, voters: Voters) -> tuple[NDArray[np.float32], Floats]:
    """Members ``(sets, n)``, ones and zeros, and weights ``(sets,)``."""
    size, pool, weights = voters
    chosen = np.array(list(combinations(range(pool), size)), dtype=np.int64)
    members = np.zeros((len(chosen), n), dtype=np.float32)
    np.put_along_axis(members, chosen, 1, axis=1)
    return members, weights[chosen[:, -1]] if size else weights[:1]
