"""Items from the configured sources: benchmarks, then training data that repeats none, then text.

Every row and item that is not used is in the :class:`~spct.data.book.Book` with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from spct import seeds
from spct.data import catalog
from spct.data.book import Account, Book
from spct.data.dedupe import Seen
from spct.data.download import fetch
from spct.data.draw import drawn, quotas
from spct.data.filters import filtered
from spct.data.flaws import (
    Flaw,
    best_response,
    flaw,
    label_flaw,
    length_flaw,
    size_flaw,
    undecidable,
)
from spct.data.overlap import NGRAM, Index
from spct.data.reading import Dropped
from spct.data.shapes import shaped
from spct.data.sources.base import Loader
from spct.data.text import conversation, texts
from spct.records import Item, Label
from spct.schema import DataConfig, SourceConfig

Pool = list[tuple[Account, list[Item]]]
BENCH, TRAIN, TEXT = "bench", "train", "general"


class Maker:
    """Makes the items of one run and seed; the methods go in the order of the class."""

    def __init__(self, config: DataConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.book = Book()
        self._seen = Seen()
        self._ids: set[str] = set()
        self._held: Index | None = None

    def bench(self) -> list[Item]:
        """Benchmark items, in the files' order. Upstream's odd rows stay: they are scored.

        Raises :class:`~spct.errors.ConfigError` for two sources of one part of a benchmark.
        """
        pool = self._pool(BENCH, self.config.bench_sources, catalog.LOADERS, self._bench_flaw)
        catalog.check_apart(pool)
        items = [item for account, found in pool for item in self._limit(account, found)]
        for item in items:
            self._seen.hold_out(item)
        if self.config.drop_overlap:
            self._held = Index([text for item in items for text in texts(item)], NGRAM)
        return items

    def train(self) -> list[Item]:
        """Training items with one best response each, mixed by seed."""
        pool = self._pool(TRAIN, self.config.train_sources, catalog.LOADERS, self._train_flaw)
        items = [definite(item) for item in self._mix(pool, self.config.train_items)]
        order = seeds.rng(self.seed, "prepare", "order").permutation(len(items))
        return [items[i] for i in order]

    def general(self) -> list[tuple[str, str]]:
        """(prompt, completion) of the best responses of the general sources, mixed by seed."""
        pool = self._pool(TEXT, self.config.general_sources, catalog.GENERAL, self._text_flaw)
        items = self._mix(pool, self.config.general_items)
        order = seeds.rng(self.seed, "prepare", "general", "order").permutation(len(items))
        return [as_text(items[i]) for i in order]

    # ---- from files to pools

    def _pool(
        self,
        role: str,
        given: dict[str, SourceConfig],
        loaders: dict[str, Loader],
        flaw_of: Callable[[Item, SourceConfig], Flaw | None],
    ) -> Pool:
        pool: Pool = []
        for _, source in sorted(given.items()):  # a frozen file has them so, a composition not
            files = fetch(source)
            account = self.book.open(role, source, files)
            items = []
            for item in self._items(account, loaders[source.loader], [f.path for f in files]):
                wrong = length_flaw(item, source.max_chars) or flaw_of(item, source)
                wrong = wrong or self._id_flaw(role, item)
                if wrong:
                    self.book.item(account, item.id, wrong)
                else:
                    items.append(item)
            pool.append((account, items))
        return pool

    def _items(self, account: Account, load: Loader, paths: list[Path]) -> Iterator[Item]:
        """The items of the source's shape; rows that make none go to the book."""
        source = account.source
        for found in load(paths, source):
            if isinstance(found, Dropped):
                self.book.row(account, found)
                continue
            account.seen += 1
            # A label or text that cannot be read would stop a shape or filter.
            wrong = flaw(found, 0) if source.shape or source.filter else None
            wrong = wrong or filtered(found, source.filter, source.options)
            made = wrong or shaped(found, source.shape, self.seed)
            if isinstance(made, tuple):
                self.book.item(account, found.id, made)
                continue
            account.seen += len(made) - 1
            yield from made

    # ---- what is wrong with an item, by role

    def _bench_flaw(self, item: Item, source: SourceConfig) -> Flaw | None:
        wrong = label_flaw(item.label, item.n)
        if wrong:
            return "bad_label", wrong
        return size_flaw(item.n, self.config.responses) or undecidable(item)

    def _train_flaw(self, item: Item, source: SourceConfig) -> Flaw | None:
        if wrong := flaw(item, self.config.max_chars) or size_flaw(item.n, self.config.responses):
            return wrong
        best = best_response(item)
        if isinstance(best, tuple):
            return best
        return self._seen.repeats(item) or self._overlap(item)

    def _text_flaw(self, item: Item, source: SourceConfig) -> Flaw | None:
        if wrong := flaw(item, self.config.max_chars):
            return wrong
        best = best_response(item)
        if isinstance(best, tuple):
            return best
        if item.n == 1 and not item.label.value[0]:
            return "wrong_answer", "the only response is labelled wrong"
        alone = replace(item, responses=(item.responses[best], "general"))
        return self._seen.repeats(alone) or self._overlap(alone)

    def _overlap(self, item: Item) -> Flaw | None:
        if self._held is None:
            return None
        for text in texts(item):
            shares = [share for _, share in self._held.shares(text, self.config.drop_overlap)]
            if shares:
                return "overlaps_benchmark", f"holds {max(shares):.0%} of a benchmark text"
        return None

    def _id_flaw(self, role: str, item: Item) -> Flaw | None:
        key = f"{role}\x1f{item.id}"
        if key in self._ids:
            return "repeat_id", "another row has this id"
        self._ids.add(key)
        return None

    # ---- which are taken

    def _limit(self, account: Account, items: list[Item]) -> list[Item]:
        return self._take(account, items, account.source.limit or len(items))

    def _mix(self, pool: Pool, total: int) -> list[Item]:
        limits = [(account, account.source.limit or len(items)) for account, items in pool]
        sizes = {
            account.source.name: min(limit, len(items))
            for (account, limit), (_, items) in zip(limits, pool, strict=True)
        }
        weights = {account.source.name: account.source.weight for account, _ in pool}
        counts = quotas(sizes, weights, total)
        return [
            item
            for account, items in pool
            for item in self._take(account, items, counts[account.source.name])
        ]

    def _take(self, account: Account, items: list[Item], count: int) -> list[Item]:
        kept = drawn(items, count, self.seed)
        account.kept = len(kept)
        account.ties = sum(item.label.undecided for item in kept)
        if left := len(items) - len(kept):
            account.drops["not_drawn"] = left
        return kept


def definite(item: Item) -> Item:
    """The item with the index of its best response for a label; upstream's goes to ``meta``.

    A single verifiable response keeps its label. Hints and the predicate then need no label kind.
    """
    best = best_response(item)
    if item.n == 1 or item.label.kind == "best" or isinstance(best, tuple):
        return item
    upstream = {"kind": item.label.kind, "value": item.label.value}
    return replace(item, label=Label("best", best), meta={**item.meta, "label": upstream})


def as_text(item: Item) -> tuple[str, str]:
    """Prompt and best response. Several turns are written out as a transcript."""
    best = best_response(item)
    assert isinstance(best, int), f"{item.id} was let through without a best response"
    turns = [message for message in item.messages if message["role"] != "system"]
    if len(turns) == 1 and len(item.messages) == 1:
        return conversation(item), item.responses[best]
    lines = [f"{message['role'].capitalize()}: {message['content']}" for message in item.messages]
    return "\n\n".join([*lines, "Assistant:"]), item.responses[best]
