"""A disk that is full or read-only: a line that says so, nothing half-written, then it goes on."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from spct import artifact, storage
from spct.records import read_bank
from spct.training.checkpoint import Checkpoint

# KiB that hold the first part or state and not all that follows.
ROOM = {"rollout": 40, "grpo": 700}


@pytest.mark.parametrize("stage", ROOM)
def test_a_full_disk_is_said_and_the_stage_goes_on_once_there_is_room(
    line: Any, disk: Any, tmp_path: Path, stage: str
) -> None:
    quiet = line.quiet(stage, tmp_path)
    out = disk.folder / line.files[stage]
    disk.remount(f"size={ROOM[stage]}k")
    code, told = line(stage, out)
    assert code == 2 and "the disk is full; what was finished stands" in told
    assert "Traceback" not in told and str(disk.folder) in told.splitlines()[-1]
    assert not out.exists() and not list(disk.folder.rglob("*.part")), told
    kept = _kept(disk.folder)
    assert kept > 0
    disk.remount("size=64m")
    code, told = line(stage, out)
    assert code == 0, told
    assert ("part 0 stands" if stage == "rollout" else "continues from step") in told
    assert artifact.content_hash(out) == quiet


def _kept(folder: Path) -> int:
    """Parts and states beside the output; each must be whole."""
    parts = [path for path in folder.rglob("*.parquet") if list(read_bank([path]))]
    states = [path for path in folder.rglob("state-*.pt") if torch.load(path, weights_only=True)]
    return len(parts) + len(states)


def test_a_read_only_disk_is_said(line: Any, disk: Any) -> None:
    out = disk.folder / "run" / "0.parquet"
    disk.remount("ro")
    code, told = line("rollout", out)
    assert code == 2 and told.splitlines()[-1].startswith(f"spct: {disk.folder}/run: ")
    assert "the file system is read-only" in told and "Traceback" not in told


@pytest.mark.usefixtures("rights_of_a_user")
def test_a_folder_of_others_is_said(line: Any, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o555)
    code, told = line("rollout", tmp_path / "theirs" / "0.parquet")
    assert code == 2 and "no right to do that" in told and "Traceback" not in told


# ---- the errors behind ---------------------------------------------------------------------------


def test_what_libraries_hide_is_told(disk: Any) -> None:
    """PyTorch and safetensors give no error number."""
    disk.remount("size=100k")
    large = {"weights": torch.randn(100_000)}
    with pytest.raises(OSError) as hidden:
        Checkpoint(disk.folder / "toy_s", {}).save(1, model=large)
    assert hidden.value.errno == errno.ENOSPC
    assert hidden.value.filename == str(disk.folder / "toy_s.state/state-000001.pt")
    with pytest.raises(OSError) as hidden, artifact.atomic_dir(disk.folder / "model") as aside:
        save_file(large, aside / "model.safetensors")
    assert hidden.value.errno == errno.ENOSPC
    assert [path.name for path in disk.folder.iterdir()] == ["toy_s.state"]


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (RuntimeError("shapes"), ValueError("os error"), OSError(errno.EIO, "broken")):
        with pytest.raises(type(error)) as same, storage.writing(tmp_path / "x"):
            raise error
        assert same.value is error
    assert storage.told(OSError(errno.EIO, "broken")) is None
    assert storage.told(OSError(errno.EDQUOT, "full", "a/b")) == (
        "a/b: the quota of the disk is used up; what was finished stands, so mend that and run the "
        "same command again"
    )
