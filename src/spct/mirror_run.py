"""One run of the tracker as a value, and how its parts are named and hashed. No mlflow here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spct import artifact


@dataclass(frozen=True)
class Mirror:
    """One MLflow run. ``artifacts`` pairs a file with the folder it is shown in, ``texts`` a path
    there with what to write. A ``nested`` one is folded away below its run's parent."""

    key: str
    name: str
    content: str
    time_ms: int
    tags: dict[str, str]
    params: dict[str, Any] = field(default_factory=dict)
    metrics: list[tuple[str, float, int]] = field(default_factory=list)
    artifacts: list[tuple[Path, str]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    nested: bool = True


def digest(parts: Iterable[object]) -> str:
    """Sixteen hex digits over the parts' texts."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file; empty if there is none."""
    return artifact.file_hash(path) if path.is_file() else ""


def time_ms(path: Path) -> int:
    """When a file was written, milliseconds since 1970."""
    return int(path.stat().st_mtime * 1000)


def safe(name: str) -> str:
    """A name that MLflow takes for a metric."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)
