"""Files cut short wherever: the stage that reads one names it, and writes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from spct import artifact
from spct.sampling import fill, parts


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_items_cut_short(line: Any, tmp_path: Path, share: float) -> None:
    _cut(line.items, share)
    _refused(line, tmp_path / "0.parquet", line.items)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("sealed", [True, False])
def test_weights_cut_short(line: Any, tmp_path: Path, share: float, sealed: bool) -> None:
    """In a model of ours its manifest tells, in a folder from elsewhere the file itself."""
    line.model = shutil.copytree(line.model, tmp_path / "model")
    if not sealed:
        (line.model / artifact.MANIFEST).unlink()
    _cut(line.model / "model.safetensors", share)
    _refused(line, tmp_path / "0.parquet", line.model)


def test_a_part_cut_short(line: Any, tmp_path: Path) -> None:
    """A part is synced before it is named, so a disk has lost it: said, not sampled around."""
    out = tmp_path / "0.parquet"
    assert line("rollout", out)[0] == 0
    part = tmp_path / "0.parquet.parts" / "0.parquet"
    part.parent.mkdir()
    out.rename(part)
    _cut(part, 0.5)
    identity = part.with_name("identity.json")
    with pytest.MonkeyPatch.context() as patch:  # of this very work
        patch.setattr(parts, "check_identity", lambda *_: None)
        patch.setattr(fill, "check_identity", lambda *_: None)
        _refused(line, out, part)
    assert not identity.exists()
    part.unlink()
    assert line("rollout", out)[0] == 0


def _cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def _refused(line: Any, out: Path, broken: Path) -> None:
    code, told = line("rollout", out)
    last = told.splitlines()[-1]
    assert code == 2 and last.startswith("spct: ") and str(broken) in last, told
    assert "Traceback" not in told and not out.exists()
