"""Versions of the bank's row: older ones are lifted to today's on reading, others refused by name.

Version 1 had no ``principles`` and no ``principle_tokens``: the judge wrote its own, or they stood
in the item, so both are empty. A bank of version 1 is known by the lack of ``bank_version`` in its
manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

CURRENT = 2


class UnknownVersion(ValueError):
    """A bank of a version that this code cannot read; the message names both."""


def version(manifest: Mapping[str, Any]) -> int:
    """The row version that a bank's manifest states."""
    return int(manifest.get("bank_version", 1))


def check(manifest: Mapping[str, Any], path: Path) -> int:
    """The version. Raises :class:`UnknownVersion` for one that is newer or was never written."""
    found = version(manifest)
    if not 1 <= found <= CURRENT:
        raise UnknownVersion(
            f"{path} is a bank of version {found}; this code reads 1 to {CURRENT}: "
            "update spct, or judge again"
        )
    return found


def lift(rows: pa.Table, found: int) -> pa.Table:
    """Rows of version ``found`` as rows of today's, columns in any order."""
    for step in range(found, CURRENT):
        rows = _STEPS[step](rows)
    return rows


def _from_1(rows: pa.Table) -> pa.Table:
    none = pa.nulls(rows.num_rows, pa.large_string())
    zero = pa.array([0] * rows.num_rows, pa.int32())
    return rows.append_column("principles", none).append_column("principle_tokens", zero)


_STEPS: dict[int, Callable[[pa.Table], pa.Table]] = {1: _from_1}
