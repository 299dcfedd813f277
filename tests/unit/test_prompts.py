from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spct.errors import ConfigError
from spct.judge import prompts
from spct.judge.parse import parse
from spct.judge.probe import try_out
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
@pytest.mark.parametrize("n", [1, 2, 4, 7])
@pytest.mark.parametrize("output", ["scores", "verdict", "index", "critique"])
@pytest.mark.parametrize("principles", ["self", "none", "given"])
def test_every_form_renders(name: str, n: int, output: str, principles: str) -> None:
    item = make(tuple(f"answer{i}" for i in range(n)), "the question", reference="the truth")
    given = "tact 3" if principles == "given" else None
    order = [*range(1, n), 0]
    text = render(name, item, order, output=output, principles=principles, given=given)
    for piece in ("the question", "the truth", *item.responses):
        assert text.count(piece) == 1
    assert re.findall(r"answer\d", text) == [f"answer{i}" for i in order]
    assert text.count("tact 3") == (principles == "given")
    assert "None" not in text and "undefined" not in text
    if name == "toy.jinja":
        assert text.startswith(f"<judge> {principles} {output} Query:")
        assert text.endswith(" Answer:")
    else:
        assert ("\\boxed{" in text) == (output != "critique")
        assert ("Principles: your criteria" in text) == (principles == "self")
        assert text.count("Critique:") == 1
        assert ("0 or 1" in text) == (output == "verdict")


@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_the_box_asked_for_has_a_number_per_response(n: int) -> None:
    item = make(tuple(f"answer{i}" for i in range(n)))
    text = render("default.jinja", item, list(range(n)), score_min=2, score_max=7)
    box = re.findall(r"\\boxed\{([^}]*)\}", text)[-1]
    assert box.split(", ") == [f"grade of reply {i + 1}" for i in range(n)]
    assert "a whole number from 2 to 7" in text and "10" not in text


@pytest.mark.parametrize("n", [1, 2, 5, 9])
@pytest.mark.parametrize("output", ["scores", "verdict", "index", "critique"])
def test_the_short_prompts_examples_can_be_read_and_point_either_way(n: int, output: str) -> None:
    item = make(tuple(f"answer{i}" for i in range(n)), reference="the truth")
    settings = {"output": output, "score_min": 2, "score_max": 7}
    text = render("short.jinja", item, list(range(n)), **settings)
    for piece in ("ask", "the truth", *item.responses):
        assert text.count(piece) == 1 or piece == "ask"
    low, high = {"verdict": (0, 1), "index": (1, n)}.get(output, (2, 7))
    boxes = re.findall(r"\\boxed\{[^}]*\}", text)
    counts = {"scores": n, "critique": 0}.get(output, 1)
    assert len(boxes) == 2 * (counts > 0)
    found = [parse(box, counts, low, high).scores for box in boxes]
    assert all(found) and (output == "critique" or n == 1 or found[0] != found[1])
    if output == "scores" and n == 2:
        (a, b), (c, d) = found
        assert a < b and c > d


def test_a_verdict_asks_for_one_bit_and_a_rating_for_the_range() -> None:
    item = make(("alpha",))
    verdict = render("default.jinja", item, [0], output="verdict")
    rating = render("default.jinja", item, [0], output="scores")
    assert verdict.endswith("\\boxed{0 or 1}") and "from 1 to 10" not in verdict
    assert rating.endswith("\\boxed{grade of reply 1}") and "from 1 to 10" in rating


@pytest.mark.parametrize("name", TEMPLATES)
def test_without_reference_or_hint_nothing_tells_of_them(name: str) -> None:
    bare = render(name, make(("alpha", "beta")), [0, 1])
    whole = render(name, make(("alpha", "beta"), reference="truth"), [0, 1], hint=1)
    for word in ("reference", "hint", "known"):
        assert word not in bare.lower()
    assert "truth" in whole and len(whole) > len(bare)


@pytest.mark.parametrize("name", TEMPLATES)
def test_principles_are_asked_for_before_any_response_is_seen(name: str) -> None:
    item = make(("alpha", "beta"), "the question", reference="the truth")
    text = prompts.render_principles(prompts.load(name), item, score_min=1, score_max=10)
    assert text.count("the question") == 1
    for unseen in (*item.responses, "the truth", "\\boxed", "Critique:", "REPLY", "[1]"):
        assert unseen not in text
    if name == "toy.jinja":  # what the shipped bases were pretrained on
        assert text == "<judge> self principles Query: the question Answer:"
    else:
        assert "Principles: your criteria" in text


def test_every_turn_stands_between_marks_of_its_own() -> None:
    turns = [("system", "be kind"), ("user", "ask"), ("assistant", "hm"), ("user", "ask again")]
    messages = tuple({"role": role, "content": content} for role, content in turns)
    item = replace(make(("alpha", "beta")), messages=messages)
    text = render("default.jinja", item, [0, 1])
    for number, (role, content) in enumerate(turns, 1):
        assert f"<<<TURN {number} ({role})>>>\n{content}\n" in text


@pytest.mark.parametrize("principles", ["self", "none", "fixed", "query_only"])
@pytest.mark.parametrize("answer", ["scores", "index"])
def test_the_short_prompt_serves_every_configuration(principles: str, answer: str) -> None:
    config = JudgeConfig("short.jinja", principles, "random", 1, 10, "verdict")
    try_out(prompts.load(config.template), replace(config, answer=answer), SPECIAL)


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
    shown = '{{ messages[0].content }}\n@@\n{{ responses | join("\n@@\n") }}\n'
    path.write_text('{% set delimiters = ["@@"] %}' + shown)
    judge = Judge.build(JudgeConfig(str(path), "none", "random", 1, 10, "verdict"))
    template = judge.template
    assert judge.prompt(make(("a@@b", "c")), [1, 0]) == "ask\n@@\nc\n@@\na@ @b"
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


@pytest.mark.parametrize("name", TEMPLATES)
def test_fixed_principles_are_those_of_the_configuration(name: str) -> None:
    config = JudgeConfig(name, "fixed", "random", 1, 10, "verdict", "correct 2 clear 1")
    judge = Judge.build(config)
    text = judge.prompt(make(("alpha", "beta")), [0, 1])
    assert text.count("correct 2 clear 1") == 1
    given = render(name, make(("alpha", "beta")), [0, 1], principles="given", given=config.criteria)
    assert text == given


@pytest.mark.parametrize("name", TEMPLATES)
def test_query_only_has_the_principles_given_or_none(name: str) -> None:
    judge = Judge.build(JudgeConfig(name, "query_only", "random", 1, 10, "verdict"))
    item = make(("alpha", "beta"))
    with_text = judge.prompt(item, [1, 0], principles="tact 3")
    assert with_text == render(name, item, [1, 0], principles="given", given="tact 3")
    for nothing in (None, ""):
        without = judge.prompt(item, [1, 0], principles=nothing)
        assert without == render(name, item, [1, 0], principles="none")


def test_criteria_are_a_text_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("be\nkind\n")
    assert prompts.read_criteria(str(path)) == "be\nkind"
    assert prompts.read_criteria("toy.txt") == "correct 2 clear 1"
    assert prompts.read_criteria("general.txt").startswith("- Correct (weight 3)")
    for text in ("", "kind", "be kind 2 brief 1", "a/b is fine\nin a text", "x" * 5000):
        assert prompts.read_criteria(f" {text}\n") == text
    for missing in ("none.txt", str(tmp_path / "none")):
        with pytest.raises(ValueError, match=r"judge\.criteria: no file .*none.* nor at "):
            prompts.read_criteria(missing)


# ---- a template is tried out ---------------------------------------------------------------------

GOOD = """{% set delimiters = ["@@"] %}{{ principles }} {{ output }}
{% for m in messages %}{{ m.content }}
{% endfor %}{% for r in responses %}@@
{{ r }}
{% endfor %}{% if given %}{{ given }}
{% endif %}"""


def config_of(principles: str = "self", template: str = "mine") -> JudgeConfig:
    return JudgeConfig(template, principles, "random", 1, 10, "verdict", "a text")


def tried(text: str, principles: str = "self", special_tokens: tuple[str, ...] = ()) -> str:
    """What is wrong with a template; empty if nothing."""
    try:
        template = prompts.from_text("mine", text)
        try_out(template, config_of(principles), special_tokens)
    except ConfigError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("principles", ["self", "none", "fixed", "query_only", "given"])
@pytest.mark.parametrize("name", [*TEMPLATES, "mine"])
def test_good_templates_pass(name: str, principles: str) -> None:
    template = prompts.from_text("mine", GOOD) if name == "mine" else prompts.load(name)
    try_out(template, config_of(principles), ["<|im_start|>", "[INST]", "</s>", "<pad>"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{{ m.content }}", "", "mine: does not show the query"),
        ("{{ r }}", "", r"mine: does not show response 1 of 1 \(with 1 response\(s\)"),
        ("in responses", "in responses[:1]", "does not show response 2 of 2"),
        ("in responses", "in responses[:3]", "does not show response 4 of 4"),
        ("in responses", "in responses | reverse", "responses in another order"),
        ("{{ r }}", "{{ r | upper }}", "does not show response 1 of 1"),
        ("{{ r }}", "{{ s }}", "^mine: 's' is undefined$"),
        ("{{ r }}", "{{ r + 1 }}", "^mine: .*str"),
        ("{{ r }}", "{{ r }}@", "lets a text touch '@@'; put a line break"),
        ("{{ r }}", "@{{ r }}", "lets a text touch '@@'"),
        ("{{ r }}", "{{ r }}{{ messages[0].content }}", "lets a text touch '@@'"),
        ("@@\n{{ r }}", "@@{{ r }}", "lets a text touch '@@'"),
        ("@@\n{{ r }}", "@@ {{ r }} @@", ""),
    ],
)
def test_what_a_template_gets_wrong_is_named(old: str, new: str, message: str) -> None:
    found = tried(GOOD.replace(old, new))
    assert re.search(message, found) if message else not found


def test_a_given_text_must_be_shown_where_one_is_asked_for() -> None:
    text = GOOD.replace("{{ given }}", "")
    assert tried(text, "self") == tried(text, "none") == ""
    for principles in ("fixed", "given", "query_only"):
        assert "does not show the principles given" in tried(text, principles)


def test_query_only_needs_a_template_that_works_without_responses() -> None:
    text = GOOD + "{{ responses[0] }}\n"
    assert tried(text, "self") == ""
    assert re.search(
        r"mine: .*\(with 0 response\(s\), output principles", tried(text, "query_only")
    )


def test_the_tokenizers_special_tokens_may_not_be_touched_either() -> None:
    text = GOOD.replace("{{ r }}", "Human: {{ r }}|x")
    assert tried(text, special_tokens=("<|x|>",)) == ""
    assert "touch '<x|X'" in tried(text, special_tokens=("<x|X",))
    assert "touch ': go'" in tried(text, special_tokens=(": go",))
    with pytest.raises(ConfigError, match="touch"):
        Judge.build(config_of(template="toy.jinja"), [": go"])
