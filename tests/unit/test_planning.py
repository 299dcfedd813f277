"""``spct plan``: counts, tokens and FLOPs against measured runs, sizes of models, cards, output."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct import artifact, models
from spct.config import ConfigError
from spct.planning import assumed, cards, cli, shapes, work
from spct.runs import Node

ROOT = Path(__file__).parents[2]
MEASURED = json.loads((Path(__file__).parent / "measured_tiny.json").read_text())["stages"]
CLOSE = 0.25  # relative


@pytest.fixture(scope="module")
def tiny() -> work.Planner:
    return cli.planned(["experiment=tiny"])


def node_of(folder: str) -> Node:
    stage, slot = folder.split("/")
    policy, _, size = slot.rpartition("-")
    return Node(stage, size, policy)


# ---- models


@pytest.mark.parametrize("name", ["toy_s", "toy_m", "toy_l"])
def test_a_shipped_base_has_the_size_its_manifest_says(name: str) -> None:
    told = artifact.read_manifest(models.BASES / name)["params"]
    assert shapes.shape_of(f"builtin:{name}").params == told


@pytest.mark.parametrize(
    ("source", "params"),
    [  # as the hub counts them
        ("google/gemma-2-27b", 27_227_128_320),
        ("google/gemma-3-1b-pt", 999_885_952),
        ("Qwen/Qwen3-0.6B-Base", 596_049_920),
        ("Qwen/Qwen3-4B-Base", 4_022_468_096),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
    ],
)
def test_named_models_have_their_published_size(source: str, params: int) -> None:
    assert shapes.shape_of(source).params == params


def test_a_model_that_is_not_known_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="download it and name its folder"):
        shapes.shape_of("somebody/unheard-of-7b")
    with pytest.raises(ConfigError, match="endpoint"):
        shapes.shape_of("endpoint:gpt")


# ---- counts


@given(n=st.integers(1, 6), samples=st.integers(1, 64))
def test_no_more_orders_than_draws_or_permutations(n: int, samples: int) -> None:
    found = work.orders(n, samples)
    assert 1 - 1e-9 <= found <= min(samples, [1, 1, 2, 6, 24, 120, 720][n]) + 1e-9
    assert work.orders(n, samples + 1) >= found - 1e-9


@pytest.mark.parametrize("folder", [name for name in MEASURED if "prompt_tokens" in MEASURED[name]])
def test_sampling_is_planned_as_measured(tiny: work.Planner, folder: str) -> None:
    """Samples are a matter of the configuration, so exact; tokens rest on assumed lengths."""
    planned, found = tiny.work(node_of(folder)), MEASURED[folder]
    tokens = found["prompt_tokens"] + found["completion_tokens"]
    assert planned.samples == pytest.approx(found["samples"], rel=1e-9)
    assert planned.completion_tokens == pytest.approx(found["completion_tokens"], rel=CLOSE)
    assert planned.prompt_tokens == pytest.approx(found["prompt_tokens"], rel=CLOSE)
    assert planned.flops == pytest.approx(2 * found["params"] * tokens, rel=CLOSE)


@pytest.mark.parametrize("size", ["toy_s", "toy_m", "toy_l"])
def test_rft_is_planned_as_measured(tiny: work.Planner, size: str) -> None:
    planned = tiny.work(Node("rft", size))
    kept = MEASURED[f"select/{size}"]
    general = 0.3 / 0.7 * kept["kept"]
    assert planned.items == pytest.approx(kept["kept"] + general, rel=CLOSE)
    assert planned.trained_tokens == pytest.approx(kept["tokens"] + 15.2 * general, rel=CLOSE)
    assert planned.steps == pytest.approx(MEASURED[f"rft/{size}"]["steps"], rel=CLOSE)


def test_grpo_and_the_meta_rm_are_planned_as_measured(tiny: work.Planner) -> None:
    grpo, found = tiny.work(Node("grpo", "toy_m")), MEASURED["grpo/toy_m"]
    assert (grpo.steps, grpo.samples) == (found["steps"], 110 * 64 * 4)
    said = found["completion_tokens_a_rollout"] * grpo.samples
    assert grpo.completion_tokens == pytest.approx(said, rel=CLOSE)
    metarm, found = tiny.work(Node("metarm", "toy_l")), MEASURED["metarm/toy_l"]
    assert metarm.items == pytest.approx(found["rows"], rel=CLOSE)
    assert metarm.steps == pytest.approx(found["steps"], rel=CLOSE)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_judging_is_planned_as_other_seeds_measured(tiny: work.Planner, seed: str) -> None:
    """Tokens of the 32 samples in the committed table; its seeds 1 and 2 set no assumption."""
    table = ROOT / "docs/results/2026-11-23-tiny_seeds/curves.csv"
    tokens: dict[str, float] = defaultdict(float)
    with table.open() as handle:
        for row in csv.DictReader(handle):
            whole = (row["seed"], row["subset"], row["method"]) == (seed, "all", "voting")
            if whole and row["k"] == "32" and row["size"] == "toy_m":
                tokens[row["policy"]] += float(row["tokens"]) * int(row["items"])
    assert set(tokens) == {"base", "rft", "grpo"}
    for policy, found in tokens.items():
        planned = tiny.work(Node("judge", "toy_m", policy)).completion_tokens * 32 / 33
        assert planned == pytest.approx(found, rel=CLOSE)


# ---- cost


@pytest.fixture(scope="module")
def paper() -> work.Planner:
    return cli.planned(["experiment=deepseek_grm_27b"])


def cluster(nodes: int = 16, card: str = "a100") -> cards.Cluster:
    return cards.Cluster(cards.CARDS[card], nodes, 8, 0.35, 0.1)


def test_the_papers_sizes_are_planned(paper: work.Planner) -> None:
    works = {one.node.folder: one for one in paper.works()}
    assert works["rollout/gemma2_27b"].items == 237_000
    assert works["rft/gemma2_27b"].items == pytest.approx(1_256_000, rel=0.02)
    assert works["grpo/gemma2_27b"].samples == 900 * 512
    assert works["judge/grpo-gemma2_27b"].samples == 33 * works["judge/grpo-gemma2_27b"].items


def test_hours_are_flops_by_what_the_cards_give(paper: work.Planner) -> None:
    rft = paper.work(Node("rft", "gemma2_27b"))
    few, many = (cards.cost(rft, paper.run, cluster(nodes)) for nodes in (16, 32))
    assert few.gpu_hours == pytest.approx(rft.flops / (0.35 * 312e12) / 3600)
    assert few.gpu_hours == many.gpu_hours
    assert few.wall_hours == pytest.approx(2 * many.wall_hours)
    assert many.memory < few.memory < 80


def test_what_does_not_fit_is_said(paper: work.Planner) -> None:
    rft = paper.work(Node("rft", "gemma2_27b"))
    assert not any("does not fit" in note for note in cards.cost(rft, paper.run, cluster()).notes)
    crowded = cards.cost(rft, paper.run, cluster(nodes=1))
    assert crowded.memory > 80 and "does not fit A100" in crowded.notes[-1]


def test_a_sampling_job_takes_the_cards_its_weights_need(paper: work.Planner) -> None:
    judge = paper.work(Node("judge", "gemma2_27b", "rft"))
    small = cards.Card("small", 312e12, 24, "")
    one = cards.cost(judge, paper.run, cluster())
    four = cards.cost(judge, paper.run, cards.Cluster(small, 16, 8, 0.35, 0.1))
    assert (one.job_gpus, four.job_gpus) == (1, 4)
    assert four.memory < 24 and one.gpu_hours == four.gpu_hours


# ---- the command


def test_the_table_says_where_every_figure_is_from(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["experiment=deepseek_grm_27b", "grpo.steps=450", "--nodes", "4", "--card", "h200"]
    assert cli.plan_cli([*words, "--utilisation", "0.4"]) == 0
    out = capsys.readouterr().out
    assert "on 4 x 8 H200 SXM at 40% of their peak in training" in out
    assert "grpo.steps=450 x grpo.prompts_per_step=128 x grpo.group_size=4" in out
    assert "section 3.1; the public sources hold about 163,753" in out
    assert "989 TFLOP/s a card, NVIDIA's data sheet" in out
    assert "rft: reported 19.2 h = 2,458 GPU-hours" in out
    row = next(line for line in out.splitlines() if line.startswith("grpo/gemma2_27b "))
    assert row.split()[3] == f"{450 * 512:,}"


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="grpo.stepz: no such key"):
        cli.plan_cli(["experiment=tiny", "grpo.stepz=1"])
    with pytest.raises(ConfigError, match="utilisation above 0"):
        cli.plan_cli(["experiment=deepseek_grm_27b", "--utilisation", "1.5"])
    with pytest.raises(ConfigError, match="one of them"):
        cli.plan_cli(["experiment=sweep/kl_grid"])


def test_a_real_experiment_counts_its_sources() -> None:
    planner = cli.planned(["experiment=qwen3_4b"])
    assert planner.train.total == sum(
        assumed.ROWS[name].value for name in planner.cfg.data.train_sources
    )
    assert "ultrafeedback 63,967" in planner.train.source
