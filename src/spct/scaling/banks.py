"""Banks as the arrays the estimators take, checked against their items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spct import artifact
from spct.benchmarks.rule import Answer
from spct.errors import BankError
from spct.judge.parse import Outcome
from spct.records import bank_batches
from spct.scaling.bench import Bench as Bench
from spct.scaling.bench import read_bench as read_bench
from spct.scaling.bench import read_benches as read_benches
from spct.scaling.estimators import Bools, Floats, Votes
from spct.scaling.grid import OUTCOMES, Grid, strata

_READ = (
    *("item_id", "kind", "sample", "order", "prompt_tokens", "completion_tokens", "logprob"),
    *("outcome", "scores", "correct", "meta_score", "principle_tokens"),
)
KINDS = ("sample", "greedy")


class BankKey(NamedTuple):
    """What one bank measures: a policy at a size, trained and sampled under one seed."""

    seed: int
    policy: str
    size: str


@dataclass(frozen=True)
class Draws:
    """Samples of one kind for every item of a bench, arrays ``(I, n)`` in sample order."""

    votes: Votes
    prompt_tokens: Floats
    completion_tokens: Floats
    principle_tokens: Floats  # (I,): principles written beforehand, once an item
    outcome: NDArray[np.int8]  # index into OUTCOMES
    shown: NDArray[np.int8]  # (I, n, R): original index of the response at each place, -1 beyond
    logprob: NDArray[np.float32]  # of the completion under the sampler; NaN where unknown
    text: NDArray[np.int64] | None = None  # equal numbers: equal texts; None where not asked for


@dataclass(frozen=True)
class Bank:
    """All judgements of a bench by one policy; parameter counts are None where unknown."""

    key: BankKey
    params: int | None
    metarm_params: int | None
    samples: Draws
    greedy: Draws | None
    plan: str = "random"  # of the orders in which responses were shown
    score_range: tuple[int, int] = (1, 10)
    paths: tuple[Path, ...] = ()
    calibration: Mapping[str, float] | None = None  # of the meta RM's logit, where it has one
    answer: Answer = "scores"  # what the judge was asked to write of several responses

    @property
    def guided(self) -> bool:
        return self.samples.votes.meta is not None


def read_banks(
    paths: Sequence[Path], benches: Iterable[Bench], *, texts: bool = False
) -> Iterator[Bank]:
    """One :class:`Bank` per (seed, policy, size), its shards joined, in the order of that key.

    They are read one after the other, in batches of rows, so that memory holds one bank's arrays;
    ``texts`` asks for the hashes of the texts too.

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
    for key, group in sorted(shards.items()):
        yield _Reader(group, by_seed[key.seed], texts).bank(key)


def _key(path: Path) -> BankKey:
    manifest = artifact.read_manifest(path)
    missing = [name for name in ("seed", "policy", "size") if name not in manifest]
    if missing:
        raise BankError(f"{path}: the manifest lacks {', '.join(missing)}")
    return BankKey(int(manifest["seed"]), str(manifest["policy"]), str(manifest["size"]))


def bank_keys(paths: Sequence[Path]) -> list[BankKey]:
    """The banks that these shards belong to, each once, in the order of :func:`read_banks`."""
    return sorted({_key(path) for path in paths})


class _Reader:
    """Shards of one bank into arrays; two passes, since the first one learns n."""

    def __init__(self, paths: Sequence[Path], bench: Bench, texts: bool) -> None:
        self.paths, self.bench, self.texts = paths, bench, texts
        self.where = ", ".join(map(str, paths))
        self.manifest = artifact.read_manifest(paths[0])
        self.ids = pa.array([item.id for item in bench.items])
        self.sizes = np.array([item.n for item in bench.items])
        settings = self.manifest.get("slice", {}).get("judge", {})
        self.rated = settings.get("single") == "rating"
        self.plan = settings.get("order", "random")
        self.answer: Answer = "index" if settings.get("answer") == "index" else "scores"
        self.score_range = settings.get("score_min", 1), settings.get("score_max", 10)

    def bank(self, key: BankKey) -> Bank:
        grids = self._grids()
        for path in self.paths:
            for rows in bank_batches(path, (*_READ, "text") if self.texts else _READ):
                for kind, grid in grids.items():
                    self._take(rows.filter(pc.equal(rows["kind"], kind)), grid, path)
        return Bank(
            key=key,
            params=_count(self.manifest, "params"),
            metarm_params=_count(self.manifest, "metarm_params"),
            calibration=self.manifest.get("metarm_calibration"),
            samples=self._draws(grids["sample"]),
            greedy=self._draws(grids["greedy"]) if "greedy" in grids else None,
            plan=self.plan,
            score_range=self.score_range,
            paths=tuple(self.paths),
            answer=self.answer,
        )

    def _grids(self) -> dict[str, Grid]:
        """Empty arrays for the kinds that the shards hold, as wide as their highest number."""
        tops = {"sample": 0}
        for path in self.paths:
            for rows in bank_batches(path, ("kind", "sample")):
                found = rows.group_by("kind").aggregate([("sample", "max")]).to_pylist()
                for row in found:
                    if row["kind"] in KINDS:
                        top = int(row["sample_max"])
                        tops[row["kind"]] = max(top, tops.get(row["kind"], 0))
        width = self.bench.answers.shape[1]
        return {
            kind: Grid(len(self.bench.items), top + 1, width, self.texts)
            for kind, top in tops.items()
        }

    def _take(self, rows: pa.Table, grid: Grid, path: Path) -> None:
        """One batch into the grid; every item must be one of the bench's, scores must fit it."""
        found = pc.index_in(rows["item_id"], value_set=self.ids)
        if found.null_count:
            stray = rows["item_id"].filter(pc.is_null(found))[0]
            raise BankError(f"{path}: item {stray} is not in {self.bench.path}")
        item = found.to_numpy().astype(np.int64)
        sample = rows["sample"].to_numpy().astype(np.int64)
        valid = pc.equal(rows["outcome"], Outcome.ok.value).to_numpy()
        counts = pc.fill_null(pc.list_value_length(rows["scores"]), 0).to_numpy()
        for row in np.flatnonzero(valid & (counts != self.sizes[item]))[:1]:
            raise BankError(
                f"{path}: item {self.bench.items[item[row]].id} sample {sample[row]} has "
                f"{counts[row]} scores for {self.sizes[item[row]]} responses"
            )
        grid.put(rows, item, sample)

    def _draws(self, grid: Grid) -> Draws:
        bench, meta = self.bench, grid.meta
        for i, j in np.argwhere(grid.seen != 1)[:1]:
            what = "has no" if grid.seen[i, j] == 0 else "repeats"
            raise BankError(
                f"{self.where}: item {bench.items[i].id} {what} sample {j} "
                f"(of {grid.seen.shape[1]} an item)"
            )
        valid = grid.outcome == OUTCOMES.index(Outcome.ok)
        unscored = np.argwhere(valid & np.isnan(meta))
        if len(unscored) and not np.isnan(meta).all():
            i, j = unscored[0]
            raise BankError(f"{self.where}: item {bench.items[i].id} sample {j} has no meta score")
        grid.scores[~valid] = 0
        rating = bench.single if self.rated else np.zeros_like(bench.single)
        verdict = bench.single & ~rating
        self._verdicts(grid.scores, valid, verdict)
        votes = Votes(
            scores=grid.scores,
            valid=valid,
            answers=bench.answers & ~rating[:, None],
            better=bench.better,
            worse=bench.worse,
            single=verdict,
            correct=grid.correct,
            meta=None if np.isnan(meta).all() else meta,
            rating=rating,
            stratum=None if self.plan == "random" else strata(grid.shown),
            logprob=_a_token(grid),
            length=grid.completion_tokens,
        )
        return Draws(
            votes=votes,
            prompt_tokens=grid.prompt_tokens,
            completion_tokens=grid.completion_tokens,
            principle_tokens=grid.principle_tokens.max(axis=1),
            outcome=grid.outcome,
            shown=grid.shown,
            logprob=grid.logprob,
            text=grid.text,
        )

    def _verdicts(self, scores: NDArray[np.float32], valid: Bools, single: Bools) -> None:
        """A verdict on one response becomes a point for one of two answers, "wrong" and "right"."""
        verdict = scores[single, :, 0]
        for i, j in np.argwhere(valid[single] & ~np.isin(verdict, (0, 1)))[:1]:
            name = self.bench.items[int(np.flatnonzero(single)[i])].id
            value = f"{verdict[i, j]:g} is not a 0/1 verdict"
            raise BankError(f"{self.where}: item {name} sample {j}: {value}")
        held = valid[single]
        scores[single, :, 0], scores[single, :, 1] = (1 - verdict) * held, verdict * held


def _a_token(grid: Grid) -> Floats | None:
    """Mean log-probability of a completion's tokens, ``(I, n)``; None if no sample tells."""
    if np.isnan(grid.logprob).all():
        return None
    return np.asarray(grid.logprob / np.maximum(grid.completion_tokens, 1), dtype=np.float64)


def _count(manifest: dict[str, Any], name: str) -> int | None:
    value = manifest.get(name)
    return None if value is None else int(value)
