"""A set as the workflow writes it down (``set.yaml``), and how tables name its numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from spct.artifact import BrokenArtifact
from spct.errors import ConfigError

_REF = re.compile(
    r"(?P<role>\S+) (?P<policy>\w+)(/(?P<size>\w+))? (?P<method>\w+)(@(?P<k>\d+)(:(?P<keep>\d+))?)?"
)
MAIN = "main"


class Ref(NamedTuple):
    """A number of some run: ``grm grpo meta_voting@32:8``, ``sizes rft/small greedy``.

    ``size`` is a name of the set's ``sizes``; ``k_meta`` is 0 where the method's own is meant.
    """

    role: str
    policy: str
    size: str
    method: str
    k: int
    k_meta: int

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Raises :class:`ConfigError` for a text of another form."""
        found = _REF.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"{text!r} is not of the form 'role policy[/size] method[@k[:k_meta]]'"
            )
        return cls(
            found["role"],
            found["policy"],
            found["size"] or MAIN,
            found["method"],
            int(found["k"] or 1),
            int(found["keep"] or 0),
        )

    def __str__(self) -> str:
        size = f"/{self.size}" if self.size != MAIN else ""
        keep = f":{self.k_meta}" if self.k_meta else ""
        k = f"@{self.k}{keep}" if self.method != "greedy" else ""
        return f"{self.role} {self.policy}{size} {self.method}{k}"


@dataclass(frozen=True)
class Member:
    """One run of the set, and the files that its numbers come from."""

    role: str
    label: str
    serves: str
    run: str
    seeds: list[int]
    items: list[Path]
    banks: list[Path]
    scores: list[Path]

    @property
    def curves(self) -> Path:
        return Path("results") / self.run / "curves.csv"


@dataclass(frozen=True)
class Members:
    """The set: see :class:`spct.sets.RunSet`; ``by_role`` keeps the order of its file."""

    name: str
    title: str
    reference: str
    overall: list[str]
    single: str
    sizes: dict[str, str]
    by_role: dict[str, Member]

    @property
    def main(self) -> Member:
        """The run that the others are compared with."""
        return self.by_role[self.reference]

    @property
    def benchmarks(self) -> list[str]:
        """Those of the overall number, then the one of single responses."""
        return [*self.overall, *filter(None, [self.single])]

    @property
    def seeds(self) -> list[int]:
        return self.main.seeds


def read(path: Path) -> Members:
    """Raises :class:`spct.artifact.BrokenArtifact` if the file is missing or of older code."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        members = [_member(entry) for entry in raw.pop("members")]
        return Members(**raw, by_role={member.role: member for member in members})
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        why = "missing" if not path.is_file() else "broken or of older code"
        raise BrokenArtifact(f"{path} is {why}; run Snakemake for this set again") from error


def _member(entry: dict[str, Any]) -> Member:
    for key in ("items", "banks", "scores"):
        entry[key] = [Path(path) for path in entry[key]]
    return Member(**entry)
