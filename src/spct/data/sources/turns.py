"""Turns of a conversation as public sets write them, brought to ``{role, content}`` with text.

A turn is ``{role, content}`` (OpenAI, TRL) or ``{from, value}`` (ShareGPT). Content is text, or a
list of parts of text. Calls of tools are written out: what was called may decide which answer is
right. Nothing is ever turned into text that is none, such as null or a number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from spct.data.sources.base import BadRow, Messages

ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "function_call"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "ipython"), "tool"),
}
_TEXTS = ("text", "input_text", "output_text")
CALL = "Tool call: "
MEDIA = (*(f"{name}{more}" for name in ("image", "video", "audio") for more in ("", "s", "_url")),
         "input_audio")  # fmt: skip


def kind_of(value: object) -> str:
    """What a value is, in words; never its content."""
    if value is None:
        return "null or missing"
    if isinstance(value, bool):
        return "true or false"
    names = {int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")


def text_alone(given: Mapping[str, Any], what: str) -> None:
    """Raises :class:`BadRow` if something holds an image, a video or a sound beside its text."""
    for name in MEDIA:
        value = given.get(name)
        if any(value.values()) if isinstance(value, Mapping) else value:
            raise BadRow("bad_row", f"{what} has {name} filled, and a judge reads text alone")


def text_of(value: object, what: str) -> str:
    """A text. Raises :class:`BadRow` for anything else, null and numbers included."""
    if not isinstance(value, str):
        raise BadRow("bad_row", f"{what} is {kind_of(value)}, not text")
    return value


def turns_of(value: object, what: str) -> Messages:
    """A list of turns, perhaps as JSON text. Raises :class:`BadRow` naming the turn."""
    if isinstance(value, str):
        value = _json(value, what)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadRow("bad_row", f"{what} is {kind_of(value)}, not a list of turns")
    return tuple(turn_of(turn, f"turn {i} of {what}") for i, turn in enumerate(value, start=1))


def decoded(value: Any) -> Any:
    """A list of turns that is written as JSON text; anything else as it is."""
    if not (isinstance(value, str) and value.lstrip().startswith("[")):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    told = isinstance(found, list) and found and all(isinstance(one, dict) for one in found)
    return found if told and all("role" in one or "from" in one for one in found) else value


def _json(value: str, what: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        told = f"{what} is text and not a list of turns; a text belongs into the column prompt"
        raise BadRow("bad_row", told) from error


def turn_of(turn: object, what: str) -> dict[str, str]:
    """One turn. Raises :class:`BadRow` for one that cannot be shown whole as text."""
    if not isinstance(turn, Mapping):
        raise BadRow("bad_row", f"{what} is {kind_of(turn)}, not an object with role and content")
    told, key = ("role", "content") if turn.get("role") is not None else ("from", "value")
    given = turn.get(told)
    role = ROLES.get(given.strip().lower()) if isinstance(given, str) else None
    if role is None:
        known = ", ".join(("system", "user", "assistant", "tool", "human", "gpt"))
        raise BadRow("bad_row", f"{what}: its {told} is none of {known}")
    text_alone(turn, what)
    calls = _calls(turn, what)
    content = turn.get(key)
    text = "" if content is None and calls else _content(content, f"{what}: its {key}")
    if isinstance(given, str) and given.strip().lower() == "function_call":
        text = CALL + text if text.strip() else ""
    return {"role": role, "content": "\n".join(filter(None, (text, *calls)))}


def _content(content: object, what: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRow("bad_row", f"{what} is {kind_of(content)}, not text")
    return "\n".join(_part(part, f"part {i} of {what}") for i, part in enumerate(content, start=1))


def _part(part: object, what: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise BadRow("bad_row", f"{what} is {kind_of(part)}, not text")
    kind = part.get("type", "text")
    if kind == "tool_use":
        return _call(part.get("name"), part.get("input"), what)
    if kind == "tool_result":
        return _content(part.get("content"), what)
    if kind not in _TEXTS:
        raise BadRow("bad_row", f"{what} is no text (an image, a sound or a file, say)")
    text_alone(part, what)
    return text_of(part.get("text"), what)


def _calls(turn: Mapping[str, Any], what: str) -> list[str]:
    """The calls of tools in a turn, each as a line. Raises :class:`BadRow` if one has no name."""
    given = turn.get("tool_calls") or []
    if not isinstance(given, list):
        raise BadRow("bad_row", f"{what}: its tool_calls are {kind_of(given)}, not a list")
    calls = [*given, *([turn["function_call"]] if turn.get("function_call") else [])]
    written = []
    for call in calls:
        if isinstance(call, str):
            call = _json(call, f"{what}: a tool call")
        inner = call.get("function") if isinstance(call, Mapping) else None
        inner = inner if isinstance(inner, Mapping) else call
        if not isinstance(inner, Mapping):
            raise BadRow("bad_row", f"{what}: a tool call is {kind_of(call)}, not an object")
        written.append(_call(inner.get("name"), inner.get("arguments"), what))
    return written


def written(value: object) -> str:
    """An object as JSON, without its nulls: Parquet fills in the fields of all other objects."""
    return json.dumps(_without_nulls(value), ensure_ascii=False, default=str)


def _without_nulls(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _call(name: object, arguments: object, what: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise BadRow("bad_row", f"{what}: a tool call without the name of the tool")
    if arguments is None:
        arguments = ""
    if not isinstance(arguments, str):
        arguments = written(arguments)
    return f"{CALL}{name}({arguments})"


def reply_of(value: object, what: str) -> str:
    """One answer: a text, a turn of the assistant, or a list of one of these."""
    value = decoded(value)
    if isinstance(value, list):
        if len(value) != 1:
            raise BadRow("bad_row", f"{what} has {len(value)} turns; an answer is one of them")
        value = value[0]
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        raise BadRow("bad_row", f"{what} is {kind_of(value)}, not text")
    turn = turn_of(value, what)
    if turn["role"] != "assistant":
        raise BadRow("bad_row", f"{what} is a turn of the {turn['role']}, not of the assistant")
    return turn["content"]
