"""The ``score`` stage: a copy of a judged bank with the meta RM's logit in every readable row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spct import artifact, lm
from spct.config import Slice
from spct.judge.task import Judge
from spct.metarm.data import Encoder
from spct.metarm.model import load
from spct.progress import Progress
from spct.records import read_bank, read_items, write_bank
from spct.training.batching import by_tokens, collate


def run(cfg: Slice, seed: int, *, items: Path, bank: Path, metarm: Path, out: Path) -> None:
    """Score every row with scores; unreadable rows keep ``meta_score`` empty."""
    judge_model = load(cfg.model, metarm)
    judge = Judge.build(cfg.judge, judge_model.text.tokenizer.all_special_tokens)
    encode = Encoder(judge_model.text, judge, read_items(items))
    rows = list(read_bank(bank))
    places = [i for i, row in enumerate(rows) if row.scores is not None]
    examples = [encode(rows[i]) for i in places]
    with Progress(f"score {cfg.model.name}", len(examples), unit="judgements") as bar:
        for batch in by_tokens([len(e) for e in examples], cfg.metarm.batch_tokens, "score"):
            chosen = [examples[i] for i in batch]
            logits = judge_model.logits(collate(chosen, judge_model.text.pad, lm.device()))
            for i, value in zip(batch, logits.tolist(), strict=True):
                rows[places[i]] = replace(rows[places[i]], meta_score=value)
            bar.add(len(batch))
    carried = {
        name: value
        for name, value in artifact.read_manifest(bank).items()
        if name not in ("schema_version", "kind", "rows", "content_hash", "key", "code")
    }
    manifest = carried | {
        "stage": "score",
        "metarm": judge_model.text.hash,
        "metarm_params": judge_model.params,
    }
    write_bank(out, rows, **manifest)
