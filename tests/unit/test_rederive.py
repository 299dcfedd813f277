"""``spct verify`` derives numbers again, ``spct archive`` moves a run, sidecars tell its making."""

from __future__ import annotations

import inspect
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bank_world import judged, make_items, own

from spct import archive, artifact, config, models, provenance, rederive
from spct.__main__ import main
from spct.config import ConfigError, dump
from spct.records import read_bank, write_bank
from spct.scaling import curves
from spct.verify import verify_cli

WORDS = ["experiment=smoke", "scaling.ks=[1,2]", "scaling.subsets=10", "scaling.bootstrap=50"]
RUN = Path("results/run")


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run below the working folder whose curves the real stage drew; a selection lies in base."""
    monkeypatch.chdir(tmp_path)
    banks = judged(Path(), make_items(4))
    put(RUN / "config/curves.yaml", dump(config.view(config.load(WORDS), "curves")))
    work = [
        {"stage": stage, "folder": folder, "home": home, "slice": slice_}
        for stage, folder, home, slice_ in (
            ("prepare", "data", "run", "prepare"),
            ("judge", "judge/base-toy_m", "run", "toy_m/judge"),
            ("select", "select/toy_m", "base", "select"),
        )
    ]
    origin = {"experiment": "smoke", "overrides": [], "seeds": [0], "work": work}
    put(RUN / "config/run.yaml", dump(origin))
    put(Path("results/base/config/select.yaml"), "select: {}\n")
    shared = Path("results/base/seed0/select/toy_m")
    artifact.write_ledger(shared / "ledger.json", total=1, kept=1, rejected={})
    put(shared / "rft.parquet.state/state-1.pt", "half")
    outs = [
        f"io.{name}={RUN}/{name.removeprefix('out').removeprefix('_') or 'curves'}.csv"
        for name in inspect.signature(curves.run).parameters
        if name.startswith("out")
    ]
    words = [f"io.items={RUN}/seed0/data/bench.parquet", *(f"io.banks={path}" for path in banks)]
    assert (
        main(["curves", "--config", f"{RUN}/config/curves.yaml", *words, "io.run=run", *outs]) == 0
    )
    return tmp_path


def reseal(path: Path) -> None:
    """Make manifest and sidecar agree with a CSV file that was changed."""
    sides = (path.with_name(f"{path.name}.{artifact.MANIFEST}"), provenance.beside(path))
    for side in sides:
        told = {**json.loads(side.read_text()), "content_hash": artifact.file_hash(path)}
        side.write_text(json.dumps(told))


def change(line: int, column: str, to: str) -> str:
    """Forge a cell of ``curves.csv`` with its hashes; what stood there."""
    path = RUN / "curves.csv"
    lines = path.read_text().splitlines()
    place = lines[0].split(",").index(column)
    cells = lines[line - 1].split(",")
    was, cells[place] = cells[place], to
    lines[line - 1] = ",".join(cells)
    path.write_text("\r\n".join([*lines, ""]))
    reseal(path)
    return was


# ---- numbers


def test_what_follows_from_the_rows_verifies(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_cli(["run"]) == 0
    assert "0 broken; 1 runs' numbers derived again" in capsys.readouterr().out


@pytest.mark.parametrize("column", ["accuracy", "high", "items", "note"])
def test_a_forged_number_is_found_though_its_hashes_fit(
    run: Path, capsys: pytest.CaptureFixture[str], column: str
) -> None:
    was = change(3, column, "0.987")
    assert verify_cli(["run", "--quick"]) == 0
    capsys.readouterr()
    assert verify_cli(["run"]) == 1
    out = capsys.readouterr().out
    assert "curves.csv line 3 (run/0/base/toy_m/" in out
    assert f"{column}: stored 0.987, derived again {was or 'nothing'}" in out


def test_a_forged_number_without_new_hashes_needs_no_derivation(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = RUN / "curves.csv"
    path.write_text(path.read_text() + "x")
    assert verify_cli(["run", "--quick"]) == 1
    assert "differs from its manifest" in capsys.readouterr().out


def test_a_row_left_out_is_found(run: Path) -> None:
    path = RUN / "curves.csv"
    path.write_text("\r\n".join([*path.read_text().splitlines()[:-1], ""]))
    reseal(path)
    (why,) = rederive.problems(RUN)
    assert "rows stored" in why


def test_other_last_digits_of_another_machine_are_no_difference(run: Path) -> None:
    was = change(3, "tokens", "0")
    change(3, "tokens", repr(float(was) * (1 + 1e-6)))
    assert list(rederive.problems(RUN)) == []
    change(3, "tokens", repr(float(was) * (1 + 1e-4)))
    assert len(list(rederive.problems(RUN))) == 1


def test_rows_that_are_others_than_the_curves_were_drawn_from(run: Path) -> None:
    path = RUN / "seed0/judge/base-toy_m/0.parquet"
    rows = [replace(row, logprob=-9.0) for row in read_bank(path)]
    write_bank(path, rows, **own(path))
    (why,) = rederive.problems(RUN)
    assert f"{path} has changed since curves read it" in why


def test_a_bank_that_the_curves_leave_out_is_named(run: Path) -> None:
    path = RUN / "config/run.yaml"
    more = "- {stage: judge, folder: judge/rft-toy_m, home: run, slice: toy_m/judge}\nwork:"
    text = path.read_text()
    path.write_text(text + more.removesuffix("work:"))
    (RUN / "seed0/judge/rft-toy_m").mkdir()
    assert f"{RUN}/curves.csv leaves out" in next(iter(rederive.problems(RUN)))


def test_a_table_of_unknown_making_is_not_passed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    provenance.beside(RUN / "curves.csv").unlink()
    assert verify_cli(["run"]) == 1
    assert "how" in capsys.readouterr().out and verify_cli(["run", "--quick"]) == 0


def test_pages_are_compared_without_drawings_and_environment(tmp_path: Path) -> None:
    page = '<p>{n}</p>\n<svg id="{i}">\n</svg>\n<section id="environment">{i}</section>\n<p>end</p>'
    for place, n, i in (("old", 1, 1), ("same", 1, 2), ("new", 2, 1)):
        put(tmp_path / place / "report.html", page.format(n=n, i=i))
    assert not list(rederive.differences(tmp_path / "old", tmp_path / "same"))
    (why,) = rederive.differences(tmp_path / "old", tmp_path / "new")
    assert "stored '<p>1</p>', derived again '<p>2</p>'" in why


# ---- sidecars


def test_a_sidecar_tells_how_an_output_was_made(run: Path) -> None:
    told = provenance.read(RUN / "curves.csv")
    assert told is not None
    assert (told["stage"], told["seed"], told["tier"]) == ("curves", 0, "cpu")
    assert told["slice"]["scaling"]["ks"] == [1, 2]
    assert told["code"]["fingerprint"] == artifact.code_fingerprint()
    assert {"python", "numpy", "torch", "transformers"} <= set(told["packages"])
    assert told["hardware"]["cores"] >= 1 and told["seconds"] > 0
    for entry in (*told["inputs"]["items"], *told["inputs"]["banks"]):
        assert artifact.content_hash(Path(entry["path"])) == entry["content_hash"]
    assert told["content_hash"] == artifact.content_hash(RUN / "curves.csv")


def test_a_sidecar_of_something_else_is_found(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    side = provenance.beside(RUN / "surface.csv")
    side.write_bytes(provenance.beside(RUN / "curves.csv").read_bytes())
    assert verify_cli(["run", "--quick"]) == 1
    assert f"{side} tells of another surface.csv" in capsys.readouterr().out


def test_a_folders_sidecar_lies_in_it_and_is_not_hashed(tmp_path: Path) -> None:
    out = tmp_path / "model"
    with artifact.atomic_dir(out, stage="rft", ledger={"in": 1}) as aside:
        (aside / "config.json").write_text("{}")
    before = artifact.content_hash(out)
    io_values: dict[str, Any] = {"items": tmp_path, "out": out, "policy": "rft"}
    provenance.record("rft", {}, 3, io_values, started=0.0, inputs=provenance.inputs_of(io_values))
    told = json.loads((out / provenance.NAME).read_text())
    assert told["content_hash"] == before == artifact.check_dir(out)["content_hash"]
    assert (told["seed"], told["ledger"], told["arguments"]) == (3, {"in": 1}, {"policy": "rft"})
    artifact.seal(out)
    assert artifact.content_hash(out) == before


def test_a_ledger_beside_an_output_is_in_its_sidecar(tmp_path: Path) -> None:
    artifact.write_csv(tmp_path / "rows.csv", ["k"], [{"k": 1}])
    ledger = tmp_path / "ledger.json"
    artifact.write_ledger(ledger, total=3, kept=1, rejected={"wrong": 2}, detail={"by_n": {}})
    io_values = {"out": tmp_path / "rows.csv", "out_ledger": ledger}
    provenance.record("select", {}, 0, io_values, started=0.0, inputs={})
    told = provenance.read(tmp_path / "rows.csv")
    assert told is not None
    assert told["ledger"] == {"in": 3, "kept": 1, "rejected": {"wrong": 2}, "failed": 0}


def test_a_shipped_model_is_an_input_wherever_the_package_lies(tmp_path: Path) -> None:
    given = {"bases": [models.BASES / "toy_s"], "items": [tmp_path]}
    told = provenance.inputs_of(given)
    assert told["bases"][0]["path"] == "builtin:toy_s"
    assert told["items"][0]["path"] == str(tmp_path)
    assert rederive.place_of(tmp_path / "there", "builtin:toy_s") == models.BASES / "toy_s"
    assert rederive.place_of(tmp_path, "results/run/x.csv") == tmp_path / "results/run/x.csv"


# ---- archives


def test_an_archived_run_verifies_elsewhere(
    run: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["archive", "run", "run.tar.gz"]) == 0
    there = tmp_path_factory.mktemp("there")
    monkeypatch.chdir(there)
    assert main(["unpack", str(run / "run.tar.gz"), "moved"]) == 0
    assert Path("moved/results/base/seed0/select/toy_m/ledger.json").is_file()
    assert Path("moved/results/base/config/select.yaml").is_file()
    assert not list(Path("moved").rglob("*.pt"))
    assert verify_cli(["moved/results/run"]) == 0
    with tarfile.open(run / "run.tar.gz") as packed:
        assert {(entry.uid, entry.uname) for entry in packed} == {(0, "")}


def test_an_archive_lacks_nothing(run: Path) -> None:
    (Path("results/base/seed0/select/toy_m/ledger.json")).unlink()
    Path("results/base/seed0/select/toy_m/rft.parquet.state/state-1.pt").unlink()
    Path("results/base/seed0/select/toy_m/rft.parquet.state").rmdir()
    Path("results/base/seed0/select/toy_m").rmdir()
    with pytest.raises(artifact.BrokenArtifact, match="select/toy_m is missing"):
        archive.write("run", Path("run.tar"))
    assert not Path("run.tar").exists()


def test_texts_not_to_be_published_are_archived_only_for_oneself(run: Path) -> None:
    sources = [{"name": "closed", "publishable": False}, {"name": "open", "publishable": True}]
    put(RUN / "seed0/data/card.json", json.dumps({"sources": sources}))
    with pytest.raises(ConfigError, match="texts of closed, whose owners"):
        archive.write("run", Path("run.tar"))
    assert main(["archive", "run", "run.tar", "--private"]) == 0


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, link, 4 * (kind == tarfile.REGTYPE)
    return found


@pytest.mark.parametrize(
    "evil",
    [
        entry("../evil"),
        entry("results/../../evil"),
        entry("/tmp/spct-evil"),
        entry("results/link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("results/inside", tarfile.SYMTYPE, "run"),
        entry("results/hard", tarfile.LNKTYPE, "../evil"),
        entry("results/pipe", tarfile.FIFOTYPE),
        entry("results/device", tarfile.CHRTYPE),
    ],
    ids=lambda one: one.name,
)
def test_an_archive_cannot_leave_its_folder(tmp_path: Path, evil: tarfile.TarInfo) -> None:
    file, there = tmp_path / "a.tar", tmp_path / "there"
    with tarfile.open(file, "w") as packed:
        packed.addfile(entry("results/run/good"), io.BytesIO(b"good"))
        packed.addfile(evil, io.BytesIO(b"evil"))
    with pytest.raises(ConfigError, match="would leave the folder|is a link or a device"):
        archive.unpack(file, there)
    assert not there.exists() and not (tmp_path / "evil").exists()


def test_only_archives_are_unpacked_and_only_to_free_folders(tmp_path: Path) -> None:
    put(tmp_path / "full/file", "")
    with pytest.raises(ConfigError, match="is not empty"):
        archive.unpack(tmp_path / "a.tar", tmp_path / "full")
    put(tmp_path / "b.tar", "no archive")
    for name in ("a.tar", "b.tar"):
        with pytest.raises(ConfigError, match=f"{name} cannot be read"):
            archive.unpack(tmp_path / name, tmp_path / "free")
