"""What a run has left in its folders, as the MLflow runs that show it. No mlflow here.

One parent a run with its tables and figures, below it one child for each stage folder, beside it
one run for each policy and size (:mod:`spct.mirror_curves`). A key holds the hash of the frozen
slice that a run was computed with, its content the hashes of its files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from spct import artifact, origin
from spct.grpo.samples import pages
from spct.mirror_curves import curves
from spct.mirror_run import Mirror, digest, file_hash, time_ms
from spct.origin import Piece
from spct.tracking import read_metrics

_SMALL = ("ledger.json", "metrics.jsonl", "eval.json", "alarms.jsonl")


def collect(run: str, results: Path, reports: Path) -> tuple[Mirror, list[Mirror]]:
    """The parent and the other mirrors of a run, from ``results/<run>`` and ``reports/<run>``.

    Work that lies in a base run's folder is mirrored under every run that shares it. A set of runs
    has a parent alone, with its tables, figures and the number of each claim. Raises
    :class:`spct.artifact.BrokenArtifact` if the run has no folder or broken files.
    """
    folder = results / run
    if not folder.is_dir():
        raise artifact.BrokenArtifact(f"{folder} is missing; run the experiment first")
    parent = _parent(run, folder, reports / run)
    if origin.runs_of(folder):
        return parent, []
    return parent, [*_stages(run, folder), *curves(run, folder, parent.params)]


def configured(folder: Path) -> tuple[str, str]:
    """Tracking URI and experiment of the configuration this run came from; empty if unknown."""
    from spct.config import ConfigError, load

    words = []
    try:
        if origin.recorded(folder):
            source = origin.read(folder)
            words = [f"experiment={source.experiment}", *source.overrides]
        tracking = load(words).tracking
    except (ConfigError, OSError, artifact.BrokenArtifact):
        return "", ""
    return tracking.uri, tracking.experiment


def _parent(run: str, folder: Path, reports: Path) -> Mirror:
    tables = sorted(folder.glob("*.csv"))
    found = [*reports.glob("*"), *reports.glob("health/*")]
    pages = sorted(path for path in found if path.suffix in (".svg", ".png", ".html", ".csv"))
    shown = [path for path in [*tables, *pages] if path.is_file()]
    slices = origin.slices(folder)
    hashes = {name: file_hash(path)[:16] for name, path in slices.items()}
    config = digest(f"{name}={value}" for name, value in hashes.items())
    return Mirror(
        key=f"{run}/{config}",
        name=run,
        content=digest([config, *(f"{path.name}={file_hash(path)}" for path in shown)]),
        time_ms=max((time_ms(path) for path in shown), default=time_ms(folder)),
        tags={
            **{"spct.stage": "set" if origin.runs_of(folder) else "run", "spct.config": config},
            **{f"spct.slice.{name}": value for name, value in hashes.items()},
        },
        params=_params(slices),
        artifacts=[
            *((path, f"config/{name}".rpartition("/")[0]) for name, path in slices.items()),
            *((path, "tables") for path in shown if path.suffix == ".csv"),
            *((path, "report") for path in shown if path.suffix != ".csv"),
        ],
    )


def _params(slices: Mapping[str, Path]) -> dict[str, Any]:
    """Dotted keys of all frozen slices; one that differs by size carries the size in front."""
    params: dict[str, Any] = {}
    for name, path in sorted(slices.items()):
        size = name.rpartition("/")[0]
        for key, value in _flat(yaml.safe_load(path.read_text(encoding="utf-8")) or {}):
            if params.setdefault(key, value) != value:
                params[f"{size}/{key}" if size else f"{name}/{key}"] = value
    return params


def _flat(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{above}.{name}" if above else str(name))
    else:
        yield above, value


# ---- stages ------------------------------------------------------------------------------------


def _stages(run: str, folder: Path) -> Iterator[Mirror]:
    """A child for each finished piece of work of each seed, in whichever run's folder it lies."""
    source = origin.read(folder)
    for seed, piece, place in source.places():
        if files := _products(place):
            slice_hash = file_hash(source.slice_file(piece))[:16]
            yield _stage(run, piece, seed, place, files, slice_hash)


def _products(place: Path) -> list[Path]:
    """Finished files of a stage folder; none if there is no such folder."""
    return sorted(path for path in place.glob("*") if path.is_file() and path.name[0] != ".")


def _stage(
    run: str, piece: Piece, seed: int, place: Path, files: list[Path], slice_hash: str
) -> Mirror:
    hashes = dict(_content_hashes(place, files))
    small = [path for path in files if path.name in _SMALL]
    sums = [*hashes.values(), *(file_hash(path) for path in small)]
    tags = {"spct.stage": piece.stage, "spct.slice": slice_hash, "spct.home": piece.home}
    if alarmed := sorted({entry["domain"] for entry in _entries(place / "alarms.jsonl")}):
        tags["spct.alarm"] = ", ".join(alarmed)
    return Mirror(
        key=f"{run}/{piece.stage}/{piece.slot}/{seed}/{slice_hash}",
        name=" ".join(filter(None, (piece.stage, piece.slot, f"seed {seed}"))),
        content=digest(sums),
        time_ms=max(map(time_ms, files)),
        tags={**tags, **_numbered(hashes)},
        params={"stage": piece.stage, "slot": piece.slot, "seed": seed},
        metrics=[*_training(place), *_timings(files), *_step_timings(place), *_counts(small)],
        artifacts=[(path, "") for path in small],
        texts=[
            (f"samples/{name}", text)
            for name, text in pages(_entries(place / "samples.jsonl")).items()
        ],
    )


def _content_hashes(place: Path, files: list[Path]) -> Iterator[tuple[str, str]]:
    if (place / artifact.MANIFEST).is_file():
        yield place.name, artifact.content_hash(place)
    for path in files:
        if path.suffix == ".parquet":
            yield path.name, artifact.content_hash(path)


def _numbered(hashes: Mapping[str, str]) -> dict[str, str]:
    """Content hashes as one tag each; of many shards one over all."""
    if len(hashes) > 4:
        return {"spct.content_hash": digest(hashes.values())}
    return {f"spct.content_hash.{name}": value for name, value in hashes.items()}


def _training(place: Path) -> Iterator[tuple[str, float, int]]:
    path = place / "metrics.jsonl"
    if path.is_file():
        for entry in read_metrics(path):
            step = int(entry.pop("step"))
            yield from ((name, value, step) for name, value in entry.items())


def _entries(path: Path) -> list[dict[str, Any]]:
    return read_metrics(path) if path.is_file() else []


def _step_timings(place: Path) -> Iterator[tuple[str, float, int]]:
    """Seconds and rates of each training step."""
    path = place / "timing.json"
    if path.is_file():
        for entry in json.loads(path.read_text(encoding="utf-8")).get("steps", []):
            step = int(entry.pop("step"))
            yield from ((f"timing_step/{k}", float(v), step) for k, v in entry.items())


def _timings(files: list[Path]) -> Iterator[tuple[str, float, int]]:
    """Measured seconds and counts, summed over shards."""
    sums: dict[str, float] = {}
    for path in files:
        if path.name.endswith("timing.json"):
            for name, value in _numbers(path):
                sums[name] = sums.get(name, 0.0) + value
    yield from ((f"timing/{name}", value, 0) for name, value in sums.items())


def _counts(files: list[Path]) -> Iterator[tuple[str, float, int]]:
    for path in files:
        if path.suffix == ".json":
            yield from ((f"{path.stem}/{n}", value, 0) for n, value in _numbers(path))


def _numbers(path: Path) -> Iterator[tuple[str, float]]:
    for name, value in _flat(json.loads(path.read_text(encoding="utf-8"))):
        if isinstance(value, (int, float)):
            yield name, float(value)
