"""The paper's tables from our numbers: rows for the page, and all of them in one long CSV file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spct.baselines.kinds import APPROACHES, Approach
from spct.baselines.rows import TOKEN_PROB
from spct.paper.data import RowSpec, TableSpec
from spct.paper.members import Ref
from spct.paper.results import Results, Score

COLUMNS = [
    *("table", "row", "number", "run", "benchmark", "accuracy", "low", "high", "items"),
    *("minus", "difference", "difference_low", "difference_high", "difference_on"),
    *("paper", "paper_difference", "paper_source"),
]
OVERALL = "overall"


@dataclass(frozen=True)
class Line:
    """One row: ``overall`` and the accuracies by benchmark, and the paired difference, if any.

    ``why`` says why the row has no number at all.
    """

    spec: RowSpec
    run: str
    overall: Score | None
    by_benchmark: dict[str, Score | None]
    difference: Score | None
    why: str

    @property
    def approach(self) -> Approach:
        """What kind of reward model it is: how many responses it takes, and whether it scales."""
        return approach(self.spec.ref)


def approach(ref: Ref) -> Approach:
    """By the method, the policy or the role, the first that is a kind of its own; else a GRM."""
    names = (ref.method if ref.method == TOKEN_PROB else "", ref.policy, ref.role)
    return next((APPROACHES[name] for name in names if name in APPROACHES), APPROACHES["grm"])


@dataclass(frozen=True)
class Table:
    """One table; ``benchmarks`` are its columns after the overall."""

    spec: TableSpec
    benchmarks: list[str]
    lines: list[Line]


def build(spec: TableSpec, results: Results) -> Table:
    """The table with the numbers that the set has."""
    members = results.members
    single = spec.over == "single"
    asked = [members.single] if single else members.overall
    shown = asked if single else members.benchmarks
    return Table(spec, shown, [_line(row, results, asked, shown) for row in spec.rows])


def _line(spec: RowSpec, results: Results, asked: list[str], shown: list[str]) -> Line:
    member = results.members.by_role.get(spec.ref.role)
    found = {name: results.mean(spec.ref, [name]) for name in shown}
    why = ""
    if member is None:
        why = f"not in this set: no run has the role {spec.ref.role}"
    elif not any(found.values()):
        why = f"{member.run} has no {spec.ref.method}@{spec.ref.k} of {spec.ref.policy}"
    difference = None
    if spec.minus is not None and not why:
        difference = results.combination([(1.0, spec.ref), (-1.0, spec.minus)], asked)
    overall = results.mean(spec.ref, asked)
    return Line(spec, member.run if member else "", overall, found, difference, why)


def rows(table: Table) -> Iterator[dict[str, Any]]:
    """The rows of the CSV file: for each line its overall, then every benchmark that it has."""
    for line in table.lines:
        spec = line.spec
        about = {
            "table": table.spec.name,
            "row": f"{spec.row}, {spec.vote}" if spec.vote else spec.row,
            "number": str(spec.ref),
            "run": line.run,
            "paper_source": table.spec.source if spec.paper is not None else "",
        }
        gap = line.difference
        compared = {} if gap is None else {
            "minus": str(spec.minus),
            "difference": gap.value,
            "difference_low": gap.low,
            "difference_high": gap.high,
            "difference_on": " ".join(gap.on),
        }  # fmt: skip
        paper = {"paper": spec.paper, "paper_difference": spec.gain}
        yield {**about, "benchmark": OVERALL, **_values(line.overall), **compared, **paper}
        for name, score in line.by_benchmark.items():
            if score is not None:
                yield {**about, "benchmark": name, **_values(score)}


def _values(score: Score | None) -> dict[str, Any]:
    if score is None:
        return {}
    return {"accuracy": score.value, "low": score.low, "high": score.high, "items": score.items}
