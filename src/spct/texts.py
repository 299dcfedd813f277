"""Texts of a configuration stay as they were written, character by character.

Hydra and YAML read a bare ``007``, ``7e5`` or ``true`` as a number or a truth value, which would
then be written out again as another text: ``7``, ``700000.0``, ``True``. OmegaConf resolves
``${…}``, which in a frozen slice is what somebody wrote, a formula for example. Torch is never
imported.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from spct.errors import ConfigError
from spct.schema import Config

MISSING = "???"  # which OmegaConf takes for "no value"


def is_text(override: str) -> bool:
    """Whether an override ``key=value`` sets a key that holds a text."""
    kind: Any = Config
    for name in override.partition("=")[0].lstrip("+~").split("."):
        kind = get_type_hints(kind).get(name) if dataclasses.is_dataclass(kind) else None
    return _holds_text(kind)


def as_typed(override: str) -> str:
    """The override, a bare number or truth value in quotes where its key holds a text."""
    key, _, value = override.partition("=")
    if not is_text(override):
        return override
    try:
        read = OverridesParser.create().parse_override(override)
    except HydraException:
        return override  # told where it is composed
    bare = not read.is_sweep_override() and isinstance(read.value(), (bool, int, float))
    return f'{key}="{value.strip()}"' if bare else override


def check(values: Any, kind: Any, key: str = "") -> None:
    """Raises ``ConfigError`` for a number or truth value where a type ``kind`` has a text."""
    for name, value in _texts(values, kind, key):
        if isinstance(value, (bool, int, float)):
            raise ConfigError(
                f"{name}: {value!r} is no text, though a text may look like it; write it in quotes"
            )
        if value == MISSING:
            raise ConfigError(f"{name}: {MISSING} means that nothing was set; write a text")


def _holds_text(kind: Any) -> bool:
    return kind is str or kind == str | None


def _texts(value: Any, kind: Any, key: str) -> Iterator[tuple[str, Any]]:
    if _holds_text(kind):
        yield key, value
    elif isinstance(value, dict) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        for name, one in value.items():
            yield from _texts(one, hints.get(name), f"{key}.{name}" if key else str(name))
    elif isinstance(value, dict) and get_origin(kind) is dict:
        for name, one in value.items():
            yield from _texts(one, get_args(kind)[1], f"{key}.{name}")
    elif isinstance(value, list) and get_origin(kind) is list:
        for one in value:
            yield from _texts(one, get_args(kind)[0], key)


# ---- frozen files


def loaded(text: str) -> Any:
    """What a frozen file holds. Raises ``ConfigError`` for a key that it gives twice, and for what
    is no YAML."""
    try:
        _once(yaml.compose(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # of a day that no calendar has
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError("not YAML: it holds itself, or is nested too deeply") from error


def _once(node: yaml.Node | None, key: str = "") -> None:
    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            _once(one, key)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for name, value in node.value:
        inner = f"{key}.{name.value}" if key else str(name.value)
        if inner in seen:
            raise ConfigError(f"{inner}: given twice; leave one of them")
        seen.add(inner)
        _once(value, inner)


def literal(value: Any) -> Any:
    """The same with ``${`` in texts escaped, so that OmegaConf keeps it as it stands."""
    if isinstance(value, dict):
        return {name: literal(one) for name, one in value.items()}
    if isinstance(value, list):
        return [literal(one) for one in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", value)
    return value
