"""Rows of upstream files as they are: JSON Lines, JSON and Parquet, each also gzipped.

A row that cannot be read is a :class:`Dropped` with file, line and reason, for the caller to count;
a file that cannot be read is :class:`spct.artifact.BrokenArtifact`.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import pyarrow as pa
import pyarrow.parquet as pq

from spct.artifact import BrokenArtifact

SUFFIXES = (".jsonl", ".json", ".parquet")
BATCH_ROWS = 1024
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_TWICE = "a key occurs twice"
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # the only escape that can name no character


@dataclass(frozen=True)
class Dropped:
    """A row, or an item made of it, that is not used."""

    where: str  # "file:line", lines (or rows) from 1
    reason: str  # short code, a key of the ledger
    detail: str = ""  # for a person; never text of the data


Row = tuple[str, dict[str, Any]]


def named(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each file with a name of its own: as short as those of files in several folders allow."""
    names = [path.name for path in paths]
    above = 1
    while len(set(names)) < len(set(paths)):
        above += 1
        names = ["/".join(path.parts[-above:]) for path in paths]
    yield from zip(paths, names, strict=True)


def rows(path: Path, name: str = "") -> Iterator[Row | Dropped]:
    """``("file:line", row)`` for each row of a file named ``*.jsonl|.json|.parquet``, also ``.gz``.

    The file goes by ``name``, of :func:`named`, else by its own.

    ``.json`` is one list of objects, or lines after all. Blank lines are no rows. Reasons of a
    :class:`Dropped`: ``bad_json`` (NaN and infinities too), ``bad_row`` (no object), ``not_utf8``
    (bytes, or an escape that is half a character). Raises :class:`spct.artifact.BrokenArtifact` for
    a file that is missing, truncated, corrupt or of another kind.
    """
    try:
        if path.suffix == ".gz" and not path.stat().st_size:
            _broken(path.name, "is empty", EOFError())
        with path.open("rb") as handle:
            found = rows_of(handle, path.name)
            yield from found if name in ("", path.name) else _renamed(found, path.name, name)
    except BrokenArtifact as error:
        raise BrokenArtifact(f"{path.parent}/{error}") from error
    except OSError as error:
        _broken(str(path), f"cannot be read ({error.strerror or error})", error)


def _renamed(found: Iterator[Row | Dropped], old: str, new: str) -> Iterator[Row | Dropped]:
    for one in found:
        if isinstance(one, Dropped):
            yield replace(one, where=new + one.where.removeprefix(old))
        else:
            yield new + one[0].removeprefix(old), one[1]


def rows_of(handle: BinaryIO, name: str) -> Iterator[Row | Dropped]:
    """As :func:`rows`, of an open binary stream (a member of an archive, say) called ``name``."""
    inner = name.removesuffix(".gz")
    suffix = Path(inner).suffix
    if suffix not in SUFFIXES:
        raise BrokenArtifact(f"{name}: none of {', '.join(SUFFIXES)}, plain or .gz")
    try:
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=handle)) if inner != name else handle
        if suffix == ".parquet":
            yield from _parquet(stream, name)
        elif suffix == ".json":
            yield from _json(stream, name)
        else:
            yield from _lines(stream, name)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        _broken(name, f"is truncated or corrupt gzip ({error})", error)
    except pa.ArrowException as error:
        _broken(name, "is truncated or not Parquet", error)


def _broken(name: str, what: str, error: BaseException) -> NoReturn:
    raise BrokenArtifact(f"{name} {what}; delete it and download it again") from error


def _lines(stream: BinaryIO, name: str) -> Iterator[Row | Dropped]:
    for number, line in enumerate(stream, start=1):
        if number == 1:
            _check_coding(line, name)
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield _row(line, f"{name}:{number}")


def _row(line: bytes, where: str) -> Row | Dropped:
    try:
        value = _loads(line)
    except UnicodeError as error:
        half = isinstance(error, UnicodeEncodeError)
        return Dropped(where, "not_utf8", "half a character" if half else _byte(error))
    except (ValueError, RecursionError) as error:
        return Dropped(where, "bad_json", getattr(error, "msg", "") or str(error)[:80])
    if not isinstance(value, dict):
        return Dropped(where, "bad_row", f"a JSON {type(value).__name__}, not an object")
    return where, value


def _byte(error: UnicodeError) -> str:
    return f"byte {getattr(error, 'start', 0)} of the text"


def _loads(raw: bytes) -> Any:
    """JSON in UTF-8 whose every string can be written as UTF-8 again."""
    value = json.loads(raw.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_each_once)
    if SURROGATE.search(raw):
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two values under one name JSON does not say which one counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice" if twice.isidentifier() else _TWICE)
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _check_coding(start: bytes, name: str) -> None:
    if start.startswith(UTF_16):
        raise BrokenArtifact(f"{name} is UTF-16; write it as UTF-8: iconv -f UTF-16 -t UTF-8")


def _json(stream: BinaryIO, name: str) -> Iterator[Row | Dropped]:
    raw = stream.read()
    _check_coding(raw, name)
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if not raw.lstrip().startswith(b"["):
        _check_lines(raw, name)
        yield from _lines(cast(BinaryIO, io.BytesIO(raw)), name)
        return
    try:
        values = _loads(raw)
    except (ValueError, RecursionError) as error:
        _broken(name, f"is no JSON in UTF-8 ({type(error).__name__})", error)
    for number, value in enumerate(values, start=1):
        where = f"{name}:{number}"
        if isinstance(value, dict):
            yield where, value
        else:
            yield Dropped(where, "bad_row", f"a JSON {type(value).__name__}, not an object")


def _check_lines(raw: bytes, name: str) -> None:
    """Raises for one object over several lines: line by line none of it could be read."""
    if b"\n" not in raw.strip():
        return
    try:
        _loads(raw)
    except (ValueError, RecursionError):
        return
    told = "is one JSON object over several lines; write a list of rows, or each row on one line"
    raise BrokenArtifact(f"{name} {told}")


def _parquet(stream: BinaryIO, name: str) -> Iterator[Row | Dropped]:
    source = io.BytesIO(stream.read()) if name.endswith(".gz") else stream
    file = pq.ParquetFile(source)
    names = file.schema_arrow.names
    if twice := sorted({column for column in names if names.count(column) > 1}):
        raise BrokenArtifact(f"{name} has two columns {twice[0]!r}; rename or drop one")
    number = 0
    for batch in file.iter_batches(BATCH_ROWS):
        for i in range(batch.num_rows):
            number += 1
            where = f"{name}:{number}"
            try:
                yield where, batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield Dropped(where, "not_utf8", _byte(error))
            except (ValueError, ArithmeticError, LookupError, TypeError) as error:
                yield Dropped(where, "bad_value", _unreadable(batch, i, error))


def _unreadable(batch: pa.RecordBatch, at: int, error: Exception) -> str:
    """Which column of a row Python cannot hold: a date past the year 9999, say."""
    for column in batch.schema.names:
        try:
            batch[column][at].as_py()
        except (ValueError, ArithmeticError, LookupError, TypeError) as found:
            kind = batch.schema.field(column).type
            return f"the column {column} ({kind}) cannot be read: {type(found).__name__}"
    return type(error).__name__
