"""Whole or absent: atomic writes, content hashes, manifests and ledgers of every artefact.

A file or folder is written aside, synced and renamed, so a reader meets a finished artefact or
none. Its *content hash* covers the rows sorted by key, without the columns listed as volatile; two
artefacts with one hash mean the same, whatever their bytes. Timings never enter a hash: they live
in a sidecar (:func:`write_timing`).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spct import content, storage
from spct.content import HASH_ROWS as HASH_ROWS
from spct.content import TableDigest as TableDigest
from spct.content import file_hash as file_hash
from spct.content import large as large
from spct.content import rows_within as rows_within
from spct.content import table_hash as table_hash
from spct.content import text_hash as text_hash

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
GROUP_ROWS = 1 << 20  # of a row group, if they are not too many bytes
META = b"spct"  # a manifest's place in a Parquet footer


class BrokenArtifact(RuntimeError):
    """An artefact is missing, truncated or of another kind; the message names it and the fix."""


@cache
def code_fingerprint() -> str:
    """First 16 hex digits of a hash over the package's sources and templates.

    Kept in every manifest, outside the content hash: ``spct verify`` says what other code made.
    """
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".jinja") and path.is_file():
            digest.update(f"{path.relative_to(root)} {file_hash(path)}\n".encode())
    return digest.hexdigest()[:16]


def _fix(path: Path) -> str:
    return f"delete {path} and run the same command again to rebuild it"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A sibling path to write to; renamed onto ``path`` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with storage.writing(path):
            yield aside
            _sync(aside)
        os.replace(aside, path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path, **manifest: Any) -> Iterator[Path]:
    """A sibling folder to fill; sealed with a manifest of file hashes and renamed onto ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        with storage.writing(path):
            yield aside
            seal(aside, **manifest)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(aside, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys sorted."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


# ---- folders (models) ------------------------------------------------------------------------


VOLATILE_FILES = ("timing.json", "made.json")


def seal(folder: Path, **manifest: Any) -> None:
    """Write ``manifest.json``: a hash per file and one over all of them (``content_hash``)."""
    files = {
        str(path.relative_to(folder)): file_hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST and path.name not in VOLATILE_FILES
    }
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)
    content = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    write_json(
        folder / MANIFEST,
        {
            "schema_version": SCHEMA_VERSION,
            "content_hash": content,
            "code": code_fingerprint(),
            "files": files,
            **manifest,
        },
    )


def check_dir(folder: Path) -> dict[str, Any]:
    """The manifest of a sealed folder, after comparing every file with its hash."""
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise BrokenArtifact(f"{path} is missing; {_fix(folder)}")
        if file_hash(path) != expected:
            raise BrokenArtifact(f"{path} differs from its manifest; {_fix(folder)}")
    return manifest


# ---- tables ----------------------------------------------------------------------------------


def write_table(
    path: Path, table: pa.Table, *, key: Sequence[str], kind: str, **manifest: Any
) -> None:
    """Write Parquet atomically with the manifest in its own footer; refuses repeated keys."""
    groups = table.group_by(list(key)).aggregate([([], "count_all")])
    if groups.num_rows != table.num_rows:
        twice = groups.filter(pc.greater(groups["count_all"], 1)).slice(0, 1).to_pylist()
        raise ValueError(f"{path}: a key occurs twice: {twice}")
    info = {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "rows": table.num_rows,
        "content_hash": table_hash(table, key),
        "key": list(key),
        "code": code_fingerprint(),
        **manifest,
    }
    table = table.replace_schema_metadata({META: json.dumps(info, sort_keys=True).encode()})
    with atomic_path(path) as aside:
        size = rows_within(content.GROUP_BYTES, table.num_rows, table.nbytes, GROUP_ROWS)
        pq.write_table(table, aside, compression="zstd", row_group_size=size)


def read_table(path: Path, schema: pa.Schema, *, kind: str) -> pa.Table:
    """A table of a kind. Raises :class:`BrokenArtifact` if missing, truncated or foreign."""
    batches = list(table_batches(path, schema.names, kind=kind))
    table = pa.concat_tables(batches) if batches else schema.empty_table()
    missing = set(schema.names) - set(table.column_names)
    if missing:
        raise BrokenArtifact(f"{path} lacks the columns {sorted(missing)}; {_fix(path)}")
    return table.select(schema.names).cast(schema)


def table_batches(
    path: Path, columns: Sequence[str], *, kind: str, size: int = 65_536
) -> Iterator[pa.Table]:
    """The columns asked for, as far as the file has them, ``size`` rows at a time, or fewer if
    these are large.

    A file without rows gives one empty table. Raises :class:`BrokenArtifact` as
    :func:`read_table` does, for a column cut short when it is met.
    """
    manifest = read_manifest(path)
    if manifest.get("kind") != kind:
        found = manifest.get("kind")
        raise BrokenArtifact(f"{path} holds {found}, not {kind}; check the io.… path")
    try:
        with pq.ParquetFile(path) as file:
            here = [name for name in file.schema_arrow.names if name in columns]
            if not file.metadata.num_rows:
                yield file.schema_arrow.remove_metadata().empty_table().select(here)
            groups = map(file.metadata.row_group, range(file.num_row_groups))
            bytes_ = sum(group.total_byte_size for group in groups)
            size = rows_within(content.GROUP_BYTES, file.metadata.num_rows, bytes_, size)
            for batch in file.iter_batches(size, columns=here):
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise BrokenArtifact(f"{path} cannot be read ({error}); {_fix(path)}") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a table (its footer), a folder, or a text artefact's sidecar."""
    if not path.exists():
        raise BrokenArtifact(f"{path} is missing; run the stage that writes it")
    if path.suffix == ".parquet":
        try:
            meta = pq.read_schema(path).metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise BrokenArtifact(f"{path} is truncated or not Parquet; {_fix(path)}") from error
        if META not in meta:
            raise BrokenArtifact(f"{path} was not written by spct (no manifest in its footer)")
        return dict(json.loads(meta[META]))
    side = path / MANIFEST if path.is_dir() else path.with_name(f"{path.name}.{MANIFEST}")
    try:
        return dict(json.loads(side.read_text()))
    except (OSError, ValueError) as error:
        raise BrokenArtifact(f"{side} is missing or broken; {_fix(path)}") from error


def content_hash(path: Path) -> str:
    """The content hash of any artefact."""
    return str(read_manifest(path)["content_hash"])


def write_csv(
    path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], **manifest: Any
) -> None:
    """Write CSV atomically with a sidecar manifest; floats at 6 significant digits."""
    with atomic_path(path) as aside, aside.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(columns))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(row.get(name)) for name in columns})
    side = path.with_name(f"{path.name}.{MANIFEST}")
    info = {"content_hash": file_hash(path), "rows": len(rows), "kind": "csv"}
    write_json(side, {**manifest, **info, "code": code_fingerprint()})


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


# ---- ledgers and timings ---------------------------------------------------------------------


def write_ledger(
    path: Path,
    *,
    total: int,
    kept: int,
    rejected: Mapping[str, int],
    failed: int = 0,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write a stage's balance. Raises ``ValueError`` unless total = kept + rejected + failed.

    ``detail`` is a JSON value of the stage's own, such as the same counts by item size.
    """
    if total != kept + sum(rejected.values()) + failed:
        raise ValueError(
            f"ledger of {path} does not balance: {total} in, {kept} kept, "
            f"{dict(rejected)} rejected, {failed} failed"
        )
    balance = {"in": total, "kept": kept, "rejected": dict(rejected), "failed": failed}
    write_json(path, balance | ({"detail": dict(detail)} if detail is not None else {}))


def write_timing(path: Path, **seconds: float) -> None:
    """Write measured seconds (and counts) beside an artefact; never hashed or read by a stage."""
    write_json(path.with_name(f"{path.name}.timing.json"), seconds)
