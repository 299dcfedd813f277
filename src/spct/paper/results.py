"""Numbers of a set with intervals: means over benchmarks, and paired differences between runs.

All runs of a set judge the same held-out items, so any two of their numbers share one set of
bootstrap draws (:mod:`spct.scaling.stats`): prompts are drawn, and every number with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from spct.paper.credits import Vote, aligned, of_member
from spct.paper.members import Members, Ref
from spct.scaling import stats
from spct.scaling.banks import Bench, read_benches
from spct.scaling.stats import Floats, Statistic, Weights
from spct.schema import ScalingConfig

Terms = Sequence[tuple[float, Ref]]


@dataclass(frozen=True)
class Score:
    """A mean or a difference, as a fraction, with its interval over items, seeds pooled.

    ``on`` names the benchmarks it is the unweighted mean of; ``p`` is two-sided, of "zero".
    """

    value: float
    low: float
    high: float
    p: float
    items: int
    on: tuple[str, ...]


@dataclass
class Results:
    """The numbers of a set; ``seed`` is the bootstrap's."""

    members: Members
    cfg: ScalingConfig
    seed: int
    params: dict[str, int | None] = field(default_factory=dict)  # by model config
    _credits: dict[Ref, dict[int, Floats]] = field(default_factory=dict)
    _weights: dict[tuple[int, str], Weights] = field(default_factory=dict)

    @cached_property
    def benches(self) -> dict[int, Bench]:
        """The reference's held-out items, by seed."""
        return read_benches(self.members.main.items)

    def load(self, refs: Iterable[Ref]) -> None:
        """Compute what the banks hold of these numbers, each bank read once."""
        by_role: dict[str, dict[tuple[str, str], dict[Vote, Ref]]] = {}
        for ref in dict.fromkeys(refs):
            size = self.members.sizes.get(ref.size, "")
            votes = by_role.setdefault(ref.role, {}).setdefault((ref.policy, size), {})
            votes[Vote(ref.method, ref.k, ref.k_meta)] = ref
        for role, wanted in by_role.items():
            if (member := self.members.by_role.get(role)) is None:
                continue
            for found in of_member(member, wanted, self.cfg):
                ref = wanted[found.policy, found.size][found.vote]
                values = aligned(found, self.benches[found.seed])
                self._credits.setdefault(ref, {})[found.seed] = values
                self.params.setdefault(found.size, found.params)

    def has(self, ref: Ref) -> bool:
        """Whether some benchmark has this number."""
        return any(self.mean(ref, [name]) is not None for name in self.members.benchmarks)

    def mean(self, ref: Ref, benchmarks: Sequence[str]) -> Score | None:
        """The unweighted mean over the benchmarks; None unless all of them have the number."""
        return self._score([(1.0, ref)], benchmarks)

    def combination(self, terms: Terms, benchmarks: Sequence[str] | None = None) -> Score | None:
        """A weighted sum of numbers, such as a paired difference, over the benchmarks of which all
        terms have the same items (by default among those of the overall); None without any."""
        asked = self.members.overall if benchmarks is None else benchmarks
        shared = [name for name in asked if self._score(terms, [name]) is not None]
        return self._score(terms, shared) if shared else None

    def _score(self, terms: Terms, benchmarks: Sequence[str]) -> Score | None:
        seeds = self._seeds(terms)
        found = [self._statistic(terms, benchmarks, seed) for seed in seeds]
        parts = [part for part in found if part is not None]
        if not parts or len(parts) < len(found):
            return None
        whole = stats.pooled(parts)
        clusters = self._clusters(terms[0][1], benchmarks, seeds)
        low, high = stats.interval(whole, self.cfg.level, clusters)
        p = stats.p_value(whole, clusters)
        return Score(whole.value, low, high, p, whole.items, tuple(benchmarks))

    def _seeds(self, terms: Terms) -> list[int]:
        """The seeds that every term has."""
        known = [set(self._credits.get(ref, {})) for _, ref in terms]
        return sorted(set.intersection(*known)) if known else []

    def _statistic(self, terms: Terms, benchmarks: Sequence[str], seed: int) -> Statistic | None:
        """The sum over the terms, averaged over the benchmarks; None where one has no value or
        terms have values of different items."""
        parts = []
        for name in benchmarks:
            rows = self._rows(seed, name)
            columns = [self._credits[ref][seed][rows] for _, ref in terms]
            held = [~np.isnan(column) for column in columns]
            if not held or not held[0].any() or any((one != held[0]).any() for one in held):
                return None
            means = [stats.mean(column, self._weighted(seed, name)) for column in columns]
            weighted = [(c, mean) for (c, _), mean in zip(terms, means, strict=True)]
            alone = len(terms) == 1 and terms[0][0] == 1
            parts.append(means[0] if alone else stats.combined(weighted))
        return stats.averaged(parts) if parts else None

    def _rows(self, seed: int, benchmark: str) -> np.ndarray:
        items = self.benches[seed].items
        return np.flatnonzero([item.dataset == benchmark for item in items])

    def _weighted(self, seed: int, benchmark: str) -> Weights:
        where = (seed, benchmark)
        if where not in self._weights:
            chosen = [self._prompts[seed][i] for i in self._rows(seed, benchmark)]
            self._weights[where] = stats.item_weights(chosen, self.cfg.bootstrap, self.seed)
        return self._weights[where]

    @cached_property
    def _prompts(self) -> dict[int, list[str]]:
        return {seed: bench.clusters for seed, bench in self.benches.items()}

    def _clusters(self, ref: Ref, benchmarks: Sequence[str], seeds: Sequence[int]) -> int:
        """How many prompts the items counted have."""
        names = set()
        for seed in seeds:
            for benchmark in benchmarks:
                rows = self._rows(seed, benchmark)
                held = rows[~np.isnan(self._credits[ref][seed][rows])]
                names |= {self._prompts[seed][i] for i in held}
        return len(names)
