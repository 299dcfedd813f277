"""The benchmark scripts run at tiny size, and their known truth is known."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def estimators(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import estimators

    return estimators


def test_truth_is_the_mean_over_all_outcomes(estimators: ModuleType) -> None:
    for case in (estimators.Case(2, 4, 8), estimators.Case(3, 2, 8)):
        judge = estimators.judges(case, 3, 0)[1]
        np.testing.assert_allclose(judge.chances.sum(axis=1), 1)
        expected = 0.0
        for samples in itertools.product(range(len(judge.scores)), repeat=3):
            totals = judge.scores[list(samples)].sum(axis=0)
            if totals[0] == totals.max():
                chance = judge.chances[:, samples].prod(axis=1).mean()
                expected += chance / (totals == totals.max()).sum()
        assert judge.truth(3) == pytest.approx(expected)


def test_samples_follow_their_chances(estimators: ModuleType) -> None:
    judge = estimators.judges(estimators.Case(2, 3, 4000), 2, 0)[0]
    bank = judge.sample(np.random.default_rng(0))
    for item, chances in enumerate(judge.chances):
        for scores, chance in zip(judge.scores[:-1], chances, strict=False):
            hit = (bank.scores[item] == scores).all(axis=1) & bank.valid[item]
            assert hit.mean() == pytest.approx(chance, abs=0.03)
    np.testing.assert_allclose((~bank.valid).mean(axis=1), judge.chances[:, -1], atol=0.03)
    assert not bank.scores[~bank.valid].any()


def test_estimators_agree_where_they_must(estimators: ModuleType) -> None:
    """With one sample, or all of them, only replacement and noise are left."""
    case = estimators.Case(2, 10, 16)
    bank = estimators.judges(case, 100, 1)[0].sample(np.random.default_rng(1))
    found = {
        name: read(bank, [1, 4, 16], np.random.default_rng(2))
        for name, read in estimators.ESTIMATORS.items()
    }
    for name in ("prefix", "25 subsets"):
        assert found[name][2] == pytest.approx(found["spct"][2])
    ones = estimators.credit(bank.leads).mean()
    assert found["spct"][0] == pytest.approx(ones)
    assert found["prefix"][0] == pytest.approx(estimators.credit(bank.leads[:, 0]).mean())
    for name in ("25 subsets", "replacement"):
        np.testing.assert_allclose(found[name][:2], found["spct"][:2], atol=0.05)


@pytest.mark.medium
def test_only_replacement_is_biased(estimators: ModuleType) -> None:
    found = estimators.measure(estimators.Case(2, 10, 8), 100, 40, 0)
    for name in estimators.ESTIMATORS:
        off = found.errors(name, paired=False)
        t = off.mean(axis=0) / (off.std(axis=0, ddof=1) / np.sqrt(len(off)))
        assert (t[-1] < -5) if name == "replacement" else (np.abs(t) < 4).all(), name
    spread = {name: found.errors(name, paired=True).std(axis=0) for name in found.first}
    assert (spread["spct"][:3] < spread["prefix"][:3]).all()
    assert not found.rerun("spct", paired=False).any()
    assert not found.rerun("prefix", paired=True).any()
    assert (found.rerun("25 subsets", paired=False)[:3] > 0).all()


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(FOLDER / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.medium
def test_estimators_write_a_table_and_a_figure(tmp_path: Path) -> None:
    shown = run("estimators.py", "--items", "6", "--banks", "4", "--out", str(tmp_path))
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert shown == text
    rows = [line for line in text.splitlines() if line.startswith(("| 2 resp", "| 3 resp"))]
    assert len(rows) == 2 * (6 + 7 + 6)
    assert all(row.count("±") == 4 and "nan" not in row for row in rows)
    assert (tmp_path / "figure.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_voting_times_all_ways(tmp_path: Path) -> None:
    run(
        *("voting.py", "--items", "4", "--samples", "6", "--rounds", "1"),
        *("--python-items", "1", "--draws", "5", "--out", str(tmp_path / "table.md")),
    )
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert all(f"| {name}" in text for name in ("plain", "guided", "surface"))
