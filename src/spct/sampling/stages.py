"""The stages that sample: ``rollout`` (the base), ``rollout_policy`` (tuned models), ``judge``."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spct import artifact, lm, models
from spct.bank import plan
from spct.config import Slice
from spct.errors import ConfigError
from spct.judge.task import Judge, Task, tasks
from spct.records import Item, Sample, read_items, write_bank
from spct.sampling import base, vllm
from spct.sampling.endpoint import Endpoint
from spct.sampling.fill import describe, fill, sample_parts
from spct.sampling.parts import parts_of
from spct.sampling.principles import ledger
from spct.schema import JudgeConfig
from spct.seeds import derive


def _load(cfg: Slice, init: str | Path = "") -> lm.LM:
    """The model to sample; its weights only if the engine takes them from here."""
    if models.served(cfg.model.source) is None:
        model = lm.load(cfg.model, init, weights=base.needs_weights(cfg.sampler))
        return vllm.adapted(model, cfg.sampler)
    if str(init):
        raise ConfigError(f"io.init: {cfg.model.source} is an endpoint; it cannot serve {init}")
    return Endpoint(cfg.model, cfg.sampler.openai)


def _judge(config: JudgeConfig, model: lm.LM) -> Judge:
    return Judge.build(config, model.marks)


def _evaluation(cfg: Slice) -> JudgeConfig:
    """The judge of the benchmarks: ``bench`` may ask for another kind of verdict or order plan."""
    single, order = cfg.bench.single or cfg.judge.single, cfg.bench.order or cfg.judge.order
    return replace(cfg.judge, single=single, order=order)


def _identity(
    cfg: Slice, config: JudgeConfig, seed: int, stage: str, items: Path, **more: Any
) -> dict[str, Any]:
    rows = asdict(replace(config, max_too_long=0.0))  # which changes no row
    slices = [asdict(cfg.model), base.wanted(cfg.sampler), rows, more]
    return {"stage": stage, "seed": seed, "items": artifact.content_hash(items), "cfg": slices}


def _hint(item: Item) -> int | None:
    return item.label.value if item.label.kind == "best" and item.n > 1 else None


@dataclass(frozen=True)
class _Share:
    """The items of one shard and their range in the file."""

    items: Sequence[Item]
    range: tuple[int, int]

    @classmethod
    def of(
        cls, out: Path, items: Path, judge: Judge, shard: int, shards: int, limit: int = 0
    ) -> _Share:
        """By the plan beside ``out``; ``limit`` is the number of items sampled, 0 for all."""
        every = read_items(items)[: limit or None]
        found = plan.make(
            out.parent,
            artifact.content_hash(items),
            shards,
            len(every),
            lambda: weights(judge, every),
        )
        first, end = found.range(shard)
        return cls(every[first:end], (first, end))


def weights(judge: Judge, items: Sequence[Item]) -> list[int]:
    """The characters of each item's prompt, but for what neutralising adds."""
    if not items:
        return []
    first = items[0]
    frame = len(judge.prompt(first, list(range(first.n)))) - _characters(first)
    return [max(1, frame + _characters(item)) for item in items]


def _characters(item: Item) -> int:
    said = sum(len(message["content"]) for message in item.messages)
    return said + sum(map(len, item.responses)) + len(item.reference or "")


def rollout(cfg: Slice, seed: int, *, items: Path, shard: int, out: Path) -> None:
    """N_RFT plain trajectories and hinted ones of the base for every training item.

    Hints exist only where one of several responses is the best; other items get none.
    """
    model = _load(cfg)
    judge, spec = _judge(cfg.judge, model), cfg.rollout
    stage_seed = derive(seed, "rollout")
    share = _Share.of(out, items, judge, shard, spec.shards)

    def make(item: Item) -> list[Task]:
        settings: dict[str, Any] = {"seed": stage_seed, "temperature": spec.temperature}
        plain = tasks(judge, item, "sample", spec.n_rft, **settings)
        hinted = spec.hinted if _hint(item) is not None else 0
        return plain + tasks(judge, item, "hinted", hinted, hint=_hint, **settings)

    fill(
        out,
        model,
        cfg.sampler,
        judge,
        share.items,
        make,
        name=f"rollout {cfg.model.name}",
        stage_seed=stage_seed,
        temperature=spec.temperature,
        identity=_identity(cfg, cfg.judge, seed, "rollout", items, spec=asdict(spec), shard=shard),
        **_manifest(cfg, cfg.judge, "rollout", "base", seed, items, shard, share),
    )


def rollout_policy(
    cfg: Slice, seed: int, *, items: Path, models: list[Path], shard: int, out: Path
) -> None:
    """Plain trajectories of the tuned policies on training items: the meta RM's on-policy data.

    ``models`` are model folders; the samples of the i-th are numbered from ``i * n_samples`` on.
    """
    rows: list[Sample] = []
    for number, folder in enumerate(models):
        gc.collect()  # what is left of the model before, so that two never share the memory
        sampled, facts, talk, share = _of_policy(cfg, seed, items, number, folder, shard, out)
        first = number * cfg.rollout_policy.n_samples
        rows += [replace(row, sample=first + row.sample) for row in sampled]
    manifest = _manifest(cfg, cfg.judge, "rollout_policy", "tuned", seed, items, shard, share)
    write_bank(out, rows, **facts, **ledger(talk, share.items, rows), **manifest)
    shutil.rmtree(parts_of(out))


def _of_policy(
    cfg: Slice, seed: int, items: Path, number: int, folder: Path, shard: int, out: Path
) -> tuple[list[Sample], dict[str, Any], Judge, _Share]:
    """Trajectories of the policy ``number``, what a manifest says of it, its judge, its items."""
    spec, model = cfg.rollout_policy, _load(cfg, folder)
    talk = _judge(cfg.judge, model)
    share = _Share.of(out, items, talk, shard, spec.shards, spec.items)
    stage_seed = derive(seed, "rollout_policy", number)

    def make(item: Item) -> list[Task]:
        return tasks(
            talk, item, "sample", spec.n_samples, seed=stage_seed, temperature=spec.temperature
        )

    rows = sample_parts(
        parts_of(out) / str(number),
        model,
        cfg.sampler,
        talk,
        share.items,
        make,
        name=f"rollout_policy {folder.parent.name}-{cfg.model.name}",
        stage_seed=stage_seed,
        temperature=spec.temperature,
        identity=_identity(
            cfg, cfg.judge, seed, "rollout_policy", items, spec=asdict(spec), shard=shard
        ),
    )
    return rows, describe(model, talk), talk, share


def judge(
    cfg: Slice, seed: int, *, items: Path, shard: int, policy: str, out: Path, init: str = ""
) -> None:
    """``k_max`` samples (and one greedy) of one policy for every benchmark item.

    ``bench.single`` and ``bench.order`` stand in for the judge's own settings, if they are given.
    """
    model = _load(cfg, init)
    spec, config = cfg.bench, _evaluation(cfg)
    talk = _judge(config, model)
    stage_seed = derive(seed, "judge")
    share = _Share.of(out, items, talk, shard, spec.shards)

    def make(item: Item) -> list[Task]:
        sampled = tasks(
            talk, item, "sample", spec.k_max, seed=stage_seed, temperature=spec.temperature
        )
        greedy = tasks(talk, item, "greedy", int(spec.greedy), seed=stage_seed, temperature=0.0)
        return sampled + greedy

    fill(
        out,
        model,
        cfg.sampler,
        talk,
        share.items,
        make,
        name=f"judge {policy}-{cfg.model.name}",
        stage_seed=stage_seed,
        temperature=spec.temperature,
        identity=_identity(cfg, config, seed, "judge", items, spec=asdict(spec), shard=shard),
        **_manifest(cfg, config, "judge", policy, seed, items, shard, share),
    )


def _manifest(
    cfg: Slice,
    config: JudgeConfig,
    stage: str,
    policy: str,
    seed: int,
    items: Path,
    shard: int,
    share: _Share,
) -> dict[str, Any]:
    """Where a bank came from; its slice has the judge's settings as they were in force."""
    return {
        "stage": stage,
        "policy": policy,
        "size": cfg.model.name,
        "seed": seed,
        "shard": shard,
        "range": list(share.range),
        "items_hash": artifact.content_hash(items),
        "engine": cfg.sampler.engine,
        "tier": lm.tier(),
        "slice": {**cfg.as_dict(), "judge": asdict(config)},
    }
