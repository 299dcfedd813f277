"""At the ends of their bounds settings still give finite numbers: smoke's stages, on few items."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from spct import bounds, checks
from spct.bounds import Range
from spct.config import Slice, load
from spct.schema import Config
from spct.stages import STAGES

pytestmark = pytest.mark.medium
SMALL = [
    "experiment=smoke", "data.train_items=6", "data.general_items=8",
    "data.benchmarks={toy_pairs: 3, toy_best_of_4: 2, toy_single: 3, toy_shift: 2}",
    "rollout.n_rft=3", "metarm.match_margin=false", "select.allow_empty=true",
    "grpo.steps=2", "grpo.prompts_per_step=2",
    "grpo.warmup_steps=1", "grpo.allow_empty=true", "rollout_policy.items=6", "bench.k_max=2",
    "scaling.bootstrap=20", "scaling.ks=[1,2]", "sampler.max_new_tokens=64",
]  # fmt: skip
OPTIM = ("lr", "muon_lr", "weight_decay", "final_lr", "max_grad_norm")
ENDS = {  # rollout's temperature is left, so that the meta RM has something to read
    "rft": OPTIM,
    "grpo": (
        *OPTIM, "kl_coef", "clip_low", "clip_high", "importance_cap", "temperature", "std_eps",
        "alarm_drop", "alarm_invalid", "logprob_chunk", "micro_tokens",
    ),
    "rollout_policy": ("temperature",),
    "metarm": (*OPTIM, "dense_weight"),
    "bench": ("temperature",),
    "scaling": ("k_meta_share", "level", "max_repeats"),
    "health": ("bins",),
}  # fmt: skip


def at_end(cfg: Config, end: str) -> Config:
    """The configuration with each number of ``ENDS`` at the low or high end of its range."""
    groups: dict[str, Any] = {}
    for group, names in ENDS.items():
        held = getattr(cfg, group)
        optim = getattr(held, "optim", None)
        changed = _moved(held, names, end)
        groups[group] = changed
        if optim is not None:
            groups[group] = dataclasses.replace(changed, optim=_moved(optim, names, end))
    groups["scaling"] = dataclasses.replace(groups["scaling"], max_repeats=1.0)
    return dataclasses.replace(cfg, **groups)


def _moved(held: Any, names: tuple[str, ...], end: str) -> Any:
    kinds = bounds.hints(type(held))
    return dataclasses.replace(held, **{n: _end(kinds[n], end) for n in names if n in kinds})


def _end(kind: Any, end: str) -> float:
    (within,) = (extra for extra in get_args(kind) if isinstance(extra, Range))
    if end == "low":
        low = within.least if within.least is not None else math.nextafter(within.above, math.inf)
        return bounds.plain(kind)(low)
    high = within.most if within.most is not None else math.nextafter(within.below, -math.inf)
    return bounds.plain(kind)(high)


def run(cfg: Config, o: Path) -> None:
    """Every stage of smoke's chain that makes numbers, in this process."""
    train, bench, rows = o / "train.parquet", o / "bench.parquet", o / "rows.parquet"
    roll, pol, judged, scored = (o / f"{name}/0.parquet" for name in ("r", "p", "j", "s"))
    general = o / "general.parquet"
    tables = {f"out_{name}": o / f"{name}.csv" for name in ("comparisons", "surface", "official")}
    prepared = {f"out_{name}": o / f"{name}.json" for name in ("ledger", "drops", "card")}
    for stage, io in [
        ("prepare", {"out_train": train, "out_bench": bench, "out_general": general, **prepared}),
        ("rollout", {"items": train, "shard": 0, "out": roll}),
        ("select", {"items": train, "banks": [roll], "out": rows, "out_ledger": o / "l.json"}),
        ("rft", {"items": train, "rows": rows, "general": general, "out": o / "rft"}),
        ("grpo", {"items": train, "out": o / "grpo", "init": str(o / "rft")}),
        ("rollout_policy", {"items": train, "models": [o / "rft"], "shard": 0, "out": pol}),
        ("metarm", {"items": train, "banks": [roll, pol], "out": o / "metarm"}),
        ("judge", {"items": bench, "shard": 0, "policy": "grpo", "out": judged,
                   "init": str(o / "grpo")}),
        ("score", {"items": bench, "bank": judged, "metarm": o / "metarm", "out": scored}),
        ("curves", {"items": [bench], "banks": [scored], "run": "smoke", "out": o / "curves.csv",
                    **tables}),
        ("health", {"items": [bench], "banks": [scored], "run": "smoke", "out": o / "health"}),
    ]:  # fmt: skip
        STAGES[stage].load()(Slice.of(cfg, stage), 0, **io)


def floats(folder: Path) -> Iterator[tuple[str, float]]:
    """Numbers of logs, banks, curves and weights (their largest), by the file they are of."""
    for path in folder.rglob("*"):
        if path.name.endswith(("metrics.jsonl", "curves.csv")):
            csvs = path.suffix == ".csv"
            lines = path.read_text().splitlines()
            entries = csv.DictReader(lines) if csvs else map(json.loads, lines)
            for entry in entries:
                numbers = {k: entry[k] for k in ("accuracy", "low", "high")} if csvs else entry
                yield from ((path.name, float(v)) for v in numbers.values() if v not in ("", None)
                            and isinstance(v, str | int | float))  # fmt: skip
        elif path.suffix == ".parquet":
            table = pq.read_table(path)
            for name in table.column_names:
                if pa.types.is_floating(table[name].type):
                    yield from ((name, v) for v in table[name].to_pylist() if v is not None)
        elif path.suffix == ".safetensors":
            for name, weight in load_file(path).items():
                yield name, float(torch.abs(weight).max())


@pytest.mark.parametrize("end", ["low", "high"])
def test_smoke_is_finite_at_the_ends(tmp_path: Path, end: str) -> None:
    cfg = at_end(load(SMALL), end)
    checks.check(vars(cfg))
    run(cfg, tmp_path)
    found = list(floats(tmp_path))
    assert len(found) > 100
    assert not [(name, value) for name, value in found if not math.isfinite(value)]
