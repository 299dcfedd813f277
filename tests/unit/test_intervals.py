"""Intervals near 0 and 1 and for few items: exact coverage of coins and pairs, worlds by a draw."""

from __future__ import annotations

import math
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from spct.scaling.stats import Scale, Statistic, interval, p_value

COUNTS = (20, 30, 50, 100, 200)
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def certain(values: np.ndarray, scale: Scale) -> Statistic:
    """A mean whose draws vary exactly as the items say, without any drawing."""
    value = float(values.mean())
    half = math.sqrt(values.var(ddof=1) / len(values) / 2)
    draws = np.array([value - half, value + half])
    return Statistic(value, draws, len(values), scale, values.astype(np.float32))


@cache
def coins(n: int) -> list[tuple[float, float]]:
    """The interval for each number of right ones among n."""
    return [
        interval(certain((np.arange(n) < right).astype(float), "share"), 0.95, n)
        for right in range(n + 1)
    ]


def held(n: int, p: float) -> float:
    """Chance that the interval of n coins holds p, over all numbers of right ones."""
    return sum(
        math.comb(n, right) * p**right * (1 - p) ** (n - right)
        for right, (low, high) in enumerate(coins(n))
        if low <= p <= high
    )


@pytest.mark.parametrize("n", COUNTS)
def test_accuracies_are_covered_up_to_99_percent(n: int) -> None:
    """Whatever the accuracy; on the whole not much more often than stated."""
    found = np.array([held(n, p) for p in np.linspace(0.5, 0.99, 99)])
    assert found.min() > 0.93
    assert 0.945 < found.mean() < 0.973
    assert [held(n, 1 - p) for p in (0.9, 0.98)] == pytest.approx([held(n, p) for p in (0.9, 0.98)])


@pytest.mark.parametrize(
    ("n", "low"),
    [
        pytest.param(30, 0.97, id="30"),
        pytest.param(100, 0.94, id="100"),
        pytest.param(200, 0.93, id="200"),
    ],
)
def test_98_percent_is_covered(n: int, low: float) -> None:
    """Percentiles covered 0.46, 0.86 and 0.91 of it; what 30 items can cover is 0.88 or 0.978."""
    assert low < held(n, 0.98) < 0.985


@cache
def pairs(n: int) -> list[tuple[int, int, float, float, float]]:
    """Interval and p for every number of pairs that a wins and that b wins."""
    found = []
    for a in range(n + 1):
        for b in range(n + 1 - a):
            values = np.repeat([1.0, -1.0, 0.0], [a, b, n - a - b])
            one = certain(values, "gap")
            found.append((a, b, *interval(one, 0.95, n), p_value(one, n)))
    return found


def chance(n: int, a: int, b: int, wins: float, losses: float) -> float:
    ways = math.comb(n, a) * math.comb(n - a, b)
    return ways * wins**a * losses**b * (1 - wins - losses) ** (n - a - b)


@pytest.mark.parametrize(
    ("wins", "losses"),
    [
        pytest.param(0.04, 0.01, id="three points near 98"),
        pytest.param(0.03, 0.0, id="never worse"),
        pytest.param(0.01, 0.01, id="equal near 98"),
        pytest.param(0.15, 0.05, id="ten points"),
        pytest.param(0.25, 0.25, id="equal in the middle"),
    ],
)
@pytest.mark.parametrize("n", [20, 30, 60])
def test_differences_are_covered_and_seldom_found_where_there_are_none(
    n: int, wins: float, losses: float
) -> None:
    gap, covered, false = wins - losses, 0.0, 0.0
    for a, b, low, high, p in pairs(n):
        weight = chance(n, a, b, wins, losses)
        covered += weight * (low <= gap <= high)
        false += weight * (p < 0.05)
        assert (p < 0.05) == (low > 0 or high < 0)
    assert covered > 0.93
    assert wins != losses or false < 0.06


def test_a_real_difference_near_98_is_found_with_enough_items() -> None:
    """98 against 92 % of 300 items; of 20 items nothing is."""
    values = np.repeat([1.0, -1.0, 0.0], [20, 2, 278])
    assert p_value(certain(values, "gap"), 300) < 0.001
    assert p_value(certain(np.repeat([1.0, 0.0], [1, 19]), "gap"), 20) > 0.3


@pytest.mark.medium
def test_the_table_of_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """``benchmarks/coverage.py`` with few replicates: no cell fails, and the old way does."""
    spec = spec_from_file_location("coverage_table", BENCHMARKS / "coverage.py")
    assert spec is not None and spec.loader is not None
    table = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, table)  # its dataclasses look themselves up
    spec.loader.exec_module(table)
    cells = table.measure(100)
    assert min(cell.now for cell in cells) > 0.86  # 0.94 less the luck of 100 replicates
    for kind in {cell.kind for cell in cells}:
        mine = [cell for cell in cells if cell.kind == kind]
        assert np.mean([cell.now for cell in mine]) > 0.945
        if kind.startswith(("accuracy", "ROC")):
            assert np.mean([cell.now for cell in mine]) < 0.98
            assert min(cell.before for cell in mine) < 0.5
