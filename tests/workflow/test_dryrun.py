"""The DAG: what a fresh clone plans, what a change plans, and what stops before the first job."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from spct.judge import prompts

SMOKE = ("--config", "experiments=[smoke]")
SMOKE_SET = "experiments=[paper_tables_smoke]"
AFTER_GRPO = {
    "grpo": 1,
    "rollout_policy": 1,
    "metarm": 1,
    "judge": 1,
    "score": 1,
    "curves": 1,
    "health": 1,
    "report": 1,
    "track": 1,
}


def test_a_fresh_clone_plans_the_whole_road_and_no_base(clone: Any) -> None:
    plan = clone.planned()
    assert set(plan) == {
        "freeze", "prepare", "rollout", "select", "rft", "grpo", "rollout_policy",
        "metarm", "judge", "score", "curves", "health", "report", "track",
    }  # fmt: skip
    assert plan["judge"] == 7 and plan["rft"] == 3 and plan["grpo"] == 1


def test_smoke_needs_about_a_dozen_torch_processes(clone: Any) -> None:
    plan = clone.planned(*SMOKE)
    torch = ("rollout", "rft", "grpo", "rollout_policy", "metarm", "judge", "score")
    assert sum(plan[rule] for rule in torch) <= 12


@pytest.mark.medium
@pytest.mark.parametrize(
    ("preset", "only"),
    [
        ("deepseek_grm_27b", {"rollout": 512, "grpo": 1, "metarm": 1, "score": 96}),
        ("deepseek_grm_16b", {"difficulty": 1, "grpo": 1, "judge": 288}),
        ("deepseek_endpoint", {"judge": 32}),
        ("qwen3_0p6b", {"rollout": 8, "grpo": 1, "metarm": 1, "score": 16}),
        ("qwen3_4b", {"rft": 1, "grpo": 1}),
        ("gemma3_1b", {"rft": 1, "grpo": 1}),
        ("smollm2", {"rft": 1, "grpo": 1, "audit": 1}),
    ],
)
def test_presets_of_real_models_are_planned(clone: Any, preset: str, only: dict) -> None:
    """Nothing is downloaded for a plan, and that of the largest is one a cluster takes."""
    plan = clone.planned("--config", f"experiments=[{preset}]")
    assert {rule: plan.get(rule, 0) for rule in only} == only
    assert plan["audit"] == 1 and sum(plan.values()) <= 5000


@pytest.mark.medium
def test_the_workflow_lints(clone: Any) -> None:
    assert "good condition" in clone.snakemake("--lint")


@pytest.mark.medium
@pytest.mark.parametrize("profile", ["slurm", "ci"])
def test_a_profile_is_found_by_its_bare_name(clone: Any, profile: str) -> None:
    if profile == "slurm":
        pytest.importorskip("snakemake_executor_plugin_slurm")
    assert clone.planned("--cores", "all", "--profile", profile)["grpo"] == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("hydra=grpo.lrr=1", "experiment 'tiny': grpo.lrr: no such key; grpo has lr,"),
        pytest.param("hydra=grpo.lr=fast", "grpo.lr: Value 'fast'", marks=pytest.mark.medium),
        pytest.param("hydra=plan.main=toy_q", "model/toy_q", marks=pytest.mark.medium),
        ("experiments=[tiny,tinyy]", "experiment 'tinyy'"),
        pytest.param("experiment=tiny", "--config knows experiments", marks=pytest.mark.medium),
    ],
)
def test_a_mistake_stops_before_any_job(clone: Any, setting: str, message: str) -> None:
    text = clone.snakemake("--cores", "1", "--config", setting, ok=False)
    assert message in text
    assert not (clone.root / "results").exists()


@pytest.mark.medium
def test_an_ablation_adds_only_its_own_jobs(clone: Any) -> None:
    both = clone.planned("--config", "experiments=[tiny,tiny_no_kl]")
    added = both - clone.planned()
    del added["freeze"]
    once = ("grpo", "judge", "curves", "health", "report", "track")
    assert dict(added) == dict.fromkeys(once, 1)


@pytest.mark.medium
def test_a_set_adds_its_runs_and_one_page(clone: Any) -> None:
    alone, together = clone.planned(*SMOKE), clone.planned("--config", SMOKE_SET)
    added = together - alone
    del added["freeze"]
    once = ("recast", "judge", "curves", "health", "report", "track", "paper", "track_set")
    assert dict(added) == dict.fromkeys(once, 1)


@pytest.mark.medium
def test_nothing_is_planned_after_success(finished: Any) -> None:
    assert "Nothing to be done" in finished.snakemake("--dry-run", *SMOKE)
    assert "Nothing to be done" in finished.snakemake(
        "--dry-run", "--config", "experiments=[smoke]", "hydra=tracking.uri=elsewhere"
    )


@pytest.mark.medium
def test_touching_conf_and_bases_plans_nothing(finished: Any) -> None:
    now = time.time()
    for folder in ("conf", "src/spct/bases"):
        for path in (finished.root / folder).rglob("*"):
            os.utime(path, (now, now))
    assert not finished.planned(*SMOKE)


@pytest.mark.medium
def test_a_comment_plans_nothing(finished: Any) -> None:
    finished.edit("conf/grpo/default.yaml", "# Online RL", "# Changed. Online RL")
    assert not finished.planned(*SMOKE)


@pytest.mark.medium
def test_one_knob_plans_exactly_its_dependents(finished: Any) -> None:
    finished.edit("conf/grpo/default.yaml", "lr: 5.0e-4", "lr: 4.0e-4")
    plan = finished.planned(*SMOKE)
    finished.edit("conf/grpo/default.yaml", "lr: 4.0e-4", "lr: 5.0e-4")
    assert plan == {**AFTER_GRPO, "freeze": 1}
    assert not finished.planned(*SMOKE)


@pytest.mark.medium
def test_a_report_setting_plans_the_report(finished: Any) -> None:
    finished.edit("conf/experiment/smoke.yaml", "title: Smoke test", "title: Smoke")
    plan = finished.planned(*SMOKE)
    finished.edit("conf/experiment/smoke.yaml", "title: Smoke", "title: Smoke test")
    assert plan == {"freeze": 1, "report": 1, "track": 1}


@pytest.mark.medium
def test_a_health_setting_plans_the_health_and_the_report(finished: Any) -> None:
    finished.edit("conf/health/default.yaml", "bins: 10", "bins: 5")
    plan = finished.planned(*SMOKE)
    finished.edit("conf/health/default.yaml", "bins: 5", "bins: 10")
    assert plan == {"freeze": 1, "health": 1, "report": 1, "track": 1}


@pytest.mark.medium
def test_an_override_has_its_own_folder_and_leaves_the_plain_run_alone(finished: Any) -> None:
    override = ("--config", "experiments=[smoke]", "hydra=grpo.lr=1e-5")
    plan = finished.planned(*override)
    del plan["freeze"]
    assert plan == AFTER_GRPO
    finished.complete(*override)
    (folder,) = (finished.root / "results").glob("smoke@grpo.lr=1e-5-*")
    assert "grpo.lr=1e-5" in (folder / "config" / "run.yaml").read_text()
    assert not (folder / "seed0" / "rft").exists()
    assert not finished.planned(*SMOKE)


@pytest.mark.medium
def test_a_size_may_be_named_like_a_model_of_the_hub(clone: Any) -> None:
    text = (clone.root / "conf/model/toy_s.yaml").read_text()
    path = clone.root / "conf/model/Toy-0.6B.yaml"
    path.write_text(text.replace("name: toy_s", "name: Toy-0.6B"))
    plan = clone.planned(*SMOKE, "hydra=model=Toy-0.6B")
    path.unlink()
    assert plan["grpo"] == plan["metarm"] == 1 and plan["score"] == 1


@pytest.mark.medium
def test_an_edited_template_reruns_what_reads_it_and_a_touched_one_nothing(stubs: Any) -> None:
    mine = stubs.root / "mine.jinja"
    shutil.copy(prompts.path("toy.jinja"), mine)
    own = (*SMOKE, "hydra=judge.template=mine.jinja")
    stubs.complete(*own)
    mine.touch()
    assert not stubs.planned(*own)
    mine.write_text(mine.read_text() + " ")
    plan = stubs.planned(*own)
    assert plan["grpo"] == plan["metarm"] == 1 and not plan["prepare"]


@pytest.mark.medium
def test_the_end_says_where_to_look_and_what_was_not_mirrored(stubs: Any) -> None:
    text = stubs.snakemake("--cores", "2", *SMOKE, "hydra=tracking.uri=http://host")
    assert "figure: reports/smoke/scaling.png" in text
    assert "MLflow was not reached" in text and "spct sync --run smoke" in text
    assert "--uri http://host" in (stubs.root / "results/smoke/tracked.json").read_text()


@pytest.mark.medium
def test_results_dated_by_a_clock_in_the_future_are_not_made_again(finished: Any) -> None:
    """Copied from a machine whose clock is wrong: all of them, in their order."""
    every = [path for name in ("results", "reports") for path in (finished.root / name).rglob("*")]
    for path in every:
        shift(path, days=3)
    assert not finished.planned(*SMOKE)
    for path in every:
        shift(path, days=-3)


@pytest.mark.medium
def test_a_clock_that_jumped_back_makes_no_table_again_and_touch_settles_models(
    finished: Any,
) -> None:
    """Snakemake compares files by content; of a folder, such as a model, it knows only the date."""
    root = finished.root / "results/smoke"
    made_later = [*root.glob("seed0/select/*/*"), *(root / "seed0/grpo").rglob("*")]
    for path in made_later:
        shift(path, days=-1)
    planned = set(finished.planned(*SMOKE))
    assert "grpo" in planned and not {"prepare", "rollout", "select", "rft"} & planned
    finished.snakemake("--cores", "1", "--touch", *SMOKE)
    assert not finished.planned(*SMOKE)


def shift(path: Path, days: float) -> None:
    """Date a file as a clock would that is off."""
    at = path.stat().st_mtime + 86_400 * days
    os.utime(path, (at, at))


@pytest.mark.medium
def test_a_lost_output_is_remade(finished: Any) -> None:
    (finished.root / "results/smoke/curves.csv").unlink()
    assert set(finished.planned(*SMOKE)) == {"curves", "report", "track"}
    finished.complete(*SMOKE)


@pytest.mark.medium
def test_resume_after_a_killed_snakemake(stubs: Any) -> None:
    """SIGKILL leaves a lock and an orphaned stage; resume ends the orphan, unlocks and finishes."""
    slow = stubs.root / "slow"
    slow.touch()
    owner = stubs.start("snakemake", "--cores", "2", *SMOKE)
    while slow.exists():
        assert owner.poll() is None, "Snakemake ended before the stage began"
        time.sleep(0.2)
    owner.kill()
    owner.wait()
    assert "cannot be locked" in stubs.snakemake("--cores", "2", *SMOKE, ok=False)
    text = stubs.run("spct", "resume")
    assert "resuming: snakemake --cores 2 --config 'experiments=[smoke]'" in text
    assert "ending orphaned stage process" in text
    assert not stubs.planned(*SMOKE)
