"""The files behind a table of curves, and whether they still are what it was computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spct import artifact, models, origin
from spct.artifact import BrokenArtifact

Manifest = dict[str, Any]
# The stages that make a table's inputs.
BEHIND = ("judge", "score", "baseline", "baseline_score", "token_prob")


@dataclass(frozen=True)
class Source:
    """A file that a table was computed from; ``recorded`` is its content hash then, if known."""

    path: Path
    seed: int
    recorded: str | None

    @property
    def manifest(self) -> Manifest | None:
        """What stands in its footer; None if it is gone or broken."""
        try:
            return artifact.read_manifest(self.path)
        except BrokenArtifact:
            return None

    @property
    def state(self) -> str:
        """Whether its content hash is still the one recorded."""
        manifest = self.manifest
        if manifest is None:
            return "not at hand" if not self.path.exists() else "broken"
        if self.recorded is None:
            return "hash not recorded by the table"
        same = manifest["content_hash"] == self.recorded
        return "as recorded" if same else f"CHANGED since: now {manifest['content_hash'][:16]}"

    def __str__(self) -> str:
        known = self.recorded or (self.manifest or {}).get("content_hash") or "unknown"
        return f"{self.path}  content hash {known[:16]}  {self.state}"


@dataclass(frozen=True)
class Table:
    """A table of curves: a run's own, or a copy of it in ``docs/results``.

    ``run`` is the run's folder below ``results`` if it is at hand, ``config`` where the frozen
    slices are or were copied to.
    """

    path: Path
    run: Path | None
    config: Path
    manifest: Manifest

    @classmethod
    def of(cls, path: Path, name: str) -> Table:
        """The table at ``path``, of the run of that name."""
        folders = [path.parent, Path("results") / name]
        run = next((at for at in folders if at.name == name and at.is_dir()), None)
        return cls(path, run, path.parent / "config", _manifest(path, run))

    @property
    def state(self) -> str:
        """Whether the table is what its manifest says."""
        if not self.manifest:
            return "no manifest at hand"
        same = artifact.file_hash(self.path) == self.manifest["content_hash"]
        return "as its manifest says" if same else "EDITED: differs from its manifest"

    def banks(self, seed: int, policy: str, size: str) -> list[Source]:
        """The shards behind the rows of a policy and size, as recorded, else as planned."""
        wanted = {"seed": seed, "policy": policy, "size": size}
        found = [
            entry
            for entry in self._sources("banks")
            if all(entry[name] == value for name, value in wanted.items())
        ]
        if found:
            return [self._source(entry) for entry in found]
        return [Source(path, seed, None) for path in self._planned(seed, f"{policy}-{size}")]

    def scores(self, seed: int, policy: str, size: str) -> list[Source]:
        """The tables behind the rows of a model that writes no judgement, as recorded."""
        wanted = {"seed": seed, "policy": policy, "size": size}
        return [
            self._source(entry)
            for entry in self._sources("scores")
            if all(entry[name] == value for name, value in wanted.items())
        ]

    def items(self, seed: int) -> Source | None:
        """The items of a seed."""
        for entry in self._sources("items"):
            if entry["seed"] == seed:
                return self._source(entry)
        for at, stage, place in self._places():
            if (at, stage) == (seed, "prepare"):
                return Source(place / "bench.parquet", seed, None)
        return None

    @property
    def seeds(self) -> list[int]:
        """Every seed of the run."""
        recorded = {int(entry["seed"]) for entry in self._sources("items")}
        return sorted(recorded or {seed for seed, _, _ in self._places()})

    def slices(self, policy: str, size: str) -> Iterator[Path]:
        """Frozen configuration of the stages between a model and the row, as far as at hand."""
        if self.origin is None:
            yield self.config / f"{size}/judge.yaml"
            yield from sorted(self.config.glob("*/score.yaml"))
        else:
            for piece in self.origin.work:
                if piece.slot == f"{policy}-{size}" and piece.stage in BEHIND:
                    file = self.origin.slice_file(piece)
                    yield file if file.is_file() else self.config / f"{piece.slice}.yaml"
        yield (self.run / "config" if self.run else self.config) / "curves.yaml"

    @property
    def run_file(self) -> Path | None:
        """The file with what the run was asked for."""
        for folder in (self.run / "config" if self.run else self.config, self.config):
            if (folder / "run.yaml").is_file():
                return folder / "run.yaml"
        return None

    @cached_property
    def origin(self) -> origin.Origin | None:
        """Where the run's work lies, if its run.yaml tells."""
        file = self.run_file
        if file is None or not origin.recorded(file.parent.parent):
            return None
        return origin.read(file.parent.parent)

    def _places(self) -> Iterator[tuple[int, str, Path]]:
        for seed, piece, place in self.origin.places() if self.origin else ():
            yield seed, piece.stage, place

    def _planned(self, seed: int, slot: str) -> list[Path]:
        """The shards where the run's plan puts them: the scored copy where there is one."""
        for stage in ("score", "judge"):
            for at, found, place in self._places():
                if (at, found, place.name) == (seed, stage, slot) and place.is_dir():
                    shards = [path for path in place.glob("*.parquet") if path.stem.isdigit()]
                    return sorted(shards, key=lambda path: int(path.stem))
        return []

    def _sources(self, name: str) -> list[Manifest]:
        return list(self.manifest.get("sources", {}).get(name, []))

    def _source(self, entry: Mapping[str, Any]) -> Source:
        """Paths were recorded as the workflow saw them, from the folder above ``results``."""
        path = Path(entry["path"])
        if not path.exists() and not path.is_absolute() and self.run:
            path = self.run.parent.parent / path
        return Source(path, int(entry["seed"]), str(entry["content_hash"]))


def _manifest(path: Path, run: Path | None) -> Manifest:
    """The manifest beside the table, or beside the run's own if the table is a copy of that."""
    for beside in [path, *([run / path.name] if run else [])]:
        try:
            manifest = artifact.read_manifest(beside)
        except BrokenArtifact:
            continue
        if beside == path or manifest["content_hash"] == artifact.file_hash(path):
            return manifest
    return {}


def model_folder(bank: Path, manifest: Manifest, digest: str, stage: str) -> Path | None:
    """The folder whose sealed content is a bank's model ``digest``: made by ``stage``, or a base.

    Looked for by hash in the bank's run and in those beside it.
    """
    source = manifest.get("slice", {}).get("model", {}).get("source")
    shipped = models.folder(source) if source else None
    seed = next((at for at in bank.absolute().parents if at.name.startswith("seed")), None)
    candidates = [shipped] if shipped else []
    if seed is not None:
        candidates += sorted(seed.glob(f"{stage}/*"))
        candidates += sorted(seed.parent.parent.glob(f"*/{seed.name}/{stage}/*"))
    sealed = (folder for folder in candidates if (folder / artifact.MANIFEST).is_file())
    found = (folder for folder in sealed if artifact.content_hash(folder).startswith(digest))
    return next(map(_shorter, found), None)


def _shorter(folder: Path) -> Path:
    """Relative to here if it lies below."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
