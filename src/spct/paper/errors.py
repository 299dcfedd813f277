"""A random draw of wrong judgements in full, to be read by a person (the paper's Figure 8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from spct import seeds
from spct.records import WITHHELD, Item, Sample, bank_batches, read_items

EACH = 10  # of a benchmark, as in the paper


@dataclass(frozen=True)
class Wrong:
    """One wrong greedy judgement: the item, what was shown in which order, and what it wrote."""

    item: Item
    sample: Sample

    @property
    def responses(self) -> list[tuple[int, str, bool, int | None]]:
        """Shown number, text, whether it is right, and its score, in the order shown."""
        scores = self.sample.scores
        return [
            (
                place + 1,
                self.item.responses[i] if self.item.publishable else WITHHELD,
                self._right(i),
                None if scores is None else scores[i],
            )
            for place, i in enumerate(self.sample.order)
        ]

    def _right(self, index: int) -> bool:
        label = self.item.label
        return label.value[index] if label.kind == "correct" else label.value == index

    @property
    def query(self) -> str:
        return self.item.messages[-1]["content"] if self.item.publishable else WITHHELD

    @property
    def text(self) -> str:
        return self.sample.text if self.item.publishable else WITHHELD


def draw(
    items: Path, shards: Sequence[Path], benchmarks: Sequence[str], seed: int, each: int = EACH
) -> dict[str, tuple[int, list[Wrong]]]:
    """By benchmark: how many greedy judgements are wrong or unreadable, and a draw of them.

    Only labels of one best response and of single right or wrong ones are drawn from.
    """
    known = {item.id: item for item in read_items(items) if item.label.kind in ("best", "correct")}
    wrong = [s for s in _greedy(shards) if s.item_id in known and not s.correct]
    found = {}
    for name in benchmarks:
        mine = sorted(
            (s for s in wrong if known[s.item_id].dataset == name), key=lambda s: s.item_id
        )
        order = seeds.rng(seed, "error sample", name).permutation(len(mine))[:each]
        found[name] = len(mine), [Wrong(known[mine[i].item_id], mine[i]) for i in order]
    return found


def _greedy(shards: Sequence[Path]) -> Iterator[Sample]:
    for path in shards:
        for rows in bank_batches(path):
            kept = rows.filter(pc.equal(rows["kind"], "greedy"))
            yield from (Sample(**row) for row in kept.to_pylist())
