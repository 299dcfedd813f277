"""The tools a row offers: what may be called decides which answer is right."""

from __future__ import annotations

from typing import Any

from spct.data.sources.base import BadRow, Messages, Row
from spct.data.sources.turns import kind_of, written

TOOLS = ("tools", "functions")


def with_tools(turns: Messages, row: Row) -> Messages:
    """The turns, the system message followed by the tools that the row offers, if it does."""
    offered = next((told for name in TOOLS if (told := _told(row.get(name), name))), "")
    if not offered:
        return turns
    first = turns[0] if turns and turns[0]["role"] == "system" else None
    before = f"{first['content']}\n\n" if first else ""
    system = {"role": "system", "content": f"{before}Tools: {offered}"}
    return (system, *(turns[1:] if first else turns))


def _told(value: Any, name: str) -> str:
    if isinstance(value, str):
        return "" if value.strip() in ("", "[]", "null") else value.strip()
    if value is None or value == []:
        return ""
    if not isinstance(value, list):
        raise BadRow("bad_row", f"{name} is {kind_of(value)}, not a list")
    return written(value)
