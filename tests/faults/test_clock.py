"""A clock that jumps gives no negative duration; what Snakemake makes of it: test_dryrun.py."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest

DAY = 86_400


@pytest.mark.parametrize("stage", ["rollout", "grpo"])
def test_a_clock_that_runs_backwards_gives_no_negative_duration(
    line: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    now = itertools.count(time.time(), -DAY)
    monkeypatch.setattr(time, "time", lambda: next(now))
    out = tmp_path / "run" / line.files[stage]
    assert line(stage, out)[0] == 0
    told = [
        path for path in out.parent.rglob("*.json") if "tim" in path.name or "made" in path.name
    ]
    seconds = [each for path in told for each in _seconds(json.loads(path.read_text()))]
    assert len(told) >= 2 and seconds and min(seconds) >= 0


def _seconds(value: Any, name: str = "") -> list[float]:
    """All numbers called seconds, however deep."""
    if isinstance(value, dict):
        return [x for key, inner in value.items() for x in _seconds(inner, key)]
    if isinstance(value, list):
        return [x for inner in value for x in _seconds(inner, name)]
    return [value] if "seconds" in name and isinstance(value, (int, float)) else []
