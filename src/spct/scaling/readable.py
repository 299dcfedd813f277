"""Votes in which something could be read, and what they earn.

A vote without a readable sample ties all answers and is credited as a tie. Where few samples can be
read, more samples mostly mean fewer such votes, and accuracy rises with k although no judgement
got better. So every curve tells, beside the accuracy of all votes, how many had something to read
and the accuracy of those; :mod:`spct.scaling.doubt` warns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np

from spct.scaling.estimators import Subsets, estimate
from spct.scaling.votes import Floats, Votes, ballots, decide


@dataclass(frozen=True)
class Reading:
    """How often a vote of k samples of each item holds a readable one, ``(I,)`` for each k, and
    what a vote without any earns, ``(I,)``."""

    read: dict[int, Floats]
    blank: Floats

    @classmethod
    def of(cls, votes: Votes, subsets: Subsets, ks: Sequence[int], invalid: str) -> Reading:
        """Over the k-subsets of the samples, as :func:`spct.scaling.estimators.estimate` has them:
        by counting, or, where subsets take equal parts of several display orders, by its own way.

        ``invalid`` is what an unreadable sample does in a vote.
        """
        usable = votes.valid.sum(axis=1)
        read = {k: _any(votes.n, k)[usable] for k in ks}
        rows = np.flatnonzero((usable < votes.n) & (votes.stratum is not None))
        if len(rows):
            own, points = subsets.take(rows), _points(votes.take(rows))
            # A readable sample gives a point to the first of two answers: a tie has none of them.
            for k, found in estimate(points, own, "voting", ks, 1.0).items():
                read[k][rows] = np.clip(2 * found.credit - 1, 0, 1)
        return cls(read, _blank(votes, invalid))

    def earned(self, credit: Floats, k: int) -> Floats:
        """What the votes with something to read add to an item's expected ``credit`` (I,)."""
        return np.maximum(credit - (1 - self.read[k]) * self.blank, 0)


def _any(n: int, k: int) -> Floats:
    """Chance that k of n samples hold one of u readable ones, by u, ``(n + 1,)``."""
    return np.array([1 - comb(n - u, k) / comb(n, k) for u in range(n + 1)])


def _points(votes: Votes) -> Votes:
    sides = np.tile([True, False], (len(votes.valid), 1))
    scores = np.zeros((*votes.valid.shape, 2), dtype=np.float32)
    scores[:, :, 0] = votes.valid
    none = np.zeros(len(votes.valid), dtype=np.bool_)
    whole, valid = np.ones_like(sides), np.ones_like(votes.valid)
    return Votes(scores, valid, whole, sides, ~sides, none, votes.valid, stratum=votes.stratum)


def _blank(votes: Votes, invalid: str) -> Floats:
    """Credit of a vote of samples that cannot be read; half for ratings, whose ROC-AUC ties."""
    silent = replace(
        votes,
        scores=np.zeros_like(votes.scores[:, :1]),
        valid=np.zeros_like(votes.valid[:, :1]),
        correct=np.zeros_like(votes.correct[:, :1]),
        stratum=None,
    )
    credit = decide(ballots(silent, "voting", invalid).points, silent)[0][:, 0]
    return np.where(votes.rated, 0.5, credit)
