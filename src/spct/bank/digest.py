"""Content hash and writing of tables too large for memory: rows arrive sorted by key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spct import artifact
from spct.artifact import GROUP_ROWS
from spct.bank import versions
from spct.content import GROUP_BYTES, in_order, is_in_order
from spct.records import BANK_SCHEMA

KEY = ("item_id", "kind", "sample")


def content_hash(path: Path) -> str:
    """The content hash of a bank's rows as they are; a file in key order is read in batches.

    Raises :class:`spct.artifact.BrokenArtifact` if it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            digest = artifact.TableDigest(file.schema_arrow)
            if is_in_order(file.read(columns=list(KEY)).select(list(KEY))):
                for batch in file.iter_batches(artifact.HASH_ROWS):
                    digest.update(pa.Table.from_batches([batch]))
            else:
                digest.update(by_key(file.read()))
            return digest.hex()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise artifact.BrokenArtifact(f"{path} cannot be read ({error})") from error


def by_key(rows: pa.Table) -> pa.Table:
    return in_order(rows, KEY)


def write_sorted(
    path: Path, batches: Callable[[], Iterator[pa.Table]], **manifest: Any
) -> dict[str, Any]:
    """Write a bank from batches in key order, atomically; they are asked for twice.

    The file means what :func:`spct.records.write_bank` would write of the same rows; returned is
    its manifest. Memory: one batch.
    """
    digest, rows = artifact.TableDigest(BANK_SCHEMA), 0
    ledger: dict[str, dict[str, int]] = {}
    for batch in batches():
        digest.update(batch)
        rows += batch.num_rows
        count_outcomes(batch, ledger)
    info = {
        **manifest,
        "schema_version": artifact.SCHEMA_VERSION,
        "bank_version": versions.CURRENT,
        "kind": "bank",
        "key": list(KEY),
        "rows": rows,
        "content_hash": digest.hex(),
        "ledger": sorted_counts(ledger),
        "code": artifact.code_fingerprint(),
    }
    footer = {artifact.META: json.dumps(info, sort_keys=True).encode()}
    schema = BANK_SCHEMA.with_metadata(footer)
    with (
        artifact.atomic_path(path) as aside,
        pq.ParquetWriter(aside, schema, compression="zstd") as out,
    ):
        for batch in batches():
            size = artifact.rows_within(GROUP_BYTES, batch.num_rows, batch.nbytes, GROUP_ROWS)
            out.write_table(batch.cast(schema), row_group_size=size)
    return info


def count_outcomes(rows: pa.Table, ledger: dict[str, dict[str, int]]) -> None:
    """Add the rows to a ledger {kind: {outcome: count}}."""
    for found in rows.group_by(["kind", "outcome"]).aggregate([([], "count_all")]).to_pylist():
        counts = ledger.setdefault(found["kind"], {})
        counts[found["outcome"]] = counts.get(found["outcome"], 0) + found["count_all"]


def sorted_counts(ledger: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {kind: dict(sorted(found.items())) for kind, found in sorted(ledger.items())}
