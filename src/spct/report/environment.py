"""What made the results: versions, machines and code, as manifests and sidecars tell them.

A sidecar (:mod:`spct.provenance`) tells most; an artefact without one still has its manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spct import artifact, origin, provenance


def environment_block(folder: Path) -> dict[str, Any]:
    """What is known of where the run in ``folder`` was made.

    ``work`` holds a line for each piece of work and seed; ``made`` each set of circumstances
    (code, packages, hardware) with the ``stages`` it served. Both are empty for a run that has not
    written down its origin. Nothing is told of this process: ``spct verify`` draws the page again,
    perhaps on another machine, and finds the same.
    """
    lines = list(_work(folder)) if origin.recorded(folder) else []
    made: dict[str, dict[str, Any]] = {}
    for line in lines:
        if told := line.pop("made"):
            entry = made.setdefault(json.dumps(told, sort_keys=True), {**told, "stages": []})
            if line["stage"] not in entry["stages"]:
                entry["stages"].append(line["stage"])
    return {"work": lines, "made": list(made.values())}


def _work(folder: Path) -> Iterator[dict[str, Any]]:
    for seed, piece, place in origin.read(folder).places():
        parts = [(path, artifact.read_manifest(path)) for path in _artefacts(place)]
        if not parts:
            continue
        told = [found for path, _ in parts if (found := provenance.read(path))]
        hashes = [str(manifest["content_hash"]) for _, manifest in parts]
        yield {
            **{"stage": piece.stage, "slot": piece.slot, "seed": seed, "home": piece.home},
            "code": _one(manifest.get("code", "unknown") for _, manifest in parts),
            "engine": _one(manifest.get("engine", "") for _, manifest in parts),
            "tier": _one(found["tier"] for found in told),
            "parts": len(parts),
            "content": hashes[0] if len(hashes) == 1 else artifact.text_hash("\n".join(hashes)),
            "seconds": _seconds(told),
            "made": _circumstances(told[0]) if told else None,
        }


def _artefacts(place: Path) -> list[Path]:
    """A sealed folder, or the tables in a plain one."""
    if (place / artifact.MANIFEST).is_file():
        return [place]
    return sorted(place.glob("*.parquet"))


def _one(values: Iterable[str]) -> str:
    """The values met, each once."""
    return ", ".join(filter(None, dict.fromkeys(values)))


def _seconds(told: Iterable[Mapping[str, Any]]) -> float | None:
    """Seconds of the jobs behind the sidecars: outputs of one job tell of it alike."""
    jobs = {(found["started"], json.dumps(found["outputs"])): found["seconds"] for found in told}
    return sum(jobs.values()) if jobs else None


def _circumstances(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in ("code", "packages", "hardware")}
