"""ROC-AUC of ratings of single responses over all k-subsets of n samples an item, exactly.

An item scores the sum or the mean of the ratings in a subset. The AUC is the chance that a right
response scores above a wrong one, plus half the chance of a tie (Mann and Whitney). With the exact
distribution of each item's score it is bilinear in the weights of right and of wrong items. A
subset without a valid rating is tied with everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Protocol, Self

import numpy as np

from spct.judge.vote import k_meta_for
from spct.scaling.exact import MOST_REACH, MOST_SAMPLES, tables
from spct.scaling.kept import Pair, by_last, by_size
from spct.scaling.votes import Ballots, Bools, Floats, Index, Votes, ballots

METHODS = ("voting", "mean_voting", "meta_voting", "random_voting")


class Ranked(Protocol):
    """Items of a single response, as far as their ROC-AUC needs to know them."""

    @property
    def right(self) -> Bools:
        """``(I,)``: whether the response is right."""

    def take(self, items: Index) -> Self:
        """The same of some items."""

    def auc(self, weights: Floats) -> Floats:
        """ROC-AUC per row of item weights ``(B, I)``; NaN where a row lacks a class."""


@dataclass(frozen=True)
class Scores:
    """How the score of each rating item is distributed over its k-subsets."""

    chance: Floats  # (I, scores), scores rising
    none: Floats  # (I,): chance of a subset without a valid rating
    right: Bools  # (I,): whether the response is right

    def take(self, items: Index) -> Scores:
        """The same of some items."""
        return Scores(self.chance[items], self.none[items], self.right[items])

    def auc(self, weights: Floats) -> Floats:
        """ROC-AUC per row of item weights ``(B, I)``; NaN where a row lacks right or wrong ones."""
        good, bad = weights[:, self.right], weights[:, ~self.right]
        above, below = good @ self.chance[self.right], bad @ self.chance[~self.right]
        wins = (above * (np.cumsum(below, axis=1) - below / 2)).sum(axis=1)
        all_good, all_bad = good.sum(axis=1), bad.sum(axis=1)
        no_good, no_bad = good @ self.none[self.right], bad @ self.none[~self.right]
        ties = no_good * all_bad + no_bad * all_good - no_good * no_bad
        mass = all_good * all_bad
        return np.divide(wins + ties / 2, mass, out=np.full(len(mass), np.nan), where=mass > 0)


@dataclass(frozen=True)
class Auc:
    """ROC-AUC of the items judged by ratings: a value of all of them together, not of each."""

    items: Index  # their places in the bench, ascending
    votes: Votes  # of these items alone
    method: str
    k: int
    share: float

    def scores(self) -> Scores:
        """What the AUC follows from; to be let go soon, it takes a number for each possible sum."""
        return distributions(self.votes, self.method, self.k, self.share)


def distributions(votes: Votes, method: str, k: int, share: float) -> Scores:
    """Distributions of the rating items' scores at k, the items in order.

    ``voting`` sums the valid ratings of a subset, so that an invalid one counts as 0;
    ``mean_voting`` averages them. The two differ only where samples are invalid, and only here: the
    totals of several responses have one divisor. ``meta_voting`` and ``random_voting`` sum over
    ``k_meta_for(k, share)`` valid ratings, or all there are. Raises ``ValueError`` for another
    method, a k that exceeds the bank, missing meta scores, or ratings that are not whole numbers
    from 0 up.
    """
    if method not in METHODS:
        raise ValueError(f"ratings have no {method}; their methods are {', '.join(METHODS)}")
    n = votes.n
    if not 1 <= k <= n:
        raise ValueError(f"k = {k} needs at least {k} samples an item; the bank has {n}")
    part = votes.take(votes.rated)
    cast = ballots(part, "meta_voting" if method == "meta_voting" else "voting", "drop")
    ratings, usable = _ratings(cast), cast.usable
    none = np.array([comb(n - u, k) / comb(n, k) for u in usable.tolist()])
    if method == "mean_voting":
        return Scores(_means(ratings, usable, k), none, part.better[:, 1])
    pair = (k, k if method == "voting" else k_meta_for(k, share))
    guided = method == "meta_voting"
    chance = _first_sums(ratings, pair) if guided else _sums(ratings, usable, pair)
    chance[:, 0] -= none
    return Scores(chance, none, part.better[:, 1])


def _ratings(cast: Ballots) -> Index:
    """Ratings in filter order, ``(I, n)``, 0 where invalid."""
    ratings = cast.points[:, :, 0].astype(np.float64)
    if (ratings < 0).any() or (ratings != np.rint(ratings)).any():
        raise ValueError("ratings must be whole numbers from 0 up")
    if ratings.shape[1] > MOST_SAMPLES or ratings.sum(axis=1).max(initial=0) > MOST_REACH:
        raise ValueError(
            f"ratings are counted up to {MOST_SAMPLES} samples and a sum of {MOST_REACH} an item"
        )
    return ratings.astype(np.int64)


def _sums(ratings: Index, usable: Index, pair: Pair) -> Floats:
    """Chances of the sum of ``k_meta`` random usable ratings of a k-subset, ``(I, sums)``."""
    n, keep = ratings.shape[1], pair[1]
    chance = _zeros(ratings)
    for row, u, out in zip(ratings, usable.tolist(), chance, strict=True):
        table = _sized(row[:u], min(keep, u))
        out[: table.shape[1]] = by_size(n, u, *pair)[: len(table)] @ table
    return chance


def _first_sums(ratings: Index, pair: Pair) -> Floats:
    """Chances of the sum of the first ``k_meta`` ratings of a k-subset, ``(I, sums)``."""
    n, keep = ratings.shape[1], pair[1]
    chance, weights = _zeros(ratings), by_last(n, *pair).tolist()
    for row, out in zip(ratings, chance, strict=True):
        total = int(row.sum())
        before = tables(np.arange(-total, total + 1) == 0, -row, keep - 1)
        for rating, weight, table in zip(row.tolist(), weights, before, strict=False):
            out[rating : total + 1] += weight * table[-1, total : 2 * total + 1 - rating]
    return chance


def _means(ratings: Index, usable: Index, k: int) -> Floats:
    """Chances of the mean of the usable ratings of a k-subset, ``(I, means)``."""
    n, highest = ratings.shape[1], int(ratings.max(initial=0))
    means = [np.arange(highest * m + 1) / m for m in range(1, k + 1)]
    # Equal fractions have equal quotients in floating point, so unique() joins exactly those.
    distinct = np.unique(np.concatenate(means))
    places = [np.searchsorted(distinct, values) for values in means]
    chance = np.zeros((len(ratings), len(distinct)))
    for row, u, out in zip(ratings, usable.tolist(), chance, strict=True):
        table, weights = _sized(row[:u], min(k, u)), by_size(n, u, k, k)
        for m in range(1, len(table)):
            if weights[m]:
                place = places[m - 1][: table.shape[1]]
                out[place] += weights[m] * table[m, : len(place)]
    return chance


def _sized(ratings: Index, largest: int) -> Floats:
    """How many m-subsets of some ratings have each sum, ``[m, sum]``, m up to ``largest``."""
    total = int(ratings.sum())
    *_, table = tables(np.arange(-total, total + 1) == 0, -ratings, largest)
    return table[:, total:]


def _zeros(ratings: Index) -> Floats:
    return np.zeros((len(ratings), 1 + int(ratings.sum(axis=1).max(initial=0))))
