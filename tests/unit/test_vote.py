"""The paper's worked examples (arXiv 2504.02495, Fig. 3 and Table 17) and the rules around them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct.data.order import to_original
from spct.judge.parse import parse
from spct.judge.predicate import credit
from spct.judge.vote import guided_vote, k_meta_for, majority, ranked, vote
from spct.records import Label

FIG_3 = [(1, 5), (5, 6), (4, 8), (7, 6)]


def test_figure_3_plain_voting_sums_to_17_and_25_of_40() -> None:
    assert vote(FIG_3) == [17, 25]


def test_figure_3_the_meta_rm_keeps_samples_1_and_3() -> None:
    assert guided_vote(FIG_3, [0.9, -0.2, 0.4, -3.0], k_meta_for(4)) == [5, 13]


TABLE_17 = [(r"\boxed{8,8}", [0, 1]), (r"\boxed{9,5}", [1, 0]), (r"\boxed{10,7}", [1, 0])]


def _table_17() -> list[list[int]]:
    parsed = [(parse(text, 2, 1, 10).scores, order) for text, order in TABLE_17]
    return [to_original(scores, order) for scores, order in parsed if scores]


def test_table_17_reversed_orders_are_mapped_back_before_the_sum() -> None:
    assert _table_17() == [[8, 8], [5, 9], [7, 10]]
    assert vote(_table_17()) == [20, 27]


def test_table_17_the_meta_rm_drops_the_tied_sample() -> None:
    signal = [-15.7781, 1.3126, 1.6739]
    assert ranked(_table_17(), signal) == [2, 1, 0]
    assert guided_vote(_table_17(), signal, k_meta_for(3)) == [12, 19]


def test_one_sample_is_voting_at_one() -> None:
    assert guided_vote([(3, 9)], [-7.0], k_meta_for(1)) == [3, 9]


@pytest.mark.parametrize("invalid", ["drop", "zero"])
def test_invalid_samples_move_no_total(invalid: str) -> None:
    assert vote([(1, 5), None, (5, 6)], invalid=invalid) == [6, 11]


def test_with_nothing_valid_all_are_tied() -> None:
    totals = vote([None, None], n=4)
    assert totals == [0, 0, 0, 0]
    assert credit(totals, Label("best", 2)) == 0.25
    assert guided_vote([None], [None], 1, n=2) == [0, 0]
    assert majority([None]) == 0.5


def test_invalid_samples_leave_before_the_ranking() -> None:
    assert guided_vote([None, (1, 5), (9, 2), (4, 8)], [9.9, 0.0, -1.0, 1.0], 2) == [5, 13]
    assert guided_vote([None, (1, 5)], [None, 0.0], 2) == [1, 5]


def test_equal_signals_go_to_the_lower_sample_index() -> None:
    assert ranked([(1,), (2,), (3,), (4,)], [0.0, 1.0, 0.0, 1.0]) == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("verdicts", "invalid", "expected"),
    [
        ([1, 1, 0], "drop", 1.0),
        ([1, 0, 0], "drop", 0.0),
        ([1, 0], "drop", 0.5),
        ([1, None, None], "drop", 1.0),
        ([1, None, None], "zero", 0.0),
        ([1, None], "zero", 0.5),
    ],
)
def test_majority_of_verdicts(verdicts: list[int | None], invalid: str, expected: float) -> None:
    assert majority(verdicts, invalid=invalid) == expected


@pytest.mark.parametrize(
    ("k", "share", "kept"),
    [(1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 2), (8, 0.5, 4), (9, 1.0, 9), (4, 0.1, 1), (100, 0.07, 7)],
)
def test_k_meta(k: int, share: float, kept: int) -> None:
    assert k_meta_for(k, share) == kept


def test_bad_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="number of responses"):
        vote([(1, 2), (1, 2, 3)])
    with pytest.raises(ValueError, match="number of responses"):
        vote([None])
    with pytest.raises(ValueError, match="number of responses"):
        vote([(1, 2)], n=3)
    with pytest.raises(ValueError, match="drop, zero"):
        vote([(1, 2)], invalid="ignore")
    with pytest.raises(ValueError, match="sample 1 is valid"):
        guided_vote([(1, 2), (2, 1)], [0.0, None], 1)
    with pytest.raises(ValueError, match="sample 0 is valid"):
        guided_vote([(1, 2)], [float("nan")], 1)
    with pytest.raises(ValueError, match="at least one"):
        guided_vote([(1, 2)], [0.0], 0)
    with pytest.raises(ValueError, match="0 or 1"):
        majority([7])
    with pytest.raises(ValueError, match="share"):
        k_meta_for(4, 0.0)


sample = st.one_of(st.none(), st.tuples(st.integers(1, 10), st.integers(1, 10)))


@given(st.lists(st.tuples(sample, st.floats(-20, 20)), max_size=12))
def test_keeping_all_is_plain_voting(rows: list[tuple[tuple[int, int] | None, float]]) -> None:
    scores, signal = [row[0] for row in rows], [row[1] for row in rows]
    assert guided_vote(scores, signal, max(1, len(rows)), n=2) == vote(scores, n=2)
