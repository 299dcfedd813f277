"""Two finished runs compared: settings, work, circumstances, results.

Settings are compared key by key over the frozen slices, work by content hashes, results by the rows
of ``curves.csv`` that both have. Torch is never imported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spct import origin
from spct.artifact import file_hash
from spct.errors import ConfigError
from spct.report.environment import environment_block
from spct.scaling.table import Row, headline, read_rows

ABSENT = "(absent)"
_ROW = ("policy", "size", "benchmark", "method", "k", "k_meta")


@dataclass(frozen=True)
class Setting:
    """A key that differs, in the slices named; a value is :data:`ABSENT` where it is not set."""

    key: str
    a: Any
    b: Any
    slices: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """A row of both tables: accuracies with their intervals, fractions; ``difference`` is b − a.

    ``apart`` tells that the intervals do not meet. Each is a run's own, so a difference can be
    sure without it, for both met the same items: paired intervals stand in ``comparisons.csv``.
    """

    name: str
    a: tuple[float, float, float]
    b: tuple[float, float, float]
    items: tuple[int, int]

    @property
    def difference(self) -> float:
        return self.b[0] - self.a[0]

    @property
    def apart(self) -> bool:
        return self.a[2] < self.b[1] or self.b[2] < self.a[1]


@dataclass(frozen=True)
class Difference:
    """All that differs between two runs; ``work`` and ``results`` count what is equal too."""

    runs: tuple[str, str]
    settings: tuple[Setting, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]  # slices that one of them has
    work: Mapping[str, tuple[str, ...]]  # pieces by state: shared, equal, different, only a, only b
    circumstances: tuple[Setting, ...]
    points: tuple[Point, ...]  # largest difference first
    unmatched: tuple[int, int]
    tables_equal: bool


def compare(a: Path, b: Path) -> Difference:
    """What differs between the runs in two folders ``results/<run>``.

    Raises :class:`ConfigError` for a run that is not there or has no curves yet, and
    :class:`spct.artifact.BrokenArtifact` for files that are broken or of older code.
    """
    folders = [_run(folder) for folder in (a, b)]
    settings, only = _settings(*(_slices(folder) for folder in folders))
    points, unmatched = _points(*(read_rows(folder / "curves.csv") for folder in folders))
    made = [environment_block(folder) for folder in folders]
    return Difference(
        runs=(a.name, b.name),
        settings=settings,
        only=only,
        work=_work(*({_piece(line): line for line in each["work"]} for each in made)),
        circumstances=_circumstances(*(each["made"] for each in made)),
        points=points,
        unmatched=unmatched,
        tables_equal=len({file_hash(folder / "curves.csv") for folder in folders}) == 1,
    )


def _run(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"diff: {folder} is missing; name a finished run, such as tiny")
    if not (folder / "curves.csv").is_file():
        raise ConfigError(f"diff: {folder} has no curves.csv yet; finish the run first")
    return folder


# ---- settings ------------------------------------------------------------------------------------


def _slices(folder: Path) -> dict[str, dict[str, Any]]:
    """Values by dotted key of each frozen slice, and of the run's own seeds and overrides."""
    found = {
        name.removesuffix(".yaml"): dict(_flat(yaml.safe_load(path.read_text("utf-8")) or {}))
        for name, path in origin.slices(folder).items()
    }
    run = origin.read(folder)
    found["run"] = {
        "experiment": run.experiment,
        "overrides": list(run.overrides),
        "seeds": list(run.seeds),
    }
    return found


def _flat(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{above}.{name}" if above else str(name))
    else:
        yield above, value


def _settings(
    a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]
) -> tuple[tuple[Setting, ...], tuple[tuple[str, ...], tuple[str, ...]]]:
    """Keys that differ, each once with all slices where it differs alike; slices of one alone."""
    found: dict[str, Setting] = {}
    for name in sorted(a.keys() & b.keys()):
        for setting in _keys(a[name], b[name]):
            place = json.dumps([setting.key, setting.a, setting.b])
            before = found[place].slices if place in found else ()
            found[place] = Setting(setting.key, setting.a, setting.b, (*before, name))
    only = tuple(sorted(a.keys() - b.keys())), tuple(sorted(b.keys() - a.keys()))
    return tuple(found.values()), only


def _keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Setting]:
    for key in sorted(a.keys() | b.keys()):
        one, other = a.get(key, ABSENT), b.get(key, ABSENT)
        if one != other:
            yield Setting(key, one, other, ())


# ---- work and circumstances ----------------------------------------------------------------------


def _piece(line: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (line["stage"], line["slot"], f"seed {line['seed']}")))


def _work(a: Mapping[str, Row], b: Mapping[str, Row]) -> dict[str, tuple[str, ...]]:
    states: dict[str, list[str]] = {
        name: [] for name in ("shared", "equal", "different", "only a", "only b")
    }
    for piece in dict.fromkeys([*a, *b]):
        one, other = a.get(piece), b.get(piece)
        if one is None or other is None:
            states["only b" if one is None else "only a"].append(piece)
        elif one["home"] == other["home"]:
            states["shared"].append(piece)
        else:
            state = "equal" if one["content"] == other["content"] else "different"
            states[state].append(piece)
    return {name: tuple(pieces) for name, pieces in states.items()}


def _circumstances(a: Sequence[Row], b: Sequence[Row]) -> tuple[Setting, ...]:
    """Versions, hardware and code that are not the same, as far as sidecars tell of both."""
    if not a or not b:
        return ()
    sides = [_values(each) for each in (a, b)]
    return tuple(_keys(*sides))


def _values(made: Sequence[Row]) -> dict[str, Any]:
    """Values by dotted key; several where a run was made under several circumstances."""
    found: dict[str, list[str]] = {}
    for entry in made:
        for key, value in _flat({name: entry[name] for name in ("code", "packages", "hardware")}):
            values = found.setdefault(key, [])
            if str(value) not in values:
                values.append(str(value))
    return {key: " and ".join(sorted(values)) for key, values in found.items()}


# ---- results -------------------------------------------------------------------------------------


def _points(a: list[Row], b: list[Row]) -> tuple[tuple[Point, ...], tuple[int, int]]:
    one, other = ({_name(row): row for row in headline(rows)} for rows in (a, b))
    points = [
        Point(name, _value(row), _value(other[name]), (row["items"], other[name]["items"]))
        for name, row in one.items()
        if name in other and all(math.isfinite(r["accuracy"]) for r in (row, other[name]))
    ]
    points.sort(key=lambda point: -abs(point.difference))
    return tuple(points), (len(one.keys() - other.keys()), len(other.keys() - one.keys()))


def _name(row: Row) -> str:
    policy, size, benchmark, method, k, k_meta = (str(row[name]) for name in _ROW)
    kept = f" of which {k_meta}" if method.endswith("_voting") and k_meta != k else ""
    return f"{benchmark}  {policy}/{size} {method}@{k}{kept}"


def _value(row: Row) -> tuple[float, float, float]:
    return row["accuracy"], row["low"], row["high"]
