"""From items and banks on disk to curves.csv and comparisons.csv."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spct.artifact import BrokenArtifact
from spct.judge.predicate import correct
from spct.records import Item, Label, Sample, write_bank, write_items
from spct.scaling import comparisons, curves
from spct.scaling.banks import BankError
from spct.schema import ScalingConfig

KS = [1, 2, 4, 8]
CFG: Any = SimpleNamespace(
    scaling=ScalingConfig(
        ks=KS, k_meta_share=0.5, subsets=20, bootstrap=200, level=0.95, invalid="drop"
    )
)
KINDS = {"toy_pairs": 2, "toy_best_of_4": 4, "toy_single": 1}


def make_items(seed: int, each: int = 30) -> list[Item]:
    draw = np.random.default_rng(seed)
    items = []
    for dataset, n in KINDS.items():
        for i in range(each):
            best = int(draw.integers(max(2, n)))
            label = Label("correct", [bool(best)]) if n == 1 else Label("best", best)
            items.append(
                Item(
                    id=f"{dataset}-{seed}-{i}",
                    dataset=dataset,
                    subset="hard" if i % 3 == 0 and n == 2 else "easy",
                    domain=dataset,
                    messages=({"role": "user", "content": f"question {i}"},),
                    responses=tuple("word " * int(draw.integers(1, 9)) for _ in range(n)),
                    label=label,
                )
            )
    return items


def judge(item: Item, skill: float, draw: np.random.Generator) -> list[int]:
    """Scores that lean towards the label by ``skill``; a verdict that is right half the time + 5 %
    for each tenth of skill."""
    if item.n == 1:
        truth = int(item.label.value[0])
        return [truth if draw.random() < 0.5 + skill / 4 else 1 - truth]
    lean = [skill * (i == item.label.value) for i in range(item.n)]
    return [int(np.clip(round(5 + x + draw.normal() * 1.5), 1, 10)) for x in lean]


def make_bank(items: list[Item], skill: float, *, meta: bool = False, n: int = 8) -> list[Sample]:
    draw = np.random.default_rng(int(skill * 100))
    rows = []
    for item in items:
        for j in range(-1, n):
            bad = draw.random() < 0.05
            scores = None if bad else judge(item, skill, draw)
            right = None if scores is None else correct(scores, item.label)
            rows.append(
                Sample(
                    item_id=item.id,
                    kind="greedy" if j < 0 else "sample",
                    sample=max(j, 0),
                    seed=0,
                    order=list(range(item.n)),
                    model="m",
                    template="t",
                    text="",
                    prompt_tokens=100,
                    completion_tokens=20,
                    logprob=None,
                    finish="stop",
                    outcome="malformed" if bad else "ok",
                    scores=scores,
                    correct=right,
                    meta_score=float(right) + draw.normal() if meta and right is not None else None,
                )
            )
    return rows


def make_run(root: Path, seeds: int = 1) -> dict[str, Any]:
    """Items and banks of base, rft, grpo at m and base at l, as the DAG lays them out."""
    paths: dict[str, Any] = {"items": [], "banks": []}
    for seed in range(seeds):
        items = make_items(seed)
        bench = root / f"seed{seed}/data/bench.parquet"
        write_items(bench, items, seed=seed)
        paths["items"].append(bench)
        plan = [("base", "m", 0.3), ("rft", "m", 0.8), ("grpo", "m", 1.6), ("base", "l", 0.6)]
        for policy, size, skill in plan:
            guided = policy == "grpo"
            extra = {"metarm_params": 50} if guided else {}
            rows = make_bank(items, skill, meta=guided)
            for shard, part in enumerate((rows[:90], rows[90:])):
                path = root / f"seed{seed}/judge/{policy}-{size}/{shard}.parquet"
                write_bank(
                    path,
                    part,
                    seed=seed,
                    policy=policy,
                    size=size,
                    params=1000 if size == "m" else 4000,
                    **extra,
                )
                paths["banks"].append(path)
    return paths


def measure(root: Path, paths: dict[str, Any]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    out, pairs = root / "curves.csv", root / "comparisons.csv"
    curves.run(CFG, 0, **paths, run="t", out=out, out_comparisons=pairs)
    with out.open() as a, pairs.open() as b:
        return list(csv.DictReader(a)), list(csv.DictReader(b))


def pick(rows: list[dict[str, str]], **wanted: str) -> list[dict[str, str]]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("run")
    paths = make_run(root, seeds=2)
    return root, paths, *measure(root, paths)


def test_curves_have_the_contract_and_every_point(two_seeds: Any) -> None:
    _, _, rows, _ = two_seeds
    assert list(rows[0]) == [
        "run", "seed", "policy", "size", "benchmark", "subset", "method", "k", "k_meta",
        "accuracy", "low", "high", "items", "tokens", "flops", "invalid_rate", "tie_rate",
    ]  # fmt: skip
    assert {row["seed"] for row in rows} == {"0", "1", "all"}
    grpo = pick(rows, policy="grpo", benchmark="toy_pairs", subset="all", seed="all")
    assert [row["method"] for row in grpo] == [
        "greedy",
        *["voting"] * 4,
        *["meta_voting"] * 4,
        *["margin_voting"] * 4,
        *["random_voting"] * 4,
        *["oracle_voting"] * 4,
    ]
    assert all(row["items"] == "60" for row in grpo)
    assert not pick(rows, policy="rft", method="meta_voting")
    assert {row["subset"] for row in pick(rows, benchmark="toy_pairs")} == {"all", "easy", "hard"}
    assert {row["subset"] for row in pick(rows, benchmark="toy_single")} == {"all"}
    for row in rows:
        assert float(row["low"]) <= float(row["accuracy"]) <= float(row["high"])


def test_costs(two_seeds: Any) -> None:
    _, _, rows, _ = two_seeds
    point = {"policy": "grpo", "subset": "all", "seed": "0", "k": "4"}
    plain = pick(rows, method="voting", benchmark="toy_pairs", **point)[0]
    assert float(plain["tokens"]) == 80
    assert float(plain["flops"]) == 2 * 1000 * (4 * 20 + 2 * 100)  # 2 orders of 2 responses
    guided = pick(rows, method="meta_voting", benchmark="toy_pairs", **point)[0]
    assert float(guided["flops"]) == float(plain["flops"]) + 2 * 50 * 4 * 120
    assert guided["k_meta"] == "2" and plain["k_meta"] == "4"
    four = pick(rows, method="voting", benchmark="toy_best_of_4", **point)[0]
    assert float(four["flops"]) == 2 * 1000 * (4 * 20 + 4 * 100)


def test_content_blind_baselines(two_seeds: Any) -> None:
    _, _, rows, _ = two_seeds
    blind = pick(rows, policy="none", seed="0")
    assert {row["method"] for row in blind} == {"first", "last", "longest", "shortest"}
    assert not pick(blind, benchmark="toy_single")
    items = [item for item in make_items(0) if item.dataset == "toy_pairs"]
    share = np.mean([item.label.value == 0 for item in items])
    first = pick(blind, method="first", benchmark="toy_pairs", subset="all")[0]
    assert float(first["accuracy"]) == pytest.approx(share, abs=1e-5)


def test_comparisons(two_seeds: Any) -> None:
    _, _, rows, pairs = two_seeds
    assert {row["name"] for row in pairs} == {
        "rft - base @1, m", "grpo - rft @1, m", "@8 - @1, base/m", "@8 - @1, rft/m",
        "@8 - @1, grpo/m", "@8 - @1, base/l", "l - m, base @1", "meta - plain @8, grpo/m",
        "meta - margin @8, grpo/m", "meta - random @8, grpo/m", "oracle - plain @8, grpo/m",
    }  # fmt: skip
    rise = pick(pairs, name="@8 - @1, grpo/m", benchmark="toy_pairs")[0]
    assert rise["seeds_positive"] == "2/2" and rise["items"] == "60"
    assert float(rise["low"]) > 0 and float(rise["p_holm"]) < 0.05
    assert (rise["a"], rise["b"]) == ("grpo/m voting@8", "grpo/m voting@1")
    at = {"policy": "grpo", "benchmark": "toy_pairs", "subset": "all", "seed": "all"}
    ends = [float(pick(rows, method="voting", k=k, **at)[0]["accuracy"]) for k in ("8", "1")]
    assert float(rise["difference"]) == pytest.approx(ends[0] - ends[1], abs=1e-5)
    oracle = pick(pairs, name="oracle - plain @8, grpo/m", benchmark="toy_pairs")[0]
    assert float(oracle["difference"]) > 0


def test_comparisons_without_k_1(two_seeds: Any, tmp_path: Path) -> None:
    """Greedy decoding counts as one sample, but is no vote: it must not set the fewest votes."""
    _, paths, _, _ = two_seeds
    measured = curves.measure(replace(CFG.scaling, ks=[2, 8]), 0, **paths)
    names = {pair.name for pair in comparisons.pairs(measured)}
    assert {"rft - base @2, m", "@8 - @2, grpo/m", "l - m, base @2"} <= names
    assert not any("@1" in name for name in names)


def test_guided_base_against_plain_grpo(tmp_path: Path) -> None:
    """The question whether guidance replaces RL, and a bank with fewer samples than the others."""
    paths, items = make_run(tmp_path), make_items(0)
    for size, n, meta in (("m", 8, True), ("l", 4, False)):
        for shard in (0, 1):
            place = tmp_path / f"seed0/judge/base-{size}/{shard}.parquet"
            paths["banks"].remove(place)
        rows, place = make_bank(items, 0.3, meta=meta, n=n), tmp_path / f"base-{size}.parquet"
        extra = {"seed": 0, "policy": "base", "size": size, "params": {"m": 1000, "l": 4000}[size]}
        write_bank(place, rows, **extra, **({"metarm_params": 50} if meta else {}))
        paths["banks"].append(place)
    measured = curves.measure(CFG.scaling, 0, **paths)
    found = {pair.name: pair for pair in comparisons.pairs(measured)}
    pair = found["base + meta - grpo @8, m"]
    assert (str(pair.a), str(pair.b)) == ("base/m meta_voting@8", "grpo/m voting@8")
    assert "@4 - @1, base/l" in found and "grpo + meta - grpo @8, m" not in found


def test_same_bytes_again_in_any_order_of_banks(two_seeds: Any, tmp_path: Path) -> None:
    root, paths, _, _ = two_seeds
    measure(tmp_path, {"items": paths["items"][::-1], "banks": paths["banks"][::-1]})
    for name in ("curves.csv", "comparisons.csv"):
        assert (tmp_path / name).read_bytes() == (root / name).read_bytes()


def one_bank(root: Path, change: Any) -> dict[str, Any]:
    items = make_items(0, each=3)
    write_items(root / "bench.parquet", items, seed=0)
    rows = change(make_bank(items, 1.0))
    bank = root / "bank.parquet"
    write_bank(bank, rows, seed=0, policy="base", size="m", params=1)
    return {"items": [root / "bench.parquet"], "banks": [bank]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[9:], r"bank.parquet: item toy_pairs-0-0 has no sample 0"),
        (lambda rows: rows[:-1], r"item toy_single-0-2 has no sample 7 \(of 8"),
        (lambda rows: [*rows, replace(rows[1], item_id="?")], r"bank.*item \? is not in .*bench"),
        (
            lambda rows: [*rows[:-1], replace(rows[-1], outcome="ok", scores=[1, 1], correct=True)],
            "item toy_single-0-2 sample 7 has 2 scores for 1 responses",
        ),
        (
            lambda rows: [*rows[:-1], replace(rows[-1], outcome="ok", scores=[7], correct=True)],
            "toy_single-0-2 sample 7: 7 is not a 0/1 verdict",
        ),
        (
            lambda rows: [*rows[:1], replace(rows[1], meta_score=1.0, outcome="ok"), *rows[2:]],
            "has no meta score",
        ),
    ],
)
def test_items_and_bank_that_do_not_fit(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(BankError, match=message):
        measure(tmp_path, one_bank(tmp_path, change))


def test_ks_beyond_the_bank_and_broken_files(tmp_path: Path) -> None:
    paths = one_bank(tmp_path, lambda rows: [row for row in rows if row.sample < 4])
    rows, _ = measure(tmp_path, paths)
    assert {row["k"] for row in pick(rows, method="voting")} == {"1", "2", "4"}
    many: Any = SimpleNamespace(scaling=replace(CFG.scaling, ks=[16]))
    with pytest.raises(ValueError, match="starts at 16; the bank of base/m, seed 0 has 4 samples"):
        curves.measure(many.scaling, 0, **paths)
    paths["items"] *= 2
    with pytest.raises(BankError, match="both are of seed 0"):
        measure(tmp_path, paths)
    paths["banks"][0].write_bytes(b"PAR1")
    with pytest.raises(BrokenArtifact, match=r"bank\.parquet is truncated"):
        measure(tmp_path, {**paths, "items": paths["items"][:1]})
