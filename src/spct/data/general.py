"""General text for RFT: prompt and completion pairs that are not judgements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from spct import artifact

SCHEMA = pa.schema(
    [("id", pa.large_string()), ("prompt", pa.large_string()), ("completion", pa.large_string())]
)


def write_general(path: Path, pairs: Sequence[tuple[str, str]], **manifest: Any) -> None:
    """Write pairs atomically, numbered in order."""
    rows = [
        {"id": f"general-{i:06d}", "prompt": prompt, "completion": completion}
        for i, (prompt, completion) in enumerate(pairs)
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    artifact.write_table(path, table, key=("id",), kind="general", **manifest)


def read_general(path: Path) -> list[tuple[str, str]]:
    """The pairs in file order. Raises ``artifact.BrokenArtifact`` naming the file and the fix."""
    rows = artifact.read_table(path, SCHEMA, kind="general").to_pylist()
    return [(row["prompt"], row["completion"]) for row in rows]
