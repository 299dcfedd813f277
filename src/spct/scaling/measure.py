"""Per-item values of every (policy, size, method, k), and their means with intervals by benchmark.

All seeds' banks go in; every mean, interval and comparison afterwards is a weighted sum over items
with one shared set of bootstrap weights for each benchmark and seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spct.judge.vote import k_meta_for
from spct.scaling.banks import Bank, Bench, Draws
from spct.scaling.estimators import METHODS, Floats, Subsets, decide, expected_accuracy
from spct.scaling.stats import Difference, interval, item_weights, paired_difference, pooled
from spct.schema import ScalingConfig

BASELINES = ("first", "last", "longest", "shortest")
NOBODY = "none"
Index = NDArray[np.int64]


class CellKey(NamedTuple):
    """One point of a curve."""

    policy: str
    size: str
    method: str
    k: int
    k_meta: int

    def __str__(self) -> str:
        return f"{self.policy}/{self.size} {self.method}@{self.k}"


class Group(NamedTuple):
    """Items that are averaged together: a benchmark, or one subset of it."""

    benchmark: str
    subset: str


@dataclass(frozen=True)
class Cell:
    """Values of every item ``(I,)``: NaN accuracy where the method does not apply to the item."""

    accuracy: Floats
    tied: Floats
    invalid: Floats
    tokens: Floats  # generated tokens
    flops: Floats  # NaN where the number of parameters is unknown


@dataclass(frozen=True)
class Summary:
    """A cell averaged over the items of a group and the seeds given."""

    accuracy: float
    low: float
    high: float
    items: int
    tokens: float
    flops: float
    invalid_rate: float
    tie_rate: float


def measure_bank(bank: Bank, bench: Bench, cfg: ScalingConfig) -> dict[CellKey, Cell]:
    """Every method at every k of ``scaling.ks`` that the bank has samples for.

    Raises ``ValueError`` naming the bank if it has too few for the smallest k.
    """
    draws, (seed, policy, size) = bank.samples, bank.key
    name = f"the bank of {policy}/{size}, seed {seed}"
    ks = sorted(k for k in set(cfg.ks) if k <= draws.votes.n)
    if not ks:
        raise ValueError(f"scaling.ks starts at {min(cfg.ks)}; {name} has {draws.votes.n} samples")
    subsets = Subsets([item.id for item in bench.items], draws.votes.n, cfg.subsets, seed)
    cells = {}
    for method in METHODS:
        if method == "meta_voting" and not bank.guided:
            continue
        for k in ks:
            credit, tied = expected_accuracy(
                draws.votes, subsets, method, k, cfg.k_meta_share, cfg.invalid
            )
            keep = k if method == "voting" else k_meta_for(k, cfg.k_meta_share)
            costs = _costs(bank, draws, bench, k, meta=method == "meta_voting")
            cells[CellKey(policy, size, method, k, keep)] = Cell(
                credit, tied, _invalid(draws), *costs
            )
    if bank.greedy is not None:
        one = Subsets([item.id for item in bench.items], bank.greedy.votes.n, 1, seed)
        credit, tied = expected_accuracy(bank.greedy.votes, one, "voting", 1, 1.0, cfg.invalid)
        costs = _costs(bank, bank.greedy, bench, 1)
        cells[CellKey(policy, size, "greedy", 1, 1)] = Cell(
            credit, tied, _invalid(bank.greedy), *costs
        )
    return cells


def _invalid(draws: Draws) -> Floats:
    """Share of each item's samples that hold no scores."""
    return np.asarray((~draws.votes.valid).mean(axis=1), dtype=np.float64)


def _costs(
    bank: Bank, draws: Draws, bench: Bench, k: int, *, meta: bool = False
) -> tuple[Floats, Floats]:
    """Generated tokens and FLOPs of k samples of each item, filtered away or not.

    2 FLOPs a parameter and token: every generated token, and the prompt once for each order of the
    responses, of which k samples show about min(k, n!). A meta RM reads every sample whole.
    """
    completion: Floats = draws.completion_tokens.mean(axis=1)
    prompt: Floats = draws.prompt_tokens.mean(axis=1)
    orders = np.array([min(k, math.factorial(min(item.n, 8))) for item in bench.items])
    flops = _times(bank.params, k * completion + orders * prompt)
    if meta:
        flops = flops + _times(bank.metarm_params, k * (completion + prompt))
    return k * completion, flops


def _times(params: int | None, tokens: Floats) -> Floats:
    return np.full(tokens.shape, np.nan) if params is None else 2.0 * params * tokens


def content_blind(bench: Bench) -> dict[CellKey, Cell]:
    """Baselines that read no content: the first, last, longest or shortest response, in file order.

    Length is in characters; equal lengths share the credit. Items of one response have none (NaN).
    """
    votes = Draws.blank(bench).votes
    totals = {name: np.full(bench.answers.shape, -np.inf, dtype=np.float32) for name in BASELINES}
    for i, item in enumerate(bench.items):
        lengths = np.array([len(text) for text in item.responses], dtype=np.float32)
        place = np.arange(item.n, dtype=np.float32)
        for name, values in zip(BASELINES, (-place, place, lengths, -lengths), strict=True):
            totals[name][i, : item.n] = values
    nothing = np.zeros(len(bench.items))
    cells = {}
    for name, values in totals.items():
        credit, tied = decide(values[:, None, :], votes)
        credit = np.where(bench.single, np.nan, credit[:, 0])
        key = CellKey(NOBODY, NOBODY, name, 0, 0)
        cells[key] = Cell(credit, tied[:, 0].astype(np.float64), *[nothing] * 3)
    return cells


@dataclass
class Measured:
    """The cells of all seeds with the bootstrap weights they share."""

    cfg: ScalingConfig
    seed: int  # of the bootstrap
    benches: dict[int, Bench]
    cells: dict[CellKey, dict[int, Cell]] = field(default_factory=dict)
    params: dict[str, int | None] = field(default_factory=dict)  # by size
    _rows: dict[tuple[Group, int], Index] = field(default_factory=dict)
    _weights: dict[tuple[Group, int], Floats] = field(default_factory=dict)

    def add(self, seed: int, cells: dict[CellKey, Cell]) -> None:
        """Take in the cells of one seed."""
        for key, cell in cells.items():
            self.cells.setdefault(key, {})[seed] = cell

    @cached_property
    def groups(self) -> list[Group]:
        """Benchmarks in file order, each followed by its subsets if it has several."""
        subsets: dict[str, dict[str, None]] = {}
        for bench in self.benches.values():
            for item in bench.items:
                subsets.setdefault(item.dataset, {})[item.subset] = None
        return [
            Group(name, subset)
            for name, inner in subsets.items()
            for subset in ("all", *(inner if len(inner) > 1 else ()))
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

    def weights(self, group: Group, seed: int) -> Floats:
        """Bootstrap weights ``(draws, items of the group)``."""
        if (group, seed) not in self._weights:
            clusters = self.benches[seed].clusters
            chosen = [clusters[i] for i in self.rows_of(group, seed)]
            drawn = item_weights(chosen, self.cfg.bootstrap, self.seed, *group, seed)
            self._weights[group, seed] = drawn
        return self._weights[group, seed]

    def summary(self, key: CellKey, group: Group, seeds: Sequence[int]) -> Summary | None:
        """Means and interval of a cell; None where no item of the group applies."""
        draws, sizes, parts = [], [], []
        for seed in seeds:
            cell, rows = self.cells[key][seed], self.rows_of(group, seed)
            defined = ~np.isnan(cell.accuracy[rows])
            if not defined.any():
                return None
            weights = self.weights(group, seed)[:, defined]
            values = cell.accuracy[rows][defined]
            # A few draws may miss every defined item; the mean stands in for them.
            mass = weights.sum(axis=1)
            some = mass > 0
            draws.append(np.where(some, weights @ values / np.where(some, mass, 1), values.mean()))
            sizes.append(len(values))
            arrays = (cell.accuracy, cell.tokens, cell.flops, cell.invalid, cell.tied)
            parts.append(np.array([array[rows][defined].mean() for array in arrays]))
        low, high = interval(pooled(draws, sizes), self.cfg.level)
        accuracy, tokens, flops, invalid, tied = map(float, pooled(parts, sizes))
        return Summary(accuracy, float(low), float(high), sum(sizes), tokens, flops, invalid, tied)

    def difference(self, a: CellKey, b: CellKey, group: Group) -> Difference:
        """``a`` minus ``b`` over the seeds that have both."""
        shared = sorted(self.cells[a].keys() & self.cells[b].keys())
        rows = {seed: self.rows_of(group, seed) for seed in shared}
        return paired_difference(
            [self.cells[a][seed].accuracy[rows[seed]] for seed in shared],
            [self.cells[b][seed].accuracy[rows[seed]] for seed in shared],
            [self.weights(group, seed) for seed in shared],
            self.cfg.level,
        )
