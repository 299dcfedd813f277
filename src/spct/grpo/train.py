"""Stage ``grpo``: online GRPO with rule-based rewards, resumable after any step."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from spct import artifact
from spct.config import Slice
from spct.errors import StageStopped
from spct.grpo.journal import Journal
from spct.grpo.overlap import LaggingTrainer
from spct.grpo.timing import matmul_throughput
from spct.grpo.trainer import Trainer
from spct.grpo.watch import gap_limit
from spct.preempt import Preempted, notice
from spct.progress import Progress
from spct.records import read_items
from spct.schema import GrpoConfig
from spct.tracking import read_metrics
from spct.training.checkpoint import Checkpoint, folder_of
from spct.training.whole import save_pretrained
from spct.training.world import joined


def run(cfg: Slice, seed: int, *, items: Path, out: Path, init: str = "") -> None:
    """Train the model at ``init`` (default: the base) and write a sealed model folder.

    Beside the weights it holds ``metrics.jsonl`` (one line a step), ``samples.jsonl``,
    ``alarms.jsonl`` if one went off, and ``timing.json``, which is not hashed. Under ``torchrun``
    the processes share the work and the main one alone touches files; a run may go on with another
    number of them. Raises ``StageStopped`` if nothing was learned, ``Preempted`` if SIGTERM came
    and as :class:`spct.grpo.trainer.Trainer` does.
    """
    with joined() as world:
        kind = LaggingTrainer if cfg.grpo.rollout_lag else Trainer
        trainer = kind(cfg, seed, read_items(items), init, folder_of(out), world)
        checkpoint = Checkpoint(out, _identity(cfg, seed, trainer, items))
        journal = Journal(checkpoint.folder, cfg.grpo, gap_limit(cfg.grpo, cfg.model.dtype))
        _train(trainer, checkpoint, journal)
        manifest = {"stage": "grpo", "seed": seed, "size": cfg.model.name}
        manifest |= {"params": trainer.policy.params, **trainer.take_best()}
        world.on_main(_publish, trainer, trainer.weights(), journal, out, manifest)
        world.on_main(checkpoint.clear)


def _train(trainer: Trainer, checkpoint: Checkpoint, journal: Journal) -> None:
    """All steps from where a run before this one was killed."""
    config, world, name = trainer.config, trainer.world, f"grpo {trainer.cfg.model.name}"
    start = _resume(trainer, checkpoint, journal)
    if start and world.main:
        print(f"{name}: continues from step {start}", file=sys.stderr)
    matmul_throughput(world.device.type, trainer.precision.compute)  # no part of the first step
    with Progress(name, config.steps, unit="steps", quiet=not world.main) as bar, notice() as term:
        bar.add(start)
        for step in range(start, config.steps):
            metrics, rollouts = trainer.step(step)
            world.on_main(journal.record, step, metrics, rollouts)
            bar.add(1)
            leave = any(world.gather(term.asked))
            due = (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps
            if leave or due:
                with trainer.clock("checkpoint"):
                    world.on_main(_save, checkpoint, step + 1, trainer.state(), journal)
            world.on_main(journal.seconds.write, step, trainer.timing())
            if leave:
                raise Preempted(f"{name}: ended by SIGTERM after {step + 1} steps, which are kept")
    if not config.allow_empty:
        world.on_main(_check_live, journal, config)


def _resume(trainer: Trainer, checkpoint: Checkpoint, journal: Journal) -> int:
    """Load the newest state, if there is one; the steps that were taken."""
    world = trainer.world
    state = world.on_main(checkpoint.load)
    start = world.from_main(0 if state is None else int(state["step"]))
    if start:
        trainer.load_state(state and state["trainer"])
    world.on_main(journal.resume, start, state and state["journal"])
    return start


def _save(checkpoint: Checkpoint, step: int, state: dict[str, Any], journal: Journal) -> None:
    checkpoint.save(step, trainer=state, journal=journal.state())


def _publish(
    trainer: Trainer,
    weights: dict[str, Tensor],
    journal: Journal,
    out: Path,
    manifest: dict[str, Any],
) -> None:
    throughput = matmul_throughput(trainer.world.device.type, trainer.precision.compute)
    with artifact.atomic_dir(out, **manifest) as folder:
        save_pretrained(trainer.policy.model, folder, weights, trainer.precision)
        trainer.policy.tokenizer.save_pretrained(folder)
        journal.publish(folder, matmul_flops_per_s=throughput, processes=trainer.world.size)


def _identity(cfg: Slice, seed: int, trainer: Trainer, items: Path) -> dict[str, Any]:
    """What a resume state must agree on."""
    return {
        "stage": "grpo",
        "seed": seed,
        "model": [trainer.policy.hash, asdict(cfg.model)],
        "template": trainer.judge.template.hash,
        "items": artifact.content_hash(items),
        "cfg": [asdict(cfg.grpo), asdict(cfg.judge), asdict(cfg.sampler)],
    }


def _check_live(journal: Journal, config: GrpoConfig) -> None:
    """Raise ``StageStopped`` if no step had a group with both rewards: nothing was learned."""
    steps = read_metrics(journal.metrics.path)
    if all(step["dead_groups"] == 1 for step in steps):
        solved = sum(step["solved_groups"] for step in steps) / max(1, len(steps))
        groups = len(steps) * config.prompts_per_step
        raise StageStopped(
            f"grpo: all {groups} groups were dead, {solved:.0%} of them solved; "
            "train on other items, or set grpo.allow_empty=true"
        )
