"""Every stage of `smoke` killed at random moments, many times: the run ends as a quiet one does."""

from __future__ import annotations

from pathlib import Path

import pytest
from clones import Clone, clone_to, hashes
from kill_anywhere import Hunt, plan

SMOKE = ("--cores", "2", "--config", "experiments=[smoke]")
WHOLE, SEED = 3, 20261123


@pytest.mark.slow
def test_fifty_kills_change_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Kills strike stages within a try of Snakemake's, its last try, and Snakemake itself."""
    quiet = Hunt(*_place(tmp_path_factory, "quiet"))
    quiet.complete(*SMOKE)
    due = plan(quiet.seconds, WHOLE, SEED)
    hunt = Hunt(*_place(tmp_path_factory, "hunted"), due)
    hunt.complete("--retries", "1", *SMOKE)
    print(hunt.report())
    assert hashes(hunt.clone.root) == hashes(quiet.clone.root)
    curves = "results/smoke/curves.csv"
    both = [(hunt.clone.root / curves).read_text(), (quiet.clone.root / curves).read_text()]
    assert both[0] == both[1]
    assert not hunt.clone.planned(*SMOKE)
    assert len(hunt.kills) >= 50, hunt.report()
    assert {kill.job for kill in hunt.kills if not kill.whole} == set(due), hunt.report()
    assert sum(bool(kill.writing) for kill in hunt.kills) >= 5, hunt.report()
    hunt.clone.run("spct", "verify", "results/smoke")


def _place(folders: pytest.TempPathFactory, name: str) -> tuple[Clone, Path]:
    folder = folders.mktemp(name)
    return clone_to(folder / "clone", weights=True), folder / "log"
