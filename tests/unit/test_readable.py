"""Votes with something to read: how many, what they earn, and the warning where they are few."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from spct.scaling.estimators import Subsets, Votes, decide, estimate
from spct.scaling.readable import Reading


def bank(draw: np.random.Generator, items: int, n: int, answers: int, share: float) -> Votes:
    """Scores 1 to 9, the first answer being better by one; ``share`` of the samples readable."""
    valid = draw.random((items, n)) < share
    scores = np.rint(draw.uniform(1, 9, (items, n, answers)))
    scores[:, :, 0] += 1
    better = np.tile(np.arange(answers) == 0, (items, 1))
    single = np.zeros(items, dtype=np.bool_)
    shown = (scores * valid[:, :, None]).astype(np.float32)
    return Votes(shown, valid, np.ones_like(better), better, ~better, single, valid)


def by_hand(votes: Votes, item: int, k: int) -> tuple[float, float]:
    """Share of an item's k-subsets with a readable sample, and the mean credit of these alone."""
    part, found = votes.take(np.array([item])), []
    for subset in map(list, combinations(range(votes.n), k)):
        if part.valid[0, subset].any():
            total = part.scores[:, subset].sum(axis=1, keepdims=True)
            found.append(float(decide(total, part)[0][0, 0]))
    share = len(found) / len(list(combinations(range(votes.n), k)))
    return share, float(np.mean(found)) if found else float("nan")


@pytest.mark.parametrize("answers", [2, 3])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_votes_with_something_to_read_by_counting(answers: int, k: int) -> None:
    votes = bank(np.random.default_rng(0), 12, 5, answers, 0.3)
    subsets = Subsets([str(i) for i in range(12)], 5, 200, 0)
    reading = Reading.of(votes, subsets, [k], "drop")
    credit = estimate(votes, subsets, "voting", [k], 1.0)[k].credit
    earned = reading.earned(credit, k)
    for item in range(12):
        share, mean = by_hand(votes, item, k)
        assert reading.read[k][item] == pytest.approx(share)
        assert earned[item] == pytest.approx(share * np.nan_to_num(mean))


def test_nothing_to_read_earns_nothing() -> None:
    votes = bank(np.random.default_rng(0), 4, 3, 2, 0.0)
    subsets = Subsets(list("abcd"), 3, 10, 0)
    reading = Reading.of(votes, subsets, [1, 3], "drop")
    credit = estimate(votes, subsets, "voting", [3], 1.0)[3].credit
    np.testing.assert_array_equal(credit, 0.5)
    np.testing.assert_array_equal(reading.read[3], 0)
    np.testing.assert_array_equal(reading.earned(credit, 3), 0)


def test_an_unreadable_verdict_that_counts_as_no_is_no_tie() -> None:
    votes = replace(
        bank(np.random.default_rng(0), 2, 2, 2, 0.0),
        single=np.ones(2, dtype=np.bool_),
        better=np.array([[True, False], [False, True]]),
        worse=np.array([[False, True], [True, False]]),
    )
    subsets = Subsets(list("ab"), 2, 10, 0)
    np.testing.assert_array_equal(Reading.of(votes, subsets, [1], "drop").blank, [0.5, 0.5])
    np.testing.assert_array_equal(Reading.of(votes, subsets, [1], "zero").blank, [1, 0])


def test_orders_take_equal_parts_in_what_is_read() -> None:
    """Two orders of two samples: a pair of votes takes one of each; only the first can be read."""
    votes = bank(np.random.default_rng(0), 1, 4, 2, 1.0)
    valid = np.array([[True, True, False, False]])
    stratum = np.array([[0, 0, 1, 1]], dtype=np.int16)
    scores = votes.scores * valid[:, :, None]
    split = replace(votes, valid=valid, scores=scores.astype(np.float32), stratum=stratum)
    subsets = Subsets(["a"], 4, 10, 0)
    assert Reading.of(split, subsets, [2], "drop").read[2][0] == pytest.approx(1)
    whole = replace(split, stratum=None)
    assert Reading.of(whole, subsets, [2], "drop").read[2][0] == pytest.approx(5 / 6)
