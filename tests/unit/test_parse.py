from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spct.finish import Finish, meaning
from spct.judge.parse import Outcome, Parsed, parse

OK = Outcome.ok
MALFORMED = Outcome.malformed
COUNT = Outcome.wrong_count
RANGE = Outcome.out_of_range
TRUNCATED = Outcome.truncated

# What models write, for 1, 2 and 4 responses at once: BOX stands for a good box, LIST for its
# numbers, FIRST for the first of them, REST for the others with their commas.
GOOD = {1: (8,), 2: (8, 7), 4: (8, 7, 3, 10)}
CORPUS = [
    ("BOX", OK),
    # around the box
    ("Scores: BOX", OK),
    ("Scores: $BOX$", OK),
    ("\\[ BOX \\]", OK),
    ("**Scores:** **BOX**.", OK),
    ("- `BOX`", OK),
    ("> BOX", OK),
    ("| Scores | BOX |", OK),
    ("```\nBOX\n```", OK),
    ("```latex\r\nBOX\r\n```\r\n", OK),
    ("BOX</s>", OK),
    ("BOX\n\nI hope this helps!", OK),
    ("BOX as the \\boxed format asks. {Done}", OK),
    ("BOX \\\\", OK),
    ("\\BOX", OK),
    ("\\boxed{BOX}", OK),
    # several boxes
    ("\\boxed{1} \\boxed{1, 1} \\boxed{1, 1, 1, 1}, on reflection BOX", OK),
    ("BOX BOX", OK),
    ("Response 1 ends in \\boxed{42}, which is wrong. Scores: BOX", OK),
    ("Response 2 says \\boxed{\\frac{1}{2}}. Scores: BOX", OK),
    ("Scores: BOX, since response 1 says \\boxed{x = 3}", MALFORMED),
    ("BOX then \\boxed{none}", MALFORMED),
    ("BOX then \\boxed{9,", MALFORMED),
    ("BOX then \\boxed", MALFORMED),
    ("BOX then \\boxed{1, 2, 3, 4, 5}", COUNT),
    # inside the box, read
    ("\\boxed {LIST}", OK),
    ("\\boxed\r\n{LIST}", OK),
    ("\\boxed{ \tLIST \n}", OK),
    ("\\boxed{\r\nLIST\r\n}", OK),
    ("\\boxed{\u00a0LIST\u2003}", OK),
    ("\\boxed{00LIST}", OK),
    # inside the box, near misses
    ("\\boxed{8.0REST}", MALFORMED),
    ("\\boxed{8.5REST}", MALFORMED),
    ("\\boxed{.8REST}", MALFORMED),
    ("\\boxed{8e0REST}", MALFORMED),
    ("\\boxed{0x8REST}", MALFORMED),
    ("\\boxed{eightREST}", MALFORMED),
    ("\\boxed{8 (good)REST}", MALFORMED),
    ("\\boxed{8/10REST}", MALFORMED),
    ("\\boxed{80%REST}", MALFORMED),
    ("\\boxed{7-8REST}", MALFORMED),
    ("\\boxed{+8REST}", MALFORMED),
    ("\\boxed{- 8REST}", MALFORMED),
    ("\\boxed{−8REST}", MALFORMED),
    ("\\boxed{1_0REST}", MALFORMED),
    ("\\boxed{1 0REST}", MALFORMED),
    ("\\boxed{８REST}", MALFORMED),
    ("\\boxed{٨REST}", MALFORMED),
    ("\\boxed{²REST}", MALFORMED),
    ("\\boxed{8\u200bREST}", MALFORMED),
    ("\\boxed{\ufeff8REST}", MALFORMED),
    ("\\boxed{8\u200eREST}", MALFORMED),
    ("\\boxed{8，REST}", MALFORMED),
    ("\\boxed{LIST,}", MALFORMED),
    ("\\boxed{,LIST}", MALFORMED),
    ("\\boxed{}", MALFORMED),
    ("\\boxed{ }", MALFORMED),
    ("\\boxed{\\,LIST}", MALFORMED),
    ("\\boxed{LIST\\;}", MALFORMED),
    ("\\boxed{\\ LIST}", MALFORMED),
    ("\\boxed{\\text{LIST}}", MALFORMED),
    ("\\boxed{\\mathbf{8}REST}", MALFORMED),
    ("\\boxed{{LIST}}", MALFORMED),
    ("\\boxed{[LIST]}", MALFORMED),
    ("\\boxed{(LIST)}", MALFORMED),
    ("\\boxed{$LIST$}", MALFORMED),
    ("\\boxed{**8**REST}", MALFORMED),
    ("\\boxed{'8'REST}", MALFORMED),
    ("\\boxed{Response 1: LIST}", MALFORMED),
    ("\\boxed{Scores: LIST}", MALFORMED),
    # no box
    ("", MALFORMED),
    ("Scores: LIST", MALFORMED),
    ("boxed{LIST}", MALFORMED),
    ("\\Boxed{LIST}", MALFORMED),
    ("\\fbox{LIST}", MALFORMED),
    ("\\boxed(LIST)", MALFORMED),
    ("\\boxed[LIST]", MALFORMED),
    ("\\bo\u200bxed{LIST}", MALFORMED),
    ("[[LIST]]", MALFORMED),
    ('{"scores": [LIST]}', MALFORMED),
    # cut off
    ("\\boxed{LIST", MALFORMED),
    ("\\boxed{", MALFORMED),
    # count
    ("\\boxed{LIST, 5}", COUNT),
    ("\\boxed{LIST, 50}", COUNT),
    ("\\boxed{1, 2, 3, 4, 5}", COUNT),
    ("\\boxed{8, 7, 6}", COUNT),
    # range
    ("\\boxed{0REST}", RANGE),
    ("\\boxed{11REST}", RANGE),
    ("\\boxed{-8REST}", RANGE),
    ("\\boxed{-0REST}", RANGE),
    ("\\boxed{100REST}", RANGE),
    ("\\boxed{87310REST}", RANGE),
    ("\\boxed{" + "9" * 10_000 + "REST}", RANGE),
    ("\\boxed{-" + "9" * 10_000 + "REST}", RANGE),
]  # fmt: skip


def written(pattern: str, n: int) -> str:
    numbers = [str(score) for score in GOOD[n]]
    return (
        pattern.replace("BOX", r"\boxed{LIST}")
        .replace("LIST", ", ".join(numbers))
        .replace("REST", "".join(f", {x}" for x in numbers[1:]))
    )


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize(("pattern", "outcome"), CORPUS)
def test_what_a_finished_completion_says(pattern: str, outcome: Outcome, n: int) -> None:
    scores = GOOD[n] if outcome is OK else None
    assert parse(written(pattern, n), n=n, low=1, high=10) == Parsed(outcome, scores)


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize(("pattern", "outcome"), CORPUS)
def test_the_token_limit_leaves_nothing_to_read(pattern: str, outcome: Outcome, n: int) -> None:
    text = written(pattern, n)
    assert parse(text, n, 1, 10, finish="length") == Parsed(TRUNCATED)


def test_too_few() -> None:
    assert parse(r"\boxed{8}", 2, 1, 10).outcome is COUNT
    assert parse(r"\boxed{8, 7}", 4, 1, 10).outcome is COUNT


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("the analysis goes on and", TRUNCATED),
        ("", TRUNCATED),
        (r"\boxed", TRUNCATED),
        (r"\boxed{8, 7", TRUNCATED),
        (r"\boxed{8, 1", TRUNCATED),
        (r"\boxed{8, 7} then \boxed{9,", TRUNCATED),
        (r"\boxed{8, 7} then \boxed{9, 1", TRUNCATED),
        (r"\boxed{8, 7} then \boxed", TRUNCATED),
        (r"\boxed{8, 7} then \box", TRUNCATED),
        ("\\boxed{8, 7} then \\", TRUNCATED),
        (r"\boxed{8, 7} then \boxing", TRUNCATED),
        (r"\boxed{8, 7} and then the mod", TRUNCATED),
        (r"\boxed{8, 7}", TRUNCATED),
        (r"\boxed{8.5, 7} and then the mod", TRUNCATED),
        (r"\boxed{8} and then the mod", TRUNCATED),
    ],
)
def test_what_a_completion_cut_by_the_token_limit_says(text: str, outcome: Outcome) -> None:
    assert parse(text, n=2, low=1, high=10, finish="length").outcome is outcome


@pytest.mark.parametrize(
    ("text", "scores"),
    [("0", (0,)), ("1", (1,)), (" 1 ", (1,)), ("2", None), ("-1", None), ("8", None), ("10", None)],
)
def test_verdicts_are_scores_between_0_and_1(text: str, scores: tuple[int, ...] | None) -> None:
    outcome = OK if scores else RANGE
    assert parse(f"\\boxed{{{text}}}", 1, 0, 1) == Parsed(outcome, scores)


@pytest.mark.parametrize("word", ["true", "yes", "correct", "0 or 1", "1.0"])
def test_a_verdict_in_words_is_none(word: str) -> None:
    assert parse(f"\\boxed{{{word}}}", 1, 0, 1).outcome is MALFORMED


@pytest.mark.parametrize(("rating", "ok"), [(0, False), (1, True), (10, True), (11, False)])
def test_a_rating_of_one_response_is_a_score_of_the_range(rating: int, ok: bool) -> None:
    assert (parse(f"\\boxed{{{rating}}}", 1, 1, 10).outcome is OK) == ok


@pytest.mark.parametrize(("n", "low", "high"), [(0, 1, 10), (2, 10, 1)])
def test_an_impossible_question_is_the_callers_error(n: int, low: int, high: int) -> None:
    with pytest.raises(ValueError, match="cannot ask"):
        parse("", n, low, high)


space = st.text(alphabet=" \t\r\n", max_size=3)
scores_of = st.lists(st.integers(1, 10), min_size=1, max_size=6)
harmless = st.text().filter(lambda text: "\\" not in text)


def box(scores: list[int], gap: str = "") -> str:
    return r"\boxed{" + gap + f"{gap},{gap}".join(map(str, scores)) + gap + "}"


@given(before=st.text(), scores=scores_of, after=harmless, gap=space,
       finish=st.sampled_from(["stop", "stop_string"]))  # fmt: skip
@example(before="\\boxed{1}\\", scores=[8], after="", gap="", finish="stop")
def test_a_well_formed_last_box_is_always_read(
    before: str, scores: list[int], after: str, gap: str, finish: str
) -> None:
    text = before + box(scores, gap) + after
    assert parse(text, len(scores), 1, 10, finish) == Parsed(OK, tuple(scores))


@given(before=harmless, first=scores_of, middle=harmless, data=st.data(),
       finish=st.sampled_from(["stop", "length"]))  # fmt: skip
def test_a_cut_is_never_read_as_other_scores(
    before: str, first: list[int], middle: str, data: st.DataObject, finish: str
) -> None:
    """A prefix says what its complete boxes say, and nothing once another box is begun."""
    n = len(first)
    second = data.draw(st.lists(st.integers(1, 10), min_size=n, max_size=n))
    one_ends = len(before) + len(box(first))
    two_begins = one_ends + len(middle)
    text = before + box(first) + middle + box(second)
    for cut in range(len(text)):
        found = parse(text[:cut], n, 1, 10, finish)
        if finish == "length":
            assert found == Parsed(TRUNCATED)
        elif cut < one_ends:
            assert found.outcome is MALFORMED
        elif cut <= two_begins:
            assert found == Parsed(OK, tuple(first))
        elif cut - two_begins >= len(r"\boxed"):
            assert found.outcome is MALFORMED
    if finish == "stop":
        assert parse(text, n, 1, 10, finish) == Parsed(OK, tuple(second))


awkward = st.lists(
    st.sampled_from(
        [r"\boxed", "{", "}", ",", "8", "-", " ", "10", "x", "\\", "\n", "８", "\u200b"]
    ),
    max_size=20,
)


@given(text=st.one_of(st.text(), awkward.map("".join)), n=st.integers(1, 4),
       finish=st.sampled_from(list(Finish)) | st.text())  # fmt: skip
def test_any_text_gets_one_outcome_and_scores_only_if_ok(text: str, n: int, finish: str) -> None:
    parsed = parse(text, n, 1, 10, finish)
    assert isinstance(parsed.outcome, Outcome)
    assert (parsed.scores is not None) == (parsed.outcome is OK)
    if parsed.scores is not None:
        assert len(parsed.scores) == n
        assert all(1 <= score <= 10 for score in parsed.scores)
        last = re.findall(r"\\boxed\s*\{([^}]*)\}", text)[-1].rsplit("{", 1)[-1]
        assert parsed.scores == tuple(int(entry) for entry in last.split(","))
    assert meaning(finish).outcome in (None, parsed.outcome)
    assert meaning(finish).read or parsed.outcome is not OK
