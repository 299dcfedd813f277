"""Stage ``report``: the headline figure and one standalone HTML page about a run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from spct import artifact, origin
from spct.closing import closing_line
from spct.report import compute
from spct.report.data import data_block
from spct.report.environment import environment_block
from spct.report.examples import example_block
from spct.report.headline import control_differences, headline_block
from spct.report.health import pages
from spct.report.ledgers import read_ledger, rft_yield
from spct.report.page import inline_svg, render
from spct.report.tables import (
    accuracy_tables,
    adaptive_tables,
    blind_tables,
    control_tables,
    estimated,
    health_table,
    official_tables,
    scalar_tables,
    surface_tables,
)
from spct.report.training import collapses, trainings
from spct.scaling.lines import META
from spct.scaling.plot import draw
from spct.scaling.table import (
    Row,
    headline,
    main_benchmark,
    main_size,
    read_rows,
    seeds,
    select,
)

if TYPE_CHECKING:
    from spct.config import Slice

FIGURE = "scaling"
PAGE = "report.html"
HEALTH = "health"
# The page tells the road of the data; each chapter is a template in ``sections``.
CHAPTERS = (
    ("data", "Data"),
    ("rft", "Rejective fine-tuning"),
    ("grpo", "Reinforcement learning"),
    ("metarm", "Meta reward model and its controls"),
    ("scaling", "Scaling"),
    ("baselines", "Other reward models"),
    ("health", "Health of the judges"),
    ("examples", "Judgements to read"),
    ("settings", "Settings"),
    ("environment", "Environment"),
)


def run(
    cfg: Slice,
    seed: int,
    *,
    curves: Path,
    comparisons: Path,
    surface: Path,
    official: Path,
    health: Path,
    ledgers: list[Path],
    metrics: Sequence[Path] = (),
    banks: Sequence[Path] = (),
    items: Sequence[Path] = (),
    run: str,
    out: Path,
) -> None:
    """Write ``scaling.svg``, ``scaling.png``, the tables' copies and ``report.html`` into ``out``,
    and a page of health for each policy and size into ``out/health``.

    ``metrics`` are metrics.jsonl files or the model folders that hold them, none if nothing was
    trained; ``banks`` the judged shards and ``items`` what they judge, from which the page draws
    judgements to read. Raises :class:`spct.artifact.BrokenArtifact` for a missing input. ``seed``
    is not used.
    """
    rows, pairs, checked = read_rows(curves), read_rows(comparisons), read_rows(health)
    draw(rows, out / f"{FIGURE}.svg", out / f"{FIGURE}.png", level=cfg.scaling.level)
    for table in (curves, comparisons, surface, official, health):
        with artifact.atomic_path(out / table.name) as aside:
            shutil.copyfile(table, aside)
    with artifact.atomic_dir(out / HEALTH, kind="health pages") as aside:
        pages(checked, aside, level=cfg.scaling.level)
    logs = [path / "metrics.jsonl" if path.is_dir() else path for path in metrics]
    page = render(
        "report.html.jinja",
        title=cfg.report.title,
        run=run,
        level=cfg.scaling.level,
        invalid=cfg.scaling.invalid,
        figure=inline_svg((out / f"{FIGURE}.svg").read_text(encoding="utf-8")),
        **summary(rows, pairs),
        **tables(rows, read_rows(surface), read_rows(official)),
        **history(ledgers, logs),
        health=health_table(checked, main_size(headline(rows))),
        health_folder=HEALTH,
        compute=compute.section(curves.parent, out, level=cfg.scaling.level),
        examples=example_block(banks, items, main_size(headline(rows))),
        settings=settings(cfg, curves.parent),
        environment=environment_block(curves.parent),
    )
    artifact.write_text(out / PAGE, page)
    print(closing_line(out / f"{FIGURE}.png", out / PAGE))


# ---- what the page is told ---------------------------------------------------------------------


def summary(rows: list[Row], pairs: list[Row]) -> dict[str, Any]:
    """The chapters, and what compares: the head of the page and the paired differences."""
    guided = any(row["method"] == META for row in rows)
    votes = select(headline(rows), method="voting")
    return {
        "chapters": [entry for entry in CHAPTERS if guided or entry[0] != "metarm"],
        "seeds": seeds(rows),
        "items": {row["benchmark"]: row["items"] for row in votes},
        "headline": headline_block(rows, pairs),
        "differences": control_differences(pairs),
        "comparisons": select(pairs, subset="all"),
        "subsets": [row for row in pairs if row["subset"] != "all"],
        "estimated": estimated(rows),
    }


def tables(rows: list[Row], surface: list[Row], official: list[Row]) -> dict[str, Any]:
    """The tables of accuracy."""
    return {
        "accuracies": accuracy_tables(rows),
        "controls": control_tables(rows),
        "blind": blind_tables(rows),
        "scalars": scalar_tables(rows),
        "surfaces": surface_tables(surface, main_benchmark(headline(rows))),
        "official": official_tables(official),
        "adaptive": adaptive_tables(rows),
    }


def history(ledgers: Sequence[Path], logs: Sequence[Path]) -> dict[str, Any]:
    """What the stages before the curves left: data, yield of RFT, training, and warnings."""
    books = [read_ledger(path) for path in ledgers]
    return {
        "data": data_block(ledgers),
        "ledgers": [book for book in books if book["stage"] != "select"],
        "yield": rft_yield(books),
        "training": trainings(logs),
        "warnings": [*(text for book in books for text in book["warnings"]), *collapses(logs)],
    }


def settings(cfg: Slice, folder: Path) -> dict[str, str]:
    """YAML texts by name: the frozen slices of the run in ``folder``, or, by hand, our own."""
    if origin.recorded(folder):
        found = origin.slices(folder)
        return {name: path.read_text(encoding="utf-8") for name, path in found.items()}
    own = {"scaling": asdict(cfg.scaling), "report": asdict(cfg.report)}
    return {"report": yaml.safe_dump(own, sort_keys=True)}
