"""Pinned values: a changed seed would silently change every bank."""

from hypothesis import given
from hypothesis import strategies as st

from spct import seeds


def test_seeds_never_change_silently() -> None:
    assert seeds.derive() == 8238016292129134938
    assert seeds.derive(0, "judge", "pair-1", 3) == 2557135913809515894
    assert seeds.rng(0, "judge").integers(1000, size=4).tolist() == [578, 66, 860, 944]


@given(st.lists(st.one_of(st.integers(), st.text()), max_size=5))
def test_a_seed_fits_a_signed_64_bit_integer(parts: list[object]) -> None:
    assert 0 <= seeds.derive(*parts) < 2**63


def test_parts_do_not_run_together() -> None:
    named = [(1, 23), (12, 3), (123,), ("", 123), (123, "")]
    assert len({seeds.derive(*parts) for parts in named}) == len(named)


def test_a_number_and_its_text_name_the_same_seed() -> None:
    assert seeds.derive(7, "a") == seeds.derive("7", "a")
