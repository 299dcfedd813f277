"""The smallest set of runs for real, to its tables, claims and published copy."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from clones import clone_to

SET = ("--config", "experiments=[paper_tables_smoke]")


@pytest.mark.slow
def test_a_set_of_runs_ends_in_tables_and_claims(tmp_path: Path) -> None:
    clone = clone_to(tmp_path / "clone", weights=True)
    clone.complete(*SET)
    folder = clone.root / "reports/paper_tables_smoke"
    with (folder / "tables.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    found = {row["number"] for row in rows if row["accuracy"]}
    assert {
        "grm base greedy",
        "grm rft greedy",
        "grm grpo greedy",
        "pair_input grpo greedy",
    } <= found
    (pairs,) = [
        row for row in rows if row["row"] == "pairs, greedy" and row["benchmark"] == "overall"
    ]
    assert pairs["difference"] and pairs["difference_on"] == "toy_best_of_4"
    assert "What the judge wrote" in (folder / "errors.html").read_text()
    assert not clone.planned(*SET)
    clone.run("spct", "publish", "paper_tables_smoke")
    (published,) = (clone.root / "docs/results").iterdir()
    assert (published / "index.html").is_file() and (published / "runs/smoke/curves.csv").is_file()
