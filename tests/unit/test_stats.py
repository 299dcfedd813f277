"""Intervals, paired differences, seeds as a level, Student's t, Holm's adjustment."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spct.scaling import student
from spct.scaling.stats import (
    Statistic,
    detectable,
    difference,
    holm,
    interval,
    item_weights,
    mean,
    p_value,
    pooled,
    seeds_interval,
)


def names(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def test_items_of_one_prompt_are_drawn_together() -> None:
    weights = item_weights(["a", "b", "a", "c"], 500, 1)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    twins = np.repeat(np.arange(50), 2)
    values = np.random.default_rng(0).random(50)[twins]
    spread = (item_weights([str(twin) for twin in twins], 2000, 0) @ values).std()
    naive = (item_weights(names(100), 2000, 0) @ values).std()
    assert spread > 1.2 * naive


def test_a_prompt_has_the_same_draws_in_any_company() -> None:
    full, part = item_weights(list("abcd"), 50, 0), item_weights(list("db"), 50, 0)
    some = (full[:, 1] > 0) & (part[:, 1] > 0)
    assert some.any()
    np.testing.assert_allclose(
        full[some, 3] / full[some, 1], part[some, 0] / part[some, 1], rtol=1e-5
    )
    assert (item_weights(list("abcd"), 50, 1) != full).any()
    with pytest.raises(ValueError, match="no items"):
        item_weights([], 5)


def test_a_draw_without_any_item_is_the_plain_mean() -> None:
    """A third of the draws of one prompt are of none."""
    np.testing.assert_array_equal(item_weights(["a", "a"], 200, 0), 0.5)


def test_draws_vary_as_much_as_the_standard_error_says() -> None:
    values = np.random.default_rng(1).normal(size=30)
    draws = mean(values, item_weights(names(30), 40_000, 0)).draws
    assert draws.std() == pytest.approx(values.std(ddof=1) / math.sqrt(30), rel=0.02)


def test_few_items_have_intervals_as_wide_as_t() -> None:
    """Plain percentiles of 8 normal values cover 90 %."""
    draw, weights = np.random.default_rng(0), item_weights(names(8), 999, 0)
    samples = draw.normal(size=(2000, 8))
    ends = np.array([interval(mean(row, weights).draws, 0.95, 8) for row in samples])
    assert 0.93 <= np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0)) <= 0.97


def test_values_that_are_missing_leave_the_mean() -> None:
    weights = item_weights(names(3), 400, 0)
    found = mean(np.array([1.0, np.nan, 0.0]), weights)
    assert (found.value, found.items) == (0.5, 2)
    mass = weights[:, 0] + weights[:, 2]
    expected = np.where(mass > 0, weights[:, 0] / np.where(mass > 0, mass, 1), 0.5)
    np.testing.assert_allclose(found.draws, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="no item has a value"):
        mean(np.array([np.nan] * 3), weights)


def test_rounding_takes_no_mean_beyond_its_values() -> None:
    draws = mean(np.array([0.0, 1.0, 0.0]), item_weights(names(3), 2000, 0)).draws
    assert draws.min() == 0.0 and draws.max() == 1.0


def test_pairing_removes_what_both_share() -> None:
    draw = np.random.default_rng(0)
    base = [draw.random(100) for _ in range(3)]
    shifts = [0.05, 0.06, -0.01]
    weights = [item_weights([f"{seed} {i}" for i in range(100)], 300, 0) for seed in range(3)]
    gaps = [
        mean(values + shift, w) - mean(values, w)
        for values, shift, w in zip(base, shifts, weights, strict=True)
    ]
    sure = difference(gaps[:1], 100, 0.95)
    assert sure.value == pytest.approx(0.05)
    assert sure.low == pytest.approx(0.05) and sure.high == pytest.approx(0.05)
    assert (sure.positive, sure.seeds, sure.items) == (1, 1, 100)
    assert sure.p < 0.01 and sure.mde == pytest.approx(0, abs=1e-9)
    assert math.isnan(sure.low_seeds) and math.isnan(sure.high_seeds)
    mixed = difference(gaps, 300, 0.95)
    assert (mixed.positive, mixed.seeds, mixed.items) == (2, 3, 300)
    assert mixed.value == pytest.approx(0.1 / 3)
    reach = 4.30265 * np.std(shifts, ddof=1) / math.sqrt(3)
    assert mixed.high_seeds - mixed.value == pytest.approx(reach, rel=1e-5)
    assert mixed.value - mixed.low_seeds == pytest.approx(reach, rel=1e-5)


def test_rounding_is_no_difference() -> None:
    values, weights = np.random.default_rng(0).random(500), item_weights(names(500), 400, 0)
    gap = difference([mean(values * 0.1 * 3, weights) - mean(values * 0.3, weights)], 500, 0.95)
    assert (gap.value, gap.low, gap.high, gap.p, gap.positive) == (0, 0, 0, 1, 0)


def test_seeds_are_pooled_by_their_items() -> None:
    parts = [Statistic(1.0, np.array([1.0, 0.8]), 30), Statistic(0.0, np.array([0.0, 0.4]), 10)]
    whole = pooled(parts)
    assert (whole.value, whole.items) == (0.75, 40)
    np.testing.assert_allclose(whole.draws, [0.75, 0.7])


def test_p_is_where_the_interval_ends_at_zero() -> None:
    draws = np.random.default_rng(0).normal(0.4, 0.2, 5000)
    p = p_value(draws, 12)
    low, _ = interval(draws, 1 - p, 12)
    assert low == pytest.approx(0, abs=0.005)
    assert p_value(-draws, 12) == pytest.approx(p)
    assert p > p_value(draws, 5000) == pytest.approx(2 * np.mean(draws <= 0), abs=0.001)
    assert p_value(np.zeros(99), 9) == p_value(np.ones(99), 1) == 1.0
    assert p_value(np.ones(99), 10_000) == pytest.approx(0.02, abs=1e-4)


def test_one_prompt_has_no_interval() -> None:
    assert all(math.isnan(end) for end in interval(np.ones(9), 0.95, 1))


def test_seeds_interval_is_students() -> None:
    """Values of a t interval worked by hand: mean 2, s = 1, t(0.975, 2) = 4.3027."""
    assert seeds_interval([1.0, 2.0, 3.0], 0.95) == pytest.approx((-0.48414, 4.48414), abs=1e-4)
    assert seeds_interval([1.0, 3.0], 0.9) == pytest.approx((2 - 6.31375, 2 + 6.31375), abs=1e-4)
    assert all(math.isnan(end) for end in seeds_interval([0.5], 0.95))


def test_detectable_effect_is_found_with_its_power() -> None:
    unit = np.random.default_rng(0).normal(size=200_000)
    unit /= unit.std(ddof=1)
    effect = detectable(unit, 0.95)
    assert effect == pytest.approx(2.8016, abs=1e-4)
    assert np.mean(unit + effect > NormalDist().inv_cdf(0.975)) == pytest.approx(0.8, abs=0.005)
    assert detectable(3 * unit, 0.9, power=0.5) == pytest.approx(3 * 1.64485, abs=1e-4)


@pytest.mark.parametrize(
    ("df", "p", "t"),
    [
        (1, 0.975, 12.7062), (2, 0.975, 4.3027), (3, 0.975, 3.1824), (4, 0.975, 2.7764),
        (5, 0.95, 2.0150), (9, 0.995, 3.2498), (10, 0.9, 1.3722), (29, 0.975, 2.0452),
        (30, 0.975, 2.0423), (120, 0.975, 1.9799), (2, 0.025, -4.3027), (7, 0.5, 0.0),
    ],
)  # fmt: skip
def test_student_has_the_values_of_the_tables(df: int, p: float, t: float) -> None:
    assert student.quantile(p, df) == pytest.approx(t, abs=5e-5)
    assert student.cdf(t, df) == pytest.approx(p, abs=5e-5)


@settings(deadline=None)
@given(df=st.integers(1, 400), t=st.floats(-30, 30))
def test_student_equals_its_density_summed(df: int, t: float) -> None:
    grid = np.linspace(0, abs(t), 20_001)
    scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    density = np.exp(scale - (df + 1) / 2 * np.log1p(grid**2 / df))
    area = float(np.trapezoid(density, grid))
    assert student.cdf(t, df) == pytest.approx(0.5 + math.copysign(area, t), abs=1e-6)


def test_student_tends_to_the_normal_and_says_what_it_cannot() -> None:
    assert student.quantile(0.975, 100_000) == pytest.approx(NormalDist().inv_cdf(0.975), abs=3e-5)
    with pytest.raises(ValueError, match="at least one degree"):
        student.cdf(1.0, 0)
    with pytest.raises(ValueError, match="strictly between"):
        student.quantile(1.0, 3)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
