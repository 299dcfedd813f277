"""A small set of runs on disk, its judgements chosen by hand: for the tests of ``spct.paper``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from bank_world import manifest_of

from spct import artifact, config
from spct.config import Slice
from spct.judge.predicate import correct
from spct.paper.members import Members, read
from spct.records import Item, Label, Sample, write_bank, write_items
from spct.scaling import curves

LENGTHS = {"toy_pairs": 2, "toy_best_of_4": 4, "toy_single": 1}
Judged = Mapping[str, Sequence[Sequence[int]]]  # scores by item and sample, in the item's order


def bench(each: int = 4) -> list[Item]:
    """``each`` items of every benchmark; the first response is best, single ones are right."""
    return [
        Item(
            f"{name}/{i}", name, "all", "toy",
            ({"role": "user", "content": f"{name} question {i}"},),
            tuple(f"{name} answer {i}-{j}" for j in range(n)),
            Label("correct", [True]) if n == 1 else Label("best", 0),
        )
        for name, n in LENGTHS.items()
        for i in range(each)
    ]  # fmt: skip


def said(items: list[Item], right: set[str], tied: frozenset[str] = frozenset()) -> Judged:
    """One judgement of each item: right, tied or wrong."""
    return {item.id: [_scores(item, item.id in right, item.id in tied)] for item in items}


def _scores(item: Item, right: bool, tied: bool) -> list[int]:
    if item.n == 1:
        return [int(right)]
    return [5] * item.n if tied else [9 if (i == 0) == right else 3 for i in range(item.n)]


def judge(
    folder: Path, items: list[Item], policy: str, greedy: Judged, samples: Judged, **more: Any
) -> Path:
    """A bank of a run, with meta scores if ``more`` has them by (item, sample)."""
    meta = more.pop("meta", None)
    path = folder / f"seed0/judge/{policy}-toy_m/0.parquet"
    rows = [
        _row(item, kind, j, scores, meta and meta[item.id][j])
        for kind, judged in (("greedy", greedy), ("sample", samples))
        for item in items
        for j, scores in enumerate(judged[item.id])
    ]
    told = manifest_of(artifact.content_hash(folder / "seed0/data/bench.parquet"), 0, policy=policy)
    write_bank(path, rows, **{**told, **more})
    return path


def _row(item: Item, kind: Any, sample: int, scores: Sequence[int], meta: float | None) -> Sample:
    return Sample(
        item_id=item.id, kind=kind, sample=sample, seed=0, order=list(range(item.n)), model="m",
        template="t", text=f"Critique: <b>{item.id}</b> {sample}", prompt_tokens=20,
        completion_tokens=9, logprob=-2.0, finish="stop", outcome="ok", scores=list(scores),
        correct=correct(list(scores), item.label), meta_score=meta,
    )  # fmt: skip


def write_run(root: Path, name: str, items: list[Item]) -> Path:
    """The folder of a run with its held-out items."""
    folder = root / "results" / name
    write_items(folder / "seed0/data/bench.parquet", items, seed=0)
    return folder


def write_curves(root: Path, name: str, banks: list[Path]) -> None:
    """The curves of a run, as its stage writes them."""
    folder = root / "results" / name
    tables = {f"out_{key}": folder / f"{key}.csv" for key in ("comparisons", "surface", "official")}
    items = [folder / "seed0/data/bench.parquet"]
    ours, known = scaling(), {"out": folder / "curves.csv", **tables}
    extra = _outputs(curves.run, folder, set(known))
    curves.run(ours, 0, items=items, banks=banks, run=name, **known, **extra)


def _outputs(function: Any, folder: Path, known: set[str]) -> dict[str, Path]:
    """Further outputs that the stage has, each to a file of its own."""
    import inspect

    names = [name for name in inspect.signature(function).parameters if name.startswith("out_")]
    return {name: folder / f"{name}.csv" for name in names if name not in known}


def scaling() -> Slice:
    cfg = config.load(["experiment=tiny"])
    cfg = replace(cfg, scaling=replace(cfg.scaling, ks=[1, 2], bootstrap=200, adaptive=[]))
    return Slice.of(cfg, "paper")


def write_set(root: Path, **runs: list[Path]) -> Path:
    """``set.yaml`` of runs by role, the first the reference; each with its banks."""
    members = []
    for role, banks in runs.items():
        items = root / "results" / role / "seed0/data/bench.parquet"
        about = {"role": role, "label": role, "serves": "", "run": role, "seeds": [0]}
        files = {"items": [str(items)], "banks": list(map(str, banks)), "scores": []}
        members.append({**about, **files})
    raw = {
        "name": "mine", "title": "A set <i>", "reference": next(iter(runs)),
        "overall": ["toy_pairs", "toy_best_of_4"], "single": "toy_single",
        "sizes": {"main": "toy_m"}, "members": members,
    }  # fmt: skip
    path = root / "results/mine/config/set.yaml"
    artifact.write_text(path, yaml.safe_dump(raw))
    return path


def members_of(root: Path, **runs: list[Path]) -> Members:
    return read(write_set(root, **runs))
