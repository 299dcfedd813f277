"""The shipped profile on a real Slurm gives a local run's results, whatever is cancelled."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from clones import ROOT, Clone, clone_to, hashes
from safetensors.torch import load_file

from spct.models import BASES
from spct.runs import Runs

SMOKE = ("--config", "experiments=[smoke]")
# As documented: the plugin's own srun, one process on one node, would keep the job's from both.
NODES = {"nodes": 2, "mpi": "srun", "tasks": 2, "tasks_per_gpu": 0}
FROM_BASE = "plan.policies=[base,grpo]"
SEED = Path("results/smoke/seed0")
SELECTED = f"{SEED}/select/toy_s/rft.parquet"
# As documented, for a Slurm without accounting; and less patience than a real cluster needs.
PROFILE = (
    "--profile", "slurm", "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "1",
    "--latency-wait", "10",
)  # fmt: skip

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        find_spec("snakemake_executor_plugin_slurm") is None, reason="needs pip install '.[slurm]'"
    ),
]


def comments(slurm: Any, state: str = "all") -> dict[str, str]:
    """What the jobs do, by their numbers; the plugin names rule or group in a comment."""
    lines = slurm.ask("squeue", "--noheader", "--states", state, "--format", "%i %k").splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def test_stages_run_as_jobs_with_what_the_profile_asks_for(
    slurm: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clone, local = clone_to(tmp_path, weights=True), tmp_path_factory.mktemp("local")
    before = set(slurm.jobs())
    clone.run("snakemake", SELECTED, *PROFILE, *SMOKE)
    assert set(slurm.jobs().values()) == {"COMPLETED"}
    done = {job: text for job, text in comments(slurm).items() if job not in before}
    assert len(done) == 3, done  # freeze ran here
    (rollout,) = [job for job, comment in done.items() if "rule_rollout" in comment]
    shown = slurm.ask("scontrol", "show", "job", rollout)
    for wanted in ("NumCPUs=4", "mem=62.50G", "gpu:1", "TimeLimit=08:00:00", "Requeue=1"):
        assert wanted in shown, shown
    here = clone_to(local, weights=True)
    here.run("snakemake", "--cores", "2", SELECTED, *SMOKE)
    assert hashes(clone.root) == hashes(here.root)


def wait_for(clone_process: subprocess.Popen[str], ready: Callable[[], Any]) -> Any:
    """What ``ready`` gives once it is true, while Snakemake runs."""
    while clone_process.poll() is None:
        if found := ready():
            return found
        time.sleep(0.05)
    raise AssertionError(f"Snakemake ended before\n{clone_process.communicate()[0]}")


def steps(clone: Clone) -> int:
    """GRPO steps that a state keeps."""
    names = [path.stem for path in (clone.root / SEED / "grpo/toy_s.state").glob("state-*.pt")]
    return max((int(name.rpartition("-")[2]) for name in names), default=0)


@pytest.mark.slow
def test_a_run_that_slurm_takes_machines_from_ends_with_the_hashes_of_a_quiet_one(
    slurm: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """GRPO is put back by Slurm, as a preempted job is, then cancelled, which costs an attempt."""
    clone, local = clone_to(tmp_path, weights=True), tmp_path_factory.mktemp("quiet")
    before = set(slurm.jobs())
    process = clone.start("snakemake", "--jobs", "2", *PROFILE, *SMOKE)

    def training(after: int) -> str | None:
        ours = [job for job, text in comments(slurm, "running").items() if "rule_grpo_" in text]
        return ours[0] if ours and steps(clone) > after else None

    log = clone.root / "logs/smoke/seed0/grpo/toy_s.log"

    def ended() -> bool:
        return "ended by SIGTERM after" in log.read_text()

    job = wait_for(process, lambda: training(0))
    slurm.ask("scontrol", "requeue", job)
    wait_for(process, ended)
    kept = steps(clone)
    wait_for(process, lambda: slurm.jobs("pending").get(job))
    slurm.ask("scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm waits two minutes
    assert wait_for(process, lambda: training(kept)) == job
    slurm.ask("scancel", job)
    wait_for(process, ended)
    text, _ = process.communicate()
    assert process.returncode == 0, text
    assert "continues from step" in log.read_text()

    ours = {job: text for job, text in comments(slurm).items() if job not in before}
    again = [job for job, text in ours.items() if "rule_grpo_" in text]
    assert len(again) == 2 and "mem=125G" in slurm.ask(
        "scontrol", "show", "job", max(again, key=int)
    )
    assert Counter(slurm.jobs()[job] for job in ours)["CANCELLED"] == 1
    assert len(ours) <= 13  # 14 stages of `smoke` but freeze, in groups, and GRPO twice

    here = clone_to(local, weights=True)
    here.run("snakemake", "--cores", "2", *SMOKE)
    assert hashes(clone.root) == hashes(here.root)


def furthest(one: Path, other: Path) -> float:
    """The largest difference of two models' weights, as a share of the largest weight."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    gap = max(float((first[name] - second[name]).abs().max()) for name in first)
    return gap / max(float(value.abs().max()) for value in first.values())


def test_grpo_on_two_nodes_is_grpo_on_one(
    slurm: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The job's srun starts a torchrun on each node; they meet by Slurm's variables.

    GRPO from the base and without its upstream stages, so that the one job is the test.
    """
    words = ("--config", "experiments=[smoke]", f"hydra={FROM_BASE}")
    (run,) = Runs("smoke", FROM_BASE).targets
    policy = f"results/{run}/seed0/grpo/toy_s"
    both = {**NODES, "gpu": 2, "mem_mb": 4000, "runtime": 60}
    asked = ("--set-resources", *(f"grpo:{name}={value}" for name, value in both.items()))
    clone, local = clone_to(tmp_path, weights=True), tmp_path_factory.mktemp("one")
    before = set(slurm.jobs())
    # the data before, here: what the command line names replaces the profile's other resources
    clone.run("snakemake", "--cores", "2", f"{SEED}/data/train.parquet", *words)
    clone.run("snakemake", policy, *PROFILE, *asked, *words)
    (job,) = set(slurm.jobs()) - before
    shown = slurm.ask("scontrol", "show", "job", job)
    assert "NumNodes=2" in shown and slurm.jobs()[job] == "COMPLETED", shown
    told = (clone.root / f"logs/{run}/seed0/grpo/toy_s.log").read_text()
    here = clone_to(local, weights=True)
    here.run("snakemake", "--cores", "2", policy, *words)
    assert furthest(clone.root / policy, here.root / policy) < 1e-4, told
    base = clone.root / "src" / BASES.relative_to(ROOT / "src") / "toy_s"
    assert furthest(here.root / policy, base) > 1e-3
    steps = [root / policy / "timing.json" for root in (clone.root, here.root)]
    counts = [json.loads(path.read_text())["processes"] for path in steps]
    assert counts == [2, 1]
