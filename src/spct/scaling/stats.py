"""Intervals over items from bootstrap draws, seeds pooled or as a level; paired; Holm's adjustment.

Every interval, p value and detectable effect of the project is made here: the draws tell how much a
number varies, :mod:`spct.scaling.ends` where its interval ends.

**What an interval is about.** A curve's value on an item is a U-statistic of that item's bank of n
samples: unbiased for the accuracy of a fresh vote, with sampling noise of its own, independent from
item to item. Items drawn anew bring that noise along, since the variance over items of what was
measured is the variance of the items' true values *plus* the mean variance of their U-statistics.
Resampling items (whole prompts) therefore covers both levels, "new items and new samples", and no
variance within items is added to it; that would count it twice.

One set of draws serves every cell of a table: a prompt has the same weights in every policy,
method, benchmark and seed. Any two cells may be subtracted draw by draw, and seeds that judge the
same items are not taken for independent evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spct import seeds
from spct.scaling import ends, student

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]  # half the memory: a thousand draws of every item are kept
POWER = 0.8  # of the minimum detectable effect
_NORMAL = NormalDist()


def item_weights(clusters: Sequence[str], draws: int, *parts: object) -> Weights:
    """Poisson bootstrap weights of some items, shape ``(draws, items)``; each row sums to one.

    The items of one cluster (prompt) share a weight, Poisson(1) in every draw, from a stream of its
    own named by ``parts`` and the cluster: it is the same in whatever company the items stand. A
    draw without any item is the plain mean. Raises ``ValueError`` without items.
    """
    if not len(clusters):
        raise ValueError("no items to draw from")
    names = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    counts = np.empty((draws, len(names)), dtype=np.float32)
    for name, place in names.items():
        counts[:, place] = seeds.rng("bootstrap", *parts, name).poisson(1.0, draws)
    weights = counts[:, [names[name] for name in clusters]]
    weights[weights.sum(axis=1) == 0] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


# What a number can be: from 0 to 1, a difference of two such, or neither (tokens, a slope).
Scale = Literal["share", "gap", "free"]


@dataclass(frozen=True)
class Statistic:
    """A mean (or AUC) over the items of one seed, with its bootstrap draws ``(B,)``.

    ``values`` are what the items add to a mean, in their order; None where it is not a mean of
    theirs. ``balance`` is how many items it would take, as a share of its items, if all of them
    counted alike: less than 1 for a ROC-AUC with few right or few wrong ones.
    """

    value: float
    draws: Floats
    items: int
    scale: Scale = "share"
    values: NDArray[np.float32] | None = None
    balance: float = 1.0

    def __sub__(self, other: Statistic) -> Statistic:
        """The paired difference: both sides share items and draws."""
        return combined([(1.0, self), (-1.0, other)])

    def units(self, prompts: int) -> float:
        """How many prompts stand behind it."""
        return self.balance * prompts

    def error(self, prompts: int) -> tuple[float, float]:
        """Of a difference: the middle of its intervals, and its standard error."""
        return self.moments(float(self.draws.var(ddof=1)), self.units(prompts))

    def moments(self, variance: float, units: float) -> tuple[float, float]:
        step = 1.0
        if self.values is not None:
            squares = self.values.astype(np.float64) ** 2
            step = ends.step(float(squares.mean()), float((squares**2).mean()), units)
        return ends.gap(self.value, variance, units, step)


def combined(terms: Sequence[tuple[float, Statistic]]) -> Statistic:
    """A weighted sum of numbers of the same items under the same draws, such as a difference.

    To seven decimals, so that what is equal but for rounding differs by zero.
    """
    first = terms[0][1]
    value = round(sum(c * part.value for c, part in terms), 7)
    draws = np.round(np.sum([c * part.draws for c, part in terms], axis=0), 7)
    held = [c * part.values for c, part in terms if part.values is not None]
    same = len(held) == len(terms) and len({len(one) for one in held}) == 1
    values = np.asarray(np.sum(held, axis=0), dtype=np.float32) if same else None
    balance = min(part.balance for _, part in terms)
    return Statistic(value, draws, first.items, "gap", values, balance)


def averaged(parts: Sequence[Statistic]) -> Statistic:
    """The unweighted mean of numbers of different items, such as several benchmarks."""
    share, items = 1 / len(parts), sum(part.items for part in parts)
    value = round(share * sum(part.value for part in parts), 7)
    draws = np.round(share * np.sum([part.draws for part in parts], axis=0), 7)
    weights = [share * items / part.items for part in parts]
    spread = sum(w**2 * part.items / part.balance for w, part in zip(weights, parts, strict=True))
    held = [
        w * part.values for w, part in zip(weights, parts, strict=True) if part.values is not None
    ]
    values = np.concatenate(held) if len(held) == len(parts) else None
    return Statistic(value, draws, items, parts[0].scale, values, items / spread)


def mean(values: Floats, weights: Weights) -> Statistic:
    """Mean of the values ``(I,)`` that are not NaN; ``weights`` as of :func:`item_weights`.

    Raises ``ValueError`` if all are NaN.
    """
    defined = ~np.isnan(values)
    if not defined.any():
        raise ValueError("no item has a value")
    kept = weights if defined.all() else weights[:, defined]
    value = float(values[defined].mean())
    # About the mean: what rounding to 32 bits takes is then a share of the spread alone.
    sums = (kept @ (values[defined] - value).astype(np.float32)).astype(np.float64)
    mass = kept.sum(axis=1)
    gaps = np.divide(sums, mass, out=np.zeros(len(mass)), where=mass > 0)
    found = values[defined]
    # rounding must not take a mean beyond the values it is of
    draws = np.clip(value + gaps, found.min(), found.max())
    return Statistic(value, draws, len(found), values=found.astype(np.float32))


def pooled(per_seed: Sequence[Statistic]) -> Statistic:
    """Several seeds as one, weighted by their items (seeds are not resampled)."""
    if len(per_seed) == 1:
        return per_seed[0]
    total = sum(seed.items for seed in per_seed)
    shares = [seed.items / total for seed in per_seed]
    value = sum(share * seed.value for share, seed in zip(shares, per_seed, strict=True))
    draws = [share * seed.draws for share, seed in zip(shares, per_seed, strict=True)]
    balance = sum(share * seed.balance for share, seed in zip(shares, per_seed, strict=True))
    held = [seed.values for seed in per_seed if seed.values is not None]
    values = np.concatenate(held) if len(held) == len(per_seed) else None
    return Statistic(value, np.sum(draws, axis=0), total, per_seed[0].scale, values, balance)


def interval(found: Statistic, level: float, prompts: int) -> tuple[float, float]:
    """Interval at ``level`` of what was found over so many prompts; NaN for one.

    By :mod:`spct.scaling.ends`, with Student's t, since the variance is estimated. Where a number
    is on no known scale, percentiles of its draws.
    """
    units = found.units(prompts)
    if units < 2:
        return float("nan"), float("nan")
    if found.scale == "free":
        low, high = np.percentile(found.draws, [100 * (t := _tail(level, prompts)), 100 * (1 - t)])
        return float(low), float(high)
    reach = student.quantile((1 + level) / 2, int(units) - 1)
    if found.scale == "share":
        return ends.share(found.value, float(found.draws.var(ddof=1)), units, reach)
    return _around(found.error(prompts), reach)


def _around(moments: tuple[float, float], reach: float) -> tuple[float, float]:
    middle, error = moments
    return max(-1.0, middle - reach * error), min(1.0, middle + reach * error)


def ranked_interval(draws: Floats, level: float, clusters: int) -> tuple[float, float]:
    """As percentiles, of values that have an order but no arithmetic, infinity among them:
    its ends are draws themselves."""
    if clusters < 2:
        return float("nan"), float("nan")
    tail = _tail(level, clusters)
    ranked = np.sort(draws)
    first = int(tail * len(ranked))
    return float(ranked[first]), float(ranked[len(ranked) - 1 - first])


def _tail(level: float, clusters: int) -> float:
    """Share of the draws beyond each end of an interval of percentiles.

    As far out as a t interval with ``clusters`` − 1 degrees of freedom lies under the normal curve:
    plain percentiles are too narrow for few clusters (Hesterberg 2015, "What teachers should know
    about the bootstrap"). The plain bootstrap's variance also lacks a factor of about
    1 + 1 / clusters; Poisson weights have it, since their number varies.
    """
    return _NORMAL.cdf(student.quantile((1 - level) / 2, clusters - 1))


def p_value(found: Statistic, prompts: int) -> float:
    """Two-sided p of "no difference": 1 − the level at which :func:`interval` ends at zero.

    1 for a single prompt.
    """
    units = found.units(prompts)
    if units < 2:
        return 1.0
    middle, error = found.error(prompts)
    return 2 * student.cdf(-abs(middle) / error, int(units) - 1)


def seeds_interval(parts: Sequence[Statistic], level: float, prompts: int) -> tuple[float, float]:
    """Interval over the means of seeds, S − 1 degrees of freedom; NaN for one seed.

    Each seed is one run of the recipe (training, and its own items where they differ by seed), so
    this is a claim about the *recipe*: what another seed would give. :func:`interval` of the pooled
    draws is a claim about *these models*, on new items of the same kind. The first is wide for few
    seeds (t = 4.3 for three); the second says nothing about training again. Seeds may be alike by
    chance, or all have 1: ``prompts``, of all seeds together, say how alike is likely.
    """
    if len(parts) < 2:
        return float("nan"), float("nan")
    means = np.array([part.value for part in parts])
    whole = replace(pooled(parts), value=float(means.mean()))
    variance, units = float(means.var(ddof=1)) / len(means), whole.units(prompts)
    reach = student.quantile((1 + level) / 2, len(means) - 1)
    if whole.scale == "share":
        return ends.share(whole.value, variance, units, reach)
    return _around(whole.moments(variance, units), reach)


def detectable(found: Statistic, level: float, prompts: int, power: float = POWER) -> float:
    """Minimum detectable effect: the true difference that a test at 1 − ``level`` finds with
    ``power``, (z of 1 − α/2 plus z of power) times the standard error of the difference."""
    z = _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power)
    return z * found.error(prompts)[1]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of one family of p values, in their order (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


@dataclass(frozen=True)
class Difference:
    """A paired difference over seeds: intervals as of a summary, p, minimum detectable effect.

    ``positive`` counts the seeds in which it is above zero.
    """

    value: float
    low: float
    high: float
    low_seeds: float
    high_seeds: float
    p: float
    mde: float
    positive: int
    seeds: int
    items: int


def difference(gaps: Sequence[Statistic], clusters: int, level: float) -> Difference:
    """What the paired differences of each seed say together."""
    whole, values = pooled(gaps), [gap.value for gap in gaps]
    low, high = interval(whole, level, clusters)
    low_seeds, high_seeds = seeds_interval(gaps, level, clusters)
    return Difference(
        value=whole.value,
        low=low,
        high=high,
        low_seeds=low_seeds,
        high_seeds=high_seeds,
        p=p_value(whole, clusters),
        mde=detectable(whole, level, clusters),
        positive=sum(value > 0 for value in values),
        seeds=len(values),
        items=whole.items,
    )
