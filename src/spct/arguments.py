"""The io values of a stage's command line, as the stage's function wants them."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from spct.errors import ConfigError


def io_arguments(
    stage: str, function: Callable[..., Any], given: dict[str, list[str]]
) -> dict[str, Any]:
    """The io values as the function's annotations want them. Raises ``ConfigError`` by name."""
    wanted = io_parameters(function)
    if unknown := sorted(set(given) - set(wanted)):
        names = ", ".join(f"io.{name}" for name in wanted)
        raise ConfigError(f"stage {stage} has no io.{unknown[0]}; it has {names}")
    missing = [
        f"io.{name}"
        for name, parameter in wanted.items()
        if name not in given and parameter.default is parameter.empty
    ]
    if missing:
        raise ConfigError(f"stage {stage} needs {', '.join(missing)}")
    return {
        name: _convert(f"io.{name}", values, wanted[name].annotation)
        for name, values in given.items()
    }


def io_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters, annotations evaluated (a module may keep them as strings)."""
    names = {"Path": Path, "Sequence": Sequence, **getattr(function, "__globals__", {})}
    return {
        p.name: p.replace(annotation=eval(p.annotation, names))
        if isinstance(p.annotation, str)
        else p
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }


def _convert(name: str, values: list[str], kind: Any) -> Any:
    if get_origin(kind) in (list, Sequence):
        (element,) = get_args(kind)
        return [_convert(name, [value], element) for value in values]
    if len(values) > 1:
        raise ConfigError(f"{name} is given {len(values)} times and takes one value")
    (value,) = values
    if get_origin(kind) in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not type(None)]
        if not value and len(options) < len(get_args(kind)):
            return None
        kind = options[0]
    if kind is int:
        return integer(name, value)
    return Path(value) if kind is Path else value


def integer(name: str, value: str) -> int:
    """A whole number; raises ``ConfigError`` naming what is none."""
    try:
        return int(value)
    except ValueError as error:
        raise ConfigError(f"{name}: {value!r} is not a whole number") from error
