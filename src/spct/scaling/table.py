"""Reading ``curves.csv`` and ``comparisons.csv`` back: what figures, report and MLflow share."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spct.artifact import BrokenArtifact

Row = dict[str, Any]
_TEXT = {"run", "seed", "policy", "size", "benchmark", "subset", "method", "name", "a", "b"}
_WHOLE = {"k", "k_meta", "items"}


def read_rows(path: Path) -> list[Row]:
    """Rows with numbers as numbers; an empty cell is NaN. Raises ``BrokenArtifact`` if missing."""
    if not path.is_file():
        raise BrokenArtifact(f"{path} is missing; run the curves stage")
    with path.open(newline="", encoding="utf-8") as handle:
        return [{name: _value(name, text) for name, text in row.items()} for row in _dicts(handle)]


def _dicts(handle: Iterable[str]) -> Iterable[dict[str, str]]:
    return csv.DictReader(handle)


def _value(name: str, text: str) -> Any:
    if name in _TEXT or name == "seeds_positive":
        return text
    return int(text) if name in _WHOLE else float(text or "nan")


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


def main_size(rows: Iterable[Row]) -> str:
    """The size that went through the most policies."""
    found: dict[str, set[str]] = {}
    for row in rows:
        if row["policy"] != "none":
            found.setdefault(row["size"], set()).add(row["policy"])
    return max(found, key=lambda size: len(found[size])) if found else ""


def sizes(rows: Iterable[Row]) -> list[str]:
    """Model sizes from small to big, by the FLOPs of one sample; unknown ones last."""
    cost: dict[str, float] = {}
    for row in rows:
        if row["policy"] != "none" and row["method"] != "meta_voting":
            cost.setdefault(row["size"], float("inf"))
            spent = row["flops"] / max(row["k"], 1)
            cost[row["size"]] = min(cost[row["size"]], spent if spent == spent else float("inf"))
    return sorted(cost, key=lambda size: cost[size])
