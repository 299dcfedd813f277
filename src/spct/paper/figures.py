"""The paper's Figures 1 and 6 (votes), 4 (votes against size) and 7 (length) in our numbers.

Equal numbers give equal bytes, as in :mod:`spct.scaling.plot`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, StrMethodFormatter

from spct import artifact
from spct.paper.members import Ref
from spct.paper.results import Results
from spct.scaling.drawing import save
from spct.scaling.plot import STYLE
from spct.scaling.table import Row, select

KS = (1, 2, 4, 8, 16, 32)


class Curve(NamedTuple):
    """A method over k (``{k}`` in ``ref``), or a dashed level where there is no k."""

    label: str
    ref: str
    color: str
    style: str = "-"
    marker: str = "o"


INFERENCE = (
    Curve("GRM + meta RM", "grm grpo meta_voting@{k}", "#0072b2", "-", "^"),
    Curve("GRM, voting", "grm grpo voting@{k}", "#0072b2", "-", "D"),
    Curve("GRM RFT, voting", "grm rft voting@{k}", "#e69f00", "-", "s"),
    Curve("GRM base, voting", "grm base voting@{k}", "#6b6b6b", "-", "o"),
    Curve("LLM-as-a-judge, voting", "llm_judge grpo voting@{k}", "#009e73", "-", "v"),
    Curve(
        "LLM-as-a-judge, token probability", "llm_judge grpo token_prob@{k}", "#009e73", ":", "v"
    ),
    Curve("CLoud, mean", "baselines cloud mean_scalar@{k}", "#cc79a7", "-", "P"),
    Curve("Bradley-Terry RM", "baselines btrm scalar", "#d55e00", "--"),
    Curve("PairRM", "baselines pairrm scalar", "#56b4e9", "--"),
    Curve("GRM, greedy", "grm grpo greedy", "#0072b2", "--"),
)
SIZES = (("small", "#9ecae1"), ("main", "#0072b2"), ("large", "#08306b"))
POLICIES = (("base", "#6b6b6b"), ("rft", "#e69f00"), ("grpo", "#0072b2"))


def refs() -> list[Ref]:
    """Every number that the figures show, if the set has it."""
    texts = [curve.ref for curve in INFERENCE] + [_votes(size) for size, _ in SIZES]
    texts += [_greedy(policy, size) for policy in ("rft", "grpo") for size, _ in SIZES]
    return [Ref.parse(text.format(k=k)) for text in texts for k in KS]


def _votes(size: str) -> str:
    return "grm grpo voting@{k}" if size == "main" else f"sizes grpo/{size} voting@{{k}}"


def _greedy(policy: str, size: str) -> str:
    return f"grm {policy} greedy" if size == "main" else f"sizes {policy}/{size} greedy"


def draw(results: Results, curves: Sequence[Row], out: Path) -> dict[str, Path]:
    """Write the three figures as SVG into ``out``, by name; ``curves`` are the reference's rows."""
    with matplotlib.rc_context(STYLE):
        made = {
            "inference": _inference(results),
            "sizes": _sizes(results),
            "lengths": _lengths(results, curves),
        }
        for name, figure in made.items():
            with artifact.atomic_path(out / f"{name}.svg") as aside:
                save(figure, aside)
    return {name: out / f"{name}.svg" for name in made}


def _figure(panels: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _inference(results: Results) -> Figure:
    """Votes of every judge, beside levels of those that do not vote: overall and on one benchmark
    that all of them can judge."""
    figure, axes = _figure(2)
    overall = results.members.overall
    for axis, names, title in (
        (axes[0], overall, f"overall ({', '.join(overall)})"),
        (axes[1], overall[:1], overall[0]),
    ):
        for curve in INFERENCE:
            if "{k}" in curve.ref:
                _curve(axis, results, curve, names)
            elif (score := results.mean(Ref.parse(curve.ref), names)) is not None:
                axis.axhline(score.value, color=curve.color, linestyle="--", linewidth=1.2)
                axis.plot([], [], color=curve.color, linestyle="--", label=curve.label)
        _over_k(axis, title)
    _legend(figure, axes)
    return figure


def _curve(axis: Axes, results: Results, curve: Curve, names: Sequence[str]) -> None:
    found = [(k, results.mean(Ref.parse(curve.ref.format(k=k)), names)) for k in KS]
    held = [(k, score) for k, score in found if score is not None]
    if not held:
        return
    ks = [k for k, _ in held]
    low, high = ([getattr(score, side) for _, score in held] for side in ("low", "high"))
    axis.fill_between(ks, low, high, color=curve.color, alpha=0.12, linewidth=0)
    values = [score.value for _, score in held]
    look: dict[str, Any] = {"color": curve.color, "linestyle": curve.style, "markersize": 5}
    axis.plot(ks, values, marker=curve.marker, label=curve.label, **look)


def _over_k(axis: Axes, title: str) -> None:
    axis.set_title(title)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(KS))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([str(k) for k in KS])
    axis.set_xlabel("k, samples in a vote")
    axis.set_ylabel("accuracy")
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _sizes(results: Results) -> Figure:
    """Left: votes of each size after RL. Right: greedy judgements over parameters."""
    figure, axes = _figure(2)
    overall = results.members.overall
    for size, color in SIZES:
        _curve(axes[0], results, Curve(f"{size}, voting", _votes(size), color), overall)
    _over_k(axes[0], "inference: more votes")
    for policy, color, label in (("rft", "#e69f00", "RFT"), ("grpo", "#0072b2", "RFT + RL")):
        _over_params(axes[1], results, policy, color, f"{label}, greedy")
    best = results.mean(Ref.parse("grm grpo voting@32"), overall)
    if best is not None:
        axes[1].axhline(best.value, color="#0072b2", linestyle="--", linewidth=1.2)
        axes[1].plot([], [], color="#0072b2", linestyle="--", label="main, voting@32")
    axes[1].set_title("training: more parameters")
    axes[1].set_xlabel("parameters")
    axes[1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bottom, top = zip(*(axis.get_ylim() for axis in axes), strict=True)
    for axis in axes:
        axis.set_ylim(min(bottom), max(top))
    _legend(figure, axes)
    return figure


def _over_params(axis: Axes, results: Results, policy: str, color: str, label: str) -> None:
    points = []
    for size, _ in SIZES:
        params = results.params.get(results.members.sizes.get(size, ""))
        score = results.mean(Ref.parse(_greedy(policy, size)), results.members.overall)
        if params and score is not None:
            points.append((params, score))
    if points:
        values = np.array([[score.value, score.low, score.high] for _, score in points]).T
        error = [values[0] - values[1], values[2] - values[0]]
        axis.errorbar(
            [p for p, _ in points], values[0], yerr=error, color=color, marker="o", capsize=3,
            label=label,
        )  # fmt: skip
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator([p for p, _ in points]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _lengths(results: Results, curves: Sequence[Row]) -> Figure:
    """Mean tokens of one sampled judgement by benchmark and policy."""
    figure, (axis,) = _figure(1)
    members = results.members
    names = members.benchmarks
    ones = select(curves, method="voting", k=1, subset="all", size=members.sizes["main"])
    for place, (policy, color) in enumerate(POLICIES):
        heights = []
        for name in names:
            tokens = [row["tokens"] for row in select(ones, policy=policy, benchmark=name)]
            heights.append(float(np.mean(tokens)) if tokens else 0.0)
        where = np.arange(len(names)) + 0.27 * (place - 1)
        bars = axis.bar(where, heights, width=0.25, color=color, label=policy)
        axis.bar_label(bars, fmt="%.1f", fontsize=8)
    axis.set_xticks(np.arange(len(names)), names)
    axis.set_ylabel("tokens of a judgement")
    axis.grid(axis="x", visible=False)
    _legend(figure, [axis])
    return figure


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    known: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    if known:
        figure.legend(
            list(known.values()), list(known), loc="outside lower center", ncols=5, frameon=False
        )
