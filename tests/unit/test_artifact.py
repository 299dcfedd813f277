import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spct import artifact
from spct.artifact import BrokenArtifact

SCHEMA = pa.schema([("id", pa.string()), ("value", pa.float32()), ("note", pa.string())])
ROWS = [{"id": f"r{i}", "value": i / 3, "note": "n" * 50} for i in range(200)]


def _table(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _write(path: Path, rows: list[dict[str, object]] = ROWS) -> Path:
    artifact.write_table(path, _table(rows), key=("id",), kind="test")
    return path


# ---- whole or absent -------------------------------------------------------------------------


def test_an_error_inside_the_block_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    artifact.write_text(path, "old")
    with pytest.raises(RuntimeError, match="power cut"), artifact.atomic_path(path) as aside:
        aside.write_text("half")
        raise RuntimeError("power cut")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_before_the_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), artifact.atomic_path(tmp_path / "a.txt"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_the_block_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with artifact.atomic_dir(folder) as aside:
        (aside / "weights").write_text("old")
    with pytest.raises(RuntimeError), artifact.atomic_dir(folder) as aside:
        (aside / "weights").write_text("half")
        raise RuntimeError
    assert artifact.check_dir(folder)
    assert (folder / "weights").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with artifact.atomic_dir(tmp_path / "model", size="s") as aside:
            (aside / name).write_text(name)
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"new", "manifest.json"}
    assert artifact.read_manifest(tmp_path / "model")["size"] == "s"


# ---- broken artefacts say what they are and what to do ------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_parquet(tmp_path: Path, share: float) -> None:
    path = _write(tmp_path / "bank.parquet")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(BrokenArtifact, match=r"bank\.parquet is truncated.*delete .*run the same"):
        artifact.read_table(path, SCHEMA, kind="test")


def test_parquet_with_a_damaged_body(tmp_path: Path) -> None:
    path = _write(tmp_path / "bank.parquet")
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(data)
    with pytest.raises(BrokenArtifact, match=r"(?s)bank\.parquet cannot be read.*delete"):
        artifact.read_table(path, SCHEMA, kind="test")


def test_missing_foreign_and_incomplete_tables(tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match=r"none\.parquet is missing; run the stage"):
        artifact.read_table(tmp_path / "none.parquet", SCHEMA, kind="test")
    path = _write(tmp_path / "bank.parquet")
    with pytest.raises(BrokenArtifact, match="holds test, not bank"):
        artifact.read_table(path, SCHEMA, kind="bank")
    wider = SCHEMA.append(pa.field("more", pa.int8()))
    with pytest.raises(BrokenArtifact, match=r"lacks the columns \['more'\]"):
        artifact.read_table(path, wider, kind="test")
    pq.write_table(_table(ROWS), path)
    with pytest.raises(BrokenArtifact, match="not written by spct"):
        artifact.read_table(path, SCHEMA, kind="test")


@pytest.mark.parametrize("manifest", [None, "{", "\x00"])
def test_a_folder_without_a_whole_manifest(tmp_path: Path, manifest: str | None) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(BrokenArtifact, match=r"manifest\.json is missing or broken.*delete"):
        artifact.read_manifest(tmp_path)


def test_tampering_with_a_sealed_folder_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with artifact.atomic_dir(folder) as aside:
        (aside / "weights").write_text("abc")
        (aside / "sub").mkdir()
        (aside / "sub" / "config").write_text("x")
        (aside / "timing.json").write_text("1")
    (folder / "timing.json").write_text("2")
    assert set(artifact.check_dir(folder)["files"]) == {"weights", "sub/config"}
    (folder / "weights").write_text("abd")
    with pytest.raises(BrokenArtifact, match="weights differs from its manifest; delete"):
        artifact.check_dir(folder)
    (folder / "weights").unlink()
    with pytest.raises(BrokenArtifact, match="weights is missing; delete"):
        artifact.check_dir(folder)


# ---- content hashes --------------------------------------------------------------------------


def test_the_content_hash_ignores_the_order_of_rows_and_columns() -> None:
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    expected = artifact.table_hash(_table(ROWS), ["id"])
    assert artifact.table_hash(_table(shuffled), ["id"]) == expected
    assert artifact.table_hash(_table(ROWS).select(["note", "id", "value"]), ["id"]) == expected


def test_the_content_hash_sees_values_types_and_names() -> None:
    table = _table(ROWS)
    variants = [
        table,
        _table([*ROWS[:-1], {**ROWS[-1], "note": "m"}]),
        _table([*ROWS[:-1], {**ROWS[-1], "note": None}]),
        _table(ROWS[:-1]),
        table.cast(SCHEMA.set(1, pa.field("value", pa.float64()))),
        table.rename_columns(["id", "value", "remark"]),
    ]
    assert len({artifact.table_hash(variant, ["id"]) for variant in variants}) == len(variants)


def test_volatile_columns_do_not_count() -> None:
    other = _table([{**row, "note": "other"} for row in ROWS])
    assert artifact.table_hash(_table(ROWS), ["id"], ["note"]) == artifact.table_hash(
        other, ["id"], ["note"]
    )


def test_a_folder_hash_depends_on_files_not_on_facts(tmp_path: Path) -> None:
    for name, text in (("a", "same"), ("b", "same"), ("c", "other")):
        with artifact.atomic_dir(tmp_path / name, run=name) as aside:
            (aside / "weights").write_text(text)
    a, b, c = (artifact.content_hash(tmp_path / name) for name in "abc")
    assert a == b != c


def test_csv_has_a_sidecar_and_six_digits(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    artifact.write_csv(path, ["k", "accuracy"], [{"k": 1, "accuracy": 2 / 3}, {"k": 2}])
    assert path.read_text().split() == ["k,accuracy", "1,0.666667", "2,"]
    assert artifact.content_hash(path) == artifact.file_hash(path)
    assert artifact.read_manifest(path)["rows"] == 2


# ---- ledgers and timings ---------------------------------------------------------------------


def test_a_ledger_balances_or_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    with pytest.raises(ValueError, match=r"does not balance: 10 in, 6 kept, .*wrong.*, 0 failed"):
        artifact.write_ledger(path, total=10, kept=6, rejected={"wrong": 3})
    assert not path.exists()
    artifact.write_ledger(path, total=10, kept=6, rejected={"wrong": 3}, failed=1)
    assert json.loads(path.read_text()) == {
        "in": 10,
        "kept": 6,
        "rejected": {"wrong": 3},
        "failed": 1,
    }


def test_timings_stand_beside_the_artefact_and_change_nothing_in_it(tmp_path: Path) -> None:
    path = _write(tmp_path / "bank.parquet")
    before = artifact.file_hash(path)
    artifact.write_timing(path, seconds=1.5, rows=200)
    side = tmp_path / "bank.parquet.timing.json"
    assert json.loads(side.read_text()) == {"seconds": 1.5, "rows": 200}
    assert artifact.file_hash(path) == before
