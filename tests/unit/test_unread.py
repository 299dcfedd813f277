"""Judges of whom little or nothing can be read: from banks to tables, figures and the page."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from report_world import CFG as REPORT
from test_curves import CFG, make_bank, make_items

from spct.health import build as health
from spct.records import Sample, write_bank, write_items
from spct.report import build
from spct.scaling import curves
from spct.scaling.doubt import doubtful, remark
from spct.scaling.doubt import warnings as doubts
from spct.scaling.table import headline, read_rows, select
from spct.schema import HealthConfig

Silent = Callable[[Sample], bool]
TABLES = ("comparisons", "surface", "official", "compute", "crossover", "signals", "meta_auc")


def unread(row: Sample) -> Sample:
    """The row of a prompt that did not fit."""
    return replace(
        row,
        outcome="prompt_too_long",
        scores=None,
        correct=None,
        meta_score=None,
        text="",
        prompt_tokens=0,
        completion_tokens=0,
    )


def reported(root: Path, silent: Silent) -> tuple[list[dict[str, Any]], str]:
    """The curves and the page of three judges, of whom ``silent`` samples hold nothing."""
    items, bench = make_items(0, each=12), root / "bench.parquet"
    write_items(bench, items, seed=0)
    banks = []
    for policy, size, skill in (("base", "m", 0.3), ("grpo", "m", 1.6), ("base", "l", 0.6)):
        rows = make_bank(items, skill, meta=policy == "grpo", n=4)
        told = [unread(row) if silent(row) else row for row in rows]
        extra = {"metarm_params": 50} if policy == "grpo" else {}
        banks.append(root / f"{policy}-{size}.parquet")
        params = 1000 if size == "m" else 4000
        write_bank(banks[-1], told, seed=0, policy=policy, size=size, params=params, **extra)
    scaling = replace(CFG.scaling, ks=[1, 2, 4], bootstrap=50, adaptive=[0.9])
    cfg: Any = SimpleNamespace(scaling=scaling, health=HealthConfig(5), report=REPORT.report)
    out: dict[str, Any] = {f"out_{name}": root / f"{name}.csv" for name in TABLES}
    curves.run(cfg, 0, items=[bench], banks=banks, run="t", out=root / "curves.csv", **out)
    health.run(cfg, 0, items=[bench], banks=banks, run="t", out=root / "health.csv")
    names = ("curves", "comparisons", "surface", "official", "health")
    paths: dict[str, Any] = {name: root / f"{name}.csv" for name in names}
    build.run(cfg, 0, **paths, ledgers=[], run="t", out=root / "reports")
    page = (root / "reports/report.html").read_text(encoding="utf-8")
    return headline(read_rows(root / "curves.csv")), page


@pytest.mark.parametrize(
    "silent",
    [
        pytest.param(lambda row: row.item_id.startswith("toy_pairs"), id="headline"),
        pytest.param(
            lambda row: row.item_id.startswith("toy_single"), id="another", marks=pytest.mark.medium
        ),
        pytest.param(lambda row: True, id="all", marks=pytest.mark.medium),
    ],
)
def test_nothing_to_read_is_reported_without_dividing_by_it(tmp_path: Path, silent: Silent) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows, page = reported(tmp_path, silent)
    found = re.search(r"less than 80 % of the samples can be read \((.*?)\)", page)
    assert found is not None
    assert set(found[1].split(", ")) == {"base/l 0 %", "base/m 0 %", "grpo/m 0 %"}
    lost = [row for row in select(rows, method="voting") if row["invalid_rate"] == 1]
    assert lost and all(doubtful(row) and row["readable"] == 0 for row in lost)
    assert all(row["accuracy_readable"] != row["accuracy_readable"] for row in lost)


@pytest.mark.medium
def test_a_gain_that_is_more_votes_with_something_to_read_is_told_as_such(tmp_path: Path) -> None:
    """One sample of four can be read: all votes gain by k, those with something to read do not."""
    rows, page = reported(tmp_path, lambda row: row.sample != 1)
    one, four = (
        select(rows, policy="grpo", benchmark="toy_pairs", method="voting", k=k)[0] for k in (1, 4)
    )
    assert one["readable"] == pytest.approx(four["readable"] / 4, rel=1e-4)
    assert one["accuracy_readable"] == pytest.approx(four["accuracy_readable"], rel=1e-4)
    assert four["accuracy"] > one["accuracy"] + 0.1
    assert "<th>gain over readable votes</th>" in page and "<td>+0.0</td>" in page
    head = re.search(r"<p class=\"warning\">.*toy_pairs: less than 80 %", page)
    assert head is not None


@pytest.mark.parametrize(
    ("invalid", "told"),
    [
        pytest.param(0.2, "", id="at the rate"),
        pytest.param(0.2004, " (79 % readable)", id="just below"),
        pytest.param(1.0, " (0 % readable)", id="nothing"),
        pytest.param(float("nan"), "", id="no samples"),
    ],
)
def test_the_rate_is_a_rate_of_samples(invalid: float, told: str) -> None:
    row = {"invalid_rate": invalid, "method": "voting", "benchmark": "b", "policy": "p", "size": ""}
    assert remark([row]) == told
    assert bool(doubts([row])) == bool(told)
