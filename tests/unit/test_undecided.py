"""Items that people called a tie: judged like any other, right by no judgement."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from bank_world import CONFIG, TOKENS, make_rows, manifest_of

from spct.artifact import content_hash
from spct.bank.check import check
from spct.judge import prompts
from spct.judge.parse import Outcome
from spct.judge.task import Judge
from spct.records import Item, Label, write_bank, write_items
from spct.scaling.banks import read_bench
from spct.scaling.content_blind import content_blind
from spct.scaling.estimators import Method, Subsets, estimate
from spct.scaling.votes import Votes

TIE = Label("pair_tie", {"winner": None, "strength": 2})
JUDGE = Judge(CONFIG, prompts.load(CONFIG.template), TOKENS)


def items(labels: list[Label]) -> list[Item]:
    query = ({"role": "user", "content": "question"},)
    return [
        Item(f"i/{i}", "pairs", "all", "toy", query, ("a", "bb"), label)
        for i, label in enumerate(labels)
    ]


def test_only_a_tie_without_a_winner_is_undecided() -> None:
    assert TIE.undecided
    assert not Label("pair_tie", {"winner": 0, "strength": 1}).undecided
    assert not Label("best", 0).undecided


def test_a_judgement_of_it_is_neither_right_nor_wrong() -> None:
    reading = JUDGE.read(items([TIE])[0], [1, 0], "\\boxed{3, 8}", "stop")
    assert (reading.outcome, reading.scores, reading.correct) == (Outcome.ok, [8, 3], None)


def test_a_bank_of_them_is_whole(tmp_path: Path) -> None:
    found = items([TIE, Label("best", 0)])
    bench, bank = tmp_path / "bench.parquet", tmp_path / "0.parquet"
    write_items(bench, found)
    rows = make_rows(found, {"sample": 3, "greedy": 1})
    manifest = manifest_of(content_hash(bench), 0)
    manifest["slice"]["bench"]["shards"] = 1
    write_bank(bank, rows, **manifest)
    assert [finding.state for finding in check([bank], bench)] == ["whole"]
    first = next(i for i, row in enumerate(rows) if row.correct is not None)
    rows[first] = replace(rows[first], correct=None)
    write_bank(bank, rows, **manifest)
    (finding,) = check([bank], bench)
    assert finding.state == "broken" and "neither right nor wrong" in finding.why


def test_it_has_no_sides_and_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "bench.parquet"
    write_items(path, items([TIE, Label("best", 1)]))
    bench = read_bench(path)
    assert not bench.better[0].any() and not bench.worse[0].any()
    longest = content_blind(bench)[next(k for k in content_blind(bench) if k.method == "longest")]
    assert np.isnan(longest.accuracy[0]) and longest.accuracy[1] == 1
    assert longest.tied.tolist() == [0, 0]


@pytest.mark.parametrize("method", ["voting", "majority", "meta_voting"])
def test_how_often_its_votes_tie_is_counted(method: Method) -> None:
    draw = np.random.default_rng(0)
    scores = draw.integers(1, 4, (8, 5, 2)).astype(np.float32)
    no, yes = np.zeros((8, 2), dtype=np.bool_), np.ones((8, 2), dtype=np.bool_)
    meta = draw.normal(size=(8, 5))
    votes = Votes(
        scores, np.ones((8, 5), bool), yes, no, no, no[:, 0], np.zeros((8, 5), bool), meta
    )
    found = estimate(votes, Subsets(list("abcdefgh"), 5, 10), method, [2, 3], 0.5)
    for k in (2, 3):
        assert np.isnan(found[k].credit).all() and not np.nan_to_num(found[k].error).any()
        tied = []
        for row, signal in zip(scores, meta, strict=True):
            gaps = row[:, 0] - row[:, 1]
            points = np.sign(gaps) if method == "majority" else gaps
            ends = []
            for subset in combinations(range(5), k):
                order = sorted(subset, key=lambda j, s=signal: -s[j])
                keep = order[: (k + 1) // 2] if method == "meta_voting" else order
                ends.append(points[keep].sum() == 0)
            tied.append(np.mean(ends))
        assert found[k].tied == pytest.approx(tied)
