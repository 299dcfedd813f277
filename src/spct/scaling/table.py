"""The tables of a run (``curves.csv`` and its siblings) as figures, report and MLflow read them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spct.artifact import BrokenArtifact, content_hash, file_hash

Row = dict[str, Any]
HEADLINE = "toy_pairs"
_TEXT = {
    *("run", "seed", "policy", "size", "benchmark", "subset", "method", "metric"),
    *("group", "name", "a", "b", "seeds_positive", "section", "coverage", "note"),
    *("signal", "axis", "small", "large"),
}
_WHOLE = {"k", "k_meta", "items", "count"}


def written(row: Mapping[str, Any]) -> Row:
    """A row to write: an empty cell for NaN."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }


def read_rows(path: Path) -> list[Row]:
    """Rows with numbers as numbers; an empty cell is NaN, a k_meta that is a word stays one.

    Raises :class:`spct.artifact.BrokenArtifact` if the table is missing, has no manifest beside it
    or differs from it.
    """
    if not path.is_file():
        raise BrokenArtifact(f"{path} is missing; run the curves stage")
    if file_hash(path) != content_hash(path):
        raise BrokenArtifact(
            f"{path} differs from its manifest (edited, or a copy cut short); "
            f"delete {path} and run the curves stage again to rebuild it"
        )
    with path.open(newline="", encoding="utf-8") as handle:
        return [{name: _value(name, text) for name, text in row.items()} for row in _dicts(handle)]


def _dicts(handle: Iterable[str]) -> Iterable[dict[str, str]]:
    return csv.DictReader(handle)


def _value(name: str, text: str) -> Any:
    if name in _TEXT or (name == "k_meta" and text.isalpha()):
        return text
    return int(text) if text and name in _WHOLE else float(text or "nan")


def headline(rows: list[Row]) -> list[Row]:
    """The rows to show: seeds pooled where there are several, subset ``all``."""
    pooled = "all" if any(row["seed"] == "all" for row in rows) else None
    return [
        row for row in rows if row["subset"] == "all" and row["seed"] == (pooled or row["seed"])
    ]


def seeds(rows: list[Row]) -> list[str]:
    """The seeds measured, without the pooled rows."""
    return sorted({row["seed"] for row in rows} - {"all"}, key=int)


def unique(rows: Iterable[Row], column: str) -> list[str]:
    """Values of a column in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))


def select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Rows whose columns equal the values given."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def main_benchmark(rows: Iterable[Row]) -> str:
    """The benchmark to look at first: ``toy_pairs``, or the first one that has votes."""
    names = unique(select(rows, method="voting"), "benchmark")
    return HEADLINE if HEADLINE in names else names[0]


def main_size(rows: Iterable[Row]) -> str:
    """The size that went through the whole chain, as far as its rows tell; "" without any.

    Only the main model's votes are guided, so that decides; where nothing is guided, the size with
    most policies, then the one sampled most, then the biggest.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["policy"] != "none":
            found.setdefault(row["size"], []).append(row)
    order = sizes(row for group in found.values() for row in group)

    def rank(size: str) -> tuple[bool, int, int, int]:
        mine = found[size]
        guided = any(row["method"] == "meta_voting" for row in mine)
        most = max(row["k"] for row in mine)
        return guided, len(unique(mine, "policy")), most, order.index(size)

    return max(found, key=rank, default="")


def sizes(rows: Iterable[Row]) -> list[str]:
    """Model sizes from small to big, by the FLOPs of one sample; unknown ones last."""
    cost: dict[str, float] = {}
    for row in rows:
        if row["policy"] != "none" and row["method"] != "meta_voting":
            cost.setdefault(row["size"], float("inf"))
            spent = row["flops"] / max(row["k"], 1)
            cost[row["size"]] = min(cost[row["size"]], spent if spent == spent else float("inf"))
    return sorted(cost, key=lambda size: cost[size])
