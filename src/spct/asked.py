"""What was asked of Snakemake with ``--config``, as it was typed.

Snakemake reads each entry as YAML: it strips quotes at both ends, takes `` #`` for the start of a
comment and ``: `` for a mapping. A text among the overrides would be damaged, or the overrides
behind it dropped, without a word. So the workflow reads the entries themselves, and hands those
that a shell or YAML would change to the jobs of a cluster in base64. Torch is never imported.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from spct.errors import ConfigError
from spct.names import split

KEYS = ("experiments", "hydra")
ENCODED = "base64:"
_PLAIN = re.compile(r"(?!.*: )[\w=.,/+@%\[\]:-]*( [\w=.,/+@%\[\]:-]+)*(?<!:)")
_APART = "--config 'experiments=[…]' 'hydra=…'"
_ENTRY = re.compile(rf"\s({'|'.join(KEYS)})=")


def asked(config: Mapping[str, Any], typed: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The experiments and the overrides asked for, ``tiny`` without any.

    ``config`` is what Snakemake made of all its sources, ``typed`` the entries of the command line
    or the profile, which count where they name a key. Raises :class:`~spct.errors.ConfigError` for
    an unknown key, a key given twice and for what cannot be read in full.
    """
    entries: dict[str, str] = {}
    for entry in typed or ():
        key, _, value = entry.partition("=")
        if key in entries:
            raise ConfigError(
                f"--config: {key} is given twice; the first would be dropped: {entry}"
            )
        entries[key] = value
    if unknown := sorted({*config, *entries} - set(KEYS)):
        raise ConfigError(f"--config knows experiments=[…] and hydra='…', not {unknown}")
    values = {key: entries.get(key, config.get(key)) for key in KEYS}
    found = {key: _list(key, values[key] or "") for key in KEYS}
    return found["experiments"] or ["tiny"], found["hydra"]


def once(words: Sequence[str]) -> None:
    """Raises ``ConfigError`` for two ``--config``, of which Snakemake drops the first."""
    flags = [word for word in words if word.partition("=")[0] == "--config" or word[:2] == "-C"]
    if len(flags) > 1:
        raise ConfigError(
            f"--config is given {len(flags)} times, and Snakemake drops all but the last; "
            f"give it once: {_APART}"
        )


def carried(typed: Sequence[str] | None) -> list[str]:
    """The entries as a job's own Snakemake can be given them through any shell."""
    entries = []
    for entry in typed or ():
        key, _, value = entry.partition("=")
        if key in KEYS and not value.startswith(ENCODED) and not _PLAIN.fullmatch(value):
            text = json.dumps(_list(key, value))
            entry = f"{key}={ENCODED}{base64.b64encode(text.encode()).decode()}"
        entries.append(entry)
    return entries


def _list(key: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    if not isinstance(value, str):
        raise ConfigError(f"--config: {key}: {value!r} is neither a text nor a list")
    if value.startswith(ENCODED):
        return _decoded(key, value)
    if value.lstrip().startswith("["):
        return _listed(key, value)
    if key == "hydra":
        return split(value)
    if more := _ENTRY.search(value):
        raise ConfigError(f"--config: {more[1]}=… is an entry of its own: {_APART}")
    return [name] if (name := value.strip(" '\"")) else []


def _decoded(key: str, value: str) -> list[str]:
    try:
        found = json.loads(base64.b64decode(value.removeprefix(ENCODED), validate=True))
    except ValueError as error:
        raise ConfigError(
            f"--config: {key}: {value} is no list in base64, which the workflow writes for its "
            "own jobs; write the text itself"
        ) from error
    return [str(one) for one in found]


def _listed(key: str, value: str) -> list[str]:
    """A list as YAML writes it, with nothing behind it."""
    how = f"write {key}=[first, second], a text with a space or a sign in double quotes"
    try:
        node = yaml.compose(value, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        if more := _ENTRY.search(value):
            how = f"{more[1]}=… is an entry of its own: {_APART}"
        raise ConfigError(f"--config: {key}: {value} is no list; {how}") from error
    if rest := value[node.end_mark.index :].strip():
        raise ConfigError(f"--config: {key}: {rest!r} behind the list would be dropped; {how}")
    if not all(isinstance(one, yaml.ScalarNode) for one in node.value):
        raise ConfigError(f"--config: {key}: {value} holds more than names; {how}")
    return [str(one.value) for one in node.value]
