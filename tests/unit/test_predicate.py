import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct.judge.predicate import correct, credit, sides
from spct.records import Label

BEST_1 = Label("best", 1)
GROUPS = Label("groups", {"better": [0, 2], "worse": [1, 3]})


@pytest.mark.parametrize(
    ("scores", "label", "expected"),
    [
        ([3, 8], BEST_1, True),
        ([8, 3], BEST_1, False),
        ([8, 8], BEST_1, False),
        ([1, 9, 8, 8], BEST_1, True),
        ([1, 9, 9, 2], BEST_1, False),
        ([8, 3], Label("pair_tie", {"winner": 0, "strength": 2}), True),
        ([8, 8], Label("pair_tie", {"winner": 0, "strength": 2}), False),
        ([2, 5, 4], Label("graded", [1.0, 4.5, 4.0]), True),
        ([2, 4, 5], Label("graded", [1.0, 4.5, 4.0]), False),
        ([1], Label("correct", [True]), True),
        ([0], Label("correct", [True]), False),
        ([0], Label("correct", [False]), True),
        ([1], Label("correct", [False]), False),
        ([4, 2, 2], Label("correct", [True, False, False]), True),
        ([4, 4, 2], Label("correct", [True, False, False]), False),
        ([5, 1, 4, 3], GROUPS, True),
        ([5, 1, 3, 3], GROUPS, False),
        ([3, 3, 9, 1], GROUPS, False),
        ([5, 1, 9], Label("groups", {"better": [0], "worse": [1]}), True),
        ([2, 7], Label("votes", [1, 1, 0, None]), True),
        ([7, 2], Label("votes", [1, 1, 0, None]), False),
    ],
)
def test_a_judgement_is_right_only_if_strictly_so(
    scores: list[int], label: Label, expected: bool
) -> None:
    assert correct(scores, label) is expected


@pytest.mark.parametrize(
    ("n", "label", "message"),
    [
        (2, Label("pair_tie", {"winner": None, "strength": 0}), "drop 'pair_tie'"),
        (3, Label("graded", [4, 4, 1]), "drop 'graded'"),
        (3, Label("correct", [True, True, False]), "drop 'correct'"),
        (2, Label("correct", [False, False]), "drop 'correct'"),
        (2, Label("votes", [0, 1]), "drop 'votes'"),
        (2, Label("votes", [None]), "drop 'votes'"),
        (1, BEST_1, "n = 1"),
        (1, Label("correct", [True, False]), "n = 1"),
        (0, BEST_1, "no order"),
        (2, Label("best", 2), "does not fit 2"),
        (2, Label("best", -1), "does not fit 2"),
        (2, Label("graded", [1, 2, 3]), "3 label values for 2"),
        (2, Label("votes", [5, 5]), "do not fit 2"),
        (2, Label("groups", {"better": [0], "worse": []}), "does not fit"),
        (2, Label("groups", {"better": [0], "worse": [0]}), "both sides"),
    ],
)
def test_a_label_without_a_definite_best_is_refused_by_name(
    n: int, label: Label, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        correct([1] * n, label)
    with pytest.raises(ValueError, match=message):
        credit([1] * n, label)


def test_a_rating_is_not_a_verdict() -> None:
    with pytest.raises(ValueError, match="ROC-AUC"):
        correct([7], Label("correct", [True]))


@pytest.mark.parametrize(
    ("totals", "label", "expected"),
    [
        ([10, 12], BEST_1, 1.0),
        ([12, 12], BEST_1, 1 / 2),
        ([12, 12, 3, 12], BEST_1, 1 / 3),
        ([13, 12, 12, 12], BEST_1, 0.0),
        ([0, 0, 0, 0], BEST_1, 1 / 4),
        ([1.0], Label("correct", [True]), 1.0),
        ([0.5], Label("correct", [True]), 0.5),
        ([0.5], Label("correct", [False]), 0.5),
        ([1.0], Label("correct", [False]), 0.0),
        ([3, 3, 3, 1], GROUPS, 1 / 3),
        ([3, 3, 3, 3], GROUPS, 1 / 6),
    ],
)
def test_ties_at_evaluation_earn_their_share(
    totals: list[float], label: Label, expected: float
) -> None:
    assert credit(totals, label) == pytest.approx(expected)


def _share_of_shuffles(totals: list[int], label: Label) -> float:
    """Rank by total, ties in the order of a permutation; the mean over all of them."""
    better, worse = sides(label, len(totals))
    orders = list(itertools.permutations(range(len(totals))))
    wins = sum(
        min((totals[i], order[i]) for i in better) > max((totals[i], order[i]) for i in worse)
        for order in orders
    )
    return wins / len(orders)


label_of_four = st.one_of(
    st.integers(0, 3).map(lambda best: Label("best", best)),
    st.permutations(range(4)).map(lambda p: Label("groups", {"better": p[:2], "worse": p[2:]})),
    st.permutations(range(4)).map(lambda p: Label("groups", {"better": p[:2], "worse": p[2:3]})),
)


@given(totals=st.lists(st.integers(1, 3), min_size=4, max_size=4), label=label_of_four)
def test_credit_is_the_expectation_over_random_tie_breaks(totals: list[int], label: Label) -> None:
    assert credit(totals, label) == pytest.approx(_share_of_shuffles(totals, label))
    assert correct(totals, label) == (credit(totals, label) == 1.0)


@given(
    scores=st.lists(st.integers(1, 10), min_size=2, max_size=6),
    best=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_renaming_responses_changes_nothing(scores: list[int], best: int, seed: int) -> None:
    best %= len(scores)
    order = random.Random(seed).sample(range(len(scores)), len(scores))
    renamed = [scores[i] for i in order]
    label, relabelled = Label("best", best), Label("best", order.index(best))
    assert correct(scores, label) == correct(renamed, relabelled)
    assert credit(scores, label) == credit(renamed, relabelled)
