"""An experiment's stages one after another, where there is a GPU but no Snakemake and no MLflow.

Where Snakemake is installed:

    python benchmarks/unrolled.py write toy_scale

has Snakemake freeze the configuration and asks its dry run for the command of every stage, in an
order that works: ``results/toy_scale/commands.json``. Files that are there already (data of
``prepare``, bases) go along with ``results/``. On the other machine, in a copy of the repository
that holds that ``results/``:

    python benchmarks/unrolled.py walk results/toy_scale/commands.json --limit 540 --pack OUT

runs what is not finished, each stage as the workflow would, until the time is up: the running
stage gets SIGTERM, keeps its state, and the same command goes on there the next time. Of a stage
that fails the log's last lines are shown, and those that do not need it still run. Afterwards
tables, pages and as many banks as fit lie packed in OUT. Prints a table last.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

SKIPPED = ("all", "freeze", "track", "paper", "track_set")  # already done, or not this machine's
SNAKEMAKE = (sys.executable, "-m", "snakemake")
GRACE_S = 60  # of SIGTERM
TAIL = 15  # lines of a failed stage's log
PART, PARTS = 15 << 20, 4  # bytes of a packed file, and how many there may be
LEFT_OUT = (".safetensors", ".pt", ".lock")  # weights, resume states
FIRST = (".csv", ".html", ".svg", ".png", ".json", ".jsonl", ".md", ".log")  # before the banks
BLOCK = re.compile(r"^(?:local)?rule (\w+):\n(.*?)(?=^\[|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """One job of the workflow: its rule, the files it reads and makes, its shell command."""

    rule: str
    inputs: list[str]
    outputs: list[str]
    log: str
    command: str

    @property
    def name(self) -> str:
        """The stage and what it is of, as in its log's path."""
        return str(Path(*Path(self.log).parts[2:]).with_suffix(""))

    @property
    def done(self) -> bool:
        """Outputs appear whole, so their being there says that the stage has ended well."""
        return all(Path(path).exists() for path in self.outputs)


# ---- where Snakemake is ------------------------------------------------------------------------


def write(experiment: str, overrides: str) -> Path:
    """Freeze the experiment's configuration and write down its commands."""
    words = ["--config", f"experiments=[{experiment}]"]
    words += [f"hydra={overrides}"] if overrides else []
    frozen = ["--cores", "1", "--quiet", "all", "--until", "freeze"]
    subprocess.run([*SNAKEMAKE, *frozen, *words], check=True)
    shown = subprocess.run(
        [*SNAKEMAKE, "--dry-run", "--printshellcmds", "--forceall", *words],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    steps = list(parsed(shown.stdout + shown.stderr))
    (curves,) = (step for step in steps if step.rule == "curves")
    path = Path(curves.outputs[0]).with_name("commands.json")
    path.write_text(json.dumps([asdict(step) for step in steps], indent=1), encoding="utf-8")
    return path


def parsed(shown: str) -> Iterator[Step]:
    """The stages among the jobs that a dry run prints."""
    for rule, text in BLOCK.findall(shown):
        if rule in SKIPPED:
            continue
        said = {
            key: re.search(rf"^(?:    )?{key}: (.*)$", text, re.MULTILINE)
            for key in ("input", "output", "log", "Shell command")
        }
        values = {key: found[1].strip() if found else "" for key, found in said.items()}
        yield Step(
            rule, values["input"].split(", "), values["output"].split(", "),
            values["log"], values["Shell command"],
        )  # fmt: skip


# ---- where the GPU is --------------------------------------------------------------------------


def walk(steps: list[Step], limit: float, only: str) -> list[tuple[str, float, str]]:
    """Run what is not finished; name, seconds and outcome of each stage."""
    end, rows = time.monotonic() + limit, []
    spoilt: set[str] = set()  # outputs that will not come
    for step in steps:
        seconds, left = 0.0, end - time.monotonic()
        if step.done:
            outcome = "was there"
        elif only and not re.fullmatch(only, step.rule):
            outcome = "not asked for"
        elif missing := [path for path in step.inputs if path in spoilt]:
            outcome = f"needs {missing[0]}"
        elif left <= 0:
            outcome = "no time"
        else:
            print(f"{step.name} …", flush=True)
            started = time.monotonic()
            outcome = run(step, left)
            seconds = time.monotonic() - started
        if not step.done:
            spoilt.update(step.outputs)
        rows.append((step.name, seconds, outcome))
    return rows


def run(step: Step, left: float) -> str:
    """Run one stage for at most so many seconds; how it ended."""
    for path in (step.log, *step.outputs):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    own = f'spct() {{ {shlex.quote(sys.executable)} -m spct "$@"; }}'
    script = f"set -euo pipefail; trap : TERM; {own}; {step.command}"
    process = subprocess.Popen(["bash", "-c", script], start_new_session=True, env=environment())
    try:
        code = process.wait(timeout=left)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        return "out of time"
    if code == 0 and step.done:
        return "made"
    lines = Path(step.log).read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines[-TAIL:]), flush=True)
    return f"failed ({code})"


def environment() -> dict[str, str]:
    """This one, with the repository's own package and interpreter first."""
    source = str(Path(__file__).resolve().parents[1] / "src")
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PYTHONPATH": path, "PATH": programs}


def pack(folders: Iterable[Path], out: Path) -> list[str]:
    """Pack what the folders hold into ``out``, tables and pages first; the paths left out."""
    out.mkdir(parents=True, exist_ok=True)
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    worth = [path for path in found if path.suffix not in LEFT_OUT]
    worth.sort(key=lambda path: (path.suffix not in FIRST, path.stat().st_size))
    room, left = [PART] * PARTS, []
    packed: list[list[Path]] = [[] for _ in room]
    for path in worth:
        size = path.stat().st_size + 1024  # and a header
        part = next((part for part, free in enumerate(room) if size <= free), None)
        if part is None:
            left.append(str(path))
        else:
            room[part] -= size
            packed[part].append(path)
    for part, paths in enumerate(packed):
        if paths:
            with tarfile.open(out / f"part{part}.tar.gz", "w:gz", compresslevel=3) as archive:
                for path in paths:
                    archive.add(path)
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="where Snakemake is")
    writing.add_argument("experiment")
    writing.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    walking = commands.add_parser("walk", help="where the GPU is")
    walking.add_argument("commands", type=Path)
    walking.add_argument("--limit", type=float, default=540, help="seconds (default 540)")
    walking.add_argument("--only", default="", help="rules to run, a regular expression")
    walking.add_argument("--pack", type=Path, help="folder for what is brought home")
    args = parser.parse_args()
    if args.command == "write":
        print(write(args.experiment, " ".join(args.overrides)))
        return
    steps = [Step(**step) for step in json.loads(args.commands.read_text(encoding="utf-8"))]
    rows = walk(steps, args.limit, args.only)
    if args.pack:
        folders = sorted({Path(*Path(path).parts[:2]) for step in steps for path in step.outputs})
        for path in pack([*folders, Path("logs")], args.pack):
            print(f"too much to pack: {path}")
    width = max(len(name) for name, _, _ in rows)
    for name, seconds, outcome in rows:
        print(f"{name:<{width}} {seconds:8.1f} s  {outcome}")
    print(f"{sum(step.done for step in steps)} of {len(steps)} stages finished")


if __name__ == "__main__":
    main()
