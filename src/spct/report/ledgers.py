"""What the stages kept and left out, and why: ledgers as tables, and the yield of RFT as a figure.

Files are known by their place in the results tree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from spct.artifact import BrokenArtifact
from spct.report.page import inline_svg
from spct.scaling.drawing import svg_text
from spct.scaling.plot import STYLE

_PLACE = re.compile(r"seed(?P<seed>\d+)/(?P<stage>\w+)(?:/(?P<slot>[\w.\-]+))?/[^/]+$")
KEPT = "#009e73"
REASON_COLORS = ("#d55e00", "#e69f00", "#56b4e9", "#cc79a7", "#0072b2", "#f0e442", "#6b6b6b")


def place(path: Path) -> dict[str, str]:
    """Stage, slot (size or policy) and seed of a file in the results tree, as far as it tells."""
    found = _PLACE.search(path.as_posix())
    if found is None:
        return {"stage": str(path), "slot": "", "seed": ""}
    stage = {"data": "prepare"}.get(found["stage"], found["stage"])
    return {"stage": stage, "slot": found["slot"] or "", "seed": found["seed"]}


def place_name(where: dict[str, str]) -> str:
    """Stage and slot as one name."""
    return " ".join(filter(None, (where["stage"], where["slot"])))


def read_ledger(path: Path) -> dict[str, Any]:
    """A ledger with its place, its reasons by number, and what the reader must know about it.

    Raises :class:`spct.artifact.BrokenArtifact` if it is missing or no JSON.
    """
    book = read_json(path)
    where = place(path)
    warnings = []
    if book.get("kept") == 0 or book.get("allow_empty") or book.get("empty"):
        warnings.append(
            f"{place_name(where)}, seed {where['seed']}: nothing was kept of {book.get('in')}; "
            "the run went on because of allow_empty"
        )
    rejected = sorted(book.get("rejected", {}).items(), key=lambda pair: -pair[1])
    return {**where, **book, "rejected": rejected, "warnings": warnings}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that a stage wrote. Raises :class:`spct.artifact.BrokenArtifact`."""
    if not path.is_file():
        raise BrokenArtifact(f"{path} is missing; run the stage that writes it")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise BrokenArtifact(f"{path} is not JSON ({error}); run its stage again") from error


# ---- the yield of rejective fine-tuning --------------------------------------------------------


def rft_yield(books: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What ``select`` kept of the trajectories: ``reasons`` in columns, a line a size and seed.

    ``by_n`` has the same by number of responses (``n``), where the ledgers tell it; ``figure``
    the shares as a Markup, None if nothing was selected.
    """
    chosen = [book for book in books if book["stage"] == "select"]
    totals: dict[str, int] = {}
    for book in chosen:
        for reason, n in book["rejected"]:
            totals[reason] = totals.get(reason, 0) + n
    reasons = sorted(totals, key=lambda reason: -totals[reason])
    lines = [_line(book, dict(book["rejected"]), reasons) for book in chosen]
    by_n = [
        {"n": n, **_line(book | {"in": sum(counts.values()), "kept": kept}, counts, reasons)}
        for book in chosen
        for n, counts in (book.get("detail") or {}).get("by_n", {}).items()
        for kept in [counts.get("kept", 0)]
    ]
    drawn = [line for line in lines if line["in"]]
    figure = inline_svg(_draw(drawn, reasons)) if drawn else None
    return {"reasons": reasons, "lines": lines, "by_n": by_n, "figure": figure}


def _line(book: dict[str, Any], counts: dict[str, int], reasons: Sequence[str]) -> dict[str, Any]:
    total, kept = book.get("in") or 0, book.get("kept") or 0
    return {
        **{"slot": book["slot"], "seed": book["seed"], "in": total, "kept": kept},
        "share": kept / total if total else float("nan"),
        "counts": [counts.get(reason, 0) for reason in reasons],
    }


def _draw(lines: Sequence[dict[str, Any]], reasons: Sequence[str]) -> str:
    """SVG text: a bar for each size and seed, what was kept first, then every reason."""
    seeds = len({line["seed"] for line in lines}) > 1
    names = [line["slot"] + (f", seed {line['seed']}" if seeds else "") for line in lines]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 1.2 + 0.42 * len(lines)), layout="constrained")
        axis = figure.subplots()
        left = [0.0] * len(lines)
        for at, part in enumerate(("kept", *reasons)):
            counts = [line["kept"] if not at else line["counts"][at - 1] for line in lines]
            shares = [n / line["in"] for n, line in zip(counts, lines, strict=True)]
            color = REASON_COLORS[(at - 1) % len(REASON_COLORS)] if at else KEPT
            axis.barh(
                names, shares, left=left, color=color, label=part.replace("_", " "), height=0.72
            )
            left = [a + b for a, b in zip(left, shares, strict=True)]
        axis.invert_yaxis()
        axis.set_xlim(0, 1)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        axis.set_xlabel("share of the trajectories")
        axis.grid(False, axis="y")
        figure.legend(loc="outside upper left", ncols=6, frameon=False, fontsize=8)
        return svg_text(figure)
