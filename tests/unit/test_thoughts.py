"""A judge that thinks first: only what it answers is read."""

from __future__ import annotations

import pytest
import tokenizer_shapes as shapes
from endpoint_world import answer as answered
from tokenizer_shapes import tokenizer

from spct.judge.parse import Outcome
from spct.judge.task import Judge
from spct.lm import LM
from spct.records import Item
from spct.sampling import openai_wire as wire
from spct.sampling import principles
from spct.thoughts import MARKS, answer, opened

OK, MALFORMED, TRUNCATED = Outcome.ok, Outcome.malformed, Outcome.truncated
BOX, OTHER = "\\boxed{9, 2}", "\\boxed{2, 9}"


@pytest.mark.parametrize(
    ("text", "by_prompt", "finish", "outcome"),
    [
        pytest.param(f"<think>{OTHER}</think>{BOX}", False, "stop", OK, id="thought_first"),
        pytest.param(f"\n<think>\n{OTHER}\n</think>\n\n{BOX}", False, "stop", OK, id="lines"),
        pytest.param(f"{OTHER}</think>{BOX}", True, "stop", OK, id="opened_by_the_prompt"),
        pytest.param(f"{OTHER}</think>{BOX}", False, "stop", OK, id="close_alone"),
        pytest.param(BOX, False, "stop", OK, id="no_thoughts"),
        pytest.param(f"<think></think>{BOX}", False, "stop", OK, id="empty_thoughts"),
        pytest.param(f"a line that quotes <think> {BOX}", False, "stop", OK, id="quoted_open"),
        pytest.param(f"it says </think> {BOX}", False, "stop", OK, id="quoted_close"),
        pytest.param(f"<think>{BOX}</think>so", False, "stop", MALFORMED, id="box_in_thoughts"),
        pytest.param(f"<think>{BOX}", False, "stop", MALFORMED, id="never_closed"),
        pytest.param(f"{BOX}", True, "stop", MALFORMED, id="never_closed_opened_by_the_prompt"),
        pytest.param(f"a</think>b\n<think>{BOX}", False, "stop", MALFORMED, id="opened_again"),
        pytest.param(f"<think>{BOX}", False, "length", TRUNCATED, id="cut_in_thoughts"),
        pytest.param(f"<think>a</think>{BOX}", False, "length", TRUNCATED, id="cut_in_the_answer"),
        pytest.param("<think>a</think>\\boxed{9}", False, "stop", Outcome.wrong_count, id="count"),
        pytest.param("<think>a</think>\\boxed{9, 99}", False, "stop", Outcome.out_of_range,
                     id="range"),
    ],
)  # fmt: skip
def test_which_part_is_read(
    judge: Judge, items: list[Item], text: str, by_prompt: bool, finish: str, outcome: Outcome
) -> None:
    found = judge.read(items[0], [0, 1], text, finish, by_prompt)
    assert found.outcome is outcome
    assert found.scores == ([9, 2] if outcome is OK else None)


@pytest.mark.parametrize("marks", [pytest.param(m, id=f"{i}") for i, m in enumerate(MARKS)])
def test_every_kind_of_marks(marks: tuple[str, str]) -> None:
    opening, closing = marks
    assert answer(f"{opening}no{closing}yes") == "yes"
    assert answer(f"{opening}no") is None
    assert answer("no", opened=True) is None
    assert opened(f"assistant{opening}\n") and not opened(f"{opening}\n\n{closing}\n\n")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("<THINK>no</THINK>yes", "yes", id="upper_case"),
        pytest.param("<Think>\nno", None, id="upper_case_open"),
        pytest.param('<think time="9">\nno', None, id="attribute"),
        pytest.param("<think >no</think >yes", "yes", id="space"),
        pytest.param("<think>a<think>b</think>no</think>yes", "yes", id="nested"),
        pytest.param(
            "<|channel|>analysis<|message|>no<|end|><|start|>assistant<|channel|>final "
            "<|constrain|>json<|message|>yes", "yes", id="constrained_channel",
        ),
        pytest.param("<|start|>assistant<|channel|>analysis<|message|>no", None, id="head"),
        pytest.param("<thinker>yes", "<thinker>yes", id="another_tag"),
    ],
)  # fmt: skip
def test_marks_are_known_however_they_are_written(text: str, read: str | None) -> None:
    assert answer(text) == read


def test_empty_lines_cost_a_look_each() -> None:
    """With a look from each to the last, these would take hours."""
    assert answer("\n " * 300_000) is not None


def test_a_template_that_opens_thoughts_is_known() -> None:
    assert LM(None, tokenizer(shapes.DEEPSEEK), "x").thinks
    for shape in (shapes.CHATML, shapes.PLAIN):
        assert not LM(None, tokenizer(shape), "x").thinks


def test_principles_are_those_of_the_answer() -> None:
    text = "<think>Principles: rich 1</think>Principles: brief 5"
    assert principles.read(text, "stop") == "brief 5"
    assert principles.read("Principles: rich 1", "stop", thinks=True) is None


@pytest.mark.parametrize(
    ("content", "finish", "outcome"),
    [
        pytest.param(BOX, "stop", OK, id="answer"),
        pytest.param(None, "stop", MALFORMED, id="no_answer"),
        pytest.param("", "length", TRUNCATED, id="cut_in_thoughts"),
        pytest.param(f"<think>{OTHER}</think>{BOX}", "stop", OK, id="thoughts_in_the_content"),
    ],
)
def test_thoughts_that_an_endpoint_returns_apart_are_not_read(
    judge: Judge, items: list[Item], content: str | None, finish: str, outcome: Outcome
) -> None:
    for name in ("reasoning_content", "reasoning"):
        said = answered("", {"messages": [{"content": ""}]}, finish)
        said["choices"][0]["message"] |= {"content": content, name: OTHER}
        done = wire.completion(said)
        found = judge.read(items[0], [0, 1], done.text or "", done.finish)
        assert found.outcome is outcome and OTHER not in (done.text or "").split("</think>")[-1]
