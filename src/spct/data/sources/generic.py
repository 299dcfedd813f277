"""Any JSONL or Parquet file with the columns below: a source without code (docs/data.md).

============ =================================================================================
messages     list of ``{role, content}`` or ``{from, value}``; also ``conversations``
prompt       the question as text or as a list of turns; also ``question``, ``instruction``
             (with ``input``), or ``input`` alone
system       optional: the text of a system message; also ``system_prompt``
responses    list of texts; or ``chosen`` and ``rejected``, texts or conversations, or one
             ``completion``
label        by ``kind`` (below); not needed with ``chosen`` and ``rejected``; or lists of
             ``scores`` or ``ranks``
kind         best, pair_tie, graded, correct, groups or votes; ``options.kind`` for all rows
id           optional; else ``file:line``
others       optional: ``subset``, ``domain``, ``reference`` (texts; numbers are read as text)
============ =================================================================================

Several columns may hold the conversation: :mod:`spct.data.sources.context` has the rule. Labels:
:mod:`spct.data.sources.labels`; their indices count from 0, or from ``options.first_index``. Public
sets in columns of their own: :mod:`spct.data.sources.public`. ``options.<column>`` names a column
that is called otherwise, e.g. ``options: {prompt: query}``; an empty name leaves one out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spct.data.reading import Dropped
from spct.data.sources import labels, public
from spct.data.sources.base import BadRow, Messages, Row, as_text, build, by_row, user
from spct.data.sources.context import Claim, agreed, shared, with_system
from spct.data.sources.hh_rlhf import is_transcript, turns
from spct.data.sources.tools import with_tools
from spct.data.sources.turns import decoded, kind_of, reply_of, text_alone, text_of, turns_of
from spct.data.text import squeezed
from spct.errors import ConfigError
from spct.records import Item, Label
from spct.schema import SourceConfig

# Columns that do one job; `options` names another one instead. Of those of the conversation all are
# read, of others the first that is there.
COLUMNS = {
    "messages": ("messages", "conversations", "conversation"),
    "prompt": ("prompt", "question", "instruction", "input"),
    "system": ("system", "system_prompt"),
    **{name: (name,) for name in ("responses", "chosen", "rejected", "completion", "label", "id")},
}
# Columns that may belong to the question, and are not read as a part of it.
BESIDE = ("input", "context", "history")


def make(row: Row, source: SourceConfig) -> Item:
    text_alone(row, "the row")
    named = {column: _column(row, source, column) for column in COLUMNS}
    systems = [(name, text_of(value, name)) for name, value in _given(row, source, "system")]
    if len({squeezed(text) for _, text in systems if text.strip()}) > 1:
        raise BadRow("two_contexts", "system and system_prompt differ; leave one out by options")
    if all(named[name] is None for name in ("responses", "chosen", "rejected", "completion")):
        return _filled(public.make(row, source), named, row)
    claims, responses = _responses(named)
    asked = list(_claims(row, source))
    if claims and claims[0][1] and claims[0][1][0]["role"] == "assistant":
        before = asked[-1][1] if asked else ()  # as TRL has it, chosen goes on where prompt ends
        claims = [("chosen", (*before, *claims[0][1]))]
    context = agreed([*claims, *asked], responses, _system(named["system"]))
    _nothing_beside(row, source, context)
    context = with_tools(context, row)
    label = _label(named, row, source, len(responses))
    if named["responses"] is not None:
        _check_chosen(named["chosen"], responses, label)
    return build(
        source,
        context,
        responses,
        label,
        id=named["id"],
        subset=row.get("subset"),
        domain=row.get("domain"),
        reference=row.get("reference"),
    )


def _filled(item: Item, named: Row, row: Row) -> Item:
    """An item of a public set with what such rows have beside its own columns."""
    given = {name: as_text(row.get(name), name) for name in ("subset", "domain", "reference")}
    return replace(
        item,
        messages=with_tools(with_system(item.messages, _system(named["system"])), row),
        id=item.id or as_text(named["id"], "id") or "",
        subset=item.subset if item.subset != "all" else given["subset"] or "all",
        domain=given["domain"] or item.domain,
        reference=item.reference or given["reference"],
    )


def _given(row: Row, source: SourceConfig, column: str) -> list[tuple[str, Any]]:
    """The columns that do one job: the one that ``options`` names, or all that the row has."""
    if column in source.options:
        names: tuple[str, ...] = (str(source.options[column]),)
    else:
        names = tuple(name for name in COLUMNS[column] if source.options.get(name) != "")
    found = [(name, row[name]) for name in names if row.get(name) is not None]
    if column == "prompt" and len(found) > 1 and found[-1][0] == "input":
        found.pop()  # it belongs to the instruction
    return found


def _column(row: Row, source: SourceConfig, column: str) -> Any:
    return next((value for _, value in _given(row, source, column)), None)


def _system(value: Any) -> str:
    return "" if value is None else text_of(value, "system")


def _claims(row: Row, source: SourceConfig) -> Iterator[Claim]:
    """What each column that may hold the conversation says it is."""
    for name, value in _given(row, source, "messages"):
        yield name, turns_of(value, name)
    asked = _given(row, source, "prompt")
    for name, value in asked:
        value = decoded(value)
        if isinstance(value, list):
            yield name, turns_of(value, name)
            continue
        text = text_of(value, name)
        more = row.get("input") if name == "instruction" else None
        if is_transcript(text):
            said = turns(text)
            yield name, said[: len(said) - (not said[-1]["content"])]
        else:
            yield name, user(f"{text}\n\n{text_of(more, 'input')}".rstrip() if more else text)


def _nothing_beside(row: Row, source: SourceConfig, context: Messages) -> None:
    """Raises :class:`BadRow` for a column that may belong to the question and is not in it."""
    used = {*source.options, *map(str, source.options.values())}
    whole = "\n".join(squeezed(turn["content"]) for turn in context)
    for name in BESIDE:
        value = row.get(name)
        if name in used or not value or (isinstance(value, str) and squeezed(value) in whole):
            continue
        told = f"{name} is filled and not in the question; write it into the prompt, or leave it"
        raise BadRow("bad_row", f'{told} out by options: {{{name}: ""}}')


def _responses(named: Row) -> tuple[list[Claim], list[str]]:
    """The responses, and what ``chosen`` and ``rejected`` say of the conversation before them."""
    given, chosen, rejected = named["responses"], named["chosen"], named["rejected"]
    if given is not None:
        if not isinstance(given, list):
            raise BadRow("bad_row", f"responses is {kind_of(given)}, not a list")
        return [], [reply_of(one, f"response {i}") for i, one in enumerate(given)]
    if chosen is None and rejected is None:
        return [], [reply_of(named["completion"], "completion")]
    if chosen is None or rejected is None:
        raise BadRow("bad_row", "only one of chosen and rejected, and nothing to compare it with")
    pair = [("chosen", decoded(chosen)), ("rejected", decoded(rejected))]
    written = [isinstance(one, str) and is_transcript(one) for _, one in pair]
    if all(written):
        return _conversations([turns(one) for _, one in pair])
    if any(written) and not isinstance(rejected, list):
        raise BadRow("bad_row", "one of chosen and rejected is a transcript, the other is not")
    if all(_is_conversation(one) for _, one in pair):
        return _conversations([turns_of(one, name) for name, one in pair])
    other = pair[1][1]
    if isinstance(other, list) and all(isinstance(one, str) for one in other):
        pair = [pair[0], *(("rejected", one) for one in other)]
    return [], [reply_of(one, name) for name, one in pair]


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(turn, dict) for turn in value)


def _conversations(pair: Sequence[Messages]) -> tuple[list[Claim], list[str]]:
    context, replies = shared(pair, ("chosen", "rejected"))
    return [("chosen", context)], replies


def _label(named: Row, row: Row, source: SourceConfig, n: int) -> Label:
    if named["responses"] is None and named["chosen"] is not None:
        labels.of_pair(row)
        return Label("best", 0)
    stated = row.get("kind") or source.options.get("kind")
    if named["responses"] is None and stated is None:
        stated = "correct"  # TRL's unpaired preference: one completion, true or false
    if named["label"] is None and stated in (None, "best", "graded"):
        found = labels.of_list(row, n)
        if found is not None:
            return found
    if str(source.options.get("label", "label")) not in row:
        raise BadRow("no_label", "there is no column label; a null in one is a tie of a pair_tie")
    return labels.read(named["label"], stated or "best", n, labels.first_index(source))


def _check_chosen(chosen: Any, responses: Sequence[str], label: Label) -> None:
    """Beside a list of responses a text ``chosen`` must be its best. Raises ``two_labels``."""
    known = label.kind == "best" and label.value in range(len(responses))
    if isinstance(chosen, str) and known and squeezed(chosen) != squeezed(responses[label.value]):
        raise BadRow("two_labels", "label and chosen name different responses")


_rows = by_row(make)


def load(paths: Sequence[Path], source: SourceConfig) -> Iterator[Item | Dropped]:
    """The items of some files. Raises :class:`~spct.errors.ConfigError` if labels count from 1.

    That is if some name the response behind the last one and none the first, 0: the others would
    be read as the wrong response.
    """
    behind, zero = 0, False
    for found in _rows(paths, source):
        if isinstance(found, Item):
            named = labels.indices(found)
            zero |= 0 in named
            behind += found.n in named
        yield found
    if behind and not zero:
        raise ConfigError(
            f"{source.name}: its labels seem to count from 1: {behind} row(s) name the response "
            "behind the last one, and none names 0; set options: {first_index: 1}, or mend them"
        )
