"""Loaders on rows written by hand in upstream's schema, those of sets not at hand among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spct.data import catalog, sources
from spct.data.reading import Dropped
from spct.records import Item, Label
from spct.schema import SourceConfig

USER, BOT = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}


def load(folder: Path, loader: str, *rows: Any, **source: Any) -> list[Item | Dropped]:
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = SourceConfig("set", loader, ["x.jsonl"], **source)
    return list(catalog.GENERAL[loader]([path], config))


def one(folder: Path, loader: str, row: Any, **source: Any) -> Item:
    (item,) = load(folder, loader, row, **source)
    assert isinstance(item, Item), item
    return item


def reason(folder: Path, loader: str, row: Any, **source: Any) -> str:
    (found,) = load(folder, loader, row, **source)
    assert isinstance(found, Dropped) and found.where == "x.jsonl:1"
    return found.reason


def helpsteer(strength: int, prompt: str = "Why?", split: str = "train") -> dict[str, Any]:
    return {"split": split, "prompt": prompt, "response_1": "one", "response_2": "two",
            "preference_strength": strength, "preference_statement": "…"}  # fmt: skip


@pytest.mark.parametrize(("strength", "winner"), [(-3, 0), (-1, 0), (0, None), (1, 1), (3, 1)])
def test_helpsteer2_a_negative_strength_prefers_the_first(
    tmp_path: Path, strength: int, winner: int | None
) -> None:
    item = one(tmp_path, "helpsteer2_preference", helpsteer(strength), split="train")
    assert item.label == Label("pair_tie", {"winner": winner, "strength": abs(strength)})
    assert item.responses == ("one", "two") and item.id == "set/x.jsonl:1"


def test_helpsteer2_turns_and_splits(tmp_path: Path) -> None:
    prompt = "Hi\n\n<extra_id_1>Assistant\nHello\n\n<extra_id_1>User\nWhy?"
    item = one(tmp_path, "helpsteer2_preference", helpsteer(1, prompt))
    assert [(m["role"], m["content"]) for m in item.messages] == [
        ("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"),
    ]  # fmt: skip
    row = helpsteer(1, split="validation")
    assert reason(tmp_path, "helpsteer2_preference", row, split="train") == "other_split"


def ultra(*ratings: list[str]) -> dict[str, Any]:
    aspects = ("helpfulness", "honesty", "instruction_following", "truthfulness")
    return {
        "source": "evol_instruct", "instruction": "Why?", "models": [],
        "completions": [
            {"model": f"m{i}", "response": f"r{i}", "overall_score": 10.0,
             "annotations": {a: {"Rating": r, "Rationale": ""}
                             for a, r in zip(aspects, four, strict=True)}}
            for i, four in enumerate(ratings)
        ],
    }  # fmt: skip


def test_ultrafeedback_grades_by_the_mean_of_the_aspects(tmp_path: Path) -> None:
    item = one(tmp_path, "ultrafeedback", ultra(["5", "4", "5", "4"], ["1", "1", "1", "2"]))
    assert item.label == Label("graded", [4.5, 1.25])
    assert item.subset == "evol_instruct" and item.meta == {"models": ["m0", "m1"]}
    assert reason(tmp_path, "ultrafeedback", ultra(["5", "N/A", "5", "4"])) == "no_label"


@pytest.mark.parametrize(("label", "best"), [(1, 0), (2, 1), ("2", 1)])
def test_offsetbias(tmp_path: Path, label: Any, best: int) -> None:
    row = {"instruction": "Why?", "output_1": "a", "output_2": "b", "label": label}
    item = one(tmp_path, "offsetbias", row)
    assert item.label == Label("best", best) and item.responses == ("a", "b")


def test_skywork_pairs_share_all_but_the_last_turn(tmp_path: Path) -> None:
    worse = {"role": "assistant", "content": "Because."}
    row = {"chosen": [USER, BOT, USER, BOT], "rejected": [USER, BOT, USER, worse], "source": "m"}
    item = one(tmp_path, "skywork_preference_80k_v02", row)
    assert item.messages == (USER, BOT, USER) and item.responses == ("So.", "Because.")
    assert item.subset == "m" and item.label == Label("best", 0)
    other = {"chosen": [USER, BOT], "rejected": [BOT, worse], "source": "m"}
    assert reason(tmp_path, "skywork_preference_80k_v02", other) == "context_differs"
    ends = {"chosen": [USER], "rejected": [USER], "source": "m"}
    assert reason(tmp_path, "skywork_preference_80k_v02", ends) == "no_response"


def test_math_is_graded_by_its_answers(tmp_path: Path) -> None:
    row = {"problem": "1/2?", "level": "Level 1", "type": "Algebra",
           "solution": r"It is $\boxed{\frac{1}{2}}$.",
           "responses": [r"\boxed{0.5}", r"\boxed{\dfrac12}", "half", r"\boxed{2}"]}  # fmt: skip
    item = one(tmp_path, "math", row)
    assert item.label == Label("correct", [True, False, False, False])
    assert item.reference == r"\frac{1}{2}"
    assert reason(tmp_path, "math", {**row, "responses": None}) == "no_response"
    assert reason(tmp_path, "math", {**row, "solution": "0.5"}) == "no_label"


def test_hh_rlhf_turns(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant:"
    item = one(tmp_path, "hh_rlhf", {"chosen": f"{start} So.", "rejected": f"{start}"})
    assert [m["role"] for m in item.messages] == ["user", "assistant", "user"]
    assert item.responses == ("So.", "")  # empty: prepare names and drops it
    other = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}
    assert reason(tmp_path, "hh_rlhf", other) == "context_differs"
    no_turn = {"chosen": "Hi\n\nAssistant: b", "rejected": "Hi\n\nAssistant: b"}
    assert reason(tmp_path, "hh_rlhf", no_turn) == "bad_row"


@pytest.mark.parametrize("loader", [*sources.LOADERS, "instructions"])
@pytest.mark.parametrize("row", [{}, {"chosen": 3, "responses": 7, "text": None, "prompt": 1}])
def test_a_foreign_row_is_dropped_and_nothing_raises(
    tmp_path: Path, loader: str, row: dict[str, Any]
) -> None:
    for found in load(tmp_path, loader, row, row):
        assert isinstance(found, Dropped) and found.where.startswith("x.jsonl:") and found.reason


def test_what_may_not_be_published_is_marked(tmp_path: Path) -> None:
    row = {"prompt": "Why?", "responses": ["a", "b"], "label": 1}
    assert one(tmp_path, "generic", row, publishable=False).meta == {"publishable": False}
    assert one(tmp_path, "generic", row).meta == {}


# ---- a user's own file -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "label", "value"),
    [
        ("best", 1, 1),
        ("pair_tie", None, {"winner": None, "strength": 1}),
        ("pair_tie", {"winner": 0, "strength": 3}, {"winner": 0, "strength": 3}),
        ("graded", [1, 2.5], [1, 2.5]),
        ("graded", "[1, 2.5]", [1, 2.5]),
        ("correct", [True, False], [True, False]),
        ("groups", {"better": [1], "worse": [0]}, {"better": [1], "worse": [0]}),
        ("votes", [0, None, 1], [0, None, 1]),
    ],
)
def test_generic_labels(tmp_path: Path, kind: str, label: Any, value: Any) -> None:
    row = {"messages": [USER], "responses": ["a", "b"], "label": label}
    assert one(tmp_path, "generic", {**row, "kind": kind}).label == Label(kind, value)
    assert one(tmp_path, "generic", row, options={"kind": kind}).label == Label(kind, value)


def test_generic_columns(tmp_path: Path) -> None:
    row = {"question": "Why?", "answers": ["a", "b"], "label": 0, "key": 7, "subset": "s",
           "domain": "d", "reference": "r"}  # fmt: skip
    options = {"prompt": "question", "responses": "answers", "id": "key"}
    item = one(tmp_path, "generic", row, options=options)
    assert item == Item("set/7", "set", "s", "d", (USER,), ("a", "b"), Label("best", 0), "r")


def test_generic_chosen_and_rejected(tmp_path: Path) -> None:
    texts = one(tmp_path, "generic", {"prompt": "Why?", "chosen": "a", "rejected": "b"})
    assert texts.messages == (USER,) and texts.responses == ("a", "b")
    worse = {"role": "assistant", "content": "Because."}
    full = {"chosen": [USER, BOT], "rejected": [USER, worse]}
    for row in (full, {**full, "prompt": "Why?"}, {**full, "messages": [USER]}):
        item = one(tmp_path, "generic", row)
        assert item.messages == (USER,) and item.responses == ("So.", "Because.")
    only_replies = {"prompt": "Why?", "chosen": [BOT], "rejected": [worse]}
    assert one(tmp_path, "generic", only_replies).messages == (USER,)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"label": None}, "no_label"),
        ({"kind": "bset"}, "bad_label"),
        ({"prompt": None}, "bad_row"),
        ({"responses": None}, "bad_row"),
        ({"responses": ["a", 3]}, "bad_row"),
        ({"label": "[1,"}, "bad_label"),
    ],
)
def test_generic_rows_that_make_no_item(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    row = {"prompt": "Why?", "responses": ["a", "b"], "label": 0}
    assert reason(tmp_path, "generic", {**row, **change}) == why


def test_generic_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "messages": [[USER], [USER]],
            "responses": [["a", "b"], ["a", "b", "c"]],
            "label": ["1", "[0.5, 1, 2]"],
            "kind": ["best", "graded"],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    config = SourceConfig("set", "generic", ["x.parquet"])
    items = list(catalog.LOADERS["generic"]([tmp_path / "x.parquet"], config))
    assert [i.label for i in items if isinstance(i, Item)] == [
        Label("best", 1), Label("graded", [0.5, 1, 2]),
    ]  # fmt: skip


def test_instructions(tmp_path: Path) -> None:
    item = one(tmp_path, "instructions", {"prompt": "Why?", "completion": "So."})
    assert item.messages == (USER,) and item.responses == ("So.",)
    assert one(tmp_path, "instructions", {"messages": [USER, BOT]}) == item
    assert reason(tmp_path, "instructions", {"messages": [USER]}) == "no_response"
