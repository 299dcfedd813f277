"""Expected accuracy of voting@k and of filtered votes, from a bank of n samples an item.

The expectation over k-subsets of the bank is exact where all of them fit into ``subsets`` (k = 1,
k = n), and otherwise the mean over that many random ones. An item's subsets depend on its id and
the seed alone: every policy, method and k sees the same draws (nested in k), so differences are
paired. A vote is the sum of scores (arXiv 2504.02495, Eq. 14). All of it equals the scalar rules of
:mod:`spct.judge.vote` and :func:`spct.judge.predicate.credit`, on whole arrays.

Shapes: I items, n samples, S subsets, R answers. One response with a 0/1 verdict is two answers,
"wrong" and "right", and a sample gives its point to one of them: the sum is then the majority.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spct import seeds
from spct.judge.vote import INVALID, k_meta_for

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Method = Literal["voting", "meta_voting", "margin_voting", "random_voting", "oracle_voting"]
METHODS: tuple[Method, ...] = (
    "voting",
    "meta_voting",
    "margin_voting",
    "random_voting",
    "oracle_voting",
)


@dataclass(frozen=True)
class Votes:
    """The samples of some items as arrays; ``scores`` must be zero wherever a sample is invalid."""

    scores: NDArray[np.float32]  # (I, n, R), original order of the responses
    valid: Bools  # (I, n)
    answers: Bools  # (I, R): answers that exist; the rest is padding
    better: Bools  # (I, R): answers that must come out on top, all of them …
    worse: Bools  # (I, R): … over each of these
    single: Bools  # (I,): one response, judged by verdicts
    correct: Bools  # (I, n): strict predicate of each sample
    meta: Floats | None = None  # (I, n): meta RM logits

    @property
    def n(self) -> int:
        return int(self.valid.shape[1])


class Subsets:
    """The k-subsets of each item's n samples that every estimate averages over."""

    def __init__(self, ids: Sequence[str], n: int, subsets: int, *parts: object) -> None:
        """``subsets`` random permutations an item, seeded by ``(*parts, id)``."""
        if subsets < 1:
            raise ValueError(f"subsets must be at least 1, not {subsets}")
        self.n, self.subsets = n, subsets
        plain = np.tile(np.arange(n, dtype=np.int16), (subsets, 1))
        # rank[i, s, j] < k: subset s of item i holds sample j.
        self.rank = np.stack(
            [seeds.rng("subsets", *parts, item).permuted(plain, axis=1) for item in ids]
        )
        self._sample_at = np.argsort(self.rank, axis=2)

    def drawn(self, k: int, order: NDArray[np.int64]) -> Bools:
        """Membership ``(I, S, n)`` of the subsets of size k, samples listed in ``order`` (I, n)."""
        if not 1 <= k <= self.n:
            raise ValueError(f"k = {k} needs at least {k} samples an item; the bank has {self.n}")
        if math.comb(self.n, k) <= self.subsets:
            every = np.zeros((math.comb(self.n, k), self.n), dtype=np.bool_)
            for row, members in zip(every, itertools.combinations(range(self.n), k), strict=True):
                row[list(members)] = True
            return np.swapaxes(every[:, order], 0, 1)
        return np.take_along_axis(self.rank, order[:, None, :], axis=2) < k

    def random_half(self, usable: Bools, k: int, keep: int) -> Bools:
        """``keep`` random usable members of each k-subset: ``(I, S, n)``, samples in order."""
        everywhere = np.broadcast_to(usable[:, None], self.rank.shape)
        ready = np.take_along_axis(everywhere, self._sample_at, axis=2) & (np.arange(self.n) < k)
        kept = ready & (np.cumsum(ready, axis=2, dtype=np.int16) <= keep)
        return np.take_along_axis(kept, self.rank.astype(np.int64), axis=2)


def margins(votes: Votes) -> Floats:
    """Best minus second-best score of each sample, ``(I, n)``; zero where invalid."""
    shown = np.where(votes.answers[:, None, :], votes.scores, -np.inf)
    top = np.sort(shown, axis=2)[:, :, -2:]
    gap = np.zeros(votes.valid.shape)
    np.subtract(top[:, :, 1], top[:, :, 0], out=gap, where=votes.valid)
    return gap


def signal(votes: Votes, method: Method) -> Floats:
    """What a filter ranks samples by, ``(I, n)``, higher is kept first; plain voting has none."""
    if method == "meta_voting":
        if votes.meta is None:
            raise ValueError("meta_voting needs a bank with meta scores (run the score stage)")
        return votes.meta
    if method == "margin_voting":
        return margins(votes)
    if method == "oracle_voting":
        return votes.correct.astype(np.float64)
    raise ValueError(f"{method} ranks no samples")


def decide(totals: NDArray[np.float32], votes: Votes) -> tuple[Floats, Bools]:
    """Credit and tie of each vote: ``totals`` (I, S, R) to two arrays (I, S).

    Credit is the share of orders of the tied answers that put all of ``better`` over all of
    ``worse``: 1/m for the best of m tied. A vote is tied if its highest total is shared.
    """
    better, worse = votes.better[:, None, :], votes.worse[:, None, :]
    lowest = np.where(better, totals, np.inf).min(axis=2, keepdims=True)
    highest = np.where(worse, totals, -np.inf).max(axis=2, keepdims=True)
    tied_better = (better & (totals == lowest)).sum(axis=2)
    tied_worse = (worse & (totals == lowest)).sum(axis=2)
    lowest, highest = lowest[:, :, 0], highest[:, :, 0]
    shared = 1.0 / _choose(totals.shape[2])[tied_better + tied_worse, tied_better]
    credit = np.where(lowest == highest, shared, lowest > highest)
    shown = np.where(votes.answers[:, None, :], totals, -np.inf)
    return credit, (shown == shown.max(axis=2, keepdims=True)).sum(axis=2) > 1


def _choose(n: int) -> Floats:
    """Binomial coefficients as a table ``[m, i]`` up to m = n (1 where i > m)."""
    rows = [[max(1, math.comb(m, i)) for i in range(n + 1)] for m in range(n + 1)]
    return np.array(rows, dtype=np.float64)


def expected_accuracy(
    votes: Votes, subsets: Subsets, method: Method, k: int, share: float, invalid: str = "drop"
) -> tuple[Floats, Floats]:
    """Expected credit and share of tied votes of every item at k, two arrays ``(I,)``.

    ``drop`` removes invalid samples before ranking and voting. With ``zero`` they keep their place
    in the ranking and add zero to the vote; on a single response they vote for 0.
    Raises ``ValueError`` if k exceeds the bank or the method's signal is missing.
    """
    if invalid not in INVALID:
        raise ValueError(f"scaling.invalid = {invalid!r} is not one of {', '.join(INVALID)}")
    keep = k_meta_for(k, share)
    scores, usable = votes.scores, votes.valid
    if invalid == "zero":
        scores, usable = scores.copy(), np.ones_like(usable)
        scores[:, :, 0] += votes.single[:, None] & ~votes.valid
    order = np.broadcast_to(np.arange(votes.n), votes.valid.shape)
    if method == "voting" or keep >= k:
        kept = subsets.drawn(k, order) & usable[:, None, :]
    elif method == "random_voting":
        kept = subsets.random_half(usable, k, keep)
    else:
        # A stable sort breaks ties by sample index; a missing signal (NaN) comes last.
        rank_by = -np.nan_to_num(signal(votes, method), nan=-np.inf)
        order = np.argsort(rank_by, axis=1, kind="stable")
        members = subsets.drawn(k, order) & np.take_along_axis(usable, order, 1)[:, None, :]
        kept = members & (np.cumsum(members, axis=2, dtype=np.int16) <= keep)
        scores = np.take_along_axis(scores, order[:, :, None], axis=1)
    credit, tied = decide(kept.astype(np.float32) @ scores, votes)
    return credit.mean(axis=1), tied.mean(axis=1)
