"""Columns of more than 2 GiB: 64-bit offsets wherever a table can grow, the hashes of before."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import spct
from spct import content
from spct.artifact import TableDigest, rows_within, table_batches, table_hash
from spct.bank import digest
from spct.baselines import rows
from spct.content import in_order, large
from spct.data import general
from spct.records import BANK_SCHEMA, ITEM_SCHEMA

SCHEMAS = {
    "items": ITEM_SCHEMA,
    "bank": BANK_SCHEMA,
    "general": general.SCHEMA,
    "scores": rows.SCHEMA,
}
SMALL = re.compile(r"pa\.(string|utf8|binary|list_)\(")


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_table_has_large_texts_and_lists(schema: pa.Schema) -> None:
    assert schema.equals(large(schema))


def test_no_schema_of_the_package_has_small_ones() -> None:
    root = Path(spct.__file__).parent
    found = {
        path.name for path in root.rglob("*.py") if SMALL.search(path.read_text(encoding="utf-8"))
    }
    assert found == set()


OLD = pa.schema([("id", pa.string()), ("texts", pa.list_(pa.string())), ("raw", pa.binary())])


def old_table() -> pa.Table:
    """Two chunks a column with the types of before."""
    parts = [
        pa.table({"id": [name], "texts": [[name, "ü"]], "raw": [b"x"]}, schema=OLD)
        for name in ("b", "a")
    ]
    return pa.concat_tables(parts)


def test_the_width_of_offsets_changes_no_hash() -> None:
    table = old_table()
    wide = table.cast(large(OLD))
    assert wide.schema.types == [
        pa.large_string(), pa.large_list(pa.large_string()), pa.large_binary(),
    ]  # fmt: skip
    key, own = ["id"], table.drop_columns(["raw"])
    assert table_hash(own, key) == table_hash(wide.drop_columns(["raw"]), key)
    assert table_hash(own, key) == KNOWN
    assert TableDigest(own.schema).hex() == TableDigest(large(own.schema)).hex()


# Of the code that still had 32-bit offsets: sha256 of the schema's line and of each row's.
KNOWN = "4de9240fe71b49c58ab770959d3229e14fc70c01ee74c7b309b4d0ef47c24672"


def test_sorting_joins_chunks_with_large_offsets() -> None:
    """It is the join of chunks that failed above 2 GiB."""
    for found in (in_order(old_table(), ["id"]), digest.by_key(bank())):
        assert found.schema.equals(large(found.schema))
    assert in_order(old_table(), ["id"])["id"].to_pylist() == ["a", "b"]


def bank() -> pa.Table:
    small = {"item_id": ["b", "a"], "kind": ["sample"] * 2, "sample": [0, 0]}
    return pa.table(small)


def test_large_texts_make_small_row_groups_and_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers that Parquet fills for a row group, or a batch that is read, end at 2 GiB too."""
    monkeypatch.setattr(content, "GROUP_BYTES", 1 << 16)
    path, pairs = tmp_path / "general.parquet", [(f"q{i}", f"{i} " * 5000) for i in range(34)]
    general.write_general(path, pairs)
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    assert len(groups) > 4 and max(group.total_byte_size for group in groups) < 1 << 17
    found = [rows.num_rows for rows in table_batches(path, ["id"], kind="general")]
    assert len(found) > 4 and sum(found) == 34
    assert general.read_general(path) == pairs


def test_rows_within_a_number_of_bytes() -> None:
    assert rows_within(100, rows=10, size=1000, most=50) == 1
    assert rows_within(500, rows=10, size=1000, most=50) == 5
    assert rows_within(10**9, rows=10, size=1000, most=50) == 50
    assert rows_within(1, rows=0, size=0, most=50) == 1
