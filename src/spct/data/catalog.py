"""Every loader by name, for whatever role, and the checks of a configuration of real data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from spct.benchmarks import RULES, realmistake
from spct.data import bench, sources
from spct.data.book import Account
from spct.data.filters import FILTERS, NEEDS
from spct.data.shapes import SHAPES
from spct.data.sources import instructions
from spct.data.sources.base import Loader
from spct.errors import ConfigError
from spct.records import Item
from spct.schema import DataConfig, SourceConfig

# A benchmark's loader may serve for training, and a training set's for evaluation.
LOADERS: dict[str, Loader] = {**sources.LOADERS, **bench.LOADERS}
# General text is the best response of a set; `instructions` has nothing to compare.
GENERAL: dict[str, Loader] = {**LOADERS, "instructions": instructions.load}
ROLES = {"bench_sources": LOADERS, "train_sources": LOADERS, "general_sources": GENERAL}


def check(data: DataConfig) -> None:
    """Raises :class:`~spct.errors.ConfigError` naming the first key of a source that is wrong."""
    for role, known in ROLES.items():
        given: dict[str, SourceConfig] = getattr(data, role)
        names = Counter(source.name for source in given.values())
        for key, source in given.items():
            where = f"data.{role}.{key}"
            if names[source.name] > 1:
                raise ConfigError(f"{where}.name: {source.name!r} names two sources")
            _check_source(where, source, known)
            if role == "bench_sources":
                _check_bench(where, source)
    for key in ("train_sources", "bench_sources"):
        if not getattr(data, key):
            raise ConfigError(f"data.{key}: at least one is needed, not none")


def _check_bench(where: str, source: SourceConfig) -> None:
    """A benchmark is scored as upstream has it, and no other set goes by its name."""
    known = source.loader in bench.LOADERS
    if source.filter or (known and source.shape):
        raise ConfigError(f"{where}: a benchmark has no shape and no filter")
    if not known and source.name in (*RULES, realmistake.NAME):
        raise ConfigError(
            f"{where}.name: {source.name} is a benchmark with a rule of its own, which does not "
            f"fit items of the loader {source.loader}; choose another name"
        )


def check_apart(pool: Iterable[tuple[Account, Sequence[Item]]]) -> None:
    """Raises :class:`~spct.errors.ConfigError` if two sources hold one part of a benchmark."""
    owners: dict[tuple[str, str], str] = {}
    for account, items in pool:
        name = account.source.name
        for item in items:
            first = owners.setdefault((item.dataset, item.subset), name)
            if first != name:
                raise ConfigError(
                    f"data.bench_sources: {first} and {name} both hold {item.subset} of the "
                    f"benchmark {item.dataset}, and would be averaged as one; leave one out"
                )


def _check_source(where: str, source: SourceConfig, known: dict[str, Loader]) -> None:
    _one_of(f"{where}.loader", source.loader, known)
    _one_of(f"{where}.filter", source.filter, {"": None, **FILTERS})
    _one_of(f"{where}.shape", source.shape, {"": None, **SHAPES})
    option = NEEDS.get(source.filter)
    if option and not isinstance(source.options.get(option), int | float):
        raise ConfigError(f"{where}.options.{option}: filter {source.filter} needs a number here")
    if not source.name or "/" in source.name:
        raise ConfigError(f"{where}.name: {source.name!r} is no name for ids; no slash, not empty")
    if not (source.path or source.hub or source.url):
        raise ConfigError(f"{where}: it lives nowhere; give path, hub or url")
    if source.hub and not source.path and not source.revision:
        raise ConfigError(f"{where}.revision: name the commit of {source.hub} to read")


def _one_of(key: str, value: str, known: object) -> None:
    names = list(known)  # type: ignore[call-overload]
    if value not in names:
        raise ConfigError(
            f"{key}: {value!r} is not one of {', '.join(n or repr(n) for n in names)}"
        )
