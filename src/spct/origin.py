"""Where a finished run came from, as ``results/<run>/config/run.yaml`` tells.

A run shares equal work with its bases, so its stages and their frozen slices lie in several runs'
folders. The workflow writes down which; whoever shows, checks or copies a run looks here. Of a set
of runs ``results/<set>/config/set.yaml`` names the runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from spct.artifact import BrokenArtifact
from spct.errors import ConfigError


@dataclass(frozen=True)
class Piece:
    """A piece of a run's work, the same for every seed.

    ``folder`` lies below ``results/<home>/seed<seed>/``, ``slice`` is the name of its frozen file
    below ``results/<home>/config/``, without the suffix.
    """

    stage: str
    folder: str
    home: str
    slice: str

    @property
    def slot(self) -> str:
        """Size, or policy and size; empty for ``prepare``."""
        return self.folder.partition("/")[2]


@dataclass(frozen=True)
class Origin:
    """The content of a run.yaml; ``results`` is the folder of all runs."""

    results: Path
    experiment: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    work: tuple[Piece, ...]

    def places(self) -> Iterator[tuple[int, Piece, Path]]:
        """Seed, piece and folder of all work, whether it is finished or not."""
        for seed in self.seeds:
            for piece in self.work:
                yield seed, piece, self.results / piece.home / f"seed{seed}" / piece.folder

    def slice_file(self, piece: Piece) -> Path:
        """The frozen slice a piece was computed with."""
        return self.results / piece.home / "config" / f"{piece.slice}.yaml"


def folder_of(name: str) -> Path:
    """The folder a person names: itself, or a run's below ``results/``.

    Raises :class:`spct.errors.ConfigError` if there is neither.
    """
    path = Path(name) if Path(name).name else Path(name).absolute()
    for folder in (path, Path("results") / name):
        if folder.is_dir():
            return folder
    raise ConfigError(f"{name} is no folder, and no run below results/")


def recorded(folder: Path) -> bool:
    """Whether this is the folder of a run that has written down its origin."""
    path = folder / "config/run.yaml"
    return path.is_file() and "\nwork:" in path.read_text(encoding="utf-8")


def runs_of(folder: Path) -> list[Path]:
    """The folders of the runs that a set's ``results/<set>`` names; none if it is no set's.

    Raises :class:`spct.artifact.BrokenArtifact` if its set.yaml is broken or of older code.
    """
    path = folder / "config/set.yaml"
    if not path.is_file():
        return []
    try:
        members = yaml.safe_load(path.read_text(encoding="utf-8"))["members"]
        runs = dict.fromkeys(member["run"] for member in members)
    except (KeyError, TypeError, yaml.YAMLError) as error:
        raise BrokenArtifact(
            f"{path} is broken or of older code; run Snakemake for this set again"
        ) from error
    return [folder.parent / run for run in runs]


def read(folder: Path) -> Origin:
    """The origin of the run in ``results/<run>``.

    Raises :class:`spct.artifact.BrokenArtifact` if its run.yaml is missing or of older code.
    """
    path = folder / "config/run.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Origin(
            folder.parent,
            raw["experiment"],
            tuple(raw["overrides"]),
            tuple(raw["seeds"]),
            tuple(Piece(**entry) for entry in raw["work"]),
        )
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        why = "missing" if not path.is_file() else "broken or of older code"
        raise BrokenArtifact(f"{path} is {why}; run Snakemake for this experiment again") from error


def slices(folder: Path) -> dict[str, Path]:
    """The frozen slices behind a run, its bases' included, or a set's own; by name with suffix."""
    found = {path.name: path for path in sorted((folder / "config").glob("*.yaml"))}
    if runs_of(folder):
        return found
    origin = read(folder)
    for piece in origin.work:
        found[f"{piece.slice}.yaml"] = origin.slice_file(piece)
    return {name: path for name, path in sorted(found.items()) if path.is_file()}
