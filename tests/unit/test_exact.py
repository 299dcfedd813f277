"""Counts of subsets at full size: against whole-number counting, symmetries and known sums."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct.scaling import exact
from spct.scaling.kept import allocations, by_last, by_size

N = 64


def differences(items: int, n: int = N, seed: int = 0) -> np.ndarray:
    """Scores 1..10 of two responses, one sample in ten invalid."""
    draw = np.random.default_rng(seed)
    scores = draw.integers(1, 11, (items, n, 2))
    return (scores[:, :, 0] - scores[:, :, 1]) * (draw.random((items, n)) < 0.9).astype(float)


def sums(d: list[int]) -> dict[tuple[int, int], int]:
    """How many subsets of d have each (size, sum), in whole numbers."""
    counts: dict[tuple[int, int], int] = {(0, 0): 1}
    for x in d:
        grown = defaultdict(int, counts)
        for (m, total), ways in counts.items():
            grown[m + 1, total + x] += ways
        counts = dict(grown)
    return counts


def shares(counts: dict[tuple[int, int], int], m: int) -> tuple[int, int]:
    """Subsets of m samples with a sum over 0, and of 0."""
    over = sum(ways for (size, total), ways in counts.items() if size == m and total > 0)
    return over, counts.get((m, 0), 0)


def close(moments: np.ndarray, win: Fraction, tie: Fraction) -> None:
    wanted = [float(win + tie / 2), float(win + tie / 4), float(tie), float(win)]
    np.testing.assert_allclose(moments, wanted, rtol=1e-13, atol=1e-14)


def test_plain_votes_equal_whole_number_counting() -> None:
    rows, ks = differences(2), [1, 2, 7, 32, 33, 63, 64]
    found = exact.filtered(rows, [(k, k) for k in ks])
    for i, row in enumerate(rows.astype(int).tolist()):
        counts = sums(row)
        for at, k in enumerate(ks):
            win, tie = (Fraction(ways, comb(N, k)) for ways in shares(counts, k))
            close(found[at, :, i], win, tie)


def test_filtered_votes_equal_whole_number_counting() -> None:
    n, pairs = 24, [(24, 12), (17, 9), (16, 1), (3, 2)]
    row = differences(1, n)
    found = exact.filtered(row, pairs)[:, :, 0]
    d = row[0].astype(int).tolist()
    for moments, (k, keep) in zip(found, pairs, strict=True):
        win = tie = Fraction()
        for p, x in enumerate(d):
            before = {(m + 1, total + x): ways for (m, total), ways in sums(d[:p]).items()}
            weight = Fraction(comb(n - 1 - p, k - keep), comb(n, k))
            over, even = shares(before, keep)
            win, tie = win + weight * over, tie + weight * even
        close(moments, win, tie)


def test_thinned_votes_equal_whole_number_counting() -> None:
    n, usable, pairs = 40, 30, [(40, 20), (12, 6), (40, 35), (1, 1)]
    row = differences(1, n)
    row[0, usable:] = 0
    found = exact.thinned(row, np.array([usable]), pairs)[:, :, 0]
    counts = sums(row[0, :usable].astype(int).tolist())
    for moments, (k, keep) in zip(found, pairs, strict=True):
        win = tie = Fraction()
        for j in range(max(0, k - n + usable), min(k, usable) + 1):
            chance = Fraction(comb(usable, j) * comb(n - usable, k - j), comb(n, k))
            m = min(j, keep)
            over, even = shares(counts, m)
            win += chance * over / comb(usable, m)
            tie += chance * even / comb(usable, m)
        close(moments, win, tie)


def test_stratified_votes_equal_whole_number_counting() -> None:
    row, stratum = differences(1), (np.arange(N)[None] % 3 == 0).astype(np.int16)
    d, first = row[0].astype(int), stratum[0] == stratum[0, 0]
    a, b = sums(d[first].tolist()), sums(d[~first].tolist())
    ks = [1, 10, 42, 43, 64]
    for moments, k in zip(exact.stratified(row, stratum, ks)[:, :, 0], ks, strict=True):
        win = tie = Fraction()
        splits = allocations([int(first.sum()), int((~first).sum())], k)
        for i, j in splits:
            scale = len(splits) * comb(int(first.sum()), i) * comb(int((~first).sum()), j)
            left = {total: ways for (m, total), ways in a.items() if m == i}
            right = {total: ways for (m, total), ways in b.items() if m == j}
            for x, ways in left.items():
                win += Fraction(ways * sum(w for y, w in right.items() if x + y > 0), scale)
                tie += Fraction(ways * right.get(-x, 0), scale)
        close(moments, win, tie)


def test_swapping_the_answers_and_scaling_the_scores() -> None:
    rows, pairs = differences(6, seed=1), [(64, 32), (9, 5), (8, 8)]
    found, swapped = exact.filtered(rows, pairs), exact.filtered(-rows, pairs)
    np.testing.assert_allclose(found[:, 0] + swapped[:, 0], 1, rtol=1e-12)
    np.testing.assert_allclose(found[:, 2], swapped[:, 2], atol=1e-14)
    np.testing.assert_array_equal(exact.filtered(rows * 7, pairs), found)


def test_items_of_a_chunk_do_not_touch_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, pairs = differences(7, 12), [(12, 6), (5, 5)]
    together = exact.filtered(rows, pairs)
    monkeypatch.setattr(exact, "CELLS", 1)
    np.testing.assert_allclose(exact.filtered(rows, pairs), together, rtol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_certain_votes_at_any_size(n: int) -> None:
    pairs = [(n, n), (n, (n + 1) // 2), ((n + 1) // 2, (n + 1) // 2), (1, 1)]
    won, tied = np.ones((1, n)), np.zeros((1, n))
    np.testing.assert_allclose(exact.filtered(won, pairs)[:, :, 0], [[1, 1, 0, 1]] * 4, rtol=1e-12)
    np.testing.assert_allclose(
        exact.filtered(tied, pairs)[:, :, 0], [[0.5, 0.25, 1, 0]] * 4, rtol=1e-12
    )
    half = (np.arange(n)[None] % 2).astype(np.int16)
    np.testing.assert_allclose(
        exact.stratified(won, half, [n, 1])[:, :, 0], [[1, 1, 0, 1]] * 2, rtol=1e-12
    )


def test_what_cannot_be_counted() -> None:
    rows = np.array([[1.0, 2.0], [0.5, 1.0], [15_000.0, -6_000.0], [0.0, 0.0]])
    np.testing.assert_array_equal(exact.countable(rows), [True, False, False, True])
    assert not exact.countable(np.zeros((1, 1001))).any()


@given(n=st.integers(1, 30), data=st.data())
def test_weights_of_the_sets_that_vote_add_up(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    keep, usable = data.draw(st.integers(1, k)), data.draw(st.integers(0, n))
    first = [comb(p, keep - 1) for p in range(n)] @ by_last(n, k, keep)
    lots = [comb(usable, m) for m in range(n + 1)] @ by_size(n, usable, k, keep)
    assert first == pytest.approx(1) and lots == pytest.approx(1)


def test_allocations_are_as_equal_as_the_sizes_allow() -> None:
    assert allocations([4, 4], 6) == [(3, 3)]
    assert sorted(allocations([4, 4], 5)) == [(2, 3), (3, 2)]
    assert allocations([4, 1], 4) == [(3, 1)]
    assert sorted(allocations([1, 3, 3], 4)) == [(1, 1, 2), (1, 2, 1)]
    assert allocations([2, 0, 2], 4) == [(2, 0, 2)]
