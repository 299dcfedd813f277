"""Profiles name every stage and only what there is, and plan the same jobs wherever they run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from clones import ROOT, Clone

from spct.stages import STAGES

SMOKE = ("--config", "experiments=[smoke]")
RULES = {stage: (ROOT / "workflow/rules" / f"{stage}.smk").read_text() for stage in STAGES}
ON_GPU = {stage for stage, text in RULES.items() if "gpu=0" in text}


def profile(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())
    return read


def test_slurm_knows_memory_and_time_of_every_stage_and_asks_for_more_when_it_failed() -> None:
    found = profile("slurm")["set-resources"]
    assert set(found) == set(STAGES)
    for stage, given in found.items():
        assert {"mem_mb", "runtime"} <= set(given), stage
        assert all(str(given[name]).endswith("* attempt") for name in ("mem_mb", "runtime")), stage


@pytest.mark.parametrize("name", ["slurm", "workstation", "kubernetes"])
def test_every_stage_that_a_gpu_helps_has_one(name: str) -> None:
    found = profile(name)["set-resources"]
    assert {stage for stage, given in found.items() if given.get("gpu") == 1} == ON_GPU
    for word in (*profile(name).get("groups", ()), *profile(name).get("set-threads", ())):
        assert word.partition("=")[0] in STAGES


def test_one_machine_never_starts_more_jobs_than_it_has_gpus(clone: Clone) -> None:
    words = ("--dry-run", "--profile", "profiles/workstation", "--cores", "4")
    text = clone.snakemake(*words, "--resources", "gpu=4", *SMOKE)
    assert len(re.findall(r"resources:.*\bgpu=1\b", text)) == len(
        re.findall(rf"^rule (?:{'|'.join(ON_GPU)}):", text, re.MULTILINE)
    )


@pytest.mark.medium
def test_slurm_gets_few_jobs_with_what_the_profile_says(clone: Clone) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm")
    text = clone.snakemake("--dry-run", "--profile", "slurm", *SMOKE)
    grpo = re.search(r"^rule grpo:.*?resources: ([^\n]*)", text, re.MULTILINE | re.DOTALL)
    assert grpo is not None
    for wanted in ("mem_mb=64000", "runtime=2880", "gpu=1", "slurm_partition=main", "TERM@300"):
        assert wanted in grpo[1]
    together = set(re.findall(r"^    rule (\w+):", text, re.MULTILINE))  # grouped ones are indented
    assert together == {"prepare", "select", "rft", "curves", "health", "report"}


@pytest.mark.medium
def test_kubernetes_plans_the_same_jobs(clone: Clone, tmp_path: Path) -> None:
    pytest.importorskip("snakemake_executor_plugin_kubernetes")
    pytest.importorskip("snakemake_storage_plugin_fs")
    there = ("--profile", "profiles/kubernetes", "--default-storage-prefix", str(tmp_path))
    assert clone.planned(*there, *SMOKE) == clone.planned(*SMOKE)


@pytest.mark.medium
def test_a_profile_of_ones_own_is_a_copy(stubs: Clone) -> None:
    shutil.copytree(stubs.root / "profiles/workstation", stubs.root / "profiles/mine")
    stubs.edit("profiles/mine/config.yaml", "  grpo: {gpu: 1}", "  grpo: {gpu: 0, runtime: 7}")
    words = ("--dry-run", "--cores", "1", "--profile", "profiles/mine", *SMOKE)
    (grpo,) = re.findall(r"^rule grpo:.*?resources: ([^\n]*)", stubs.snakemake(*words), re.M | re.S)
    assert "gpu=0" in grpo and "runtime=7" in grpo
