"""Instruction data for RFT's general share: a prompt or conversation and one answer to learn.

Rows ``{messages: […, {role: assistant, content}]}`` (or ``conversations``, as ShareGPT has it), or
``{prompt, completion}`` with the names of ``options.prompt`` and ``options.completion``.
The columns ``system``, ``tools`` and, beside ``instruction``, ``input`` are part of the question.
"""

from __future__ import annotations

from spct.data.sources.base import Row, build, by_row, last_reply, user
from spct.data.sources.context import with_system
from spct.data.sources.tools import with_tools
from spct.data.sources.turns import text_alone, text_of, turns_of
from spct.records import Item, Label
from spct.schema import SourceConfig

CONVERSATIONS = ("messages", "conversations")


def make(row: Row, source: SourceConfig) -> Item:
    label = Label("correct", [True])
    conversation = next((row[name] for name in CONVERSATIONS if row.get(name) is not None), None)
    text_alone(row, "the row")
    system = row.get("system")
    system = "" if system is None else text_of(system, "system")
    if conversation is not None:
        context, answer = last_reply(turns_of(conversation, "messages"))
        return build(source, with_tools(with_system(context, system), row), [answer], label)
    prompt, completion = (
        text_of(row[str(source.options.get(name, name))], name) for name in ("prompt", "completion")
    )
    if source.options.get("prompt") == "instruction" and row.get("input") is not None:
        prompt = f"{prompt}\n\n{text_of(row['input'], 'input')}".rstrip()
    return build(source, with_tools(with_system(user(prompt), system), row), [completion], label)


load = by_row(make)
