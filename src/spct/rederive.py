"""Derive a finished run's tables and page again from stored rows, and name what differs.

The sidecar of a table (:mod:`spct.provenance`) names the stage that wrote it, its slice and inputs.
The same stage runs on the same inputs into a temporary folder; then cells are compared.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spct import artifact, models, origin, provenance
from spct.arguments import io_arguments
from spct.artifact import BrokenArtifact
from spct.config import Slice, dump
from spct.stages import STAGES

ROUNDING = 1e-5  # relative; tables keep six digits, and other machines add up otherwise
SHOWN = 5  # differing cells of a table that are named
PAGE = "*.html"
_READ = ("score", "baseline_score", "token_prob")  # whose tables curves rest on, beside judge's
# In pages: drawings, whose ids are new each time, and what tells where the page was written.
_OF_THAT_DAY = re.compile(r'<svg.*?</svg>|<section id="environment">.*?</section>', re.DOTALL)


@dataclass(frozen=True)
class Derivation:
    """One call of a stage that wrote some of a run's tables, or its page."""

    stage: str
    seed: int
    slice: Mapping[str, Any]
    inputs: Mapping[str, Sequence[Mapping[str, Any]]]
    arguments: Mapping[str, Any]
    outputs: Mapping[str, str]


def derivations(folder: Path) -> Iterator[Derivation]:
    """What made the tables in ``results/<run>``, then what is in ``reports/<run>``; a set's too.

    Raises :class:`spct.artifact.BrokenArtifact` for a table whose making was not recorded.
    """
    seen = set()
    pages = pages_of(folder)
    for path in (*sorted(folder.glob("*.csv")), *([pages] if pages.is_dir() else [])):
        told = provenance.read(path)
        if told is None:
            raise BrokenArtifact(
                f"how {path} was made is not recorded (older code, or by hand); "
                f"run it again to have it checked"
            )
        call = json.dumps([told["stage"], told["outputs"]], sort_keys=True)
        if call not in seen:
            seen.add(call)
            names = Derivation.__dataclass_fields__
            yield Derivation(**{name: told[name] for name in names})


def root_of(folder: Path) -> Path:
    """The folder in which the workflow ran, given ``results/<run>`` below it."""
    return folder.absolute().parents[1]


def pages_of(folder: Path) -> Path:
    """``reports/<run>``, given ``results/<run>``."""
    return root_of(folder) / "reports" / folder.name


def place_of(root: Path, path: str) -> Path:
    """Where a recorded input lies: below ``root``, or where models are shipped or kept."""
    known = path.startswith((models.BUILTIN, models.CACHED))
    return (models.folder(path) if known else None) or root / path


def problems(folder: Path) -> Iterator[str]:
    """What in a run's tables and page stored rows do not give again, one line each."""
    for made in derivations(folder):
        root = root_of(folder)
        yield from _lacking(folder, made)
        moved = list(_moved(made, root))
        yield from moved
        if not moved:
            with tempfile.TemporaryDirectory(prefix="spct-verify-") as aside:
                fresh = _again(made, root, Path(aside))
                for name, path in made.outputs.items():
                    yield from differences(root / path, fresh[name])


def _moved(made: Derivation, root: Path) -> Iterator[str]:
    """Inputs that are gone or hold something else than when the stage read them."""
    for entry in itertools.chain(*made.inputs.values()):
        path = place_of(root, entry["path"])
        if not path.exists():
            yield f"{path}, an input of {made.stage}, is missing"
        elif provenance.content_of(path) != entry["content_hash"]:
            yield f"{path} has changed since {made.stage} read it; run Snakemake again"


def _lacking(folder: Path, made: Derivation) -> Iterator[str]:
    """Banks of the run's work list that its curves do not rest on."""
    if made.stage != "curves" or not origin.recorded(folder):
        return
    root, found = root_of(folder), origin.read(folder)
    read = {
        place_of(root, entry["path"]).parent for entry in itertools.chain(*made.inputs.values())
    }
    guided = {piece.slot for piece in found.work if piece.stage == "score"}
    for _, piece, place in found.places():
        own = piece.stage == "judge" and piece.slot not in guided
        if (own or piece.stage in _READ) and place.absolute() not in read:
            yield f"{folder}/curves.csv leaves out {place}"


def _again(made: Derivation, root: Path, aside: Path) -> dict[str, Path]:
    """Run the stage into ``aside``; its new outputs by io name."""
    frozen = aside / "slice.yaml"
    frozen.write_text(dump(dict(made.slice)), encoding="utf-8")
    outputs = {name: aside / "new" / Path(path).name for name, path in made.outputs.items()}
    given: dict[str, list[str]] = {name: [str(path)] for name, path in outputs.items()}
    given |= {name: [str(value)] for name, value in made.arguments.items()}
    for name, entries in made.inputs.items():
        given[name] = [str(place_of(root, entry["path"])) for entry in entries]
    function = STAGES[made.stage].load()
    with contextlib.redirect_stdout(io.StringIO()):
        cfg = Slice.read(frozen, made.stage)
        function(cfg, made.seed, **io_arguments(made.stage, function, given))
    return outputs


# ---- comparing ---------------------------------------------------------------------------------


def differences(stored: Path, fresh: Path) -> Iterator[str]:
    """Differing cells of a table or lines of a page; of a folder, of all in it. A few of each."""
    if stored.is_dir():
        for path in sorted((*fresh.rglob(PAGE), *fresh.rglob("*.csv"))):
            yield from differences(stored / path.relative_to(fresh), path)
    elif not stored.is_file():
        yield f"{stored} is missing"
    elif stored.suffix == ".html":
        yield from _lines(stored, fresh)
    elif stored.suffix == ".csv" and artifact.file_hash(stored) != artifact.file_hash(fresh):
        found = list(_cells(stored, fresh))
        yield from found[:SHOWN]
        if len(found) > SHOWN:
            yield f"{stored}: {len(found) - SHOWN} further cells differ"


def _cells(stored: Path, fresh: Path) -> Iterator[str]:
    old, new = _rows(stored), _rows(fresh)
    if old[0] != new[0]:
        yield f"{stored}: the columns are {','.join(old[0])}; derived again {','.join(new[0])}"
        return
    if len(old) != len(new):
        yield f"{stored}: {len(old) - 1} rows stored, {len(new) - 1} derived again"
        return
    for line, (was, now) in enumerate(zip(old[1:], new[1:], strict=True), start=2):
        for column, (one, other) in enumerate(zip(was, now, strict=True)):
            if not _equal(one, other):
                where = "/".join(filter(None, was[: min(column, 9)]))
                what = f"stored {one or 'nothing'}, derived again {other or 'nothing'}"
                yield f"{stored} line {line} ({where}) {old[0][column]}: {what}"


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.reader(handle))


def _equal(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return math.isclose(float(one), float(other), rel_tol=ROUNDING, abs_tol=1e-12)
    except ValueError:
        return False


def _lines(stored: Path, fresh: Path) -> Iterator[str]:
    old, new = (
        _OF_THAT_DAY.sub("", path.read_text(encoding="utf-8")).splitlines()
        for path in (stored, fresh)
    )
    for number, (was, now) in enumerate(itertools.zip_longest(old, new, fillvalue=""), start=1):
        if was != now:
            what = f"stored {was.strip()[:120]!r}, derived again {now.strip()[:120]!r}"
            yield f"{stored} line {number}, drawings and environment left out: {what}"
            return
