"""Summaries of hand-made cells: which items count, how errors add up, which draws are shared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spct.records import Item, Label
from spct.scaling.banks import Bench
from spct.scaling.cells import Cell, CellKey
from spct.scaling.measure import Group, Measured
from spct.schema import ScalingConfig

CFG = ScalingConfig(
    ks=[1],
    k_meta_share=0.5,
    subsets=20,
    bootstrap=300,
    level=0.95,
    invalid="drop",
    adaptive=[],
    max_repeats=1.0,
)
KEY = CellKey("base", "m", "voting", 1, 1)
ALL = Group("set", "all")


def bench(seed: int, subsets: Sequence[str]) -> Bench:
    """An item for each letter, which names its subset."""
    items = [
        Item(
            id=f"{seed}-{i}",
            dataset="set",
            subset=subset,
            domain="",
            messages=({"role": "user", "content": f"{seed} {i}"},),
            responses=("a", "b"),
            label=Label("best", 0),
        )
        for i, subset in enumerate(subsets)
    ]
    none = np.zeros((len(items), 2), dtype=np.bool_)
    return Bench(seed, Path("set"), items, {}, none, none, none, none[:, 0])


def cell(accuracy: list[float], **others: list[float]) -> Cell:
    names = [field.name for field in fields(Cell) if field.name not in ("accuracy", "auc")]
    values = {name: np.array(others.get(name, [0.0] * len(accuracy))) for name in names}
    return Cell(np.array(accuracy), **values)


def measured(*benches: Bench) -> Measured:
    return Measured(CFG, 0, {each.seed: each for each in benches})


def test_items_without_a_value_do_not_count() -> None:
    found = measured(bench(0, "xxyy"))
    found.add(0, {KEY: cell([1, 0, np.nan, np.nan], tokens=[1, 3, 50, 50], tied=[1, 1, 0, 0])})
    summary: Any = found.summary(KEY, ALL, [0])
    assert (summary.accuracy, summary.items, summary.tokens, summary.tie_rate) == (0.5, 2, 2, 1)
    assert found.clusters(KEY, ALL, [0]) == 2
    assert found.summary(KEY, Group("set", "y"), [0]) is None
    assert found.difference(KEY, KEY, Group("set", "y")) is None


def test_errors_of_items_and_seeds_add_up_as_independent_ones() -> None:
    found = measured(bench(0, "aaaa"), bench(1, "aa"))
    found.add(0, {KEY: cell([1.0] * 4, error=[0.1, 0.2, 0, 0], rerun=[0.25, 0, 0, 0])})
    found.add(1, {KEY: cell([0.0] * 2, error=[0, 0.2], rerun=[0, 0.75])})
    one: Any = found.summary(KEY, ALL, [0])
    both: Any = found.summary(KEY, ALL, [0, 1])
    assert one.mc_se == pytest.approx(math.sqrt(0.05) / 4)
    assert one.rerun_sd == pytest.approx(0.5 / 4)
    assert both.mc_se == pytest.approx(math.sqrt(0.09) / 6)
    assert both.rerun_sd == pytest.approx(1 / 6)
    assert both.accuracy == pytest.approx(4 / 6)
    # 0.5 ± 6.4, as far as a share goes
    assert both.low_seeds < 0.01 and both.high_seeds > 0.99


def test_a_rerun_nobody_can_tell_is_told_as_that() -> None:
    found = measured(bench(0, "aa"))
    found.add(0, {KEY: cell([1, 1], rerun=[np.nan, 0.2])})
    summary: Any = found.summary(KEY, ALL, [0])
    assert math.isnan(summary.rerun_sd) and math.isnan(summary.low_seeds)


def test_items_of_no_subset_count_once() -> None:
    """Sources write ``all`` where a row names no subset: the whole is not measured twice."""
    found = measured(bench(0, ["x", "all", "y"]))
    assert found.groups == [ALL, Group("set", "x"), Group("set", "y")]
    assert [found.rows_of(group, 0).tolist() for group in found.groups] == [[0, 1, 2], [0], [2]]


def test_groups_and_other_cells_share_the_draws_of_an_item() -> None:
    found = measured(bench(0, "xxy"))
    assert found.groups == [ALL, Group("set", "x"), Group("set", "y")]
    whole, part = found.weights(ALL, 0)[:, :2], found.weights(Group("set", "x"), 0)
    some = whole.sum(axis=1) > 0
    np.testing.assert_allclose(
        whole[some] / whole[some].sum(axis=1, keepdims=True), part[some], rtol=1e-5
    )
    found.add(0, {KEY: cell([1, 0, 0])})
    other = found.beside()
    assert not other.cells and other.weights(ALL, 0) is found.weights(ALL, 0)
    other.add(0, {KEY: cell([0, 1, 1])})
    mine, theirs = (each.statistic(KEY, ALL, 0) for each in (found, other))
    assert mine is not None and theirs is not None
    np.testing.assert_allclose(mine.draws + theirs.draws, 1, rtol=1e-5)


def test_pooled_rows_need_every_seed() -> None:
    found = measured(bench(0, "aa"), bench(1, "aa"), bench(2, "aa"))
    late = cell([1, 1])
    for seed in (0, 1):
        found.add(seed, {KEY: late})
    assert list(found.seeds(KEY)) == [("0", [0]), ("1", [1])]
    found.add(2, {KEY: late})
    assert list(found.seeds(KEY))[-1] == ("all", [0, 1, 2])
    gap: Any = found.difference(KEY, KEY, ALL)
    assert (gap.value, gap.seeds, gap.items) == (0, 3, 6)
