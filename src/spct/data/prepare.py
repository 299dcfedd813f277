"""The ``prepare`` stage: training items and benchmarks without repeats, and general text.

They come from the toy world, or from the configured sources (``data.world: real``).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from spct import artifact, seeds
from spct.config import Slice
from spct.data import card, toy
from spct.data.drills import DRILLS
from spct.data.flaws import size_flaw
from spct.data.general import write_general
from spct.data.real import Maker
from spct.errors import ConfigError, StageStopped
from spct.records import Item, write_items
from spct.schema import DataConfig

GENERAL_DRILLS = ("read", "weigh", "score", "check")
MAX_REPEATS = 100_000
TRAIN_KINDS = tuple(kind for kind, spec in toy.KINDS.items() if not spec.shift)


class _Drawer:
    """Draws items whose problem has not been seen, in this file or another."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.seen: set[tuple[str, frozenset[str]]] = set()
        self.repeats: Counter[str] = Counter()
        self.drawn = 0

    def draw(self, dataset: str, kind: str, count: int) -> list[Item]:
        items: list[Item] = []
        attempt = 0
        while len(items) < count:
            rng = seeds.rng(self.seed, "prepare", dataset, kind, attempt)
            item = toy.make_item(rng, kind, dataset, f"{dataset}/{kind}-{len(items):05d}")
            attempt += 1
            self.drawn += 1
            if toy.fingerprint(item) in self.seen:
                self.repeats[dataset] += 1
                if self.repeats[dataset] > MAX_REPEATS:
                    raise StageStopped(
                        f"prepare: {dataset} has only {len(items)} distinct {kind} items of the "
                        f"{count} asked for; lower data.* counts"
                    )
                continue
            self.seen.add(toy.fingerprint(item))
            items.append(item)
        return items


def train_counts(config: DataConfig) -> dict[str, int]:
    """Items of each kind: shares of ``train_items``, rounded so that they add up."""
    total = sum(config.train_mix.values())
    counts, done, share = {}, 0, 0.0
    for kind, weight in config.train_mix.items():
        share += weight / total
        counts[kind] = round(share * config.train_items) - done
        done += counts[kind]
    return counts


def _check(config: DataConfig) -> None:
    if config.world != "v1":
        raise ConfigError(f"data.world is {config.world!r}; known: v1, real")
    for kind in config.train_mix:
        if kind not in TRAIN_KINDS:
            raise ConfigError(f"data.train_mix: {kind!r} is not one of {', '.join(TRAIN_KINDS)}")
    for name in config.benchmarks:
        if name not in toy.BENCHMARKS:
            raise ConfigError(
                f"data.benchmarks: {name!r} is not one of {', '.join(toy.BENCHMARKS)}"
            )


def run(
    cfg: Slice,
    seed: int,
    *,
    out_train: Path,
    out_bench: Path,
    out_general: Path,
    out_ledger: Path,
    out_drops: Path,
    out_card: Path,
) -> None:
    """Make benchmarks first, then training items that repeat none of them, then general text.

    The ledger counts what was not used by reason, ``out_drops`` lists it (JSON lines: source, file
    and line or item, reason; no text), and the card (JSON, and Markdown beside it) says what the
    data are. Raises :class:`~spct.errors.StageStopped` where nothing is left to train on or too few
    distinct toy items exist, and as :func:`spct.data.download.fetch`.
    """
    if cfg.data.world == "real":
        bench, train, general, books = _real(cfg.data, seed, out_ledger, out_drops)
    else:
        bench, train, general, books = _toy(cfg.data, seed, out_ledger, out_drops)
    write_items(out_bench, bench, stage="prepare", seed=seed, role="bench")
    write_items(out_train, train, stage="prepare", seed=seed, role="train")
    write_general(out_general, general, stage="prepare", seed=seed)
    about = {
        "train": card.describe(train),
        "bench": card.describe(bench),
        "general": card.describe_pairs(general),
    }
    card.write(out_card, {"world": cfg.data.world, "seed": seed, "sources": books, **about})


Made = tuple[list[Item], list[Item], list[tuple[str, str]], list[dict[str, Any]]]


def _real(config: DataConfig, seed: int, out_ledger: Path, out_drops: Path) -> Made:
    maker = Maker(config, seed)
    bench, train, general = maker.bench(), maker.train(), maker.general()
    print("\n".join([*maker.book.summary(), *maker.book.warnings()]), flush=True)
    maker.book.write_drops(out_drops)
    for role, made in (("bench", bench), ("train", train)):
        if not made:
            raise StageStopped(f"prepare: no {role} items are left; {out_drops} says why")
    maker.book.write_ledger(out_ledger)
    return bench, train, general, card.sources(maker.book)


def _toy(config: DataConfig, seed: int, out_ledger: Path, out_drops: Path) -> Made:
    """Item counts and seeds decide everything; ids number the items of a file.

    The ledger counts the draws thrown away: repeats, and those of a size not asked for.
    """
    _check(config)
    drawer = _Drawer(seed)
    bench = [
        item
        for name, count in config.benchmarks.items()
        for item in drawer.draw(name, toy.BENCHMARKS[name], count)
    ]
    train = [
        item
        for kind, count in train_counts(config).items()
        for item in drawer.draw("train", kind, count)
    ]
    order = seeds.rng(seed, "prepare", "order").permutation(len(train))
    general = [
        DRILLS[GENERAL_DRILLS[i % len(GENERAL_DRILLS)]](seeds.rng(seed, "general", i))
        for i in range(config.general_items)
    ]
    made = len(bench) + len(train)
    bench, train = (
        [item for item in items if not size_flaw(item.n, config.responses)]
        for items in (bench, [train[i] for i in order])
    )
    kept = len(bench) + len(train)
    rejected = {f"repeat_{name}": n for name, n in sorted(drawer.repeats.items())}
    rejected |= {"other_size": made - kept} if made > kept else {}
    artifact.write_ledger(out_ledger, total=drawer.drawn, kept=kept, rejected=rejected)
    artifact.write_text(out_drops, "")
    return bench, train, general, []
