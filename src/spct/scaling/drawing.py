"""How figures are written: equal bytes for equal rows, and names from data as they are.

Matplotlib reads what stands between two ``$`` as mathematics, and leaves a label that begins with
an underscore out of a legend. Names of domains and benchmarks mean neither.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Any

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter


def save(figure: Figure, target: Path | IO[Any], kind: str = "svg") -> None:
    """Write a figure as ``svg`` or ``png``, without dates."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            own = isinstance(axis.get_major_formatter(), LogFormatter)  # it writes powers of ten
            for label in axis.get_ticklabels(which="both"):
                label.set_parse_math(own)
    svg: dict[str, Any] = {"metadata": {"Date": None, "Creator": None}}
    png: dict[str, Any] = {"metadata": {"Software": None}, "dpi": 160}
    figure.savefig(target, format=kind, **(svg if kind == "svg" else png))


def svg_text(figure: Figure) -> str:
    """The figure as the text of an SVG file."""
    buffer = io.StringIO()
    save(figure, buffer)
    return buffer.getvalue()


def listed(name: str) -> str:
    """A name as a label that every legend lists."""
    return f" {name}" if name.startswith("_") else name
