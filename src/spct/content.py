"""Content hashes: of bytes, of texts and of the rows of a table, whatever file holds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

HASH_ROWS = 16_384  # rows turned into Python objects at once


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
        for batch in rows.select(self.columns).to_batches(HASH_ROWS):
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

    Sorting joins a column's chunks into one, which 32-bit offsets allow up to 2 GiB of text.
    """
    return table.cast(large(table.schema)).sort_by([(name, "ascending") for name in key])


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
