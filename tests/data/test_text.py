"""What comparisons of texts leave out: prose is found again, maths and code are kept apart."""

from __future__ import annotations

import pytest

from spct.data import audit
from spct.data.dedupe import Seen
from spct.data.flaws import flaw
from spct.data.text import normal, squeezed
from spct.records import Item, Label

SAME = {
    "case": ("What IS it?", "what is it?"),
    "spaces": ("what  is\n it", "what is it"),
    "end": ("Held out!", "held out"),
    "commas": ("Which one, this or that?", "which one this or that"),
    "year": ("In 2004, he left.", "in 2004 he left"),
    "apostrophe": ("Don’t stop", "don't stop"),
    "quotes": ("“Go home,” he said.", "go home he said"),
    "hyphen": ("A well-known fact", "a well known fact"),
    "dash": ("Stop — now", "stop now"),
    "dots": ("Wait...", "wait…"),
    "emphasis": ("It is **very** good", "it is very good"),
    "wide": ("ＡＢＣ", "abc"),
    "composed": ("caf\u00e9", "cafe\u0301"),
    "unseen": ("zero\u200bwidth\ufeff", "zerowidth"),
    "chinese": ("漢字です。はい，そう", "漢字です はい そう"),
    "minus": ("x = −3", "x = -3"),
    "around-signs": ("a>b", "a > b"),
    "tuple": ("f(1, 2)", "f(1,2)"),
    "single-quotes": ("‘Go home,’ he said.", "'go home' he said"),
    "money": ("It costs $5 and $6.", "it costs $5 and $6"),
    "underlined": ("It is _very_ good", "it is very good"),
    "question-of-maths": ("What is f(x)?", "what is f(x)"),
}
DIFFERENT = {
    "plus-minus": ("What is 7 - 4?", "What is 7 + 4?"),
    "sign": ("x = -3", "x = 3"),
    "brackets": ("[1, 5)", "(1, 5]"),
    "less-more": ("return a if a > b", "return a if a < b"),
    "at-most": ("a ≤ b", "a ≥ b"),
    "langs": ("main.c++", "main.c#"),
    "power": ("10²", "102"),
    "index": ("H₂O", "H2O"),
    "half": ("1½", "11/2"),
    "factorial": ("What is 5!?", "What is 5?"),
    "factorial-n": ("Compute n!", "Compute n"),
    "derivative": ("f'(x)", "f(x)"),
    "second": ("f''(x)", "f'(x)"),
    "decimal": ("1.5", "15"),
    "thousands": ("1,000", "1.000"),
    "not": ("if !done", "if done"),
    "text-number": ('x = "5"', "x = 5"),
    "slice": ("a[1:]", "a[:1]"),
    "times": ("a * b", "a ** b"),
    "arrow": ("p → q", "p ← q"),
    "member": ("x ∈ A", "x ∉ A"),
    "percent": ("50%", "50"),
    "money": ("$5", "£5"),
    "increment": ("i++", "i--"),
    "ternary": ("a ? b : c", "a b c"),
    "vowel-signs": ("कि", "की"),
    "digits": ("1 2", "12"),
    "hyphen-of-maths": ("x-y", "x y"),
    "regex-in-a-line": ("What does `ab?` match?", "What does `ab.` match?"),
    "lazy": (".*? matches", ".* matches"),
    "null-coalescing": ("aa ?? bb", "aa ? bb"),
    "case-of-code": ("What is `A`?", "What is `a`?"),
    "case-of-maths": ("What is $X_1$?", "What is $x_1$?"),
    "case-of-latex": (r"\(A_1\) and \(b\)", r"\(a_1\) and \(b\)"),
    "unit": ("Convert 5 mW.", "Convert 5 MW."),
    "feet-and-inches": ("5'", '5"'),
    "shell-quotes": ("echo '$x'", 'echo "$x"'),
    "dash-and-dot": ("7 — 4", "7 · 4"),
    "dash-as-minus": ("7 — 4", "7 4"),
    "dunder": ("__init__", "init"),
    "one-starred-letter": ("2 *x* 3", "2 x 3"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_texts_that_read_the_same(one: str, other: str) -> None:
    assert normal(one) == normal(other)
    assert seen(f"The benchmark asks: {one}", f"the benchmark asks {other}") == "in_benchmark"


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_texts_that_differ_in_a_sign(one: str, other: str) -> None:
    assert normal(one) != normal(other)
    assert flaw(item("Which?", one, other), 0) is None  # two responses, not one twice
    assert seen(one, other) == ""
    assert audited(one, other) == []


def item(ask: str, *responses: str, id: str = "i", system: str = "") -> Item:
    turns = ({"role": "system", "content": system},) * bool(system)
    turns = (*turns, {"role": "user", "content": ask})
    return Item(id, "set", "all", "d", turns, responses, Label("best", 0))


def seen(held: str, asked: str) -> str:
    """Why a training question is dropped beside the benchmark's."""
    before = Seen()
    before.hold_out(item(held, "a", "b"))
    found = before.repeats(item(asked, "a", "b"))
    return found[0] if found else ""


def audited(bench: str, train: str) -> list[str]:
    mine, theirs = (audit.item_texts([item(text, "y", "n")]) for text in (train, bench))
    return [pair.kind for pair, _ in audit.overlaps(mine, theirs, 13, 0.5)]


def test_marks_without_end_take_no_longer_than_prose() -> None:
    """A pattern that looked for the end behind each beginning took 22 seconds for the first."""
    for text in ("\\(" * 50_000, "$a" * 50_000, "`a" * 50_000, "'a b" * 30_000):
        assert normal(text)


def test_a_repeat_with_another_operator_is_none() -> None:
    before = Seen()
    assert before.repeats(item("What is 7 - 4?", "3", "11")) is None
    assert before.repeats(item("What is 7 + 4?", "11", "3")) is None
    again = before.repeats(item("what is  7+4", "11", "3"))
    assert again is not None and again[0] == "near_repeat"


def test_a_system_message_hides_no_benchmark_question() -> None:
    held = item("Which animal barks?", "a", "b")
    before = Seen()
    before.hold_out(held)
    mine = item("Which animal barks", "c", "d", system="You are kind.")
    found = before.repeats(mine)
    assert found is not None and found[0] == "in_benchmark"
    pairs = audit.overlaps(audit.item_texts([mine]), audit.item_texts([held]), 13, 0.5)
    assert [pair.kind for pair, _ in pairs] == ["exact"]


PROSE = "The quick brown fox, it is said, jumps over the lazy dog every single morning at nine."
SUM = " ".join(f"{i} +" for i in range(1, 30))


def test_runs_of_words_find_prose_and_keep_sums_apart() -> None:
    told = PROSE.upper().replace(",", " —").replace(".", "!")
    assert audited(PROSE, f"Someone wrote: {told} And more.") == ["ngram"]
    assert audited(f"What is {SUM} 30?", f"so what is {SUM} 30") == ["ngram"]
    assert audited(f"What is {SUM} 30?", f"so what is {SUM.replace('+', '-')} 30") == []


def test_what_has_no_width_is_white_space_and_what_cannot_be_seen_is_empty() -> None:
    assert squeezed("a\u200b\ufeff b\u2060") == "a b"
    for unseen in ("\u200b", "\x00", "\u2800 \n", "\u00ad"):
        assert flaw(item("Which?", unseen, "b"), 0) == ("empty_response", "response 0")
        assert flaw(item(unseen, "a", "b"), 0) == ("empty_prompt", "the last message has no text")
    assert flaw(item("Which?", "a", "a\u200b"), 0) == ("equal_responses", "responses 0 and 1")
    assert flaw(item("Which?", "👍", "👎"), 0) is None


@pytest.mark.parametrize(
    "changed", ["A b", "a b!", "a-b", "ab"], ids=["case", "end", "sign", "run"]
)
def test_responses_are_equal_but_for_white_space_alone(changed: str) -> None:
    assert squeezed("a b") == squeezed(" a\r\n\tb ") != squeezed(changed)
