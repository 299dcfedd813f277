"""Training against inference compute: what was spent, the best buys, where sizes cross."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct import artifact, models
from spct.records import Sample, write_bank
from spct.report.compute import FIGURE, section
from spct.scaling import compute, crossover, stats
from spct.scaling.compute import compute_rows, frontier, marked, read_compute, seconds_a_sample
from spct.scaling.crossover import Curve, compared
from spct.scaling.measure import Measured
from spct.scaling.signals import AUC_COLUMNS
from spct.scaling.signals import COLUMNS as SIGNAL_COLUMNS
from spct.scaling.training_cost import Training, Work, bases_of, sampled_tokens
from spct.schema import ScalingConfig

CFG = ScalingConfig([1, 2, 4], 0.5, 50, 200, 0.95, "drop", [], 1.0)


# ---- what training spent -----------------------------------------------------------------------


def trained(root: Path, stage: str, size: str, params: int, *steps: dict[str, float]) -> Path:
    folder = root / stage / size
    told = {"stage": stage, "seed": 0, "size": size, "params": params}
    with artifact.atomic_dir(folder, **told) as aside:
        lines = [json.dumps({"step": i, **step}) for i, step in enumerate(steps)]
        (aside / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def sampled(path: Path, rows: list[tuple[str, str, list[int], int, int]], **told: Any) -> Path:
    """A shard of (item, kind, order, prompt tokens, completion tokens)."""
    written = []
    for number, (item, kind, order, prompt, completion) in enumerate(rows):
        written.append(
            Sample(
                item_id=item, kind=kind, sample=number, seed=0, order=order, model="m",
                template="t", text="x", prompt_tokens=prompt, completion_tokens=completion,
                logprob=None, finish="stop", outcome="malformed", scores=None, correct=None,
                meta_score=None, principle_tokens=7 if item == "b" else 0,
            )
        )  # fmt: skip
    write_bank(path, written, **told)
    return path


ROWS = [
    *[("a", "sample", [0, 1], 10, 3)] * 3,  # three samples, but two orders to show
    ("a", "hinted", [0, 1], 14, 5),
    ("b", "sample", [0], 20, 4),  # one response has one order; its principles cost 7 once
    ("b", "sample", [0], 20, 4),
]
TOKENS = 3 * 3 + 2 * 10 + 5 + 14 + 4 + 4 + 20 + 7


def test_prompts_count_once_an_order_and_principles_once_an_item(tmp_path: Path) -> None:
    assert sampled_tokens(sampled(tmp_path / "0.parquet", ROWS)) == TOKENS


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """RFT and GRPO of size m (10 parameters), RFT of s (2), a meta RM of l (100)."""
    step = {"rollout_tokens": 50.0, "update_tokens": 30.0, "reference_tokens": 30.0}
    folders = [
        trained(tmp_path, "rft", "m", 10, {"update_tokens": 5.0}, {"update_tokens": 6.0}),
        trained(tmp_path, "grpo", "m", 10, step, step),
        trained(tmp_path, "rft", "s", 2, {"update_tokens": 5.0}),
        trained(tmp_path, "metarm", "l", 100, {"update_tokens": 4.0}),
    ]
    shards = [
        sampled(tmp_path / f"{stage}-{size}.parquet", ROWS, stage=stage, size=size, **told)
        for stage, size, params in (
            ("rollout", "m", 10), ("rollout", "s", 2), ("rollout_policy", "m", 10),
        )
        for told in [{"seed": 0, "policy": "base", "params": params}]
    ]  # fmt: skip
    return Training.read(folders, shards, {"m": models.BASES / "toy_m"})


RFT, GRPO, META = 10 * 6 * 11, 10 * 2 * (2 * 50 + 6 * 30 + 2 * 30), 100 * 6 * 4
DATA = 2 * 10 * TOKENS


def test_a_policy_costs_its_data_and_all_before_it(training: Training) -> None:
    assert training.of(0, "base", "m") == 0
    assert training.of(0, "rft", "m") == DATA + RFT
    assert training.of(0, "grpo", "m") == DATA + RFT + GRPO
    assert training.of(0, "rft", "s") == 2 * 2 * TOKENS + 2 * 6 * 5
    assert math.isnan(training.of(0, "grpo", "s")) and math.isnan(training.of(1, "rft", "m"))


def test_a_guided_vote_costs_what_its_meta_rm_learnt_from(training: Training) -> None:
    every = META + DATA + DATA + RFT + GRPO
    assert training.of(0, "grpo", "m", guided=True) == every
    assert training.of(0, "base", "m", guided=True) == every
    assert math.isnan(Training().of(0, "base", "m", guided=True))


def test_grpo_from_the_base_has_no_rft(tmp_path: Path) -> None:
    folder = trained(tmp_path, "grpo", "m", 10, {"update_tokens": 3.0})
    assert Training.read([folder], [], {}).of(0, "grpo", "m") == 10 * 6 * 3


def test_a_baseline_is_its_own_fit_and_a_strange_model_unknown() -> None:
    found = Training({Work(0, "baseline", "m", "btrm"): 7.0})
    assert found.of(0, "btrm", "m") == 7 and math.isnan(found.of(0, "rm", "m"))


def test_a_log_of_older_code_is_unknown(tmp_path: Path) -> None:
    old = Training.read([trained(tmp_path, "rft", "m", 10, {"loss": 1.0})], [], {})
    assert math.isnan(old.of(0, "rft", "m"))


def test_pretraining_is_told_by_the_bases_recipe(training: Training) -> None:
    log = (models.BASES / "toy_m/training_log.jsonl").read_text().splitlines()
    tokens = json.loads(log[-1])["tokens"]
    assert training.pretraining == {"m": 6 * 62_880 * tokens}
    assert Training.read([], [], {"x": Path(__file__).parent}).pretraining["x"] != 0


def test_bases_are_matched_by_what_the_banks_name(tmp_path: Path) -> None:
    told = {"seed": 0, "policy": "base", "slice": {"model": {"source": "builtin:toy_s"}}}
    bank = sampled(tmp_path / "0.parquet", ROWS, size="small", **told)
    folders = [models.BASES / "toy_s", models.BASES / "toy_m"]
    assert bases_of([bank], folders) == {"small": models.BASES / "toy_s"}
    assert bases_of([bank], folders[1:]) == {}


# ---- the best buys -----------------------------------------------------------------------------


def buy(flops: float | None, accuracy: float, **more: Any) -> dict[str, Any]:
    return {"benchmark": "b", "seed": "0", "infer_flops": flops, "accuracy": accuracy, **more}


def test_the_frontier_by_hand() -> None:
    rows = [
        buy(1, 0.5),
        buy(2, 0.5),
        buy(3, 0.7),
        buy(3, 0.6),
        buy(9, 0.65),
        buy(3, 0.7),
        buy(None, 1),
    ]
    found = [row["on_frontier"] for row in marked(rows)]
    assert found == [1, 0, 1, 0, 0, 1, None]
    other = marked([buy(1, 0.5), buy(9, 0.4, benchmark="c"), buy(8, 0.4, seed="1")])
    assert [row["on_frontier"] for row in other] == [1, 1, 1]


points = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=20)


@given(points)
def test_the_frontier_is_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    rows = [buy(float(x), float(y)) for x, y in pairs]
    kept = {id(row) for row in frontier(rows)}
    for row, (x, y) in zip(rows, pairs, strict=True):
        beaten = any(a <= x and b >= y and (a, b) != (x, y) for a, b in pairs)
        assert (id(row) in kept) != beaten


def curve_row(**more: Any) -> dict[str, Any]:
    row = {
        "run": "r", "seed": "0", "policy": "grpo", "size": "m", "benchmark": "b", "subset": "all",
        "method": "voting", "k": 2, "k_meta": 2, "accuracy": 0.5, "low": 0.4, "high": 0.6,
        "items": 9, "flops": 100.0,
    }  # fmt: skip
    return {**row, **more}


def test_rows_are_the_ways_to_judge_whole_benchmarks(training: Training) -> None:
    measured = Measured(CFG, 0, {0: None}, params={"m": 10})  # type: ignore[dict-item]
    rows = [
        curve_row(),
        curve_row(method="meta_voting", flops=900.0, accuracy=0.8),
        curve_row(method="oracle_voting"), curve_row(method="random_voting"),
        curve_row(policy="none", method="first"), curve_row(subset="hard"),
        curve_row(policy="base", seed="all", flops=None),
    ]  # fmt: skip
    plain, guided, base = compute_rows(rows, measured, training)
    assert (plain["train_flops"], plain["infer_flops"], plain["params"]) == (
        DATA + RFT + GRPO, 100.0, 10,
    )  # fmt: skip
    assert guided["train_flops"] > plain["train_flops"]
    assert [row["on_frontier"] for row in (plain, guided, base)] == [1, 1, None]
    assert base["train_flops"] == 0 and plain["pretrain_flops"] > 1e12


# ---- seconds -----------------------------------------------------------------------------------


def test_seconds_stand_in_the_sidecar_and_never_in_the_table(tmp_path: Path) -> None:
    judged = sampled(tmp_path / "a.parquet", ROWS, seed=0, policy="base", size="m")
    scored = sampled(tmp_path / "b.parquet", ROWS, seed=0, policy="rft", size="m")
    silent = sampled(tmp_path / "c.parquet", ROWS, seed=0, policy="grpo", size="m")
    artifact.write_timing(judged, seconds=6.0, samples=12, completion_tokens=99)
    artifact.write_timing(scored, score_seconds=3, scored=4, judge_seconds=8, judge_samples=4)
    rates = seconds_a_sample([judged, scored, silent])
    assert rates == {"0/base/m/judge": 0.5, "0/rft/m/judge": 2.0, "0/rft/m/meta": 0.75}
    table = tmp_path / compute.NAME
    rows = [
        {**curve_row(policy=policy, method=method, seed=seed), "params": 1}
        for policy, method, seed in (
            ("base", "voting", "0"), ("rft", "meta_voting", "0"), ("rft", "voting", "all"),
            ("grpo", "voting", "0"), ("base", "adaptive_flip", "0"),
        )
    ]  # fmt: skip
    artifact.write_csv(table, compute.COLUMNS, rows)
    before = artifact.content_hash(table)
    assert all(math.isnan(row["seconds"]) for row in read_compute(table))
    artifact.write_timing(table, **rates)
    found = [row["seconds"] for row in read_compute(table)]
    assert found[:3] == [2 * 0.5, 2 * (2.0 + 0.75), 2 * 2.0]
    assert all(map(math.isnan, found[3:]))
    assert artifact.content_hash(table) == before


# ---- where sizes cross -------------------------------------------------------------------------


def curve_of(values: list[float], flops: list[float], draws: int = 4) -> Curve:
    """Votes at k = 1, 2, 4, … whose bootstrap draws are all alike."""
    ks = [2**i for i in range(len(values))]
    return Curve(ks, np.array(flops, dtype=float), np.tile(values, (1 + draws, 1)), 50)


SMALL = curve_of([0.50, 0.60, 0.70, 0.75], [1, 2, 4, 8])


def test_crossings_by_hand() -> None:
    """The large one costs 3 a sample: equal to its one sample (0.65) from k = 4 on, while at equal
    FLOPs k = 4 meets 0.65 + log2(4/3) * 0.1 = 0.69 and passes it, k = 8 meets 0.79."""
    large = curve_of([0.65, 0.75, 0.85], [3, 6, 12])
    found = dict(compared(SMALL, large, 0.95))
    assert (found["samples"]["k"], found["samples"]["k_low"], found["samples"]["k_high"]) == (
        4,
        4,
        4,
    )
    assert found["flops"]["k"] == 4 and "costs as much as 3 of the small" in found["flops"]["note"]
    better = curve_of([0.67, 0.77, 0.87], [3, 6, 12])
    lost = dict(compared(SMALL, better, 0.95))
    assert lost["samples"]["k"] == 4
    assert lost["flops"]["k"] is None and "not by k = 8" in lost["flops"]["note"]


def test_equal_accuracy_is_enough() -> None:
    large = curve_of([0.60 + 1e-13, 0.9], [2, 4])
    assert dict(compared(SMALL, large, 0.95))["samples"]["k"] == 2


def test_no_common_budget_no_single_sample_no_flops() -> None:
    dear = dict(compared(SMALL, curve_of([0.65, 0.7], [30, 60]), 0.95))
    assert "no budget in common" in dear["flops"]["note"] and dear["samples"]["k"] == 4
    unknown = dict(compared(SMALL, curve_of([0.65, 0.7], [math.nan] * 2), 0.95))
    assert "unknown" in unknown["flops"]["note"]
    late = Curve([2, 4], np.array([6.0, 12.0]), np.full((5, 2), 0.7), 50)
    assert "no vote of 1" in dict(compared(SMALL, late, 0.95))["samples"]["note"]


def test_the_interval_asks_every_draw() -> None:
    """Nine draws in ten cross at k = 1, 2 or 4 and one in ten never: the upper end is open."""
    small = np.array([[0.5, 0.6, 0.7]] * 101)
    large = np.full((101, 1), 0.65)
    large[1:31], large[31:61], large[61:91], large[91:] = 0.4, 0.55, 0.65, 0.9
    row = crossover._row(small, large, np.array([1.0, 2, 4]), 0.95, 10_000, "")
    assert (row["k"], row["k_low"], row["k_high"]) == (4, 1, None)
    narrow = crossover._row(small, large, np.array([1.0, 2, 4]), 0.5, 10_000, "")
    assert (narrow["k_low"], narrow["k_high"]) == (1, 4)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=300), st.floats(0.5, 0.99))
def test_a_ranked_interval_holds_at_least_its_level(values: list[int], level: float) -> None:
    draws = np.array(values, dtype=float)
    low, high = stats.ranked_interval(draws, level, 10_000)
    assert {low, high} <= set(draws) and low <= high
    assert ((draws >= low) & (draws <= high)).mean() >= level - 1e-9


def test_one_prompt_has_no_interval() -> None:
    assert all(map(math.isnan, stats.ranked_interval(np.arange(9.0), 0.95, 1)))


# ---- the report's section ----------------------------------------------------------------------


def tables(folder: Path, sizes: dict[str, int]) -> None:
    """Tables as the curves stage leaves them, of votes of every size."""
    rows = [
        {
            **curve_row(size=size, policy=policy, k=k, k_meta=k, benchmark="toy_pairs"),
            "params": params, "train_flops": {"base": 0.0, "rft": 1e9}[policy],
            "infer_flops": float(params * k), "accuracy": 0.5 + k / 20, "on_frontier": int(k == 4),
        }
        for size, params in sizes.items() for policy in ("base", "rft") for k in (1, 2, 4)
    ]  # fmt: skip
    artifact.write_csv(folder / compute.NAME, compute.COLUMNS, rows)
    crossing = {"policy": "rft", "benchmark": "toy_pairs", "small": "s", "large": "m"}
    crossing |= {"axis": "samples", "k": 4, "k_low": 2, "note": "<b>no markup</b>"}
    artifact.write_csv(folder / "crossover.csv", crossover.COLUMNS, [crossing])
    artifact.write_csv(folder / "signals.csv", SIGNAL_COLUMNS, [])
    artifact.write_csv(folder / "meta_auc.csv", AUC_COLUMNS, [])


def test_the_section_draws_and_copies(tmp_path: Path) -> None:
    folder, out = tmp_path / "results", tmp_path / "out"
    tables(folder, {"s": 100, "m": 200})
    artifact.write_timing(folder / compute.NAME, **{"0/base/s/judge": 0.25})
    found = section(folder, out)
    assert found is not None and found["figure"].startswith("<svg")
    assert (out / f"{FIGURE}.png").stat().st_size > 1000
    with (out / compute.NAME).open() as handle:
        copied = list(csv.DictReader(handle))
    told = {(row["policy"], row["size"], row["k"]): row["seconds"] for row in copied}
    assert told["base", "s", "4"] == "1" and told["base", "m", "4"] == ""
    assert found["crossings"][0]["interval"] == "2–beyond"
    again = section(folder)
    assert again is not None and again["figure"] == found["figure"]


def test_the_partial_escapes_and_shows_every_table(tmp_path: Path) -> None:
    from spct.report.page import environment

    tables(tmp_path, {"s": 100, "m": 200})
    page = environment().get_template("compute.html.jinja")
    text = page.render(compute=section(tmp_path))
    assert "&lt;b&gt;no markup" in text and "<b>no markup" not in text
    assert text.count("<table>") == 3 and "RFT m" in text


def test_no_tables_no_section(tmp_path: Path) -> None:
    assert section(tmp_path) is None


def test_a_grpo_step_samples_each_order_of_an_item_once() -> None:
    from types import SimpleNamespace

    from spct.grpo.journal import sampled_tokens

    def member(item: str, order: list[int], completion: int, prompt: int = 10) -> SimpleNamespace:
        row = SimpleNamespace(
            item_id=item, order=order, completion_tokens=completion, prompt_tokens=prompt,
            principle_tokens=2 if item == "b" else 0,
        )  # fmt: skip
        return SimpleNamespace(row=row)

    members = [member("a", [0, 1], 3), member("a", [0, 1], 4), member("a", [1, 0], 5)]
    members += [member("b", [0, 1], 6, prompt=20), member("b", [0, 1], 7, prompt=20)]
    rollouts: Any = SimpleNamespace(members=members)
    assert sampled_tokens(rollouts) == 3 + 4 + 5 + 6 + 7 + 10 + 10 + 20 + 2
