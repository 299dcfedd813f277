"""Rejective fine-tuning: supervised training on kept trajectories and general text."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spct import artifact, lm, seeds
from spct.config import Slice
from spct.data.general import read_general
from spct.errors import StageStopped
from spct.finish import meaning
from spct.judge.neutralise import neutralise
from spct.judge.task import Judge
from spct.records import read_bank, read_items
from spct.sampling.limits import LONGER, fitting
from spct.tracking import MetricsLog
from spct.training import held, whole
from spct.training.batching import Example
from spct.training.checkpoint import Checkpoint
from spct.training.choice import completion_logprobs
from spct.training.precision import Precision
from spct.training.steps import Pass
from spct.training.supervised import Loss, Shares, fit
from spct.training.world import joined


def examples(
    model: lm.LM,
    judge: Judge,
    items: Path,
    rows: Path,
    general: Path,
    *,
    general_share: float,
    seed: int,
) -> list[Example]:
    """Judging examples, prompts rebuilt without any hint, and a seeded share of general text.

    ``general_share`` is the share of general examples among all; fewer if the file has not as many,
    all of them if no trajectory was kept (``select.allow_empty``).
    """
    by_id = {item.id: item for item in read_items(items)}
    judging = [
        model.example(
            judge.prompt(by_id[row.item_id], row.order, principles=row.principles),
            row.text,
            ended=meaning(row.finish).end,
        )
        for row in read_bank(rows)
    ]
    pairs = [
        (neutralise(prompt, judge.special_tokens), completion)
        for prompt, completion in read_general(general)
    ]
    share = general_share / (1 - general_share)
    wanted = round(len(judging) * share) if judging else len(pairs)
    chosen = seeds.rng(seed, "rft", "general").permutation(len(pairs))[:wanted]
    return judging + [model.example(*pairs[i]) for i in sorted(chosen)]


def run(
    cfg: Slice, seed: int, *, items: Path, rows: Path, general: Path, out: Path, init: str = ""
) -> None:
    """Fine-tune the base of ``cfg.model`` and write a sealed model folder with ``metrics.jsonl``.

    The loss is the mean negative log-probability (nats) of a step's completion tokens. Raises
    ``StageStopped`` if there is nothing to train on.
    """
    with joined() as world:
        precision = Precision.of(cfg.model.dtype, world.device)
        model = lm.load(cfg.model, init, dtype=precision.weights, place=world.loads_on)
        judge = Judge.build(cfg.judge, model.marks)
        share = cfg.rft.general_share
        data = examples(model, judge, items, rows, general, general_share=share, seed=seed)
        title, allowed = f"rft {cfg.model.name}", cfg.judge.max_too_long
        fits = fitting(title, model, list(map(len, data)), allowed, LONGER)
        data = list(compress(data, fits))
        if not data:
            raise StageStopped(
                f"rft: {rows} has no kept trajectories and {general} no text to learn from"
            )
        held.check(model.model, model.source, max(map(len, data)))
        checkpoint = Checkpoint(out, _identity(cfg, seed, model, judge, [items, rows, general]))
        log = MetricsLog(checkpoint.folder / "metrics.jsonl")
        size = {"size": cfg.model.name, "params": model.params}
        fit(
            title,
            model.model,
            data,
            loss(data),
            cfg.rft,
            checkpoint,
            log,
            seed=seeds.derive(seed, "rft"),
            world=world,
            precision=precision,
        )
        state = whole.weights(model.model, world)

        def write() -> None:
            with artifact.atomic_dir(out, stage="rft", seed=seed, **size) as folder:
                whole.save_pretrained(model.model, folder, state, precision)
                model.tokenizer.save_pretrained(folder)
                shutil.copyfile(log.path, folder / "metrics.jsonl")
            checkpoint.clear()

        world.on_main(write)


def loss(data: Sequence[Example]) -> Loss:
    """The mean negative log-probability of the step's completion tokens."""

    def loss_of(model: nn.Module, one: Pass, chosen: Sequence[int]) -> Shares:
        tokens = sum(len(data[i].completion) for i in chosen)
        read = sum(len(data[i]) for i in one.places)  # each example with its prompt
        logprobs = completion_logprobs(model, one.groups).logprobs
        return {
            "loss": -logprobs.sum() / tokens,
            "tokens": torch.tensor(float(len(logprobs))),
            "update_tokens": torch.tensor(float(read)),
        }

    return loss_of


def _identity(
    cfg: Slice, seed: int, model: lm.LM, judge: Judge, inputs: list[Path]
) -> dict[str, Any]:
    """What a resume state must agree on."""
    return {
        "stage": "rft",
        "seed": seed,
        "model": [model.hash, asdict(cfg.model)],
        "template": judge.template.hash,
        "inputs": [artifact.content_hash(path) for path in inputs],
        "cfg": [asdict(cfg.rft), asdict(cfg.judge)],
    }
