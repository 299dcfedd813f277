"""Labels and items that cannot be used, shapes of graded answers, filters, repeats, draws."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct.data.answers import final_answer, same
from spct.data.dedupe import Seen
from spct.data.draw import drawn, quotas
from spct.data.filters import filtered
from spct.data.flaws import best_response, flaw, label_flaw, length_flaw
from spct.data.shapes import SHAPES, shaped
from spct.data.text import normal, words
from spct.judge.predicate import sides
from spct.records import Item, Label


def item(*responses: str, label: Label | None = None, id: str = "i", ask: str = "Why?") -> Item:
    given_label = label or Label("best", 0)
    return Item(id, "set", "all", "d", ({"role": "user", "content": ask},), responses, given_label)


# ---- flaws -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "n"),
    [
        ("best", 1, 2), ("pair_tie", {"winner": None, "strength": 0}, 2),
        ("pair_tie", {"winner": 1}, 2), ("graded", [1, 2.5], 2), ("graded", [3], 1),
        ("correct", [True], 1), ("groups", {"better": [2], "worse": [0, 1]}, 3),
        ("votes", [None, 0, 1], 2),
    ],
)  # fmt: skip
def test_labels_that_fit(kind: str, value: Any, n: int) -> None:
    assert label_flaw(Label(kind, value), n) == ""


@pytest.mark.parametrize(
    ("kind", "value", "n"),
    [
        ("best", 2, 2), ("best", -1, 2), ("best", True, 2), ("best", "0", 2), ("best", 0, 1),
        ("best", None, 2), ("pair_tie", {"winner": 2}, 2), ("pair_tie", {"winner": 0}, 3),
        ("pair_tie", {}, 2), ("pair_tie", 1, 2), ("graded", [1], 2), ("graded", ["1", "2"], 2),
        ("graded", [1, float("nan")], 2), ("graded", [1, float("inf")], 2), ("graded", 3, 2),
        ("correct", [1, 0], 2), ("correct", [True], 2), ("groups", {"better": [0]}, 2),
        ("groups", {"better": [], "worse": [0]}, 2), ("groups", {"better": [0], "worse": [0]}, 2),
        ("groups", {"better": [0], "worse": [2]}, 2), ("votes", [], 2), ("votes", [2], 2),
        ("votes", [True], 2),
    ],
)  # fmt: skip
def test_labels_that_name_no_response(kind: str, value: Any, n: int) -> None:
    assert label_flaw(Label(kind, value), n).startswith(f"{kind}: not")
    responses = [f"answer {i}" for i in range(n)]
    assert flaw(item(*responses, label=Label(kind, value)), 0) is not None


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 4) | st.floats() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["winner", "better", "worse"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(["best", "pair_tie", "graded", "correct", "groups", "votes"]), _VALUES,
       st.integers(1, 4))  # fmt: skip
def test_a_label_without_flaw_never_breaks_the_predicate(kind: str, value: Any, n: int) -> None:
    label = Label(kind, value)
    if label_flaw(label, n) or n == 1:
        return
    best = best_response(item(*map(str, range(n)), label=label))
    if isinstance(best, int):
        assert sides(label, n)[0] == [best]
    else:
        assert best[0] == "tie"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (item("a", " \n"), "empty_response"),
        (item("a", ""), "empty_response"),
        (item("a", "b", ask=" "), "empty_prompt"),
        (item("a b", " a\u00a0\n b"), "equal_responses"),
        (item("caf\u00e9", "cafe\u0301"), "equal_responses"),
        (item("a", "x" * 200_000), "too_long"),
        (item("a", "b", ask="x" * 200_000), "too_long"),
        (item("a", "b", label=Label("best", 2)), "bad_label"),
    ],
)
def test_flaws(found: Item, reason: str) -> None:
    wrong = flaw(found, 20_000)
    assert wrong is not None and wrong[0] == reason
    assert "xxx" not in wrong[1]


def test_the_length_of_an_item_is_that_of_all_its_texts() -> None:
    found = item("abc", "de", ask="Why?")
    assert length_flaw(found, 8) == ("too_long", "9 characters in all, over 8")
    assert length_flaw(found, 9) is None and length_flaw(found, 0) is None


def test_no_flaw() -> None:
    assert flaw(item("x" * 20_000, "?", "!"), 20_000) is None
    assert flaw(item("a", "x" * 200_000), 0) is None


@pytest.mark.parametrize(
    ("label", "n", "best"),
    [
        (Label("graded", [1, 3, 2]), 3, 1), (Label("graded", [3, 3, 2]), 3, "tie"),
        (Label("votes", [0, 0, 1]), 2, 0), (Label("votes", [None, 0, 1]), 2, "tie"),
        (Label("correct", [True, True]), 2, "tie"), (Label("correct", [False]), 1, 0),
        (Label("graded", [4]), 1, "unverifiable"),
        (Label("groups", {"better": [0, 1], "worse": [2]}), 3, "tie"),
        (Label("pair_tie", {"winner": None}), 2, "tie"),
    ],
)  # fmt: skip
def test_the_one_best_response(label: Label, n: int, best: int | str) -> None:
    found = best_response(item(*map(str, range(n)), label=label))
    assert (found if isinstance(found, int) else found[0]) == best


# ---- shapes ----------------------------------------------------------------------------------


def graded(*right: bool) -> Item:
    return item(*(f"answer {i}" for i in range(len(right))), label=Label("correct", list(right)))


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(0, 5))
def test_shapes_keep_what_is_right(right: list[bool], seed: int) -> None:
    whole = graded(*right)
    truth = dict(zip(whole.responses, right, strict=True))
    for shape in SHAPES:
        made = shaped(whole, shape, seed)
        if isinstance(made, tuple):
            assert shape != "single" and made[0] == ("all_right" if right[0] else "all_wrong")
            assert len(set(right)) == 1
            continue
        (one,) = made
        assert one.id.startswith("i#") and shaped(whole, shape, seed) == made
        assert one.responses == tuple(whole.responses[i] for i in one.meta["responses_of"])
        if shape == "single":
            assert one.label == Label("correct", [truth[one.responses[0]]])
            continue
        shown = [truth[text] for text in one.responses]
        assert one.label.kind == "best" and shown[one.label.value] and sum(shown) == 1
        assert one.n == (2 if shape == "pair" else 1 + right.count(False))


def test_every_answer_and_either_place_is_drawn() -> None:
    pairs = [shaped(graded(False, True, True, False), "pair", seed) for seed in range(60)]
    drawn_ = Counter(tuple(one.meta["responses_of"]) for (one,) in pairs)  # type: ignore[misc]
    assert set(drawn_) == {(0, 1), (0, 2), (1, 3), (2, 3)}


def test_a_shape_needs_grades() -> None:
    made = shaped(item("a", "b"), "pair", 0)
    assert isinstance(made, tuple) and made[0] == "not_graded"
    assert shaped(item("a", "b"), "", 0) == [item("a", "b")]


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"so \boxed{1} or \boxed{\frac{a}{b}}.", r"\frac{a}{b}"), ("x\n#### 12", "12"),
        ("x\nA: 3\nA: 4", "4"), (r"\boxed{1", None), ("none", None), (r"\fbox{7}", "7"),
    ],
)  # fmt: skip
def test_final_answers(solution: str, answer: str | None) -> None:
    assert final_answer(solution) == answer


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("1,200", "1200", True), (r"\frac{1}{2}", "0.5", True), (r"-\dfrac{1}{2}", "-1/2", True),
        (r"\text{ yes }", "Yes", True), ("12 \\%", "12", True), ("$5.00$", "5", True),
        (r"\left(1, 2\right)", "(1,2)", True), ("(1,2)", "(12)", False), ("1,2", "12", False),
        ("", "", False), ("1/0", "1/0", True), ("1/0", "2/0", False), ("x", "y", False),
        (r"\frac{1}{0}", "1", False), ("0.33", r"\frac{1}{3}", False),
    ],
)  # fmt: skip
def test_equal_answers(one: str, other: str, equal: bool) -> None:
    assert same(one, other) == same(other, one) == equal


# ---- filters, repeats, draws -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "label", "reason"),
    [
        ("", {}, Label("best", 0), ""),
        ("min_gap", {"min_gap": 0.5}, Label("graded", [1, 1.5]), ""),
        ("min_gap", {"min_gap": 0.5}, Label("graded", [1, 1.25]), "small_gap"),
        ("min_gap", {"min_gap": 0.5}, Label("best", 0), "other_kind"),
        ("min_strength", {"min_strength": 2}, Label("pair_tie", {"winner": 0, "strength": 2}), ""),
        ("min_strength", {"min_strength": 2},
         Label("pair_tie", {"winner": 0, "strength": 1}), "weak_preference"),
        ("single_turn", {}, Label("best", 0), ""),
    ],
)  # fmt: skip
def test_filters(name: str, options: dict[str, Any], label: Label, reason: str) -> None:
    flawed = filtered(item("a", "b", label=label), name, options)
    assert (flawed[0] if flawed else "") == reason


def test_words_and_normal_texts() -> None:
    assert words("Don't, STOP — ＡＢＣ é 漢字です!") == [
        "don", "t", "stop", "abc", "é", "漢", "字", "で", "す",
    ]  # fmt: skip
    assert normal(" A\n b. ") == normal("a B") and normal(" ?! ") == "?!"


def test_repeats() -> None:
    seen = Seen()
    seen.hold_out(item("x", "y", ask="What is it?"))

    def reason(*responses: str, ask: str = "Why?") -> str:
        found = seen.repeats(item(*responses, ask=ask))
        return found[0] if found else ""

    assert reason("a", "b") == ""
    assert reason("b", "a") == "repeat"
    assert reason("A.", "b", ask="why") == "near_repeat"
    assert reason("a", "c") == reason("a", "b", "c") == ""
    assert reason("p", "q", ask="what  IS it") == "in_benchmark"


@given(st.dictionaries(st.sampled_from("abcde"), st.tuples(st.integers(0, 30),
       st.floats(0.1, 9)), min_size=1), st.integers(0, 120))  # fmt: skip
def test_quotas_add_up(sources: dict[str, tuple[int, float]], total: int) -> None:
    sizes = {name: count for name, (count, _) in sources.items()}
    taken = quotas(sizes, {name: weight for name, (_, weight) in sources.items()}, total)
    assert sum(taken.values()) == (
        min(total, sum(sizes.values())) if total else sum(sizes.values())
    )
    assert all(0 <= taken[name] <= sizes[name] for name in sizes)


def test_quotas_follow_the_weights_and_pass_on_what_is_short() -> None:
    weights = {"a": 1.0, "b": 3.0}
    assert quotas({"a": 100, "b": 100}, weights, 40) == {"a": 10, "b": 30}
    assert quotas({"a": 100, "b": 12}, weights, 40) == {"a": 28, "b": 12}


def test_a_draw_grows_and_depends_on_ids_alone() -> None:
    items = [item("a", "b", id=f"i{i}") for i in range(50)]
    few, more = drawn(items, 10, 1), drawn(items, 20, 1)
    assert len(few) == 10 and {i.id for i in few} < {i.id for i in more}
    assert [i.id for i in more] == [i.id for i in items if i in more]
    assert {i.id for i in drawn(items[::-1], 10, 1)} == {i.id for i in few}
    assert {i.id for i in drawn(items, 10, 2)} != {i.id for i in few}
