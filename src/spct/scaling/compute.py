"""Table ``compute.csv``: accuracy against training and inference compute, and the best buys.

Inference FLOPs are those of ``curves.csv``, the meta RM's in guided votes included. Seconds differ
from run to run, so the hashed table leaves its column ``seconds`` empty; they stand in the sidecar
``compute.csv.timing.json`` and are filled in by :func:`read_compute`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spct import artifact
from spct.scaling.cells import NOBODY
from spct.scaling.measure import Measured
from spct.scaling.table import Row, read_rows, written
from spct.scaling.training_cost import Training

NAME = "compute.csv"
COLUMNS = [
    *("run", "seed", "policy", "size", "benchmark", "method", "k", "k_meta", "params"),
    *("train_flops", "infer_flops", "seconds", "accuracy", "low", "high", "items"),
    *("on_frontier", "pretrain_flops"),
]
CONTROLS = ("random_voting", "oracle_voting")  # show what a filter is worth; nobody would run them
GUIDED = "meta_voting"
# Seconds and what they were spent on in a shard's sidecar; a scored bank repeats its judged bank's.
_PARTS = (
    ("judge", "seconds", "samples"),
    ("judge", "judge_seconds", "judge_samples"),
    ("meta", "score_seconds", "scored"),
)
_SAME = ("run", "seed", "policy", "size", "benchmark", "method", "k", "k_meta")


def compute_rows(curves: Iterable[Row], measured: Measured, training: Training) -> list[Row]:
    """A row for each whole-benchmark row of ``curves.csv`` that is a way to judge.

    ``params`` are the judge's own. ``train_flops`` is all that was spent on it after its base, its
    data included, for a guided vote the meta RM's too (:class:`Training`); of several seeds the
    mean. ``on_frontier`` is 1 where no other way to judge this benchmark, of any size, policy,
    method or k, is at least as accurate for as few inference FLOPs and better in one of the two; by
    point estimates.
    """
    seeds = sorted(measured.benches)
    rows = []
    for row in curves:
        whole = row["subset"] == "all" and row["policy"] != NOBODY
        if not whole or row["method"] in CONTROLS or row.get("accuracy") is None:
            continue
        size, guided = row["size"], row["method"] == GUIDED
        own = seeds if row["seed"] == "all" else [int(row["seed"])]
        spent = [training.of(seed, row["policy"], size, guided=guided) for seed in own]
        values = {
            **{name: row[name] for name in (*_SAME, "accuracy", "low", "high", "items")},
            "params": measured.params.get(size),
            "train_flops": sum(spent) / len(spent),
            "infer_flops": row["flops"],
            "pretrain_flops": training.pretraining.get(size, math.nan),
        }
        rows.append(written(values))
    return marked(rows)


def marked(rows: Sequence[Row]) -> list[Row]:
    """The rows with ``on_frontier``, each benchmark and seed for itself; None without FLOPs."""
    groups: dict[tuple[Any, Any], list[Row]] = {}
    for row in rows:
        if row["infer_flops"] is not None:
            groups.setdefault((row["benchmark"], row["seed"]), []).append(row)
    best = {id(row) for group in groups.values() for row in frontier(group)}
    known = {id(row) for group in groups.values() for row in group}
    return [
        {**row, "on_frontier": int(id(row) in best) if id(row) in known else None} for row in rows
    ]


def frontier(rows: Iterable[Row]) -> list[Row]:
    """Rows that none of the others beats: by rising FLOPs, each more accurate than all before."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["infer_flops"], -row["accuracy"])):
        top = kept[-1] if kept else None
        same = top is not None and all(row[x] == top[x] for x in ("infer_flops", "accuracy"))
        if top is None or row["accuracy"] > top["accuracy"] or same:
            kept.append(row)
    return kept


# ---- seconds -----------------------------------------------------------------------------------


def seconds_a_sample(banks: Iterable[Path]) -> dict[str, float]:
    """Machine seconds of a sample, as the sidecars of the banks' shards tell them.

    ``seed/policy/size/judge`` is for writing a judgement, ``seed/policy/size/meta`` for the meta
    RM's reading it: means over all benchmarks and over samples made together.
    """
    sums: dict[str, list[float]] = {}
    for path in banks:
        told, manifest = _timing(path), artifact.read_manifest(path)
        slot = "/".join(str(manifest[name]) for name in ("seed", "policy", "size"))
        for part, seconds, count in _PARTS:
            if told.get(count):
                own = sums.setdefault(f"{slot}/{part}", [0.0, 0.0])
                own[0], own[1] = own[0] + told[seconds], own[1] + told[count]
    return {name: seconds / count for name, (seconds, count) in sums.items()}


def read_compute(path: Path) -> list[Row]:
    """Rows of ``compute.csv``, ``seconds`` filled in: k judgements, and for a guided vote the meta
    RM's look at each; NaN where the sidecar does not tell or k is not what was sampled.

    Raises as :func:`spct.scaling.table.read_rows`.
    """
    rates = _timing(path)
    return [{**row, "seconds": _seconds(row, rates)} for row in read_rows(path)]


def _seconds(row: Row, rates: Mapping[str, float]) -> float:
    parts = ["judge", *(["meta"] if row["method"] == GUIDED else [])]
    if row["method"].startswith("adaptive_"):
        return math.nan
    place = f"{row['policy']}/{row['size']}"
    seeds = {name.split("/", 1)[0] for name in rates}
    own = sorted(seeds) if row["seed"] == "all" else [row["seed"]]
    each = [sum(rates.get(f"{seed}/{place}/{part}", math.nan) for part in parts) for seed in own]
    return float(row["k"] * np.mean(each)) if each else math.nan


def _timing(path: Path) -> dict[str, float]:
    side = path.with_name(f"{path.name}.timing.json")
    return json.loads(side.read_text(encoding="utf-8")) if side.is_file() else {}
