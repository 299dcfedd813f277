"""The held-out items of a seed as the arrays the estimators take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spct import artifact
from spct.errors import BankError
from spct.judge.predicate import sides
from spct.records import Item, read_items
from spct.scaling.estimators import Bools, Votes


@dataclass(frozen=True)
class Bench:
    """The held-out items of one seed, in file order, with their labels as arrays (I, R)."""

    seed: int
    path: Path
    items: list[Item]
    index: dict[str, int]
    answers: Bools
    better: Bools
    worse: Bools
    single: Bools  # (I,)

    def no_votes(self) -> Votes:
        """No samples at all (n = 0): what answers that read no bank are decided against."""
        none = np.zeros((len(self.items), 0), dtype=np.bool_)
        scores = np.zeros((*none.shape, self.answers.shape[1]), dtype=np.float32)
        sides = (self.answers, self.better, self.worse, self.single)
        return Votes(scores, none, *sides, none)

    @property
    def clusters(self) -> list[str]:
        """What the bootstrap keeps together: the prompt of each item."""
        return [json.dumps(item.messages, sort_keys=True) for item in self.items]


def read_bench(path: Path) -> Bench:
    """Items with labels as masks; one that people called a tie has neither better nor worse.

    Raises :class:`BankError` for any other item without a definite best.
    """
    items = read_items(path)
    if not items:
        raise BankError(f"{path} holds no items")
    width = max(2, *(item.n for item in items))
    answers, better, worse = (np.zeros((len(items), width), dtype=np.bool_) for _ in range(3))
    for i, item in enumerate(items):
        try:
            top, below = _sides(item)
        except ValueError as error:
            raise BankError(f"{path}: item {item.id}: {error}") from error
        answers[i, : max(2, item.n)] = True
        better[i, top] = worse[i, below] = True
    return Bench(
        seed=int(artifact.read_manifest(path).get("seed", 0)),
        path=path,
        items=items,
        index={item.id: i for i, item in enumerate(items)},
        answers=answers,
        better=better,
        worse=worse,
        single=np.array([item.n == 1 for item in items]),
    )


def read_benches(paths: Sequence[Path]) -> dict[int, Bench]:
    """The items of each seed, by seed. Raises :class:`BankError` for two files of one seed."""
    benches: dict[int, Bench] = {}
    for path in paths:
        bench = read_bench(path)
        if bench.seed in benches:
            raise BankError(f"{path} and {benches[bench.seed].path} both are of seed {bench.seed}")
        benches[bench.seed] = bench
    return dict(sorted(benches.items()))


def _sides(item: Item) -> tuple[list[int], list[int]]:
    """Sides of the label; of a single response, between the answers "wrong" (0) and "right" (1)."""
    if item.label.undecided:
        return [], []
    if item.n > 1:
        return sides(item.label, item.n)
    if item.label.kind != "correct" or len(item.label.value) != 1:
        raise ValueError(f"one response cannot be judged by {item.label}")
    truth = int(bool(item.label.value[0]))
    return [truth], [1 - truth]
