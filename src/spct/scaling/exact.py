"""Exact votes between two answers over all k-subsets of n samples, by counting.

A sample adds the difference d of its points for the right and the wrong answer; a subset of sum
D > 0 is right and D = 0 a tie. One pass over an item's samples, in the order in which a filter
keeps them, counts the subsets of every size by their last sample; every method is a weighted sum of
those counts (:mod:`spct.scaling.kept`). Invalid samples have d = 0 and come behind all others.

Counts are float64: each, and each sum of them, is at most C(n, k), and all terms are positive, so
shares are good to about 1e-15.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

from spct.scaling.kept import Pair, allocations, by_last, by_size
from spct.scaling.votes import Bools, Floats, Index

MOST_SAMPLES = 1000  # C(1000, 500) is 2.7e299
MOST_REACH = 20_000  # sum of |d| of an item: its table is n by that
CELLS = 1 << 18  # counts held at a time


def countable(differences: Floats) -> Bools:
    """Which items ``(I,)`` of differences ``(I, n)`` can be counted: integers, not too large."""
    whole = (differences == np.rint(differences)).all(axis=1)
    moderate = np.abs(differences).sum(axis=1) <= MOST_REACH
    return np.asarray(whole & moderate & (differences.shape[1] <= MOST_SAMPLES))


def filtered(differences: Floats, pairs: Sequence[Pair]) -> Floats:
    """Votes of the first ``k_meta`` samples of each k-subset, moments ``(pairs, 4, I)``.

    ``differences`` (I, n) are in filter order. For k_meta = k any order does, and falling ``|d|``
    is the fastest.
    """
    items, n = differences.shape
    groups: dict[int, list[int]] = {}
    for at, (_, keep) in enumerate(pairs):
        groups.setdefault(keep, []).append(at)
    weights = {
        keep: np.stack([by_last(n, *pairs[at]) for at in group], axis=1)
        for keep, group in groups.items()
    }
    shares = np.empty((items, 2, len(pairs)))
    for rows, counts in _counted(differences, max(groups)):
        for keep, group in groups.items():
            voted = counts[:, :, keep - 1] @ weights[keep]
            shares[rows[:, None], :, group] = voted.transpose(0, 2, 1)
    return moments(shares)


def thinned(differences: Floats, usable: Index, pairs: Sequence[Pair]) -> Floats:
    """Votes of ``k_meta`` random usable samples of each k-subset, moments ``(pairs, 4, I)``.

    The first ``usable`` (I,) of the samples may vote; all of them do where a subset has no more.
    """
    items, n = differences.shape
    largest = max(keep for _, keep in pairs)
    weights = {
        int(u): np.stack([by_size(n, int(u), *pair)[: largest + 1] for pair in pairs], axis=1)
        for u in np.unique(usable)
    }
    shares = np.empty((items, 2, len(pairs)))
    for rows, counts in _counted(differences, largest):
        for row, count in zip(rows, counts, strict=True):
            table = weights[int(usable[row])]
            shares[row] = count[:, :, : usable[row]].sum(axis=2) @ table[1:]
            shares[row, 1] += table[0]  # nobody votes: a tie
    return moments(shares)


def stratified(differences: Floats, stratum: NDArray[np.int16], ks: Sequence[int]) -> Floats:
    """Votes of k samples drawn equally from two strata ``(I, n)``, moments ``(ks, 4, I)``."""
    shares = np.empty((len(differences), 2, len(ks)))
    for i, (row, labels) in enumerate(zip(_integers(differences), stratum, strict=True)):
        first = labels == labels[0]
        table = _joint(row[first], row[~first])
        for at, k in enumerate(ks):
            splits = allocations((int(first.sum()), int((~first).sum())), k)
            shares[i, :, at] = np.mean([table[:, a, b] for a, b in splits], axis=0)
    return moments(shares)


def _joint(a: Index, b: Index) -> Floats:
    """Shares of D > 0 and D = 0 ``[2, i, j]`` among the unions of an i-subset and a j-subset."""
    (down, up), (lower, higher) = _reach(a), _reach(b)
    width = down + up + 1
    *_, sums = tables(np.arange(1 - width, width) == 0, a, len(a))
    *_, over = tables(np.arange(-down - lower, up + higher + 2) > 0, b, len(b))
    # For x from -down to up: subsets of a of sum x, and subsets of b of a sum above -x.
    left, right = sums[:, down : down + width][:, ::-1], over[:, lower : lower + width + 1]
    above, not_below = left @ right[:, :-1].T, left @ right[:, 1:].T
    ways = [np.array([float(comb(len(d), m)) for m in range(len(d) + 1)]) for d in (a, b)]
    return np.stack([above, not_below - above]) / np.outer(*ways)


def _counted(differences: Floats, largest: int) -> Iterator[tuple[Index, Floats]]:
    """Chunks of items: their rows, and counts ``(rows, 2, largest, n)`` as of :func:`_by_last`."""
    items, n = differences.shape
    step = max(1, CELLS // (2 * largest * n))
    counts = np.zeros((min(step, items), 2, largest, n))
    whole = _integers(differences)
    for start in range(0, items, step):
        rows = np.arange(start, min(start + step, items))
        for row, out in zip(rows, counts, strict=False):
            _by_last(whole[row], out)
        yield rows, counts[: len(rows)]


def _integers(differences: Floats) -> Index:
    """Differences over the largest unit that an item's are all multiples of."""
    whole = np.rint(differences).astype(np.int64)
    return np.asarray(whole // np.maximum(np.gcd.reduce(whole, axis=1, keepdims=True), 1))


def _by_last(d: Index, out: Floats) -> None:
    """``out[:, m, p]``: subsets of m + 1 samples, the last at p, with a sum over 0 and equal to 0.

    Of the m-subsets of the samples before p, those whose sum exceeds -d and those equal to -d; the
    latter, sums being integers, exceed -d - 1 but not -d.
    """
    (down, up), largest = _reach(d), out.shape[1]
    over = np.arange(-down, up + 2) > 0
    for p, (x, table) in enumerate(zip(d.tolist(), tables(over, d, largest - 1), strict=False)):
        rows = min(p + 1, largest)
        out[:, :rows, p] = table[:rows, down + x : down + x + 2].T
    out[1] -= out[0]


def _reach(d: Index) -> tuple[int, int]:
    """How far below and above 0 a sum of samples can come."""
    return int(-d[d < 0].sum()), int(d[d > 0].sum())


def tables(start: Bools, d: Index, largest: int) -> Iterator[Floats]:
    """Sums of ``start(t + D)`` over the m-subsets of the samples so far, as a table ``[m, t]``.

    One table, m up to ``largest``, before each sample and one after the last. Its columns are those
    of ``start``, of which the first are undefined, as many as the negative d so far add up to, and
    likewise the last and the positive d. A table is overwritten two tables later.
    """
    now, then = np.zeros((2, largest + 1, len(start)))
    now[0] = then[0] = start
    low, high = 0, len(start)
    for p, x in enumerate(d.tolist()):
        yield now
        low, high = low + max(0, -x), high - max(0, x)
        top = min(p + 1, largest)
        kept, joined = now[1 : top + 1, low:high], now[:top, low + x : high + x]
        np.add(kept, joined, out=then[1 : top + 1, low:high])
        now, then = then, now
    yield now


def moments(shares: Floats) -> Floats:
    """Mean credit, mean squared credit, shares of ties and of wins, from ``(I, 2, pairs)``."""
    wins, ties = shares.transpose(1, 2, 0)
    return np.stack([wins + ties / 2, wins + ties / 4, ties, wins], axis=1)
