"""``spct verify`` and ``spct resume``: whole, broken, stale; owners and orphans."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from spct import artifact, resume
from spct.config import ConfigError
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
    program.write_text("import time\ntime.sleep(60)\n")
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
