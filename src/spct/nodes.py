"""A run and its pieces of work, as :mod:`spct.runs` arranges them. Torch is never imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from spct.config import ConfigError, load
from spct.schema import Config

# Stages that a run and seed has once, and their folders.
ALONE = {"prepare": "data", "audit": "audit", "recast": "recast", "difficulty": "difficulty"}


@dataclass(frozen=True)
class Node:
    """A piece of work within a run and seed: a stage, for a model size and a policy, if any."""

    stage: str
    size: str = ""
    policy: str = ""

    @property
    def folder(self) -> str:
        """Its folder below ``results/<run>/seed<seed>/``."""
        if self.stage in ALONE:
            return ALONE[self.stage]
        name = f"{self.policy}-{self.size}" if self.policy else self.size
        return f"{self.stage}/{name}"


@dataclass
class Run:
    """One run: name, experiment, overrides, and the configuration of each model size.

    ``chain`` names the runs it may share work with, the oldest first, itself last.
    """

    name: str
    experiment: str
    overrides: tuple[str, ...]
    cfg: Config
    chain: tuple[str, ...] = ()
    sized: dict[str, Config] = field(default_factory=dict)

    def at(self, size: str) -> Config:
        """The configuration composed with ``model=<size>``; the plan's main size if empty."""
        if size not in self.sized:
            cfg = load_run(self.experiment, (*self.overrides, f"model={size}"))
            if cfg.model.name != size:
                raise ConfigError(
                    f"experiment {self.experiment!r}: model.name: {cfg.model.name!r} is not the "
                    f"name of its file, conf/model/{size}.yaml, by which results go; call it so"
                )
            self.sized[size] = cfg
        return self.sized[size]

    @property
    def sizes(self) -> list[str]:
        """Every model config this run composes, the main one first."""
        plan = self.cfg.plan
        others = [*filter(None, [plan.metarm, plan.weak]), *plan.reward_models]
        return list(dict.fromkeys([plan.main, *plan.sizes, *others]))


def load_run(experiment: str, overrides: Sequence[str]) -> Config:
    """The configuration of an experiment; a :class:`ConfigError` names the experiment too."""
    try:
        return load([f"experiment={experiment}", *overrides])
    except ConfigError as error:
        raise ConfigError(f"experiment {experiment!r}: {error}") from error
