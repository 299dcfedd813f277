"""The ``score`` stage: a copy of a judged bank with the meta RM's logit in every readable row."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spct import artifact
from spct.config import Slice
from spct.errors import StageStopped
from spct.judge.task import Judge
from spct.lm import LM
from spct.metarm import calibration
from spct.metarm.data import Encoder
from spct.metarm.model import load, score
from spct.records import read_bank, read_items, write_bank
from spct.training.batching import Example
from spct.training.world import joined


def run(cfg: Slice, seed: int, *, items: Path, bank: Path, metarm: Path, out: Path) -> None:
    """Score every row with scores; unreadable rows keep ``meta_score`` empty.

    Prompts are those that the bank's own manifest tells of; this stage's ``judge`` group stands in
    for banks that do not tell. The sidecar of seconds repeats those of the judged bank.
    """
    with joined() as world:
        judge_model = load(cfg.model, metarm)
        special = judge_model.text.marks
        told = artifact.read_manifest(bank)
        judge = Judge.of_bank(told, special) or Judge.build(cfg.judge, special)
        encode = Encoder(judge_model.text, judge, read_items(items))
        rows = list(read_bank(bank))
        places = [i for i, row in enumerate(rows) if row.scores is not None]
        examples = [encode(rows[i]) for i in places]
        name, started = f"score {cfg.model.name}", time.monotonic()
        _hold(name, judge_model.text, examples)
        logits = score(name, judge_model.model, examples, cfg.metarm.micro_tokens, world)
        seconds = time.monotonic() - started
        for place, value in zip(places, logits, strict=True):
            rows[place] = replace(rows[place], meta_score=value)
        manifest = _carried(told) | {
            "stage": "score",
            "metarm": judge_model.text.hash,
            "metarm_params": judge_model.params,
            "metarm_calibration": _calibration(metarm),
        }
        world.on_main(write_bank, out, rows, **manifest)
        timing = {"score_seconds": seconds, "scored": len(examples), **_judging(bank)}
        world.on_main(artifact.write_timing, out, **timing)


def _hold(name: str, text: LM, examples: Sequence[Example]) -> None:
    """Raises ``StageStopped`` for a judgement too long to score: a guided vote ranks them all."""
    context, lengths = text.context, list(map(len, examples))
    if context is not None and max(lengths, default=0) > context:
        long = sum(length > context for length in lengths)
        raise StageStopped(
            f"{name}: {long} of {len(examples)} judgements exceed the max_position_embeddings of "
            f"{context} of {text.source}, the longest has {max(lengths)}; a guided vote needs the "
            "score of each: take another model as plan.metarm, or none"
        )


def _judging(bank: Path) -> dict[str, float]:
    """Seconds that the judged bank took and its samples, if its own sidecar is there."""
    side = bank.with_name(f"{bank.name}.timing.json")
    told = json.loads(side.read_text(encoding="utf-8")) if side.is_file() else {}
    return {f"judge_{name}": told[name] for name in ("seconds", "samples") if name in told}


def _calibration(folder: Path) -> dict[str, float] | None:
    """Slope and intercept from the meta RM's folder; None where it was fitted without any."""
    path = folder / calibration.FILE
    if not path.is_file():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    return {"scale": told["scale"], "bias": told["bias"]}


def _carried(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the scored bank's manifest takes over from the judged bank's."""
    own = ("schema_version", "kind", "rows", "content_hash", "key", "code")
    return {name: value for name, value in told.items() if name not in own}
