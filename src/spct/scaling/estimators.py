"""Expected accuracy of voting@k and of filtered votes, from a bank of n samples an item.

The expectation is over all k-subsets of the bank. A vote is the sum of scores (arXiv 2504.02495,
Eq. 14); a filter keeps the best ``k_meta`` samples of a subset by its signal. It is exact for two
answers and wherever there are few subsets, and otherwise the mean over random ones, with its
standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spct.judge.vote import k_meta_for
from spct.scaling import enumeration, exact, plurality, sampled
from spct.scaling.kept import Pair
from spct.scaling.subsets import Subsets
from spct.scaling.votes import (
    FILTERS,
    Ballots,
    Bools,
    Floats,
    Index,
    Method,
    Votes,
    ballots,
    decide,
)

__all__ = [
    "METHODS",
    "WHOLE",
    "Bools",
    "Estimate",
    "Floats",
    "Method",
    "Subsets",
    "Votes",
    "decide",
    "estimate",
    "estimates",
    "surface",
]
# What curves show of every bank; further filters stand beside the meta RM alone.
METHODS: tuple[Method, ...] = (
    *("voting", "majority", "meta_voting", "margin_voting", "random_voting", "oracle_voting"),
)
WHOLE = ("voting", "majority")  # methods that keep all k samples of a subset


@dataclass(frozen=True)
class Estimate:
    """One vote over all k-subsets of each item's samples, arrays ``(I,)``; NaN for ratings.

    Of items without a right answer only ``tied`` is a number.
    """

    credit: Floats  # expected credit
    tied: Floats  # expected share of tied votes
    spread: Floats  # variance of the credit of one vote over the subsets
    error: Floats  # standard error of credit from drawing subsets at random; 0 where exact
    won: Floats  # expected share of votes that earn all: no tie between right and wrong


def estimate(
    votes: Votes,
    subsets: Subsets,
    method: Method,
    ks: Sequence[int],
    share: float,
    invalid: str = "drop",
) -> dict[int, Estimate]:
    """Estimates of a method at every k, where filters keep ``k_meta_for(k, share)`` samples.

    The policy for invalid samples is that of :func:`spct.scaling.votes.ballots`. Raises
    ``ValueError`` if a k exceeds the bank or the method's signal is missing.
    """
    pairs = {k: (k, k if method in WHOLE else k_meta_for(k, share)) for k in ks}
    found = estimates(votes, subsets, method, list(pairs.values()), invalid)
    return {k: found[pair] for k, pair in pairs.items()}


def surface(
    votes: Votes,
    subsets: Subsets,
    method: Method,
    ks: Sequence[int],
    k_metas: Sequence[int],
    invalid: str = "drop",
) -> dict[Pair, Estimate]:
    """Estimates of a filter for every (k, k_meta) with ``k_meta <= k``; errors as `estimate`."""
    if method in WHOLE:
        raise ValueError(f"{method} has no k_meta: it keeps every sample")
    pairs = [(k, keep) for k in ks for keep in k_metas if keep <= k]
    return estimates(votes, subsets, method, pairs, invalid)


def estimates(
    votes: Votes, subsets: Subsets, method: Method, pairs: Sequence[Pair], invalid: str
) -> dict[Pair, Estimate]:
    """Estimates of a method for any (k, k_meta); ``k_meta = k`` is plain voting. As `estimate`."""
    for k, keep in pairs:
        if not 1 <= k <= votes.n:
            raise ValueError(f"k = {k} needs at least {k} samples an item; the bank has {votes.n}")
        if keep < 1:
            raise ValueError(f"k_meta must be at least 1, not {keep}")
    cast = ballots(votes, method, invalid)
    whole = [pair for pair in pairs if pair[0] == pair[1]]
    part = [pair for pair in pairs if pair[0] != pair[1]]
    return {
        **_by_item(votes, cast, subsets, method if method in WHOLE else "voting", whole),
        **_by_item(votes, cast, subsets, method, part),
    }


def _by_item(
    votes: Votes, cast: Ballots, subsets: Subsets, method: Method, pairs: list[Pair]
) -> dict[Pair, Estimate]:
    """Each item exactly if some way covers it, else by random subsets."""
    if not pairs:
        return {}
    found, drawn = _exactly(votes, cast, method, pairs)
    rows, late = np.flatnonzero(drawn.any(axis=0)), np.flatnonzero(drawn.any(axis=1))
    values = sampled.moments(
        votes.take(rows), cast.take(rows), subsets, rows, method, [pairs[at] for at in late]
    )
    for at, value in zip(late, values, strict=True):
        found[at][:, rows] = np.where(drawn[at, rows], value, found[at][:, rows])
    return {
        pair: _estimate(moments, here, subsets.subsets, votes.undecided)
        for pair, moments, here in zip(pairs, found, drawn, strict=True)
    }


def _exactly(
    votes: Votes, cast: Ballots, method: Method, pairs: list[Pair]
) -> tuple[Floats, Bools]:
    """Moments ``(pairs, 4, I)`` where some way counts all subsets, and where none does."""
    ks, strata, gaps = [k for k, _ in pairs], _strata(votes), cast.gaps(votes)
    two = (votes.answers.sum(axis=1) == 2) & exact.countable(gaps) & ~votes.rated
    counted, joined = two & (strata == 1), two & (strata == 2) & (method in WHOLE)
    rest = ~(counted | joined | votes.rated)
    found = np.full((len(pairs), 4, len(two)), np.nan)
    if counted.any():
        found[:, :, counted] = _counted(gaps[counted], cast.usable[counted], method, pairs)
    if joined.any() and votes.stratum is not None:
        labels = np.take_along_axis(votes.stratum[joined], cast.order[joined], axis=1)
        found[:, :, joined] = exact.stratified(gaps[joined], labels, ks)
    plain, drawn = rest & (strata == 1), np.tile(rest, (len(pairs), 1))
    if not plain.any():
        return found, drawn
    if method == "majority" and votes.n <= exact.MOST_SAMPLES:
        found[:, :, plain] = plurality.moments(votes.take(plain), cast.take(plain), ks)
        return found, drawn & ~plain
    for at, pair in enumerate(pairs):
        here = plain & enumeration.few(cast, method, pair)
        found[at][:, here] = enumeration.moments(votes.take(here), cast.take(here), method, pair)
        drawn[at, here] = False
    return found, drawn


def _estimate(moments: Floats, drawn: Bools, subsets: int, undecided: Bools) -> Estimate:
    credit, square, tied, won = moments
    credit, won = (np.where(undecided, np.nan, part) for part in (credit, won))
    spread = np.maximum(square - credit**2, 0)
    # One draw tells nothing of its error: the largest standard deviation that a share can have.
    error = np.sqrt(spread / (subsets - 1)) if subsets > 1 else np.full(len(drawn), 0.5)
    error = np.where(drawn, error, 0 * credit)
    # Sums of exact shares may exceed 1 by a rounding error.
    credit, tied, won = (np.minimum(part, 1) for part in (credit, tied, won))
    return Estimate(credit, tied, spread, error, won)


def _strata(votes: Votes) -> Index:
    """Number of strata of each item, ``(I,)``."""
    if votes.stratum is None:
        return np.ones(len(votes.valid), dtype=np.int64)
    return 1 + (np.diff(np.sort(votes.stratum, axis=1), axis=1) != 0).sum(axis=1)


def _counted(gaps: Floats, usable: Index, method: Method, pairs: list[Pair]) -> Floats:
    if method in FILTERS:
        return exact.filtered(gaps, pairs)
    # The order is free, and this one the fastest. Invalid samples, d = 0, still come last: they may
    # change places with valid ones of d = 0, which is the same.
    gaps = np.take_along_axis(gaps, np.argsort(-np.abs(gaps), axis=1), axis=1)
    if method == "random_voting":
        return exact.thinned(gaps, usable, pairs)
    return exact.filtered(gaps, pairs)
