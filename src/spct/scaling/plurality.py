"""Exact majority over all k-subsets for any number of answers, by counting.

Each sample votes for one answer or abstains, so a subset is a number of votes for each answer, and
those numbers are free of each other but for their sum. At every level c, polynomials in the number
of votes count the subsets whose answers stand above, at or below c.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from spct.scaling.votes import Ballots, Floats, Index, Votes


def moments(votes: Votes, cast: Ballots, ks: Sequence[int]) -> Floats:
    """Mean credit, mean squared credit, shares of ties and wins of each item, ``(ks, 4, I)``.

    ``cast.points`` are one point of a sample for one answer, or none.
    """
    found = np.empty((len(ks), 4, len(cast.points)))
    supporters = np.rint(cast.points.sum(axis=1)).astype(np.int64)
    for i, counts in enumerate(supporters):
        better, worse = counts[votes.better[i]], counts[votes.worse[i]]
        earned = _credits(better, worse, votes.n)
        sides = int(better.sum() + worse.sum())
        tied = _ties(counts[votes.answers[i]], votes.n)
        for at, k in enumerate(ks):
            found[at, [0, 1, 3], i] = _share(earned, votes.n, sides, k)
            found[at, 2, i] = _share(tied, votes.n, int(counts.sum()), k)
    return found


def _credits(better: Index, worse: Index, n: int) -> Floats:
    """Credit, its square and wins summed over all subsets of supporters, by size ``(3, n + 1)``.

    With c the votes of the lowest of ``better``, a of them and b of ``worse`` stand at c, and no
    other of ``worse`` above it.
    """
    state = _nobody((len(better) + 1, len(worse) + 1), int(better.min()) + 1, n)
    for supporters in better.tolist():
        state = _with(state, supporters, axis=0, above=True)
    for supporters in worse.tolist():
        state = _with(state, supporters, axis=1, above=False)
    orders = [[comb(a + b, a) for b in range(len(worse) + 1)] for a in range(1, len(better) + 1)]
    credit = 1.0 / np.array(orders, dtype=np.float64)
    sizes = state[1:].sum(axis=2)
    earned = np.stack([credit, credit**2, credit == 1])
    return np.asarray(np.einsum("eab,abj->ej", earned, sizes))


def _ties(answers: Index, n: int) -> Floats:
    """Subsets of the supporters whose top is shared, by size ``(n + 1,)``."""
    state = _nobody((len(answers) + 1, 1), int(answers.max()) + 1, n)
    for supporters in answers.tolist():
        state = _with(state, supporters, axis=0, above=False)
    return np.asarray(state[2:].sum(axis=(0, 1, 2)))


def _nobody(ties: tuple[int, int], levels: int, n: int) -> Floats:
    """The empty subset at every level: counts ``[a, b, level, size]``."""
    state = np.zeros((*ties, levels, n + 1))
    state[0, 0, :, 0] = 1
    return state


def _with(state: Floats, supporters: int, *, axis: int, above: bool) -> Floats:
    """Subsets with any of an answer's supporters, its votes at a level or on one side of it."""
    grown, width = np.zeros_like(state), state.shape[3]
    for j in range(supporters + 1):
        ways, level = float(comb(supporters, j)), slice(j) if above else slice(j + 1, None)
        grown[:, :, level, j:] += ways * state[:, :, level, : width - j]
        if j < state.shape[2]:
            counter, tied = np.moveaxis(state, axis, 0), np.moveaxis(grown, axis, 0)
            tied[1:, :, j, j:] += ways * counter[:-1, :, j, : width - j]
    return grown


def _share(counts: Floats, n: int, voters: int, k: int) -> Floats:
    """Share of the k-subsets of n samples, given counts by their number of ``voters``."""
    others = [comb(n - voters, k - j) / comb(n, k) if j <= k else 0.0 for j in range(n + 1)]
    return np.asarray(counts @ np.array(others))
