"""Items and banks as the arrays the estimators take, checked against each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spct import artifact
from spct.judge.parse import Outcome
from spct.judge.predicate import sides
from spct.records import BANK_SCHEMA, Item, read_items
from spct.scaling.estimators import Bools, Floats, Votes

_UNREAD = {"seed", "order", "model", "template", "text", "logprob", "finish"}
_SCHEMA = pa.schema([field for field in BANK_SCHEMA if field.name not in _UNREAD])


class BankError(ValueError):
    """Items and bank do not belong together; the message names the file and the item."""


class BankKey(NamedTuple):
    """What one bank measures: a policy at a size, trained and sampled under one seed."""

    seed: int
    policy: str
    size: str


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

    @property
    def clusters(self) -> list[str]:
        """What the bootstrap keeps together: the prompt of each item."""
        return [json.dumps(item.messages, sort_keys=True) for item in self.items]


@dataclass(frozen=True)
class Draws:
    """Samples of one kind for every item of a bench; token counts are ``(I, n)``."""

    votes: Votes
    prompt_tokens: Floats
    completion_tokens: Floats

    @classmethod
    def blank(cls, bench: Bench) -> Draws:
        """No samples at all (n = 0): what votes that read no bank are decided against."""
        none = np.zeros((len(bench.items), 0))
        scores = np.zeros((*none.shape, bench.answers.shape[1]), dtype=np.float32)
        sides = (bench.answers, bench.better, bench.worse, bench.single)
        return cls(Votes(scores, none > 0, *sides, none > 0), none, none)


@dataclass(frozen=True)
class Bank:
    """All judgements of a bench by one policy; parameter counts are None where unknown."""

    key: BankKey
    params: int | None
    metarm_params: int | None
    samples: Draws
    greedy: Draws | None

    @property
    def guided(self) -> bool:
        return self.samples.votes.meta is not None


def read_bench(path: Path) -> Bench:
    """Items with labels as masks. Raises :class:`BankError` for an item without a definite best."""
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


def _sides(item: Item) -> tuple[list[int], list[int]]:
    """Sides of the label; of a single response, between the answers "wrong" (0) and "right" (1)."""
    if item.n > 1:
        return sides(item.label, item.n)
    if item.label.kind != "correct" or len(item.label.value) != 1:
        raise ValueError(f"one response cannot be judged by {item.label}")
    truth = int(bool(item.label.value[0]))
    return [truth], [1 - truth]


def read_banks(paths: Sequence[Path], benches: Iterable[Bench]) -> list[Bank]:
    """One :class:`Bank` per (seed, policy, size), its shards joined, sorted by that key.

    Raises :class:`BankError` if a bank has other items than its seed's bench, lacks or repeats a
    sample, or holds scores that do not fit the item; :class:`spct.artifact.BrokenArtifact` for
    files that cannot be read.
    """
    by_seed = {bench.seed: bench for bench in benches}
    shards: dict[BankKey, list[Path]] = {}
    for path in paths:
        key = _key(path)
        if key.seed not in by_seed:
            raise BankError(f"no items of seed {key.seed} for the bank {path}")
        shards.setdefault(key, []).append(path)
    return [_read_bank(key, group, by_seed[key.seed]) for key, group in sorted(shards.items())]


def _key(path: Path) -> BankKey:
    manifest = artifact.read_manifest(path)
    missing = [name for name in ("seed", "policy", "size") if name not in manifest]
    if missing:
        raise BankError(f"{path}: the manifest lacks {', '.join(missing)}")
    return BankKey(int(manifest["seed"]), str(manifest["policy"]), str(manifest["size"]))


def _read_bank(key: BankKey, paths: list[Path], bench: Bench) -> Bank:
    tables = []
    for path in paths:
        table = artifact.read_table(path, _SCHEMA, kind="bank")
        stray = [
            name for name in pc.unique(table["item_id"]).to_pylist() if name not in bench.index
        ]
        if stray:
            raise BankError(f"{path}: item {stray[0]} is not in {bench.path}")
        tables.append(table)
    rows = pa.concat_tables(tables).combine_chunks()
    where = ", ".join(str(path) for path in paths)
    manifest = artifact.read_manifest(paths[0])
    greedy = rows.filter(pc.equal(rows["kind"], "greedy"))
    return Bank(
        key=key,
        params=_count(manifest, "params"),
        metarm_params=_count(manifest, "metarm_params"),
        samples=_arrays(rows.filter(pc.equal(rows["kind"], "sample")), bench, where),
        greedy=_arrays(greedy, bench, where) if greedy.num_rows else None,
    )


def _count(manifest: dict[str, Any], name: str) -> int | None:
    value = manifest.get(name)
    return None if value is None else int(value)


def _arrays(rows: pa.Table, bench: Bench, where: str) -> Draws:
    """Rows of one kind as arrays; every item must have the samples 0..n-1, each once."""
    item = np.array([bench.index[name] for name in rows["item_id"].to_pylist()], dtype=np.int64)
    sample = rows["sample"].to_numpy().astype(np.int64)
    n = int(sample.max()) + 1 if len(sample) else 1
    seen = np.zeros((len(bench.items), n), dtype=np.int64)
    np.add.at(seen, (item, sample), 1)
    for i, j in np.argwhere(seen != 1)[:1]:
        what = "has no" if seen[i, j] == 0 else "repeats"
        raise BankError(f"{where}: item {bench.items[i].id} {what} sample {j} (of {n} an item)")

    def grid(name: str, empty: float = 0.0) -> Floats:
        out = np.full(seen.shape, empty, dtype=np.float64)
        column = pc.fill_null(pc.cast(rows[name], pa.float64()), empty)
        out[item, sample] = column.to_numpy()
        return out

    valid = np.zeros(seen.shape, dtype=np.bool_)
    valid[item, sample] = pc.equal(rows["outcome"], Outcome.ok.value).to_numpy()
    meta = grid("meta_score", np.nan)
    unscored = np.argwhere(valid & np.isnan(meta))
    if len(unscored) and not np.isnan(meta).all():
        i, j = unscored[0]
        raise BankError(f"{where}: item {bench.items[i].id} sample {j} has no meta score")
    votes = Votes(
        scores=_scores(rows, item, sample, valid, bench, where),
        valid=valid,
        answers=bench.answers,
        better=bench.better,
        worse=bench.worse,
        single=bench.single,
        correct=grid("correct") > 0,
        meta=None if np.isnan(meta).all() else meta,
    )
    return Draws(votes, grid("prompt_tokens"), grid("completion_tokens"))


def _scores(
    rows: pa.Table,
    item: NDArray[np.int64],
    sample: NDArray[np.int64],
    valid: Bools,
    bench: Bench,
    where: str,
) -> NDArray[np.float32]:
    """Scores ``(I, n, R)``, zero where invalid; a verdict is a point for one of two answers."""
    counts = pc.fill_null(pc.list_value_length(rows["scores"]), 0).to_numpy().astype(np.int64)
    expected = np.array([entry.n for entry in bench.items])[item]
    for row in np.flatnonzero(valid[item, sample] & (counts != expected))[:1]:
        raise BankError(
            f"{where}: item {bench.items[item[row]].id} sample {sample[row]} has {counts[row]} "
            f"scores for {expected[row]} responses"
        )
    flat = pc.list_flatten(rows["scores"]).to_numpy().astype(np.float32)
    row = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)
    inside = place < bench.answers.shape[1]  # an invalid row may hold anything
    scores = np.zeros((*valid.shape, bench.answers.shape[1]), dtype=np.float32)
    scores[item[row[inside]], sample[row[inside]], place[inside]] = flat[inside]
    verdict = scores[bench.single, :, 0]
    for i, j in np.argwhere(valid[bench.single] & ~np.isin(verdict, (0, 1)))[:1]:
        name = bench.items[int(np.flatnonzero(bench.single)[i])].id
        raise BankError(f"{where}: item {name} sample {j}: {verdict[i, j]:g} is not a 0/1 verdict")
    scores[bench.single, :, 0], scores[bench.single, :, 1] = 1 - verdict, verdict
    scores[~valid] = 0
    return scores
