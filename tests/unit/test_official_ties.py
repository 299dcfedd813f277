"""Ties in official.csv: what each kind of judge earns for one, and which items a section rests on.

Upstream's own numbers are the yardstick where it has released any: the ratings of LLMBar's
evaluators are in ``llmbar_ratings.json``, with their source and licence.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_official import CFG, N, item, kept, measured, of, pick, samples_of, sums

from spct.baselines import rows as tables
from spct.benchmarks import RULES
from spct.benchmarks.rule import OVERALL, Answer, single_cells
from spct.records import Item, Label, Sample, write_bank, write_items
from spct.report.tables import accuracy_tables
from spct.scaling import blind, curves
from spct.scaling.banks import read_benches
from spct.scaling.measure import Group, Measured
from spct.scaling.sections import Ruled, distinct_prompts
from spct.scaling.table import read_rows

RATINGS = json.loads(Path(__file__).with_name("llmbar_ratings.json").read_text(encoding="utf-8"))
Rows = list[dict[str, Any]]


# ---- lists, and the paper's own ties -----------------------------------------------------------


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> list[Item]:
    """The paper's four benchmarks at a handful of items, with their own ties: RMB's are lists."""
    cells = {"rewardbench": "math-prm", "ppe_preference": "human_preference"}
    cells |= {"ppe_correctness": "math", "rmb": "helpful_bon"}
    sizes = {"rewardbench": 4, "ppe_preference": 3, "ppe_correctness": 3, "rmb": 9}
    found = []
    for name, cell in cells.items():
        one = single_cells({cell: 1})
        small = replace(RULES[name], official={cell: sizes[name]}, parts={cell: one}, overall=one)
        monkeypatch.setitem(RULES, name, small)
        for i in range(sizes[name]):
            about: dict[str, Any] = {"winner": "model_a", "question_id": i, "pairs": 1}
            about |= {"goal": "helpful", "kind": "bon", "group": i, "losers": 2}
            n = 3 if name == "rmb" else 2
            found.append(item(name, i, Label("best", i % n), n, cell, **about))
    return found


def votes(
    items: list[Item], bank: list[Sample], k: int, method: str, credit: Callable[..., float]
) -> float:
    """Mean over items and all k-subsets of their samples of ``credit(totals, best)``."""
    found = []
    for one in items:
        subsets = combinations(samples_of(bank, one), k)
        totals = [sums(kept(subset, k, method), one.n) for subset in subsets]
        found.append(np.mean([credit(total, one.label.value) for total in totals]))
    return float(np.mean(found))


def strict(totals: list[int], best: int) -> float:
    return float(totals.count(max(totals)) == 1 and totals[best] == max(totals))


def shared(totals: list[int], best: int) -> float:
    return (totals[best] == max(totals)) / totals.count(max(totals))


@pytest.mark.parametrize("method", ["voting", "meta_voting"])
def test_a_list_that_ties_is_lost_by_rmb_and_shared_by_the_paper(
    four: list[Item], tmp_path: Path, method: str
) -> None:
    _, banks, rows, _ = measured(tmp_path, {0: four}, order="random")
    for k in CFG.scaling.ks:
        lists = of(four, "rmb")
        own = votes(lists, banks[0], k, method, strict)
        fair = votes(lists, banks[0], k, method, shared)
        at = {"method": method, "k": k, "section": OVERALL}
        assert pick(rows, benchmark="rmb", **at)["value"] == pytest.approx(own, abs=1e-5)
        if (k, method) != (N, "voting"):
            assert own < fair - 0.01
        means = [
            votes(of(four, name), banks[0], k, method, shared)
            for name in ("rewardbench", "ppe_preference", "ppe_correctness", "rmb")
        ]
        found = pick(rows, benchmark="paper", **at)["value"]
        assert found == pytest.approx(np.mean(means), abs=1e-5)


def test_the_papers_ties_hold_for_reward_models_too(four: list[Item], tmp_path: Path) -> None:
    """A model that ties everything: nothing by RewardBench and RMB, chance by the paper."""
    write_items(tmp_path / "bench.parquet", four, seed=0)
    flat = [tables.Scored(one.id, [0.5] * one.n) for one in four]
    tables.write(tmp_path / "s.parquet", flat, seed=0, policy="btrm", size="m", params=9)
    rows = official(tmp_path, scores=[tmp_path / "s.parquet"])
    overall = {row["benchmark"]: row["value"] for row in rows if row["section"] == OVERALL}
    assert overall == pytest.approx(
        {"rewardbench": 0, "rmb": 0, "ppe_preference": 0.5, "ppe_correctness": 0.5}
        | {"paper": (3 * 0.5 + 1 / 3) / 4},
        abs=1e-6,
    )


# ---- what LLMBar has released ------------------------------------------------------------------


def ratings(evaluator: str) -> tuple[list[Item], dict[str, list[int] | None], dict[str, float]]:
    """An evaluator's items, its ratings of each (None: unreadable) and upstream's accuracies."""
    items, found, told = [], {}, {}
    for part in RATINGS["ratings"]:
        if part["evaluator"] != evaluator:
            continue
        subset, told[part["subset"]] = part["subset"], part["correct_average"] / 100
        columns = (RATINGS["right"][subset], part["output_1"], part["output_2"])
        for i, (right, *scores) in enumerate(zip(*map(str.split, columns), strict=True)):
            one = item("llmbar", i, Label("best", int(right) - 1), 2, subset)
            items.append(replace(one, id=f"llmbar/{subset}/{i}"))
            found[items[-1].id] = None if "-" in scores else [int(score) for score in scores]
    return items, found, told


EVALUATORS = sorted({part["evaluator"] for part in RATINGS["ratings"]})


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_the_rule_gives_the_accuracies_that_llmbar_has_released(evaluator: str) -> None:
    items, scores, told = ratings(evaluator)
    gaps = [found[one.label.value] - found[1 - one.label.value] if found else 0
            for one in items for found in [scores[one.id]]]  # fmt: skip
    win, tie = np.greater(gaps, 0).astype(float), np.equal(gaps, 0).astype(float)
    found = RULES["llmbar"].judged(items, win, tie, np.ones((1, len(items))))
    assert {name: float(found[name][0]) for name in told} == pytest.approx(told, abs=1e-12)
    assert float(found[OVERALL][0]) == pytest.approx(np.mean(list(told.values())))
    assert len(EVALUATORS) == 7 and len(told) == 5


def test_a_judge_that_rates_has_llmbars_number_in_official_csv(tmp_path: Path) -> None:
    """GPT-4/Rating: 83.04, not the 74.70 of ties that earn nothing."""
    items, scores, _ = ratings("GPT-4/Rating")
    write_items(tmp_path / "bench.parquet", items, seed=0)
    rows = [
        Sample(
            one.id, "sample", 0, 0, [0, 1], "m", "t", one.id, 10, 5, None, "stop",
            "ok" if scores[one.id] else "malformed", scores[one.id],
            strict(scores[one.id], one.label.value) == 1 if scores[one.id] else None, None,
        )
        for one in items
    ]  # fmt: skip
    values = {}
    answers: tuple[Answer, ...] = ("scores", "index")
    for answer in answers:
        bank = tmp_path / f"{answer}.parquet"
        write_bank(bank, rows, seed=0, policy=answer, size="m", slice={"judge": {"answer": answer}})
        (row,) = [
            row
            for row in official(tmp_path, banks=[bank])
            if row["section"] == OVERALL and row["method"] == "voting"
        ]
        values[answer] = row["value"]
    assert values == pytest.approx({"scores": 0.830396, "index": 0.747043}, abs=1e-6)


# ---- which items a section rests on ------------------------------------------------------------


def official(root: Path, banks: list[Path] | None = None, scores: list[Path] | None = None) -> Rows:
    """Rows of official.csv, from the bench in a folder."""
    outs: dict[str, Any] = {
        f"out_{name}": root / f"{name}.csv" for name in ("comparisons", "surface", "official")
    }
    curves.run(
        CFG, 0, items=[root / "bench.parquet"], banks=banks or [], scores=scores or [],
        run="t", out=root / "curves.csv", **outs,
    )  # fmt: skip
    return read_rows(root / "official.csv")


def tied(name: str, winners: list[int | None], **meta: Any) -> list[Item]:
    """Pairs of prompts of their own; None: people called it a tie."""
    return [
        replace(
            item(name, 2 * i, Label("pair_tie", {"winner": winner, "strength": None}), **meta),
            subset="human_preference",
            meta={"winner": "tie" if winner is None else f"model_{'ab'[winner]}"},
        )
        for i, winner in enumerate(winners)
    ]


def test_a_section_of_one_prompt_has_no_interval_however_many_the_others_have(
    tmp_path: Path,
) -> None:
    items = [item("llmbar", 2 * i, Label("best", i % 2), 2, "natural") for i in range(6)]
    items += [item("llmbar", 20 + i, Label("best", i), 2, "adversarial_manual") for i in range(2)]
    rows = measured(tmp_path, {0: items, 1: items})[2]
    for seed in ("0", "all"):
        at = {"seed": seed, "method": "voting", "k": 1}
        one = pick(rows, section="adversarial_manual (partial)", **at)
        assert one["items"] == (2 if seed == "0" else 4) and math.isnan(one["low"])
        assert pick(rows, section="natural (partial)", **at)["low"] >= 0
    paths = [tmp_path / f"{seed}/bench.parquet" for seed in (0, 1)]
    both = Measured(CFG.scaling, 0, read_benches(paths))
    benches = [Ruled(both, Group("llmbar", "all"), seed) for seed in (0, 1)]
    for section, prompts in {"natural": 6, "adversarial_manual (partial)": 1, OVERALL: 7}.items():
        assert distinct_prompts(benches, section) == prompts


def test_battles_without_a_winner_widen_no_interval_and_are_told(tmp_path: Path) -> None:
    rows = measured(tmp_path, {0: tied("ppe_preference", [1, None, None, None])})[2]
    for row in rows:
        assert row["items"] == 1 and math.isnan(row["low"])
        assert row["coverage"].endswith("; 3 of 4 left out: people called it a tie")


def test_ties_of_a_set_without_a_rule_are_counted_and_said(tmp_path: Path) -> None:
    items = tied("auto_j", [0, None, 1, None, 0, 1, None, 0])
    measured(tmp_path, {0: items})
    rows = [row for row in read_rows(tmp_path / "curves.csv") if row["benchmark"] == "auto_j"]
    assert rows and {row["items"] for row in rows} == {5}
    assert {row["note"] for row in rows} == {"3 of 8: people called it a tie"}
    (table,) = accuracy_tables(rows)
    assert table["note"] == "3 of 8: people called it a tie"
    page, out = tmp_path / "blind.md", tmp_path / "blind.csv"
    blind.run(CFG, 0, items=[tmp_path / "0/bench.parquet"], out=out, out_page=page)
    with out.open(encoding="utf-8", newline="") as handle:
        told = {row["coverage"] for row in csv.DictReader(handle)}
    assert told == {"no rule; left out are 3 of 8: people called it a tie"}
    assert "no rule; left out are 3 of 8: people called it a tie." in page.read_text("utf-8")


def test_only_models_that_know_no_order_play_judgebenchs_single_game(tmp_path: Path) -> None:
    gpt = {"response_model": "gpt-4o-2024-05-13"}
    items = [item("judgebench_gpt", i, Label("best", i % 2), 2, "math", **gpt) for i in range(4)]
    write_items(tmp_path / "bench.parquet", items, seed=0)
    paths = []
    for method in tables.METHODS:
        samples = 1 if method == tables.SCALAR else 2
        found = [
            tables.Scored(one.id, [0.5, 0.5], sample=sample)
            for one in items
            for sample in range(samples)
        ]
        paths.append(tmp_path / f"{method}.parquet")
        tables.write(paths[-1], found, method=method, seed=0, policy=method, size="m", params=9)
    rows = official(tmp_path, scores=paths)
    assert {(row["method"], row["k"]) for row in rows} == {
        (tables.SCALAR, 1), (tables.MEAN_SCALAR, 1), (tables.MEAN_SCALAR, 2),
    }  # fmt: skip
    assert {row["value"] for row in rows} == {0.5}  # B is right in half of the pairs
