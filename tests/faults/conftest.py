"""A small world for the command line, and a disk that can be full or read-only."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from spct import __main__ as command
from spct import artifact
from spct.records import write_items

for folder in ("unit", "workflow"):
    sys.path.append(str(Path(__file__).parents[1] / folder))

STAGES = {
    "rollout": ["rollout.n_rft=3", "sampler.part_samples=6", "io.shard=0"],
    "grpo": [
        "grpo.steps=3", "grpo.prompts_per_step=2", "grpo.checkpoint_every=1",
        "grpo.warmup_steps=1", "grpo.micro_tokens=512", "grpo.allow_empty=true",
    ],
}  # fmt: skip


@dataclass
class Line:
    """Stages by the command line, in this process, on seven items and a tiny model."""

    model: Path
    items: Path
    capsys: pytest.CaptureFixture[str]
    files: ClassVar[dict[str, str]] = {"rollout": "0.parquet", "grpo": "toy_s"}

    def words(self, stage: str, out: Path) -> list[str]:
        ours = ["model=toy_s", f"model.source={self.model}", "sampler.max_new_tokens=10"]
        return [stage, *ours, *STAGES[stage], "seed=3", f"io.items={self.items}", f"io.out={out}"]

    def __call__(self, stage: str, out: Path, *more: str) -> tuple[int, str]:
        """Exit status and what stderr got."""
        code = command.main([*self.words(stage, out), *more])
        return code, self.capsys.readouterr().err

    def quiet(self, stage: str, folder: Path) -> str:
        """The content hash of an undisturbed run."""
        out = folder / "quiet" / self.files[stage]
        assert self(stage, out)[0] == 0
        return artifact.content_hash(out)


@pytest.fixture
def line(
    tiny_folder: Path, make_items: Callable[..., Any], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Line:  # fmt: skip
    items = tmp_path / "items.parquet"
    write_items(items, make_items("pair", 4) + make_items("single", 3))
    return Line(tiny_folder, items, capsys)


# Of linux/capability.h: the version of the call, and what lets root write anywhere.
CAPABILITIES, DAC_OVERRIDE = 0x20080522, 1 << 1


@pytest.fixture
def rights_of_a_user() -> Iterator[None]:
    """Root, too, is held to the rights of files while the test runs."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    sets = (ctypes.c_uint32 * 6)()  # twice: effective, permitted, inheritable
    assert libc.capget(header, sets) == 0
    before = sets[0]
    sets[0] = before & ~DAC_OVERRIDE
    assert libc.capset(header, sets) == 0
    yield
    sets[0] = before
    assert libc.capset(header, sets) == 0


@dataclass
class Disk:
    """A mounted file system in memory."""

    folder: Path

    def remount(self, options: str) -> None:
        words = ["mount", "-o", f"remount,{options}", str(self.folder)]
        subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of one MiB, or the reason why there is none."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk")
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "spct-test", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
