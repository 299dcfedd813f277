"""From items and banks on disk to health.csv, and from there to a page a judge."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spct.artifact import content_hash, file_hash
from spct.errors import BankError
from spct.health import build
from spct.judge.predicate import correct
from spct.records import Item, Label, Sample, write_bank, write_items
from spct.report.health import pages
from spct.report.health_rows import Book
from spct.schema import ScalingConfig

CFG: Any = SimpleNamespace(
    scaling=ScalingConfig([1, 2, 4], 0.5, 20, 60, 0.9, "drop", [], 0.02),
    health=SimpleNamespace(bins=5),
)
KINDS = {"pairs": 2, "lists": 3, "alone": 1}


def make_items(seed: int, each: int) -> list[Item]:
    draw = np.random.default_rng(seed)
    return [
        Item(
            id=f"{name}-{seed}-{i}",
            dataset=name,
            subset="all",
            domain=name,
            messages=({"role": "user", "content": f"{seed} {i}"},),
            responses=tuple("x" * int(draw.integers(1, 30)) for _ in range(n)),
            label=Label("correct", [bool(i % 2)]) if n == 1 else Label("best", i % n),
        )
        for name, n in KINDS.items()
        for i in range(each)
    ]


def make_rows(items: list[Item], skill: float, n: int = 8) -> list[Sample]:
    draw, rows = np.random.default_rng(7), []
    for item in items:
        for j in range(-1, n):
            order = [int(i) for i in draw.permutation(item.n)]
            if item.n == 1:
                truth = int(item.label.value[0])
                given = [truth if draw.random() < skill else 1 - truth]
            else:
                lean = [3 * skill * (i == item.label.value) for i in range(item.n)]
                given = [int(np.clip(round(4 + x + draw.normal()), 1, 10)) for x in lean]
            bad = draw.random() < 0.05
            rows.append(
                Sample(
                    item_id=item.id,
                    kind="greedy" if j < 0 else "sample",
                    sample=max(j, 0),
                    seed=0,
                    order=order,
                    model="m",
                    template="t",
                    text=f"{item.id} {j}",
                    prompt_tokens=100,
                    completion_tokens=20,
                    logprob=-30.0,
                    finish="stop",
                    outcome="malformed" if bad else "ok",
                    scores=None if bad else given,
                    correct=None if bad else correct(given, item.label),
                )
            )
    return rows


def make_run(root: Path, seeds: int = 2, each: int = 24) -> dict[str, list[Path]]:
    paths: dict[str, list[Path]] = {"items": [], "banks": []}
    for seed in range(seeds):
        items = make_items(seed, each)
        paths["items"].append(root / f"seed{seed}/bench.parquet")
        write_items(paths["items"][-1], items, seed=seed)
        for policy, skill in (("grpo", 0.9), ("base", 0.5)):
            rows = make_rows(items, skill)
            for shard, part in enumerate((rows[:99], rows[99:])):
                path = root / f"seed{seed}/{policy}-{shard}.parquet"
                manifest = {"seed": seed, "policy": policy, "size": "m", "params": 10}
                write_bank(path, part, **manifest)
                paths["banks"].append(path)
    return paths


def table(path: Path) -> list[dict[str, Any]]:
    """Rows with numbers as numbers; an empty k is NaN."""
    with path.open(newline="") as handle:
        rows: list[dict[str, Any]] = list(csv.DictReader(handle))
    for row in rows:
        for name in ("k", "value", "low", "high", "count"):
            assert row[name] != "nan"
            row[name] = float(row[name] or "nan")
        row["count"] = int(row["count"])
    return rows


def pick(rows: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Path]]]:
    root = tmp_path_factory.mktemp("health")
    paths = make_run(root)
    build.run(CFG, 0, **paths, run="t", out=root / "health.csv")
    return root, paths


def test_every_group_of_every_judge_and_seed(built: Any) -> None:
    root, _ = built
    rows = table(root / "health.csv")
    assert list(rows[0]) == [
        "run", "seed", "policy", "size", "benchmark", "group", "name", "k",
        "value", "low", "high", "count",
    ]  # fmt: skip
    assert file_hash(root / "health.csv") == content_hash(root / "health.csv")
    assert [*dict.fromkeys(row["policy"] for row in rows)] == ["base", "grpo"]
    expected = {
        "pairs": {"outcome", "tie", "score", "repeats", "position", "plan", "length",
                  "calibration"},
        "lists": {"outcome", "tie", "score", "repeats", "position", "length", "calibration"},
        "alone": {"outcome", "score", "repeats", "calibration"},
    }  # fmt: skip
    for name, groups in expected.items():
        for seed in ("0", "1", "all"):
            here = pick(rows, policy="grpo", benchmark=name, seed=seed)
            assert {row["group"] for row in here} == groups
            keys = [(row["group"], row["name"], row["k"]) for row in here if row["k"] == row["k"]]
            assert len(set(keys)) == len(keys)
    biased = ("ece", "slope")  # above their value in every draw, or fitted to few draws
    for row in rows:
        if row["low"] == row["low"] and row["name"] not in biased:
            assert row["low"] - 1e-6 <= row["value"] <= row["high"] + 1e-6, row
    assert any(row["low"] != row["low"] for row in rows)  # what rests on a single prompt


def test_seeds_together_are_their_items_together(built: Any) -> None:
    root, _ = built
    rows = table(root / "health.csv")
    where = {"policy": "base", "benchmark": "pairs", "group": "outcome", "name": "malformed"}
    one, two, whole = (pick(rows, seed=seed, **where)[0] for seed in ("0", "1", "all"))
    assert whole["count"] == one["count"] + two["count"] == 2 * 24 * 8
    assert whole["value"] == pytest.approx((one["value"] + two["value"]) / 2, abs=1e-6)
    right = [
        pick(rows, seed="all", policy=p, benchmark="pairs", name="random", k=4.0)[0]["value"]
        for p in ("base", "grpo")
    ]
    assert right[0] < right[1]


def test_same_bytes_in_any_order_of_files(built: Any, tmp_path: Path) -> None:
    root, paths = built
    back = {name: files[::-1] for name, files in paths.items()}
    build.run(CFG, 0, **back, run="t", out=tmp_path / "health.csv")
    assert (tmp_path / "health.csv").read_bytes() == (root / "health.csv").read_bytes()


def test_one_seed_has_no_row_of_all(tmp_path: Path) -> None:
    build.run(CFG, 0, **make_run(tmp_path, seeds=1, each=4), run="t", out=tmp_path / "h.csv")
    rows = table(tmp_path / "h.csv")
    assert {row["seed"] for row in rows} == {"0"}
    (page, _) = pages(rows, tmp_path)
    assert "1 seed (0)" in page.read_text()


def test_what_does_not_fit_is_refused(built: Any, tmp_path: Path) -> None:
    _, paths = built
    with pytest.raises(BankError, match="both are of seed 0"):
        twice = [paths["items"][0]] * 2
        build.run(CFG, 0, items=twice, banks=paths["banks"], run="t", out=tmp_path / "h.csv")
    items = make_items(0, 8)
    rows = make_rows(items, 0.9)
    for row in rows:
        row.text = row.item_id
    write_items(tmp_path / "items.parquet", items, seed=0)
    write_bank(tmp_path / "bank.parquet", rows, seed=0, policy="base", size="m")
    again = {"items": [tmp_path / "items.parquet"], "banks": [tmp_path / "bank.parquet"]}
    with pytest.raises(BankError, match=r"base/m.*bank\.parquet.*equal texts.*max_repeats = 0\.02"):
        build.run(CFG, 0, **again, run="t", out=tmp_path / "h.csv")
    assert not (tmp_path / "h.csv").exists()


def test_the_range_of_scores_is_the_bank_s_own(tmp_path: Path) -> None:
    paths = make_run(tmp_path, seeds=1, each=4)
    items = make_items(0, 4)
    settings = {"judge": {"score_min": 0, "score_max": 12, "order": "fixed", "single": "verdict"}}
    path = tmp_path / "own.parquet"
    write_bank(path, make_rows(items, 0.9), seed=0, policy="rft", size="m", slice=settings)
    build.run(CFG, 0, items=paths["items"], banks=[path], run="t", out=tmp_path / "h.csv")
    rows = pick(table(tmp_path / "h.csv"), benchmark="pairs")
    names = [row["name"] for row in pick(rows, group="score") if row["name"].startswith("best")]
    assert names == [f"best:{value}" for value in range(13)]
    assert {row["name"].split(":")[0] for row in pick(rows, group="plan")} == {"fixed"}


def test_pairs_and_lists_in_one_benchmark(tmp_path: Path) -> None:
    """Padded arrays: what is said of pairs is what they say alone."""
    items = [item for item in make_items(0, 20) if item.n > 1]
    found = []
    for name, dataset in (("apart", None), ("mixed", "mixed")):
        paths = [tmp_path / f"{name}-{kind}.parquet" for kind in ("items", "bank")]
        own = [replace(item, dataset=dataset or item.dataset) for item in items]
        write_items(paths[0], own, seed=0)
        write_bank(paths[1], make_rows(own, 0.9), seed=0, policy="base", size="m")
        build.run(CFG, 0, items=paths[:1], banks=paths[1:], run="t", out=tmp_path / f"{name}.csv")
        rows = pick(table(tmp_path / f"{name}.csv"), benchmark=dataset or "pairs")
        about = ("bias", "consistency", "fixed", "random", "balanced", "balanced - fixed")
        kept = [row for row in rows if row["name"] in about]
        found.append([(row["name"], row["k"], row["value"], row["count"]) for row in kept])
    assert found[0] == found[1] and len(found[0]) >= 8


# ---- pages ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(built: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    root, _ = built
    folder = tmp_path_factory.mktemp("pages")
    written = pages(table(root / "health.csv"), folder, level=0.9)
    assert [path.name for path in written] == ["health-base-m.html", "health-grpo-m.html"]
    return written[1].read_text()


def test_a_page_holds_every_section(page: str) -> None:
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == [
        "At a glance", "Outcomes", "Use of the scale", "Position", "What an order plan buys",
        "Repeats", "Length", "Calibration of the vote",
    ]  # fmt: skip
    for text in ("Judge health: GRPO m", "2 seeds (0, 1)", "90 % intervals", "pairs", "Bad:"):
        assert text in page, text
    assert page.count("<svg") == 6 and page.count('<p class="bad">') == 7
    assert "src=" not in page
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    assert "None" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)


def test_numbers_on_the_page_are_those_of_the_table(built: Any, page: str) -> None:
    rows = pick(table(built[0] / "health.csv"), policy="grpo", seed="all", benchmark="pairs")
    bias = pick(rows, name="bias", k=1.0)[0]
    cell = f"{100 * bias['value']:+.1f} <small>{100 * bias['low']:+.1f} … {100 * bias['high']:+.1f}"
    assert cell.replace("-0.0", "+0.0") in page
    brier = pick(rows, name="brier")[0]
    assert f"{brier['value']:.3f} <small>" in page


def test_same_rows_give_the_same_page(built: Any, page: str, tmp_path: Path) -> None:
    (_, again) = pages(table(built[0] / "health.csv"), tmp_path, level=0.9)
    assert again.read_text() == page


def test_names_are_escaped(built: Any, tmp_path: Path) -> None:
    rows = pick(table(built[0] / "health.csv"), policy="base")
    for row in rows:
        row.update(run="<b>run</b>", benchmark=row["benchmark"].replace("pairs", "<i>pairs</i>"))
    (path,) = pages(rows, tmp_path)
    text = path.read_text()
    assert "<b>run</b>" not in text and "&lt;b&gt;run" in text
    assert "<i>pairs</i>" not in text and "&lt;i&gt;pairs" in text


def test_what_rests_on_one_prompt_has_no_interval(tmp_path: Path) -> None:
    paths = make_run(tmp_path, seeds=1, each=1)
    build.run(CFG, 0, **paths, run="t", out=tmp_path / "h.csv")
    for path in pages(table(tmp_path / "h.csv"), tmp_path):
        text = re.sub(r"<svg.*?</svg>", "", path.read_text(), flags=re.DOTALL)
        assert "nan" not in text and '<td title="1 counted">' in text


def test_one_sample_an_item(tmp_path: Path) -> None:
    items = make_items(0, 12)
    write_items(tmp_path / "items.parquet", items, seed=0)
    bank = tmp_path / "bank.parquet"
    write_bank(bank, make_rows(items, 0.9, n=1), seed=0, policy="base", size="m")
    build.run(
        CFG, 0, items=[tmp_path / "items.parquet"], banks=[bank], run="t", out=tmp_path / "h.csv"
    )
    rows = table(tmp_path / "h.csv")
    assert not pick(rows, group="repeats") and not pick(rows, name="agreement:same")
    (path,) = pages(rows, tmp_path)
    assert "Repeats" not in path.read_text() and "Length" in path.read_text()


def test_a_judge_that_says_nothing_readable_has_a_page_too(tmp_path: Path) -> None:
    """A base before any training, on a day when all is malformed."""
    items = make_items(0, 12)
    write_items(tmp_path / "items.parquet", items, seed=0)
    mute = [
        replace(row, outcome="malformed", scores=None, correct=None)
        for row in make_rows(items, 0.9, n=4)
    ]
    bank = tmp_path / "bank.parquet"
    write_bank(bank, mute, seed=0, policy="base", size="m")
    build.run(
        CFG, 0, items=[tmp_path / "items.parquet"], banks=[bank], run="t", out=tmp_path / "h.csv"
    )
    rows = table(tmp_path / "h.csv")
    share = [row for row in rows if "malformed" in row["name"]]
    assert share and {row["value"] for row in share} == {1.0}, share
    assert not pick(rows, group="length", name="slope")
    (path,) = pages(rows, tmp_path)
    assert "malformed" in path.read_text()


def test_a_page_of_outcomes_alone(built: Any, tmp_path: Path) -> None:
    """A bank of ratings, say, has little to show; its page leaves out what it has not."""
    rows = pick(table(built[0] / "health.csv"), policy="base", group="outcome")
    (path,) = pages(rows, tmp_path)
    assert re.findall(r"<h2>(.*?)</h2>", path.read_text()) == ["At a glance", "Outcomes"]


def test_book() -> None:
    row = {"benchmark": "b", "group": "g", "count": 7.0}
    rows = [
        {**row, "seed": seed, "name": name, "k": k, "value": value}
        for seed, value in (("10", 1), ("9", 2), ("all", 3))
        for name, k in (("x", 4), ("x", 2.0), ("y:3", None), ("y:12", float("nan")), ("y:a", None))
    ]
    book = Book(rows)
    assert book.seeds == ["9", "10"] and book.benchmarks == book.with_rows("g") == ["b"]
    assert book.ks("b", "g", "x") == [2, 4] and book.last("b", "g", "x")["k"] == 4  # type: ignore[index]
    assert list(book.numbered("b", "g", "y")) == [3, 12]
    assert book.get("b", "g", "y:12")["value"] == 3  # type: ignore[index]
    assert book.last("b", "g", "z") is None and book.get("b", "g", "x", 3) is None
