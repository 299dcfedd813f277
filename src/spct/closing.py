"""What to say at the end of a run: where to look, why MLflow lacks it if it does, what failed."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spct.tracking import (
    DEFAULT_EXPERIMENT,
    DEFAULT_URI,
    MARKER,
    tracking_uri,
    without_password,
)

# What Snakemake's log says of a failed job: alone (with its shell command), or in a group of jobs.
ALONE = re.compile(r"^Error in rule (\w+):\n((?: {4}.*\n)*)", re.MULTILINE)
GROUPED = re.compile(r"^ {8}rule (\w+):\n((?: {12}.*\n)+)", re.MULTILINE)
INDEX = "index.html"  # the page of a set of runs
ENDING = 10  # lines of a stage's log


def closing_line(figure: Path, page: Path, uri: str = "") -> str:
    """One line for people: where the figure, the report and MLflow are.

    ``uri`` is the tracker that was used, by default the one that would be.
    """
    return f"figure: {figure}   report: {page}   MLflow: {_place(uri)}"


def _place(uri: str) -> str:
    """A server's address, or the command that shows a local store."""
    uri = without_password(uri or tracking_uri())
    where = uri if uri.startswith("http") else f"{_program()} ui"
    if not uri.startswith("http") and uri != DEFAULT_URI:
        where += f" --backend-store-uri {uri}"
    return where


def _program() -> str:
    """What to type for mlflow: with its folder if that is an environment not activated."""
    beside = Path(sys.executable).with_name("mlflow")
    if sys.prefix == sys.base_prefix or os.environ.get("VIRTUAL_ENV") or not beside.is_file():
        return "mlflow"
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)


def after(run: str, results: Path = Path("results")) -> list[str]:
    """:func:`lines` of a run; none where only a part of it was asked for, so nothing was synced."""
    return lines(read_marker(run, results)) if (results / run / MARKER).exists() else []


def failures(told: str) -> list[str]:
    """Of each stage that failed for good: the end of its log, and how to run it by hand.

    ``told`` is the text of Snakemake's log. Whoever failed but has its outputs now succeeded later.
    """
    by_log: dict[str, list[str]] = {}
    for rule, text in ALONE.findall(told) + GROUPED.findall(told):
        log, outputs = _entry("log", text).split(" (")[0], _entry("output", text).split(", ")
        if not log or not Path(log).is_file() or all(Path(path).exists() for path in outputs):
            continue
        stage = re.search(r"\bspct \w+ --config .*(?= > \S+ 2>&1)", text)
        again = f"snakemake --cores all --printshellcmds {outputs[0]}"
        ending = Path(log).read_text(encoding="utf-8", errors="replace").splitlines()[-ENDING:]
        shown = [f"{rule} failed; {log} ends:", *(f"    {line}" for line in ending)]
        if log not in by_log or stage:
            by_log[log] = [*shown, f"  by hand: {stage[0] if stage else again}"]
    return [line for lines in by_log.values() for line in lines]


def _entry(name: str, text: str) -> str:
    found = re.search(rf"^ +{name}: (.+)$", text, re.MULTILINE)
    return found[1] if found else ""


def read_marker(run: str, results: Path = Path("results")) -> dict[str, Any]:
    """What the last sync of a run told; one that cannot be read counts as not synced."""
    path = results / run / MARKER
    try:
        return {"run": run, **json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, TypeError, ValueError):
        return {"run": run, "synced": False, "reason": f"{path} cannot be read"}


def lines(told: Mapping[str, Any], reports: Path = Path("reports")) -> list[str]:
    """The closing line and, if the tracker was not reached, the reason and how to catch up."""
    uri, folder = told.get("uri", ""), reports / told["run"]
    if (page := folder / INDEX).is_file():
        shown = [f"tables and claims: {page}   MLflow: {_place(uri)}"]
    else:
        shown = [closing_line(folder / "scaling.png", folder / "report.html", uri)]
    if not told.get("synced"):
        shown.append(f"MLflow was not reached ({told.get('reason')}); later: {_command(told, uri)}")
    return shown


def _command(told: Mapping[str, Any], uri: str) -> str:
    words = ["spct", "sync", "--run", told["run"]]
    if uri and uri != DEFAULT_URI and "MLFLOW_TRACKING_URI" not in os.environ:
        words += ["--uri", uri]
    experiment = told.get("experiment", DEFAULT_EXPERIMENT)
    if experiment != DEFAULT_EXPERIMENT:
        words += ["--experiment", experiment]
    return shlex.join(words)
