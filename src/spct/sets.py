"""Sets: runs that are compared with one another, each in a role (``conf/set/<name>.yaml``).

Tables and claims name roles, so that another set (of real models, say) fills the same tables by
listing its own experiments. Torch is never imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spct.config import ConfigError, conf_dir

KEYS = {"title", "reference", "overall", "single", "sizes", "runs"}
MEMBER_KEYS = {"experiment", "overrides", "label", "serves"}


@dataclass(frozen=True)
class Member:
    """One run of a set: its role, the experiment and overrides that make it, its row's label."""

    role: str
    experiment: str
    overrides: tuple[str, ...]
    label: str
    serves: str  # the table or claim it is there for


@dataclass(frozen=True)
class RunSet:
    """A set as its file says.

    ``reference`` is the role that the others are compared with, ``overall`` the benchmarks whose
    unweighted mean is the overall number, ``single`` the one of single responses (or ""), and
    ``sizes`` the model configs by the names that tables use (``main`` is the reference's own).
    """

    name: str
    title: str
    reference: str
    overall: tuple[str, ...]
    single: str
    sizes: dict[str, str]
    members: tuple[Member, ...]


def read(name: str) -> RunSet | None:
    """The set of this name, or None if there is none.

    Raises :class:`ConfigError` naming the file and the key that is wrong.
    """
    path = conf_dir() / "set" / f"{name}.yaml"
    if "/" in name or not path.is_file():
        return None
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    _check_keys(str(path), raw, KEYS, KEYS)
    members = tuple(_member(path, role, entry) for role, entry in raw["runs"].items())
    if raw["reference"] not in raw["runs"]:
        raise ConfigError(f"{path}: reference: {raw['reference']!r} is none of runs")
    if "main" not in raw["sizes"]:
        raise ConfigError(f"{path}: sizes: main is missing")
    return RunSet(
        name=name,
        title=raw["title"],
        reference=raw["reference"],
        overall=tuple(raw["overall"]),
        single=raw["single"],
        sizes=dict(raw["sizes"]),
        members=members,
    )


def _member(path: Path, role: str, entry: Any) -> Member:
    _check_keys(f"{path}: runs.{role}", entry, MEMBER_KEYS, {"experiment", "label"})
    return Member(
        role=role,
        experiment=entry["experiment"],
        overrides=tuple(entry.get("overrides", ())),
        label=entry["label"],
        serves=entry.get("serves", ""),
    )


def _check_keys(where: str, raw: Any, known: set[str], needed: set[str]) -> None:
    found = set(raw) if isinstance(raw, dict) else set()
    if unknown := sorted(found - known):
        raise ConfigError(f"{where}: no such key {unknown[0]!r}; it has {', '.join(sorted(known))}")
    if missing := sorted(needed - found):
        raise ConfigError(f"{where}: {missing[0]} is missing")
