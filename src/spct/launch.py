"""``python -m spct.launch NODES GPUS EACH spct STAGE …``: the processes of a stage that trains.

A process for every ``EACH`` GPUs: one as it is, several of one machine by ``torchrun``, those of
several machines by an ``srun`` that starts a ``torchrun`` on each, which meet where Slurm's
variables say. ``GPUS`` are those of all machines together. Whoever launches lets SIGTERM pass: the
scheduler sends it to all processes of a job, and each worker ends by itself once its step is kept.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from spct import devices
from spct.errors import ConfigError

# torchrun would give its workers half a minute, whatever a step takes.
KEEP_TERM = ("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGINT,SIGHUP,SIGQUIT")
PORTS = range(20_000, 30_000)  # below those that systems hand out themselves


def words(
    nodes: int, gpus: int, command: Sequence[str], env: Mapping[str, str], each: int = 1
) -> list[str]:
    """The command that starts ``command`` (``spct …``) on ``gpus`` GPUs of ``nodes`` machines.

    A process gets ``each`` GPUs of its machine. Raises ``ConfigError`` where the GPUs cannot be
    shared out evenly, or several machines are asked for and Slurm, which could give them, has not.
    """
    if gpus % nodes:
        raise ConfigError(f"{gpus} GPUs on {nodes} nodes: gpu is that of all nodes together")
    here = gpus // nodes
    if here % each:
        raise ConfigError(
            f"{here} GPUs a node, and a process needs {each} (grpo.colocate=false: one to train, "
            f"one to sample); let gpu be a multiple of {each * nodes}"
        )
    processes = here // each
    if nodes == 1:
        launcher = ["torchrun", "--standalone", "--nproc-per-node", str(processes), "-m"]
        return [*(launcher if processes > 1 else []), *command]
    given, nodelist = allocation(env)
    if given < nodes:
        raise ConfigError(
            f"{nodes} nodes are asked for, Slurm has given {given}; several need --profile slurm"
        )
    job = env["SLURM_JOB_ID"]
    place = f"{first_host(nodelist)}:{PORTS[int(job) % len(PORTS)]}"
    return [
        *("srun", "--overlap", "--nodes", str(nodes), "--ntasks", str(nodes)),
        *("--ntasks-per-node", "1", "--gpus-per-node", str(here), "--kill-on-bad-exit=1"),
        *("torchrun", "--nnodes", str(nodes), "--nproc-per-node", str(processes), "--rdzv-id", job),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", place, "-m", *command),
    ]


def allocation(env: Mapping[str, str]) -> tuple[int, str]:
    """How many nodes this Slurm job has, and their list; 0 outside of one.

    Snakemake's plugin keeps no variable of Slurm's but the job's number, so Slurm itself is asked.
    """
    if "SLURM_JOB_NUM_NODES" in env:
        return int(env["SLURM_JOB_NUM_NODES"]), env["SLURM_JOB_NODELIST"]
    if "SLURM_JOB_ID" not in env:
        return 0, ""
    asked = ["squeue", "--noheader", "--jobs", env["SLURM_JOB_ID"], "--format", "%D %N"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
        count, nodelist = told.stdout.split()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"{' '.join(asked)} does not say which nodes this job has ({error})"
        ) from error
    return int(count), nodelist


def first_host(nodelist: str) -> str:
    """The first host of a list as Slurm writes it: ``a[07-12,20]-ib,b1`` begins with ``a07-ib``."""
    whole = re.match(r"(?:[^,[]|\[[^]]*\])+", nodelist)
    if whole is None:
        raise ConfigError(f"SLURM_JOB_NODELIST is {nodelist!r}, which names no host")
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", whole[0])


def main(arguments: Sequence[str]) -> int:
    """Become the launcher, on GPUs that no other job has."""
    if len(arguments) < 4 or not all(word.isdigit() for word in arguments[:3]):
        print("usage: python -m spct.launch NODES GPUS EACH spct STAGE …", file=sys.stderr)
        return 2
    nodes, gpus, each = map(int, arguments[:3])
    command = arguments[3:]
    try:
        started = words(nodes, gpus, command, os.environ, each)
        devices.take(gpus)
    except ConfigError as error:
        print(f"spct: {error}", file=sys.stderr)
        return 2
    if started[0] != command[0]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.environ.setdefault(*KEEP_TERM)
    os.execvp(started[0], started)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
