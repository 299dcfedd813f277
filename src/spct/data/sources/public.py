"""Public sets in columns of their own, known by these columns: a part of the loader ``generic``.

What is known but cannot be read row by row, or holds nothing to compare, says which loader does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from spct.data.sources import helpsteer2_preference, ultrafeedback
from spct.data.sources.base import SHOWN, BadRow, Make, Messages, Row, build, user
from spct.data.sources.context import agreed, shared
from spct.data.sources.hh_rlhf import is_transcript, turns
from spct.data.sources.labels import first_index, read, strength, winner
from spct.data.sources.turns import decoded, kind_of, text_of, turns_of
from spct.records import Item, Label
from spct.schema import SourceConfig


def nectar(row: Row, source: SourceConfig) -> Item:
    """berkeley-nest/Nectar: seven answers, ranked; rank 1 is the best."""
    answers = row["answers"]
    if not isinstance(answers, list) or not all(isinstance(one, dict) for one in answers):
        raise BadRow("bad_row", "answers is not a list of objects with answer and rank")
    responses = [text_of(one.get("answer"), "an answer") for one in answers]
    ranks = [one.get("rank") for one in answers]
    if not all(type(rank) in (int, float) for rank in ranks):
        raise BadRow("no_label", "an answer without a rank")
    label = Label("graded", [-rank for rank in ranks])
    context = agreed([("prompt", _question(row["prompt"]))], responses)
    models = {"models": [one.get("model") for one in answers]}
    return build(source, context, responses, label, meta=models)


def _question(prompt: Any) -> Messages:
    """A prompt as text or turns; as a transcript it ends with an empty turn of the assistant."""
    prompt = decoded(prompt)
    if isinstance(prompt, list):
        return turns_of(prompt, "prompt")
    text = text_of(prompt, "prompt")
    said = turns(text) if is_transcript(text) else user(text)
    return said if said[-1]["content"] or len(said) == 1 else said[:-1]


def helpsteer3(row: Row, source: SourceConfig) -> Item:
    """nvidia/HelpSteer3, preference: from -3, the first is much better, to 3, the second is."""
    label = strength(row["overall_preference"], "overall_preference")
    responses = [text_of(row[name], name) for name in ("response1", "response2")]
    context = agreed([("context", turns_of(row["context"], "context"))], responses)
    return build(source, context, responses, label, subset=row.get("domain"))


def safe_rlhf(row: Row, source: SourceConfig) -> Item:
    """PKU-Alignment/PKU-SafeRLHF: which of two is more helpful; ``options.label`` may name
    ``safer_response_id`` instead, which is another question."""
    name = str(source.options.get("label", "better_response_id"))
    label = read(row.get(name), "best", 2, first_index(source))
    responses = [text_of(row[column], column) for column in ("response_0", "response_1")]
    context = agreed([("prompt", _question(row["prompt"]))], responses)
    return build(source, context, responses, label)


def arena(row: Row, source: SourceConfig) -> Item:
    """lmsys/chatbot_arena_conversations and MT-Bench's: two conversations and a winner or a tie."""
    names = ("conversation_a", "conversation_b")
    context, responses = shared([turns_of(row[name], name) for name in names], names)
    agreed_ = agreed([("conversation_a", context)], responses)
    models = {"models": [row.get("model_a"), row.get("model_b")]}
    label = winner(row, first=first_index(source))
    return build(source, agreed_, responses, label, id=row.get("question_id"), meta=models)


def arena_texts(row: Row, source: SourceConfig) -> Item:
    """lmarena-ai/arena-human-preference-55k: prompts and responses by turn, as JSON lists."""
    told = [row[f"winner_{end}"] for end in ("model_a", "model_b", "tie")]
    if sorted(told) != [0, 0, 1]:
        raise BadRow("no_label", "winner_model_a, winner_model_b and winner_tie are not one 1")
    asked = _texts(row["prompt"], "prompt")
    pair = [_texts(row[f"response_{end}"], f"response_{end}") for end in "ab"]
    if not asked or any(len(replies) != len(asked) for replies in pair):
        raise BadRow("bad_row", "prompt, response_a and response_b have not one turn for another")
    each = [
        tuple(
            {"role": role, "content": text}
            for ask, reply in zip(asked, replies, strict=True)
            for role, text in (("user", ask), ("assistant", reply))
        )
        for replies in pair
    ]
    context, responses = shared(each, ("response_a", "response_b"))
    label = Label("pair_tie", {"winner": (0, 1, None)[told.index(1)], "strength": 1})
    return build(
        source, agreed([("prompt", context)], responses), responses, label, id=row.get("id")
    )


def two_named(row: Row, source: SourceConfig) -> Item:
    """A prompt, ``response_a`` and ``response_b`` as texts, and a winner or a tie."""
    responses = [text_of(row[name], name) for name in ("response_a", "response_b")]
    context = agreed([("prompt", _question(row["prompt"]))], responses)
    label = winner(row, first=first_index(source))
    return build(source, context, responses, label, id=row.get("id"))


def _texts(value: Any, what: str) -> list[str]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadRow("bad_row", f"{what} is text, not a JSON list of texts") from error
    if not isinstance(value, list):
        raise BadRow("bad_row", f"{what} is {kind_of(value)}, not a list of texts")
    return [text_of(one, f"an entry of {what}") for one in value]


def _other(told: str) -> Callable[[Row, SourceConfig], Item]:
    def refuse(row: Row, source: SourceConfig) -> Item:
        raise BadRow("other_loader", told)

    return refuse


# Columns that tell a set, and how its rows are read; the first that fits.
FORMS: tuple[tuple[tuple[str, ...], Make], ...] = (
    (("prompt", "answers"), nectar),
    (("context", "response1", "response2", "overall_preference"), helpsteer3),
    (("context", "response1", "response2"), _other("HelpSteer3 without overall_preference")),
    (
        ("prompt", "response_1", "response_2", "preference_strength"),
        helpsteer2_preference.make,
    ),
    (("prompt", "response", "helpfulness"), _other("HelpSteer's ratings: loader helpsteer2")),
    (("prompt", "response_0", "response_1"), safe_rlhf),
    (("prompt", "response_a", "response_b", "winner_model_a"), arena_texts),
    (("prompt", "response_a", "response_b", "winner"), two_named),
    (("conversation_a", "conversation_b", "winner"), arena),
    (("instruction", "completions"), ultrafeedback.make),
    (("message_id", "parent_id", "role"), _other("messages of OpenAssistant: loader oasst")),
    (("message_tree_id", "prompt"), _other("trees of OpenAssistant: loader oasst")),
)
ALONE = ("messages", "conversations", "output", "response", "answer")


def make(row: Row, source: SourceConfig) -> Item:
    """An item of a known set. Raises :class:`BadRow` saying what the row lacks."""
    for columns, known in FORMS:
        if all(name in row for name in columns):
            return known(row, source)
    if any(row.get(name) is not None for name in ALONE):
        told = "one answer and none to compare it with; as general text: loader instructions"
        raise BadRow("nothing_to_compare", told)
    has = ", ".join(list(row)[:SHOWN]) or "nothing"
    told = "neither responses, nor chosen and rejected, nor the columns of a known set (docs/data"
    raise BadRow("bad_row", f"{told}.md); it has {has}; options name columns that are called else")
