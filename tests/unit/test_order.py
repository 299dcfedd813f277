from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct.data.order import PLANS, display_order, to_original

plans = st.sampled_from(PLANS)


@given(plans, st.integers(0, 2**62), st.text(), st.integers(0, 500), st.integers(1, 9))
def test_every_order_is_a_permutation_and_a_function_of_its_names(
    plan: str, seed: int, item_id: str, sample: int, n: int
) -> None:
    order = display_order(plan, seed, item_id, sample, n)
    assert sorted(order) == list(range(n))
    assert order == display_order(plan, seed, item_id, sample, n)


@given(st.integers(0, 2**62), st.text(), st.integers(0, 500), st.integers(1, 6))
def test_balanced_shows_every_response_once_at_every_position(
    seed: int, item_id: str, start: int, n: int
) -> None:
    orders = [display_order("balanced", seed, item_id, start + i, n) for i in range(n)]
    assert all(sorted(column) == list(range(n)) for column in zip(*orders, strict=True))


def test_balanced_pairs_alternate_from_a_seeded_start() -> None:
    starts = Counter()
    for item in range(400):
        first, second = (display_order("balanced", 0, f"i{item}", s, 2) for s in (0, 1))
        assert first == second[::-1]
        starts[tuple(first)] += 1
    assert 150 < starts[(0, 1)] < 250


def test_fixed_ignores_the_sample_but_not_the_item() -> None:
    orders = {tuple(display_order("fixed", 0, "a", sample, 4)) for sample in range(20)}
    assert len(orders) == 1
    assert len({tuple(display_order("fixed", 0, f"i{i}", 0, 4)) for i in range(200)}) == 24


def test_random_is_uniform_over_samples() -> None:
    counts = Counter(tuple(display_order("random", 0, "a", s, 3)) for s in range(1200))
    assert len(counts) == 6
    assert all(140 < count < 260 for count in counts.values())


def test_orders_never_change_silently() -> None:
    assert [display_order("random", 0, "a", s, 3) for s in range(3)] == [
        [2, 0, 1],
        [2, 1, 0],
        [0, 1, 2],
    ]
    assert [display_order("balanced", 0, "a", s, 3) for s in range(3)] == [
        [2, 1, 0],
        [1, 0, 2],
        [0, 2, 1],
    ]
    assert display_order("fixed", 0, "a", 7, 3) == [2, 1, 0]


@given(st.permutations(range(5)), st.lists(st.integers(), min_size=5, max_size=5))
def test_there_and_back(order: list[int], values: list[int]) -> None:
    assert to_original([values[i] for i in order], order) == values


def test_scores_go_to_the_response_they_were_given_to() -> None:
    assert to_original([9, 5, 7], [2, 0, 1]) == [5, 7, 9]


@pytest.mark.parametrize("order", [[0], [0, 0], [1, 2], [0, 1, 2]])
def test_no_order_of_two(order: list[int]) -> None:
    with pytest.raises(ValueError, match="no order of 2"):
        to_original([1, 2], order)


def test_bad_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="random, balanced, fixed"):
        display_order("shuffled", 0, "a", 0, 2)
    with pytest.raises(ValueError, match="0 responses"):
        display_order("random", 0, "a", 0, 0)
    with pytest.raises(ValueError, match="sample -1"):
        display_order("random", 0, "a", -1, 2)
