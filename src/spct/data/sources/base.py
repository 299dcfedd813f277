"""What every loader shares: from rows to items, with a reason for each row that makes none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spct.data.reading import Dropped, named, rows
from spct.records import Item, Label
from spct.schema import SourceConfig

Loader = Callable[[Sequence[Path], SourceConfig], Iterator[Item | Dropped]]
Row = dict[str, Any]
Make = Callable[[Row, SourceConfig], Item]
Messages = tuple[dict[str, str], ...]
SHOWN = 12  # columns of a row that are named where one is missing


class BadRow(Exception):
    """A row that makes no item: a short reason for the ledger and a detail without its text."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def by_row(make: Make) -> Loader:
    """A loader that makes one item of each row.

    ``make`` gives an item whose id is upstream's, or empty for ``file:line``. What it raises is the
    reason the row is dropped: a :class:`BadRow`, or ``bad_row`` for a field that is missing or of
    another type.
    """

    def load(paths: Sequence[Path], source: SourceConfig) -> Iterator[Item | Dropped]:
        for path, name in named(paths):
            for row in rows(path, name):
                if isinstance(row, Dropped):
                    yield row
                else:
                    yield made(make, *row, source)

    return load


def made(make: Make, where: str, row: Row, source: SourceConfig) -> Item | Dropped:
    """The item of one row, or why there is none."""
    try:
        item = make(row, source)
    except BadRow as bad:
        return Dropped(where, bad.reason, bad.detail)
    except KeyError as missing:
        has = ", ".join(list(row)[:SHOWN])
        told = f"not as the loader {source.loader} reads it: no field {missing}; it has {has}"
        return Dropped(where, "bad_row", told)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        told = f"not as the loader {source.loader} reads it: a field of another type"
        return Dropped(where, "bad_row", f"{told} ({type(error).__name__})")
    mark = {} if source.publishable else {"publishable": False}
    return replace(item, id=f"{source.name}/{item.id or where}", meta={**item.meta, **mark})


def as_text(value: object, what: str) -> str | None:
    """A field that names something: text, or a number as it is written; None where it is missing.

    A table's missing number (NaN) and a blank text are missing. Raises :class:`BadRow` for anything
    else, true and false among them.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and not value.strip():
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow("bad_row", f"{what} is a {type(value).__name__}, neither text nor a number")
    return str(value)


def storable(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an item keeps beside its texts. Raises :class:`BadRow` if JSON cannot hold it."""
    try:
        json.dumps(meta)
    except (TypeError, ValueError, RecursionError) as error:
        told = "a field that is kept is neither text, number, list nor object (a date, say)"
        raise BadRow("bad_row", told) from error
    return meta


def build(
    source: SourceConfig,
    messages: Sequence[Mapping[str, str]] | str,
    responses: Sequence[str],
    label: Label,
    *,
    id: object = "",
    subset: object = None,
    domain: object = None,
    reference: object = None,
    meta: Mapping[str, Any] | None = None,
) -> Item:
    """An item of the source; ``messages`` may be one user prompt. Raises :class:`BadRow`.

    Id, subset, domain and reference are read by :func:`as_text`.
    """
    turns = user(messages) if isinstance(messages, str) else tuple(map(_turn, messages))
    texts = [text for turn in turns for text in (turn["role"], turn["content"])]
    if not isinstance(responses, list | tuple):
        raise BadRow("bad_row", f"the responses are a {type(responses).__name__}, not a list")
    if not all(isinstance(text, str) for text in [*texts, *responses]):
        raise BadRow("bad_row", "a message or response that is no text")
    names = (("id", id), ("subset", subset), ("domain", domain), ("reference", reference))
    told = {name: as_text(value, name) for name, value in names}
    storable({"label": label.value})
    return Item(
        id=told["id"] or "",
        dataset=source.name,
        subset=told["subset"] or "all",
        domain=told["domain"] or str(source.options.get("domain", source.name)),
        messages=turns,
        responses=tuple(responses),
        label=label,
        reference=told["reference"],
        meta=dict(storable(meta or {})),
    )


def _turn(message: Mapping[str, str]) -> dict[str, str]:
    return {"role": message["role"], "content": message["content"]}


def user(text: str) -> Messages:
    """One user turn."""
    return ({"role": "user", "content": text},)


def of_split(row: Row, source: SourceConfig, field: str) -> None:
    """Raises :class:`BadRow` ``other_split`` unless the row is of the split asked for."""
    if source.split and row[field] != source.split:
        raise BadRow("other_split")


def last_reply(conversation: Sequence[Mapping[str, str]]) -> tuple[Messages, str]:
    """A conversation parted before its last turn, an assistant's. Raises :class:`BadRow`."""
    if not conversation or conversation[-1]["role"] != "assistant":
        raise BadRow("no_response", "the conversation does not end with the assistant")
    return tuple(map(_turn, conversation[:-1])), conversation[-1]["content"]


def two_replies(
    chosen: Sequence[Mapping[str, str]], rejected: Sequence[Mapping[str, str]]
) -> tuple[Messages, tuple[str, str]]:
    """The shared context and the two last turns of a preference pair. Raises :class:`BadRow`."""
    context, good = last_reply(chosen)
    other, bad = last_reply(rejected)
    if context != other:
        raise BadRow("context_differs", "chosen and rejected answer different conversations")
    return context, (good, bad)
