"""Stage ``blind``: what a judge scores that reads no content, by every benchmark's own averages.

The longest, shortest, first or last response of each item, lengths in characters, places in the
file's order. Several files give the answer away by their order, so *first* and *last* tell about
the file and not about a judge, who is shown the responses shuffled. Single responses (ReaLMistake)
are rated by their length, with a ROC-AUC; they have no first or last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spct import artifact
from spct.records import Item
from spct.scaling import scalars, stats
from spct.scaling.banks import read_benches
from spct.scaling.cells import NOBODY, CellKey
from spct.scaling.content_blind import BASELINES, content_blind
from spct.scaling.measure import Group, Measured
from spct.scaling.ratings import Scores
from spct.scaling.sections import PARTIAL, RATED, Part, Ruled, has_rule, pooled
from spct.scaling.table import written

if TYPE_CHECKING:
    from spct.config import Slice

COLUMNS = [
    *("benchmark", "kind", "name", "baseline", "value", "low", "high", "items", "coverage"),
]
NO_RULE = "no rule"
BY_LENGTH = {"longest": 1, "shortest": -1}
Row = dict[str, Any]


def run(cfg: Slice, seed: int, *, items: list[Path], out: Path, out_page: Path) -> None:
    """Write ``blind.csv`` and a Markdown table of it, from one items file a seed.

    ``kind`` is ``section`` (of the benchmark's rule, named as in ``official.csv``) or ``subset``
    (plain means, ties ½). Several seeds are pooled. ``seed`` seeds the bootstrap. Raises
    :class:`spct.errors.BankError` for items without a label, or that a rule cannot take.
    """
    measured = Measured(cfg.scaling, seed, read_benches(items))
    for bench in measured.benches.values():
        measured.add(bench.seed, content_blind(bench))
    rows = list(blind_rows(measured))
    artifact.write_csv(out, COLUMNS, rows)
    artifact.write_text(out_page, page(rows, cfg.scaling.level))


def blind_rows(measured: Measured) -> Iterator[Row]:
    """Rows benchmark by benchmark: the rule's sections, then subsets that are no section."""
    for whole in (group for group in measured.groups if group.subset == "all"):
        sections: dict[str, dict[str, Part]] = {}
        if has_rule(whole):
            names = BY_LENGTH if whole.benchmark == RATED else BASELINES
            benches = [Ruled(measured, whole, seed) for seed in measured.benches]
            sections = {name: _sections(benches, name) for name in names}
        for section in next(iter(sections.values()), {}):
            for baseline, parts in sections.items():
                if section in parts:
                    yield _row(whole.benchmark, "section", section, baseline, parts[section])
        for group in measured.groups:
            known = {name.removesuffix(PARTIAL) for parts in sections.values() for name in parts}
            if group.benchmark == whole.benchmark and group.subset not in known:
                yield from _plain(measured, group, ruled=bool(sections))


def _row(benchmark: str, kind: str, name: str, baseline: str, part: Part) -> Row:
    where = {"benchmark": benchmark, "kind": kind, "name": name, "baseline": baseline}
    return written({**where, **vars(part)})


def _key(name: str) -> CellKey:
    return CellKey(NOBODY, NOBODY, name, 0, 0)


def _sections(benches: Sequence[Ruled], baseline: str) -> dict[str, Part]:
    found = []
    for bench in benches:
        if bench.group.benchmark == RATED:
            found.append(bench.of_ratings(_lengths(bench.items, baseline)))
        else:
            cell = bench.measured.cells[_key(baseline)][bench.seed]
            found.append(bench.of_votes(cell, "scalar"))
    return pooled(benches, found)


def _lengths(items: Sequence[Item], baseline: str) -> Scores:
    """Every response's length as its certain score, or less of it as more."""
    lengths = np.array([len(item.responses[0]) for item in items])
    values, place = np.unique(BY_LENGTH[baseline] * lengths, return_inverse=True)
    chance = np.zeros((len(items), len(values)))
    chance[np.arange(len(items)), place] = 1
    right = np.array([item.label.value == [True] for item in items])
    return Scores(chance, np.zeros(len(items)), right)


def _plain(measured: Measured, group: Group, *, ruled: bool) -> Iterator[Row]:
    """Means of a subset, or of a benchmark without a rule, over all seeds."""
    seeds = list(measured.benches)
    if ruled and group.subset == "all":
        return
    for baseline in BASELINES:
        key = _key(baseline)
        parts = measured.statistics(key, group, seeds)
        if parts:
            whole, prompts = stats.pooled(parts), measured.clusters(key, group, seeds)
            low, high = stats.interval(whole, measured.cfg.level, prompts)
            told = _told(measured, key, group, seeds, ruled=ruled)
            part = Part(whole.value, low, high, whole.items, told)
            yield _row(group.benchmark, "subset", group.subset, baseline, part)


def _told(
    measured: Measured, key: CellKey, group: Group, seeds: Sequence[int], *, ruled: bool
) -> str:
    """That there is no rule, and how many items a plain mean leaves out, and why."""
    reasons, _ = measured.left_out(key, group, seeds)
    out = scalars.note(reasons, len(reasons))
    return "; ".join(filter(None, ["" if ruled else NO_RULE, out and f"left out are {out}"]))


# ---- the page ----------------------------------------------------------------------------------

_HEAD = """# Content-blind baselines

Percent, with {level:.0%} intervals (prompts drawn with replacement), by each benchmark's own
averages and its ties for reward models. *First* and *last* are places in upstream's file: far from
50 they say that the file's order gives the answer away, which is why a judge is shown the responses
shuffled. ReaLMistake: ROC-AUC of the response's length. Sections that are not whole say
"(partial)"; such a benchmark has no overall.
"""


def page(rows: Sequence[Row], level: float) -> str:
    """The rows as a Markdown page, a table for each benchmark."""
    names = list(dict.fromkeys(row["benchmark"] for row in rows))
    blocks = [_table(name, [row for row in rows if row["benchmark"] == name]) for name in names]
    return "\n".join([_HEAD.format(level=level), *blocks])


def _table(name: str, rows: Sequence[Row]) -> str:
    told = next((row["coverage"] for row in rows if row["coverage"]), "")
    lines = [f"## {name}", "", f"{told}.", "", _line(["", "items", *BASELINES])]
    lines.append(_line(["---", *["---:"] * (1 + len(BASELINES))]))
    for kind, part in dict.fromkeys((row["kind"], row["name"]) for row in rows):
        mine = {row["baseline"]: row for row in rows if (row["kind"], row["name"]) == (kind, part)}
        label = part if kind == "section" else f"subset {part}"
        items = next(iter(mine.values()))["items"]
        shown = [_cell(mine[each]) if each in mine else "" for each in BASELINES]
        lines.append(_line([label, f"{items:,}", *shown]))
    return "\n".join([*lines, ""])


def _cell(row: Row) -> str:
    value = f"{100 * row['value']:.1f}"
    if row["low"] is None:
        return value
    return f"{value} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
