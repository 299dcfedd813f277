"""The ``baseline`` stage: fits one of the paper's other reward models, from the base."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spct import artifact, seeds
from spct.baselines import cloud, critic
from spct.baselines.encoding import Encoder
from spct.baselines.kinds import kind
from spct.baselines.rows import Scored
from spct.config import Slice
from spct.errors import ConfigError, StageStopped
from spct.judge import prompts
from spct.judge.predicate import credit
from spct.judge.task import Judge
from spct.metarm import model as scalar
from spct.records import Item, read_items
from spct.sampling.parts import check_identity, parts_of
from spct.tracking import MetricsLog
from spct.training import whole
from spct.training.checkpoint import Checkpoint
from spct.training.precision import Precision
from spct.training.supervised import fit
from spct.training.world import joined


def run(cfg: Slice, seed: int, *, items: Path, name: str, out: Path, init: str = "") -> None:
    """Train the baseline ``name`` on all items but those held out; write a sealed folder.

    It is a stock classifier with ``metrics.jsonl`` and ``eval.json`` (accuracy on the items held
    out); ``cloud`` has a folder ``critic`` in it. Raises ``StageStopped`` with the counts if no
    item can be learnt from.
    """
    spec, title, made = cfg.baseline, f"{name} {cfg.model.name}", kind(name)
    if not made.trained:
        raise ConfigError(f"io.name: {name} comes trained; only its scores are asked for")
    with joined() as world:
        precision = Precision.of(cfg.model.dtype, world.device)
        rm = scalar.load(cfg.model, init, dtype=precision.weights, place=world.loads_on)
        train, dev = split(read_items(items), spec.dev_share, seed)
        identity, work = _identity(cfg, seed, name, rm, items), parts_of(out)
        counts: dict[str, Any] = {}
        encoder = Encoder(rm.text, Judge.build(cfg.judge, rm.text.marks))
        if made.critic:
            world.on_main(check_identity, work, identity)
            encoder, counts["critiques"] = cloud.learn(cfg, train, dev, rm, work, world, seed)
        lesson = made.load().lesson(encoder, train)
        encoder.hold(title, [False] * lesson.skipped.get("too_long", 0) + [True] * lesson.items)
        if not lesson.examples:
            raise StageStopped(
                f"{title}: none of {len(train)} items has a best response among several that fits "
                f"the model (left out: {lesson.skipped})"
            )
        checkpoint = Checkpoint(out, identity)
        log = MetricsLog(checkpoint.folder / "metrics.jsonl")
        fit(
            title,
            rm.model,
            lesson.examples,
            lesson.loss,
            spec,
            checkpoint,
            log,
            seed=seeds.derive(seed, "baseline", name),
            world=world,
            precision=precision,
        )
        held_out = made.load().score(
            f"{title}, held out", rm.model, encoder, dev, spec.micro_tokens, world, seed=seed
        )
        counts |= {"train": lesson.items, "skipped": lesson.skipped, **evaluate(held_out, dev)}
        state = whole.weights(rm.model, world)

        def write() -> None:
            told = {"policy": name, "size": cfg.model.name, "params": rm.params}
            with artifact.atomic_dir(out, stage="baseline", seed=seed, **told) as folder:
                whole.save_pretrained(rm.model, folder, state, precision)
                rm.text.tokenizer.save_pretrained(folder)
                shutil.copyfile(log.path, folder / "metrics.jsonl")
                artifact.write_json(folder / "eval.json", counts)
                if made.critic:
                    shutil.copytree(work / critic.FOLDER, folder / critic.FOLDER)
            checkpoint.clear()
            shutil.rmtree(work, ignore_errors=True)

        world.on_main(write)


def split(items: Sequence[Item], dev_share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Items to learn from and items held out, drawn by seed; the same for every baseline."""
    order = seeds.rng(seed, "baseline dev").permutation(len(items))
    held_out = set(order[: round(dev_share * len(items))].tolist())
    train = [item for i, item in enumerate(items) if i not in held_out]
    return train, [items[i] for i in sorted(held_out)]


def evaluate(scored: Sequence[Scored], items: Sequence[Item]) -> dict[str, float]:
    """Accuracy where several responses are scored and one is best; a tie earns its share."""
    credits = [
        credit(row.scores, item.label)
        for row, item in zip(scored, items, strict=True)
        if row.scores is not None and item.n > 1 and not item.label.undecided
    ]
    accuracy = {"accuracy": sum(credits) / len(credits)} if credits else {}
    return {**accuracy, "items": float(len(credits))}


def _identity(cfg: Slice, seed: int, name: str, rm: scalar.MetaRM, items: Path) -> dict[str, Any]:
    return {
        "stage": "baseline",
        "name": name,
        "seed": seed,
        "model": [rm.text.hash, asdict(cfg.model)],
        "template": prompts.load(cfg.judge.template).hash,
        "inputs": [artifact.content_hash(items)],
        "cfg": [asdict(cfg.baseline), asdict(cfg.judge)],
    }
