import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct.judge.parse import Outcome, Parsed, parse

OK = Outcome.ok
MALFORMED = Outcome.malformed
TRUNCATED = Outcome.truncated


@pytest.mark.parametrize(
    ("text", "outcome", "scores"),
    [
        (r"\boxed{8, 7}", OK, (8, 7)),
        (r"Scores: $\boxed{8,7}$", OK, (8, 7)),
        ("**Scores:** **\\boxed{ 8 ,\n\t7 }**.", OK, (8, 7)),
        ("```\n\\boxed{8, 7}\n```", OK, (8, 7)),
        (r"\boxed {8, 7}", OK, (8, 7)),
        (r"\\boxed{8, 7}", OK, (8, 7)),
        (r"first \boxed{1, 1}, on reflection \boxed{8, 7}", OK, (8, 7)),
        (r"\boxed{8, 7} as the \boxed format asks. {Done}", OK, (8, 7)),
        (r"\boxed{\boxed{8, 7}}", OK, (8, 7)),
        (r"\boxed{08, 007}", OK, (8, 7)),
        (r"\boxed{8, 7", MALFORMED, None),
        (r"\boxed{8, 7} then \boxed{9,", MALFORMED, None),
        (r"\boxed{8, 7} then \boxed", MALFORMED, None),
        (r"\boxed{8, 7} then \boxed{none}", MALFORMED, None),
        (r"\boxed{8.0, 7}", MALFORMED, None),
        (r"\boxed{eight, 7}", MALFORMED, None),
        (r"\boxed{８, ７}", MALFORMED, None),
        (r"\boxed{8， 7}", MALFORMED, None),
        (r"\boxed{٨, 7}", MALFORMED, None),
        (r"\boxed{8, 7,}", MALFORMED, None),
        (r"\boxed{, 7}", MALFORMED, None),
        (r"\boxed{}", MALFORMED, None),
        (r"\boxed{8; 7}", MALFORMED, None),
        (r"\boxed{8 7}", MALFORMED, None),
        (r"\boxed{1 0, 7}", MALFORMED, None),
        (r"\boxed{+8, 7}", MALFORMED, None),
        (r"\boxed{- 8, 7}", MALFORMED, None),
        (r"\boxed{8/10, 7/10}", MALFORMED, None),
        (r"\boxed{1_0, 7}", MALFORMED, None),
        (r"\boxed{\text{8}, 7}", MALFORMED, None),
        (r"\boxed{**8**, 7}", MALFORMED, None),
        (r"\Boxed{8, 7}", MALFORMED, None),
        ("boxed{8, 7}", MALFORMED, None),
        ("[[8, 7]]", MALFORMED, None),
        ("", MALFORMED, None),
        (r"\boxed{8}", Outcome.wrong_count, None),
        (r"\boxed{8, 7, 6}", Outcome.wrong_count, None),
        (r"\boxed{8, 7, 60}", Outcome.wrong_count, None),
        (r"\boxed{0, 7}", Outcome.out_of_range, None),
        (r"\boxed{8, 11}", Outcome.out_of_range, None),
        (r"\boxed{-8, 7}", Outcome.out_of_range, None),
        ("\\boxed{8, " + "9" * 10_000 + "}", Outcome.out_of_range, None),
    ],
)
def test_what_a_finished_completion_says(
    text: str, outcome: Outcome, scores: tuple[int, ...] | None
) -> None:
    assert parse(text, n=2, low=1, high=10) == Parsed(outcome, scores)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("the analysis goes on and", TRUNCATED),
        ("", TRUNCATED),
        (r"\boxed", TRUNCATED),
        (r"\boxed{8, 7", TRUNCATED),
        (r"\boxed{8, 7} then \boxed{9,", TRUNCATED),
        (r"\boxed{8, 7} and then the mod", OK),
        (r"\boxed{8.5, 7} and then the mod", MALFORMED),
        (r"\boxed{8} and then the mod", Outcome.wrong_count),
    ],
)
def test_what_a_completion_cut_by_the_token_limit_says(text: str, outcome: Outcome) -> None:
    assert parse(text, n=2, low=1, high=10, finish="length").outcome is outcome


def test_verdicts_are_scores_between_0_and_1() -> None:
    assert parse(r"\boxed{1}", 1, 0, 1).scores == (1,)
    assert parse(r"\boxed{2}", 1, 0, 1).outcome is Outcome.out_of_range


@pytest.mark.parametrize(("n", "low", "high"), [(0, 1, 10), (2, 10, 1)])
def test_an_impossible_question_is_the_callers_error(n: int, low: int, high: int) -> None:
    with pytest.raises(ValueError, match="cannot ask"):
        parse("", n, low, high)


space = st.text(alphabet=" \t\n", max_size=3)


@given(
    before=st.text(),
    scores=st.lists(st.integers(1, 10), min_size=1, max_size=6),
    after=st.text().filter(lambda text: "\\" not in text),
    gap=space,
    finish=st.sampled_from(["stop", "length"]),
)
def test_a_well_formed_last_box_is_always_read(
    before: str, scores: list[int], after: str, gap: str, finish: str
) -> None:
    text = before + r"\boxed{" + gap + f"{gap},{gap}".join(map(str, scores)) + gap + "}" + after
    assert parse(text, len(scores), 1, 10, finish) == Parsed(OK, tuple(scores))


awkward = st.lists(
    st.sampled_from([r"\boxed", "{", "}", ",", "8", "-", " ", "10", "x", "\\", "\n"]), max_size=20
)


@given(text=st.one_of(st.text(), awkward.map("".join)), n=st.integers(1, 4), finish=st.text())
def test_any_text_gets_one_outcome_and_scores_only_if_ok(text: str, n: int, finish: str) -> None:
    parsed = parse(text, n, 1, 10, finish)
    assert (parsed.scores is not None) == (parsed.outcome is OK)
    if parsed.scores is not None:
        assert len(parsed.scores) == n
        assert all(1 <= score <= 10 for score in parsed.scores)
        last = re.findall(r"\\boxed\s*\{([^}]*)\}", text)[-1].rsplit("{", 1)[-1]
        assert parsed.scores == tuple(int(entry) for entry in last.split(","))
    assert parsed.outcome is not TRUNCATED or finish == "length"
