"""Content hashes: of bytes, of texts and of the rows of a table, whatever file holds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

HASH_ROWS = 16_384  # rows turned into Python objects at once …
HASH_BYTES = 1 << 26  # … or fewer, of about so many bytes
GROUP_BYTES = 1 << 28  # of a row group, and of a batch read: Parquet's own buffers end at 2 GiB


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def text_hash(text: str) -> str:
    """SHA-256 of a text, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


class TableDigest:
    """The content hash of a table whose rows come sorted by key, in batches.

    Columns count by name. Parquet renames the field inside a list type on the way, and offsets have
    32 or 64 bits (:func:`large`); the hash does not see either.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.columns = sorted(schema.names)
        types = [str(schema.field(name).type) for name in self.columns]
        types = [text.replace("<element:", "<item:").replace("large_", "") for text in types]
        self._digest = hashlib.sha256(json.dumps([self.columns, types]).encode())

    def update(self, rows: pa.Table) -> None:
        rows = rows.select(self.columns)
        size = rows_within(HASH_BYTES, rows.num_rows, rows.nbytes, HASH_ROWS)
        for batch in rows.to_batches(size):
            for row in batch.to_pylist():
                text = json.dumps(row, sort_keys=True, ensure_ascii=False)
                self._digest.update(text.encode() + b"\n")

    def hex(self) -> str:
        """SHA-256 of all rows so far."""
        return self._digest.hexdigest()


def table_hash(table: pa.Table, key: Sequence[str], volatile: Sequence[str] = ()) -> str:
    """SHA-256 over the rows sorted by ``key``, columns by name, without the volatile ones."""
    table = table.drop_columns([name for name in volatile if name in table.column_names])
    digest = TableDigest(table.schema)
    digest.update(in_order(table, key))
    return digest.hex()


def in_order(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """The rows sorted by ``key``, strings by their UTF-8 bytes; texts and lists :func:`large`.

    Sorting joins a column's chunks into one, which 32-bit offsets allow up to 2 GiB of text. A
    table that is in order already is not copied.
    """
    table = table.cast(large(table.schema))
    if is_in_order(table.select(list(key))):
        return table
    return table.sort_by([(name, "ascending") for name in key])


def rows_within(wanted: int, rows: int, size: int, most: int) -> int:
    """How many rows make about ``wanted`` bytes, if ``rows`` have ``size``: 1 to ``most``."""
    return max(1, min(most, wanted * rows // max(1, size)))


def is_in_order(keys: pa.Table) -> bool:
    """Whether rows ascend by their columns, the first one first; strings by their UTF-8 bytes."""
    if keys.num_rows < 2:
        return True
    before, after = keys.slice(0, keys.num_rows - 1), keys.slice(1)
    tied: Any = pa.scalar(True)
    falls: Any = pa.scalar(False)
    for name in keys.column_names:
        left, right = before[name], after[name]
        falls = pc.or_(falls, pc.and_(tied, pc.greater(left, right)))
        tied = pc.and_(tied, pc.equal(left, right))
    return not pc.any(falls).as_py()


def large(schema: pa.Schema) -> pa.Schema:
    """The schema with 64-bit offsets in every text, binary and list."""
    return pa.schema([field.with_type(_large(field.type)) for field in schema])


def _large(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_binary(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_large(kind.value_type)))
    return kind
