"""Short GRPO runs for the tests that kill, watch and break them.

As a script, ``python grpo_world.py FOLDER MODEL``, one of two processes that do :func:`together`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from spct import artifact, config
from spct.config import Slice
from spct.grpo import train
from spct.grpo.sequences import Sequences
from spct.grpo.trace import Trace
from spct.grpo.trainer import Trainer
from spct.records import Item, write_items
from spct.sampling.native import NativeSampler

OVERRIDES = [
    "grpo.steps=4", "grpo.prompts_per_step=3", "grpo.checkpoint_every=1", "grpo.lr=3e-3",
    "grpo.log_samples_every=2", "grpo.warmup_steps=1", "grpo.micro_tokens=512",
    "grpo.allow_empty=true", "grpo.alarm_window=2",
]  # fmt: skip


class Stop(Exception):
    """Stands in for a kill."""


class World:
    """Runs of the stage below one folder; ``world("name", "grpo.lr=1")`` gives a model folder."""

    def __init__(self, folder: Path, model: Path, items: list[Item] | None = None) -> None:
        self.folder, self.model, self.items = folder, model, folder / "items.parquet"
        if items is not None:
            write_items(self.items, items)

    def words(self, *overrides: str) -> list[str]:
        ours = ["model=toy_s", f"model.source={self.model}", "sampler.max_new_tokens=10"]
        return [*ours, *OVERRIDES, *overrides]

    def __call__(self, name: str, *overrides: str, seed: int = 3) -> Path:
        out = self.folder / name
        cfg = Slice.of(config.load(self.words(*overrides)), "grpo")
        train.run(cfg, seed, items=self.items, out=out)
        return out

    def state(self, name: str) -> Path:
        return self.folder / f"{name}.state"


def result(out: Path) -> dict[str, bytes]:
    """Content hash and bytes of all files that equal runs share."""
    files = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    del files["timing.json"]
    files["manifest.json"] = artifact.check_dir(out)["content_hash"].encode()
    return files


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def dies(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int, *, before: bool = False
) -> None:
    """Let the ``at``-th call (from 0) of ``owner.name`` raise :class:`Stop` once it is done."""
    original: Callable[..., Any] = getattr(owner, name)
    left = at

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left == -1 and before:
            raise Stop
        result = original(*args, **kwargs)
        if left == -1:
            raise Stop
        return result

    monkeypatch.setattr(owner, name, call)


# ---- two processes -------------------------------------------------------------------------------

# Uneven shares of everything, and all that a state can hold.
SHARED_OUT = (
    "grpo.eval_every=1", "grpo.eval_items=2", "grpo.keep=best", "grpo.refill=2",
    "grpo.updates_per_rollout=2", "grpo.micro_tokens=256", "sampler.batch_size=4",
)  # fmt: skip
KILLED_AFTER = 2  # steps


def poisoned(patch: pytest.MonkeyPatch, step: int, place: int) -> None:
    """Let sequence ``place`` of step ``step`` have a NaN for an advantage."""
    learned = Sequences.of
    steps: list[int] = []

    def poison(*args: Any) -> Sequences:
        steps.append(1)
        found = learned(*args)
        if len(steps) == step + 1:
            found.advantages[place] = float("nan")
        return found

    patch.setattr(Sequences, "of", poison)


def counted(patch: pytest.MonkeyPatch, owner: Any, name: str) -> list[int]:
    """How many requests or sequences each call of ``owner.name`` was given, from now on."""
    counts: list[int] = []
    original = getattr(owner, name)

    def call(self: Any, given: Sequence[Any], *rest: Any) -> Any:
        counts.append(len(given))
        return original(self, given, *rest)

    patch.setattr(owner, name, call)
    return counts


def stopped(world: World) -> dict[str, Any]:
    """Killed after some steps, and a copy of its state; what this process sampled and learned."""
    with pytest.MonkeyPatch.context() as patch:
        sampled = counted(patch, NativeSampler, "sample")
        learned = counted(patch, Trace, "saw")
        dies(patch, Trainer, "step", KILLED_AFTER)
        error = _error(world, "by_two")
    if os.environ["RANK"] == "0":
        shutil.copytree(world.state("by_two"), world.state("by_one"))
    return {"error": error, "sampled": sum(sampled), "learned": sum(learned)}


def continued(world: World) -> dict[str, Any]:
    """The killed run, to its end."""
    return {"error": _error(world, "by_two")}


def spoilt(world: World) -> dict[str, Any]:
    """A run with a NaN for an advantage."""
    with pytest.MonkeyPatch.context() as patch:
        poisoned(patch, step=1, place=5)
        return {"error": _error(world, "nan")}


def _error(world: World, name: str) -> str:
    try:
        world(name, *SHARED_OUT)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


TOGETHER = {run.__name__: run for run in (stopped, continued, spoilt)}
"""What several processes do together, in a group of their own each time."""


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    name, folder, model = arguments
    told = TOGETHER[name](World(Path(folder), Path(model)))
    (Path(folder) / f"{name}-{os.environ['RANK']}.json").write_text(json.dumps(told))
    sys.stdout.flush()
    os._exit(0)  # an error leaves its group open, and closing it waits for the other process


if __name__ == "__main__":
    main(sys.argv[1:])
