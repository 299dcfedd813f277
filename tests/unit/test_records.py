from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from spct import artifact
from spct.judge.parse import Outcome
from spct.records import Item, Label, Sample, read_bank, read_items, write_bank, write_items

ITEM = Item(
    id="pair-1",
    dataset="toy_pairs",
    subset="all",
    domain="weather",
    messages=({"role": "user", "content": "Regen über Zürich? 雨\n"},),
    responses=("yes", ""),
    label=Label("pair_tie", {"winner": None, "strength": 0.5}),
    reference=None,
    meta={"votes": [1, 2], "note": None},
)
ROW = Sample(
    item_id="pair-1",
    kind="sample",
    sample=0,
    seed=2**63 - 1,
    order=[1, 0],
    model="m",
    template="t",
    text="Scores: \\boxed{8, 7}\n雨",
    prompt_tokens=10,
    completion_tokens=4,
    logprob=-1.5,
    finish="stop",
    outcome=Outcome.ok,
    scores=[7, 8],
    correct=True,
)
INVALID = replace(
    ROW,
    sample=1,
    text="",
    logprob=None,
    finish="length",
    outcome=Outcome.truncated,
    scores=None,
    correct=None,
)
LABELS = [
    Label("best", 1),
    Label("graded", [1.5, 2.0]),
    Label("correct", [True, False]),
    Label("groups", {"better": [0], "worse": [1]}),
    Label("votes", [0, 1, None]),
]


def test_items_come_back_as_they_were(tmp_path: Path) -> None:
    items = [ITEM] + [replace(ITEM, id=label.kind, label=label, reference="r") for label in LABELS]
    write_items(tmp_path / "items.parquet", items, seed=3)
    assert read_items(tmp_path / "items.parquet") == items
    manifest = artifact.read_manifest(tmp_path / "items.parquet")
    assert (manifest["seed"], manifest["rows"], manifest["kind"]) == (3, len(items), "items")


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [ROW, INVALID, replace(ROW, kind="greedy", meta_score=0.25)]
    write_bank(tmp_path / "a.parquet", rows[:2], stage="rollout")
    write_bank(tmp_path / "b.parquet", rows[2:], stage="rollout")
    assert list(read_bank([tmp_path / "a.parquet", tmp_path / "b.parquet"])) == rows
    assert list(read_bank(tmp_path / "b.parquet")) == rows[2:]


def test_an_empty_bank_is_a_bank(tmp_path: Path) -> None:
    write_bank(tmp_path / "empty.parquet", [])
    assert list(read_bank(tmp_path / "empty.parquet")) == []


def test_a_repeated_key_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="occurs twice.*pair-1"):
        write_bank(tmp_path / "bank.parquet", [ROW, INVALID, replace(ROW, text="other")])
    with pytest.raises(ValueError, match="occurs twice.*pair-1"):
        write_items(tmp_path / "items.parquet", [ITEM, ITEM])
    assert list(tmp_path.iterdir()) == []


def test_one_kind_is_not_taken_for_another(tmp_path: Path) -> None:
    write_items(tmp_path / "items.parquet", [ITEM])
    with pytest.raises(artifact.BrokenArtifact, match=r"items\.parquet holds items, not bank"):
        list(read_bank(tmp_path / "items.parquet"))


def test_an_unknown_label_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'stars' is not one of best, pair_tie"):
        Label("stars", 5)


def test_the_hash_in_the_footer_is_that_of_the_rows_as_read(tmp_path: Path) -> None:
    """Lists, floats and empty cells come back from Parquet as they were hashed."""
    item = Item(
        "a", "d", "s", "pair", ({"role": "user", "content": "q"},), ("x", "y"), Label("best", 1)
    )
    row = Sample(
        "a", "sample", 0, 7, [1, 0], "m", "t", "text", 3, 4, -1.25, "stop", "ok", [3, 9], True, 0.1
    )
    failed = Sample("a", "greedy", 0, 7, [0, 1], "m", "t", "", 3, 0, None, "none", "malformed",
                    None, None)  # fmt: skip
    write_items(tmp_path / "items.parquet", [item])
    write_bank(tmp_path / "bank.parquet", [row, failed])
    for name in ("items", "bank"):
        path = tmp_path / f"{name}.parquet"
        manifest = artifact.read_manifest(path)
        assert artifact.table_hash(pq.read_table(path), manifest["key"]) == manifest["content_hash"]
