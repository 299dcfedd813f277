"""Intervals cover, differences are paired, adjustments are Holm's."""

from __future__ import annotations

import numpy as np
import pytest

from spct.scaling.stats import (
    holm,
    interval,
    item_weights,
    p_value,
    paired_difference,
    pooled,
)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    weights = item_weights(range(200), 400, 0)
    hits = 0
    for _ in range(300):
        low, high = interval(weights @ (draw.random(200) < 0.7).astype(float), 0.95)
        hits += low <= 0.7 <= high
    assert 0.91 <= hits / 300 <= 0.98


def test_items_of_one_prompt_are_drawn_together() -> None:
    weights = item_weights(["a", "b", "a", "c"], 500, 1)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    twins = np.repeat(np.arange(50), 2)
    values = np.random.default_rng(0).random(50)[twins]
    spread = (item_weights(list(twins), 2000, 0) @ values).std()
    naive = (item_weights(range(100), 2000, 0) @ values).std()
    assert spread > 1.2 * naive


def test_weights_depend_on_the_named_parts_alone() -> None:
    np.testing.assert_array_equal(item_weights("abc", 5, 0, "x"), item_weights("abc", 5, 0, "x"))
    assert (item_weights("abc", 5, 0, "x") != item_weights("abc", 5, 0, "y")).any()
    with pytest.raises(ValueError, match="no items"):
        item_weights([], 5)


def test_pairing_removes_what_both_share() -> None:
    draw = np.random.default_rng(0)
    base = [draw.random(100) for _ in range(3)]
    better = [values + 0.05 for values in base]
    weights = [item_weights(range(100), 300, seed) for seed in range(3)]
    gap = paired_difference(better, base, weights, 0.95)
    assert gap.value == pytest.approx(0.05)
    assert gap.low == pytest.approx(0.05) and gap.high == pytest.approx(0.05)
    assert (gap.positive, gap.seeds, gap.items) == (3, 3, 300)
    assert gap.p == pytest.approx(2 / 301)
    mixed = paired_difference([*better[:2], base[2] - 0.01], base, weights, 0.95)
    assert mixed.positive == 2


def test_seeds_are_pooled_by_their_items() -> None:
    assert pooled([np.array(1.0), np.array(0.0)], [30, 10]) == pytest.approx(0.75)


def test_p_value_of_nothing_is_one() -> None:
    assert p_value(np.zeros(99)) == 1.0
    assert p_value(np.ones(99)) == pytest.approx(0.02)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
