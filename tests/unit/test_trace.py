"""``spct trace``: every row of a table of curves leads to samples, model, run and configuration."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bank_world import judged, make_items, own

from spct import artifact, config
from spct.__main__ import main
from spct.bank import trace
from spct.config import Slice, dump
from spct.records import read_bank, write_bank
from spct.scaling import curves

WORDS = ["scaling.ks=[1,2]", "scaling.subsets=10", "scaling.bootstrap=50"]


def model(folder: Path) -> str:
    """A sealed model folder; the hash that banks know it by."""
    with artifact.atomic_dir(folder) as aside:
        (aside / "config.json").write_text(str(folder))
        (aside / "metrics.jsonl").write_text("{}\n")
    return artifact.content_hash(folder)[:16]


def scored(base: list[Path], grpo: str, metarm: str) -> list[Path]:
    """A guided bank of another policy, made of the base's."""
    paths = []
    for path in base:
        rows = [
            replace(row, model=grpo, meta_score=None if row.scores is None else float(row.sample))
            for row in read_bank(path)
        ]
        place = path.parents[2] / "score/grpo-toy_m" / path.name
        told = {"stage": "score", "policy": "grpo", "model": grpo, "metarm": metarm}
        write_bank(place, rows, **{**own(path), **told})
        paths.append(place)
    return paths


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run below the working folder, whose GRPO model lies in its base's folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("results/run")
    base = judged(Path(), make_items(4))
    grpo = model(Path("results/base/seed0/grpo/toy_m"))
    metarm = model(folder / "seed0/metarm/toy_l")
    banks = [*base, *scored(base, grpo, metarm)]
    cfg = Slice.of(config.load(["experiment=smoke", *WORDS]), "curves")
    outs: dict[str, Any] = {
        f"out{name}": folder / f"{file}.csv"
        for name, file in (("", "curves"), ("_comparisons", "comparisons"), ("_surface", "surface"))
    }
    outs["out_official"] = folder / "official.csv"
    curves.run(cfg, 0, items=[folder / "seed0/data/bench.parquet"], banks=banks, run="run", **outs)
    work = [
        {"stage": stage, "folder": place, "home": home, "slice": name}
        for stage, place, home, name in (
            ("prepare", "data", "run", "prepare"),
            ("grpo", "grpo/toy_m", "base", "toy_m/grpo"),
            ("judge", "judge/base-toy_m", "run", "toy_m/judge"),
            ("score", "score/grpo-toy_m", "base", "toy_l/score"),
        )
    ]
    origin = {"experiment": "smoke", "overrides": ["bench.k_max=3"], "seeds": [0], "work": work}
    for name in ("run/config/curves", "run/config/toy_m/judge", "base/config/toy_l/score"):
        artifact.write_text(Path(f"results/{name}.yaml"), "{}\n")
    artifact.write_text(folder / "config/run.yaml", dump(origin))
    return folder


GUIDED = ["policy=grpo", "method=meta_voting", "k=2", "benchmark=toy_best_of_4"]


def traced(capsys: pytest.CaptureFixture[str], table: Path, *words: str) -> str:
    assert main(["trace", str(table), *words]) == 0
    return capsys.readouterr().out


def test_a_guided_row(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = traced(capsys, run / "curves.csv", *GUIDED)
    with (run / "curves.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    (row,) = [
        r for r in rows if all(r[w.split("=")[0]] == w.split("=")[1] for w in GUIDED)
    ]  # the row itself is shown whole
    assert all(f"{name} {value}" in out for name, value in row.items() if value)
    assert f"TABLE     {run}/curves.csv  as its manifest says" in out
    assert "2-subsets of each item's samples, of which 1 are kept; exact" in out
    assert f"RUN       {run}/config/run.yaml  experiment smoke  overrides bench.k_max=3" in out
    bench = run / "seed0/data/bench.parquet"
    digest = artifact.content_hash(bench)[:16]
    assert (
        f"items   {bench}  content hash {digest}  as recorded  4 items of toy_best_of_4/all" in out
    )
    for shard in (0, 1):
        path = run / f"seed0/score/grpo-toy_m/{shard}.parquet"
        digest = artifact.content_hash(path)[:16]
        assert f"bank    {path}  content hash {digest}  as recorded  24 rows" in out
    assert "judge/base-toy_m" not in out
    assert "rows    12 of kind sample: 4 items × 3 samples" in out
    grpo, metarm = Path("results/base/seed0/grpo/toy_m"), run / "seed0/metarm/toy_l"
    for name, folder in (("model  ", grpo), ("meta RM", metarm)):
        digest = artifact.content_hash(folder)[:16]
        assert f"{name} {digest}  {folder}  sealed by {folder}/manifest.json" in out
        assert f"training log {folder}/metrics.jsonl" in out
    assert "CONFIG    results/base/config/toy_l/score.yaml\n" in out
    assert f"CONFIG    {run}/config/curves.yaml\n" in out


def test_the_command_it_gives_shows_a_sample(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = traced(capsys, run / "curves.csv", *GUIDED)
    command = next(line for line in out.splitlines() if line.startswith("  show"))
    program, *words = command.split()[1:]
    assert program == "spct" and main(words) == 0
    assert "item toy_best_of_4/00  kind sample  sample 0" in capsys.readouterr().out


def test_greedy_and_baselines(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["policy=base", "method=greedy", "benchmark=toy_pairs", "seed=0"]
    out = traced(capsys, run / "curves.csv", *words)
    assert "nothing is drawn" in out and "rows    4 of kind greedy: 4 items × 1 samples" in out
    assert "kind=greedy" in out and "meta RM" not in out
    assert f"CONFIG    {run}/config/toy_m/judge.yaml\n" in out
    assert "its folder is not at hand" in out  # the model of this bank is nobody's
    out = traced(capsys, run / "curves.csv", "method=longest", "benchmark=toy_pairs")
    assert "reads no sample" in out and "4 items of toy_pairs/all" in out and "bank" not in out


def test_choosing_rows(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(run / "curves.csv")
    assert main(["trace", table]) == 2
    out = capsys.readouterr().out
    assert "rows fit; choose among:" in out
    assert "  policy=base|grpo|none\n" in out and "  benchmark=toy_pairs|toy_best" in out
    assert "run=" not in out and "ROW" not in out
    assert main(["trace", table, "polcy=base"]) == 2
    assert "no column 'polcy'" in capsys.readouterr().err
    assert main(["trace", table, "policy=grpo", "k=64"]) == 2
    assert f"no row of {table} has k=64; k is 1, 2" in capsys.readouterr().err
    two = traced(capsys, Path(table), *GUIDED[:2], "k=2.0", "benchmark=toy_pairs")
    assert two.count("ROW ") == 1


def test_a_name_that_looks_like_a_number_is_a_name() -> None:
    rows = [{"subset": name, "k": "8"} for name in ("007", "7", "7.0", "math/")]
    for name in ("007", "7", "math/"):
        assert trace.select(rows, [f"subset={name}", "k=8.0"], Path("x")) == [
            {"subset": name, "k": "8"}
        ]


@pytest.mark.parametrize("content", [None, "", "name,a\nx,1\n"])
def test_no_table_of_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    path = tmp_path / "curves.csv"
    if content is not None:
        path.write_text(content)
    assert main(["trace", str(path)]) == 2
    error = capsys.readouterr().err
    assert "name a curves.csv" in error and error.count("\n") == 1


def test_what_changed_since_is_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = [run / f"seed0/score/grpo-toy_m/{shard}.parquet" for shard in (0, 1)]
    write_bank(shards[0], [replace(row, text="other") for row in read_bank(shards[0])],
               **own(shards[0]))  # fmt: skip
    shards[1].unlink()
    table = run / "curves.csv"
    table.write_text(table.read_text() + "\n")
    out = traced(capsys, table, *GUIDED[:3], "benchmark=toy_pairs")
    now = artifact.content_hash(shards[0])[:16]
    assert f"CHANGED since: now {now}" in out
    assert f"{shards[1]}  content hash" in out and "not at hand" in out
    assert "EDITED: differs from its manifest" in out


def test_a_table_of_older_code(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without recorded sources the run's plan says where its work lies."""
    side = run / "curves.csv.manifest.json"
    manifest = artifact.read_manifest(run / "curves.csv")
    artifact.write_json(side, {k: v for k, v in manifest.items() if k != "sources"})
    out = traced(capsys, run / "curves.csv", "policy=base", "method=voting", "k=2",
                 "benchmark=toy_pairs")  # fmt: skip
    assert out.count("hash not recorded by the table") == 3
    assert "rows    12 of kind sample: 4 items × 3 samples" in out


@pytest.mark.parametrize("results", [True, False])
def test_a_published_copy(run: Path, capsys: pytest.CaptureFixture[str], results: bool) -> None:
    copy = Path("docs/results/2026-run")
    (copy / "config/toy_l").mkdir(parents=True)
    shutil.copy(run / "curves.csv", copy)
    shutil.copy(run / "config/run.yaml", copy / "config")
    shutil.copy("results/base/config/toy_l/score.yaml", copy / "config/toy_l")
    if not results:
        shutil.rmtree("results")
    out = traced(capsys, copy / "curves.csv", *GUIDED)
    assert "experiment smoke" in out
    if results:
        assert "as its manifest says" in out and "rows    12 of kind sample" in out
        return
    assert "TABLE     docs/results/2026-run/curves.csv  no manifest at hand" in out
    assert "bank    not at hand" in out
    assert f"CONFIG    {copy}/config/toy_l/score.yaml\n" in out
    assert f"CONFIG    {copy}/config/curves.yaml  not at hand" in out
