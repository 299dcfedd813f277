"""Bootstrap intervals over items, within seeds, seeds pooled; paired, with Holm's adjustment.

One set of draws (a weights matrix) serves every cell of a table, so any two cells may be subtracted
draw by draw and their difference has a paired interval. Items that share a prompt are drawn
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spct import seeds

Floats = NDArray[np.float64]


def item_weights(clusters: Sequence[object], draws: int, *parts: object) -> Floats:
    """Bootstrap weights of one seed's items, shape ``(draws, items)``; each row sums to one.

    Whole clusters (items of one prompt) are drawn with replacement, as many as there are. ``parts``
    name the random stream (:func:`spct.seeds.rng`). Raises ``ValueError`` without items.
    """
    if not len(clusters):
        raise ValueError("no items to draw from")
    index: dict[object, int] = {}
    member = np.array([index.setdefault(cluster, len(index)) for cluster in clusters])
    n = len(index)
    counts = seeds.rng("bootstrap", *parts).multinomial(n, np.full(n, 1 / n), size=draws)
    weights = counts[:, member].astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def pooled(per_seed: Sequence[Floats], sizes: Sequence[int]) -> Floats:
    """Values of several seeds as one, weighted by their items (seeds are not resampled)."""
    total = sum(sizes)
    shares = [value * (n / total) for value, n in zip(per_seed, sizes, strict=True)]
    return np.asarray(np.sum(shares, axis=0))


def interval(draws: Floats, level: float) -> tuple[Floats, Floats]:
    """Percentile interval along axis 0 at ``level`` (0.95 leaves 2.5 % on either side)."""
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(draws, [tail, 100.0 - tail], axis=0)
    return low, high


def p_value(draws: Floats) -> float:
    """Two-sided p of "no difference" in B draws: twice the smaller tail at 0, at least 2/(B+1)."""
    below = (np.count_nonzero(draws <= 0) + 1) / (len(draws) + 1)
    above = (np.count_nonzero(draws >= 0) + 1) / (len(draws) + 1)
    return float(min(1.0, 2.0 * min(below, above)))


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
    """A paired difference of two means: value, interval, p, and the seeds where it is positive."""

    value: float
    low: float
    high: float
    p: float
    positive: int
    seeds: int
    items: int


def paired_difference(
    a: Sequence[Floats], b: Sequence[Floats], weights: Sequence[Floats], level: float
) -> Difference:
    """Mean of ``a`` minus mean of ``b``, per-item values and weights given seed by seed."""
    gaps = [left - right for left, right in zip(a, b, strict=True)]
    sizes = [len(gap) for gap in gaps]
    draws = pooled([w @ gap for w, gap in zip(weights, gaps, strict=True)], sizes)
    low, high = interval(draws, level)
    means = [float(gap.mean()) for gap in gaps]
    return Difference(
        value=float(np.average(means, weights=sizes)),
        low=float(low),
        high=float(high),
        p=p_value(draws),
        positive=sum(mean > 0 for mean in means),
        seeds=len(gaps),
        items=sum(sizes),
    )
