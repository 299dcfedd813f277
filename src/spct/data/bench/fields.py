"""From rows of a benchmark's files to items: what every loader of the package is built of.

A benchmark keeps every row that upstream scores, equal or empty responses too: leaving one out
would change the official number. ``item.meta["odd"]`` names what is odd about such a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from spct.data.reading import Dropped, rows
from spct.data.sources.base import BadRow, storable
from spct.errors import ConfigError
from spct.records import Item
from spct.schema import SourceConfig

Row = Mapping[str, Any]
Build = Callable[[Row, str], Iterable[Item]]  # of a row and its "file:line"
T = TypeVar("T")


def load(paths: Sequence[Path], config: SourceConfig, build: Build) -> Iterator[Item | Dropped]:
    """The items of all rows of some files, in order; rows that make none as :class:`Dropped`.

    Raises as :func:`spct.data.reading.rows`, and what ``build`` raises but :class:`BadRow`.
    """
    for path in paths:
        yield from from_rows(rows(path), config, build)


def from_rows(
    found: Iterable[tuple[str, Row] | Dropped], config: SourceConfig, build: Build
) -> Iterator[Item | Dropped]:
    """As :func:`load`, of rows that are read already."""
    for row in found:
        if isinstance(row, Dropped):
            yield row
            continue
        where, values = row
        try:
            items = [marked(item, config) for item in build(values, where)]
        except BadRow as error:
            yield Dropped(where, error.reason, error.detail)
            continue
        yield from items


def marked(item: Item, config: SourceConfig) -> Item:
    """The item with what the source and its responses say about it in ``meta``.

    Raises :class:`BadRow` for what JSON cannot hold.
    """
    meta = dict(storable(item.meta))
    if not config.publishable:
        meta["publishable"] = False
    if odd := oddities(item.responses):
        meta["odd"] = odd
    return replace(item, meta=meta)


def oddities(responses: Sequence[str]) -> list[str]:
    """``equal_responses``, ``empty_response``: what the responses of an item are."""
    found = {
        "equal_responses": len(set(responses)) < len(responses),
        "empty_response": not all(text.strip() for text in responses),
    }
    return [name for name, holds in found.items() if holds]


def text(row: Row, key: str) -> str:
    """A string. Raises :class:`BadRow` for anything else."""
    value = row.get(key)
    if not isinstance(value, str):
        raise BadRow("bad_row", f"{key} is {_kind(value)}, not text")
    return value


def texts(row: Row, key: str, count: int) -> list[str]:
    """A list of so many strings. Raises :class:`BadRow` for anything else."""
    value = row.get(key)
    if not isinstance(value, list) or len(value) != count:
        raise BadRow("bad_row", f"{key} is not a list of {count}")
    return [text({key: one}, key) for one in value]


def inner(row: Row, key: str) -> Row:
    """An object. Raises :class:`BadRow` for anything else."""
    value = row.get(key)
    if not isinstance(value, dict):
        raise BadRow("bad_row", f"{key} is {_kind(value)}, not an object")
    return value


def choice(row: Row, key: str, meanings: Mapping[Any, T]) -> T:
    """What a label means. Raises :class:`BadRow` ``no_label`` for one that names nothing."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value not in meanings:
        raise BadRow("no_label", f"{key} is none of {', '.join(map(repr, meanings))}")
    return meanings[value]


def identity(row: Row, key: str) -> str:
    """Upstream's id of a row, a string or a whole number. Raises :class:`BadRow` without one."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise BadRow("bad_row", f"{key} is {_kind(value)}, not an id")
    return str(value)


def known(value: str, names: Iterable[str], what: str, where: str) -> str:
    """``value`` if it is one of ``names``. Raises :class:`ConfigError`: the loader cannot go on."""
    allowed = list(names)
    if value not in allowed:
        raise ConfigError(f"{where}: {what} {value!r} is not one of {', '.join(allowed)}")
    return value


def line(where: str) -> str:
    """The line number of ``file:line``."""
    return where.rpartition(":")[2]


def stem(path: Path | str) -> str:
    """The name of a file without what its format adds."""
    name = Path(path).name
    for suffix in (".gz", ".jsonl", ".json", ".parquet"):
        name = name.removesuffix(suffix)
    return name


def _kind(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
