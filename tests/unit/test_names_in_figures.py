"""Names from data in figures and tables: drawn as they are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.figure import Figure
from report_world import point

from spct import artifact
from spct.report.health_plot import draw
from spct.report.training import draw_training
from spct.scaling import plot
from spct.scaling.drawing import svg_text
from spct.scaling.plot import STYLE

ODD = (r"$\frac{$", "cost $5 or $6", r"a\$b", "C++", "_private", "100%", "<b>&amp;", "éß")
AS_TEXT: Any = {**STYLE, "svg.fonttype": "none"}


def shown(svg: str) -> set[str]:
    """What an SVG with its text as text says."""
    marks = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    return {re.sub("&(lt|gt|amp);", lambda m: marks[m[0]], word).strip() for word in words}


def test_every_domain_is_drawn_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLE, "svg.fonttype", "none")
    log = [{"step": i, **{f"reward/{name}": i / 9 for name in ODD}} for i in range(3)]
    assert set(ODD) <= shown(draw_training({"0": log}))


def test_every_place_of_a_name_in_a_figure() -> None:
    with matplotlib.rc_context(AS_TEXT):
        for name in ODD:
            figure = Figure()
            left, right = figure.subplots(1, 2)
            figure.suptitle(f"s {name}")
            left.set_title(f"t {name}")
            left.barh([name], [1])
            right.set_yticks([0], [f"y {name}"])
            right.set_xscale("log")
            right.set_xlim(1e6, 1e9)
            right.annotate(f"a {name}", (1e7, 0))
            said = svg_text(figure)
            assert {f"s {name}", f"t {name}", name, f"y {name}", f"a {name}"} <= shown(said)
            assert not any("mathdefault" in word for word in shown(said))  # 10 to the 6 is drawn


def test_the_scaling_figure_of_a_benchmark_with_any_name(tmp_path: Path) -> None:
    rows = [
        {**point("base", "m", "voting", k, "0", 0.5 + k / 100), "benchmark": name}
        for name in (r"$\frac{$", "_x $1 $2")
        for k in (1, 2, 4)
    ]
    plot.draw(rows, tmp_path / "a.svg", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_judges_page_too() -> None:
    def figure(_: Any) -> str:
        made = Figure()
        made.subplots().set_title(r"$\frac{$")
        return svg_text(made)

    assert r"$\frac{$" in shown(draw(figure, None))  # type: ignore[arg-type]


def test_tables_are_utf8_wherever_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    artifact.write_csv(tmp_path / "a.csv", ["name"], [{"name": name} for name in ODD])
    assert "éß" in (tmp_path / "a.csv").read_bytes().decode("utf-8")
