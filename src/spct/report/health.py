"""One standalone HTML page about the health of each judge: a policy at a size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from spct import artifact
from spct.report import health_plot, page
from spct.report.health_rows import Book
from spct.scaling.lines import policy_name
from spct.scaling.table import Row, select

OUTCOMES = ("ok", *health_plot.OUTCOME_COLORS)
PLANS = ("fixed", "random", "balanced")
LENGTHS = ("longest", "shortest")
GAINS = ("random - fixed", "balanced - random", "balanced - fixed")


def pages(rows: Sequence[Row], folder: Path, *, level: float = 0.95) -> list[Path]:
    """Write ``health-<policy>-<size>.html`` for every judge in the rows of ``health.csv``.

    ``level`` names the intervals that the rows hold. Equal rows give equal bytes.
    """
    written = []
    for policy, size in dict.fromkeys((row["policy"], row["size"]) for row in rows):
        book = Book(select(rows, policy=policy, size=size))
        path = folder / f"health-{policy}-{size}.html"
        artifact.write_text(path, render(book, policy, size, level))
        written.append(path)
    return written


def render(book: Book, policy: str, size: str, level: float) -> str:
    """The page from its template."""
    figures = {name: Markup(health_plot.draw(make, book)) for name, make in _figures(book).items()}
    return page.render(
        "health.html.jinja",
        name=f"{policy_name(policy)} {size}",
        run=book.rows[0]["run"],
        seeds=book.seeds,
        level=level,
        book=book,
        figures=figures,
        glance=glance(book),
        outcomes=outcome_table(book),
        places=place_table(book),
        plans=plan_tables(book),
        lengths=length_lines(book),
    )


def _figures(book: Book) -> dict[str, Callable[[Book], str]]:
    """Figures by name, of what there are rows of."""
    named = {(row["group"], row["name"]) for row in book.rows}
    groups = {group for group, _ in named}
    made = {
        "outcome": (health_plot.outcomes, "outcome" in groups),
        "score": (health_plot.scores, "score" in groups),
        "position": (health_plot.position, "position" in groups),
        "repeats": (health_plot.repeats, ("repeats", "duplicates") in named),
        "calibration": (health_plot.reliability, "calibration" in groups),
        "length": (health_plot.length, bool(length_lines(book))),
    }
    return {name: make for name, (make, there) in made.items() if there}


# ---- tables ----------------------------------------------------------------------------------


def glance(book: Book) -> list[dict[str, Any]]:
    """One line a benchmark with what a reader looks at first."""
    lines = []
    for name in book.benchmarks:
        bias = book.get(name, "position", "bias", 1) or book.get(name, "position", "bias:lists", 1)
        lines.append(
            {
                "benchmark": name,
                "ok": book.get(name, "outcome", "ok"),
                "tie": book.get(name, "tie", "top shared", 1),
                "bias": bias,
                "consistent": book.get(name, "position", "consistency", 1),
                "consistent_k": book.last(name, "position", "consistency"),
                "duplicates": book.last(name, "repeats", "duplicates"),
                "overconfidence": book.last(name, "calibration", "overconfidence"),
                "ece": book.last(name, "calibration", "ece"),
                "gap": book.get(name, "length", "gap", 1),
            }
        )
    return lines


def outcome_table(book: Book) -> dict[str, Any]:
    """Outcomes that occur, of the samples and of greedy decoding, by benchmark."""
    met = {row["name"] for row in book.rows if row["group"] == "outcome" and row["value"] > 0}
    names = [name for name in OUTCOMES if name == "ok" or {name, f"greedy:{name}"} & met]
    lines = []
    for benchmark in book.with_rows("outcome"):
        for kind, prefix in (("sampled", ""), ("greedy", "greedy:")):
            cells = [book.get(benchmark, "outcome", f"{prefix}{name}") for name in names]
            if cells[0]:
                lines.append({"benchmark": benchmark, "kind": kind, "cells": cells})
    return {"names": names, "lines": lines}


def place_table(book: Book) -> dict[str, Any]:
    """How often each place wins, and how often two samples agree."""
    lines, found = [], []
    for benchmark in book.with_rows("position"):
        agreement = [
            book.get(benchmark, "position", f"agreement:{name}", 1) for name in ("same", "other")
        ]
        places = book.numbered(benchmark, "position", "place")
        found.append(places)
        lines.append({"benchmark": benchmark, "places": places, "agreement": agreement})
    return {"most": max((place for places in found for place in places), default=0), "lines": lines}


def plan_tables(book: Book) -> list[dict[str, Any]]:
    """Accuracy and tokens of each order plan at each k, with paired gains, by benchmark."""
    tables = []
    for benchmark in book.with_rows("plan"):
        plans = [plan for plan in PLANS if book.ks(benchmark, "plan", plan)]
        ks = sorted({k for plan in plans for k in book.ks(benchmark, "plan", plan)})
        lines = []
        for k in ks:
            names = [n for p in plans for n in (p, f"{p}:tokens", f"{p}:uncached")]
            at = {name: book.get(benchmark, "plan", name, k) for name in (*names, *GAINS)}
            counts = [row["count"] for plan in plans if (row := at[plan])]
            lines.append({"k": k, "items": counts[0], **at})
        gains = [name for name in GAINS if any(line[name] for line in lines)]
        tables.append({"benchmark": benchmark, "plans": plans, "gains": gains, "lines": lines})
    return tables


def length_lines(book: Book) -> list[dict[str, Any]]:
    """Accuracy by length at each k, the slope beside the first, by benchmark."""
    lines = []
    for benchmark in book.with_rows("length"):
        for k in health_plot.length_ks(book, benchmark):
            at = {name: book.get(benchmark, "length", f"best {name}", k) for name in LENGTHS}
            lines.append(
                {
                    **{"benchmark": benchmark, "k": k, **at},
                    "gap": book.get(benchmark, "length", "gap", k),
                    "slope": book.get(benchmark, "length", "slope", k),
                }
            )
    return lines
