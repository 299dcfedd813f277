"""The samples of a bank as arrays, the order in which a filter keeps them, and how a vote ends.

Shapes: I items, n samples, R answers, S subsets. One response with a 0/1 verdict is two answers,
"wrong" and "right", and a sample gives its point to one of them: the sum is then the majority.
All of it equals the scalar rules of :mod:`spct.judge.vote` and :func:`spct.judge.predicate.credit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spct.judge.vote import INVALID

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Index = NDArray[np.int64]
Method = Literal[
    "voting",
    "majority",
    "meta_voting",
    "margin_voting",
    "random_voting",
    "oracle_voting",
    "logprob_voting",
    "length_voting",
]
FILTERS = ("meta_voting", "margin_voting", "oracle_voting", "logprob_voting", "length_voting")

# Methods that rank by something a bank may lack: the array of Votes, and what it comes from.
_NEEDS = {
    "meta_voting": ("meta", "meta scores (run the score stage)"),
    "logprob_voting": ("logprob", "the sampler's log-probabilities"),
    "length_voting": ("length", "token counts"),
}


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
    rating: Bools | None = None  # (I,): one response, judged by ratings in scores[:, :, 0]
    stratum: NDArray[np.int16] | None = None  # (I, n): which display order a sample was shown in
    logprob: Floats | None = None  # (I, n): mean log-probability of a token of the completion
    length: Floats | None = None  # (I, n): tokens of the completion

    @property
    def n(self) -> int:
        return int(self.valid.shape[1])

    @property
    def rated(self) -> Bools:
        """``(I,)``: items whose samples are ratings; they have no accuracy, only a ROC-AUC."""
        return np.zeros(len(self.valid), dtype=np.bool_) if self.rating is None else self.rating

    @property
    def undecided(self) -> Bools:
        """``(I,)``: items without a right answer; their votes may be tied, but earn no credit."""
        return ~self.better.any(axis=1) & ~self.rated

    def take(self, rows: Index | Bools) -> Votes:
        """The same arrays of some items."""
        given: dict[str, Any] = {
            name: array[rows] for name, array in vars(self).items() if array is not None
        }
        return Votes(**given)

    def among(self, rows: Index, kept: Index) -> Votes:
        """Some items by the samples ``kept`` (rows, m) of theirs alone, as of one stratum."""
        part = self.take(rows)
        signals = {
            name: np.take_along_axis(array, kept, axis=1)
            for name in ("meta", "logprob", "length")
            if (array := getattr(part, name)) is not None
        }
        return replace(
            part,
            scores=np.take_along_axis(part.scores, kept[:, :, None], axis=1),
            valid=np.take_along_axis(part.valid, kept, axis=1),
            correct=np.take_along_axis(part.correct, kept, axis=1),
            stratum=None,
            **signals,
        )


@dataclass(frozen=True)
class Ballots:
    """What each sample adds to a vote, samples in the order in which a filter keeps them.

    An invalid sample that is dropped ranks behind all valid ones and adds nothing: a filter that
    keeps the first ``k_meta`` of a subset then keeps every valid one it can.
    """

    points: NDArray[np.float32]  # (I, n, R)
    order: Index  # (I, n): sample at each rank
    usable: Index  # (I,): how many ranks, from the first, hold samples that may be kept

    def take(self, rows: Index | Bools) -> Ballots:
        """The same arrays of some items."""
        return Ballots(self.points[rows], self.order[rows], self.usable[rows])

    def gaps(self, votes: Votes) -> Floats:
        """Points of each sample for the right over the wrong one of two answers, ``(I, n)``."""
        signs = votes.better.astype(np.float64) - votes.worse
        signs[votes.undecided, :2] = 1, -1  # whether the two are tied is all there is to learn
        return np.asarray(np.einsum("inr,ir->in", self.points, signs))


def ballots(votes: Votes, method: Method, invalid: str) -> Ballots:
    """Points and ranks of every sample under a method and a policy for invalid samples.

    ``drop`` removes invalid samples before ranking and voting. With ``zero`` they keep their place
    in the ranking and add zero to the vote; on a single response they vote for 0. Equal signals
    rank by sample index; a missing meta score (NaN) comes last. Raises ``ValueError`` for an
    unknown policy or if the method's signal is missing.
    """
    if invalid not in INVALID:
        raise ValueError(f"scaling.invalid = {invalid!r} is not one of {', '.join(INVALID)}")
    points, usable = votes.scores, votes.valid
    if invalid == "zero":
        points, usable = points.copy(), np.ones_like(usable)
        points[:, :, 0] += votes.single[:, None] & ~votes.valid
    if method == "majority":
        points = _top_answers(points, votes.answers)
    signal = np.nan_to_num(_signal(votes, method), nan=-np.inf)
    order = np.lexsort((-signal, ~usable), axis=1)
    return Ballots(np.take_along_axis(points, order[:, :, None], axis=1), order, usable.sum(axis=1))


def _signal(votes: Votes, method: Method) -> Floats:
    """What a method ranks samples by, ``(I, n)``: higher is kept first."""
    if method == "margin_voting":
        return margins(votes)
    if method == "oracle_voting":
        return votes.correct.astype(np.float64)
    if method not in _NEEDS:
        return np.zeros(votes.valid.shape)
    name, kind = _NEEDS[method]
    signal: Floats | None = getattr(votes, name)
    if signal is None:
        raise ValueError(f"{method} needs a bank with {kind}")
    return signal


def margins(votes: Votes) -> Floats:
    """Best minus second-best score of each sample, ``(I, n)``; zero where invalid."""
    shown = np.where(votes.answers[:, None, :], votes.scores, -np.inf)
    top = np.sort(shown, axis=2)[:, :, -2:]
    gap = np.zeros(votes.valid.shape)
    judged = votes.valid & ~votes.rated[:, None]
    np.subtract(top[:, :, 1], top[:, :, 0], out=gap, where=judged)
    return gap


def _top_answers(points: NDArray[np.float32], answers: Bools) -> NDArray[np.float32]:
    """One point for the strictly best answer of each sample; none where the top is shared."""
    shown = np.where(answers[:, None, :], points, -np.inf)
    top = np.equal(shown, shown.max(axis=2, keepdims=True))
    return np.asarray(top & (top.sum(axis=2, keepdims=True) == 1), dtype=np.float32)


def decide(totals: NDArray[np.float32], votes: Votes) -> tuple[Floats, Bools]:
    """Credit and tie of each vote: ``totals`` (I, S, R) to two arrays (I, S).

    Credit is the share of orders of the tied answers that put all of ``better`` over all of
    ``worse``: 1/m for the best of m tied. A vote is tied if its highest total is shared.
    """
    # Reducing the first axis is fastest.
    return decide_by_answer(np.ascontiguousarray(np.moveaxis(totals, 2, 0)), votes)


def decide_by_answer(points: NDArray[np.float32], votes: Votes) -> tuple[Floats, Bools]:
    """As :func:`decide`, of totals by answer, item and vote ``(R, I, S)``."""
    if _one_best(votes):
        return _decide_best(points, votes)
    answers, better, worse = (
        side.T[:, :, None] for side in (votes.answers, votes.better, votes.worse)
    )
    lowest = np.where(better, points, np.inf).min(axis=0)
    highest = np.where(worse, points, -np.inf).max(axis=0)
    credit = (lowest > highest).astype(np.float64)
    items, subsets = np.nonzero(lowest == highest)
    level = points[:, items, subsets] == lowest[items, subsets]
    tied_better = (level & better[:, items, 0]).sum(axis=0)
    tied_worse = (level & worse[:, items, 0]).sum(axis=0)
    credit[items, subsets] = 1.0 / _choose(len(points))[tied_better + tied_worse, tied_better]
    shown = np.where(answers, points, -np.inf)
    return credit, (shown == shown.max(axis=0)).sum(axis=0, dtype=np.int16) > 1


def _one_best(votes: Votes) -> bool:
    """Whether each item has one better answer, and all its others are worse."""
    alone = (votes.better.sum(axis=1) == 1).all()
    return bool(alone and np.array_equal(votes.worse, votes.answers & ~votes.better))


def _decide_best(points: NDArray[np.float32], votes: Votes) -> tuple[Floats, Bools]:
    """Most items have one best answer: it earns its share of the top, and nothing below."""
    if not votes.answers.all():
        points = np.where(votes.answers.T[:, :, None], points, np.float32(-np.inf))
    top = points.max(axis=0)
    shared = (points == top).sum(axis=0, dtype=np.int16)
    best = points[votes.better.argmax(axis=1), np.arange(points.shape[1])]
    return (best == top) / shared.astype(np.float64), shared > 1


def _choose(n: int) -> Floats:
    """Binomial coefficients as a table ``[m, i]`` up to m = n (1 where i > m)."""
    rows = [[max(1, math.comb(m, i)) for i in range(n + 1)] for m in range(n + 1)]
    return np.array(rows, dtype=np.float64)
