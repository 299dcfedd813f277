"""Signals that filter votes: what they rank, what they gain, how the meta RM is calibrated."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct.judge.predicate import correct
from spct.metarm.auc import auc
from spct.metarm.calibration import Calibration, expected_error, fit
from spct.records import Item, Label, Sample, write_bank, write_items
from spct.scaling import curves
from spct.scaling.cells import SIGNALS
from spct.scaling.estimators import Subsets, estimates
from spct.scaling.signals import signal_rows, within
from spct.scaling.votes import Votes, ballots, decide, decide_by_answer
from spct.schema import ScalingConfig

CFG = ScalingConfig([1, 2, 4], 0.5, 50, 200, 0.95, "drop", [], 1.0)


# ---- ranking -----------------------------------------------------------------------------------

samples = st.lists(
    st.tuples(st.integers(-2, 2), st.booleans(), st.booleans()), min_size=6, max_size=6
)


@given(st.lists(samples, min_size=1, max_size=4))
def test_auc_within_items_is_each_items_own(rows: list[list[tuple[int, bool, bool]]]) -> None:
    values = np.array(rows, dtype=float)
    signal, right, counted = values[:, :, 0], values[:, :, 1] > 0, values[:, :, 2] > 0
    got = within(np.where(counted, signal, np.nan), right, counted)
    for i in range(len(rows)):
        expected = auc(signal[i][counted[i]].tolist(), right[i][counted[i]].tolist())
        assert got[i] == pytest.approx(expected, nan_ok=True)


def test_many_items_are_ranked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    signal, right = draw.normal(size=(9, 5)), draw.random((9, 5)) < 0.5
    whole = within(signal, right, np.ones_like(right))
    monkeypatch.setattr("spct.scaling.signals._PAIRS", 60)
    np.testing.assert_array_equal(within(signal, right, np.ones_like(right)), whole)


# ---- filters -----------------------------------------------------------------------------------


def two_answers(d: list[int], **signals: list[float]) -> Votes:
    """One item whose samples give the right answer ``d`` points more."""
    scores = np.array([[[5 + max(x, 0), 5 - min(x, 0)] for x in d]], dtype=np.float32)
    first = np.array([[True, False]])
    every = np.ones((1, len(d)), dtype=bool)
    arrays = {name: np.array([values]) for name, values in signals.items()}
    return Votes(
        scores, every, every[:, :2], first, ~first, np.array([False]), np.array([d]) > 0, **arrays
    )


@pytest.mark.parametrize("name", ["logprob", "length"])
def test_a_cheap_signal_keeps_the_highest(name: str) -> None:
    """Of the pairs of 1, -2, 3 the one of the higher signal votes: 3, then -2, then 1."""
    votes = two_answers([1, -2, 3], **{name: [0.1, 0.2, 0.3]})
    found = estimates(votes, Subsets(["i"], 3, 5), SIGNALS[name], [(2, 1), (3, 1), (3, 3)], "drop")
    assert found[2, 1].credit[0] == pytest.approx(2 / 3)
    assert found[3, 1].credit[0] == 1 and found[3, 3].credit[0] == 1
    with pytest.raises(ValueError, match=f"{SIGNALS[name]} needs a bank with"):
        ballots(replace(votes, **{name: None}), SIGNALS[name], "drop")


def test_an_unknown_signal_comes_last() -> None:
    votes = two_answers([1, -2], logprob=[np.nan, -5.0])
    assert ballots(votes, "logprob_voting", "drop").order.tolist() == [[1, 0]]


def test_samples_taken_from_an_item_keep_their_signals() -> None:
    votes = two_answers([1, -2, 3], logprob=[0.1, 0.2, 0.3], length=[7, 8, 9], meta=[4, 5, 6])
    part = votes.among(np.array([0]), np.array([[2, 0]]))
    assert part.logprob is not None and part.length is not None and part.meta is not None
    assert part.logprob.tolist() == [[0.3, 0.1]]
    assert part.length.tolist() == [[9, 7]] and part.meta.tolist() == [[6, 4]]


@given(st.integers(0, 10**6), st.integers(1, 4), st.booleans())
def test_one_best_answer_is_decided_as_in_general(seed: int, answers: int, padded: bool) -> None:
    """The short way for one best answer against the rule for any two sides."""
    draw = np.random.default_rng(seed)
    items, width = 5, answers + 1
    exists = np.ones((items, width), dtype=bool)
    if padded and width > 2:
        exists[::2, -1] = False
    better = np.zeros_like(exists)
    better[np.arange(items), draw.integers(0, 2, items)] = True
    none = np.zeros((items, 0))
    votes = Votes(
        np.zeros((items, 0, width), dtype=np.float32), none > 0, exists, better, exists & ~better,
        np.zeros(items, dtype=bool), none > 0,
    )  # fmt: skip
    totals = draw.integers(0, 4, (items, 6, width)).astype(np.float32)
    credit, tied = decide(totals, votes)
    for i, j in np.ndindex(items, 6):
        own = totals[i, j][exists[i]]
        top = own == own.max()
        assert tied[i, j] == (top.sum() > 1)
        assert credit[i, j] == (1 / top.sum() if top[better[i][exists[i]]].all() else 0)
    again = decide_by_answer(np.moveaxis(totals, 2, 0), votes)
    np.testing.assert_array_equal(again, (credit, tied))


# ---- the tables --------------------------------------------------------------------------------


def bank_of(
    root: Path, *, logprob: bool = True, calibration: dict[str, float] | None = None
) -> dict[str, Any]:
    """Forty pairs judged eight times by a judge whose meta RM knows what is right, noisily."""
    draw = np.random.default_rng(1)
    items, rows = [], []
    for i in range(40):
        label = Label("best", i % 2)
        asked = ({"role": "user", "content": f"question {i}"},)
        items.append(Item(f"i{i}", "pairs", "all", "pairs", asked, ("a", "b"), label))
        for j in range(8):
            scores = [int(x) for x in draw.integers(1, 10, 2)]
            scores[i % 2] = min(10, scores[i % 2] + 1)
            right = correct(scores, label)
            rows.append(
                Sample(
                    item_id=f"i{i}", kind="sample", sample=j, seed=0, order=[0, 1], model="m",
                    template="t", text=f"{i} {j}", prompt_tokens=10,
                    completion_tokens=int(draw.integers(5, 15)),
                    logprob=-float(draw.random()) if logprob else None, finish="stop",
                    outcome="ok", scores=scores, correct=right,
                    meta_score=2.0 * right + draw.normal(),
                )
            )  # fmt: skip
    write_items(root / "bench.parquet", items, seed=0)
    told = {"seed": 0, "policy": "base", "size": "m", "params": 10, "metarm_params": 20}
    if calibration is not None:
        told["metarm_calibration"] = calibration  # type: ignore[assignment]
    write_bank(root / "bank.parquet", rows, **told)
    return {"items": [root / "bench.parquet"], "banks": [root / "bank.parquet"]}


def test_gain_and_lead_are_paired_differences(tmp_path: Path) -> None:
    found = curves.measure(CFG, 0, **bank_of(tmp_path))
    rows = list(signal_rows("r", found.measured, found.surfaces))
    assert {(row["k"], row["k_meta"]) for row in rows} == {(2, 1), (4, 1), (4, 2)}
    assert {row["signal"] for row in rows} == set(SIGNALS)
    cells, surfaces = found.measured.cells, found.surfaces.cells
    for row in rows:
        key = next(
            key for key in surfaces if key[2:] == (SIGNALS[row["signal"]], row["k"], row["k_meta"])
        )
        own = surfaces[key][0].accuracy
        plain = cells[key._replace(method="voting", k_meta=key.k)][0].accuracy
        assert row["accuracy"] == pytest.approx(own.mean())
        assert row["gain"] == pytest.approx((own - plain).mean(), abs=1e-6)
        assert row["gain_low"] <= row["gain"] <= row["gain_high"]
        guided = surfaces[key._replace(method="meta_voting")][0].accuracy
        if row["signal"] == "meta":
            assert row.get("lead") is None
        else:
            assert row["lead"] == pytest.approx((guided - own).mean(), abs=1e-6)
    best = {row["signal"]: row["accuracy"] for row in rows if (row["k"], row["k_meta"]) == (4, 2)}
    assert best["oracle"] > best["meta"] > best["random"]


def test_without_log_probs_there_is_no_such_signal(tmp_path: Path) -> None:
    found = curves.measure(CFG, 0, **bank_of(tmp_path, logprob=False))
    rows = list(signal_rows("r", found.measured, found.surfaces))
    assert {row["signal"] for row in rows} == set(SIGNALS) - {"logprob"}
    assert "logprob" not in {row["signal"] for row in found.ranked.rows("r")}


def test_auc_table_against_the_plain_functions(tmp_path: Path) -> None:
    from spct.records import read_bank

    told = {"scale": 0.5, "bias": -0.2}
    paths = bank_of(tmp_path, calibration=told)
    rows = {row["signal"]: row for row in curves.measure(CFG, 0, **paths).ranked.rows("r")}
    assert set(rows) == {"meta", "margin", "logprob", "length"}
    read = list(read_bank(paths["banks"][0]))
    right = [bool(row.correct) for row in read]
    signals = {
        "meta": [row.meta_score for row in read],
        "length": [row.completion_tokens for row in read],
        "logprob": [(row.logprob or 0) / row.completion_tokens for row in read],
        "margin": [abs(row.scores[0] - row.scores[1]) for row in read if row.scores],
    }
    for name, values in signals.items():
        assert rows[name]["auc_across"] == pytest.approx(auc(values, right), abs=1e-6)  # type: ignore[arg-type]
        assert rows[name]["samples"] == 320
        assert rows[name]["low"] <= rows[name]["auc_within"] <= rows[name]["high"]
        assert (rows[name]["ece"] is None) == (name != "meta")
    chance = 1 / (1 + np.exp(-(0.5 * np.array(signals["meta"], dtype=float) - 0.2)))
    assert rows["meta"]["ece"] == pytest.approx(expected_error(chance, np.array(right)))


# ---- calibration -------------------------------------------------------------------------------


def test_calibration_finds_the_slope_and_intercept_of_the_odds() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=20_000)
    right = draw.random(20_000) < 1 / (1 + np.exp(-(2 * logits - 1)))
    found = fit(logits.tolist(), right.tolist())
    assert found is not None
    assert found.scale == pytest.approx(2, abs=0.08) and found.bias == pytest.approx(-1, abs=0.06)
    raw, own = (expected_error(c.probability(logits), right) for c in (Calibration(), found))
    assert own < 0.015 < 0.1 < raw


def test_calibration_of_two_groups_is_their_smoothed_share() -> None:
    """With two values of the logit the fit meets both shares: 8 of 10 and 2 of 10, so that
    sigmoid(±scale) is what the smoothed targets average to."""
    right = [True] * 8 + [False] * 2 + [True] * 2 + [False] * 8
    found = fit([1.0] * 10 + [-1.0] * 10, right)
    share = (8 * 11 / 12 + 2 * 1 / 12) / 10
    assert found is not None and found.bias == pytest.approx(0, abs=1e-6)
    assert found.scale == pytest.approx(math.log(share / (1 - share)), abs=1e-5)


logits = st.lists(st.tuples(st.floats(-30, 30), st.booleans()), min_size=1, max_size=30)


@given(logits)
def test_calibration_never_changes_a_ranking(rows: list[tuple[float, bool]]) -> None:
    values = np.array([value for value, _ in rows])
    found = fit(values.tolist(), [right for _, right in rows])
    assert found is not None and found.scale > 0 and math.isfinite(found.bias)
    chance = found.probability(np.sort(values))
    assert ((chance >= 0) & (chance <= 1)).all() and (np.diff(chance) >= 0).all()


def test_a_logit_the_wrong_way_round_is_all_but_ignored() -> None:
    found = fit([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], [False, False, False, True, True, True])
    assert found is not None and found.scale == pytest.approx(1e-3)
    assert found.probability(np.array([5.0]))[0] == pytest.approx(0.5, abs=0.01)


def test_nothing_to_calibrate_on() -> None:
    assert fit([], []) is None
    assert math.isnan(expected_error(np.array([]), np.array([], dtype=bool)))
    assert Calibration.of(None) == Calibration(1.0, 0.0)


def test_expected_error_by_hand() -> None:
    """Bins of 0.1: one holds 0.15 and 0.19 (one right), one 1.0 (right), one 0.8 (wrong)."""
    error = expected_error(np.array([0.15, 0.19, 1.0, 0.8]), np.array([True, False, True, False]))
    assert error == pytest.approx((abs(1 - 0.34) + 0 + 0.8) / 4)
