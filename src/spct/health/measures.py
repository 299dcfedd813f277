"""A quantity of a judge as arrays over items, and its value with an interval over seeds.

A measure keeps what each item adds to it, so that the items of several seeds are simply joined, and
a fold that turns weights of the items into the quantity: once with equal weights, once a bootstrap
draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spct.scaling.stats import Scale, Statistic, interval
from spct.scaling.votes import Bools, Floats, Index

Parts = tuple[Floats, ...]
Key = tuple[str, str, int | None]  # group, name, k
Fold = Callable[[Floats, Parts], Floats]


def ratio(weights: Floats, parts: Parts) -> Floats:
    """Σ w top / Σ w bottom in each row of ``weights`` (B, I); NaN where nothing counts."""
    top, bottom = (weights @ part for part in parts)
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def gap(weights: Floats, parts: Parts) -> Floats:
    """The difference of two ratios: parts are top, bottom, top, bottom."""
    return ratio(weights, parts[:2]) - ratio(weights, parts[2:])


@dataclass(frozen=True)
class Measure:
    """One row of the table to be: ``k`` is None where none applies.

    ``scale`` says what the quantity can be: from 0 to 1, a difference of two such, or neither.
    """

    group: str
    name: str
    k: int | None
    units: Floats  # (I,): what is counted (samples, pairs, items) in each item
    parts: Parts  # (I, …) each
    fold: Fold = ratio
    draws: int | None = None  # bootstrap draws to make where a fold is slow
    scale: Scale = "share"

    @property
    def key(self) -> Key:
        return self.group, self.name, self.k


def share(
    group: str, name: str, k: int | None, top: Floats, bottom: Floats, scale: Scale = "share"
) -> Measure:
    """Σ top / Σ bottom over the items."""
    parts = (np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))
    return Measure(group, name, k, parts[1], parts, scale=scale)


def mean(group: str, name: str, k: int | None, values: Floats, scale: Scale = "share") -> Measure:
    """The mean over the items whose value is not NaN."""
    defined = ~np.isnan(values)
    return share(group, name, k, np.where(defined, values, 0.0), defined, scale)


def join(measures: Sequence[Measure]) -> Measure:
    """One measure over the items of several seeds, in their order."""
    first = measures[0]
    parts = zip(*(measure.parts for measure in measures), strict=True)
    return Measure(
        *first.key,
        units=np.concatenate([measure.units for measure in measures]),
        parts=tuple(np.concatenate(pieces) for pieces in parts),
        fold=first.fold,
        draws=first.draws,
        scale=first.scale,
    )


@dataclass(frozen=True)
class Value:
    """A measured quantity; ``count`` units of its items went into it."""

    value: float
    low: float
    high: float
    count: int


def evaluate(
    measures: Sequence[Measure],
    weights: NDArray[np.floating],
    clusters: Sequence[str],
    level: float,
) -> list[Value | None]:
    """The quantities with intervals at ``level``; None where no item counts.

    ``weights`` (B, I) are bootstrap weights of the items, ``clusters`` their prompts. A draw that
    misses all items that count stands at the value.
    """
    rows = np.concatenate([np.ones((1, len(clusters))), weights])  # the first gives the value
    prompts = np.unique(np.array(clusters), return_inverse=True)[1]
    found: list[Value | None] = []
    for measure, (value, *drawn) in zip(measures, _folded(measures, rows), strict=True):
        counted = measure.units > 0
        if np.isnan(value) or not counted.any():
            found.append(None)
            continue
        draws = np.where(np.isnan(drawn), value, drawn)
        whole = Statistic(
            float(value), draws, int(counted.sum()), measure.scale, _added(measure, counted)
        )
        low, high = interval(whole, level, _prompts(measure, prompts))
        found.append(Value(float(value), low, high, round(float(measure.units.sum()))))
    return found


def _added(measure: Measure, counted: Bools) -> NDArray[np.float32] | None:
    """What each item adds to a ratio, in the unit of the ratio; None for other folds."""
    if measure.fold is not ratio:
        return None
    top, bottom = (part[counted] for part in measure.parts)
    return np.asarray(top * (len(top) / bottom.sum()), dtype=np.float32)


def _prompts(measure: Measure, prompts: Index) -> int:
    """How many prompts stand behind a measure: behind a gap, those of its smaller side."""
    sides = measure.parts[1::2] if measure.fold is gap else (measure.units,)
    return min(len(np.unique(prompts[side > 0])) for side in sides)


def _folded(measures: Sequence[Measure], weights: Floats) -> list[Floats]:
    """Every measure under each row of the weights; all ratios in two products."""
    ratios = [i for i, measure in enumerate(measures) if measure.fold is ratio]
    folded = {}
    if ratios:
        columns = [measures[i].parts for i in ratios]
        sides = tuple(np.stack(side, axis=1) for side in zip(*columns, strict=True))
        folded = dict(zip(ratios, ratio(weights, sides).T, strict=True))
    for i, measure in enumerate(measures):
        if i not in folded:
            folded[i] = measure.fold(weights[: measure.draws and measure.draws + 1], measure.parts)
    return [folded[i] for i in range(len(measures))]
