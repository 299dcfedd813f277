"""A tracker that dies while it is written to: the run is finished all the same, and catches up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_tracking import RUN, history, make_results, mirror, runs_of


def test_a_tracker_that_dies_midway_costs_nothing_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    make_results(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    plain, calls = MlflowClient.log_batch, Counter[str]()

    def dying(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls["log_batch"] += 1
        if calls["log_batch"] > 3:
            raise ConnectionError("the server is gone")
        return plain(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", dying)
        told = mirror(tmp_path)
    assert told["synced"] is False and "the server is gone" in told["reason"]
    begun = runs_of(tmp_path)
    assert len(begun) > 0
    told = mirror(tmp_path)
    assert told["synced"], told
    runs = runs_of(tmp_path)
    assert RUN in runs and len(runs) > len(begun) - 1
    assert len(history(tmp_path, runs["grpo m seed 0"].info.run_id, "reward")) == 1200
    assert mirror(tmp_path)["written"] == 0
