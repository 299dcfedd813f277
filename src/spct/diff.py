"""``spct diff RUN RUN``: what differed between two finished runs, as text or JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from spct.compare import Difference, Setting, compare

SHOWN = 20  # rows of the results, unless all are asked for


def text(found: Difference, shown: int | None = SHOWN) -> Iterator[str]:
    """Lines for people; ``shown`` rows of the results, or all."""
    a, b = found.runs
    yield f"{a} → {b}"
    yield from _said_settings("Settings", found.settings, "all slices are equal")
    for run, names in zip(found.runs, found.only, strict=True):
        if names:
            yield f"  slices of {run} alone: {', '.join(names)}"
    yield from ("", "Work")
    for state, meaning in (
        ("shared", "the same files"),
        ("equal", "made twice, equal content hashes"),
        ("different", "different content hashes"),
        ("only a", f"of {a} alone"),
        ("only b", f"of {b} alone"),
    ):
        if pieces := found.work[state]:
            yield f"  {meaning} ({len(pieces)}): {', '.join(pieces)}"
    yield from _said_settings(
        "Versions, hardware, code", found.circumstances, "no difference is recorded"
    )
    yield from _said_results(found, shown)


def _said_settings(title: str, settings: Sequence[Setting], nothing: str) -> Iterator[str]:
    yield from ("", title)
    if not settings:
        yield f"  {nothing}"
    for setting in settings:
        where = f"  [{', '.join(setting.slices)}]" if setting.slices else ""
        yield f"  {setting.key}: {setting.a} → {setting.b}{where}"


def _said_results(found: Difference, shown: int | None) -> Iterator[str]:
    yield from (
        "",
        "Results: accuracy in percent, difference in points, each with its own interval",
    )
    if found.tables_equal:
        yield "  curves.csv is the same file"
        return
    moved = [point for point in found.points if point.difference]
    equal = len(found.points) - len(moved)
    alone = [f"{n} of {run} alone" for n, run in zip(found.unmatched, found.runs, strict=True)]
    yield f"  {len(found.points)} rows of both, {equal} of them equal; {', '.join(alone)}"
    width = max((len(point.name) for point in moved[:shown]), default=0)
    for point in moved[:shown]:
        mark = "  intervals apart" if point.apart else ""
        yield (
            f"  {100 * point.difference:+6.1f}  {point.name:{width}}  "
            f"{_interval(point.a)} → {_interval(point.b)}{mark}"
        )
    if shown is not None and len(moved) > shown:
        yield f"  … {len(moved) - shown} more (--all)"


def _interval(value: tuple[float, float, float]) -> str:
    middle, low, high = (100 * part for part in value)
    return f"{middle:.1f} ({low:.1f}–{high:.1f})" if low == low else f"{middle:.1f}"


def diff_cli(argv: Sequence[str]) -> int:
    """``spct diff RUN RUN [--all] [--json]``: print what differed; 0."""
    parser = argparse.ArgumentParser(prog="spct diff", description="what differed between two runs")
    parser.add_argument("runs", nargs=2, metavar="RUN", help="folder below results/")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--all", action="store_true", help="every row of the results")
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse_args(argv)
    found = compare(*(args.results / Path(run).name for run in args.runs))
    if args.json:
        values = asdict(found)
        for entry, point in zip(values["points"], found.points, strict=True):
            entry |= {"difference": point.difference, "apart": point.apart}
        print(json.dumps(values, indent=1))
    else:
        print(*text(found, None if args.all else SHOWN), sep="\n")
    return 0
