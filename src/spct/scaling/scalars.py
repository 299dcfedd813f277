"""Cells of reward models whose scores are real numbers: the mean over k samples decides.

A model that writes nothing gives one look: k = 1 and nothing to vote on. One that writes first is
read once for each thing it wrote, and its vote is the mean (paper Eq. 12): of the scalars after
sampled critiques, or of the probabilities of a choice. The response with the highest mean wins;
equal ones share the credit. One response has no accuracy, since a scalar has no threshold, but its
ROC-AUC (paper §4). What a model cannot score has no number: the cell keeps the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spct import artifact
from spct.baselines import rows
from spct.baselines.rows import SCALAR, Scored
from spct.errors import BankError
from spct.scaling.banks import BankKey, Bench
from spct.scaling.cells import Cell, CellKey, Index
from spct.scaling.estimators import estimate
from spct.scaling.subsets import Subsets
from spct.scaling.votes import Bools, Floats, Votes
from spct.schema import ScalingConfig

METHODS = rows.METHODS


@dataclass(frozen=True)
class Points:
    """Scores of each item of a single response, ``(I, D)`` in D independent draws, and whether the
    response is right, ``(I,)``."""

    score: Floats
    right: Bools

    def take(self, items: Index) -> Points:
        """The same of some items."""
        return Points(self.score[items], self.right[items])

    def auc(self, weights: Floats) -> Floats:
        """ROC-AUC per row of item weights ``(B, I)``, the mean over draws; NaN where a row lacks
        right or wrong ones."""
        draws = [self._auc(weights, score) for score in self.score.T]
        return np.mean(draws, axis=0) if draws else np.full(len(weights), np.nan)

    def _auc(self, weights: Floats, score: Floats) -> Floats:
        if not len(score):
            return np.full(len(weights), np.nan)
        order = np.argsort(score, kind="stable")
        starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
        good, bad = weights * self.right, weights * ~self.right
        above = np.add.reduceat(good[:, order], starts, axis=1)
        below = np.add.reduceat(bad[:, order], starts, axis=1)
        wins = (above * (np.cumsum(below, axis=1) - below / 2)).sum(axis=1)
        mass = good.sum(axis=1) * bad.sum(axis=1)
        return np.divide(wins, mass, out=np.full(len(mass), np.nan), where=mass > 0)


@dataclass(frozen=True)
class PointAuc:
    """ROC-AUC of the single responses that have a score; as :class:`spct.scaling.ratings.Auc`."""

    items: Index
    points: Points

    def scores(self) -> Points:
        return self.points


@dataclass(frozen=True)
class Table:
    """The scores of one bench by one model; ``scored`` has an item's samples in their order."""

    key: BankKey
    method: str
    params: int | None
    scored: Mapping[str, Sequence[Scored]]
    path: Path

    @property
    def samples(self) -> int:
        """Samples of every item."""
        return len(next(iter(self.scored.values()), ()))

    def cell_key(self, k: int) -> CellKey:
        return CellKey(self.key.policy, self.key.size, self.method, k, k)


def read_tables(paths: Sequence[Path], benches: Mapping[int, Bench]) -> Iterator[Table]:
    """The tables in the order of their keys, checked against the items of their seed.

    Raises :class:`BankError` naming the file if it is of another seed, lacks, repeats or adds an
    item or sample, or has another number of scores than an item has responses.
    """
    found: dict[tuple[BankKey, str], Table] = {}
    for path in paths:
        table = _read(path)
        place = (table.key, table.method)
        if place in found:
            raise BankError(f"{path} and {found[place].path} both hold {table.key}")
        if table.key.seed not in benches:
            raise BankError(f"no items of seed {table.key.seed} for the scores {path}")
        _check(table, benches[table.key.seed])
        found[place] = table
    yield from (table for _, table in sorted(found.items()))


def _read(path: Path) -> Table:
    told, scored = artifact.read_manifest(path), rows.read(path)
    by_item: dict[str, list[Scored]] = {}
    for row in sorted(scored, key=lambda row: row.sample):
        by_item.setdefault(row.item_id, []).append(row)
    most = max(map(len, by_item.values()), default=0)
    for name, own in by_item.items():
        if [row.sample for row in own] != list(range(most)):
            raise BankError(f"{path}: item {name} has not the samples 0 to {most - 1}, each once")
    key = BankKey(int(told["seed"]), str(told["policy"]), str(told["size"]))
    return Table(key, str(told.get("method", SCALAR)), told.get("params"), by_item, path)


def _check(table: Table, bench: Bench) -> None:
    if table.method == SCALAR and table.samples > 1:
        raise BankError(f"{table.path}: {table.samples} samples of a model that is read once")
    for name in table.scored.keys() ^ bench.index.keys():
        where = "is not in" if name in table.scored else "has no row, yet is in"
        raise BankError(f"{table.path}: item {name} {where} {bench.path}")
    for item in bench.items:
        for row in table.scored[item.id]:
            if row.scores is not None and len(row.scores) != item.n:
                raise BankError(
                    f"{table.path}: item {item.id} has {len(row.scores)} scores for "
                    f"{item.n} responses"
                )


def measure(table: Table, bench: Bench, cfg: ScalingConfig) -> dict[CellKey, Cell]:
    """The values of every item at every k of ``scaling.ks`` (1 for one look): the expectation over
    the k-subsets of its samples, as votes have it; NaN, with the reason, without any score."""
    looks = _Looks.of(table, bench)
    ks = [1] if table.method == SCALAR else [k for k in cfg.ks if k <= table.samples]
    subsets = Subsets([item.id for item in bench.items], table.samples, cfg.subsets, bench.seed)
    found = estimate(looks.votes, subsets, "voting", ks, 1.0)
    refused = looks.reasons != ""
    unknown = bench.single | looks.votes.undecided | refused
    cells = {}
    for k in ks:
        fresh = np.nan if k >= table.samples else table.samples / (table.samples - k)
        tokens, flops = looks.costs(k, table)
        cells[table.cell_key(k)] = Cell(
            accuracy=np.where(unknown, np.nan, found[k].credit),
            tied=np.where(bench.single | refused, 0.0, found[k].tied),
            rerun=np.where(unknown, np.nan, found[k].spread * fresh),
            error=np.where(unknown, 0.0, found[k].error),
            invalid=np.where(refused, 0.0, 1 - looks.votes.valid.mean(axis=1)),
            tokens=tokens,
            flops=flops,
            auc=looks.auc(k, bench, bench.single & ~refused),
            refused=looks.reasons,
            won=np.where(unknown, np.nan, found[k].won),
        )
    return cells


@dataclass(frozen=True)
class _Looks:
    """A table as arrays; tokens are means over an item's samples, ``(I,)``."""

    votes: Votes
    reasons: NDArray[np.object_]  # (I,): why no sample has scores, "" where one has
    read: Floats
    prompt: Floats
    written: Floats

    @classmethod
    def of(cls, table: Table, bench: Bench) -> _Looks:
        count, width = len(bench.items), bench.answers.shape[1]
        scores = np.zeros((count, table.samples, width), dtype=np.float32)
        valid = np.zeros((count, table.samples), dtype=np.bool_)
        reasons = np.full(count, "", dtype=object)
        tokens = np.zeros((3, count))
        for i, item in enumerate(bench.items):
            own = table.scored[item.id]
            for j, row in enumerate(own):
                if row.scores is not None:
                    scores[i, j, : item.n], valid[i, j] = row.scores, True
            reasons[i] = "" if valid[i].any() else own[0].refused
            costs = [(row.tokens, row.prompt_tokens, row.completion_tokens) for row in own]
            tokens[:, i] = np.mean(costs, axis=0)
        nobody = np.zeros_like(bench.single)
        sides = (bench.answers & ~bench.single[:, None], bench.better, bench.worse, nobody)
        votes = Votes(scores, valid, *sides, np.zeros_like(valid), rating=bench.single)
        return cls(votes, reasons, *tokens)

    def costs(self, k: int, table: Table) -> tuple[Floats, Floats]:
        """Generated tokens and FLOPs of k samples: 2 a parameter and token, written or read.

        Prompts count once; a choice between two responses has one for each order they come in.
        """
        shown = min(k, 2) if table.method == rows.TOKEN_PROB else 1
        through = k * (self.written + self.read) + shown * self.prompt
        flops = (
            np.full(len(through), np.nan) if table.params is None else 2.0 * table.params * through
        )
        return k * self.written, flops

    def auc(self, k: int, bench: Bench, rated: Bools) -> PointAuc | None:
        """The ROC-AUC of mean scores of k samples, where there are single responses with scores.

        Its draws are the n rounds of k samples in a row, each sample in as many as any other.
        """
        items = np.flatnonzero(rated)
        if not len(items):
            return None
        scores = self.votes.scores[items, :, 0].astype(np.float64)
        valid, n = self.votes.valid[items], self.votes.n
        rounds = (np.arange(n)[:, None] + np.arange(k)) % n if k < n else np.arange(n)[None]
        held = np.maximum(valid[:, rounds].sum(axis=2), 1)
        means = (scores * valid)[:, rounds].sum(axis=2) / held
        return PointAuc(items, Points(means, bench.better[items, 1]))


def note(reasons: Iterable[str], items: int) -> str:
    """What a table says of items without a score: how many of so many, and why."""
    found = sorted(reason for reason in reasons if reason)
    told = [f"{found.count(reason)} of {items}: {reason}" for reason in dict.fromkeys(found)]
    return "; ".join(told)
