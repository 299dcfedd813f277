# Runs from the two config keys, wildcard shapes, three helpers for inputs, how training starts.
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from spct import asked, closing, requirements, resume
from spct.config import ConfigError
from spct.runs import Node, Runs

# `spct` of the environment that runs Snakemake, activated or not.
os.environ.update(
    PATH=os.pathsep.join([os.path.dirname(sys.executable), *os.get_exec_path()])
)

# Stages show the progress that is in their logs here too, if somebody watches.
if sys.stderr.isatty():
    os.environ.setdefault("SPCT_TERMINAL", os.ttyname(sys.stderr.fileno()))


def checked(call, *args):
    """What `call` returns; a mistake in the configuration stops Snakemake with one line."""
    try:
        return call(*args)
    except ConfigError as error:
        raise WorkflowError(str(error)) from error


# The entries of --config as they were typed, not as YAML reads them (src/spct/asked.py).
TYPED = workflow.config_settings.config_args
checked(asked.once, sys.argv if workflow.is_main_process else [])
EXPERIMENTS, OVERRIDES = checked(asked.asked, config, TYPED)
RUNS = checked(Runs, EXPERIMENTS, OVERRIDES)
workflow.config_settings.config_args = checked(asked.carried, TYPED)  # for cluster jobs

if workflow.is_main_process:
    for line in requirements.warnings(RUNS):
        print(f"spct: {line}", file=sys.stderr)


def check_machine():
    """Refuse, before the first job, what cannot run here; on a cluster each job asks for itself."""
    if workflow.local_exec and not workflow.deployment_settings.deployment_method:
        due = [(j.rule.name, dict(j.wildcards)) for j in workflow.dag.needrun_jobs()]
        checked(requirements.check, RUNS, due)


wildcard_constraints:
    run="[^/]+",
    seed=r"\d+",
    size=r"[\w.-]+",
    policy="base|rft|grpo",
    baseline="btrm|pairrm|cloud|rm",
    shard=r"\d+",


def made(stage, file="", policy=""):
    """Input: what `stage` made for this run, seed and size, in whichever run it lives."""

    def path(w):
        size = "" if stage == "prepare" else w.size
        return RUNS.at(
            w.run, w.seed, Node(stage, size, policy or w.get("policy", "")), file
        )

    return path


def bank(stage):
    """Input: all shards that `stage` made for this run, seed and size."""
    return lambda w: RUNS.bank(w.run, w.seed, Node(stage, w.size, w.get("policy", "")))


def base_model(w):
    """Input: the shipped base. A source: its time stamp never reruns anything."""
    return [ancient(local(path)) for path in RUNS.base_model(w.run, w.size)]


def own_template(w):
    """Input: the user's own prompt. Its content is in the slice, so its time stamp says nothing."""
    return [ancient(local(path)) for path in RUNS.template(w.run, w.size)]


def any_of(names):
    """Wildcard constraint: one of these, and nothing else."""
    return "|".join(map(re.escape, names)) or "(?!)"


def many(name, listed=""):
    """Param: an input list (called `name` if not otherwise) as `io.name=path io.name=path …`."""
    return lambda w, input: [f"io.{name}={path}" for path in input.get(listed or name)]


# A scheduler signals all processes of a job: the shell lives on until the stage has kept its state.
shell.prefix("set -euo pipefail; trap : TERM; ")

# `spct` for a stage that can use GPUs, which it has to itself (src/spct/devices.py), and for one that
# trains: a process on each of them, on one machine or several, or a process for every few of them
# (src/spct/launch.py).
DEVICES = "$(test {resources.gpu} -gt 0 && echo python -m spct.devices {resources.gpu})"
SPCT = f"{DEVICES} spct"
TRAIN = (
    "$(test {resources.gpu} -gt 0 && echo python -m spct.launch"
    " {resources.nodes} {resources.gpu} {params.gpus_each}) spct"
)


def gpus_each(count=lambda run: 1):
    """Param: how many GPUs a process that trains needs. Several nodes must be asked for in full."""

    def param(wildcards, resources):
        # a TBDString where Snakemake only asks what would run
        several = isinstance(resources.nodes, int) and resources.nodes > 1
        if several and not resources.get("mpi"):
            more = f"mpi: srun, tasks: {resources.nodes}, tasks_per_gpu: 0"
            raise WorkflowError(
                f"nodes: {resources.nodes} needs more of Slurm's plugin, which would start the stage "
                f"on one of them: {more} (docs/cluster.md)"
            )
        return count(wildcards.run)

    return param
