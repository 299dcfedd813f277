"""``spct archive RUN FILE.tar`` and ``spct unpack FILE.tar FOLDER``: a run with all it rests on.

The archive holds ``results/`` and ``reports/`` as they lie: the run's own folder, the work and the
frozen slices that it shares with its bases, and its report. Unpacked anywhere it verifies. Resume
states, half-written files and other runs stay out. The base models are not in it: shipped ones come
with the package, others from where the configuration says.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spct import artifact, origin
from spct.artifact import BrokenArtifact
from spct.config import ConfigError

COMPRESSED = {".gz": "gz", ".tgz": "gz", ".xz": "xz"}
_LEFT_OUT = (".state", ".parts", ".part")


def contents(run: str, root: Path = Path()) -> list[Path]:
    """The files of a run, and of the work it shares, or of a set's runs; below ``root``, sorted.

    Raises :class:`~spct.config.ConfigError` for a run that is not there or whose ``run.yaml`` is
    missing, :class:`spct.artifact.BrokenArtifact` naming work of a finished run that is.
    """
    folder = root / "results" / run
    if members := origin.runs_of(folder):
        own = (*_files(folder), *_files(root / "reports" / run))
        parts = (contents(member.name, root) for member in members)
        return sorted({path.relative_to(root) for path in own}.union(*parts))
    if not origin.recorded(folder):
        raise ConfigError(
            f"archive: {folder} is no run; results/RUN/config/run.yaml names its work"
        )
    known = origin.read(folder)
    finished = (folder / "curves.csv").is_file()
    found = set(_files(folder)) | set(_files(root / "reports" / run))
    for _, _, place in known.places():
        if place.is_dir():
            found.update(_files(place))
        elif finished:
            raise BrokenArtifact(f"{place} is missing; run Snakemake again, then archive")
    found.update(path for path in origin.slices(folder).values() if path.is_file())
    return sorted(path.relative_to(root) for path in found)


def withheld(paths: Iterable[Path], root: Path = Path()) -> list[str]:
    """Sources among the files' data cards whose owners ask not to publish them."""
    cards = (root / path for path in paths if path.name == "card.json")
    sources = (one for card in cards for one in json.loads(card.read_text("utf-8"))["sources"])
    return sorted({source["name"] for source in sources if not source["publishable"]})


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.endswith(_LEFT_OUT) for part in parts):
            yield path


def write(run: str, out: Path, root: Path = Path(), *, private: bool = False) -> int:
    """Write the archive, whole or not at all; the number of files in it.

    The names of owner and group are left out. The suffix (``.tar``, ``.tar.gz``, ``.tar.xz``) tells
    the compression. Raises :class:`~spct.config.ConfigError` if it would hold texts that are not to
    be published, unless it is to stay ``private``.
    """
    paths = contents(run, root)
    if (names := withheld(paths, root)) and not private:
        raise ConfigError(
            f"archive: {run} holds texts of {', '.join(names)}, whose owners ask not to publish "
            "them; --private writes it all the same, for yourself"
        )
    mode: Any = f"w:{COMPRESSED.get(out.suffix, '')}"
    with (
        artifact.atomic_path(out) as aside,
        tarfile.open(aside, mode, dereference=True) as archive,
    ):
        for path in paths:
            archive.add(root / path, str(path), recursive=False, filter=_anonymous)
    return len(paths)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o644
    return entry


def unpack(file: Path, folder: Path) -> list[str]:
    """Unpack into a folder that is empty or new; the names of the runs within.

    Only plain files and folders that stay below ``folder`` are taken (``tarfile``'s filter
    ``data``, and no links). Raises :class:`~spct.config.ConfigError` naming an entry that is
    neither, before anything is written, or a file that is no archive.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"unpack: {folder} is not empty")
    try:
        with tarfile.open(file) as archive:
            entries = archive.getmembers()
            for entry in entries:
                _refuse(entry, folder)
            folder.mkdir(parents=True, exist_ok=True)
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ConfigError(f"unpack: {file} cannot be read ({error})") from error
    return sorted(path.parents[1].name for path in folder.glob("results/*/config/run.yaml"))


def _refuse(entry: tarfile.TarInfo, folder: Path) -> None:
    if not (entry.isfile() or entry.isdir()):
        raise ConfigError(f"unpack: {entry.name} is a link or a device, which no run holds")
    try:
        safe = tarfile.data_filter(entry, os.fspath(folder))
    except tarfile.FilterError as error:
        raise ConfigError(f"unpack: {entry.name} would leave the folder ({error})") from error
    if safe is None or safe.name != entry.name:  # the filter takes a leading slash off
        raise ConfigError(f"unpack: {entry.name} would leave the folder (an absolute path)")


# ---- the commands ------------------------------------------------------------------------------


def archive_cli(words: list[str]) -> int:
    """Write an archive and say what is in it."""
    named = [word for word in words if word != "--private"]
    if len(named) != 2:
        raise ConfigError("archive: name a run and the file to write, such as tiny tiny.tar")
    run, out = Path(named[0]).name, Path(named[1])
    count = write(run, out, private="--private" in words)
    print(f"{out}: {count} files of {run}; elsewhere: spct unpack {out.name} FOLDER")
    return 0


def unpack_cli(words: list[str]) -> int:
    """Unpack an archive and say how to check it."""
    if len(words) != 2:
        raise ConfigError("unpack: name an archive and a new folder, such as tiny.tar there")
    folder = Path(words[1])
    for run in unpack(Path(words[0]), folder):
        print(f"spct verify {folder / 'results' / run}")
    return 0
