"""What it took to train a judge, in FLOPs, from the logs and banks that training left.

2 FLOPs a parameter and token read or sampled, 6 where gradients follow (Kaplan et al. 2020).
Prompts count once for each order in which sampling shows them; RFT and the meta RM read every
example with its prompt, a GRPO step each distinct prompt once. Attention, recomputation and a weak
model's samples for the difficulty filter are left out. Pretraining stands apart: a base comes with
it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from spct import artifact, models
from spct.records import bank_batches
from spct.tracking import read_metrics

PRETRAINING_LOG = "training_log.jsonl"
UNKNOWN = float("nan")
# FLOPs a parameter for each token of a kind that metrics.jsonl counts.
_FACTORS = {"rollout_tokens": 2, "update_tokens": 6, "reference_tokens": 2}


class Work(NamedTuple):
    """A piece of training work. ``name`` is that of a baseline, empty for the others."""

    seed: int
    stage: str
    size: str
    name: str = ""


@dataclass
class Training:
    """FLOPs of every piece of work that a run's judges rest on; NaN where a log does not tell."""

    flops: dict[Work, float] = field(default_factory=dict)
    pretraining: dict[str, float] = field(default_factory=dict)  # by size

    @classmethod
    def read(
        cls, folders: Iterable[Path], rollouts: Iterable[Path], bases: Mapping[str, Path]
    ) -> Training:
        """From model folders, the shards sampled on training items, and each size's base folder."""
        training = cls()
        for folder in folders:
            told = artifact.read_manifest(folder)
            name = str(told.get("policy", ""))
            work = Work(int(told["seed"]), str(told["stage"]), str(told["size"]), name)
            training.flops[work] = _trained(folder / "metrics.jsonl", told.get("params"))
        for path in rollouts:
            told = artifact.read_manifest(path)
            work = Work(int(told["seed"]), str(told["stage"]), str(told["size"]))
            spent = 2 * _number(told.get("params")) * sampled_tokens(path)
            training.flops[work] = training.flops.get(work, 0.0) + spent
        for size, folder in bases.items():
            training.pretraining[size] = _pretrained(folder)
        return training

    def of(self, seed: int, policy: str, size: str, *, guided: bool = False) -> float:
        """All that was spent on a judge, its data included; NaN where it is unknown.

        A guided vote has the meta RM besides, and so every policy whose judgements that learnt
        from. A baseline is its own fit.
        """
        if (fitted := Work(seed, "baseline", size, policy)) in self.flops:
            return self.flops[fitted]
        if policy not in ("base", "rft", "grpo"):
            return UNKNOWN
        needed = {Work(seed, policy, size)} if policy != "base" else set()
        if Work(seed, "rft", size) in self.flops and policy == "grpo":
            needed.add(Work(seed, "rft", size))
        if any(work.stage == "rft" for work in needed):
            needed.add(Work(seed, "rollout", size))
        if guided:
            needed |= self._behind_the_meta_rm(seed)
        return sum(self.flops.get(work, UNKNOWN) for work in needed) if needed else 0.0

    def _behind_the_meta_rm(self, seed: int) -> set[Work]:
        """Its fit, the judgements it learnt from, and the policies that wrote them."""
        here = [work for work in self.flops if work.seed == seed]
        fits = {work for work in here if work.stage == "metarm"}
        sampled = {work.size for work in here if work.stage == "rollout_policy"}
        written = {
            work
            for work in here
            if work.size in sampled and work.stage in ("rollout", "rollout_policy", "rft", "grpo")
        }
        return (fits or {Work(seed, "metarm", "")}) | written


def bases_of(shards: Sequence[Path], folders: Sequence[Path]) -> dict[str, Path]:
    """The folder of each size's base, where it is one of ``folders``, as the banks name them."""
    given = {folder.resolve(): folder for folder in folders}
    found: dict[str, Path] = {}
    for path in shards:
        told = artifact.read_manifest(path)
        source = told.get("slice", {}).get("model", {}).get("source")
        place = models.folder(source) if source else None
        if place is not None and place.resolve() in given:
            found[str(told["size"])] = given[place.resolve()]
    return found


def sampled_tokens(path: Path) -> float:
    """Tokens that passed through the model for a shard: completions, principles written once an
    item, and prompts once for each order of the responses that samples of one kind may show."""
    total, items = 0.0, []
    names = ("item_id", "kind", "order", "prompt_tokens", "completion_tokens", "principle_tokens")
    for rows in bank_batches(path, names):
        total += pc.sum(rows["completion_tokens"]).as_py() or 0
        responses = pc.list_value_length(rows["order"])
        columns = [rows[name] for name in ("item_id", "kind", "prompt_tokens", "principle_tokens")]
        items.append(pa.table([*columns, responses], names=["item", "kind", "prompt", "own", "n"]))
    joined = pa.concat_tables(items)
    groups = joined.group_by(["item", "kind"]).aggregate(
        [("prompt", "mean"), ("n", "max"), ([], "count_all")]
    )
    for prompt, n, count in zip(
        *(groups[name].to_pylist() for name in ("prompt_mean", "n_max", "count_all")), strict=True
    ):
        total += prompt * min(count, math.factorial(min(n or 1, 8)))
    owned = joined.group_by("item").aggregate([("own", "max")])
    return float(total + (pc.sum(owned["own_max"]).as_py() or 0))


def _trained(log: Path, params: float | None) -> float:
    """FLOPs of a training's steps. A log without counts of tokens is of older code: NaN."""
    steps = read_metrics(log)
    if not steps or "update_tokens" not in steps[-1]:
        return UNKNOWN
    factors = _FACTORS.items()
    tokens = sum(factor * step.get(name, 0.0) for step in steps for name, factor in factors)
    return _number(params) * tokens


def _pretrained(folder: Path) -> float:
    """6 FLOPs a parameter and token of the base's recipe, if its folder tells of one."""
    log = folder / PRETRAINING_LOG
    if not log.is_file():
        return UNKNOWN
    return (
        6 * _number(artifact.read_manifest(folder).get("params")) * read_metrics(log)[-1]["tokens"]
    )


def _number(value: float | None) -> float:
    return UNKNOWN if value is None else float(value)
