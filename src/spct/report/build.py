"""Stage ``report``: the headline figure and one standalone HTML page about a run."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from spct import __version__, artifact, origin
from spct.closing import closing_line
from spct.report.headline import control_differences, headline_block
from spct.report.training import draw_training
from spct.scaling.lines import policy_name
from spct.scaling.plot import draw
from spct.scaling.table import Row, headline, read_rows, seeds, select, unique
from spct.tracking import read_metrics

if TYPE_CHECKING:
    from spct.config import Slice

FIGURE = "scaling"
PAGE = "report.html"
FILTERED = ("voting", "meta_voting", "margin_voting", "random_voting", "oracle_voting")
NAMES = {
    "greedy": "greedy",
    "voting": "voting",
    "meta_voting": "meta RM keeps half",
    "margin_voting": "widest margins keep half",
    "random_voting": "random half",
    "oracle_voting": "oracle keeps half",
}
_PLACE = re.compile(r"seed(?P<seed>\d+)/(?P<stage>\w+)(?:/(?P<slot>[\w.\-]+))?/[^/]+$")


def run(
    cfg: Slice,
    seed: int,
    *,
    curves: Path,
    comparisons: Path,
    ledgers: list[Path],
    metrics: list[Path],
    run: str,
    out: Path,
) -> None:
    """Write ``scaling.svg``, ``scaling.png``, the tables' copies and ``report.html`` into ``out``.

    ``metrics`` are metrics.jsonl files or the model folders that hold them. Raises
    :class:`spct.artifact.BrokenArtifact` for a missing input. ``seed`` is not used.
    """
    rows, pairs = read_rows(curves), read_rows(comparisons)
    draw(rows, out / f"{FIGURE}.svg", out / f"{FIGURE}.png", level=cfg.scaling.level)
    for table in (curves, comparisons):
        with artifact.atomic_path(out / table.name) as aside:
            shutil.copyfile(table, aside)
    logs = [path / "metrics.jsonl" if path.is_dir() else path for path in metrics]
    books = [read_ledger(path) for path in ledgers]
    page = render(
        title=cfg.report.title,
        run=run,
        version=__version__,
        figure=inline_svg((out / f"{FIGURE}.svg").read_text(encoding="utf-8")),
        level=cfg.scaling.level,
        seeds=seeds(rows),
        items={row["benchmark"]: row["items"] for row in select(headline(rows), method="voting")},
        headline=headline_block(rows, pairs),
        differences=control_differences(pairs),
        invalid=cfg.scaling.invalid,
        accuracies=accuracy_tables(rows),
        controls=control_tables(rows),
        blind=blind_tables(rows),
        comparisons=pairs,
        ledgers=books,
        warnings=[text for book in books for text in book["warnings"]],
        training=training(logs),
        settings=settings(cfg, curves.parent),
    )
    artifact.write_text(out / PAGE, page)
    print(closing_line(out / f"{FIGURE}.png", out / PAGE))


def render(**values: Any) -> str:
    """The page from its template; every value that is not our own SVG is escaped."""
    text = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.filters["signed"] = lambda value: f"{100 * value:+.1f}"
    return environment.from_string(text).render(**values) + "\n"


def percent(value: float) -> str:
    """A fraction as percent with one decimal, without the sign; a dash for NaN."""
    return "–" if value != value else f"{100 * value:.1f}"


def inline_svg(text: str) -> Markup:
    """The ``<svg>`` element of an SVG file of ours, safe to embed as it is."""
    return Markup(text[text.index("<svg") :])


# ---- tables ----------------------------------------------------------------------------------


def accuracy_tables(rows: list[Row]) -> list[dict[str, Any]]:
    """A table a benchmark: a line for every policy and size, greedy and voting at each k."""
    shown = headline(rows)
    tables = []
    for benchmark in unique(select(shown, method="voting"), "benchmark"):
        here = select(shown, benchmark=benchmark)
        voting = select(here, method="voting")
        ks = sorted(set(row["k"] for row in voting))
        lines = []
        for policy, size in dict.fromkeys((row["policy"], row["size"]) for row in voting):
            curve = {r["k"]: r for r in select(voting, policy=policy, size=size)}
            greedy = select(here, policy=policy, size=size, method="greedy")
            last = curve[max(curve)]
            name = f"{policy_name(policy)} {size}"
            cells = [greedy[0] if greedy else None, *(curve.get(k) for k in ks)]
            lines.append({"name": name, "cells": cells, "last": last})
        tables.append({"benchmark": benchmark, "ks": ks, "lines": lines})
    return tables


def control_tables(rows: list[Row]) -> list[dict[str, Any]]:
    """The guided vote beside plain voting and its controls, at each k, a table a benchmark."""
    shown = headline(rows)
    guided = {(row["policy"], row["size"]) for row in select(shown, method="meta_voting")}
    tables = []
    for policy, size in sorted(guided):
        mine = select(shown, policy=policy, size=size)
        for benchmark in unique(mine, "benchmark"):
            here = [r for r in mine if r["benchmark"] == benchmark and r["method"] in FILTERED]
            ks = sorted(set(row["k"] for row in here))
            lines = []
            for method in FILTERED:
                curve = {row["k"]: row for row in select(here, method=method)}
                lines.append({"name": NAMES[method], "cells": [curve.get(k) for k in ks]})
            name = f"{policy_name(policy)} {size}, {benchmark}"
            tables.append({"name": name, "ks": ks, "lines": lines})
    return tables


def blind_tables(rows: list[Row]) -> dict[str, list[Row]]:
    """Content-blind baselines by benchmark."""
    blind = select(headline(rows), policy="none")
    return {name: select(blind, benchmark=name) for name in unique(blind, "benchmark")}


# ---- what the stages left ----------------------------------------------------------------------


def place(path: Path) -> dict[str, str]:
    """Stage, slot (size or policy) and seed of a file in the results tree, as far as it tells."""
    found = _PLACE.search(path.as_posix())
    if found is None:
        return {"stage": str(path), "slot": "", "seed": ""}
    stage = {"data": "prepare"}.get(found["stage"], found["stage"])
    return {"stage": stage, "slot": found["slot"] or "", "seed": found["seed"]}


def read_ledger(path: Path) -> dict[str, Any]:
    """A ledger with its place and what the reader must know about it."""
    if not path.is_file():
        raise artifact.BrokenArtifact(f"{path} is missing; run the stage that writes it")
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise artifact.BrokenArtifact(
            f"{path} is not JSON ({error}); run its stage again"
        ) from error
    where = place(path)
    name = " ".join(filter(None, (where["stage"], where["slot"])))
    warnings = []
    if book.get("kept") == 0 or book.get("allow_empty") or book.get("empty"):
        warnings.append(
            f"{name}, seed {where['seed']}: nothing was kept of {book.get('in')}; "
            "the run went on because of allow_empty"
        )
    rejected = sorted(book.get("rejected", {}).items(), key=lambda pair: -pair[1])
    return {**where, **book, "rejected": rejected, "warnings": warnings}


def training(logs: list[Path]) -> list[dict[str, Any]]:
    """One figure for each stage and size, a line a seed, and the evaluations beside the logs."""
    stages: dict[str, dict[str, Any]] = {}
    for path in logs:
        where = place(path)
        name = " ".join(filter(None, (where["stage"], where["slot"])))
        entry = stages.setdefault(name, {"name": name, "logs": {}, "evaluations": []})
        entry["logs"][where["seed"]] = read_metrics(path)
        evaluation = path.with_name("eval.json")
        if evaluation.is_file():
            values = json.loads(evaluation.read_text(encoding="utf-8"))
            entry["evaluations"].append({"seed": where["seed"], "values": values})
    for entry in stages.values():
        entry["figure"] = inline_svg(draw_training(entry.pop("logs")))
    return list(stages.values())


def settings(cfg: Slice, folder: Path) -> dict[str, str]:
    """YAML texts by name: the frozen slices of the run in ``folder``, or, by hand, our own."""
    if origin.recorded(folder):
        found = origin.slices(folder)
        return {name: path.read_text(encoding="utf-8") for name, path in found.items()}
    own = {"scaling": asdict(cfg.scaling), "report": asdict(cfg.report)}
    return {"report": yaml.safe_dump(own, sort_keys=True)}
