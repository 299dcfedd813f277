"""Names of runs: experiments, overrides in one order, sweeps, sets."""

from __future__ import annotations

import hashlib
import itertools
import re
import shlex
from collections.abc import Sequence

import yaml

from spct import sets
from spct.config import ConfigError, conf_dir

SLUG_CHARACTERS = 48
UNNAMED = "tracking."  # overrides that change no result, so they give a run no name of its own


def normalise(overrides: str | Sequence[str]) -> tuple[str, ...]:
    """Overrides sorted by key, the last value of a key kept; ``model=X`` means ``plan.main=X``."""
    words = shlex.split(overrides) if isinstance(overrides, str) else list(overrides)
    found: dict[str, str] = {}
    for word in words:
        key, equals, _ = word.partition("=")
        if key in ("experiment", "base"):
            raise ConfigError(f"{word}: pick experiments with --config 'experiments=[…]'")
        if key == "model" and equals:
            key, word = "plan.main", f"plan.main{word.removeprefix('model')}"
        found[key] = word
    return tuple(found[key] for key in sorted(found))


def named(overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides that change results, and so give a run its name."""
    return tuple(text for text in overrides if not text.startswith(UNNAMED))


def run_name(experiment: str, overrides: Sequence[str]) -> str:
    """``tiny``, or ``tiny@grpo.lr=1e-5-0a1b2c3d`` when normalised overrides change results."""
    overrides = named(overrides)
    if not overrides:
        return experiment
    digest = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:8]
    bare = re.sub(r"[\[\]{}'\"]", "", "-".join(overrides))
    slug = re.sub(r"[^A-Za-z0-9._=]+", "-", bare)[:SLUG_CHARACTERS].strip("-")
    return f"{experiment}@{slug}-{digest}"


def expand(experiment: str) -> list[tuple[str, tuple[str, ...]]]:
    """(experiment, overrides) of each run a name stands for: several for a set or a sweep.

    ``sweep/<name>`` is a sweep; any other name is a set if ``conf/set`` has it, else an experiment.
    """
    if (found := sets.read(experiment)) is not None:
        return [(member.experiment, member.overrides) for member in found.members]
    if not experiment.startswith("sweep/"):
        return [(experiment, ())]
    path = conf_dir() / f"{experiment}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(f"sweep/{p.stem}" for p in path.parent.glob("*.yaml")))
        raise ConfigError(f"{experiment}: no such sweep; there are {known or 'none'}")
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(sweep, dict) or set(sweep) != {"experiment", "grid"}:
        raise ConfigError(f"{path}: a sweep has the keys experiment and grid, and no others")
    axes = [[f"{key}={value}" for value in values] for key, values in sweep["grid"].items()]
    return [(sweep["experiment"], words) for words in itertools.product(*axes)]
