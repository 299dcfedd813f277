"""``spct verify FOLDER …``: is every artefact whole, and did today's code make it?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spct import artifact, origin
from spct.artifact import BrokenArtifact
from spct.config import ConfigError


def artefacts(folder: Path) -> Iterator[Path]:
    """Tables, sealed folders and CSV files with a manifest, below a folder or itself."""
    if (folder / artifact.MANIFEST).is_file():
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix in (".parts", ".state"):
            continue
        if path.is_dir():
            yield from artefacts(path)
        elif path.suffix == ".parquet":
            yield path
        elif path.name.endswith(f".{artifact.MANIFEST}"):
            yield path.with_name(path.name.removesuffix(f".{artifact.MANIFEST}"))


def of_run(folder: Path) -> Iterator[Path]:
    """Artefacts below a folder and, if it is a run's, of the work it shares with other runs.

    Work that a finished run lacks is listed too, so that it is found missing.
    """
    yield from artefacts(folder)
    if not origin.recorded(folder):
        return
    finished = (folder / "curves.csv").is_file()
    for _, piece, place in origin.read(folder).places():
        if place.is_dir() and piece.home != folder.name:
            yield from artefacts(place)
        elif finished and not place.exists():
            yield place


def check(path: Path) -> dict[str, Any]:
    """The manifest, after comparing the content with it. Raises :class:`BrokenArtifact`."""
    if path.is_dir():
        return artifact.check_dir(path)
    manifest = artifact.read_manifest(path)
    if path.suffix == ".parquet":
        try:
            found = artifact.table_hash(pq.read_table(path), manifest["key"])
        except (pa.ArrowException, OSError) as error:
            raise BrokenArtifact(f"{path} cannot be read ({error})") from error
    else:
        found = artifact.file_hash(path)
    if found != manifest["content_hash"]:
        raise BrokenArtifact(f"{path} differs from its manifest")
    return manifest


def verify_cli(folders: list[str]) -> int:
    """Print what is broken or stale; 1 if anything is broken, else 0 (stale is only reported)."""
    if not folders:
        raise ConfigError("verify: name a folder, such as results/tiny")
    whole = broken = stale = 0
    named = [Path(folder) if Path(folder).name else Path(folder).absolute() for folder in folders]
    if gone := [folder for folder in named if not folder.is_dir()]:
        raise ConfigError(f"verify: {gone[0]} is no folder")
    for path in dict.fromkeys(path for folder in named for path in of_run(folder)):
        try:
            manifest = check(path)
        except BrokenArtifact as error:
            broken += 1
            print(f"broken  {error}")
            continue
        whole += 1
        if manifest.get("code") != artifact.code_fingerprint():
            stale += 1
            print(f"stale   {path} was made by other code ({manifest.get('code', 'unknown')})")
    print(f"{whole} whole, of them {stale} stale; {broken} broken")
    return 1 if broken else 0
