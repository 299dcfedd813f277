"""The map: every stage, the configuration groups it reads, and the function that is it.

A stage is a pure function ``run(cfg: Slice, seed: int, *, <named inputs and outputs>) -> None``.
It is imported only when it runs, so this module stays free of torch. How stages feed each other
is in ``workflow/rules`` and, for sharing finished work between runs, in :mod:`spct.runs`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage: a line of help, the groups it reads and ``module:function``."""

    does: str
    reads: tuple[str, ...]
    function: str

    @property
    def sized(self) -> bool:
        """Whether its slice differs by model size."""
        return "model" in self.reads

    def load(self) -> Callable[..., None]:
        """Import the function; this is where torch comes in for those who need it."""
        module, name = self.function.split(":")
        function: Callable[..., None] = getattr(importlib.import_module(module), name)
        return function


STAGES: dict[str, Stage] = {
    "prepare": Stage(
        "make training, benchmark and general items",
        ("data",),
        "spct.data.prepare:run",
    ),
    "audit": Stage(
        "look for benchmark texts in the training data",
        ("audit",),
        "spct.data.audit:run",
    ),
    "rollout": Stage(
        "sample the base on the training items",
        ("model", "sampler", "judge", "rollout"),
        "spct.sampling.stages:rollout",
    ),
    "select": Stage(
        "keep the trajectories worth learning from",
        ("select",),
        "spct.rft.select:run",
    ),
    "rft": Stage(
        "rejective fine-tuning of the base",
        ("model", "judge", "rft"),
        "spct.rft.train:run",
    ),
    "difficulty": Stage(
        "leave out of RL what a weak model always judges right",
        ("difficulty",),
        "spct.data.difficulty:run",
    ),
    "grpo": Stage(
        "online reinforcement learning",
        ("model", "sampler", "judge", "grpo"),
        "spct.grpo.train:run",
    ),
    "rollout_policy": Stage(
        "sample the tuned policies on the training items",
        ("model", "sampler", "judge", "rollout_policy"),
        "spct.sampling.stages:rollout_policy",
    ),
    "metarm": Stage(
        "fit the meta reward model",
        ("model", "judge", "metarm"),
        "spct.metarm.train:run",
    ),
    "judge": Stage(
        "judge every benchmark item k_max times",
        ("model", "sampler", "judge", "bench"),
        "spct.sampling.stages:judge",
    ),
    "recast": Stage(
        "put the benchmark items into another form: lists as pairs, with a reference",
        ("recast",),
        "spct.data.recast:run",
    ),
    "score": Stage(
        "let the meta reward model score a bank",
        ("model", "judge", "metarm"),
        "spct.metarm.score:run",
    ),
    "baseline": Stage(
        "fit one of the paper's other reward models",
        ("model", "sampler", "judge", "baseline"),
        "spct.baselines.train:run",
    ),
    "baseline_score": Stage(
        "score the benchmark items by another reward model",
        ("model", "sampler", "judge", "baseline"),
        "spct.baselines.score:run",
    ),
    "token_prob": Stage(
        "ask how likely each choice of an LLM-as-a-Judge was",
        ("model", "judge", "baseline"),
        "spct.baselines.token_prob:run",
    ),
    "curves": Stage(
        "turn banks into curves and comparisons",
        ("scaling",),
        "spct.scaling.curves:run",
    ),
    "blind": Stage(
        "score judges that read no content on the benchmarks",
        ("scaling",),
        "spct.scaling.blind:run",
    ),
    "health": Stage(
        "look at the judges: outcomes, ties, repeats, biases, calibration",
        ("scaling", "health"),
        "spct.health.build:run",
    ),
    "report": Stage(
        "draw the figures and write the pages",
        ("scaling", "report"),
        "spct.report.build:run",
    ),
    "paper": Stage(
        "make the paper's tables, figures and claims from the runs of a set",
        ("scaling",),
        "spct.paper.build:run",
    ),
}
