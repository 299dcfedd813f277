"""The vectorised estimators equal the scalar rules, and brute force over all subsets."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spct.judge.predicate import correct, credit, sides
from spct.judge.vote import guided_vote, k_meta_for, majority, vote
from spct.records import Label
from spct.scaling.estimators import Method, Subsets, Votes, expected_accuracy

Scores = list[list[int] | None]


def votes_of(rows: list[Scores], labels: list[Label], meta: np.ndarray) -> Votes:
    """Votes of items with one number of responses (or single verdicts), written the slow way."""
    width = max(len(scores) for scores in rows[0] if scores) if any(rows[0]) else 2
    single = width == 1
    answers = 2 if single else width
    shape = (len(rows), len(rows[0]))
    scores = np.zeros((*shape, answers), dtype=np.float32)
    right = np.zeros(shape, dtype=bool)
    better, worse = np.zeros((2, len(rows), answers), dtype=bool)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        truth = int(label.value[0]) if single else 0
        top, below = ([truth], [1 - truth]) if single else sides(label, width)
        better[i, top] = worse[i, below] = True
        for j, sample in enumerate(row):
            if sample is not None:
                scores[i, j] = [1 - sample[0], sample[0]] if single else sample
                right[i, j] = correct(sample, label)
    valid = np.array([[sample is not None for sample in row] for row in rows])
    exists = np.ones((len(rows), answers), dtype=bool)
    return Votes(scores, valid, exists, better, worse, np.full(len(rows), single), right, meta)


def scalar(row: Scores, label: Label, signal: list[float] | None, keep: int, invalid: str) -> float:
    """Credit of one vote by the scalar functions of the judge."""
    n = 1 if label.kind == "correct" else 3
    if signal is not None:
        kept: Scores = [s for s in row if s is not None]
        strength = [x for s, x in zip(row, signal, strict=True) if s is not None]
        ranked = sorted(range(len(kept)), key=lambda i: (-strength[i], i))
        kept = [kept[i] for i in ranked[:keep]]
        if n > 1:
            assert guided_vote(row, signal, keep, n=n) == vote(kept, n=n)
        row = kept
    if n == 1:
        return credit([majority([s and s[0] for s in row], invalid=invalid)], label)
    return credit(vote(row, invalid=invalid, n=n), label)


def brute(row: Scores, label: Label, signal: Any, k: int, keep: int, invalid: str) -> float:
    """Mean credit over all k-subsets."""
    found = []
    for members in itertools.combinations(range(len(row)), k):
        chosen = None if signal is None else [signal[j] for j in members]
        found.append(scalar([row[j] for j in members], label, chosen, keep, invalid))
    return float(np.mean(found))


THREE = st.one_of(st.none(), st.lists(st.integers(1, 4), min_size=3, max_size=3))
VERDICT = st.one_of(st.none(), st.lists(st.integers(0, 1), min_size=1, max_size=1))
LABELS = st.sampled_from(
    [
        Label("best", 1),
        Label("graded", [1, 5, 2]),
        Label("groups", {"better": [0, 2], "worse": [1]}),
        Label("votes", [2, 2, 0]),
    ]
)


@settings(max_examples=120, deadline=None)
@given(data=st.data(), k=st.integers(1, 6), share=st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_equals_brute_force_over_all_subsets(data: st.DataObject, k: int, share: float) -> None:
    single = data.draw(st.booleans())
    label = Label("correct", [data.draw(st.booleans())]) if single else data.draw(LABELS)
    row = data.draw(st.lists(VERDICT if single else THREE, min_size=k, max_size=6))
    meta = data.draw(st.lists(st.integers(-2, 2), min_size=len(row), max_size=len(row)))
    invalid = data.draw(st.sampled_from(["drop", "zero"]))
    if not any(row):
        return
    votes = votes_of([row], [label], np.array([meta], dtype=float))
    subsets = Subsets(["x"], len(row), 20, 0)  # 20 = C(6, 3): every subset fits
    plain, _ = expected_accuracy(votes, subsets, "voting", k, share, invalid)
    assert plain[0] == pytest.approx(brute(row, label, None, k, k, invalid))
    if invalid == "drop":
        keep = k_meta_for(k, share)
        right = [float(s is not None and correct(s, label)) for s in row]
        margin = [0.0 if s is None or single else sorted(s)[-1] - sorted(s)[-2] for s in row]
        signals: dict[Method, Any] = {
            "meta_voting": meta,
            "oracle_voting": right,
            "margin_voting": margin,
        }
        for method, signal in signals.items():
            got, _ = expected_accuracy(votes, subsets, method, k, share, invalid)
            assert got[0] == pytest.approx(brute(row, label, signal, k, keep, invalid)), method


def bank(items: int = 40, n: int = 8, seed: int = 0) -> Votes:
    draw = np.random.default_rng(seed)
    rows: list[Scores] = [
        [None if draw.random() < 0.1 else list(draw.integers(1, 5, 3)) for _ in range(n)]
        for _ in range(items)
    ]
    return votes_of(rows, [Label("best", 0)] * items, draw.normal(size=(items, n)))


def test_random_subsets_converge_on_all_subsets() -> None:
    votes = bank()
    ids = [str(i) for i in range(40)]
    few, every = Subsets(ids, 8, 60, 0), Subsets(ids, 8, 70, 0)
    methods: list[Method] = ["voting", "meta_voting", "margin_voting", "oracle_voting"]
    for method in methods:
        sampled = expected_accuracy(votes, few, method, 4, 0.5)[0]
        exact = expected_accuracy(votes, every, method, 4, 0.5)[0]
        assert abs(sampled - exact).max() > 0
        assert sampled.mean() == pytest.approx(exact.mean(), abs=0.02)


def test_random_half_is_voting_with_half_the_samples() -> None:
    votes = bank()
    votes = Votes(**{**vars(votes), "valid": np.ones_like(votes.valid)})
    subsets = Subsets([str(i) for i in range(40)], 8, 2000, 0)
    half = expected_accuracy(votes, subsets, "random_voting", 8, 0.5)[0]
    exact = expected_accuracy(votes, subsets, "voting", 4, 0.5)[0]
    assert abs(half - exact).max() < 0.05
    one = expected_accuracy(votes, subsets, "random_voting", 1, 0.5)[0]
    np.testing.assert_array_equal(one, expected_accuracy(votes, subsets, "voting", 1, 0.5)[0])


def test_random_half_keeps_usable_members_only() -> None:
    votes = bank()
    subsets = Subsets([str(i) for i in range(40)], 8, 50, 0)
    drawn = subsets.drawn(5, np.broadcast_to(np.arange(8), (40, 8)))
    kept = subsets.random_half(votes.valid, 5, 3)
    assert not (kept & ~(drawn & votes.valid[:, None])).any()
    usable = (drawn & votes.valid[:, None]).sum(axis=2)
    np.testing.assert_array_equal(kept.sum(axis=2), np.minimum(usable, 3))


def test_same_subsets_for_an_item_whatever_its_company() -> None:
    alone, together = Subsets(["b"], 16, 10, 3), Subsets(["a", "b"], 16, 10, 3)
    np.testing.assert_array_equal(alone.rank[0], together.rank[1])
    assert (Subsets(["b"], 16, 10, 4).rank != alone.rank).any()
    order = np.arange(16)[None]
    assert not (alone.drawn(4, order) & ~alone.drawn(9, order)).any()
    assert alone.drawn(16, order).shape == (1, 1, 16)


def test_all_invalid_is_a_tie_of_all() -> None:
    votes = bank()
    empty = Votes(
        **{**vars(votes), "valid": votes.valid & False, "scores": np.zeros_like(votes.scores)}
    )
    subsets = Subsets([str(i) for i in range(40)], 8, 10, 0)
    methods: list[Method] = ["voting", "meta_voting", "random_voting", "margin_voting"]
    for method in methods:
        accuracy, tied = expected_accuracy(empty, subsets, method, 4, 0.5)
        np.testing.assert_allclose(accuracy, 1 / 3)
        assert (tied == 1).all()


def test_worked_example_of_the_paper() -> None:
    """Figure 3: sums 17 against 25; the meta RM keeps samples 1 and 3: 5 against 13."""
    rows: list[Scores] = [[[1, 5], [5, 6], [4, 8], [7, 6]]]
    meta = np.array([[2.0, -1.0, 1.0, -3.0]])
    votes = votes_of(rows, [Label("best", 1)], meta)
    subsets = Subsets(["x"], 4, 1, 0)
    assert expected_accuracy(votes, subsets, "voting", 4, 0.5)[0][0] == 1
    assert vote([[1, 5], [4, 8]]) == guided_vote(rows[0], list(meta[0]), 2) == [5, 13]
    assert expected_accuracy(votes, subsets, "meta_voting", 4, 0.5)[0][0] == 1
    lone = expected_accuracy(votes, subsets, "oracle_voting", 4, 0.25)[0][0]
    assert lone == 1


def test_what_cannot_be_estimated_is_said() -> None:
    votes, subsets = bank(), Subsets([str(i) for i in range(40)], 8, 10, 0)
    with pytest.raises(ValueError, match="k = 9 needs at least 9 samples"):
        expected_accuracy(votes, subsets, "voting", 9, 0.5)
    with pytest.raises(ValueError, match="invalid = 'skip'"):
        expected_accuracy(votes, subsets, "voting", 2, 0.5, "skip")
    bare = Votes(**{**vars(votes), "meta": None})
    with pytest.raises(ValueError, match="meta scores"):
        expected_accuracy(bare, subsets, "meta_voting", 2, 0.5)
