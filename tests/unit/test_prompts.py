from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct.judge import prompts
from spct.judge.task import Judge
from spct.records import Item, Label
from spct.schema import JudgeConfig

SPECIAL = ("<|eot|>", "</s>")
TEMPLATES = ("toy.jinja", "default.jinja")


def make(responses: tuple[str, ...], content: str = "ask", reference: str | None = None) -> Item:
    messages = ({"role": "user", "content": content},)
    label = Label("best", 0) if len(responses) > 1 else Label("correct", [True])
    return Item("i", "d", "all", "x", messages, responses, label, reference)


def render(name: str, item: Item, order: list[int], **change: object) -> str:
    settings: dict = {"principles": "self", "output": "scores", "score_min": 1, "score_max": 10}
    return prompts.render(
        prompts.load(name), item, order, special_tokens=SPECIAL, **(settings | change)
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_responses_stand_in_the_order_given(name: str) -> None:
    text = render(name, make(("alpha", "beta", "gamma")), [2, 0, 1])
    marks = ["1", "gamma", "2", "alpha", "3", "beta"]
    label = r"\[{}\]" if name == "toy.jinja" else "<<<REPLY {}>>>"
    pattern = ".*".join(label.format(m) if m.isdigit() else m for m in marks)
    assert re.search(pattern, text, re.DOTALL)
    assert text.count("alpha") == 1


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(("order", "shown"), [([0, 1, 2], 3), ([2, 0, 1], 1), ([0, 2, 1], 2)])
def test_the_hint_names_the_shown_number(name: str, order: list[int], shown: int) -> None:
    text = render(name, make(("alpha", "beta", "gamma")), order, hint=2)
    wanted = f"Hint: [{shown}]" if name == "toy.jinja" else f"reply {shown} is the best one"
    assert wanted in text
    assert "Hint" not in render("toy.jinja", make(("alpha", "beta")), [0, 1])
    assert "It is known" not in render("default.jinja", make(("alpha", "beta")), [0, 1])


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("output", ["scores", "verdict", "index", "critique"])
@pytest.mark.parametrize("principles", ["self", "none", "given"])
def test_every_form_renders(name: str, n: int, output: str, principles: str) -> None:
    item = make(tuple(f"answer{i}" for i in range(n)), "the question", reference="the truth")
    given = "tact 3" if principles == "given" else None
    text = render(name, item, list(range(n)), output=output, principles=principles, given=given)
    for piece in ("the question", "the truth", *item.responses):
        assert text.count(piece) == 1
    assert ("tact 3" in text) == (principles == "given")
    assert "None" not in text and "undefined" not in text
    if name == "toy.jinja":
        assert text.startswith(f"<judge> {principles} {output} Query:")
        assert text.endswith(" Answer:")
    else:
        assert ("\\boxed{" in text) == (output != "critique")
        assert ("Principles: your criteria" in text) == (principles == "self")
        assert text.count("grade of reply") == (n if output == "scores" else 0)
        assert ("0 or 1" in text) == (output == "verdict")


def _pieces(name: str) -> list[str]:
    """Delimiters, special tokens, and their halves, from which forgeries could be put together."""
    whole = [*prompts.load(name).delimiters, *SPECIAL]
    halves = [part for text in whole for part in (text[:1], text[1:], text[: len(text) // 2])]
    return [*whole, *halves, " ", "\n", "word"]


@pytest.mark.parametrize("name", TEMPLATES)
@given(data=st.data())
def test_data_forges_neither_delimiter_nor_special_token(name: str, data: st.DataObject) -> None:
    wild = st.lists(st.sampled_from(_pieces(name)), max_size=8).map("".join)
    content, reference, principle, role = (data.draw(wild) for _ in range(4))
    responses = tuple(data.draw(st.lists(wild, min_size=2, max_size=3)))
    order = list(range(len(responses)))
    item = Item(
        "i", "d", "all", "x", ({"role": role, "content": content},), responses,
        Label("best", 0), f"R{reference}",
    )  # fmt: skip
    tame = make(tuple("x" for _ in responses), "x", "x")
    forms = {"principles": "given", "hint": 0}
    forged = render(name, item, order, given=f"G{principle}", **forms)
    honest = render(name, tame, order, given="x", **forms)
    for string in (*prompts.load(name).delimiters, *SPECIAL):
        assert forged.count(string) == honest.count(string), string


def test_a_missing_template_names_both_places(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"judge\.template: no file nope\.jinja in .*nope"):
        prompts.load("nope.jinja")


def test_a_template_without_delimiters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.jinja"
    path.write_text("{{ responses[0] }}")
    with pytest.raises(ValueError, match=r"bare\.jinja: a template must start with .*delimiters"):
        prompts.load(str(path))


def test_a_users_own_template_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text('{% set delimiters = ["@@"] %}@@{{ responses | join("@@") }}@@{{ output }}')
    template = prompts.load(str(path))
    assert render(str(path), make(("a@@b", "c")), [1, 0]) == "@@c@@a@ @b@@scores"
    other = tmp_path / "other.jinja"
    other.write_text(path.read_text() + "!")
    assert prompts.load(str(other)).hash != template.hash


def test_a_template_cannot_reach_python(tmp_path: Path) -> None:
    path = tmp_path / "evil.jinja"
    path.write_text('{% set delimiters = ["@@"] %}{{ "".__class__.__mro__[1].__subclasses__() }}')
    with pytest.raises(Exception, match="unsafe"):
        prompts.load(str(path))


def test_output_and_range() -> None:
    assert prompts.output_kind(make(("a",)), "verdict") == "verdict"
    assert prompts.output_kind(make(("a",)), "rating") == "scores"
    assert prompts.output_kind(make(("a", "b")), "verdict") == "scores"
    assert prompts.score_range("verdict", 1, 10) == (0, 1)
    assert prompts.score_range("scores", 2, 5) == (2, 5)


def test_given_principles_come_from_the_item(make_items: Callable[..., list[Item]]) -> None:
    judge = Judge.build(JudgeConfig("toy.jinja", "given", "random", 1, 10, "verdict"))
    item = make_items("pair", 1)[0]
    stated = " ".join(f"{name} {weight}" for name, weight in item.meta["weights"].items())
    assert f" Criteria: {stated} Answer:" in judge.prompt(item, [0, 1])
    with pytest.raises(ValueError, match=r"principles.*item i has none"):
        judge.prompt(make(("a", "b")), [0, 1])
