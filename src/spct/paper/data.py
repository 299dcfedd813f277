"""What tables and claims ask for: ``tables.yaml`` and ``claims.yaml`` beside this module."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from spct.errors import ConfigError
from spct.paper.members import Ref

FOLDER = Path(__file__).parent
ABOVE, EQUAL = "above", "equal"
_ROW = {"row", "ref", "minus", "paper", "gain"}
_TABLE = {"name", "title", "source", "note", "minus", "votes", "over", "takes", "rows"}
_CLAIM = {"claim", "source", "paper", "plus", "minus", "over", "expect", "margin", "untestable"}


@dataclass(frozen=True)
class RowSpec:
    """One row; the paper's overall and gain are in percent and points, None where it has none."""

    row: str
    vote: str  # of a table with several; "" otherwise
    ref: Ref
    minus: Ref | None
    paper: float | None
    gain: float | None


@dataclass(frozen=True)
class TableSpec:
    """One table, its rows vote by vote; ``over`` is "" for the overall's benchmarks, or "single".

    ``takes`` asks for a column of how many responses each judge can take (paper §2.1).
    """

    name: str
    title: str
    source: str
    note: str
    over: str
    takes: bool
    rows: tuple[RowSpec, ...]

    @property
    def refs(self) -> list[Ref]:
        return [ref for row in self.rows for ref in (row.ref, row.minus) if ref is not None]


@dataclass(frozen=True)
class ClaimSpec:
    """One claim: ``plus`` less ``minus`` is above zero, or equal to it within ``margin`` points."""

    claim: str
    source: str
    paper: float | None
    plus: tuple[Ref, ...]
    minus: tuple[Ref, ...]
    over: str
    expect: str
    margin: float
    untestable: str

    @property
    def terms(self) -> list[tuple[float, Ref]]:
        return [(1.0, ref) for ref in self.plus] + [(-1.0, ref) for ref in self.minus]


@cache
def tables() -> tuple[TableSpec, ...]:
    """The tables in order. Raises :class:`ConfigError` naming an unknown key or a bad number."""
    return tuple(_table(raw) for raw in _read("tables.yaml"))


@cache
def claims() -> tuple[ClaimSpec, ...]:
    """The claims in order; raises as :func:`tables`."""
    return tuple(claim(raw) for raw in _read("claims.yaml"))


def _read(name: str) -> list[dict[str, Any]]:
    found = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return list(found)


def _table(raw: dict[str, Any]) -> TableSpec:
    _check(raw, _TABLE)
    votes, default = raw.get("votes", [""]), raw.get("minus")
    rows = [_row(entry, vote, default) for vote in votes for entry in raw["rows"]]
    words = {key: raw.get(key, "") for key in ("title", "source", "note", "over")}
    takes = raw.get("takes", False)
    return TableSpec(name=raw["name"], **words, takes=takes, rows=tuple(rows))


def _row(raw: dict[str, Any], vote: str, default: str | None) -> RowSpec:
    _check(raw, _ROW)
    ref = Ref.parse(raw["ref"].format(vote=vote))
    other = raw.get("minus", default)
    minus = Ref.parse(other.format(vote=vote)) if other else None
    paper, gain = (_of_vote(raw.get(key), vote) for key in ("paper", "gain"))
    return RowSpec(raw["row"], vote, ref, None if minus == ref else minus, paper, gain)


def _of_vote(value: Any, vote: str) -> float | None:
    return value.get(vote) if isinstance(value, dict) else value


def claim(raw: dict[str, Any]) -> ClaimSpec:
    """A claim from its entry."""
    _check(raw, _CLAIM)
    expect = raw.get("expect", ABOVE)
    if expect not in (ABOVE, EQUAL) or (expect == EQUAL) != ("margin" in raw):
        raise ConfigError(f"{raw['claim']}: expect is above, or equal with a margin")
    if bool(raw.get("untestable")) == bool(raw.get("plus") and raw.get("minus")):
        raise ConfigError(f"{raw['claim']}: either plus and minus, or why it is untestable")
    return ClaimSpec(
        claim=raw["claim"],
        source=raw["source"],
        paper=raw.get("paper"),
        plus=tuple(map(Ref.parse, raw.get("plus", ()))),
        minus=tuple(map(Ref.parse, raw.get("minus", ()))),
        over=raw.get("over", ""),
        expect=expect,
        margin=raw.get("margin", 0.0),
        untestable=raw.get("untestable", ""),
    )


def _check(raw: dict[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(raw) - known):
        raise ConfigError(
            f"{raw}: no such key {unknown[0]!r}; there are {', '.join(sorted(known))}"
        )
