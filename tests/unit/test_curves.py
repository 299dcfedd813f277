"""From items and banks on disk to curves.csv and comparisons.csv."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spct.artifact import BrokenArtifact, content_hash, read_manifest
from spct.judge.predicate import correct
from spct.records import Item, Label, Sample, read_bank, write_bank, write_items
from spct.scaling import comparisons, curves
from spct.scaling.banks import BankError
from spct.scaling.cells import CellKey
from spct.scaling.measure import Group, Measured
from spct.scaling.stats import holm
from spct.scaling.table import read_rows
from spct.schema import ScalingConfig

KS = [1, 2, 4, 8]
CFG: Any = SimpleNamespace(
    scaling=ScalingConfig(
        ks=KS,
        k_meta_share=0.5,
        subsets=20,
        bootstrap=200,
        level=0.95,
        invalid="drop",
        adaptive=[],
        max_repeats=1.0,
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
                    text=f"{item.id} {j}",
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
    other = {"out_comparisons": pairs, "out_surface": root / "surface.csv"}
    other |= {"out_official": root / "official.csv"}
    curves.run(CFG, 0, **paths, run="t", out=out, **other)
    with out.open() as a, pairs.open() as b:
        return list(csv.DictReader(a)), list(csv.DictReader(b))


def pick(rows: list[Any], **wanted: Any) -> list[Any]:
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
        "metric", "accuracy", "low", "high", "low_seeds", "high_seeds", "items", "tokens", "flops",
        "invalid_rate", "tie_rate", "rerun_sd", "mc_se", "readable",
        "accuracy_readable", "note",
    ]  # fmt: skip
    assert {row["seed"] for row in rows} == {"0", "1", "all"}
    grpo = pick(rows, policy="grpo", benchmark="toy_pairs", subset="all", seed="all")
    assert [row["method"] for row in grpo] == [
        "greedy",
        *["voting"] * 4,
        *["majority"] * 4,
        *["meta_voting"] * 4,
        *["margin_voting"] * 4,
        *["random_voting"] * 4,
        *["oracle_voting"] * 4,
    ]
    assert all(row["items"] == "60" for row in grpo)
    assert not pick(rows, policy="rft", method="meta_voting")
    assert {row["subset"] for row in pick(rows, benchmark="toy_pairs")} == {"all", "easy", "hard"}
    assert {row["subset"] for row in pick(rows, benchmark="toy_single")} == {"all"}
    assert {row["metric"] for row in rows} == {"accuracy"}
    for row in rows:
        assert float(row["low"]) <= float(row["accuracy"]) <= float(row["high"])


def test_majority_is_told_where_it_differs_from_the_sum(two_seeds: Any) -> None:
    _, _, rows, _ = two_seeds
    found = pick(rows, method="majority")
    assert {row["benchmark"] for row in found} == {"toy_pairs", "toy_best_of_4"}
    assert all(row["k_meta"] == row["k"] for row in found)
    at = {"policy": "grpo", "benchmark": "toy_pairs", "subset": "all", "seed": "0"}
    counts, sums = (pick(rows, method=method, **at) for method in ("majority", "voting"))
    assert any(a["accuracy"] != b["accuracy"] for a, b in zip(counts, sums, strict=True))


def test_seeds_as_a_level_in_pooled_rows_alone(two_seeds: Any) -> None:
    _, _, rows, pairs = two_seeds
    at = {"policy": "rft", "benchmark": "toy_pairs", "subset": "all", "method": "voting", "k": "2"}
    one, two, both = (pick(rows, seed=seed, **at)[0] for seed in ("0", "1", "all"))
    assert one["low_seeds"] == two["high_seeds"] == ""
    means = [float(one["accuracy"]), float(two["accuracy"])]
    assert 0 < float(both["low_seeds"]) < min(means) < max(means) < float(both["high_seeds"]) < 1
    assert float(both["low_seeds"]) < float(both["low"])  # t(0.975, 1) = 12.7
    gap = pick(pairs, name="rft - base @1, m", benchmark="toy_pairs", subset="all")[0]
    assert float(gap["low_seeds"]) < float(gap["difference"]) < float(gap["high_seeds"])


def test_a_bank_tells_what_a_rerun_varies_by_below_its_own_size(two_seeds: Any) -> None:
    _, _, rows, _ = two_seeds
    votes = [row for row in rows if row["policy"] == "grpo" and row["method"] != "greedy"]
    assert all((row["rerun_sd"] == "") == (row["k"] == "8") for row in votes)
    others = pick(rows, method="greedy") + pick(rows, policy="none")
    assert {row["rerun_sd"] for row in others} == {""}
    exact = pick(rows, benchmark="toy_pairs", method="voting")
    assert {row["mc_se"] for row in exact} == {"0"}


def test_tables_name_the_files_behind_them(two_seeds: Any) -> None:
    root, paths, _, _ = two_seeds
    for name in ("curves.csv", "comparisons.csv", "surface.csv"):
        sources = read_manifest(root / name)["sources"]
        assert [(entry["seed"], entry["path"]) for entry in sources["items"]] == [
            (seed, str(path)) for seed, path in enumerate(paths["items"])
        ]
        assert {entry["path"] for entry in sources["banks"]} == set(map(str, paths["banks"]))
        first = sources["banks"][0]
        assert first == {
            **{"seed": 0, "policy": "base", "size": "l", "rows": 90},
            "path": str(root / "seed0/judge/base-l/0.parquet"),
            "content_hash": content_hash(root / "seed0/judge/base-l/0.parquet"),
        }


def test_surface(two_seeds: Any) -> None:
    root, _, rows, _ = two_seeds
    with (root / "surface.csv").open() as handle:
        assert handle.readline().strip().split(",") == [
            *("run", "seed", "policy", "size", "benchmark", "method", "k", "k_meta"),
            *("metric", "accuracy", "low", "high", "mc_se"),
        ]
    points = read_rows(root / "surface.csv")
    assert {row["policy"] for row in points} == {"grpo"}
    assert {row["method"] for row in points} == {"meta_voting", "oracle_voting", "random_voting"}
    at = {"benchmark": "toy_pairs", "seed": "all"}
    for k in KS:
        here = pick(points, k=k, method="meta_voting", **at)
        kept = [row for row in here if row["k_meta"] != "min"]
        assert [row["k_meta"] for row in kept] == [j for j in (1, 2, 4, 8) if j <= k]
        floor = pick(here, k_meta="min")[0]
        assert floor["accuracy"] == min(row["accuracy"] for row in kept)
        assert floor["low"] <= min(row["low"] for row in kept)
        assert floor["high"] <= min(row["high"] for row in kept)
        point = {"policy": "grpo", "subset": "all", "k": str(k), **at}
        plain = pick(rows, method="voting", **point)[0]
        half = pick(rows, method="meta_voting", **point)[0]
        assert kept[-1]["accuracy"] == pytest.approx(float(plain["accuracy"]))
        same = [row for row in kept if str(row["k_meta"]) == half["k_meta"]][0]
        for name in ("accuracy", "low", "high"):
            assert same[name] == float(half[name])


def rated(items: list[Item], rows: list[Sample]) -> list[Sample]:
    """The same judgements, single responses rated 1 to 10 in place of a verdict."""
    draw, found = np.random.default_rng(5), {item.id: item for item in items}
    changed = []
    for row in rows:
        item = found[row.item_id]
        if item.n == 1 and row.scores is not None:
            rating = int(np.clip(round(5 + 2 * item.label.value[0] + 2 * draw.normal()), 1, 10))
            row = replace(row, scores=[rating])
        changed.append(row)
    return changed


def test_ratings_have_an_area_in_place_of_an_accuracy(tmp_path: Path) -> None:
    items = make_items(0)
    items = [
        replace(item, subset=str(item.label.value[0])) if item.n == 1 else item for item in items
    ]
    rows = rated(items, make_bank(items, 1.0, meta=True))
    write_items(tmp_path / "bench.parquet", items, seed=0)
    manifest = {"seed": 0, "policy": "base", "size": "m", "slice": {"judge": {"single": "rating"}}}
    write_bank(tmp_path / "bank.parquet", rows, **manifest)
    paths = {"items": [tmp_path / "bench.parquet"], "banks": [tmp_path / "bank.parquet"]}
    points, pairs = measure(tmp_path, paths)
    found = pick(points, benchmark="toy_single")
    assert {row["metric"] for row in found} == {"roc_auc"}
    assert {row["method"] for row in found} == {
        *("greedy", "voting", "mean_voting", "meta_voting", "random_voting"),
    }
    assert {row["metric"] for row in points if row not in found} == {"accuracy"}
    assert {row["benchmark"] for row in pick(points, method="mean_voting")} == {"toy_single"}
    assert {row["subset"] for row in found} == {"all"}  # one class alone has no area
    sums, means = (pick(found, method=m, k="8")[0] for m in ("voting", "mean_voting"))
    assert sums["accuracy"] != means["accuracy"]
    assert (sums["rerun_sd"], sums["mc_se"], sums["tie_rate"]) == ("", "0", "")
    gap = pick(pairs, name="@8 - @1, base/m", benchmark="toy_single")[0]
    first = pick(found, method="voting", k="1")[0]
    rise = float(sums["accuracy"]) - float(first["accuracy"])
    assert gap["metric"] == "roc_auc" and float(gap["difference"]) == pytest.approx(rise, abs=1e-5)
    assert {row["metric"] for row in read_rows(tmp_path / "surface.csv")} == {
        *("accuracy", "roc_auc"),
    }
    check_area(curves.measure(CFG.scaling, 0, **paths).measured, items, rows)


def check_area(measured: Measured, items: list[Item], rows: list[Sample]) -> None:
    """At k = 1, with and without bootstrap weights: wins of right over wrong, counted one by one;
    an invalid sample ties with all."""
    group, key = Group("toy_single", "all"), CellKey("base", "m", "voting", 1, 1)
    statistic = measured.statistic(key, group, 0)
    assert statistic is not None
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row.kind == "sample":
            scores.setdefault(row.item_id, []).append(row.scores[0] if row.scores else np.nan)
    here = [items[i] for i in measured.rows_of(group, 0)]
    plain = np.full(len(here), 1 / len(here))
    for weights, area in ((plain, statistic.value), (measured.weights(group, 0)[7], None)):
        wins = mass = 0.0
        for (i, right), (j, wrong) in itertools.product(enumerate(here), repeat=2):
            if right.label.value[0] and not wrong.label.value[0]:
                a, b = np.array(scores[right.id])[:, None], np.array(scores[wrong.id])
                share = np.where(np.isnan(a) | np.isnan(b), 0.5, (a > b) + 0.5 * (a == b)).mean()
                wins += weights[i] * weights[j] * share
                mass += weights[i] * weights[j]
        assert (statistic.draws[7] if area is None else area) == pytest.approx(wins / mass)


def test_no_surface_without_a_guided_bank(tmp_path: Path) -> None:
    measure(tmp_path, one_bank(tmp_path, lambda rows: rows))
    assert read_rows(tmp_path / "surface.csv") == []


def test_ks_that_are_no_powers_of_two_keep_all_or_a_power_of_two(two_seeds: Any) -> None:
    _, paths, _, _ = two_seeds
    surfaces = curves.measure(replace(CFG.scaling, ks=[3, 6]), 0, **paths).surfaces
    pairs = {(key.k, key.k_meta) for key in surfaces.cells}
    assert pairs == {(3, 1), (3, 2), (3, 3), (6, 1), (6, 2), (6, 4), (6, 6)}


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


def test_principles_written_beforehand_are_paid_once_an_item(tmp_path: Path) -> None:
    paths = one_bank(tmp_path, lambda rows: [replace(row, principle_tokens=7) for row in rows])
    rows, _ = measure(tmp_path, paths)
    for k in ("1", "8"):
        point = pick(rows, method="voting", benchmark="toy_pairs", subset="all", k=k)[0]
        prompts = min(int(k), 2) * 100
        assert float(point["tokens"]) == int(k) * 20 + 7
        assert float(point["flops"]) == 2 * (int(k) * 20 + 7 + prompts)


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
    assert rise["subset"] == "all" and rise["metric"] == "accuracy"
    assert rise["seeds_positive"] == "2/2" and rise["items"] == "60"
    assert float(rise["low"]) > 0 and float(rise["p_holm"]) < 0.05
    assert (rise["a"], rise["b"]) == ("grpo/m voting@8", "grpo/m voting@1")
    at = {"policy": "grpo", "benchmark": "toy_pairs", "subset": "all", "seed": "all"}
    ends = [float(pick(rows, method="voting", k=k, **at)[0]["accuracy"]) for k in ("8", "1")]
    assert float(rise["difference"]) == pytest.approx(ends[0] - ends[1], abs=1e-5)
    oracle = pick(pairs, name="oracle - plain @8, grpo/m", benchmark="toy_pairs")[0]
    assert float(oracle["difference"]) > 0
    for row in pairs:
        wide = float(row["high"]) - float(row["low"])
        assert float(row["mde"]) == pytest.approx(wide * 2.8 / 3.92, rel=0.35, abs=1e-9)


def test_families_of_tests_are_the_benchmarks_and_the_subsets_of_one(two_seeds: Any) -> None:
    _, paths, _, pairs = two_seeds
    found = pick(pairs, name="rft - base @1, m")
    assert [(row["benchmark"], row["subset"]) for row in found] == [
        ("toy_pairs", "all"), ("toy_best_of_4", "all"), ("toy_single", "all"),
        ("toy_pairs", "hard"), ("toy_pairs", "easy"),
    ]  # fmt: skip
    measured = curves.measure(CFG.scaling, 0, **paths).measured
    pair = next(pair for pair in comparisons.pairs(measured) if pair.name == "rft - base @1, m")
    for family in (found[:3], found[3:]):
        groups = [Group(row["benchmark"], row["subset"]) for row in family]
        gaps = [measured.difference(pair.a, pair.b, group) for group in groups]
        adjusted = holm([gap.p for gap in gaps if gap is not None])
        assert [float(row["p_holm"]) for row in family] == pytest.approx(adjusted, rel=1e-4)


def test_comparisons_without_k_1(two_seeds: Any, tmp_path: Path) -> None:
    """Greedy decoding counts as one sample, but is no vote: it must not set the fewest votes."""
    _, paths, _, _ = two_seeds
    measured = curves.measure(replace(CFG.scaling, ks=[2, 8]), 0, **paths).measured
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
    measured = curves.measure(CFG.scaling, 0, **paths).measured
    found = {pair.name: pair for pair in comparisons.pairs(measured)}
    pair = found["base + meta - grpo @8, m"]
    assert (str(pair.a), str(pair.b)) == ("base/m meta_voting@8", "grpo/m voting@8")
    assert "@4 - @1, base/l" in found and "grpo + meta - grpo @8, m" not in found


def test_a_bank_whose_samples_repeat_is_refused(tmp_path: Path) -> None:
    paths = make_run(tmp_path)
    for path in paths["banks"][:2]:  # both shards
        rows = [replace(row, text=row.item_id) for row in read_bank(path)]
        write_bank(path, rows, **{k: read_manifest(path)[k] for k in ("seed", "policy", "size")})
    with pytest.raises(BankError, match=r"base/m, seed 0 .*its k samples are not k samples"):
        measure(tmp_path, paths)


def test_same_bytes_again_in_any_order_of_banks(two_seeds: Any, tmp_path: Path) -> None:
    root, paths, _, _ = two_seeds
    measure(tmp_path, {"items": paths["items"][::-1], "banks": paths["banks"][::-1]})
    for name in ("curves.csv", "comparisons.csv", "surface.csv"):
        assert (tmp_path / name).read_bytes() == (root / name).read_bytes()


def one_bank(root: Path, change: Any) -> dict[str, Any]:
    items = make_items(0, each=3)
    write_items(root / "bench.parquet", items, seed=0)
    rows = change(make_bank(items, 1.0))
    bank = root / "bank.parquet"
    write_bank(bank, rows, seed=0, policy="base", size="m", params=1)
    return {"items": [root / "bench.parquet"], "banks": [bank]}


GOOD: dict[str, Any] = {"outcome": "ok", "scores": [1, 2], "correct": True}


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
            lambda rows: [rows[0], replace(rows[1], **GOOD, meta_score=1.0), *rows[2:]],
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
