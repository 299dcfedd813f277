"""What a finished run took, so that a small run plans a large one: lengths, rates, memory, disk.

Read from what its stages left behind: sidecars (:mod:`spct.provenance`), banks, metrics.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spct import origin, provenance
from spct.errors import ConfigError
from spct.origin import Origin, Piece
from spct.planning.assumed import Lengths
from spct.planning.work import Planner, Work
from spct.records import bank_batches
from spct.runs import Node
from spct.tracking import read_metrics

GIB = 2**30
BANKS = ("rollout", "rollout_policy", "judge")  # the stages that sample
COLUMNS = ("item_id", "order", "kind", "prompt_tokens", "completion_tokens", "outcome")


@dataclass(frozen=True)
class Use:
    """What a piece of work took, a mean over seeds. Hours of a GPU (without one, a core); GiB."""

    tokens: float | None  # that passed the model, counted as Work.tokens; None: not recorded
    hours: float
    memory: float | None  # peak of a process, on its GPU if it has one; None: made by older code
    disk: float


@dataclass(frozen=True)
class Finished:
    """A finished run: its origin and what its pieces of work took, by their folders."""

    run: str
    source: Origin
    uses: dict[str, Use]


def read(folder: Path) -> Finished:
    """The finished run in ``results/<run>``.

    Raises ``ConfigError`` if none of its work is finished, ``BrokenArtifact`` if what it left
    cannot be read.
    """
    source = origin.read(folder)
    found: dict[str, list[Use]] = defaultdict(list)
    for _, piece, place in source.places():
        if sides := list(_sides(place)):
            found[piece.folder].append(_use(piece, place, sides))
    if not found:
        raise ConfigError(f"plan: no finished work of {folder}; run it, or name another run")
    return Finished(folder.name, source, {name: _mean(uses) for name, uses in found.items()})


def _sides(place: Path) -> Iterator[dict[str, Any]]:
    """What the jobs of a piece of work wrote about themselves, one each."""
    outputs = [place, *sorted(place.glob("*.parquet"))] if place.is_dir() else []
    told = (provenance.read(path) for path in outputs)
    yield from (side for side in told if side is not None)


def _use(piece: Piece, place: Path, sides: list[dict[str, Any]]) -> Use:
    peaks = [side["peak_memory_gib"] for side in sides if side.get("peak_memory_gib")]
    return Use(
        tokens=_tokens(piece, place),
        hours=sum(side["seconds"] * _cards(place, side) for side in sides) / 3600,
        memory=max(peaks, default=None),
        disk=sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / GIB,
    )


def _cards(place: Path, side: Mapping[str, Any]) -> int:
    """GPUs of a job, or the cores it computed on: one in tier ``cpu``."""
    hardware = side["hardware"]
    if not hardware.get("gpus"):
        return 1 if side["tier"] == "cpu" else int(hardware.get("cores", 1))
    timing = place / "timing.json"
    processes = json.loads(timing.read_text("utf-8")).get("processes") if timing.is_file() else 0
    return int(processes or len(hardware["gpus"]))


def _mean(uses: list[Use]) -> Use:
    tokens = [use.tokens for use in uses if use.tokens is not None]
    peaks = [use.memory for use in uses if use.memory is not None]
    return Use(
        tokens=fmean(tokens) if len(tokens) == len(uses) else None,
        hours=fmean(use.hours for use in uses),
        memory=max(peaks, default=None),
        disk=fmean(use.disk for use in uses),
    )


# ---- tokens


def _tokens(piece: Piece, place: Path) -> float | None:
    if piece.stage in (*BANKS, "score"):
        said, shown = _said_and_shown(bank(place))
        return float(said + shown)
    log = place / "metrics.jsonl"
    steps = read_metrics(log) if log.is_file() else []
    counted = [step["update_tokens"] for step in steps if "update_tokens" in step]
    sampled = sum(step.get("rollout_tokens", 0.0) for step in steps)
    return sum(counted) + sampled if counted else None


def bank(place: Path) -> pa.Table:
    """Columns :data:`COLUMNS` of all shards."""
    shards = sorted(place.glob("*.parquet"))
    return pa.concat_tables(rows for path in shards for rows in bank_batches(path, COLUMNS))


def _said_and_shown(rows: pa.Table) -> tuple[int, int]:
    """Tokens of judgements, and of prompts: one for each item, order and hint."""
    return pc.sum(rows["completion_tokens"]).as_py() or 0, sum(_prompts(rows))


def _prompts(rows: pa.Table) -> list[int]:
    """Tokens of each prompt that was shown."""
    columns = (rows[name].to_pylist() for name in ("item_id", "order", "kind", "prompt_tokens"))
    shown = {
        (item, tuple(order or ()), kind == "hinted"): tokens
        for item, order, kind, tokens in zip(*columns, strict=True)
    }
    return list(shown.values())


# ---- what a plan takes from it


def lengths(run: Finished, assumed: Lengths) -> Lengths:
    """The run's mean lengths and shares but for general texts; ``assumed`` where it has none."""
    rows = list(_tables(run, BANKS))
    if not rows:
        return assumed
    outcomes = pa.chunked_array([part["outcome"].combine_chunks() for part in rows])
    said = [number for part in rows for number in part["completion_tokens"].to_pylist()]
    own = replace(
        assumed,
        prompt=fmean(number for part in rows for number in _prompts(part)),
        completion=fmean(said),
        readable=pc.mean(pc.cast(pc.equal(outcomes, "ok"), pa.float64())).as_py(),
        source=f"measured on {run.run}; general text: {assumed.source}",
    )
    rolled = sum(part.num_rows for part in _tables(run, ("rollout",)))
    kept = sum(ledger["kept"] for ledger in _ledgers(run))
    return replace(own, kept=kept / rolled) if rolled and kept else own


def with_general(known: Lengths, run: Finished, planner: Planner) -> Lengths:
    """``known``, which ``planner`` plans that run by, with the length of general texts at which the
    tokens of its RFT come out as they were."""
    found = []
    for work in planner.works():
        use = run.uses.get(work.node.folder)
        if work.node.stage != "rft" or use is None or not use.tokens:
            continue
        kept = known.kept * planner.work(Node("rollout", work.node.size)).samples
        texts = planner.run.at(work.node.size).rft.epochs * (work.items - kept)
        if texts:
            found.append(known.general + (use.tokens - work.trained_tokens) / texts)
    general = fmean(found) if found else 0.0
    if general <= 0:
        return known
    return replace(known, general=general, source=f"measured on {run.run}")


def _tables(run: Finished, stages: Iterable[str]) -> Iterator[pa.Table]:
    for _, piece, place in run.source.places():
        if piece.stage in stages and any(place.glob("*.parquet")):
            yield bank(place)


def _ledgers(run: Finished) -> Iterator[dict[str, Any]]:
    for _, piece, place in run.source.places():
        if piece.stage == "select" and (place / "ledger.json").is_file():
            yield json.loads((place / "ledger.json").read_text("utf-8"))


@dataclass(frozen=True)
class Rates:
    """FLOPs a second that a card gave, by stage and size, by stage, and by kind of work."""

    run: str
    by_key: dict[tuple[str, ...], float]

    def of(self, work: Work) -> float | None:
        """The rate for ``work``: of the same stage and size, else stage, else kind; else None."""
        known = (self.by_key.get(key) for key in _keys(work))
        return next((rate for rate in known if rate), None)


def _keys(work: Work) -> list[tuple[str, ...]]:
    kind = "training" if work.steps else "sampling"
    return [(work.node.stage, work.node.size), (work.node.stage,), (kind,)]


def rates(run: Finished, planner: Planner) -> Rates:
    """Rates of a run that ``planner`` plans, with its lengths: planned FLOPs by hours taken."""
    flops: dict[tuple[str, ...], float] = defaultdict(float)
    seconds: dict[tuple[str, ...], float] = defaultdict(float)
    for work in planner.works():
        use = run.uses.get(work.node.folder)
        if work.shape is None or use is None:
            continue
        for key in _keys(work):
            flops[key] += work.flops
            seconds[key] += 3600 * use.hours
    return Rates(run.run, {key: flops[key] / taken for key, taken in seconds.items() if taken})
