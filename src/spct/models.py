"""Where a model comes from: shipped, converted into the cache, a folder, the hub, an endpoint.

No torch here.
"""

from __future__ import annotations

import os
from pathlib import Path

from spct.errors import ConfigError

BASES = Path(__file__).resolve().parent / "bases"
BUILTIN = "builtin:"
CACHED = "cache:"
ENDPOINT = "endpoint:"


def cache() -> Path:
    """Where converted models are kept: ``SPCT_CACHE``, else ``~/.cache/spct``, below it models."""
    return Path(os.environ.get("SPCT_CACHE") or "~/.cache/spct").expanduser() / "models"


def resolve(source: str) -> Path | str:
    """What to hand to ``from_pretrained``: a folder that exists, else a hub id.

    ``builtin:<name>`` is a folder of :data:`BASES`, ``cache:<name>`` one of :func:`cache`. Raises
    :class:`~spct.config.ConfigError` naming a source that looks like a folder and is none, or an
    endpoint, which has no files.
    """
    if served(source) is not None:
        raise ConfigError(f"model.source: {source} has no weights here; it can only be judged")
    path = folder(source)
    if path is None:
        return source
    if not path.is_dir() and source.startswith(CACHED):
        raise ConfigError(
            f"model.source: {source} is not there yet ({path}); make it with `spct convert FILE "
            f"{source}`, SmolLM2 with `make smollm2`"
        )
    if not path.is_dir():
        shipped = ", ".join(sorted(p.name for p in BASES.glob("*/"))) or "none"
        raise ConfigError(f"model.source: {source}: no folder {path} (shipped: {shipped})")
    return path


def served(source: str) -> str | None:
    """The name under which an endpoint serves the model; None for a model with files."""
    return source.removeprefix(ENDPOINT) if source.startswith(ENDPOINT) else None


def folder(source: str) -> Path | None:
    """The local folder a source names, whether it exists or not; ``None`` for a hub id."""
    if source.startswith(BUILTIN):
        return BASES / source.removeprefix(BUILTIN)
    if source.startswith(CACHED):
        return cache() / source.removeprefix(CACHED)
    if source.startswith((".", "/", "~")) or Path(source).is_dir():
        return Path(source).expanduser()
    return None


def named(path: Path) -> str:
    """What to call a path anywhere: of a shipped or cached model its ``source``, else itself."""
    full = path.absolute()
    for prefix, top in ((BUILTIN, BASES), (CACHED, cache().absolute())):
        if full != top and full.is_relative_to(top):
            return prefix + str(full.relative_to(top))
    return str(path)


def inputs(source: str) -> list[str]:
    """The local folder, if it is one, as the workflow names it: relative to here if below."""
    path = folder(source)
    if path is None:
        return []
    relative = os.path.relpath(path)
    return [str(path) if relative.startswith("..") else relative]
