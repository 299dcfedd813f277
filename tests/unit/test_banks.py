"""Items and banks as arrays: what stands where, in whatever batches the rows arrive."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bank_world import K_MAX, judged, make_items, own, write_first
from hypothesis import given, settings
from hypothesis import strategies as st

from spct import records
from spct.errors import BankError
from spct.judge.parse import Outcome
from spct.records import Item, Label, Sample, read_bank, write_bank, write_items
from spct.scaling.banks import Bank, Bench, bank_keys, read_banks, read_bench
from spct.scaling.grid import OUTCOMES, Grid, strata

ROOT = Path(__file__).parents[2]


def one(paths: list[Path], bench: Bench, **asked: Any) -> Bank:
    (bank,) = read_banks(paths, [bench], **asked)
    return bank


def of(root: Path, items: list[Item] | None = None) -> tuple[list[Path], Bench]:
    paths = judged(root, items)
    return paths, read_bench(root / "results/run/seed0/data/bench.parquet")


@pytest.mark.parametrize("batch", [1, 5, 65_536])
def test_every_row_stands_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(records, "BATCH_ROWS", batch)
    paths, bench = of(tmp_path, make_items(4))
    bank = one(paths[::-1], bench, texts=True)
    rows = list(read_bank(paths))
    assert bank.greedy is not None
    assert bank.samples.votes.valid.shape == (12, K_MAX) and bank.greedy.votes.valid.shape[1] == 1
    for row in rows:
        draws = bank.greedy if row.kind == "greedy" else bank.samples
        at = bench.index[row.item_id], row.sample
        n = len(row.order)
        assert OUTCOMES[draws.outcome[at]] == row.outcome
        assert draws.votes.valid[at] == (row.outcome == "ok")
        assert draws.shown[at].tolist() == row.order + [-1] * (4 - n)
        assert draws.logprob[at] == row.logprob
        assert (draws.prompt_tokens[at], draws.completion_tokens[at]) == (20, 9)
        assert draws.votes.correct is not None and draws.votes.correct[at] == bool(row.correct)
        wanted = [0.0] * 4
        if row.scores is not None:
            verdict = [1 - row.scores[0], row.scores[0]]
            wanted[: max(2, n)] = verdict if n == 1 else row.scores
        assert draws.votes.scores[at].tolist() == wanted
    assert bank.samples.text is not None
    texts = {bench.index[r.item_id] * K_MAX + r.sample: r.text for r in rows if r.kind == "sample"}
    codes = bank.samples.text.reshape(-1)
    for a in texts:
        for b in texts:
            assert (codes[a] == codes[b]) == (texts[a] == texts[b])


def test_what_is_not_asked_for_or_not_there(tmp_path: Path) -> None:
    paths, bench = of(tmp_path)
    bank = one(paths, bench)
    assert bank.samples.text is None and not bank.guided
    assert (bank.params, bank.metarm_params, bank.paths) == (10, None, tuple(paths))
    for path in paths:
        kept = [replace(r, logprob=None) for r in read_bank(path) if r.kind == "sample"]
        write_bank(path, kept, **own(path))
    bank = one(paths, bench)
    assert bank.greedy is None and np.isnan(bank.samples.logprob).all()


def test_labels_as_masks(tmp_path: Path) -> None:
    _, bench = of(tmp_path)
    assert bench.single.tolist() == [False, False, True] * 2
    assert bench.answers.sum(axis=1).tolist() == [2, 4, 2] * 2
    assert np.argwhere(bench.better).tolist() == [[0, 1], [1, 1], [2, 1], [3, 0], [4, 2], [5, 0]]
    assert (bench.worse == (bench.answers & ~bench.better)).all()
    assert len(set(bench.clusters)) == 6 and bench.no_votes().n == 0


def test_ratings_are_no_verdicts(tmp_path: Path) -> None:
    paths, bench = of(tmp_path)
    for path in paths:
        told = own(path)
        told["slice"]["judge"]["single"] = "rating"
        rows = [
            replace(r, scores=[9 - r.sample], correct=None, outcome="ok")
            if r.item_id.startswith("toy_single")
            else r
            for r in read_bank(path)
        ]
        write_bank(path, rows, **told)
    votes = one(paths, bench).samples.votes
    assert votes.rating is not None and votes.rating.tolist() == bench.single.tolist()
    assert not votes.single.any() and not votes.answers[bench.single].any()
    assert votes.scores[2].tolist() == [[9, 0, 0, 0], [8, 0, 0, 0], [7, 0, 0, 0]]
    assert votes.better[2, 1] and votes.better[5, 0]


@pytest.mark.parametrize("plan", ["random", "balanced", "fixed"])
def test_orders_are_strata_unless_random(tmp_path: Path, plan: str) -> None:
    paths, bench = of(tmp_path)
    for path in paths:
        told = own(path)
        told["slice"]["judge"]["order"] = plan
        rows = []
        for row in read_bank(path):
            turn = row.sample % len(row.order) if plan == "balanced" else 0
            base = list(range(len(row.order)))
            order = row.order if plan == "random" else base[turn:] + base[:turn]
            rows.append(replace(row, order=order))
        write_bank(path, rows, **told)
    stratum = one(paths, bench).samples.votes.stratum
    if plan != "balanced":
        assert stratum is None
        return
    assert stratum is not None
    assert [len(set(row)) for row in stratum.tolist()] == [2, 3, 1] * 2
    assert stratum[0, 0] == stratum[0, 2] != stratum[0, 1]


def test_principles_are_paid_once(tmp_path: Path) -> None:
    paths, bench = of(tmp_path)
    for path in paths:
        rows = [
            replace(r, principles="be kind", principle_tokens=7) if "pairs" in r.item_id else r
            for r in read_bank(path)
        ]
        write_bank(path, rows, **own(path))
    assert one(paths, bench).samples.principle_tokens.tolist() == [7, 0, 0, 7, 0, 0]


def test_banks_come_one_by_one_in_the_order_of_their_keys(tmp_path: Path) -> None:
    paths, bench = of(tmp_path)
    more = []
    for path in paths:
        for policy in ("rft", "grpo"):
            place = tmp_path / policy / path.name
            write_bank(place, list(read_bank(path)), **{**own(path), "policy": policy})
            more.append(place)
    found = read_banks([*more, *paths], [bench])
    assert next(found).key == (0, "base", "toy_m")
    assert [bank.key.policy for bank in found] == ["grpo", "rft"]
    assert [key.policy for key in bank_keys([*more, *paths])] == ["base", "grpo", "rft"]


def test_version_1_banks_are_read(tmp_path: Path) -> None:
    paths, bench = of(tmp_path)
    wanted = one(paths, bench).samples
    for path in paths:
        write_first(path, list(read_bank(path)), seed=0, policy="base", size="toy_m")
    found = one(paths, bench)
    np.testing.assert_array_equal(found.samples.votes.scores, wanted.votes.scores)
    assert found.samples.principle_tokens.tolist() == [0] * 6 and found.params is None


def test_misfits_are_named(tmp_path: Path) -> None:
    paths, bench = of(tmp_path)
    rows, told = list(read_bank(paths[1])), own(paths[1])

    def fails(message: str, changed: list[Sample], **manifest: Any) -> None:
        write_bank(paths[1], changed, **{**told, **manifest})
        with pytest.raises(BankError, match=message):
            list(read_banks(paths, [bench]))

    fails("has no sample 0", rows[1:])
    fails(
        r"item toy_pairs/00 repeats sample 0 \(of 3",
        [*rows, replace(rows[0], item_id="toy_pairs/00")],
    )
    fails("item who is not in", [*rows, replace(rows[0], item_id="who")])
    fails("sample numbers run from -1", [*rows, replace(rows[0], sample=-1)])
    fails("odd is no outcome", [replace(rows[0], outcome="odd"), *rows[1:]])
    fails("no items of seed 5", rows, seed=5)
    last = replace(rows[0], outcome="ok", scores=[1, 2, 3], correct=True)
    fails("has 3 scores for 2 responses", [last, *rows[1:]])


def test_items_that_cannot_be_judged(tmp_path: Path) -> None:
    path = tmp_path / "bench.parquet"
    pair, _, single = make_items(1)
    write_items(path, [replace(pair, label=Label("graded", [2, 2]))])
    with pytest.raises(BankError, match="item toy_pairs/00: no definite best"):
        read_bench(path)
    write_items(path, [replace(single, label=Label("best", 0))])
    with pytest.raises(BankError, match="one response cannot be judged by"):
        read_bench(path)
    write_items(path, [])
    with pytest.raises(BankError, match="holds no items"):
        read_bench(path)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_strata_number_the_orders_of_an_item(data: st.DataObject) -> None:
    places = st.permutations(range(3)).map(tuple)
    orders = data.draw(st.lists(st.lists(places, min_size=4, max_size=4), min_size=1, max_size=4))
    found = strata(np.array(orders, dtype=np.int8))
    if found is None:
        assert all(len(set(item)) == 1 for item in orders)
        return
    for item, numbers in zip(orders, found, strict=True):
        for a in range(4):
            for b in range(4):
                assert (item[a] == item[b]) == (numbers[a] == numbers[b])
        assert set(numbers.tolist()) == set(range(len(set(item))))


def test_a_wide_unreadable_row_leaves_its_neighbours_alone() -> None:
    """A row that is not ok may hold more scores than any item has responses."""
    grid = Grid(2, 1, 2, texts=False)
    row = Sample(
        "a", "sample", 0, 1, [1, 0], "m", "t", "", 1, 1, None, "stop", Outcome.ok, [3, 4], True
    )
    wide = replace(row, item_id="b", outcome=Outcome.wrong_count, scores=[7, 8, 9], correct=None)
    table = pa.Table.from_pylist([vars(row), vars(wide)], schema=records.BANK_SCHEMA)
    grid.put(table, np.array([0, 1]), np.array([0, 0]))
    assert grid.scores[:, 0].tolist() == [[3, 4], [7, 8]]
    assert grid.correct[:, 0].tolist() == [True, False]


@pytest.mark.medium
def test_the_benchmark_runs(tmp_path: Path) -> None:
    """Small: three ways of reading find the same rows, and the votes rise with k."""
    out = tmp_path / "found.json"
    script = ROOT / "benchmarks/bank_memory.py"
    options = ["--rows", "6400", "--shard-rows", "1600", "--folder", str(tmp_path), "--out"]
    subprocess.run([sys.executable, str(script), *options, str(out)], check=True)
    found = json.loads(out.read_text())
    assert found["bank"]["rows"] == found["table"]["rows"] == 6400
    assert (found["bank"]["shards"], found["rows"]["rows"]) == (4, 1600)
    assert 0.5 < found["ours"]["voting@1"] < found["ours"]["voting@8"] < found["ours"]["voting@64"]
    assert found["ours"]["bank MB"] >= found["ours"]["imports MB"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
