"""How long a dry run takes, what memory it needs and how many jobs it plans.

    python benchmarks/dryrun.py --out benchmarks/results/$(date +%F)-dryrun.md

Each experiment is planned in a clone of its own without results, by the command a user types, on
one core. The peak is that of the Snakemake process and whatever it starts, as the kernel counts it.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("Snakefile", "conf", "workflow", "profiles", "src", "reports")
EXPERIMENTS = ("tiny", "deepseek_grm_27b")
JOBS = re.compile(r"^total\s+(\d+)$", re.MULTILINE)


def clone(folder: Path) -> Path:
    """A copy of what the workflow reads, without results."""
    ignored = shutil.ignore_patterns("__pycache__", "*.html", "*.png", "*.svg", "*.safetensors")
    for name in NEEDED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, folder / name, **({"ignore": ignored} if source.is_dir() else {}))
    return folder


@dataclass(frozen=True)
class Run:
    """Jobs of one dry run, its wall and CPU seconds, the peak resident set in MiB."""

    jobs: int
    wall: float
    cpu: float
    peak: int


def measure(experiment: str, folder: Path) -> Run:
    """One dry run.

    The peak is a running maximum over all children so far: measure the smaller experiment first.
    """
    words = ["--dry-run", "--quiet", "rules", "--cores", "1", "--config"]
    command = [sys.executable, "-m", "snakemake", *words, f"experiments=[{experiment}]"]
    env = {**os.environ, "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    if hasattr(os, "sched_getaffinity"):
        command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
    before, started = _cpu(), time.monotonic()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    seconds = time.monotonic() - started
    text = done.stdout + done.stderr
    if done.returncode:
        raise SystemExit(text)
    jobs = JOBS.findall(text)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return Run(int(jobs[-1]) if jobs else 0, seconds, _cpu() - before, peak)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(rounds: int) -> list[str]:
    """A row an experiment: jobs, wall and CPU seconds as median and range, peak."""
    head = ("experiment", "jobs", "wall seconds", "CPU seconds", "peak MiB")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    with tempfile.TemporaryDirectory() as place:
        folder = clone(Path(place))
        for experiment in EXPERIMENTS:
            found = [measure(experiment, folder) for _ in range(rounds)]
            wall, cpu = ([getattr(run, name) for run in found] for name in ("wall", "cpu"))
            last = found[-1]
            cells = (experiment, last.jobs, _spread(wall), _spread(cpu), last.peak)
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _spread(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    before = os.getloadavg()[0]
    rows = table(args.rounds)
    versions = [f"{name} {metadata.version(name)}" for name in ("snakemake", "hydra-core")]
    text = "\n".join(
        [
            "# Dry run of the workflow\n",
            f"    python benchmarks/dryrun.py --rounds {args.rounds}\n",
            f"One core of {platform.machine()}, Python {platform.python_version()}, "
            f"{', '.join(versions)}. Load of the machine when it began: {before:.1f}, "
            f"of {os.cpu_count()} cores; rounds: {args.rounds}; nothing computed before; "
            "median and range.\n",
            *rows,
            "\nAccepted: 30 s, 2 GB, at most 5,000 jobs; aim 10 s.",
        ]
    )
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
