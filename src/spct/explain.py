"""``spct explain RUN STAGE``: why a stage would run again, or that it would not.

It looks where Snakemake looks, and says more: which key of the frozen slice changed and from what,
which input is newer and whether its content changed, which file is missing, what upstream runs
again first. Other code is told too, though nothing runs again for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from spct import artifact, origin, provenance
from spct.artifact import BrokenArtifact
from spct.config import TEMPLATE_HASH, ConfigError
from spct.runs import Node, Runs
from spct.stages import STAGES

# Stages that a run has once, over all seeds, and what they write below results/<run>.
WHOLE = {
    "curves": ("curves.csv", "comparisons.csv", "surface.csv", "official.csv"),
    "health": ("health.csv",),
    "report": ("report.html",),  # below reports/<run>
}
# What the others write, where it is neither a bank nor a model folder.
FILES = {
    "prepare": ("train.parquet", "bench.parquet", "general.parquet", "ledger.json"),
    "audit": ("overlap.json",),
    "select": ("rft.parquet", "ledger.json"),
    "difficulty": ("train.parquet", "ledger.json"),
    "recast": ("bench.parquet",),
    "baseline_score": ("scores.parquet",),
    "token_prob": ("scores.parquet",),
}
BANKS = ("rollout", "rollout_policy", "judge", "score")
SUMMED = 1_000_000  # bytes; of smaller inputs Snakemake compares the content, not the time alone


@dataclass(frozen=True)
class Reason:
    """Why a stage would run again; ``reruns`` is false for what is only worth knowing."""

    why: str
    reruns: bool = True

    def __str__(self) -> str:
        return self.why if self.reruns else f"{self.why}; that alone reruns nothing"


class Explainer:
    """What today's configuration makes of the files of one run; ``root`` holds ``results/``."""

    def __init__(self, runs: Runs, run: str, root: Path = Path()) -> None:
        self.runs, self.run, self.root = runs, run, root
        self._found: dict[tuple[Node, int], list[Reason]] = {}

    @cached_property
    def _written(self) -> origin.Origin | None:
        folder = self.root / "results" / self.run
        return origin.read(folder) if origin.recorded(folder) else None

    def reasons(self, node: Node, seed: int) -> list[Reason]:
        """Everything that makes this piece of work run again, nearest first."""
        if (node, seed) not in self._found:
            self._found[node, seed] = [*self._moved(node), *self._reasons(node, seed)]
        return self._found[node, seed]

    def _reasons(self, node: Node, seed: int) -> Iterator[Reason]:
        outputs = self.outputs(node, seed)
        missing = [path for path in outputs if not path.exists()]
        for path in missing[:3]:
            yield Reason(f"{path} is missing")
        if len(missing) > 3:
            yield Reason(f"{len(missing) - 3} further outputs are missing")
        yield from self._slice(node, outputs)
        here = [path for path in outputs if path.exists()]
        if here:
            yield from self._inputs(node, seed, here)
        for other, one in itertools.product(self._upstream(node), self._seeds(node, seed)):
            if first := next((found for found in self.reasons(other, one) if found.reruns), None):
                what = other.stage if other.stage in WHOLE else other.folder
                yield Reason(f"{what} runs again first: {first.why}")
        if here:
            yield from _code(here[0])

    def outputs(self, node: Node, seed: int) -> list[Path]:
        """The declared outputs of a piece of work, those of one seed."""
        if node.stage in WHOLE:
            top = "reports" if node.stage == "report" else "results"
            return [self.root / top / self.run / name for name in WHOLE[node.stage]]
        if node.stage in BANKS:
            return [self.root / path for path in self.runs.bank(self.run, seed, node)]
        place = self.root / self.runs.at(self.run, seed, node)
        return [place / name for name in FILES.get(node.stage, ())] or [place]

    def _upstream(self, node: Node) -> Sequence[Node]:
        if node.stage not in WHOLE:
            return self.runs.upstream(self.run, node)
        if node.stage == "report":
            trained = ("prepare", "select", "difficulty", "rft", "grpo", "metarm", "baseline")
            rest = (node for node in self.runs.work(self.run) if node.stage in trained)
            return [Node("curves"), Node("health"), *rest]
        return [*self.runs.judged(self.run), *self.runs.scored(self.run)]

    def _seeds(self, node: Node, seed: int) -> list[int]:
        return self.runs.runs[self.run].cfg.plan.seeds if node.stage in WHOLE else [seed]

    def _moved(self, node: Node) -> Iterator[Reason]:
        """Work that was shared with another run and no longer is, or the reverse."""
        if node.stage in WHOLE or self._written is None:
            return
        now = self.runs.home(self.run, node)
        for piece in self._written.work:
            if piece.folder == node.folder and piece.home != now:
                yield Reason(f"the same work is now that of {now}; it was {piece.home}'s", False)

    def _slice(self, node: Node, outputs: Sequence[Path]) -> Iterator[Reason]:
        """Keys whose frozen value, or else the value it was made with, is not today's."""
        home = self.run if node.stage in WHOLE else self.runs.home(self.run, node)
        path = self.runs.slice_path(home, node)
        name = path.removeprefix(f"results/{home}/config/").removesuffix(".yaml")
        if not (self.root / path).is_file():
            yield Reason(f"{self.root / path} is missing")
            return
        now = yaml.safe_load(self.runs.frozen(home, name))
        frozen = yaml.safe_load((self.root / path).read_text(encoding="utf-8"))
        texts = list(changes(frozen, now))
        made = provenance.read(outputs[0])
        if not texts and made is not None:
            since = changes(_plain(made["slice"]), _plain(now))
            texts = [f"{text} (frozen so, and not run since)" for text in since]
        yield from map(Reason, texts)

    def _inputs(self, node: Node, seed: int, outputs: Sequence[Path]) -> Iterator[Reason]:
        """Inputs that are newer than the oldest output."""
        oldest = min(map(modified, outputs))
        known = _recorded(outputs[0])
        pairs = itertools.product(self._upstream(node), self._seeds(node, seed))
        paths = [path for other, one in pairs for path in self.outputs(other, one)]
        for path in dict.fromkeys(paths):
            if path.exists() and modified(path) > oldest:
                was = known.get(str(path.relative_to(self.root)))
                now = _content(path)
                if was and was == now:
                    small = path.is_file() and path.stat().st_size <= SUMMED
                    yield Reason(f"{path} is newer, its content the same", not small)
                elif was:
                    yield Reason(f"{path} is newer and its content has changed")
                else:
                    yield Reason(f"{path} is newer")


def _plain(slice_: Mapping[str, Any]) -> dict[str, Any]:
    """A slice without the hash that only the frozen file has."""
    judge = slice_.get("judge")
    if not isinstance(judge, dict):
        return dict(slice_)
    return {**slice_, "judge": {k: v for k, v in judge.items() if k != TEMPLATE_HASH}}


def changes(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """``key: was X, is Y`` of every leaf in which two slices differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}, key=str):
            below = f"{key}.{name}" if key else str(name)
            yield from changes(old.get(name, _NOTHING), new.get(name, _NOTHING), below)
    elif old != new:
        yield f"{key}: was {_shown(old)}, is {_shown(new)}"


_NOTHING = object()


def _shown(value: Any) -> str:
    return "not there" if value is _NOTHING else repr(value)


def modified(path: Path) -> int:
    """The time Snakemake takes for a file's or folder's: in a folder its own stamp's, ns."""
    stamp = path / ".snakemake_timestamp"
    return (stamp if stamp.is_file() else path).stat().st_mtime_ns


def _recorded(output: Path) -> dict[str, str]:
    """The content hashes of the inputs an output was made from, by path; empty if not recorded."""
    told = provenance.read(output) or {"inputs": {}}
    return {e["path"]: e["content_hash"] for entries in told["inputs"].values() for e in entries}


def _content(path: Path) -> str | None:
    try:
        return provenance.content_of(path)
    except BrokenArtifact:
        return None


def _code(output: Path) -> Iterator[Reason]:
    try:
        made = provenance.read(output)
        found = made["code"]["fingerprint"] if made else artifact.read_manifest(output).get("code")
    except BrokenArtifact:
        return
    if found != artifact.code_fingerprint():
        yield Reason(
            f"it was made by other code ({found}; now {artifact.code_fingerprint()})", False
        )


# ---- the command -------------------------------------------------------------------------------


def named(runs: Runs, run: str, stage: str) -> list[Node]:
    """The pieces of work a person means: ``grpo`` all of a stage, ``judge/grpo-toy_m`` one."""
    name = stage.partition("/")[0]
    if stage in WHOLE:
        return [Node(stage)]
    if name not in STAGES:
        raise ConfigError(f"explain: no stage {name!r}; there are {', '.join(STAGES)}")
    every = [node for node in runs.work(run) if node.stage == name]
    found = [node for node in every if stage in (name, node.folder)]
    if not found:
        there = ", ".join(node.folder for node in every) or "none of that stage"
        raise ConfigError(f"explain: {run} has no {stage}; it has {there}")
    return found


def asked(run: str, root: Path = Path()) -> Runs:
    """The runs behind a name: a folder's own experiment and overrides, else an experiment's."""
    folder = root / "results" / run
    if origin.recorded(folder):
        known = origin.read(folder)
        return Runs(known.experiment, known.overrides)
    return Runs(run)


def explain_cli(words: list[str]) -> int:
    """Print for each piece of work and seed why it would run again; 0 either way."""
    if len(words) != 2:
        raise ConfigError(
            "explain: name a run and a stage, such as tiny grpo or tiny judge/rft-toy_s"
        )
    run = Path(words[0]).name
    runs = asked(run)
    if run not in runs.runs:
        raise ConfigError(f"explain: {run} is no run below results/ and no experiment")
    explainer = Explainer(runs, run)
    for node in named(runs, run, words[1]):
        once = node.stage in WHOLE
        for seed in runs.runs[run].cfg.plan.seeds[: 1 if once else None]:
            _print(explainer, node, seed, f"{run} {node.stage}" if once else "")
    return 0


def _print(explainer: Explainer, node: Node, seed: int, title: str) -> None:
    found = explainer.reasons(node, seed)
    where = title or f"{explainer.runs.home(explainer.run, node)} seed {seed} {node.folder}"
    again = any(reason.reruns for reason in found)
    print(f"{where}: {'runs again' if again else 'stands'}")
    for reason in found:
        print(f"  {reason}")
