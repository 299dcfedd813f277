"""official.csv: each benchmark's own numbers, against loops over all k-subsets of the samples."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spct.baselines import rows as tables
from spct.benchmarks import RULES
from spct.benchmarks.rule import Averages, Term
from spct.errors import BankError
from spct.judge.predicate import correct
from spct.records import Item, Label, Sample, write_bank, write_items
from spct.scaling import blind, curves
from spct.scaling.official import COLUMNS
from spct.scaling.table import read_rows
from spct.schema import ScalingConfig

N = 4
CFG: Any = SimpleNamespace(
    scaling=ScalingConfig(
        ks=[1, 2, 4],
        k_meta_share=0.5,
        subsets=50,
        bootstrap=200,
        level=0.95,
        invalid="drop",
        adaptive=[0.9],
        max_repeats=1.0,
    )
)
GPT = "gpt-4o-2024-05-13"
SETS = ("answerability_classification/gpt-4-0613", "math_word_problem_generation/gpt-4-0613")


def item(dataset: str, i: int, label: Label, n: int = 2, subset: str = "all", **meta: Any) -> Item:
    query = ({"role": "user", "content": f"{dataset} {i // 2}"},)
    texts = tuple(f"{'x' * (1 + (i * 7 + j * 3) % 5)}{j}" for j in range(n))
    return Item(f"{dataset}/{i}", dataset, subset, subset, query, texts, label, meta=meta)


def make_items() -> list[Item]:
    found = [item("toy_pairs", i, Label("best", i % 2)) for i in range(4)]
    winners = [0, 1, None, 1, None, 0]
    found += [
        item("pandalm", i, Label("pair_tie", {"winner": w, "strength": 3}))
        for i, w in enumerate(winners)
    ]
    found += [
        item("judgebench_gpt", i, Label("best", i % 2), 2, "math", response_model=GPT)
        for i in range(6)
    ]
    found += [
        item("llmbar", i, Label("best", i % 2), 2, subset)
        for i, subset in enumerate(["natural"] * 3 + ["adversarial_manual"] * 2)
    ]
    found += [
        item("rmb", i, Label("best", 0), 3, kind="bon", goal="helpful", group=i, losers=2)
        for i in range(3)
    ]
    found += [
        item("realmistake", i, Label("correct", [i % 3 == 0]), 1, SETS[i % 2]) for i in range(12)
    ]
    return found


def order_of(item: Item, sample: int) -> list[int]:
    base = list(range(item.n))
    turn = (sample + len(item.id)) % item.n
    return base[turn:] + base[:turn]


def make_bank(items: list[Item], seed: int) -> list[Sample]:
    draw = np.random.default_rng(seed)
    rows = []
    for one in items:
        for j in range(-1, N):
            bad = j >= 0 and draw.random() < 0.1
            scores = None if bad else [int(s) for s in draw.integers(1, 5, one.n)]
            decided = one.n > 1 and not one.label.undecided
            right = correct(scores, one.label) if scores and decided else None
            meta = float(draw.normal()) if scores else None
            kind = "greedy" if j < 0 else "sample"
            rows.append(
                Sample(
                    one.id, kind, max(j, 0), 0, order_of(one, max(j, 0)), "m", "t", f"{one.id}{j}",
                    10, 5, None, "stop", "malformed" if bad else "ok", scores, right, meta,
                )
            )  # fmt: skip
    return rows


Run = tuple[dict[int, list[Item]], dict[int, list[Sample]], list[dict[str, Any]], Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return measured(tmp_path_factory.mktemp("run"), {0: make_items(), 1: make_items()})


def measured(
    root: Path, by_seed: dict[int, list[Item]], order: str = "balanced", answer: str = "scores"
) -> Run:
    benches, paths, banks = [], [], {}
    for seed, items in by_seed.items():
        bench, path = root / f"{seed}/bench.parquet", root / f"{seed}/0.parquet"
        write_items(bench, items, seed=seed)
        banks[seed] = make_bank(items, seed)
        told = {"single": "rating", "order": order, "score_min": 1, "score_max": 10}
        told |= {"answer": answer}
        about = {"policy": "grpo", "size": "m", "params": 9, "metarm_params": 9}
        about |= {"slice": {"judge": told}}
        write_bank(path, banks[seed], seed=seed, **about)
        benches.append(bench)
        paths.append(path)
    outs: dict[str, Any] = {
        f"out_{name}": root / f"{name}.csv" for name in ("comparisons", "surface", "official")
    }
    curves.run(CFG, 0, items=benches, banks=paths, run="t", out=root / "curves.csv", **outs)
    return by_seed, banks, read_rows(root / "official.csv"), root


def pick(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    (row,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return row


def sums(rows: list[Sample], n: int) -> list[int]:
    return [sum(row.scores[i] for row in rows if row.scores) for i in range(n)]


def kept(subset: tuple[Sample, ...], k: int, method: str) -> list[Sample]:
    """The samples of a k-subset that vote."""
    valid = [row for row in subset if row.scores]
    if method == "voting":
        return valid
    return sorted(valid, key=lambda row: (-(row.meta_score or 0), row.sample))[
        : max(1, (k + 1) // 2)
    ]


def games(rows: list[Sample], one: Item, k: int, method: str) -> tuple[float, float]:
    """P(win) and P(tie) of response 0's rival-free label over all k-subsets (pairs)."""
    winner = one.label.value["winner"] if one.label.kind == "pair_tie" else one.label.value
    ends = []
    for subset in combinations(rows, k):
        totals = sums(kept(subset, k, method), 2)
        ends.append((totals[winner or 0] - totals[1 - (winner or 0)], winner))
    win = np.mean([gap > 0 for gap, _ in ends])
    return float(win), float(np.mean([gap == 0 for gap, _ in ends]))


def samples_of(bank: list[Sample], one: Item) -> list[Sample]:
    return [row for row in bank if row.item_id == one.id and row.kind == "sample"]


def of(items: list[Item], dataset: str) -> list[Item]:
    return [one for one in items if one.dataset == dataset]


def even(rows: list[Sample]) -> list[tuple[Sample, ...]]:
    """Balanced orders are strata: 2-subsets with one sample of each."""
    return [pair for pair in combinations(rows, 2) if pair[0].order != pair[1].order]


def test_columns_and_who_has_rows(run: Run) -> None:
    rows = run[2]
    assert list(rows[0]) == COLUMNS
    assert {row["seed"] for row in rows} == {"0", "1", "all"}
    assert {row["benchmark"] for row in rows} == {
        *("pandalm", "judgebench_gpt", "llmbar", "rmb", "realmistake"),
    }
    assert {row["method"] for row in rows} == {"greedy", "voting", "meta_voting"}
    assert all("partial" in row["coverage"] for row in rows)
    assert not [row for row in rows if row["section"] == "overall"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)


@pytest.mark.parametrize("k", [2, 4])
def test_a_tie_is_right_where_people_tied(run: Run, k: int) -> None:
    items, bank = run[0][0], run[1][0]
    parts: dict[str, list[float]] = {"tied (partial)": [], "decided (partial)": []}
    for one in of(items, "pandalm"):
        mine = samples_of(bank, one)
        subsets = even(mine) if k == 2 else list(combinations(mine, 4))
        winner = one.label.value["winner"]
        gaps = [np.diff(sums(list(subset), 2))[0] for subset in subsets]
        if winner is None:
            parts["tied (partial)"].append(float(np.mean([gap == 0 for gap in gaps])))
        else:
            won = [gap > 0 if winner else gap < 0 for gap in gaps]
            parts["decided (partial)"].append(float(np.mean(won)))
    for section, values in parts.items():
        at = {"benchmark": "pandalm", "section": section, "seed": "0", "method": "voting", "k": k}
        row = pick(run[2], **at)
        assert row["value"] == pytest.approx(np.mean(values), abs=1e-5)
        assert row["items"] == len(values)


@pytest.mark.parametrize("method", ["voting", "meta_voting"])
@pytest.mark.parametrize("k", [2, 4])
def test_judgebench_plays_both_orders_with_half_the_samples(run: Run, method: str, k: int) -> None:
    items, bank = run[0][0], run[1][0]
    credits = []
    for one in of(items, "judgebench_gpt"):
        mine = samples_of(bank, one)
        sides = [[row for row in mine if row.order[0] == first] for first in (0, 1)]
        (a, ta), (b, tb) = (games(side, one, k // 2, method) for side in sides)
        credits.append(a * b + a * tb + ta * b)
    at = {"benchmark": "judgebench_gpt", "section": "math (partial)", "seed": "0", "k": k}
    row = pick(run[2], **at, method=method)
    assert row["value"] == pytest.approx(np.mean(credits), abs=1e-5)


def test_judgebench_has_no_odd_k_and_no_greedy(run: Run) -> None:
    found = {(row["method"], row["k"]) for row in of_benchmark(run[2], "judgebench_gpt")}
    assert found == set(product(("voting", "meta_voting"), (2, 4)))


def of_benchmark(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["benchmark"] == name]


def test_ties_earn_what_the_rule_gives_and_greedy_is_one_sample(run: Run) -> None:
    items, bank = run[0][1], run[1][1]
    greedy = {row.item_id: row.scores for row in bank if row.kind == "greedy"}
    won = []
    for one in of(items, "llmbar")[:3]:
        scores = greedy[one.id]
        assert scores is not None
        right, wrong = scores[one.label.value], scores[1 - one.label.value]
        won.append((right > wrong) + (right == wrong) / 2)
    assert 0.5 in won
    at = {"benchmark": "llmbar", "section": "natural (partial)", "seed": "1", "method": "greedy"}
    assert pick(run[2], **at)["value"] == pytest.approx(np.mean(won), abs=1e-5)


def test_ratings_are_ranked(run: Run) -> None:
    items, bank = run[0][0], run[1][0]
    total = {one.id: sums(samples_of(bank, one), 1)[0] for one in of(items, "realmistake")}
    good = [total[one.id] for one in of(items, "realmistake") if one.label.value[0]]
    bad = [total[one.id] for one in of(items, "realmistake") if not one.label.value[0]]
    expected = np.mean([(a > b) + (a == b) / 2 for a, b in product(good, bad)])
    at = {"benchmark": "realmistake", "section": "pooled (partial)", "seed": "0", "k": 4}
    row = pick(run[2], **at, method="voting")
    assert row["value"] == pytest.approx(expected, abs=1e-5)
    assert row["items"] == 12


def test_seeds_are_pooled_by_items(run: Run) -> None:
    at = {"benchmark": "rmb", "section": "helpful_bon (partial)", "method": "voting", "k": 2}
    one, two, both = (pick(run[2], seed=seed, **at) for seed in ("0", "1", "all"))
    assert both["value"] == pytest.approx((one["value"] + two["value"]) / 2, abs=1e-5)
    assert both["items"] == one["items"] + two["items"]


def test_toy_benchmarks_leave_the_header_alone(tmp_path: Path) -> None:
    measured(tmp_path, {0: of(make_items(), "toy_pairs")})
    assert (tmp_path / "official.csv").read_text().splitlines() == [",".join(COLUMNS)]


def test_random_orders_give_the_ks_that_every_item_has_twice(tmp_path: Path) -> None:
    """With three samples of one order and one of the other there is k = 2, and no k = 4."""
    items = [
        Item(f"j/{i}", "judgebench_gpt", "math", "math", ({"role": "user", "content": str(i)},),
             ("a", "bb"), Label("best", 0), meta={"response_model": GPT})
        for i in range(3)
    ]  # fmt: skip
    bench, path = tmp_path / "bench.parquet", tmp_path / "0.parquet"
    write_items(bench, items, seed=0)
    rows = make_bank(items, 0)
    for row in rows:
        row.order = [1, 0] if row.sample == 3 else [0, 1]
    write_bank(path, rows, seed=0, policy="base", size="m", params=9)
    outs: dict[str, Any] = {
        f"out_{name}": tmp_path / f"{name}.csv" for name in ("comparisons", "surface", "official")
    }
    curves.run(CFG, 0, items=[bench], banks=[path], run="t", out=tmp_path / "curves.csv", **outs)
    found = read_rows(tmp_path / "official.csv")
    assert {(row["method"], row["k"]) for row in found} == {("voting", 2), ("meta_voting", 2)}


def test_items_that_a_rule_cannot_take_are_named(tmp_path: Path) -> None:
    stray = [item("llmbar", i, Label("best", 0), 2, "natural") for i in range(2)]
    stray += [item("llmbar", 9, Label("best", 0), 2, "supernatural")]
    with pytest.raises(BankError, match="llmbar: .*'supernatural'"):
        measured(tmp_path, {0: stray})


def test_curves_have_no_accuracy_for_what_people_tied(run: Run) -> None:
    rows = read_rows(run[3] / "curves.csv")
    found = [row for row in rows if row["benchmark"] == "pandalm" and row["seed"] == "0"]
    assert found and {row["items"] for row in found} == {4}


# ---- content-blind baselines -------------------------------------------------------------------


@pytest.fixture(scope="module")
def blinded(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[Item], list[dict[str, Any]], str]:
    root = tmp_path_factory.mktemp("blind")
    items = make_items()
    write_items(root / "bench.parquet", items, seed=0)
    page = root / "blind.md"
    blind.run(CFG, 0, items=[root / "bench.parquet"], out=root / "blind.csv", out_page=page)
    text = (root / "blind.csv").read_text().splitlines()
    header = text[0].split(",")
    assert header == blind.COLUMNS
    return items, list(blind_rows(root)), page.read_text(encoding="utf-8")


def blind_rows(root: Path) -> Any:
    import csv

    with (root / "blind.csv").open() as handle:
        for row in csv.DictReader(handle):
            yield {**row, "value": float(row["value"]), "items": int(row["items"])}


def test_blind_follows_the_rule(blinded: Any) -> None:
    items, rows, _ = blinded
    decided = [one for one in of(items, "pandalm") if not one.label.undecided]
    longest = []
    for one in decided:
        lengths = [len(text) for text in one.responses]
        winner = one.label.value["winner"]
        longest.append(lengths[winner] > lengths[1 - winner])
    at = {"benchmark": "pandalm", "name": "decided (partial)", "baseline": "longest"}
    assert pick(rows, **at)["value"] == pytest.approx(np.mean(longest), abs=1e-5)
    first = {"benchmark": "rmb", "name": "helpful_bon (partial)", "baseline": "first"}
    assert pick(rows, **first)["value"] == 1.0
    assert pick(rows, **{**first, "baseline": "last"})["value"] == 0.0


def test_blind_of_single_responses_ranks_lengths(blinded: Any) -> None:
    items, rows, _ = blinded
    lengths = {one.id: len(one.responses[0]) for one in of(items, "realmistake")}
    good = [lengths[one.id] for one in of(items, "realmistake") if one.label.value[0]]
    bad = [lengths[one.id] for one in of(items, "realmistake") if not one.label.value[0]]
    expected = np.mean([(a > b) + (a == b) / 2 for a, b in product(good, bad)])
    at = {"benchmark": "realmistake", "name": "pooled (partial)"}
    assert pick(rows, **at, baseline="longest")["value"] == pytest.approx(expected, abs=1e-5)
    assert pick(rows, **at, baseline="shortest")["value"] == pytest.approx(1 - expected, abs=1e-5)
    assert not [
        row for row in rows if row["benchmark"] == "realmistake" and row["baseline"] == "first"
    ]


def test_blind_of_a_toy_is_a_plain_mean_and_all_is_on_the_page(blinded: Any) -> None:
    _, rows, page = blinded
    toy = pick(rows, benchmark="toy_pairs", name="all", baseline="first")
    assert (toy["value"], toy["kind"], toy["coverage"]) == (0.5, "subset", blind.NO_RULE)
    for row in rows:
        assert f"## {row['benchmark']}\n" in page
        assert f"{100 * row['value']:.1f}" in page
    assert "xxxx" not in page, "no text of an item"


def test_rules_and_blind_agree_on_two_orders() -> None:
    """A choice that reads no order plays both games alike: its credit is that of one."""
    items = [
        item("judgebench_gpt", i, Label("best", 0), 2, "math", response_model=GPT) for i in range(3)
    ]
    win, tie = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    weights = np.ones((1, 3))
    found = RULES["judgebench_gpt"].judged(items, win, tie, weights)
    assert found["math (partial)"] == pytest.approx([1 / 3])


def test_scalar_models_have_the_official_numbers_of_benchmarks_they_score_whole(
    tmp_path: Path,
) -> None:
    """One is asked everything, the other refuses single responses and one item of llmbar."""
    items = make_items()
    write_items(tmp_path / "bench.parquet", items, seed=0)
    told = {"judge": {"single": "rating", "order": "balanced", "score_min": 1, "score_max": 10}}
    about = {"policy": "grpo", "size": "m", "params": 9, "slice": told, "seed": 0}
    write_bank(tmp_path / "0.parquet", make_bank(items, 0), **about)
    signal = {one.id: [float((i * 7 + j * 3) % 4) for j in range(one.n)]
              for i, one in enumerate(items)}  # fmt: skip
    paths = []
    for name in ("btrm", "pairrm"):
        refuses = {one.id for one in items if one.n == 1} | {of(items, "llmbar")[0].id}
        found = [
            tables.Scored(one.id, None, "why")
            if name == "pairrm" and one.id in refuses
            else tables.Scored(one.id, signal[one.id])
            for one in items
        ]
        paths.append(tmp_path / f"{name}.parquet")
        tables.write(paths[-1], found, seed=0, policy=name, size="m", params=9)
    outs: dict[str, Any] = {
        f"out_{name}": tmp_path / f"{name}.csv" for name in ("comparisons", "surface", "official")
    }
    curves.run(
        CFG, 0, items=[tmp_path / "bench.parquet"], banks=[tmp_path / "0.parquet"], scores=paths,
        run="t", out=tmp_path / "curves.csv", **outs,
    )  # fmt: skip
    rows = [row for row in read_rows(tmp_path / "official.csv") if row["method"] == "scalar"]
    assert {row["benchmark"] for row in rows if row["policy"] == "btrm"} == {
        "pandalm", "llmbar", "rmb", "realmistake", "judgebench_gpt",
    }  # fmt: skip
    assert {row["benchmark"] for row in rows if row["policy"] == "pairrm"} == {
        "pandalm", "rmb", "judgebench_gpt",
    }  # fmt: skip
    single = []
    for one in of(items, "judgebench_gpt"):
        first, second = signal[one.id]
        single.append((one.label.value == 0) == (first > second))  # a tie is B's
    at = {"benchmark": "judgebench_gpt", "section": "math (partial)", "policy": "btrm"}
    assert pick(rows, **at)["value"] == pytest.approx(np.mean(single), abs=1e-5)
    good, bad = (
        [signal[one.id][0] for one in of(items, "realmistake") if one.label.value[0] is truth]
        for truth in (True, False)
    )
    expected = np.mean([(a > b) + (a == b) / 2 for a, b in product(good, bad)])
    at = {"benchmark": "realmistake", "section": "pooled (partial)", "policy": "btrm"}
    assert pick(rows, **at)["value"] == pytest.approx(expected, abs=1e-5)
    won = [signal[one.id][one.label.value] > signal[one.id][1 - one.label.value]
           for one in of(items, "llmbar")[:3]]  # fmt: skip
    assert all(len(set(signal[one.id])) == 2 for one in of(items, "llmbar")[:3])
    at = {"benchmark": "llmbar", "section": "natural (partial)"}
    assert pick(rows, **at)["value"] == pytest.approx(np.mean(won), abs=1e-5)


FOUR = {"rewardbench": 4, "ppe_preference": 2, "ppe_correctness": 3, "rmb": 5}


def four(monkeypatch: pytest.MonkeyPatch) -> list[Item]:
    """Items of the paper's four benchmarks, whole by rules that ask for as many."""
    found = []
    for name, count in FOUR.items():
        one = (Term(1.0, ("all",)),)
        rule = Averages(name, {"all": count}, {"all": one}, one, lambda _: "all", 0.5)
        monkeypatch.setitem(RULES, name, rule)
        found += [item(name, i, Label("best", i % 2)) for i in range(count)]
    return found


def test_the_papers_overall_is_the_mean_of_four(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items = four(monkeypatch)
    rows = measured(tmp_path, {0: items, 1: items})[2]
    mine = [row for row in rows if row["benchmark"] == "paper"]
    assert {row["seed"] for row in mine} == {"0", "1", "all"}
    assert {row["method"] for row in mine} == {"greedy", "voting", "meta_voting"}
    for row in mine:
        same = [
            other["value"]
            for other in rows
            if other["benchmark"] in FOUR
            and all(other[name] == row[name] for name in ("seed", "section", "method", "k"))
        ]
        assert row["section"] == "overall" and len(same) == 4
        assert row["value"] == pytest.approx(np.mean(same), abs=1e-4)
        assert row["low"] < row["value"] < row["high"]
        assert row["items"] == sum(FOUR.values()) * (2 if row["seed"] == "all" else 1)


def test_a_part_of_the_four_has_no_overall(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    items = four(monkeypatch)
    rows = measured(tmp_path, {0: items, 1: items[:-1]})[2]
    assert {row["seed"] for row in rows if row["benchmark"] == "paper"} == {"0"}
    none = measured(tmp_path / "none", {0: items[:-1]})[2]
    assert not [row for row in none if row["benchmark"] == "paper"]
