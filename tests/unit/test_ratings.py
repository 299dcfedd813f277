"""ROC-AUC of ratings equals brute force over all pairs of subsets."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spct.judge.predicate import credit
from spct.judge.vote import guided_vote, k_meta_for, vote
from spct.records import Label
from spct.scaling.ratings import METHODS, distributions
from spct.scaling.votes import Votes

Row = list[int | None]


def auc_of(votes: Votes, method: str, k: int, share: float, weights: np.ndarray) -> np.ndarray:
    """Per row of weights of all items, of which rating items count."""
    return distributions(votes, method, k, share).auc(weights[:, votes.rated])


def rated(rows: list[Row], right: list[bool], meta: np.ndarray | None = None) -> Votes:
    """Rating items, written the slow way."""
    shape = (len(rows), len(rows[0]))
    valid = np.array([[x is not None for x in row] for row in rows]).reshape(shape)
    scores = np.zeros((*shape, 2), dtype=np.float32)
    scores[:, :, 0] = [[x or 0 for x in row] for row in rows]
    better = np.array([[not truth, truth] for truth in right])
    no = np.zeros(len(rows), dtype=bool)
    none = np.zeros((len(rows), 2), dtype=bool)
    return Votes(scores, valid, none, better, ~better, no, valid & False, meta, rating=~no)


def outcomes(row: Row, signal: list[float], method: str, k: int, keep: int) -> list[list[Fraction]]:
    """Equally likely scores of one item: a list for every k-subset, empty without a valid one."""
    found = []
    for members in itertools.combinations(range(len(row)), k):
        chosen = [None if (x := row[j]) is None else [x] for j in members]
        valid = [scores for scores in chosen if scores is not None]
        if not valid:
            found.append([])
        elif method == "voting":
            found.append([Fraction(vote(chosen, n=1)[0])])
        elif method == "mean_voting":
            found.append([Fraction(vote(chosen, n=1)[0], len(valid))])
        elif method == "meta_voting":
            strength = [signal[j] for j in members]
            found.append([Fraction(guided_vote(chosen, strength, keep, n=1)[0])])
        else:
            parts = itertools.combinations(valid, min(keep, len(valid)))
            found.append([Fraction(vote(part, n=1)[0]) for part in parts])
    return found


def chance_above(a: list[list[Fraction]], b: list[list[Fraction]]) -> float:
    """P(a > b) + half of P(a = b), a subset without a score being tied with everything."""
    total = 0.0
    for left, right in itertools.product(a, b):
        values = [(x > y) + (x == y) / 2 for x in left for y in right]
        total += sum(values) / len(values) if values else 0.5
    return total / (len(a) * len(b))


@settings(max_examples=80, deadline=None)
@given(data=st.data(), method=st.sampled_from(METHODS), n=st.integers(1, 5))
def test_equals_brute_force_over_all_pairs_of_subsets(
    data: st.DataObject, method: str, n: int
) -> None:
    k, share = data.draw(st.integers(1, n)), data.draw(st.sampled_from([0.25, 0.5, 1.0]))
    rating = st.one_of(st.none(), st.integers(0, 4))
    rows = data.draw(st.lists(st.lists(rating, min_size=n, max_size=n), min_size=2, max_size=5))
    right = [True, False, *(data.draw(st.booleans()) for _ in rows[2:])]
    meta = [data.draw(st.lists(st.integers(-1, 1), min_size=n, max_size=n)) for _ in rows]
    weights = np.array([[data.draw(st.integers(1, 3)) for _ in rows] for _ in range(2)], float)
    votes = rated(rows, right, np.array(meta, dtype=float))
    every = [
        outcomes(row, signal, method, k, k_meta_for(k, share))
        for row, signal in zip(rows, meta, strict=True)
    ]
    got = auc_of(votes, method, k, share, weights)
    for b, row in enumerate(weights):
        pairs = [
            (row[i] * row[j], chance_above(every[i], every[j]))
            for i, j in itertools.product(range(len(rows)), repeat=2)
            if right[i] and not right[j]
        ]
        expected = sum(w * x for w, x in pairs) / sum(w for w, _ in pairs)
        assert got[b] == pytest.approx(expected, abs=1e-12)


def test_distributions_add_up_to_one() -> None:
    draw = np.random.default_rng(0)
    rows: list[Row] = [
        [None if draw.random() < 0.2 else int(draw.integers(1, 11)) for _ in range(24)]
        for _ in range(6)
    ]
    votes = rated(rows, [True, False] * 3, draw.normal(size=(6, 24)))
    for method in METHODS:
        scores = distributions(votes, method, 9, 0.5)
        np.testing.assert_allclose(scores.chance.sum(axis=1) + scores.none, 1, rtol=1e-12)
        assert (scores.chance > -1e-15).all()


def test_mean_and_sum_differ_only_through_invalid_samples() -> None:
    """Two ratings of 6 beat three of 5 on average, and lose to them as a sum."""
    one = np.ones((1, 2))
    mixed = rated([[6, 6, None], [5, 5, 5]], [True, False])
    assert auc_of(mixed, "mean_voting", 3, 1.0, one)[0] == 1
    assert auc_of(mixed, "voting", 3, 1.0, one)[0] == 0
    whole = rated([[6, 4, 7], [5, 2, 6]], [True, False])
    for k in (1, 2, 3):
        by_mean = auc_of(whole, "mean_voting", k, 1.0, one)
        by_sum = auc_of(whole, "voting", k, 1.0, one)
        assert by_mean[0] == pytest.approx(by_sum[0], abs=1e-15)


@given(data=st.data(), n=st.integers(2, 4))
def test_mean_and_sum_decide_alike_between_responses(data: st.DataObject, n: int) -> None:
    sample = st.one_of(st.none(), st.lists(st.integers(1, 10), min_size=n, max_size=n))
    samples = data.draw(st.lists(sample, min_size=1, max_size=9))
    totals = vote(samples, n=n)
    valid = max(1, sum(scores is not None for scores in samples))
    for label in (Label("best", 0), Label("groups", {"better": [1], "worse": [0]})):
        assert credit([total / valid for total in totals], label) == credit(totals, label)


def test_items_of_other_kinds_and_weightless_classes() -> None:
    votes = rated([[9], [1], [5]], [True, False, False])
    mixed = Votes(**{**vars(votes), "rating": np.array([True, True, False])})
    weights = np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 7.0]])
    auc = auc_of(mixed, "voting", 1, 1.0, weights)
    np.testing.assert_array_equal(auc, [1.0, np.nan, np.nan])
    plain = Votes(**{**vars(votes), "rating": None})
    assert np.isnan(auc_of(plain, "voting", 1, 1.0, weights)).all()


def test_what_cannot_be_estimated_is_said() -> None:
    votes, weights = rated([[9, 2], [1, 1]], [True, False]), np.ones((1, 2))
    with pytest.raises(ValueError, match="ratings have no majority"):
        auc_of(votes, "majority", 1, 0.5, weights)
    with pytest.raises(ValueError, match="k = 3 needs at least 3"):
        auc_of(votes, "voting", 3, 0.5, weights)
    with pytest.raises(ValueError, match="meta scores"):
        auc_of(votes, "meta_voting", 1, 0.5, weights)
    for bad in (0.5, -1.0):
        broken = Votes(**{**vars(votes), "scores": np.full((2, 2, 2), bad, dtype=np.float32)})
        with pytest.raises(ValueError, match="whole numbers from 0 up"):
            auc_of(broken, "voting", 1, 0.5, weights)
    large = Votes(**{**vars(votes), "scores": np.full((2, 2, 2), 15_000, dtype=np.float32)})
    with pytest.raises(ValueError, match="a sum of 20000 an item"):
        auc_of(large, "voting", 1, 0.5, weights)
