"""How training gets its processes: one, several of a machine, or those of several machines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from grpo_world import World
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE
from safetensors.torch import load_file
from test_grpo_parallel import WEIGHT, same_run
from test_parallel import furthest

from spct import launch
from spct.errors import ConfigError

STAGE = ("spct", "grpo", "--config", "a.yaml")
TWO = {"SLURM_JOB_ID": "30017", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "gpu[07-08]"}


def test_a_process_for_each_gpu_of_a_machine() -> None:
    for gpus in (0, 1):
        assert launch.words(1, gpus, STAGE, {}) == list(STAGE)
    assert launch.words(1, 8, STAGE, TWO) == [
        "torchrun", "--standalone", "--nproc-per-node", "8", "-m", *STAGE,
    ]  # fmt: skip


def test_a_torchrun_on_each_of_two_nodes_that_meet_on_the_first() -> None:
    assert launch.words(2, 16, STAGE, TWO) == [
        "srun", "--overlap", "--nodes", "2", "--ntasks", "2", "--ntasks-per-node", "1",
        "--gpus-per-node", "8", "--kill-on-bad-exit=1",
        "torchrun", "--nnodes", "2", "--nproc-per-node", "8", "--rdzv-id", "30017",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "gpu07:20017", "-m", *STAGE,
    ]  # fmt: skip


def test_a_process_for_two_gpus() -> None:
    """One trains, one samples."""
    assert launch.words(1, 2, STAGE, {}, 2) == list(STAGE)
    assert launch.words(1, 8, STAGE, TWO, 2)[3] == "4"
    started = launch.words(2, 16, STAGE, TWO, 2)
    assert started[started.index("--gpus-per-node") + 1] == "8"
    assert started[started.index("--nproc-per-node") + 1] == "4"
    with pytest.raises(ConfigError, match=r"3 GPUs a node.*let gpu be a multiple of 4"):
        launch.words(2, 6, STAGE, TWO, 2)


@pytest.mark.parametrize(
    ("nodes", "gpus", "env", "message"),
    [
        (2, 15, TWO, "15 GPUs on 2 nodes: gpu is that of all"),
        (3, 24, TWO, "3 nodes are asked for, Slurm has given 2"),
        (2, 16, {}, "Slurm has given 0; several need --profile slurm"),
    ],
)
def test_what_cannot_be_started_is_told(
    nodes: int, gpus: int, env: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        launch.words(nodes, gpus, STAGE, env)


def test_slurm_is_asked_where_its_variables_were_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake's plugin leaves the job's number alone."""
    stub = tmp_path / "squeue"
    stub.write_text('#!/bin/sh\ntest "$3" = 30017 && echo "2 gpu[07-08]"\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert launch.words(2, 16, STAGE, {"SLURM_JOB_ID": "30017"}) == launch.words(2, 16, STAGE, TWO)
    with pytest.raises(ConfigError, match="squeue .* 9 .*does not say which nodes"):
        launch.words(2, 16, STAGE, {"SLURM_JOB_ID": "9"})


@pytest.mark.parametrize(
    ("nodelist", "host"),
    [
        ("n1", "n1"),
        ("a[07-12,20]-ib,b1", "a07-ib"),
        ("rack[2-3]node[01,04-05]", "rack2node01"),
        ("b1,a[1-2]", "b1"),
        ("gpu-3.cluster", "gpu-3.cluster"),
    ],
)
def test_the_first_host(nodelist: str, host: str) -> None:
    assert launch.first_host(nodelist) == host


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,5}[a-z]", fullmatch=True)
NUMBERS = st.lists(st.integers(0, 99), min_size=1, max_size=4)


@given(st.lists(st.tuples(NAMES, NUMBERS, st.sampled_from(["", "-i"])), min_size=1, max_size=3))
def test_any_list_begins_with_its_first_host(parts: list[tuple[str, list[int], str]]) -> None:
    text = ",".join(f"{a}[{','.join(f'{n:02}' for n in ns)}]{b}" for a, ns, b in parts)
    head, numbers, tail = parts[0]
    assert launch.first_host(text) == f"{head}{numbers[0]:02}{tail}"


def test_no_list_is_told() -> None:
    with pytest.raises(ConfigError, match="names no host"):
        launch.first_host("")


def test_the_launcher_lets_the_signal_pass_and_the_stage_takes_it(tmp_path: Path) -> None:
    """What torchrun inherits; a stage starts with SIGTERM as it was meant."""
    stub = tmp_path / "torchrun"
    stub.write_text(
        f"#!{sys.executable}\nimport os, signal\nfrom spct.preempt import heed\n"
        "before = signal.getsignal(signal.SIGTERM)\nheed()\n"
        "print(before.name, signal.getsignal(signal.SIGTERM).name, os.environ['%s'])\n"
        % launch.KEEP_TERM[0]
    )
    stub.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SPCT_GPUS": "0,1"}
    env = {k: v for k, v in env.items() if not k.startswith("SLURM_")} | {"TMPDIR": str(tmp_path)}
    words = [sys.executable, "-m", "spct.launch", "1", "2", "1", *STAGE]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["SIG_IGN", "SIG_DFL", "SIGINT,SIGHUP,SIGQUIT"]
    done = subprocess.run([*words[:4], "3", "1", *STAGE], env=env, capture_output=True, text=True)
    assert done.returncode == 2 and "3 GPUs are asked for, this machine shows 2" in done.stderr


# ---- two nodes ---------------------------------------------------------------------------------

# Stands in for srun: both nodes are this machine.
SRUN = """#!/bin/bash
while [ "$1" != torchrun ]; do shift; done
"$@" & one=$!
"$@" & two=$!
wait $one; first=$?
wait $two; exit $((first > $? ? first : $?))
"""


@pytest.mark.slow
def test_two_nodes_train_as_one_process_and_keep_their_step_when_asked_to_end(
    tmp_path: Path, talker_folder: Path, make_items: Callable[..., Any]
) -> None:
    """Two real torchruns that meet by the loopback; SIGTERM to every process, as Slurm sends it."""
    world = World(tmp_path, talker_folder, make_items("pair", 4) + make_items("single", 4))
    steps = (
        "grpo.steps=8",
        "grpo.checkpoint_every=100",
        "grpo.keep=best",
        "grpo.eval_every=4",
        "grpo.eval_items=4",
    )
    one = world("one", *steps)
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = free.getsockname()[1]
    path = os.pathsep.join([str(tmp_path), os.path.dirname(sys.executable), os.environ["PATH"]])
    env = {
        **os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "SLURM_JOB_ID": str(base),
        "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "127.0.0.1",
    }  # fmt: skip
    words = [*world.words(*steps), "seed=3", f"io.items={world.items}", f"io.out={tmp_path}/two"]

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "spct.launch", "2", "2", "1", "spct", "grpo", *words],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    process = begin()
    metrics = world.state("two") / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 1):
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[0]
    launcher = psutil.Process(process.pid)
    for each in [launcher, *launcher.children(recursive=True)]:
        each.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0 and "ended by SIGTERM after" in told, told
    assert not (tmp_path / "two").exists() and list(world.state("two").glob("state-*.pt"))
    process = begin()
    told, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "continues from step" in told, told
    same_run(one, tmp_path / "two")
    weights = [load_file(folder / "model.safetensors") for folder in (talker_folder, one)]
    assert furthest(*weights) > 100 * WEIGHT
