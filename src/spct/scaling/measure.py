"""Means of the cells with intervals, by benchmark and subset, and their paired differences.

The cells of all seeds' banks go in; every mean, interval and comparison afterwards comes from one
shared set of bootstrap draws (:mod:`spct.scaling.stats`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from spct.benchmarks.rule import Answer
from spct.scaling import stats
from spct.scaling.banks import Bench
from spct.scaling.cells import Area, Cell, CellKey, Index
from spct.scaling.ratings import Ranked
from spct.scaling.stats import Difference, Floats, Statistic, Weights
from spct.scaling.votes import Bools
from spct.schema import ScalingConfig

ACCURACY, AUC = "accuracy", "roc_auc"
TIED_BY_PEOPLE = "people called it a tie"  # why an item has no right answer


class Group(NamedTuple):
    """Items that are averaged together: a benchmark, or one subset of it."""

    benchmark: str
    subset: str


@dataclass(frozen=True)
class Summary:
    """A cell over the items of a group and the seeds given; NaN for what cannot be told.

    ``accuracy`` is the ROC-AUC if ``metric`` says so. ``low`` and ``high`` speak of these models
    on new items, ``low_seeds`` and ``high_seeds`` of the recipe under another seed
    (:func:`spct.scaling.stats.seeds_interval`). ``rerun_sd`` is what one run repeated on the same
    items would vary by, ``mc_se`` the standard error of ``accuracy`` from drawing subsets.
    ``readable`` is the share of votes with something to read, ``accuracy_readable`` is of these.
    """

    metric: str
    accuracy: float
    low: float
    high: float
    low_seeds: float
    high_seeds: float
    items: int
    tokens: float
    flops: float
    invalid_rate: float
    tie_rate: float
    rerun_sd: float
    mc_se: float
    readable: float
    accuracy_readable: float


@dataclass
class Measured:
    """The cells of all seeds, and the bootstrap draws they share."""

    cfg: ScalingConfig
    seed: int  # of the bootstrap
    benches: dict[int, Bench]
    cells: dict[CellKey, dict[int, Cell]] = field(default_factory=dict)
    params: dict[str, int | None] = field(default_factory=dict)  # by size
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)  # by policy and size
    _rows: dict[tuple[Group, int], Index] = field(default_factory=dict)
    _weights: dict[tuple[Group, int], Weights] = field(default_factory=dict)
    _statistics: dict[tuple[CellKey, Group, int], Statistic | None] = field(default_factory=dict)

    def beside(self) -> Measured:
        """Room for other cells of the same items, under the same draws."""
        return replace(self, cells={}, _statistics={})

    def add(self, seed: int, cells: dict[CellKey, Cell]) -> None:
        """Take in the cells of one seed."""
        for key, cell in cells.items():
            self.cells.setdefault(key, {})[seed] = cell

    @cached_property
    def groups(self) -> list[Group]:
        """Benchmarks in file order, each followed by its subsets if it has several.

        Items of no subset, which are of ``all``, count in the whole alone.
        """
        subsets: dict[str, dict[str, None]] = {}
        for bench in self.benches.values():
            for item in bench.items:
                subsets.setdefault(item.dataset, {})[item.subset] = None
        return [
            Group(name, subset)
            for name, inner in subsets.items()
            for subset in ("all", *(name for name in inner if len(inner) > 1 and name != "all"))
        ]

    def seeds(self, key: CellKey) -> Iterator[tuple[str, list[int]]]:
        """What to average a cell over: each seed, then "all" if it has several."""
        here = sorted(self.cells[key])
        yield from ((str(seed), [seed]) for seed in here)
        if len(here) > 1 and len(here) == len(self.benches):
            yield "all", here

    def rows_of(self, group: Group, seed: int) -> Index:
        """Indices of a group's items in their bench."""
        if (group, seed) not in self._rows:
            match = [
                item.dataset == group.benchmark and group.subset in ("all", item.subset)
                for item in self.benches[seed].items
            ]
            self._rows[group, seed] = np.flatnonzero(match)
        return self._rows[group, seed]

    @cached_property
    def _clusters(self) -> dict[int, list[str]]:
        return {seed: bench.clusters for seed, bench in self.benches.items()}

    @cached_property
    def _codes(self) -> dict[int, Index]:
        """A number for each prompt, the same in all seeds."""
        numbers: dict[str, int] = {}
        return {
            seed: np.array([numbers.setdefault(name, len(numbers)) for name in clusters])
            for seed, clusters in self._clusters.items()
        }

    def weights(self, group: Group, seed: int) -> Weights:
        """Bootstrap weights ``(draws, items of the group)``."""
        if (group, seed) not in self._weights:
            chosen = [self._clusters[seed][i] for i in self.rows_of(group, seed)]
            self._weights[group, seed] = stats.item_weights(chosen, self.cfg.bootstrap, self.seed)
        return self._weights[group, seed]

    def counted(self, key: CellKey, group: Group, seed: int) -> Index:
        """Indices of the items of a group that a cell has a value for."""
        cell, rows = self.cells[key][seed], self.rows_of(group, seed)
        return rows if _rated(cell, rows) else rows[~np.isnan(cell.accuracy[rows])]

    def distinct_prompts(self, places: Mapping[int, Index]) -> int:
        """How many prompts the items at some places of each seed's bench have."""
        found = [self._codes[seed][rows] for seed, rows in places.items()]
        return int(np.count_nonzero(np.bincount(np.concatenate(found))))

    def clusters(self, key: CellKey, group: Group, seeds: Sequence[int]) -> int:
        """How many prompts the items of a group have that a cell has a value for."""
        return self.distinct_prompts({seed: self.counted(key, group, seed) for seed in seeds})

    def statistic(self, key: CellKey, group: Group, seed: int) -> Statistic | None:
        """A cell's mean over the items that count, or their ROC-AUC; None where there is none."""
        where = (key, group, seed)
        if where not in self._statistics:
            cell, rows = self.cells[key][seed], self.rows_of(group, seed)
            if cell.auc is not None and _rated(cell, rows):
                self._areas(key, seed, cell.auc)
            elif len(self.counted(key, group, seed)):
                mean = stats.mean(cell.accuracy[rows], self.weights(group, seed))
                self._statistics[where] = mean
            else:
                self._statistics[where] = None
        return self._statistics[where]

    def _areas(self, key: CellKey, seed: int, auc: Area) -> None:
        """A cell's ROC-AUC over every group that has one: the scores behind it are made once."""
        scores = auc.scores()
        for group in self.groups:
            rows = self.rows_of(group, seed)
            if _rated(self.cells[key][seed], rows):
                own = scores.take(np.searchsorted(auc.items, rows))
                found = area(own, self.weights(group, seed))
                self._statistics[key, group, seed] = found

    def statistics(self, key: CellKey, group: Group, seeds: Sequence[int]) -> list[Statistic]:
        """The statistics of some seeds; none at all if one of them has none."""
        found = [self.statistic(key, group, seed) for seed in seeds]
        return [part for part in found if part is not None] if None not in found else []

    def summary(self, key: CellKey, group: Group, seeds: Sequence[int]) -> Summary | None:
        """Mean and intervals of a cell; None where no item of the group applies."""
        parts = self.statistics(key, group, seeds)
        if not parts:
            return None
        whole, level = stats.pooled(parts), self.cfg.level
        prompts = self.clusters(key, group, seeds)
        low, high = stats.interval(whole, level, prompts)
        low_seeds, high_seeds = stats.seeds_interval(parts, level, prompts)

        def values(name: str) -> Floats:
            pieces = [(self.cells[key][s], self.counted(key, group, s)) for s in seeds]
            return np.concatenate([getattr(cell, name)[rows] for cell, rows in pieces])

        readable, earned = self._read(key, group, seeds, whole.value)
        return Summary(
            metric=self.metric(key, group, seeds[0]),
            accuracy=whole.value,
            low=low,
            high=high,
            low_seeds=low_seeds,
            high_seeds=high_seeds,
            items=whole.items,
            tokens=float(values("tokens").mean()),
            flops=float(values("flops").mean()),
            invalid_rate=float(values("invalid").mean()),
            tie_rate=float(values("tied").mean()),
            rerun_sd=math.sqrt(values("rerun").sum()) / whole.items,
            mc_se=math.sqrt(np.nansum(values("error") ** 2)) / whole.items,
            readable=readable,
            accuracy_readable=earned,
        )

    def _read(
        self, key: CellKey, group: Group, seeds: Sequence[int], value: float
    ) -> tuple[float, float]:
        """The share of votes with something to read, and their accuracy or ROC-AUC; NaN where that
        is unknown, or nothing could be read."""
        cells = [(self.cells[key][s], self.counted(key, group, s), self.benches[s]) for s in seeds]
        found = [
            (c.read[at], c.earned[at])
            for c, at, _ in cells
            if c.read is not None and c.earned is not None
        ]
        if len(found) < len(cells):
            return float("nan"), float("nan")
        read, earned = (np.concatenate(side) for side in zip(*found, strict=True))
        share = float(read.mean())
        if self.metric(key, group, seeds[0]) == AUC:
            right = np.concatenate([bench.better[at, 1] for _, at, bench in cells])
            pairs = float(read[right].mean() * read[~right].mean())
            return share, ((value - (1 - pairs) / 2) / pairs if pairs else float("nan"))
        return share, float(earned.sum() / read.sum()) if share else float("nan")

    def metric(self, key: CellKey, group: Group, seed: int) -> str:
        """What the statistics of a cell over a group are."""
        return AUC if _rated(self.cells[key][seed], self.rows_of(group, seed)) else ACCURACY

    def _alike(self, a: CellKey, b: CellKey, group: Group, seed: int) -> bool:
        same = np.array_equal(self.counted(a, group, seed), self.counted(b, group, seed))
        return same and self.metric(a, group, seed) == self.metric(b, group, seed)

    @cached_property
    def _ties(self) -> dict[int, Bools]:
        """Which items of each seed people called a tie."""
        return {
            seed: np.array([item.label.undecided for item in bench.items], dtype=np.bool_)
            for seed, bench in self.benches.items()
        }

    def left_out(self, key: CellKey, group: Group, seeds: Sequence[int]) -> tuple[list[str], bool]:
        """Why items of a group have no value, "" for each that has one; and whether the judge
        itself refused any of them."""
        found, refused = [], False
        for seed in seeds:
            rows, own = self.rows_of(group, seed), self.cells[key][seed].refused
            reasons = np.where(self._ties[seed][rows], TIED_BY_PEOPLE, "").astype(object)
            if own is not None:
                reasons = np.where(own[rows] != "", own[rows], reasons)
                refused = refused or bool((own[rows] != "").any())
            found += reasons.tolist()
        return found, refused

    def difference(self, a: CellKey, b: CellKey, group: Group) -> Difference | None:
        """``a`` minus ``b`` over the seeds that have both; None where one has no value, or where
        they are not of one kind (accuracy, ROC-AUC) or not of the same items."""
        shared = sorted(self.cells[a].keys() & self.cells[b].keys())
        if not all(self._alike(a, b, group, seed) for seed in shared):
            return None
        left, right = (self.statistics(key, group, shared) for key in (a, b))
        if not left or not right:
            return None
        gaps = [one - other for one, other in zip(left, right, strict=True)]
        return stats.difference(gaps, self.clusters(a, group, shared), self.cfg.level)


def _rated(cell: Cell, rows: Index) -> bool:
    """Whether all of these items are judged by ratings: then a ROC-AUC stands for them."""
    return cell.auc is not None and len(rows) > 0 and bool(np.isin(rows, cell.auc.items).all())


def area(scores: Ranked, weights: Weights) -> Statistic | None:
    """ROC-AUC of some items; draws that miss one of the classes are left at its value.

    It is as sure as the rarer class lets it be.
    """
    found = scores.auc(np.vstack([np.ones(weights.shape[1]), weights]))
    value, draws = float(found[0]), found[1:]
    if math.isnan(value):
        return None
    items, right = weights.shape[1], int(scores.right.sum())
    draws = np.where(np.isnan(draws), value, draws)
    return Statistic(value, draws, items, balance=2 * min(right, items - right) / items)
