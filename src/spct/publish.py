"""``spct publish NAME``: copy what a run or a set shows to ``docs``, with its configuration.

``ABOUT.md`` says when, from which seeds and by which code it was made.
"""

from __future__ import annotations

import datetime
import itertools
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spct import artifact, origin, provenance, verify
from spct.artifact import MANIFEST
from spct.config import ConfigError

TABLES = ("curves.csv", "comparisons.csv", "surface.csv", "official.csv", "health.csv")
# Of a set: the pages and tables of the stage `paper`; figures go with them.
SET_TABLES = ("tables.csv", "claims.csv")
SET_PAGES = ("index.html", "errors.html")
ABOUT = "ABOUT.md"


def publish(
    run: str, to: Path, *, results: Path = Path("results"), reports: Path = Path("reports")
) -> Path:
    """Copy report, tables and the frozen slices of all stages to ``<to>/<date>-<run>``.

    Slices of stages that lie in a base run's folder are copied too. Of a set: its pages, tables and
    figures, the curves of its runs, and what it is made of. Raises
    :class:`~spct.config.ConfigError` for one that is not finished.
    """
    if is_set(run, results):
        return _publish_set(run, to, results, reports)
    needed = [reports / run / "report.html", *(results / run / name for name in TABLES)]
    folder = _copied(run, to, reports, needed)
    for name in _with_manifests(TABLES):
        shutil.copy2(results / run / name, folder / name)
    for name, path in origin.slices(results / run).items():
        _copy(path, folder / "config" / name)
    seeds = origin.read(results / run).seeds
    _tell(run, folder, seeds, results / run / TABLES[0])
    return folder


def is_set(name: str, results: Path = Path("results")) -> bool:
    """Whether this is a set of runs, by the file that the workflow wrote for it."""
    return (results / name / "config/set.yaml").is_file()


def members(name: str, results: Path = Path("results")) -> dict[str, list[int]]:
    """The runs of a set and their seeds."""
    raw = yaml.safe_load((results / name / "config/set.yaml").read_text(encoding="utf-8"))
    return {member["run"]: member["seeds"] for member in raw["members"]}


def _publish_set(name: str, to: Path, results: Path, reports: Path) -> Path:
    runs = members(name, results)
    needed = [reports / name / file for file in (*SET_PAGES, *SET_TABLES)]
    folder = _copied(name, to, reports, [*needed, *(results / run / TABLES[0] for run in runs)])
    for path in sorted((results / name / "config").glob("*.yaml")):
        _copy(path, folder / "config" / path.name)
    for run in runs:
        for file in (*_with_manifests(TABLES[:1]), "config/run.yaml"):
            _copy(results / run / file, folder / "runs" / run / Path(file).name)
    seeds = sorted(set(itertools.chain(*runs.values())))
    _tell(name, folder, seeds, reports / name)
    return folder


def _copied(name: str, to: Path, reports: Path, needed: Sequence[Path]) -> Path:
    """The folder of today with a copy of the reports in it, once all that is needed is there."""
    if gone := [path for path in needed if not path.is_file()]:
        raise ConfigError(f"publish: {gone[0]} is missing; finish the run first")
    folder = to / f"{datetime.date.today().isoformat()}-{name}"
    shutil.copytree(reports / name, folder, dirs_exist_ok=True)
    return folder


def _with_manifests(names: Iterable[str]) -> list[str]:
    return [file for name in names for file in (name, f"{name}.{MANIFEST}")]


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, to)


def _tell(name: str, folder: Path, seeds: Sequence[int], made: Path) -> None:
    """Write :data:`ABOUT`: how ``made``, the last artefact of the run or set, came about."""
    told = provenance.read(made) or {}
    artifact.write_text(folder / ABOUT, about(name, seeds, told))


def about(name: str, seeds: Sequence[int], told: Mapping[str, Any]) -> str:
    """What a published folder says of itself, from the provenance of its last artefact."""
    code, packages = told.get("code", {}), told.get("packages", {})
    lines = [
        f"# {name}",
        "",
        f"- Made: {told.get('started', 'not recorded')}",
        f"- Seeds: {', '.join(map(str, seeds))}",
        f"- Commit: {code.get('commit') or 'not recorded'}; fingerprint of the code "
        f"{code.get('fingerprint', 'not recorded')}, spct {code.get('version', 'not recorded')}",
        f"- Packages: {', '.join(f'{key} {value}' for key, value in packages.items()) or '–'}",
    ]
    return "\n".join(lines) + "\n"


def publish_cli(runs: list[str]) -> int:
    """Verify the run (of a set: every run, without deriving its numbers again), then copy it to
    ``docs/results`` and print where; 1 if something is broken."""
    if len(runs) != 1:
        raise ConfigError("publish: name one run or set, such as tiny")
    (name,) = runs
    words = [*members(name), "--quick"] if is_set(name) else [name]
    if code := verify.verify_cli(words):
        return code
    print(publish(name, Path("docs/results")))
    return 0
