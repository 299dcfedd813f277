"""OpenAssistant conversations: replies to one message, ranked (Köpf et al. 2023; Apache-2.0).

Rows are messages ``{message_id, parent_id, text, role, rank}`` in any order, or whole trees
``{message_tree_id, prompt: {…, replies: […]}}``. Each message of a person with two or more ranked
replies makes an item; rank 0 is the best, and deleted replies are left out. Not run on the real
file: tested on rows written by hand in upstream's schema.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from spct.data.reading import Dropped, named, rows
from spct.data.sources.base import BadRow, Row, build, made
from spct.data.sources.turns import text_of, turn_of
from spct.records import Item, Label
from spct.schema import SourceConfig

Found = tuple[str, Row]  # "file:line", message


def load(paths: Sequence[Path], source: SourceConfig) -> Iterator[Item | Dropped]:
    """The items of all messages; a message without two ranked replies is dropped, ``no_pair``."""
    flat: list[Found] = []
    for path, name in named(paths):
        for found in rows(path, name):
            if isinstance(found, Dropped):
                yield found
            elif isinstance(found[1].get("prompt"), dict):
                where, row = found
                yield from _tree(where, row["prompt"], [], source)
            else:
                flat.append(found)
    yield from _flat(flat, source)


def _tree(
    where: str, node: Row, before: list[Row], source: SourceConfig
) -> Iterator[Item | Dropped]:
    replies = [one for one in node.get("replies") or [] if isinstance(one, dict)]
    if node.get("role") == "prompter":
        yield _item(where, [*before, node], replies, source)
    for reply in replies:
        yield from _tree(where, reply, [*before, node], source)


def _flat(found: list[Found], source: SourceConfig) -> Iterator[Item | Dropped]:
    known = {row.get("message_id"): row for _, row in found}
    replies: dict[object, list[Row]] = defaultdict(list)
    for _, row in found:
        replies[row.get("parent_id")].append(row)
    for where, row in found:
        if row.get("role") == "assistant":
            if row.get("parent_id") not in known:
                yield Dropped(where, "bad_row", "a reply whose message is not there")
            continue
        path, above = [row], row.get("parent_id")
        while above in known and len(path) <= len(known):
            path.insert(0, known[above])
            above = known[above].get("parent_id")
        if above is not None:
            yield Dropped(where, "bad_row", "the message it answers is not there")
        else:
            yield _item(where, path, replies[row.get("message_id")], source)


def _item(where: str, path: list[Row], replies: list[Row], source: SourceConfig) -> Item | Dropped:
    return made(_make, where, {"path": path, "replies": replies}, source)


def _make(row: Row, source: SourceConfig) -> Item:
    ranked = [one for one in row["replies"] if not one.get("deleted") and _rank(one) is not None]
    if len(ranked) < 2:
        raise BadRow("no_pair", "a message without two ranked replies")
    if any(one.get("deleted") for one in row["path"]):
        raise BadRow("bad_row", "a message before the replies is deleted")
    turns = [
        turn_of({"role": one.get("role"), "content": one.get("text")}, f"message {i}")
        for i, one in enumerate(row["path"], start=1)
    ]
    asked = row["path"][-1]
    return build(
        source,
        turns,
        [text_of(one.get("text"), "a reply") for one in ranked],
        Label("graded", [-float(str(_rank(one))) for one in ranked]),
        id=asked.get("message_id"),
        subset=asked.get("lang"),
    )


def _rank(reply: Row) -> float | int | None:
    rank = reply.get("rank")
    return rank if type(rank) in (int, float) and rank == rank else None
