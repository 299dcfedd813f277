"""Names of runs: experiments, overrides in one order, sweeps, sets."""

from __future__ import annotations

import hashlib
import itertools
import re
import shlex
from collections.abc import Sequence
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from spct import sets
from spct.config import ConfigError, conf_dir
from spct.texts import is_text

SLUG_CHARACTERS = 48
UNNAMED = "tracking."  # overrides that change no result, so they give a run no name of its own


_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')+""", re.DOTALL)


def split(text: str) -> list[str]:
    """The overrides in a text, apart at white space outside quotes.

    Quotes that a shell would take away are taken away, unless Hydra needs them to read the same
    text: ``judge.criteria="be kind, be brief"`` is one text, not two values. Raises
    :class:`ConfigError` for a quote that is not closed and for what a shell takes for a comment.
    """
    words = _WORD.findall(text)
    if _WORD.sub("", text).strip():
        raise ConfigError(
            f"hydra: a quote is not closed in {text!r}; a text with quotes, spaces or signs stands "
            'in double quotes of its own: judge.criteria="don\'t guess"'
        )
    if stray := next((word for word in words if word.startswith("#")), None):
        raise ConfigError(f"hydra: {stray} is a comment; leave out what should not count")
    return [_bare(word) for word in words]


def _bare(word: str) -> str:
    """An override without quotes that only a shell needs."""
    if not set(word) & set("\"'\\"):
        return word
    try:
        (bare,) = shlex.split(word)
    except ValueError:  # \' within single quotes, which Hydra knows and a shell does not
        return word
    if word[0] in "\"'" and word[-1] == word[0]:
        return _bare(bare)
    read, text = _value(bare), _value(word)
    known = read is not None and not (isinstance(text, str) and read != text and is_text(bare))
    return bare if known else word


def _value(word: str) -> Any:
    """What Hydra reads in an override; None for several values, and for what it cannot read."""
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return None
    return None if override.is_sweep_override() else override.value()


def normalise(overrides: str | Sequence[str]) -> tuple[str, ...]:
    """Overrides sorted by key, the last value of a key kept; ``model=X`` means ``plan.main=X``."""
    words = split(overrides) if isinstance(overrides, str) else list(overrides)
    found: dict[str, str] = {}
    for word in words:
        key, equals, _ = word.lstrip("+").partition("=")
        if key in ("experiment", "base"):
            raise ConfigError(f"{word}: pick experiments with --config 'experiments=[…]'")
        if key == "model" and equals:
            key, word = "plan.main", f"plan.main{word.removeprefix('model')}"
        found[key] = word
    return tuple(sorted(found.values(), key=lambda word: word.partition("=")[0]))


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
