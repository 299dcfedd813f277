"""A set of runs is verified, mirrored and archived as a run is."""

from __future__ import annotations

from pathlib import Path

import pytest
from paper_world import bench, judge, said, write_curves, write_run, write_set

from spct import archive, artifact, closing, config, origin, provenance
from spct.__main__ import main
from spct.artifact import BrokenArtifact
from spct.config import dump
from spct.mirror import collect
from spct.verify import verify_cli

SET, PAGES = Path("results/mine"), Path("reports/mine")


@pytest.fixture(autouse=True)
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The set ``mine`` of one run below the working folder, its tables made by the stage."""
    monkeypatch.chdir(tmp_path)
    items = bench()
    folder = write_run(Path(), "grm", items)
    right = {item.id for item in items[::2]}
    banks = [judge(folder, items, "grpo", said(items, right), said(items, right))]
    write_curves(Path(), "grm", banks)
    work = [{"stage": "judge", "folder": "judge/grpo-toy_m", "home": "grm", "slice": "judge"}]
    told = {"experiment": "tiny", "overrides": [], "seeds": [0], "work": work}
    artifact.write_text(folder / "config/run.yaml", dump(told))
    members = write_set(Path(), grm=banks)
    cfg = config.load(["experiment=tiny", "scaling.ks=[1,2]", "scaling.bootstrap=100"])
    artifact.write_text(SET / "config/paper.yaml", dump(config.view(cfg, "paper")))
    words = ["--config", str(SET / "config/paper.yaml"), f"io.members={members}", f"io.out={PAGES}"]
    assert main(["paper", *words]) == 0


def test_it_verifies_to_the_last_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_cli(["mine"]) == 0
    assert "1 runs' numbers derived again" in capsys.readouterr().out
    path = PAGES / "tables.csv"
    text = path.read_text()
    path.write_text(text.replace("Table 2", "Table 9", 1))
    manifest = artifact.read_manifest(path) | {"content_hash": artifact.file_hash(path)}
    artifact.write_json(path.with_name(f"{path.name}.{artifact.MANIFEST}"), manifest)
    assert verify_cli(["mine", "--quick"]) == 0
    assert verify_cli(["mine"]) == 1
    assert "tables.csv line" in capsys.readouterr().out


def test_a_bank_of_its_runs_that_is_gone_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    Path("results/grm/seed0/judge/grpo-toy_m/0.parquet").write_bytes(b"half")
    assert verify_cli(["mine"]) == 1
    assert "0.parquet" in capsys.readouterr().out


def test_its_pages_are_artifacts_of_a_run_of_their_own() -> None:
    parent, others = collect("mine", Path("results"), Path("reports"))
    assert not others and parent.tags["spct.stage"] == "set"
    found = {(path.name, folder) for path, folder in parent.artifacts}
    assert {
        ("index.html", "report"), ("errors.html", "report"), ("sizes.svg", "report"),
        ("tables.csv", "tables"), ("claims.csv", "tables"), ("set.yaml", "config"),
    } <= found  # fmt: skip


def test_its_closing_line_names_its_page() -> None:
    (line,) = closing.lines({"run": "mine", "synced": True})
    assert line.startswith("tables and claims: reports/mine/index.html   MLflow: ")


def test_it_moves_with_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.tar"
    count = archive.write("mine", file)
    elsewhere = tmp_path / "elsewhere"
    assert archive.unpack(file, elsewhere) == ["grm"]
    files = [path for path in elsewhere.rglob("*") if path.is_file()]
    assert len(files) == count
    monkeypatch.chdir(elsewhere)
    assert provenance.beside(PAGES).is_file() and verify_cli(["mine"]) == 0


def test_a_broken_list_of_runs_is_named() -> None:
    assert [path.name for path in origin.runs_of(SET)] == ["grm"]
    (SET / "config/set.yaml").write_text("members: [1]")
    with pytest.raises(BrokenArtifact, match=r"set\.yaml is broken or of older code"):
        origin.runs_of(SET)
