"""``spct bank merge``: one file that means what its shards meant, and no guess at a conflict."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bank_world import K_MAX, judged, make_items, make_rows, own, write_first
from hypothesis import given, settings
from hypothesis import strategies as st

from spct import artifact
from spct.__main__ import main
from spct.bank import merge as merging
from spct.bank.check import check, check_shard
from spct.bank.digest import KEY, by_key, content_hash
from spct.bank.merge import merge
from spct.content import is_in_order
from spct.errors import BankError
from spct.records import Sample, read_bank, write_bank


def test_merged_equals_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(merging, "BATCH_ROWS", 5)  # several ranges of items
    paths = judged(tmp_path, make_items(5))
    before = [path.read_bytes() for path in paths]
    out = tmp_path / "merged/all.parquet"
    assert main(["bank", "merge", str(out), *map(str, reversed(paths))]) == 0
    assert capsys.readouterr().out == f"{out}  60 rows of 2 shards\n"
    rows = list(read_bank(paths))
    write_bank(tmp_path / "once.parquet", rows)
    merged, once = artifact.read_manifest(out), artifact.read_manifest(tmp_path / "once.parquet")
    for name in ("content_hash", "rows", "ledger", "key", "kind", "bank_version", "schema_version"):
        assert merged[name] == once[name], name
    assert list(read_bank(out)) == sorted(rows, key=lambda row: row.key)
    assert pq.read_schema(out).equals(pq.read_schema(tmp_path / "once.parquet"))
    assert pq.read_metadata(out).num_row_groups > 1
    first, second = (artifact.read_manifest(path) for path in paths)
    assert merged["merged"] == [
        {name: manifest[name] for name in ("content_hash", "rows", "shard")}
        for manifest in (second, first)
    ]
    assert "shard" not in merged and merged["slice"] == first["slice"]
    assert merged["model"] == first["model"] and merged["policy"] == "base"
    assert [path.read_bytes() for path in paths] == before
    bench = tmp_path / "results/run/seed0/data/bench.parquet"
    assert [one.state for one in check([out], bench)] == ["whole"]
    assert list(out.parent.iterdir()) == [out]


def test_merging_in_steps_is_merging_at_once(tmp_path: Path) -> None:
    a, b = judged(tmp_path)
    merge(tmp_path / "a.parquet", [a])
    merge(tmp_path / "steps.parquet", [tmp_path / "a.parquet", b])
    merge(tmp_path / "once.parquet", [a, b])
    steps, once = (artifact.read_manifest(tmp_path / f"{n}.parquet") for n in ("steps", "once"))
    assert steps == once


def test_a_missing_or_doubled_shard_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = judged(tmp_path)
    manifest, notes = merge(tmp_path / "part.parquet", paths[:1])
    assert notes == ["shard 1 of 2 is missing"]
    found = list(check([tmp_path / "part.parquet"]))
    assert [one.state for one in found] == ["whole", "missing"]
    assert found[1].path == tmp_path / "1.parquet"
    manifest, notes = merge(tmp_path / "twice.parquet", [paths[0], paths[0], paths[1]])
    assert notes == ["shard 0 is there 2 times"] and manifest["rows"] == 24
    assert content_hash(tmp_path / "twice.parquet") == manifest["content_hash"]


def test_shards_of_different_banks_are_refused(tmp_path: Path) -> None:
    a, b = judged(tmp_path)
    rows, manifest = list(read_bank(b)), own(b)
    for name, value, message in [
        ("model", "other", "differ in model: 0123456789abcdef, other"),
        ("seed", 1, "differ in seed: 0, 1"),
        ("stage", "score", "differ in stage: judge, score"),
        ("items_hash", "other", "differ in items_hash"),
        ("slice", {**manifest["slice"], "bench": {"k_max": 9}}, "differ in slice.bench.greedy"),
    ]:
        write_bank(b, rows, **{**manifest, name: value})
        with pytest.raises(BankError, match=f"0.parquet and .*1.parquet {message}"):
            merge(tmp_path / "out.parquet", [a, b])
    assert not (tmp_path / "out.parquet").exists()


def test_a_conflict_is_named(tmp_path: Path) -> None:
    a, b = judged(tmp_path)
    rows = list(read_bank(a))
    write_bank(b, [*rows[:5], replace(rows[5], text="other", logprob=-1.0)], **own(b))
    message = (
        r"item toy_best_of_4/00 sample 1 \(sample\) differs in logprob, text between .*0\.parquet, "
    )
    with pytest.raises(BankError, match=message):
        merge(tmp_path / "out.parquet", [a, b])
    assert {path.name for path in tmp_path.iterdir()} == {"results"}


def test_broken_inputs_and_standing_outputs(tmp_path: Path) -> None:
    a, b = judged(tmp_path)
    with pytest.raises(BankError, match=r"1\.parquet exists; a bank is never changed"):
        merge(b, [a])
    table = pq.read_table(a)
    pq.write_table(table.slice(1).replace_schema_metadata(table.schema.metadata), a)
    with pytest.raises(BankError, match=r"0\.parquet differs from its content hash; see spct bank"):
        merge(tmp_path / "out.parquet", [a, b])


def test_version_1_is_lifted_on_the_way(tmp_path: Path) -> None:
    rows = make_rows(make_items(), {"sample": K_MAX})
    write_first(tmp_path / "a.parquet", rows[:9])
    write_first(tmp_path / "b.parquet", rows[9:])
    merge(tmp_path / "out.parquet", [tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert check_shard(tmp_path / "out.parquet").state == "whole"
    assert sorted(read_bank(tmp_path / "out.parquet"), key=lambda r: r.key) == sorted(
        rows, key=lambda r: r.key
    )


def test_empty_banks(tmp_path: Path) -> None:
    write_bank(tmp_path / "a.parquet", [])
    manifest, _ = merge(tmp_path / "out.parquet", [tmp_path / "a.parquet"])
    assert manifest["content_hash"] == artifact.content_hash(tmp_path / "a.parquet")
    assert list(read_bank(tmp_path / "out.parquet")) == []


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
KEYS = st.lists(st.tuples(NAMES, st.sampled_from(["greedy", "sample"]), st.integers(0, 5)),
                unique=True, max_size=30)  # fmt: skip


@pytest.mark.medium
@settings(max_examples=60, deadline=None)
@given(keys=KEYS, seed=st.integers(0, 9), cut=st.integers(0, 30))
def test_any_split_gives_the_hash_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[str, str, int]], seed: int, cut: int
) -> None:
    """Whatever ids look like: Arrow's order, Python's and the ranges agree."""
    folder = tmp_path_factory.mktemp("split")
    base = Sample("", "sample", 0, 1, [0, 1], "m", "t", "é", 1, 1, None, "stop", "ok", [1, 2], True)
    rows = [replace(base, item_id=i, kind=k, sample=s, seed=n)  # type: ignore[arg-type]
            for n, (i, k, s) in enumerate(keys)]  # fmt: skip
    random.Random(seed).shuffle(rows)
    for name, part in {"a": rows[:cut], "b": rows[cut:], "once": rows}.items():
        write_bank(folder / f"{name}.parquet", part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "BATCH_ROWS", 4)
        manifest, _ = merge(folder / "out.parquet", [folder / "a.parquet", folder / "b.parquet"])
    whole = artifact.content_hash(folder / "once.parquet")
    assert manifest["content_hash"] == whole == content_hash(folder / "out.parquet")
    assert content_hash(folder / "once.parquet") == whole
    table = pq.read_table(folder / "once.parquet")
    assert is_in_order(by_key(table).select(list(KEY)))
    digest = artifact.TableDigest(table.schema)
    for at in range(0, len(rows), 7):
        digest.update(by_key(table).slice(at, 7))
    assert digest.hex() == artifact.table_hash(table, artifact.read_manifest(
        folder / "once.parquet")["key"])  # fmt: skip


def test_key_order() -> None:
    def ordered(*keys: tuple[str, str, int]) -> bool:
        names = ("item_id", "kind", "sample")
        columns = [pa.array(column) for column in zip(*keys, strict=True)]
        return is_in_order(pa.table(dict(zip(names, columns, strict=True))))

    assert ordered(("a", "greedy", 5), ("a", "sample", 0), ("a", "sample", 1), ("b", "greedy", 0))
    assert not ordered(("b", "greedy", 0), ("a", "sample", 1))
    assert not ordered(("a", "sample", 0), ("a", "greedy", 1))
    assert not ordered(("a", "sample", 1), ("a", "sample", 0))
    assert ordered(("z", "s", 0), ("é", "s", 0), ("\U0001f600", "s", 0))
