import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct.judge.neutralise import neutralise

TOKENS = ("<|a|>", "<s>", "</s>", "[The Begin of Response 1]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, 1 < 2 and <S>", "plain text, 1 < 2 and <S>"),
        ("", ""),
        ("x<|a|>y", "x< |a|>y"),
        ("<s></s>", "< s>< /s>"),
        ("<<|a|>|a|>", "<< |a|>|a|>"),
        ("<|<|a|>a|>", "<|< |a|>a|>"),
        ("[The Begin of Response 1]", "[ The Begin of Response 1]"),
    ],
)
def test_one_visible_space_and_nothing_else(text: str, expected: str) -> None:
    assert neutralise(text, TOKENS) == expected


def test_a_string_formed_by_the_inserted_space_goes_too() -> None:
    assert neutralise("ab", ["ab", "a b"]) == "a  b"


def test_overlapping_occurrences() -> None:
    assert neutralise("aaaa", ["aa"]) == "a a a a"


def test_outer_spaces_of_a_forbidden_string_do_not_stop_it() -> None:
    assert neutralise("x ab ", [" ab "]) == "x a b "


def test_nothing_forbidden_changes_nothing() -> None:
    assert neutralise("<|a|>", []) == "<|a|>"


@pytest.mark.parametrize("forbidden", [["<"], [""], ["a "], ["  "]])
def test_what_a_space_cannot_break_is_refused(forbidden: list[str]) -> None:
    with pytest.raises(ValueError, match="too short"):
        neutralise("text", forbidden)


pieces = st.sampled_from(["<", "|", "a", ">", "/", "s", " ", "\n", "<|a|>", "<s>"])
fragments = st.lists(pieces, max_size=24).map("".join)
forbidden_sets = st.lists(
    st.lists(pieces, min_size=1, max_size=4).map("".join).filter(lambda s: len(s.strip(" ")) > 1),
    max_size=5,
)


@given(text=st.one_of(st.text(), fragments), forbidden=forbidden_sets)
def test_no_input_keeps_a_forbidden_string(text: str, forbidden: list[str]) -> None:
    clean = neutralise(text, forbidden)
    assert not any(string in clean for string in forbidden)
    assert neutralise(clean, forbidden) == clean
    assert clean.replace(" ", "") == text.replace(" ", "")
    if not any(string in text for string in forbidden):
        assert clean == text


@given(fragments)
def test_real_tokens_inside_any_text(text: str) -> None:
    clean = neutralise(text, TOKENS)
    assert not any(token in clean for token in TOKENS)
