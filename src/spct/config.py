"""Compose the configuration (Hydra), check it (dataclasses) and cut a stage's slice out of it.

``load`` gives the whole :class:`~spct.schema.Config`; ``view`` the groups one stage reads; ``dump``
the text that the workflow freezes; :class:`Slice` is what a stage gets, from either. Every mistake
a person can make is a :class:`ConfigError` that names the key. Torch is never imported.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spct import checks, schema, texts
from spct.errors import ConfigError
from spct.judge import prompts
from spct.schema import Config
from spct.stages import STAGES

GROUPS: dict[str, Any] = {
    name: kind for name, kind in get_type_hints(Config).items() if dataclasses.is_dataclass(kind)
}
_ENDLESS = re.compile(r"([\w.]+)[ ]*[=:][^\n=:]*?\d{309}")
TEMPLATE_HASH = "template_hash"  # in a frozen judge group, so that an edited template is a change


def conf_dir() -> Path:
    """``SPCT_CONF``, else the nearest ``conf/`` upwards from here, else the clone's own."""
    if given := os.environ.get("SPCT_CONF"):
        candidates = [Path(given)]
    else:
        here = Path.cwd()
        roots = [here, *here.parents, Path(__file__).resolve().parents[2]]
        candidates = [root / "conf" for root in roots]
    for folder in candidates:
        if (folder / "config.yaml").is_file():
            return folder.resolve()
    where = given or "conf/ here or above"
    raise ConfigError(f"no config.yaml in {where}; run from the clone or set SPCT_CONF to its conf")


def load(overrides: Sequence[str] = ()) -> Config:
    """The configuration of these Hydra overrides, checked.

    Unless one of them picks ``model=…``, the model is the experiment's ``plan.main``. Raises
    :class:`ConfigError` naming an unknown key, group choice or wrong type.
    """
    if any(text.startswith("model=") for text in overrides):
        return _load(conf_dir(), tuple(overrides))
    main = _compose(conf_dir(), tuple(overrides)).plan.main
    return _load(conf_dir(), (*overrides, f"model={main}"))


@cache
def _load(folder: Path, overrides: tuple[str, ...]) -> Config:
    cfg = _compose(folder, overrides)
    cfg.judge.criteria = prompts.read_criteria(cfg.judge.criteria)
    checks.check(vars(cfg))
    return cfg


def _compose(folder: Path, overrides: tuple[str, ...]) -> Config:
    _refuse_endless("\n".join(overrides))
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            composed = compose("config", [texts.as_typed(one) for one in overrides])
        texts.check(OmegaConf.to_container(composed), Config)
        typed = OmegaConf.merge(OmegaConf.structured(Config), composed)
        cfg: Config = OmegaConf.to_object(typed)  # type: ignore[assignment]
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        told = _explain(error)
        whole = told.startswith("Merge error")  # a value for a group: OmegaConf names no key
        raise ConfigError(f"{' '.join(overrides)}: {told}" if whole else told) from error
    except (ValueError, TypeError, OverflowError) as error:  # Hydra's and Python's own
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{' '.join(overrides)}: {_explain(error)}") from error
    return cfg


def _refuse_endless(text: str) -> None:
    """No number that is too long for a float: neither Hydra nor OmegaConf could name its key."""
    if found := _ENDLESS.search(text):
        raise ConfigError(f"{found[1]}: a number of more than 308 digits is too large")


def _explain(error: BaseException, group: str = "") -> str:
    """One line: the key first (below its group, if one is given), then what is wrong with it."""
    cause: BaseException | None = error
    while cause is not None:
        key = getattr(cause, "full_key", None)
        if key:
            key = f"{group}.{key}" if group else key
            if siblings := _siblings(key):
                return f"{key}: no such key; {siblings}"
            return f"{key}: {str(getattr(cause, 'msg', None) or cause).splitlines()[0]}"
        cause = cause.__cause__
    text = " ".join(re.split("Config search path|full_key:", str(error))[0].split())
    if text.startswith("Ambiguous value"):
        return (
            f"{text.split(' 1. ')[0]}: several values for one key are a sweep, see conf/sweep; a "
            "text with commas needs double quotes that reach Hydra: 'key=\"one, two\"'"
        )
    if "override_grammar" in text:
        text = (
            text.split(" See https")[0].removeprefix("LexerNoViableAltException: ")
            + "; not an override as Hydra reads it: a text with signs, spaces or letters beyond "
            "ASCII needs double quotes that reach Hydra: 'key=\"one, two\"'"
        )
    return f"{group}: {text}" if group else text


def _siblings(key: str) -> str:
    """The keys beside an unknown one, to spot the misspelling; empty if the key is known."""
    kind: Any = Config
    *parents, last = re.sub(r"\[\d+\]", "", key).split(".")
    for name in parents:
        kind = get_type_hints(kind).get(name) if dataclasses.is_dataclass(kind) else None
    if not dataclasses.is_dataclass(kind):
        return ""
    names = [field.name for field in dataclasses.fields(kind)]
    where = ".".join(parents) or "the top level"
    return "" if last in names else f"{where} has {', '.join(names)}"


def view(cfg: Config, stage: str) -> dict[str, Any]:
    """The groups this stage reads, as plain values."""
    return {name: _plain(getattr(cfg, name)) for name in STAGES[stage].reads}


def _plain(group: Any) -> dict[str, Any]:
    """A group as plain values, without keys of :data:`spct.schema.LATER` that are not set."""
    late = {one.name for one in dataclasses.fields(group) if one.metadata == schema.LATER}
    values = dataclasses.asdict(group)
    return {name: value for name, value in values.items() if value or name not in late}


def dump(value: Any) -> str:
    """YAML with sorted keys: equal values give equal text."""
    return yaml.safe_dump(value, sort_keys=True, allow_unicode=True, width=100)


class Slice:
    """What a stage sees of the configuration: its own groups as attributes, nothing else."""

    if TYPE_CHECKING:
        data: schema.DataConfig
        audit: schema.AuditConfig
        model: schema.ModelConfig
        sampler: schema.SamplerConfig
        judge: schema.JudgeConfig
        rollout: schema.RolloutConfig
        select: schema.SelectConfig
        rft: schema.RftConfig
        grpo: schema.GrpoConfig
        rollout_policy: schema.RolloutPolicyConfig
        metarm: schema.MetaRMConfig
        baseline: schema.BaselineConfig
        bench: schema.BenchConfig
        scaling: schema.ScalingConfig
        health: schema.HealthConfig
        report: schema.ReportConfig

    def __init__(self, stage: str, groups: dict[str, Any]) -> None:
        self.__dict__.update(groups)
        self._stage = stage

    def __getattr__(self, name: str) -> Any:
        if name in GROUPS:
            reads = ", ".join(STAGES[self._stage].reads)
            raise ConfigError(
                f"stage {self._stage} reads the group {name!r} without declaring it "
                f"(it declares {reads}); add it in spct/stages.py"
            )
        raise AttributeError(name)

    def as_dict(self) -> dict[str, Any]:
        """The groups as plain values, as manifests keep them."""
        reads = STAGES[self._stage].reads
        return {name: _plain(getattr(self, name)) for name in reads}

    @classmethod
    def of(cls, cfg: Config, stage: str) -> Slice:
        """The slice of a composed configuration."""
        return cls(stage, {name: getattr(cfg, name) for name in STAGES[stage].reads})

    @classmethod
    def read(cls, path: Path, stage: str) -> Slice:
        """The slice of a frozen file, checked as when it was composed.

        Raises :class:`ConfigError` naming the file and the key.
        """
        try:
            groups = _typed(path.read_text(encoding="utf-8"), stage)
            checks.check(groups)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not YAML: {error}") from error
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; name a frozen file") from error
        return cls(stage, groups)


def _typed(text: str, stage: str) -> dict[str, Any]:
    """The groups of a frozen file's text; what else it may hold is refused."""
    _refuse_endless(text)
    raw, reads = texts.loaded(text), STAGES[stage].reads
    if isinstance(raw, dict) and isinstance(raw.get("judge"), dict):
        raw["judge"].pop(TEMPLATE_HASH, None)
    if not isinstance(raw, dict) or set(raw) != set(reads):
        found = ", ".join(sorted(map(str, raw))) if isinstance(raw, dict) else "no groups"
        raise ConfigError(f"it holds {found}; stage {stage} reads {', '.join(reads)}")
    groups = {}
    for name in reads:
        if not isinstance(raw[name], dict):
            raise ConfigError(f"{name}: {raw[name]!r} is no group of keys and values")
        try:
            texts.check(raw[name], GROUPS[name], name)
            typed = OmegaConf.merge(OmegaConf.structured(GROUPS[name]), texts.literal(raw[name]))
            groups[name] = OmegaConf.to_object(typed)
        except OmegaConfBaseException as error:
            raise ConfigError(_explain(error, name)) from error
    return groups
