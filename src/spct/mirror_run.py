"""One run of the tracker as a value, and how its parts are named and hashed. No mlflow here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
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


# ---- names ---------------------------------------------------------------------------------------

NAME_LENGTH = 250  # MLflow's limit for the name of a metric, parameter or tag
# What cannot stand in such a name as it is: a character that is refused; a slash or a dot by which
# the name would be another path; an outer space; an underscore that would read as an escape.
_UNFIT = re.compile(
    r"[^\w\-./ ]|\A/|(?<=/)/|/\Z|(?:\A|(?<=/))\.(?=[./]|\Z)|\A | \Z|_(?=x[0-9A-Fh_])"
)
_ESCAPE = re.compile(r"_x([0-9A-F]+)_")
_SHORTENED = re.compile(r"_xh[0-9a-f]{16}_\Z")
_EMPTY = "_x_"


def safe(name: str) -> str:
    """The name under which MLflow takes ``name``, another one for every other name.

    A name that MLflow takes anyway stays as it is; any other character becomes ``_x`` with its
    code point in hexadecimal digits and ``_``, so that ``C++`` is ``C_x2B__x2B_``. What gets longer
    than MLflow allows is cut, with a hash of the whole at its end. :func:`original` leads back.
    """
    unfit = {match.start() for match in _UNFIT.finditer(name)}
    parts = [f"_x{ord(c):X}_" if i in unfit else c for i, c in enumerate(name)]
    whole = "".join(parts) or _EMPTY
    if len(whole) <= NAME_LENGTH:
        return whole
    end = f"_xh{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}_"
    kept = [at <= NAME_LENGTH - len(end) for at in accumulate(map(len, parts))]
    return "".join(parts[: kept.index(False)]) + end


def original(shown: str) -> str:
    """The name that :func:`safe` made this of.

    Raises ``ValueError`` for one that was cut: ``names.json`` among the run's artifacts tells it.
    """
    if _SHORTENED.search(shown):
        raise ValueError(f"{shown} was cut; names.json among the artifacts of its run has it whole")
    if shown == _EMPTY:
        return ""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), shown)
