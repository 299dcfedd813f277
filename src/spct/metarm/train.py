"""Fits the meta RM: a binary classifier of judgements with BCE, from the base."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from spct import artifact, seeds
from spct.config import Slice
from spct.errors import StageStopped
from spct.judge import prompts
from spct.judge.task import Judge
from spct.metarm import calibration
from spct.metarm import model as metarm
from spct.metarm.auc import auc, within_items
from spct.metarm.data import Labelled, labelled, margin_weights, split
from spct.sampling.limits import LONGER, fitting
from spct.schema import MetaRMConfig
from spct.tracking import MetricsLog
from spct.training import whole
from spct.training.checkpoint import Checkpoint
from spct.training.precision import Precision
from spct.training.steps import Pass
from spct.training.supervised import Loss, Shares, fit
from spct.training.world import joined


def evaluate(logits: Sequence[float], data: Sequence[Labelled]) -> dict[str, float]:
    """AUC of the logit, and of the score margin beside it: a control that needs no model."""
    right = [row.correct for row in data]
    ids = [row.item_id for row in data]
    margins = [row.margin for row in data]
    values = {
        "auc": auc(logits, right),
        "auc_within_items": within_items(logits, right, ids),
        "margin_auc": auc(margins, right),
        "margin_auc_within_items": within_items(margins, right, ids),
        "share_correct": sum(right) / max(1, len(right)),
        "judgements": float(len(data)),
    }
    return {name: value for name, value in values.items() if not math.isnan(value)}


def calibrated(logits: Sequence[float], data: Sequence[Labelled]) -> dict[str, float] | None:
    """Slope, intercept and expected calibration error before and after, on the same judgements."""
    right = np.array([row.correct for row in data], dtype=np.bool_)
    found = calibration.fit(logits, right.tolist())
    if found is None:
        return None
    values = np.asarray(logits, dtype=np.float64)
    errors = [
        calibration.expected_error(one.probability(values), right)
        for one in (calibration.Calibration(), found)
    ]
    return {**asdict(found), "ece_raw": errors[0], "ece": errors[1], "judgements": len(data)}


def run(
    cfg: Slice, seed: int, *, items: Path, banks: list[Path], out: Path, init: str = ""
) -> None:
    """Train on every readable non-hinted judgement; write a sealed folder with ``eval.json`` and,
    where judgements were held out, ``calibration.json``.

    Raises ``StageStopped`` with the counts if only one class is present.
    """
    spec, name = cfg.metarm, f"metarm {cfg.model.name}"
    with joined() as world:
        precision = Precision.of(cfg.model.dtype, world.device)
        judge_model = metarm.load(cfg.model, init, dtype=precision.weights, place=world.loads_on)
        model, text = judge_model.model, judge_model.text
        judge = Judge.build(cfg.judge, text.marks)
        data, skipped = labelled(text, judge, items, banks)
        lengths = [len(row.example) for row in data]
        fits = fitting(name, text, lengths, cfg.judge.max_too_long, LONGER)
        if long := fits.count(False):
            data, skipped = list(compress(data, fits)), skipped | {"too_long": long}
        train, dev = split(data, spec.dev_share, seed)
        weights = _weights(train, skipped, spec)
        checkpoint = Checkpoint(out, _identity(cfg, seed, judge_model, [items, *banks]))
        log = MetricsLog(checkpoint.folder / "metrics.jsonl")
        size = {"size": cfg.model.name, "params": judge_model.params}
        fit(
            name,
            model,
            [row.example for row in train],
            _loss(train, weights, spec.dense_weight),
            spec,
            checkpoint,
            log,
            seed=seeds.derive(seed, "metarm"),
            world=world,
            precision=precision,
        )
        held_out = [row.example for row in dev]
        logits = metarm.score(f"{name}, held out", model, held_out, spec.micro_tokens, world)
        report = {"train": len(train), "skipped": skipped, **evaluate(logits, dev)}
        scaling = calibrated(logits, dev)
        state = whole.weights(model, world)

        def write() -> None:
            with artifact.atomic_dir(out, stage="metarm", seed=seed, **size) as folder:
                whole.save_pretrained(model, folder, state, precision)
                text.tokenizer.save_pretrained(folder)
                shutil.copyfile(log.path, folder / "metrics.jsonl")
                artifact.write_json(folder / "eval.json", report)
                if scaling is not None:
                    artifact.write_json(folder / calibration.FILE, scaling)
            checkpoint.clear()

        world.on_main(write)


def _identity(
    cfg: Slice, seed: int, judge_model: metarm.MetaRM, inputs: list[Path]
) -> dict[str, Any]:
    return {
        "stage": "metarm",
        "seed": seed,
        "model": [judge_model.text.hash, asdict(cfg.model)],
        "template": prompts.load(cfg.judge.template).hash,
        "inputs": [artifact.content_hash(path) for path in inputs],
        "cfg": [asdict(cfg.metarm), asdict(cfg.judge)],
    }


def _weights(train: Sequence[Labelled], skipped: dict[str, int], spec: MetaRMConfig) -> list[float]:
    """What each example weighs in the loss. Raises ``StageStopped`` if nothing can be learned."""
    right = sum(row.correct for row in train)
    if right in (0, len(train)):
        raise StageStopped(
            f"metarm: {len(train)} judgements to learn from, {right} of them right; both classes "
            f"are needed (left out: {skipped})"
        )
    weights = margin_weights(train) if spec.match_margin else [1.0] * len(train)
    if not any(weights):
        raise StageStopped(
            f"metarm: at no score margin do {len(train)} judgements hold both classes; "
            "sample more, or set metarm.match_margin=false"
        )
    return weights


def _loss(train: Sequence[Labelled], weights: Sequence[float], dense_weight: float) -> Loss:
    """Weighted BCE at the end of each judgement, a mean over the step's judgements; with
    ``dense_weight`` the same at each of its tokens, a mean over the step's tokens."""

    def loss_of(model: nn.Module, one: Pass, chosen: Sequence[int]) -> Shares:
        logits = metarm.token_logits(model, one.groups)
        final, device = logits[metarm.last(one)], logits.device
        labels = torch.tensor([float(train[i].correct) for i in one.places], device=device)
        weight = torch.tensor([weights[i] for i in one.places], device=device)
        loss = bce(final, labels, weight, reduction="sum") / len(chosen)
        right = ((final > 0) == (labels > 0.5)).float().sum() / len(chosen)
        if dense_weight:
            tokens = sum(len(train[i].example.completion) for i in chosen)
            lengths = torch.tensor(one.lengths, device=device)
            owner = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
            dense = bce(logits, labels[owner], weight[owner], reduction="sum") / tokens
            loss = loss + dense_weight * dense
        read = torch.tensor(float(sum(len(train[i].example) for i in one.places)))
        return {"loss": loss, "accuracy": right, "update_tokens": read}

    return loss_of
