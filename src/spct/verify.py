"""``spct verify RUN …``: is every artefact whole, do the numbers follow from the stored rows, and
did today's code make them?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spct import artifact, origin, provenance, rederive
from spct.artifact import BrokenArtifact
from spct.config import ConfigError

NAMED = 3  # stale artefacts of one code that are named


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

    Of a set those of all its runs, and its tables. Work that a finished run lacks is listed too, so
    that it is found missing.
    """
    yield from artefacts(folder)
    if runs := origin.runs_of(folder):
        pages = rederive.pages_of(folder)
        yield from artefacts(pages) if pages.is_dir() else ()
        for run in runs:
            yield from of_run(run) if run.is_dir() else [run]
    if not origin.recorded(folder):
        return
    finished = (folder / "curves.csv").is_file()
    for _, piece, place in origin.read(folder).places():
        if place.is_dir() and piece.home != folder.name:
            yield from artefacts(place)
        elif finished and not place.exists():
            yield place


def check(path: Path) -> dict[str, Any]:
    """The manifest, after comparing the content with it and with what its sidecar says.

    Raises :class:`BrokenArtifact`.
    """
    if path.is_dir():
        manifest = artifact.check_dir(path)
    else:
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
    told = provenance.read(path)
    if told is not None and told["content_hash"] != manifest["content_hash"]:
        raise BrokenArtifact(f"{provenance.beside(path)} tells of another {path.name}")
    return manifest


@dataclass
class Tally:
    """What was found so far; what is broken is printed when it is met."""

    whole: int = 0
    stale: dict[str, list[Path]] = field(default_factory=dict)  # by the code that made them
    broken: int = 0
    derived: int = 0

    def artefact(self, path: Path) -> None:
        """Check one artefact."""
        try:
            manifest = check(path)
        except BrokenArtifact as error:
            self.fail(str(error))
            return
        self.whole += 1
        code = str(manifest.get("code", "unknown"))
        if code != artifact.code_fingerprint():
            self.stale.setdefault(code, []).append(path)

    def numbers(self, folder: Path) -> None:
        """Derive a finished run's numbers again."""
        found = self.broken
        try:
            for problem in rederive.problems(folder):
                self.fail(problem)
        except BrokenArtifact as error:
            self.fail(str(error))
        self.derived += found == self.broken

    def told_stale(self) -> int:
        """Print what other code made, a line for each such code; how many there are."""
        for code, paths in self.stale.items():
            named = ", ".join(map(str, paths[:NAMED]))
            more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
            print(f"stale   made by other code ({code}): {named}{more}")
        return sum(map(len, self.stale.values()))

    def fail(self, why: str) -> None:
        self.broken += 1
        print(f"broken  {why}")


def _finished(folder: Path) -> bool:
    """Whether a run's curves, or a set's tables, are there."""
    if origin.runs_of(folder):
        return rederive.pages_of(folder).is_dir()
    return origin.recorded(folder) and (folder / "curves.csv").is_file()


def verify_cli(words: list[str]) -> int:
    """Print what is broken or stale; 1 if anything is broken, else 0 (stale is only reported).

    The numbers of a finished run or set are derived again unless ``--quick`` is among the words.
    """
    quick = "--quick" in words
    named = [word for word in words if word != "--quick"]
    if not named or any(word.startswith("-") for word in named):
        raise ConfigError("verify: name a run or a folder, such as tiny; --quick: hashes alone")
    folders, tally = [origin.folder_of(name) for name in named], Tally()
    for path in dict.fromkeys(path for folder in folders for path in of_run(folder)):
        tally.artefact(path)
    finished = [one for one in folders if _finished(one)]
    for folder in [] if quick or tally.broken else dict.fromkeys(finished):
        tally.numbers(folder)
    again = f"; {tally.derived} runs' numbers derived again" if tally.derived else ""
    stale = tally.told_stale()
    print(f"{tally.whole} whole, of them {stale} stale; {tally.broken} broken{again}")
    return 1 if tally.broken else 0
