"""Intervals, paired differences, seeds as a level, Student's t, Holm's adjustment."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spct.scaling import student
from spct.scaling.stats import (
    Scale,
    Statistic,
    averaged,
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
    found = [replace(mean(row, weights), scale="free") for row in samples]
    ends = np.array([interval(one, 0.95, 8) for one in found])
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
    assert 0 < sure.low < 0.05 < sure.high < 0.1
    assert (sure.positive, sure.seeds, sure.items) == (1, 1, 100)
    assert sure.p < 0.01 and 0 < sure.mde < 0.05
    assert math.isnan(sure.low_seeds) and math.isnan(sure.high_seeds)
    mixed = difference(gaps, 300, 0.95)
    assert (mixed.positive, mixed.seeds, mixed.items) == (2, 3, 300)
    assert mixed.value == pytest.approx(0.1 / 3)
    reach = 4.30265 * np.std(shifts, ddof=1) / math.sqrt(3)
    assert (mixed.high_seeds - mixed.low_seeds) / 2 == pytest.approx(reach, rel=0.05)
    assert mixed.low_seeds < 0 < mixed.value < mixed.high_seeds


def test_rounding_is_no_difference() -> None:
    values, weights = np.random.default_rng(0).random(500), item_weights(names(500), 400, 0)
    gap = difference([mean(values * 0.1 * 3, weights) - mean(values * 0.3, weights)], 500, 0.95)
    assert (gap.value, gap.p, gap.positive) == (0, 1, 0)
    assert gap.low == -gap.high and 0 < gap.high < 0.01  # of what was not seen


def test_seeds_are_pooled_by_their_items() -> None:
    parts = [Statistic(1.0, np.array([1.0, 0.8]), 30), Statistic(0.0, np.array([0.0, 0.4]), 10)]
    whole = pooled(parts)
    assert (whole.value, whole.items) == (0.75, 40)
    np.testing.assert_allclose(whole.draws, [0.75, 0.7])


def gap_of(draws: np.ndarray, value: float = 0.0, scale: Scale = "gap") -> Statistic:
    return Statistic(value, draws, 100, scale)


def test_p_is_where_the_interval_ends_at_zero() -> None:
    draws = np.random.default_rng(0).normal(0.2, 0.1, 5000)
    for prompts in (12, 5000):
        found = gap_of(draws, 0.2)
        p = p_value(found, prompts)
        assert interval(found, 1 - p, prompts)[0] == pytest.approx(0, abs=1e-9)
        assert p_value(gap_of(-draws, -0.2), prompts) == pytest.approx(p)
    assert p_value(gap_of(draws, 0.2), 12) > p == pytest.approx(0.0455, abs=0.004)
    assert p_value(gap_of(np.zeros(99)), 9) == p_value(gap_of(np.ones(99), 1.0), 1) == 1.0


@pytest.mark.parametrize("scale", ["share", "gap", "free"])
def test_one_prompt_has_no_interval(scale: Scale) -> None:
    found = gap_of(np.ones(9), 1.0, scale)
    assert all(math.isnan(end) for end in interval(found, 0.95, 1))


def test_seeds_interval_is_students_where_items_abound() -> None:
    """Values of a t interval worked by hand: s = 0.1, t(0.975, 2) = 4.3027, t(0.95, 1) = 6.31."""

    def seeds_of(*means: float) -> list[Statistic]:
        return [Statistic(each, np.full(9, each), 10**9, "gap") for each in means]

    three, two = seeds_of(0.1, 0.2, 0.3), seeds_of(0.1, 0.12)
    many = 10**9
    assert seeds_interval(three, 0.95, many) == pytest.approx((-0.048414, 0.448414), abs=1e-5)
    assert seeds_interval(two, 0.9, many) == pytest.approx((0.046862, 0.173138), abs=1e-6)
    assert all(math.isnan(end) for end in seeds_interval(three[:1], 0.95, many))


def test_seeds_that_are_all_right_leave_room_for_one_that_is_not() -> None:
    alike = [Statistic(1.0, np.ones(9), 300) for _ in range(3)]
    low, high = seeds_interval(alike, 0.95, 900)
    assert 0.97 < low < 0.99 and high == 1.0


def test_detectable_effect_is_found_with_its_power() -> None:
    unit = np.random.default_rng(0).normal(size=200_000)
    unit *= 0.01 / unit.std(ddof=1)
    effect = detectable(gap_of(unit), 0.95, 10**6)
    assert effect == pytest.approx(0.028016, abs=1e-6)
    assert np.mean(unit + effect > 0.01 * NormalDist().inv_cdf(0.975)) == pytest.approx(
        0.8, abs=5e-3
    )
    assert detectable(gap_of(3 * unit), 0.9, 10**6, power=0.5) == pytest.approx(0.0493456, abs=1e-6)


def ends_of(credits: list[float], level: float = 0.95) -> tuple[float, float]:
    """The interval of independent items."""
    labels = names(len(credits))
    return interval(mean(np.array(credits), item_weights(labels, 4000, 0)), level, len(labels))


def test_nothing_wrong_is_no_certainty() -> None:
    """30 right of 30: Wilson ends at 0.8865 (0.875 with t), Agresti and Coull at 0.865 (0.85)."""
    low, high = ends_of([1.0] * 30)
    assert 0.84 < low < 0.875 and high == 1.0
    assert ends_of([0.0] * 30) == pytest.approx((0.0, 1 - low))


def test_half_right_is_as_wide_as_the_wald_interval() -> None:
    low, high = ends_of([0.0, 1.0] * 500)
    assert (low, high) == pytest.approx((0.5 - 0.031, 0.5 + 0.031), abs=0.001)


def test_votes_are_surer_than_coins_where_enough_of_them_fail() -> None:
    """Credits of 0.3 and 0.7 vary by 0.04 where coins do by 0.25; few equal ones prove little."""
    low, high = ends_of([0.3, 0.7] * 500)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.04 / 1000), rel=0.02)
    few, many = ends_of([0.99] * 20), ends_of([0.99] * 2000)
    assert few[0] < 0.86 and many[0] > 0.985


def test_a_prompt_fails_whole() -> None:
    """Items of one prompt, all right, are as sure as their prompts."""
    labels = [str(i // 5) for i in range(100)]
    found = mean(np.ones(100), item_weights(labels, 400, 0))
    assert interval(found, 0.95, 20) == pytest.approx(ends_of([1.0] * 20))


def test_the_rarer_class_tells_how_sure_an_area_is() -> None:
    perfect = Statistic(1.0, np.ones(99), 100, balance=0.2)  # 10 right, 90 wrong
    assert interval(perfect, 0.95, 100) == pytest.approx(ends_of([1.0] * 20))


def test_pairs_without_difference_leave_room_for_one() -> None:
    """Bonett and Price by hand: no discordant pair of 30 is 0 ± t(0.975, 29) √2 / 32."""
    weights = item_weights(names(30), 400, 0)
    same = mean(np.ones(30), weights) - mean(np.ones(30), weights)
    low, high = interval(same, 0.95, 30)
    assert (low, high) == pytest.approx((-0.09039, 0.09039), abs=1e-5)
    assert detectable(same, 0.95, 30) == pytest.approx(2.8016 * math.sqrt(2) / 32, rel=1e-4)


def test_small_differences_are_smoothed_by_small_ones() -> None:
    """Many differences of 0.1 say that others are of that kind; five of them do not."""

    def width(count: int) -> float:
        signs = np.resize([0.1, -0.1], count)
        weights = item_weights(names(count), 4000, 0)
        low, high = interval(
            mean(0.5 + signs, weights) - mean(0 * signs + 0.5, weights), 0.95, count
        )
        return (high - low) / 2

    assert width(1000) == pytest.approx(1.96 * 0.1 / math.sqrt(1000), rel=0.05)
    assert width(6) > 4 * 0.1 / math.sqrt(6)


@pytest.mark.parametrize("scale", ["share", "gap", "free"])
def test_means_of_benchmarks_count_them_alike(scale: Scale) -> None:
    parts = [
        Statistic(value, np.full(5, value), items, scale, np.full(items, value, dtype=np.float32))
        for value, items in ((0.2, 300), (0.6, 100))
    ]
    whole = averaged(parts)
    assert (whole.value, whole.items, whole.scale) == (0.4, 400, scale)
    assert whole.values is not None and whole.values.mean() == pytest.approx(0.4)
    assert whole.balance == pytest.approx(0.75)  # (½)² / 300 + (½)² / 100 = 1 / 300


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
