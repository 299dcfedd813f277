"""Bounds of settings, as part of their types: ``steps: Annotated[int, Range(least=1)]``.

:mod:`spct.schema` writes every setting's type with what its values may be, and nowhere else is a
bound written; :func:`check` holds values against such types. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from spct.errors import ConfigError

SCALARS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
LARGEST = 2**31 - 1  # of counts and sizes: what a 32-bit integer holds


@dataclass(frozen=True)
class Range:
    """A finite number from ``least`` or above ``above``, to ``most`` or below ``below``.

    ``or_zero`` allows zero besides. ``cure`` is told with a refusal: what to set instead.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    or_zero: bool = False
    cure: str = ""

    def holds(self, value: float) -> bool:
        """Whether the number is finite and within."""
        if not _finite(value):
            return False
        return (self.or_zero and value == 0) or (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def wanted(self, value: float) -> str:
        """What is allowed, in words; a limit of the machine's only where ``value`` exceeds it."""
        words = [] if _finite(value) else ["a finite number"]
        if self.least is not None:
            words.append(f"{self.least:.10g} or more")
        if self.above is not None:
            words.append(f"above {self.above:.10g}")
        if self.most is not None and (self.most < LARGEST or value > self.most):
            words.append(f"at most {self.most:.10g}")
        if self.below is not None:
            words.append(f"below {self.below:.10g}")
        return ("0, or " if self.or_zero else "") + " and ".join(words)


def _finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)  # an int may be too large for a float


@dataclass(frozen=True, init=False)
class OneOf:
    """One of these names."""

    names: tuple[str, ...]
    cure: str = ""

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)

    def holds(self, value: str) -> bool:
        """Whether it is one of the names."""
        return value in self.names

    def wanted(self, value: str) -> str:
        """The names."""
        return f"one of {', '.join(name or repr(name) for name in self.names)}"


@dataclass(frozen=True)
class Several:
    """A list or mapping of ``least`` entries or more, each but once."""

    least: int = 0
    cure: str = ""

    def holds(self, value: list[Any] | Mapping[str, Any]) -> bool:
        """Whether there are enough of them, and none twice."""
        return len(value) >= self.least and len(set(value)) == len(value)

    def wanted(self, value: list[Any] | Mapping[str, Any]) -> str:
        """What such a list is."""
        return "a list without repeats" if len(value) >= self.least else f"{self.least} or more"


@dataclass(frozen=True)
class _Kind:
    """A value of one of these classes, which OmegaConf does not ask of lists' and mappings' own."""

    kinds: tuple[Any, ...]
    cure: str = ""

    def holds(self, value: Any) -> bool:
        return type(value) in self.kinds or (type(value) is int and float in self.kinds)

    def wanted(self, value: Any) -> str:
        return " or ".join(SCALARS.get(kind, "null") for kind in self.kinds)


Bound = Range | OneOf | Several


def check(value: Any, kind: Any, key: str) -> None:
    """Hold ``value``, of whatever is in it, against the bounds of its type ``kind``.

    ``kind`` is a dataclass, a type, or an annotation of them. Raises
    :class:`~spct.errors.ConfigError` with the first key, its value and what is allowed.
    """
    for name, found, bound in _bounded(value, kind, key):
        if not bound.holds(found):
            cure = f"; {bound.cure}" if bound.cure else ""
            raise ConfigError(f"{name}: {_shown(found)} is not {bound.wanted(found)}{cure}")


def _shown(value: Any) -> str:
    """The value as written, unless it is very long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


@cache
def hints(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields, bounds included."""
    return get_type_hints(kind, include_extras=True)


def _bounded(value: Any, kind: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """(key, value, bound) of everything in ``value``: what it is, then what it may be."""
    if get_origin(kind) is Annotated:
        kind, *extras = get_args(kind)
        yield from (one for one in _bounded(value, kind, key) if one[2] != Range())
        yield from ((key, value, bound) for bound in extras if isinstance(bound, Bound))
    elif get_origin(kind) in (Union, UnionType):
        options = {plain(option): option for option in get_args(kind)}
        yield key, value, _Kind(tuple(options))
        yield from _bounded(value, options.get(type(value), Any), key)
    elif dataclasses.is_dataclass(kind):
        own: Any = type(value)
        for name, inner in hints(own).items():
            yield from _bounded(getattr(value, name), inner, f"{key}.{name}" if key else name)
    elif kind in SCALARS:
        yield key, value, _Kind((kind,))
        if kind is float:
            yield key, value, Range()
    elif isinstance(value, dict):
        _, inner = get_args(kind) or (str, Any)
        for name, one in value.items():
            yield from _bounded(one, inner, f"{key}.{name}")
    elif isinstance(value, list):
        (inner,) = get_args(kind) or (Any,)
        for one in value:
            yield from _bounded(one, inner, key)
    elif isinstance(value, float):
        yield key, value, Range()


def plain(kind: Any) -> Any:
    """The class behind an annotation: ``int`` of ``Annotated[int, …]``, ``list`` of its kind."""
    if get_origin(kind) is Annotated:
        return plain(get_args(kind)[0])
    return NoneType if kind is None else (get_origin(kind) or kind)
