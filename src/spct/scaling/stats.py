"""Bootstrap intervals over items, seeds pooled or as a level; paired, with Holm's adjustment.

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
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from spct import seeds
from spct.scaling import student

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


@dataclass(frozen=True)
class Statistic:
    """A mean (or AUC) over the items of one seed, with its bootstrap draws ``(B,)``."""

    value: float
    draws: Floats
    items: int

    def __sub__(self, other: Statistic) -> Statistic:
        """The paired difference: both sides share items and draws.

        To seven decimals, so that what is equal but for rounding differs by zero.
        """
        draws = np.round(self.draws - other.draws, 7)
        return Statistic(round(self.value - other.value, 7), draws, self.items)


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
    return Statistic(value, draws, len(found))


def pooled(per_seed: Sequence[Statistic]) -> Statistic:
    """Several seeds as one, weighted by their items (seeds are not resampled)."""
    total = sum(seed.items for seed in per_seed)
    shares = [seed.items / total for seed in per_seed]
    value = sum(share * seed.value for share, seed in zip(shares, per_seed, strict=True))
    draws = [share * seed.draws for share, seed in zip(shares, per_seed, strict=True)]
    return Statistic(value, np.sum(draws, axis=0), total)


def interval(draws: Floats, level: float, clusters: int) -> tuple[float, float]:
    """Bootstrap interval at ``level`` from draws ``(B,)`` over so many clusters; NaN for one.

    Percentiles as far out as a t interval with ``clusters`` − 1 degrees of freedom lies under the
    normal curve: plain ones are too narrow for few clusters (Hesterberg 2015, "What teachers should
    know about the bootstrap"). The plain bootstrap's variance also lacks a factor of about
    1 + 1 / clusters; Poisson weights have it, since their number varies.
    """
    if clusters < 2:
        return float("nan"), float("nan")
    tail = _tail(level, clusters)
    low, high = np.percentile(draws, [100 * tail, 100 * (1 - tail)])
    return float(low), float(high)


def ranked_interval(draws: Floats, level: float, clusters: int) -> tuple[float, float]:
    """As :func:`interval`, of values that have an order but no arithmetic, infinity among them:
    its ends are draws themselves."""
    if clusters < 2:
        return float("nan"), float("nan")
    tail = _tail(level, clusters)
    ranked = np.sort(draws)
    first = int(tail * len(ranked))
    return float(ranked[first]), float(ranked[len(ranked) - 1 - first])


def _tail(level: float, clusters: int) -> float:
    """Share of the draws beyond each end of an interval."""
    return _NORMAL.cdf(student.quantile((1 - level) / 2, clusters - 1))


def p_value(draws: Floats, clusters: int) -> float:
    """Two-sided p of "no difference": 1 − the level at which :func:`interval` ends at zero.

    At most as small as B draws tell: about 2 / (B + 1) for many clusters. 1 for a single cluster.
    """
    if clusters < 2:
        return 1.0
    below = (np.count_nonzero(draws <= 0) + 1) / (len(draws) + 1)
    above = (np.count_nonzero(draws >= 0) + 1) / (len(draws) + 1)
    tail = min(below, above)
    return 1.0 if tail >= 0.5 else 2 * student.cdf(_NORMAL.inv_cdf(tail), clusters - 1)


def seeds_interval(means: Sequence[float], level: float) -> tuple[float, float]:
    """t interval over the seeds' means, S − 1 degrees of freedom; NaN for one seed.

    Each seed is one run of the recipe (training, and its own items where they differ by seed), so
    this is a claim about the *recipe*: what another seed would give. :func:`interval` of the pooled
    draws is a claim about *these models*, on new items of the same kind. The first is wide for few
    seeds (t = 4.3 for three); the second says nothing about training again.
    """
    if len(means) < 2:
        return float("nan"), float("nan")
    middle, error = np.mean(means), np.std(means, ddof=1) / np.sqrt(len(means))
    reach = student.quantile((1 + level) / 2, len(means) - 1) * error
    return float(middle - reach), float(middle + reach)


def detectable(draws: Floats, level: float, power: float = POWER) -> float:
    """Minimum detectable effect: the true difference that a test at 1 − ``level`` finds with
    ``power``, (z of 1 − α/2 plus z of power) times the standard deviation of the draws."""
    z = _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power)
    return float(z * draws.std(ddof=1))


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
    low, high = interval(whole.draws, level, clusters)
    low_seeds, high_seeds = seeds_interval(values, level)
    return Difference(
        value=whole.value,
        low=low,
        high=high,
        low_seeds=low_seeds,
        high_seeds=high_seeds,
        p=p_value(whole.draws, clusters),
        mde=detectable(whole.draws, level),
        positive=sum(value > 0 for value in values),
        seeds=len(values),
        items=whole.items,
    )
