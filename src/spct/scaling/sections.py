"""A benchmark's own averages of per-item results, with bootstrap draws and seeds pooled.

What :mod:`spct.benchmarks` says of credits and weights, applied to the arrays of a
:class:`~spct.scaling.measure.Measured`: prompts are drawn whole, with the weights of the curves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spct.benchmarks import RULES, realmistake
from spct.benchmarks.rule import OVERALL, Answer, Bools, Floats
from spct.errors import BankError
from spct.records import Item
from spct.scaling import stats
from spct.scaling.cells import Cell
from spct.scaling.measure import TIED_BY_PEOPLE, Group, Measured
from spct.scaling.ratings import Ranked
from spct.scaling.stats import Statistic
from spct.scaling.votes import Index

CELLS = 1 << 23  # weights that a rule is given at a time
RATED = realmistake.NAME  # its numbers are ROC-AUCs, which take ratings
PARTIAL = " (partial)"

Sections = dict[str, Statistic]


@dataclass(frozen=True)
class Part:
    """A section over the seeds given, as a row tells it."""

    value: float
    low: float
    high: float
    items: int
    coverage: str


def has_rule(group: Group) -> bool:
    """Whether a group is a whole benchmark that averages by a rule of its own."""
    return group.subset == "all" and (group.benchmark in RULES or group.benchmark == RATED)


@dataclass(frozen=True)
class Ruled:
    """The items of a benchmark that has a rule, of one seed, in file order.

    Every method raises :class:`BankError` for items that the rule cannot take.
    """

    measured: Measured
    group: Group
    seed: int

    @cached_property
    def rows(self) -> Index:
        """Their places in the bench."""
        return self.measured.rows_of(self.group, self.seed)

    @cached_property
    def items(self) -> list[Item]:
        return [self.measured.benches[self.seed].items[i] for i in self.rows]

    @cached_property
    def coverage(self) -> str:
        """How complete they are, and how many of them no section counts."""
        rule = realmistake if self.group.benchmark == RATED else RULES[self.group.benchmark]
        told, out = str(rule.coverage(self.items)), int((~self._members[OVERALL]).sum())
        return f"{told}; {out} of {len(self.items)} left out: {TIED_BY_PEOPLE}" if out else told

    @cached_property
    def _members(self) -> dict[str, Bools]:
        rule = realmistake if self.group.benchmark == RATED else RULES[self.group.benchmark]
        return rule.members(self.items)

    def places(self, section: str) -> Index:
        """Places in the bench of the items that a section counts."""
        return self.rows[self._members[section.removesuffix(PARTIAL)]]

    def of_votes(self, cell: Cell, answer: Answer) -> Sections:
        """Sections from the votes of a judge on every item, ties as upstream has them."""
        rule = RULES[self.group.benchmark]
        win, tie = outcomes(self.items, cell, self.rows)
        return self._drawn(lambda weights: rule.judged(self.items, win, tie, weights, answer))

    def of_credits(self, credit: Floats) -> Sections:
        """Sections from the official credit (I,) of each item."""
        rule = RULES[self.group.benchmark]
        return self._drawn(lambda weights: rule.scores(self.items, credit, weights))

    def of_ratings(self, scores: Ranked) -> Sections:
        """Sections of ReaLMistake from the distribution of each item's score."""

        def auc(where: Index, weights: Floats) -> Floats:
            return scores.take(where).auc(weights)

        return self._drawn(lambda weights: realmistake.scores(self.items, auc, weights))

    def _drawn(self, score: Callable[[Floats], Mapping[str, Floats]]) -> Sections:
        """Values and draws of every section; some draws at a time, for memory."""
        weights = self.measured.weights(self.group, self.seed)
        step = max(1, CELLS // weights.shape[1])
        plain = np.ones((1, weights.shape[1]))
        try:
            parts = [
                score(np.vstack([plain, weights[start : start + step]]))
                for start in range(0, len(weights), step)
            ]
            return {
                name: Statistic(
                    float(value[0]),
                    np.concatenate([part[name][1:] for part in parts]),
                    len(self.places(name)),
                )
                for name, value in parts[0].items()
            }
        except ValueError as error:
            name = self.group.benchmark
            raise BankError(f"the official numbers of {name}: {error}") from error


def outcomes(items: Sequence[Item], cell: Cell, rows: Index) -> tuple[Floats, Floats]:
    """P(win) and P(tie) as :meth:`spct.benchmarks.rule.Averages.judged` takes them, both (I,).

    ``rows`` are the items' places in the cell. On an item that people called a tie nothing wins.
    Raises ``ValueError`` for a cell that does not tell its strict wins.
    """
    if cell.won is None:
        raise ValueError("these votes do not tell a win from a tie")
    undecided = np.fromiter((item.label.undecided for item in items), np.bool_, len(items))
    credit, won = cell.accuracy[rows], cell.won[rows]
    tie = np.where(undecided, cell.tied[rows], np.clip(2 * (credit - won), 0, 1 - won))
    return np.where(undecided, 0.0, won), tie


def distinct_prompts(benches: Sequence[Ruled], section: str) -> int:
    """How many prompts a section rests on, over some seeds: what its interval's width follows."""
    places = {bench.seed: bench.places(section) for bench in benches}
    return benches[0].measured.distinct_prompts(places)


def pooled(benches: Sequence[Ruled], found: Sequence[Sections]) -> dict[str, Part]:
    """Each section over some seeds, those that every seed has, the overall last."""
    first = benches[0]
    told = "; ".join(sorted({bench.coverage for bench in benches}))
    shared = [name for name in found[0] if all(name in sections for sections in found)]
    parts = {}
    for name in sorted(shared, key=lambda name: name == OVERALL):
        whole = stats.pooled([sections[name] for sections in found])
        level, prompts = first.measured.cfg.level, distinct_prompts(benches, name)
        low, high = stats.interval(whole, level, min(prompts, whole.items))
        parts[name] = Part(whole.value, low, high, whole.items, told)
    return parts
