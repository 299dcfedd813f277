"""SIGKILL of stages, and of Snakemake itself, at given moments of a run; what was hit is kept.

Progress is counted in CPU seconds of the stage's process, so that a busy machine moves nothing.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import psutil
from clones import Clone

from spct import resume
from spct.stages import STAGES

LOOK_S, POLL_S = 0.25, 0.004  # for new processes; for what the known ones do
ROUNDS = 40  # starts of Snakemake, beyond which something is wrong


@dataclass(frozen=True)
class Moment:
    """When to kill: all of it must hold. ``whole``: Snakemake is killed and the stage lives on."""

    cpu_s: float = 0.0  # seconds of CPU that the process has had, at least
    kept: int = 0  # parts or states of earlier work beside the output, at least
    writing: bool = False  # a file is being written
    whole: bool = False


@dataclass(frozen=True)
class Kill:
    """A kill and how far the stage was: CPU seconds, what it kept, what it was writing."""

    job: str
    cpu_s: float
    kept: int
    writing: tuple[str, ...]
    whole: bool

    @property
    def stage(self) -> str:
        return self.job.partition(" ")[0]


@dataclass
class Target:
    """A running process of a stage; ``job`` is the stage and what it makes."""

    process: psutil.Process
    job: str
    out: Path
    cpu_s: float = 0.0

    def folders(self) -> list[Path]:
        """Where it writes."""
        parts, states = (self.out.with_name(self.out.name + end) for end in (".parts", ".state"))
        return [self.out.parent, self.out, parts, *parts.glob("*/"), states]

    def writing(self) -> tuple[str, ...]:
        """Names of the files it has begun and not put in their place."""
        found = []
        for folder in self.folders():
            try:
                names = os.listdir(folder)
            except OSError:
                continue
            found += [name for name in names if name.endswith(f".{self.process.pid}.part")]
        return tuple(found)

    def kept(self) -> int:
        """Finished parts and states."""
        places = self.folders()[2:]
        return sum(
            len([*folder.glob("*.parquet"), *folder.glob("state-*.pt")]) for folder in places
        )


def target_of(process: psutil.Process, command: Sequence[str], root: Path) -> Target | None:
    """The stage that a process runs, or ``track``, which mirrors what all have made."""
    outs = [word.partition("=")[2] for word in command if word.startswith("io.out")]
    stage = next((word for word in command if word in STAGES), "")
    if "sync" in command and "--out" in command:
        stage, outs = "track", [command[command.index("--out") + 1]]
    elif not resume.is_stage(list(command)):
        return None
    return Target(process, f"{stage} {outs[0]}", root / outs[0]) if stage and outs else None


# Shares of the CPU that a quiet run takes, and whether to wait there for the first file begun. A
# stage that goes on from what it has kept may be done before the later ones.
SHARES = (
    *((0.0, 0.5, False), (0.0, 0.6, True), (0.4, 0.8, False)),
    *((0.6, 0.95, False), (0.6, 0.9, True)),
)


def plan(seconds: Mapping[str, float], whole: int, seed: int) -> dict[str, list[Moment]]:
    """Five random moments for every job, of which ``seconds`` has the CPU a quiet run took.

    ``whole`` of all kill Snakemake.
    """
    draw = random.Random(seed)
    drawn = {
        job: [
            Moment(draw.uniform(low, high) * cpu_s, writing=writing)
            for low, high, writing in SHARES
        ]
        for job, cpu_s in sorted(seconds.items())
    }
    for job in draw.sample(sorted(drawn), whole):
        drawn[job][1] = replace(drawn[job][1], whole=True)
    return drawn


@dataclass
class Hunt:
    """Follows runs in a clone and kills. ``due`` has the moments of each job, one an attempt.

    A moment that an attempt never reached is dropped with it.
    """

    clone: Clone
    log: Path
    due: Mapping[str, Sequence[Moment]] = field(default_factory=dict)
    kills: list[Kill] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # most CPU a job was seen to take
    starts: Counter[str] = field(default_factory=Counter)  # of `snakemake` and `spct resume`

    def __post_init__(self) -> None:
        self._left = {job: list(moments) for job, moments in self.due.items()}
        self._live: dict[int, Target] = {}

    def complete(self, *words: str) -> None:
        """Run Snakemake, again after every failure, and ``spct resume`` where it was killed."""
        for _ in range(ROUNDS):
            heads = sum(kill.whole for kill in self.kills)
            code = self.run("snakemake", *words)
            while heads < (heads := sum(kill.whole for kill in self.kills)):
                code = self.run("spct", "resume")
            if code == 0:
                return
        raise AssertionError(f"not done after {ROUNDS} starts\n{self.log.read_text()[-4000:]}")

    def run(self, module: str, *arguments: str) -> int:
        """Start a module, kill what is due until it ends; its exit status."""
        self.starts[" ".join([module, *arguments[:1]]) if module == "spct" else module] += 1
        with self.log.open("a", encoding="utf-8") as told:
            process = self.clone.start(module, *arguments, to=told)
            looked = 0.0
            while process.poll() is None:
                if time.monotonic() - looked > LOOK_S:
                    self._look()
                    looked = time.monotonic()
                for target in list(self._live.values()):
                    if moment := self._reached(target):
                        self._strike(target, moment, told)
                time.sleep(POLL_S)
        self._look()
        return process.returncode

    def _look(self) -> None:
        """Find new processes of stages, forget ended ones."""
        found: dict[int, Target] = {}
        for process, command in resume.processes(self.clone.root):
            known = self._live.pop(process.pid, None)
            if known or (known := target_of(process, command, self.clone.root)):
                found[process.pid] = known
        for ended in self._live.values():
            if self._left.get(ended.job):  # before its moment came
                self._left[ended.job].pop(0)
        self._live = found

    def _reached(self, target: Target) -> Moment | None:
        """The moment that has come for this process, taken from those left."""
        with suppress(psutil.Error):
            times = target.process.cpu_times()
            target.cpu_s = times.user + times.system
        self.seconds[target.job] = max(target.cpu_s, self.seconds.get(target.job, 0.0))
        left = self._left.get(target.job)
        if not left or target.cpu_s < left[0].cpu_s or target.kept() < left[0].kept:
            return None
        if left[0].writing and not target.writing():
            return None
        return left.pop(0)

    def _strike(self, target: Target, moment: Moment, told: TextIO) -> None:
        victims = [target.process]
        if moment.whole:
            every = resume.processes(self.clone.root)
            victims = [process for process, command in every if resume.is_snakemake(command)]
        else:
            del self._live[target.process.pid]
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        kill = Kill(target.job, target.cpu_s, target.kept(), target.writing(), moment.whole)
        self.kills.append(kill)
        told.write(f"{kill}\n")
        told.flush()

    def report(self) -> str:
        """Counts by stage, how many struck a write, how often all was started, and each kill."""
        stages = Counter("snakemake" if kill.whole else kill.stage for kill in self.kills)
        writes = sum(bool(kill.writing) for kill in self.kills)
        lines = [
            f"{len(self.kills)} kills, {writes} of them while a file was written: {dict(stages)}",
            f"started: {dict(self.starts)}",
        ]
        for kill in self.kills:
            share = kill.cpu_s / max(self.seconds[kill.job], 1e-9)
            lines.append(f"  {kill}, {share:.0%} of the longest attempt")
        return "\n".join(lines)
