"""``spct verify`` and ``spct resume``: whole, broken, stale; owners and orphans."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from spct import artifact, resume
from spct.config import ConfigError, dump
from spct.publish import publish
from spct.verify import verify_cli


def results(folder: Path) -> None:
    table = pa.table({"id": ["a", "b"], "value": [1, 2]})
    artifact.write_table(folder / "bank" / "0.parquet", table, key=("id",), kind="bank")
    artifact.write_csv(folder / "curves.csv", ["k"], [{"k": 1}])
    with artifact.atomic_dir(folder / "model") as aside:
        (aside / "config.json").write_text("{}")


def test_whole_artefacts_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results(tmp_path)
    assert verify_cli([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "3 whole, of them 0 stale; 0 broken\n"


@pytest.mark.parametrize("file", ["bank/0.parquet", "curves.csv", "model/config.json"])
def test_a_changed_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    results(tmp_path)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:-1])
    assert verify_cli([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert f"broken  {path}" in out
    assert "2 whole" in out


def test_other_code_makes_results_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results(tmp_path)
    monkeypatch.setattr(artifact, "code_fingerprint", lambda: "other")
    assert verify_cli([str(tmp_path)]) == 0
    assert "of them 3 stale; 0 broken" in capsys.readouterr().out


def shared_run(root: Path) -> Path:
    """A finished run ``mine`` whose select stage lies in ``base``."""
    folder = root / "results/mine"
    results(folder)
    for name in ("comparisons.csv", "surface.csv", "official.csv", "health.csv"):
        artifact.write_csv(folder / name, ["k"], [{"k": 1}])
    table = pa.table({"id": ["a"]})
    place = root / "results/base/seed3/select/m/rft.parquet"
    artifact.write_table(place, table, key=("id",), kind="rows")
    work = [{"stage": "select", "folder": "select/m", "home": "base", "slice": "select"}]
    origin = {"experiment": "mine", "overrides": [], "seeds": [3], "work": work}
    for path, value in {"mine/config/run": origin, "base/config/select": {"select": {}}}.items():
        artifact.write_text(root / f"results/{path}.yaml", dump(value))
    artifact.write_text(root / "reports/mine/report.html", "page")
    return place


def test_shared_work_is_verified_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = shared_run(tmp_path)
    mine = str(tmp_path / "results/mine")
    assert verify_cli([mine, "--quick"]) == 0
    assert "8 whole" in capsys.readouterr().out
    place.write_bytes(place.read_bytes()[:-1])
    assert verify_cli([mine, mine, "--quick"]) == 1
    assert "1 broken" in capsys.readouterr().out
    place.unlink()
    place.parent.rmdir()
    assert verify_cli([mine, "--quick"]) == 1
    assert f"{place.parent} is missing" in capsys.readouterr().out


def test_publishing_copies_the_slices_of_all_stages(tmp_path: Path) -> None:
    shared_run(tmp_path)
    where = {"results": tmp_path / "results", "reports": tmp_path / "reports"}
    tables = ("curves", "comparisons", "surface", "official", "health")
    folder = publish("mine", tmp_path / "docs", **where)
    assert folder.name.endswith("-mine")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file()}
    assert found == {
        "report.html", "ABOUT.md", "config/run.yaml", "config/select.yaml",
        *(f"{name}.csv{end}" for name in tables for end in ("", ".manifest.json")),
    }  # fmt: skip
    with pytest.raises(ConfigError, match="base/report.html is missing"):
        publish("base", tmp_path / "docs", **where)


def test_resume_takes_the_arguments_of_the_last_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resume.recorded() == ["--cores", "all"]
    (tmp_path / ".snakemake").mkdir()
    words = ["--cores", "2", "--config", "hydra=grpo.lr=1 grpo.steps=2"]
    monkeypatch.setattr(sys, "argv", ["snakemake", *words, "--rerun-incomplete"])
    resume.record()
    assert resume.recorded() == words


def test_commands_are_told_apart() -> None:
    assert resume.is_snakemake(["/v/bin/python", "/v/bin/snakemake", "--cores", "all"])
    assert resume.is_snakemake(["python", "-m", "snakemake", "-n"])
    assert resume.is_snakemake(["python", "/v/site-packages/snakemake/__main__.py"])
    assert not resume.is_snakemake(["vim", "notes-on-snakemake.txt"])
    assert not resume.is_snakemake(["python", "/v/bin/spct", "resume", "--cores", "all"])
    assert resume.is_stage(["python", "/v/bin/spct", "grpo", "seed=0"])
    assert not resume.is_stage(["python", "/v/bin/spct", "resume"])


def test_a_live_owner_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Snakefile").touch()
    program = tmp_path / "snakemake"
    program.write_text("import time\ntime.sleep(3600)\n")
    monkeypatch.chdir(tmp_path)
    owner = subprocess.Popen([sys.executable, str(program)], cwd=tmp_path)
    try:
        with pytest.raises(ConfigError, match=f"process {owner.pid}"):
            resume.resume_cli([])
    finally:
        owner.kill()
        owner.wait()


def test_resume_needs_a_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"no Snakefile in {os.getcwd()}"):
        resume.resume_cli([])
