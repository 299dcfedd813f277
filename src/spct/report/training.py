"""Training curves from metrics.jsonl as one SVG a stage and size, and what lies beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spct.report.ledgers import place, place_name, read_json
from spct.report.page import inline_svg
from spct.scaling.drawing import listed, svg_text
from spct.scaling.plot import STYLE
from spct.tracking import read_metrics

# What a reader looks for first; the rest follows by name.
FIRST = ("loss", "reward", "kl", "length", "auc", "accuracy", "correct")
# Metrics kept by domain (``<name>/<domain>``) that get a panel with a line for each domain.
BY_DOMAIN = ("reward", "eval_accuracy", "kl", "invalid_rate", "completion_tokens", "entropy")
COLUMNS = 4
MOST = 12
SEED_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#6b6b6b")
Log = Sequence[Mapping[str, Any]]


def alarms(folder: Path) -> list[str]:
    """The alarms that a training run left in its folder, as sentences."""
    path = folder / "alarms.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [str(json.loads(line)["text"]) for line in lines]


def collapses(logs: Sequence[Path]) -> list[str]:
    """A warning for each alarm of a training run, with its place."""
    found = []
    for path in logs:
        where = place(path)
        at = f"{place_name(where)}, seed {where['seed']}"
        found += [f"{at}: {text}" for text in alarms(path.parent)]
    return found


def trainings(logs: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """By stage, an entry for each size: its ``figure``, a line a seed, and its ``evaluations``.

    Raises :class:`spct.artifact.BrokenArtifact` for a log that is missing or broken.
    """
    entries: dict[str, dict[str, Any]] = {}
    for path in logs:
        where = place(path)
        name = place_name(where)
        entry = entries.setdefault(
            name, {"name": name, "stage": where["stage"], "logs": {}, "evaluations": []}
        )
        entry["logs"][where["seed"]] = read_metrics(path)
        if path.with_name("eval.json").is_file():
            values = _flat(read_json(path.with_name("eval.json")))
            entry["evaluations"].append({"seed": where["seed"], "values": values})
    stages: dict[str, list[dict[str, Any]]] = {}
    for entry in entries.values():
        entry["figure"] = inline_svg(draw_training(entry.pop("logs")))
        stages.setdefault(entry["stage"], []).append(entry)
    return stages


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, those of a mapping within under both names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name} {inner}": number for inner, number in _flat(value).items()}
        else:
            flat[name] = value
    return flat


def draw_training(logs: Mapping[str, Log]) -> str:
    """SVG text: a panel for each metric with a line for each seed's log, then those by domain.

    A panel by domain holds the mean over seeds. A metric that is 0 throughout is left out.
    """
    named = {
        name
        for log in logs.values()
        for entry in log
        for name, value in entry.items()
        if name != "step" and (value or name in FIRST)
    }
    overall = sorted((name for name in named if "/" not in name), key=_rank)[:MOST]
    split = {name: sorted(n for n in named if n.startswith(f"{name}/")) for name in BY_DOMAIN}
    shared = {name: members for name, members in split.items() if members}
    panels = overall + [f"{name} by domain" for name in shared] or ["(no metrics)"]
    lines = -(-len(panels) // COLUMNS)
    with matplotlib.rc_context({**STYLE, "font.size": 8, "axes.titlesize": 9}):
        figure = Figure(figsize=(11, 1.9 * lines), layout="constrained")
        grid = figure.subplots(lines, COLUMNS, squeeze=False)
        for axis in list(grid.flat)[len(panels) :]:
            axis.set_visible(False)
        for title, axis in zip(panels, grid.flat, strict=False):
            axis.set_title(title)
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes = list(grid.flat)
        for name, axis in zip(overall, axes, strict=False):
            curves = {f"seed {seed}": _points(log, name) for seed, log in logs.items()}
            _draw(axis, curves, legend=False)
        if overall and len(logs) > 1:
            axes[0].legend(frameon=False, fontsize=7)
        for (name, members), axis in zip(shared.items(), axes[len(overall) :], strict=False):
            means = {one.removeprefix(f"{name}/"): _mean(logs, one) for one in members}
            _draw(axis, means, legend=True)
        return svg_text(figure)


def _draw(axis: Axes, curves: Mapping[str, list[tuple[float, float]]], *, legend: bool) -> None:
    for (label, points), color in zip(curves.items(), SEED_COLORS * len(curves), strict=False):
        mark = "o" if len(points) == 1 else None
        axis.plot(*_columns(points), color=color, linewidth=1.2, marker=mark, label=listed(label))
    if legend:
        axis.legend(frameon=False, fontsize=6)


def _points(log: Log, name: str) -> list[tuple[float, float]]:
    return [(entry["step"], entry[name]) for entry in log if name in entry]


def _mean(logs: Mapping[str, Log], name: str) -> list[tuple[float, float]]:
    """The metric at every step, mean over the seeds that have it."""
    values: dict[float, list[float]] = {}
    for log in logs.values():
        for step, value in _points(log, name):
            values.setdefault(step, []).append(value)
    return [(step, sum(each) / len(each)) for step, each in sorted(values.items())]


def _rank(name: str) -> tuple[int, str]:
    hits = [place for place, part in enumerate(FIRST) if part in name.lower()]
    return (hits[0] if hits else len(FIRST), name)


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
