"""What a machine must have for the jobs that are due on it, asked before the first of them.

Snakemake asks where its jobs run on its own machine, in its own environment. On a cluster or in
containers the machine that submits may lack what the others have, so there each stage asks for
itself when it starts, before it loads anything. A dry run only warns. Torch is never imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from spct.config import Slice
from spct.data import download
from spct.errors import ConfigError
from spct.judge import wording
from spct.runs import Runs
from spct.sampling import installed
from spct.schema import DataConfig
from spct.stages import STAGES

SAMPLING = ("rollout", "rollout_policy", "grpo", "judge")
Due = tuple[str, Mapping[str, str]]
"""A job that is due: the name of its rule and its wildcards."""


def check(runs: Runs, due: Iterable[Due]) -> None:
    """Raises ``ConfigError`` for the first job that is due and cannot run on this machine."""
    for rule, wildcards in due:
        run = runs.runs.get(wildcards.get("run", ""))
        if run is None:
            continue
        if rule in SAMPLING or wildcards.get("baseline") == "cloud":
            installed.check(run.at(wildcards["size"]).sampler)
        if rule == "prepare" and run.cfg.data.world == "real":
            _sources(run.cfg.data)


def of_stage(stage: str, cfg: Slice) -> None:
    """Raises ``ConfigError`` for what a stage, started by hand or by a job, would lack."""
    if stage in SAMPLING:
        installed.check(cfg.sampler)
    # a trained reward model reads by its own chat template
    if {"model", "judge"} <= set(STAGES[stage].reads) and stage != "baseline_score":
        wording.check(cfg.judge.template, cfg.model.source)


def _sources(data: DataConfig) -> None:
    """Raises ``ConfigError`` if a data set in a local folder is not there."""
    for group in (data.train_sources, data.general_sources, data.bench_sources):
        for source in group.values():
            if source.path:
                download.local(source)


def warnings(runs: Runs) -> list[str]:
    """What this machine lacks for stages of these runs, in sentences."""
    found: dict[str, None] = {}
    for run in runs.runs.values():
        for size in run.sizes:
            try:
                installed.check(run.at(size).sampler)
            except ConfigError as error:
                found.setdefault(f"not installed on this machine: {error}")
    return list(found)
