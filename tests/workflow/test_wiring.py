"""Rules and stages agree: every io name a rule passes is one the stage takes, none is missing."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from clones import Clone

from spct import devices
from spct.stages import STAGES

RULES = Path(__file__).parents[2] / "workflow" / "rules"
OPTIONAL = {"init"}  # nothing for the base
TRAINED = ("rft", "grpo", "metarm", "baseline")  # stages that several processes can share


def passed(stage: str) -> set[str]:
    text = (RULES / f"{stage}.smk").read_text()
    return set(re.findall(r"io\.(\w+)=", text)) | set(re.findall(r'many\("(\w+)"', text))


@pytest.mark.parametrize("stage", STAGES)
def test_a_rule_passes_what_its_stage_takes(stage: str) -> None:
    parameters = inspect.signature(STAGES[stage].load()).parameters.values()
    taken = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    needed = {name for name, p in taken.items() if p.default is p.empty}
    assert needed <= passed(stage) <= set(taken)
    assert not needed & OPTIONAL


@pytest.mark.parametrize("stage", STAGES)
def test_a_rule_calls_its_own_stage(stage: str) -> None:
    text = (RULES / f"{stage}.smk").read_text()
    start = r'(TRAIN|SPCT)\s*\+ " ' if "gpu=0" in text else '"spct '
    assert re.search(rf"\s{start}{stage} --config \{{input\.cfg\}}", text)
    assert ("TRAIN" in text) == (stage in TRAINED)
    assert "log:" in text and "resources:" in text


NODES = ("nodes=2", "mpi=srun", "tasks=2", "tasks_per_gpu=0")


@pytest.mark.medium
def test_several_nodes_are_asked_for_in_full(clone: Clone) -> None:
    asked = ("--dry-run", "--set-resources", "grpo:gpu=2", "grpo:nodes=2")
    assert "needs more of Slurm's plugin" in clone.snakemake(*asked, ok=False)
    clone.snakemake(*asked, *(f"grpo:{word}" for word in NODES[1:]))


@pytest.mark.medium
def test_a_sampler_apart_halves_the_processes_not_the_gpus(clone: Clone) -> None:
    apart = ("--config", "hydra=grpo.colocate=false", "--set-resources", "grpo:gpu=4")
    shown = clone.snakemake("--dry-run", "--printshellcmds", *apart)
    launched = set(re.findall(r"spct\.launch ([\d ]+)\) spct (\w+) ", shown))
    assert {("1 4 2", "grpo"), ("1 0 1", "rft")} <= launched


@pytest.mark.medium
def test_stages_get_their_gpus_and_training_a_process_on_each(clone: Clone, tmp_path: Path) -> None:
    """The shell commands that Snakemake shows, run with stubs for the two programs."""
    given = {"rft": 0, "grpo": 2, "metarm": 16, "judge": 1, "score": 0}
    words = [f"{stage}:gpu={count}" for stage, count in given.items()] + [
        f"metarm:{word}" for word in NODES
    ]
    shown = clone.snakemake("--dry-run", "--printshellcmds", "--set-resources", *words)
    for name in ("spct", "torchrun", "srun"):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\necho "on <$CUDA_VISIBLE_DEVICES>" {name} "$@"\n')
        stub.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.path.dirname(sys.executable), os.environ["PATH"]])
    around = {k: v for k, v in os.environ.items() if k not in (devices.VISIBLE, "SLURM_JOB_ID")}
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[4-5]"}
    started = {}
    for command in re.findall(r"^Shell command: (\$\(test .*) > \S+ 2>&1", shown, re.MULTILINE):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            env={**around, "SPCT_GPUS": "3,5,7", "TMPDIR": str(tmp_path), "PATH": path}
            | (slurm if " metarm " in command else {}),
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        launcher, stage, rest = re.split(rf" ({'|'.join(STAGES)}) ", done.stdout, maxsplit=1)
        assert rest.startswith("--config results/tiny/config/") and " io.out=results/" in rest
        started[stage] = launcher
    assert started == {
        "rollout": "on <> spct",
        "rft": "on <> spct",
        "grpo": "on <3,5> torchrun --standalone --nproc-per-node 2 -m spct",
        "rollout_policy": "on <> spct",
        "metarm": "on <> srun --overlap --nodes 2 --ntasks 2 --ntasks-per-node 1"
        " --gpus-per-node 8 --kill-on-bad-exit=1 torchrun --nnodes 2 --nproc-per-node 8 --rdzv-id 7"
        " --rdzv-backend c10d --rdzv-endpoint n4:20007 -m spct",
        "judge": "on <3> spct",
        "score": "on <> spct",
    }
