"""The shapes in which people have preference data, as the loader ``generic`` reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spct.data import catalog
from spct.data.reading import Dropped
from spct.data.sources import public
from spct.data.sources.base import BadRow
from spct.errors import ConfigError
from spct.records import Item, Label
from spct.schema import SourceConfig


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def said(who: str, value: Any) -> dict[str, Any]:
    return {"from": who, "value": value}


SYSTEM, ASK = turn("system", "Be brief."), turn("user", "Name a river in Peru.")
GOOD, BAD = turn("assistant", "The Ucayali."), turn("assistant", "The Danube.")
HELLO, FIRST = turn("user", "Hi"), turn("assistant", "Hello")
ASKED, REPLIES = ASK["content"], (GOOD["content"], BAD["content"])
HUMAN = f"\n\nHuman: {ASKED}\n\nAssistant:"


def load(folder: Path, *rows: Any, loader: str = "generic", **source: Any) -> list[Any]:
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = SourceConfig("set", loader, ["x.jsonl"], **source)
    return list(catalog.GENERAL[loader]([path], config))


def one(folder: Path, row: Any, **source: Any) -> Item:
    (found,) = load(folder, row, **source)
    assert isinstance(found, Item), found
    return found


def dropped(folder: Path, row: Any, **source: Any) -> tuple[str, str]:
    (found,) = load(folder, row, **source)
    assert isinstance(found, Dropped) and found.where == "x.jsonl:1", found
    return found.reason, found.detail


BINARIZED = {
    **{"prompt": ASKED, "prompt_id": "p1", "score_chosen": 8.0, "score_rejected": 3.0},
    **{"chosen": [ASK, GOOD], "rejected": [ASK, BAD], "messages": [ASK, GOOD]},
}
TEXTS = {"prompt": ASKED, "chosen": GOOD["content"], "rejected": BAD["content"]}
LIST = {"prompt": ASKED, "responses": list(REPLIES), "label": 0}
ASKS = {  # all of them ask the same and answer the same
    "ultrafeedback-binarized": BINARIZED,
    "a copy beside texts": {**TEXTS, "messages": [ASK, GOOD]},
    "a copy beside a list": {**LIST, "prompt": None, "messages": [ASK, BAD]},
    "trl explicit": {"prompt": [ASK], "chosen": [GOOD], "rejected": [BAD]},
    "trl implicit": {"chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
    "trl texts": TEXTS,
    "messages as json": {**LIST, "prompt": None, "messages": json.dumps([ASK])},
    "hh text": {"chosen": f"{HUMAN} The Ucayali.", "rejected": f"{HUMAN} The Danube."},
    "hh crlf": {
        "chosen": f"{HUMAN} The Ucayali.".replace("\n", "\r\n"),
        "rejected": f"{HUMAN} The Danube.",
    },
    "hh text and its prompt": {
        "prompt": HUMAN, "chosen": f"{HUMAN} The Ucayali.", "rejected": f"{HUMAN} The Danube.",
    },
    "hh prompt alone": {**TEXTS, "prompt": HUMAN},
    "question": {"question": ASKED, "chosen": REPLIES[0], "rejected": REPLIES[1], "system": ""},
    "instruction": {"instruction": ASKED, "input": "", "responses": list(REPLIES), "label": 0},
    "sharegpt pair": {
        "conversations": [said("human", ASKED)],
        "chosen": said("gpt", REPLIES[0]), "rejected": said("gpt", REPLIES[1]),
    },
    "sharegpt conversations": {
        "chosen": [said("human", ASKED), said("gpt", REPLIES[0])],
        "rejected": [said("human", ASKED), said("gpt", REPLIES[1])],
    },
    "content parts": {
        "messages": [turn("user", [{"type": "text", "text": ASKED, "image": None}])],
        "responses": [[turn("assistant", [{"type": "text", "text": r}])] for r in REPLIES],
        "label": 0,
    },
    "blank system": {"chosen": [turn("system", ""), ASK, GOOD],
                     "rejected": [turn("system", ""), ASK, BAD]},
    "conversations as json": {
        "prompt": ASKED, "chosen": json.dumps([ASK, GOOD]), "rejected": json.dumps([ASK, BAD]),
    },
    "prompt and answers as json": {
        **LIST, "prompt": json.dumps([ASK]), "responses": [json.dumps([GOOD]), json.dumps([BAD])],
    },
    "distilabel": {"input": ASKED, "chosen": REPLIES[0], "rejected": REPLIES[1]},
    "three names": {**LIST, "question": f"{ASKED} ", "instruction": ASKED, "input": ""},
    "a passage that is in it": {**LIST, "context": "river in Peru"},
    "lists of one text": {"prompt": ASKED, "chosen": [REPLIES[0]], "rejected": [REPLIES[1]]},
    "a list and its best again": {**LIST, "chosen": REPLIES[0], "rejected": REPLIES[1]},
    "several rejected": {"prompt": ASKED, "chosen": REPLIES[0], "rejected": [REPLIES[1]]},
}  # fmt: skip


@pytest.mark.parametrize("row", ASKS.values(), ids=[name.replace(" ", "-") for name in ASKS])
def test_the_question_alone_is_the_conversation(tmp_path: Path, row: dict[str, Any]) -> None:
    item = one(tmp_path, row)
    assert (item.messages, item.responses, item.label) == ((ASK,), REPLIES, Label("best", 0))


@pytest.mark.parametrize(
    "row",
    [
        {"system": "Be brief.", "question": ASKED, "chosen": REPLIES[0], "rejected": REPLIES[1]},
        {"chosen": [SYSTEM, ASK, GOOD], "rejected": [SYSTEM, ASK, BAD], "system": "Be  brief."},
        {**BINARIZED, "chosen": [SYSTEM, ASK, GOOD], "rejected": [SYSTEM, ASK, BAD]},
    ],
    ids=["orca-dpo", "both", "only-in-one"],
)
def test_a_system_message_is_kept(tmp_path: Path, row: dict[str, Any]) -> None:
    assert one(tmp_path, row).messages == (SYSTEM, ASK)


def test_several_turns(tmp_path: Path) -> None:
    history = [HELLO, FIRST, ASK]
    row = {"prompt": "Hi", "chosen": [*history, GOOD], "rejected": [*history, BAD]}
    assert one(tmp_path, row).messages == tuple(history)
    assert one(tmp_path, {**LIST, "messages": history}).messages == tuple(history)


OTHER = turn("user", "Name a lake.")


@pytest.mark.parametrize(
    ("row", "reason", "words"),
    [
        ({**BINARIZED, "prompt": "Name a lake."}, "two_contexts", 'options: {prompt: ""}'),
        ({**BINARIZED, "messages": [OTHER, GOOD]}, "two_contexts", "messages"),
        ({**BINARIZED, "system": "x", "chosen": [SYSTEM, ASK, GOOD],
          "rejected": [SYSTEM, ASK, BAD]}, "two_contexts", "system"),
        ({**LIST, "prompt": None, "messages": [ASK, FIRST]}, "answer_in_context", "ends with"),
        ({**LIST, "prompt": None, "messages": [ASK, GOOD, ASK]}, "answer_in_context", "turn 2"),
        ({**BINARIZED, "messages": [ASK, FIRST]}, "answer_in_context", "ends with"),
        ({**LIST, "prompt": f"{ASKED}\nAssistant: {REPLIES[1]}"},
         "answer_in_context", "response 1"),
        ({**LIST, "prompt": f"<s>[INST] {ASKED} [/INST] {REPLIES[0]}</s>"},
         "answer_in_context", "response 0"),
        *(
            ({**LIST, "prompt": prompt}, "answer_in_context", "response 0")
            for prompt in (
                f"Q: {ASKED}\nA: {REPLIES[0]}",
                f"**User**: {ASKED}\n\n**Assistant**: {REPLIES[0]}",
                f"### User\n{ASKED}\n### Assistant\n{REPLIES[0]}",
                f"<｜User｜>{ASKED}<｜Assistant｜>{REPLIES[0]}<｜end▁of▁sentence｜>",
                f"<|start|>assistant<|channel|>final<|message|>{REPLIES[0]}<|return|>",
                f"<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{REPLIES[0]}<|END_OF_TURN_TOKEN|>",
            )
        ),
        ({**LIST, "system": REPLIES[1]}, "answer_in_context", "turn 1"),
        ({**LIST, "prompt": None, "messages": [ASK, turn("user", REPLIES[1])]},
         "answer_in_context", "turn 2"),
        ({"chosen": [SYSTEM, GOOD], "rejected": [SYSTEM, BAD]}, "bad_row", "no column holds a"),
        ({**TEXTS, "chosen": f"{HUMAN} The Ucayali."}, "bad_row", "the other is not"),
        ({**TEXTS, "chosen": f"User: {ASKED}\nBot: x"}, "bad_row", "response 0 is a transcript"),
        ({**LIST, "chosen": REPLIES[1], "rejected": REPLIES[0]}, "two_labels", "label and chosen"),
        ({**TEXTS, "image": "a.png"}, "bad_row", "the row has image filled"),
        ({**TEXTS, "images": [{"path": "a.png"}]}, "bad_row", "the row has images filled"),
        ({**LIST, "question": OTHER["content"]}, "two_contexts", "prompt and question"),
        ({**LIST, "messages": [ASK], "conversations": [OTHER]}, "two_contexts", "conversations"),
        ({**LIST, "context": "Peru has rivers."}, "bad_row", 'options: {context: ""}'),
        ({**LIST, "input": "And one in Chile."}, "bad_row", "input is filled"),
        ({**LIST, "history": [["Hi", "Hello"]]}, "bad_row", "history is filled"),
        ({**LIST, "system": "a", "system_prompt": "b"}, "two_contexts", "system_prompt"),
        ({"prompt": ASKED, "answers": [], "image": "a.png"}, "bad_row", "the row has image filled"),
        ({**LIST, "messages": [{**ASK, "images": ["a.png"]}]}, "bad_row", "turn 1 of messages has"),
        ({**LIST, "messages": [turn("user", [{"text": ASKED, "image": "a.png"}])]},
         "bad_row", "part 1 of turn 1"),
        ({"prompt": ASKED, "responses": ["a", "b"], "ranking": [1, 0]}, "bad_label", "an order"),
        ({**BINARIZED, "score_chosen": 10**400}, "bad_label", "score_chosen"),
        ({"prompt": ASKED, "responses": ["a", "b"], "kind": "pair_tie"}, "no_label", "no column"),
        ({"chosen": [ASK, GOOD], "rejected": [OTHER, BAD]}, "context_differs", "last turn"),
        ({"chosen": [ASK, GOOD], "rejected": [ASK]}, "no_response", "rejected"),
        ({"chosen": "a", "rejected": "b"}, "bad_row", "no column holds a question"),
        ({"chosen": [GOOD], "rejected": [BAD]}, "bad_row", "no column holds a question"),
        ({**TEXTS, "rejected": None}, "bad_row", "only one of chosen and rejected"),
        ({**LIST, "prompt": None}, "bad_row", "no column holds a question"),
        ({**LIST, "prompt": 5}, "bad_row", "prompt is a number, not text"),
        ({**LIST, "prompt": True}, "bad_row", "prompt is true or false, not text"),
        ({**LIST, "prompt": "[a", "messages": "text"}, "bad_row", "belongs into the column prompt"),
        ({**LIST, "responses": ["a", None]}, "bad_row", "response 1 is null or missing, not text"),
        ({**LIST, "responses": "ab"}, "bad_row", "responses is text, not a list"),
        ({**LIST, "messages": [ASK, turn("assistant", " "), ASK]}, "empty_turn", "turn 2"),
        ({**LIST, "messages": [turn("user", None)]}, "bad_row", "its content is null or missing"),
        ({**LIST, "messages": [turn("user", 5)]}, "bad_row", "its content is a number"),
        ({**LIST, "messages": [turn("narrator", "x")]}, "bad_row", "its role is none of system"),
        ({**LIST, "messages": [ASKED]}, "bad_row", "turn 1 of messages is text"),
        ({**LIST, "messages": [turn("user", [{"type": "image_url", "image_url": {}}])]},
         "bad_row", "no text (an image"),
        ({"messages": [ASK, GOOD]}, "nothing_to_compare", "loader instructions"),
        ({"conversations": [said("human", "x")]}, "nothing_to_compare", "loader instructions"),
        ({"instruction": "x", "output": "y"}, "nothing_to_compare", "loader instructions"),
        ({"foo": 1, "bar": 2}, "bad_row", "it has foo, bar"),
    ],
    ids=["prompt", "messages", "system", "ends", "holds", "longer", "transcript", "template",
         "short", "markdown", "heading", "deepseek", "harmony", "cohere",
         "system-is-answer", "user-is-answer", "system-alone", "one-transcript", "in-response",
         "chosen-is-worse", "two-questions", "two-conversations", "passage", "input", "history",
         "two-systems", "image-column", "images-column", "image-of-a-set", "images-of-turn",
         "image-of-part", "order", "huge-score", "no-label-column",
         "chosen", "rejected-ends",
         "no-prompt", "no-context", "one-side", "no-question", "number", "bool", "messages-text",
         "null-response", "text-responses", "blank-turn", "null-content", "number-content", "role",
         "texts", "image", "sft", "sharegpt-alone", "alpaca", "foreign"],
)  # fmt: skip
def test_what_fits_no_rule_says_why(
    tmp_path: Path, row: dict[str, Any], reason: str, words: str
) -> None:
    found, detail = dropped(tmp_path, row)
    assert found == reason and words in detail
    assert "Peru" not in detail and "Danube" not in detail


# ---- calls of tools --------------------------------------------------------------------------

CALL = {"function": {"name": "weather", "arguments": '{"city": "Bergen"}'}}
CALLS = {
    "filled by parquet": turn(
        "assistant",
        None,
        tool_calls=[
            {"function": {"name": "weather", "arguments": {"city": "Bergen", "unit": None}}}
        ],
    ),
    "openai": turn("assistant", "", tool_calls=[CALL]),
    "null content": turn("assistant", None, tool_calls=[CALL]),
    "arguments as object": turn(
        "assistant", None, tool_calls=[{"name": "weather", "arguments": {"city": "Bergen"}}]
    ),
    "legacy": turn("assistant", None, function_call=CALL["function"], tool_calls=None),
    "anthropic": turn(
        "assistant", [{"type": "tool_use", "name": "weather", "input": {"city": "Bergen"}}]
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=[name.replace(" ", "-") for name in CALLS])
def test_what_was_called_is_written_out(tmp_path: Path, call: dict[str, Any]) -> None:
    messages = [ASK, call, turn("tool", "9 degrees")]
    item = one(tmp_path, {**LIST, "prompt": None, "messages": messages})
    written = 'Tool call: weather({"city": "Bergen"})'
    assert [m["content"] for m in item.messages] == [ASKED, written, "9 degrees"]
    pair = {"chosen": [ASK, call], "rejected": [ASK, BAD]}
    assert one(tmp_path, pair).responses == (written, BAD["content"])


def test_text_beside_a_call_stays_and_a_call_without_name_is_refused(tmp_path: Path) -> None:
    both = turn("assistant", "I look.", tool_calls=[CALL])
    item = one(tmp_path, {**LIST, "prompt": None, "messages": [ASK, both, ASK]})
    assert item.messages[1]["content"].startswith("I look.\nTool call: weather(")
    nameless = turn("assistant", "", tool_calls=[{"function": {"arguments": "{}"}}])
    row = {**LIST, "prompt": None, "messages": [ASK, nameless, ASK]}
    assert "without the name of the tool" in dropped(tmp_path, row)[1]


def test_tools_on_offer_are_part_of_the_question(tmp_path: Path) -> None:
    offered = [{"name": "weather"}]
    told = 'Tools: [{"name": "weather"}]'
    assert one(tmp_path, {**TEXTS, "tools": offered}).messages == (turn("system", told), ASK)
    both = one(tmp_path, {**TEXTS, "tools": json.dumps(offered), "system": "Be brief."})
    assert both.messages[0] == turn("system", f"Be brief.\n\n{told}")
    assert one(tmp_path, {**TEXTS, "tools": []}).messages == (ASK,)


def test_replies_of_several_turns_go_on_where_the_prompt_ends(tmp_path: Path) -> None:
    before = [turn("assistant", "I look."), turn("tool", "9")]
    row = {"prompt": [ASK], "chosen": [*before, GOOD], "rejected": [*before, BAD]}
    assert one(tmp_path, row).messages == (ASK, *before)
    assert "no column holds a question" in dropped(tmp_path, {**row, "prompt": None})[1]


def test_sharegpt_calls(tmp_path: Path) -> None:
    turns = [said("human", ASKED), said("function_call", '{"name": "x"}'), said("observation", "9")]
    item = one(tmp_path, {**LIST, "prompt": None, "conversations": turns})
    assert [m["role"] for m in item.messages] == ["user", "assistant", "tool"]
    assert item.messages[1]["content"] == 'Tool call: {"name": "x"}'


# ---- public sets in columns of their own -----------------------------------------------------


def test_nectar(tmp_path: Path) -> None:
    answers = [{"answer": f"a{rank}", "model": "m", "rank": rank} for rank in (2.0, 1.0, 7.0)]
    item = one(tmp_path, {"prompt": f"{HUMAN} ", "answers": answers, "turns": 1})
    assert item.messages == (ASK,) and item.responses == ("a2.0", "a1.0", "a7.0")
    assert item.label == Label("graded", [-2.0, -1.0, -7.0])
    assert dropped(tmp_path, {"prompt": HUMAN, "answers": [{"answer": "a"}]})[0] == "no_label"


@pytest.mark.parametrize(
    ("strength", "winner"), [(-3, 0), (0, None), (2, 1)], ids=["first", "tie", "second"]
)
def test_helpsteer3(tmp_path: Path, strength: int, winner: int | None) -> None:
    row = {"domain": "code", "context": [ASK], "response1": REPLIES[0], "response2": REPLIES[1],
           "overall_preference": strength}  # fmt: skip
    item = one(tmp_path, row)
    assert item.label == Label("pair_tie", {"winner": winner, "strength": abs(strength)})
    assert (item.messages, item.responses, item.subset) == ((ASK,), REPLIES, "code")


def test_helpsteer2(tmp_path: Path) -> None:
    rows = [
        {"prompt": ask, "response": f"r{i}", "helpfulness": grade, "coherence": 4 - grade}
        for i, (ask, grade) in enumerate([("p", 3), ("p", 1), ("q", 2), ("s", 0), ("s", 4)])
    ]
    found = load(tmp_path, *rows, loader="helpsteer2")
    assert [getattr(one, "reason", "item") for one in found] == ["item", "no_pair", "item"]
    assert found[0].label == Label("graded", [3, 1]) and found[2].responses == ("r3", "r4")
    other = load(tmp_path, *rows, loader="helpsteer2", options={"attribute": "coherence"})
    assert other[0].label == Label("graded", [1, 3])
    assert "loader helpsteer2" in dropped(tmp_path, rows[0])[1]
    pair = {"split": "train", "prompt": "p", "response_1": "a", "response_2": "b",
            "preference_strength": -1}  # fmt: skip
    assert one(tmp_path, pair).label.value == {"winner": 0, "strength": 1}


def test_what_rows_of_public_sets_have_beside_their_own_columns(tmp_path: Path) -> None:
    row = {"prompt": ASKED, "response_0": REPLIES[0], "response_1": REPLIES[1], "domain": "d",
           "better_response_id": 1, "system": "Be brief.", "id": 5, "subset": "s"}  # fmt: skip
    item = one(tmp_path, row)
    assert (item.messages, item.id, item.subset) == ((SYSTEM, ASK), "set/5", "s")
    assert item.domain == "d"


def test_pku_safe_rlhf(tmp_path: Path) -> None:
    row = {"prompt": ASKED, "response_0": REPLIES[0], "response_1": REPLIES[1],
           "better_response_id": 1, "safer_response_id": 0}  # fmt: skip
    assert one(tmp_path, row).label == Label("best", 1)
    safer = one(tmp_path, row, options={"label": "safer_response_id"})
    assert safer.label == Label("best", 0)
    assert dropped(tmp_path, {**row, "better_response_id": None})[0] == "no_label"


WINNERS = {"model_a": 0, "model_b": 1, "tie": None, "tie (bothbad)": None}


@pytest.mark.parametrize(("winner", "index"), WINNERS.items(), ids=["a", "b", "tie", "bothbad"])
def test_arena(tmp_path: Path, winner: str, index: int | None) -> None:
    battle = {"question_id": "q", "model_a": "m", "model_b": "n", "winner": winner,
              "conversation_a": [ASK, GOOD], "conversation_b": [ASK, BAD]}  # fmt: skip
    item = one(tmp_path, battle)
    assert item.label == Label("pair_tie", {"winner": index, "strength": 1})
    assert (item.messages, item.responses, item.id) == ((ASK,), REPLIES, "set/q")
    named = {"prompt": ASKED, "response_a": REPLIES[0], "response_b": REPLIES[1]}
    assert one(tmp_path, {**named, "winner": winner}).label == item.label
    columns = {name: int(name.removeprefix("winner_") == winner.split()[0])
               for name in ("winner_model_a", "winner_model_b", "winner_tie")}  # fmt: skip
    texts = {name: json.dumps([text]) for name, text in named.items()}
    assert one(tmp_path, {**texts, **columns, "id": 7}).label == item.label
    for nothing in (None, float("nan")):
        with pytest.raises(BadRow, match="no_label"):
            public.make({**battle, "winner": nothing}, SourceConfig("set", "generic", ["x"]))
    second = one(tmp_path, {**named, "winner": 2}, options={"first_index": 1})
    assert second.label.value == {"winner": 1, "strength": 1}
    more = {**battle, "conversation_b": [HELLO, FIRST, ASK, BAD]}
    assert dropped(tmp_path, more)[0] == "context_differs"


def message(id_: str, above: str | None, text: str, role: str, rank: Any = None) -> dict[str, Any]:
    return {"message_id": id_, "parent_id": above, "text": text, "role": role, "rank": rank,
            "lang": "en", "deleted": False}  # fmt: skip


OASST = [
    message("1", None, "Hi", "prompter"),
    message("2", "1", "Hello", "assistant", 1),
    message("3", "1", "Good day", "assistant", 0.0),
    message("4", "3", ASKED, "prompter"),
    message("5", "4", REPLIES[0], "assistant", 0),
    message("6", "4", REPLIES[1], "assistant", 1),
    message("7", "4", "unranked", "assistant"),
    message("8", "2", "Bye", "prompter"),
    message("9", "8", "Bye!", "assistant"),
]


def grown(node: dict[str, Any]) -> dict[str, Any]:
    below = [grown(one) for one in OASST if one["parent_id"] == node["message_id"]]
    return {**node, "replies": below}


@pytest.mark.parametrize(
    "rows",
    [OASST, OASST[::-1], [{"message_tree_id": "1", "prompt": grown(OASST[0])}]],
    ids=["messages", "any-order", "trees"],
)
def test_openassistant(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    found = load(tmp_path, *rows, loader="oasst")
    items = {one.id: one for one in found if isinstance(one, Item)}
    assert [one.reason for one in found if isinstance(one, Dropped)] == ["no_pair"]
    assert set(items) == {"set/1", "set/4"}
    second = items["set/4"]
    asked = [(m["role"], m["content"]) for m in second.messages]
    assert asked == [("user", "Hi"), ("assistant", "Good day"), ("user", ASKED)]
    ranks = dict(zip(second.responses, second.label.value, strict=True))
    assert ranks == {REPLIES[0]: 0.0, REPLIES[1]: -1.0} and second.subset == "en"
    assert "loader oasst" in dropped(tmp_path, rows[0])[1]


def test_what_follows_a_deleted_message_is_left_out(tmp_path: Path) -> None:
    rows = [{**row, "deleted": row["message_id"] == "3"} for row in OASST]
    found = {getattr(one, "id", "") or one.detail for one in load(tmp_path, *rows, loader="oasst")}
    assert found == {
        "a message before the replies is deleted",
        "a message without two ranked replies",
    }


def test_trl_unpaired(tmp_path: Path) -> None:
    item = one(tmp_path, {"prompt": ASKED, "completion": REPLIES[0], "label": True})
    assert item.responses == REPLIES[:1] and item.label == Label("correct", [True])


# ---- labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "label", "value"),
    [
        ("best", "B", 1), ("best", "model_b", 1), ("best", "Response A", 0), ("best", "1", 1),
        ("best", 1.0, 1), ("best", "A>B", 0), ("best", "b >> a", 1),
        ("pair_tie", "tie", {"winner": None, "strength": 1}),
        ("pair_tie", "model_a", {"winner": 0, "strength": 1}),
        ("pair_tie", {"winner": "b", "strength": 2}, {"winner": 1, "strength": 2}),
        ("votes", ["a", "tie", 1], [0, None, 1]), ("graded", ["5", 1], [5.0, 1]),
        ("correct", [1, 0], [True, False]),
    ],
    ids=["letter", "model", "response", "json", "float", "order", "order-2", "tie", "winner",
         "object", "votes", "grades", "zero-one"],
)  # fmt: skip
def test_labels_in_words(tmp_path: Path, kind: str, label: Any, value: Any) -> None:
    assert one(tmp_path, {**LIST, "label": label, "kind": kind}).label == Label(kind, value)


@pytest.mark.parametrize(
    ("kind", "label", "reason", "words"),
    [
        ("best", "chosen", "bad_label", "text that names no response"),
        ("best", "C", "bad_label", "text that names no response"),
        ("best", True, "bad_label", "true or false, not the index"),
        ("best", "tie", "tie", "kind pair_tie or votes keeps ties"),
        ("best", None, "no_label", "null or missing"),
        ("bset", 1, "bad_label", "known: best, pair_tie"),
    ],
    ids=["chosen", "beyond", "bool", "tie", "null", "kind"],
)
def test_labels_that_say_nothing(
    tmp_path: Path, kind: str, label: Any, reason: str, words: str
) -> None:
    found, detail = dropped(tmp_path, {**LIST, "label": label, "kind": kind})
    assert found == reason and words in detail


def test_labels_that_count_from_one_are_found_out(tmp_path: Path) -> None:
    rows = [{**LIST, "label": label} for label in (1, 2, 1)]
    with pytest.raises(ConfigError, match=r"set: its labels seem to count from 1: 1 row"):
        load(tmp_path, *rows)
    found = load(tmp_path, *rows, options={"first_index": 1})
    assert [one.label.value for one in found] == [0, 1, 0]
    assert len(load(tmp_path, *rows, {**LIST, "label": 0})) == 4  # one bad row among good ones


NO_LABEL = {"prompt": ASKED, "responses": ["a", "b", "c"]}


def test_scores_and_ranks_make_a_label(tmp_path: Path) -> None:
    scores = one(tmp_path, {**NO_LABEL, "scores": [1, "3", 2.5]})
    assert scores.label == Label("graded", [1, 3.0, 2.5])
    ranks = one(tmp_path, {**NO_LABEL, "ranks": [3, 1, 2]})
    assert ranks.label == Label("graded", [-3, -1, -2])
    both = {**NO_LABEL, "ratings": [1, 3, 3], "rankings": [3, 1, 2]}
    assert one(tmp_path, both).label == Label("graded", [1, 3, 3])
    assert dropped(tmp_path, {**both, "rankings": [1, 2, 3]})[0] == "two_labels"
    assert dropped(tmp_path, {**NO_LABEL, "scores": [1, 2]})[0] == "bad_label"
    assert one(tmp_path, {**NO_LABEL, "label": 0, "scores": [1, 2, 3]}).label == Label("best", 0)


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [(3.0, 8.0, "two_labels"), (5, 5.0, "tie")],
    ids=["other-way", "equal"],
)
def test_scores_must_not_contradict_chosen(
    tmp_path: Path, good: float, bad: float, reason: str
) -> None:
    row = {**BINARIZED, "score_chosen": good, "score_rejected": bad}
    assert dropped(tmp_path, row)[0] == reason


# ---- fields that name something --------------------------------------------------------------


@pytest.mark.parametrize("name", ["id", "subset", "domain", "reference"])
def test_numbers_are_read_as_text_and_nothing_else_is(tmp_path: Path, name: str) -> None:
    item = one(tmp_path, {**LIST, name: 0})
    assert getattr(item, name).removeprefix("set/") == "0"
    assert getattr(one(tmp_path, {**LIST, name: 0.5}), name).endswith("0.5")
    plain = getattr(one(tmp_path, {**LIST, name: None}), name)
    assert getattr(one(tmp_path, {**LIST, name: " \n"}), name) == plain
    assert plain == {"id": "set/x.jsonl:1", "subset": "all", "domain": "set"}.get(name)
    for value in (True, ["a"], {"a": 1}):
        reason, detail = dropped(tmp_path, {**LIST, name: value})
        assert reason == "bad_row" and detail.startswith(f"{name} is a ")


def test_null_is_never_text(tmp_path: Path) -> None:
    """General text of a null prompt was "None"."""
    for row in ({"prompt": None, "completion": "x"}, {"prompt": 5, "completion": "x"}):
        assert dropped(tmp_path, row, loader="instructions")[0] == "bad_row"
    alpaca = {"instruction": "Add.", "input": "1 2", "output": "3", "system": "Be brief."}
    columns = {"prompt": "instruction", "completion": "output"}
    item = one(tmp_path, alpaca, loader="instructions", options=columns)
    assert item.messages == (SYSTEM, turn("user", "Add.\n\n1 2"))
    turns = {"conversations": [said("human", "Hi"), said("gpt", "Hello")]}
    assert one(tmp_path, turns, loader="instructions").responses == ("Hello",)


@pytest.mark.parametrize("given", ["ab", {"\\boxed{2}": 1, "b": 2}], ids=["text", "object"])
def test_only_a_list_holds_responses(tmp_path: Path, given: Any) -> None:
    """A text was two responses of a letter each, an object its keys."""
    row = {"problem": "1 + 1", "level": "1", "type": "x", "solution": "\\boxed{2}"}
    found = dropped(tmp_path, {**row, "responses": given}, loader="math")
    assert found[0] == "bad_row" and "responses" in found[1]
