"""The ``baseline_score`` stage: the benchmark items scored by one baseline."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from spct.baselines import cloud, rows, stock
from spct.baselines.encoding import Encoder
from spct.baselines.kinds import kind
from spct.config import Slice
from spct.errors import ConfigError, StageStopped
from spct.judge.task import Judge
from spct.metarm import model as scalar
from spct.records import read_items
from spct.sampling.parts import parts_of
from spct.training.world import joined


def run(cfg: Slice, seed: int, *, items: Path, name: str, out: Path, init: str = "") -> None:
    """Write a row for every item (and critique): scores, or why the baseline can give none.

    ``init`` is the trained baseline's folder; ``rm`` reads the model that ``cfg.model`` names.
    Raises ``StageStopped`` for a score that is not finite.
    """
    made = kind(name)
    if made.trained != bool(init):
        raise ConfigError(
            f"io.init: {name} needs the folder of the trained baseline"
            if made.trained
            else f"io.init: {name} is read from model.source"
        )
    with joined() as world:
        rm = scalar.load(cfg.model, init) if init else stock.load(cfg.model)
        every, title = read_items(items), f"{name} {cfg.model.name}"
        if made.critic:
            work = parts_of(out)
            scored = list(cloud.sampled(title, cfg, every, rm, Path(init), work, world, seed))
        else:
            encoder = Encoder(rm.text, Judge.build(cfg.judge, rm.text.marks))
            micro_tokens = cfg.baseline.micro_tokens
            scored = made.load().score(
                title, rm.model, encoder, every, micro_tokens, world, seed=seed
            )
        for row in scored:
            if not all(map(math.isfinite, row.scores or ())):
                raise StageStopped(f"{name}: the scores of {row.item_id} are {row.scores}")
        world.on_main(
            rows.write,
            out,
            scored,
            method=rows.MEAN_SCALAR if made.critic else rows.SCALAR,
            stage="baseline_score",
            seed=seed,
            policy=name,
            size=cfg.model.name,
            params=rm.params,
            model=rm.text.hash,
        )
        world.on_main(shutil.rmtree, parts_of(out), ignore_errors=True)
