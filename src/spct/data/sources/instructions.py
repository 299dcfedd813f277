"""Instruction data for RFT's general share: a prompt or conversation and one answer to learn.

Rows ``{messages: […, {role: assistant, content}]}`` (or ``conversations``, as ShareGPT has it), or
``{prompt, completion}`` with the names of ``options.prompt`` and ``options.completion``.
"""

from __future__ import annotations

from spct.data.sources.base import Row, build, by_row, last_reply
from spct.data.sources.turns import text_of, turns_of
from spct.records import Item, Label
from spct.schema import SourceConfig

CONVERSATIONS = ("messages", "conversations")


def make(row: Row, source: SourceConfig) -> Item:
    label = Label("correct", [True])
    conversation = next((row[name] for name in CONVERSATIONS if row.get(name) is not None), None)
    if conversation is not None:
        context, answer = last_reply(turns_of(conversation, "messages"))
        return build(source, context, [answer], label)
    prompt, completion = (
        text_of(row[str(source.options.get(name, name))], name) for name in ("prompt", "completion")
    )
    return build(source, prompt, [completion], label)


load = by_row(make)
