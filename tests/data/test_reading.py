"""Rows of files as they come: whole, odd and broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spct.artifact import BrokenArtifact
from spct.data.reading import Dropped, named, rows

ROWS = [{"a": 1}, {"a": "ü", "b": [None, True]}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def write(path: Path, raw: bytes) -> Path:
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("suffix", "raw"),
    [
        (".jsonl", LINES),
        (".jsonl", b"\xef\xbb\xbf" + LINES.rstrip()),
        (".json", LINES),
        (".json", json.dumps(ROWS).encode()),
    ],
)
def test_every_form_gives_the_same_rows(tmp_path: Path, suffix: str, end: str, raw: bytes) -> None:
    path = write(tmp_path / f"x{suffix}{end}", raw)
    assert list(rows(path)) == [(f"{path.name}:{i}", row) for i, row in enumerate(ROWS, 1)]


@pytest.mark.parametrize("end", ["", ".gz"])
def test_parquet(tmp_path: Path, end: str) -> None:
    plain = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": ["1", "2"], "b": [[1], [2, 3]]}), plain)
    path = plain if not end else write(tmp_path / "x.parquet.gz", plain.read_bytes())
    assert list(rows(path)) == [
        (f"{path.name}:1", {"a": "1", "b": [1]}),
        (f"{path.name}:2", {"a": "2", "b": [2, 3]}),
    ]


def test_blank_lines_count_as_lines_and_are_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", b'\n{"a": 1}\n  \n{"a": 2}')
    assert [row[0] for row in rows(path) if not isinstance(row, Dropped)] == [
        "x.jsonl:2", "x.jsonl:4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1', "bad_json"),
        (b'{"a": NaN}', "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "bad_json"),
        (b"[1, 2]", "bad_row"),
        (b"null", "bad_row"),
        (b'{"a": "\xff"}', "not_utf8"),
        (b'{"a": "\\uD83D"}', "not_utf8"),
        (b'{"\\udc00": 1}', "not_utf8"),
    ],
)
def test_a_bad_row_is_named_and_the_rest_goes_on(tmp_path: Path, line: bytes, reason: str) -> None:
    path = write(tmp_path / "x.jsonl", b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    first, bad, last = rows(path)
    assert isinstance(bad, Dropped)
    assert (bad.where, bad.reason) == ("x.jsonl:2", reason)
    assert (first, last) == (("x.jsonl:1", {"a": 1}), ("x.jsonl:3", {"a": 2}))


def test_a_whole_pair_of_surrogates_is_a_character(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", b'{"a": "\\ud83d\\ude00"}')
    assert list(rows(path)) == [("x.jsonl:1", {"a": "😀"})]


def test_a_list_with_something_else_in_it(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", b'[{"a": 1}, 3]')
    assert list(rows(path)) == [
        ("x.json:1", {"a": 1}), Dropped("x.json:2", "bad_row", "a JSON int, not an object"),
    ]  # fmt: skip


def test_text_that_is_not_utf8_in_parquet(tmp_path: Path) -> None:
    broken = pa.array([b"ok", b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"a": broken}), tmp_path / "x.parquet")
    good, bad = rows(tmp_path / "x.parquet")
    assert good == ("x.parquet:1", {"a": "ok"})
    assert isinstance(bad, Dropped) and (bad.where, bad.reason) == ("x.parquet:2", "not_utf8")


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("x.jsonl.gz", gzip.compress(LINES * 999)[:-40], "truncated or corrupt gzip"),
        ("x.jsonl.gz", LINES, "truncated or corrupt gzip"),
        ("x.jsonl.gz", gzip.compress(LINES)[:10] + b"\0" * 40, "truncated or corrupt gzip"),
        ("x.parquet", b"PAR1 nothing", "truncated or not Parquet"),
        ("x.json", b"[{]", "no JSON in UTF-8"),
        ("x.csv", LINES, "none of .jsonl, .json, .parquet"),
    ],
)
def test_a_broken_file_is_named_with_the_fix(
    tmp_path: Path, name: str, raw: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(BrokenArtifact, match=message) as error:
        list(rows(path))
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b'{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        (b'{"b": {"c": 1, "c": 1}}', "the key 'c' occurs twice"),
        (b'{"some text": 1, "some text": 2}', "a key occurs twice"),
    ],
    ids=["top", "within", "text"],
)
def test_of_two_values_under_one_key_none_is_chosen(
    tmp_path: Path, line: bytes, detail: str
) -> None:
    (bad,) = rows(write(tmp_path / "x.jsonl", line))
    assert bad == Dropped("x.jsonl:1", "bad_json", detail)


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("mark", ["le", "be"])
def test_utf_16_is_named(tmp_path: Path, suffix: str, mark: str) -> None:
    raw = ("\ufeff" + LINES.decode()).encode(f"utf-16-{mark}")
    with pytest.raises(BrokenArtifact, match="is UTF-16; write it as UTF-8"):
        list(rows(write(tmp_path / f"x{suffix}", raw)))


def test_lines_may_end_as_windows_writes_them(tmp_path: Path) -> None:
    raw = LINES.replace(b"\n", b"\r\n")
    assert [row[1] for row in rows(write(tmp_path / "x.jsonl", raw))] == ROWS  # type: ignore[index]


def test_a_date_beyond_the_year_9999_drops_its_row(tmp_path: Path) -> None:
    far, near = 300_000_000_000, 1_000_000_000  # seconds: the year 11,476, and 2001
    when = pa.array([near, far, near], pa.timestamp("s"))
    pq.write_table(pa.table({"a": [1, 2, 3], "made": when}), tmp_path / "x.parquet")
    first, bad, last = rows(tmp_path / "x.parquet")
    assert isinstance(bad, Dropped) and (bad.where, bad.reason) == ("x.parquet:2", "bad_value")
    assert bad.detail.startswith("the column made (timestamp[")
    assert (first[1]["a"], last[1]["a"]) == (1, 3)  # type: ignore[index, union-attr]


def test_two_columns_of_one_name_are_named(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(BrokenArtifact, match="has two columns 'a'; rename or drop one"):
        list(rows(tmp_path / "x.parquet"))


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "x.jsonl" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(LINES + b"{\n")
    places = [
        found.where if isinstance(found, Dropped) else found[0]
        for path, name in named(paths)
        for found in rows(path, name)
    ]
    assert places == [f"{d}/x.jsonl:{i}" for d in ("one", "two") for i in (1, 2, 3)]
    assert list(named(paths[:1])) == [(paths[0], "x.jsonl")]


def test_an_object_over_several_lines_and_an_empty_archive_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", json.dumps({"data": ROWS}, indent=1).encode())
    with pytest.raises(BrokenArtifact, match="is one JSON object over several lines"):
        list(rows(path))
    (tmp_path / "x.jsonl.gz").write_bytes(b"")
    with pytest.raises(BrokenArtifact, match="is empty; delete it"):
        list(rows(tmp_path / "x.jsonl.gz"))
    assert list(rows(write(tmp_path / "y.jsonl.gz", b""))) == []  # an archive of nothing is whole


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match=r"none\.jsonl cannot be read \(No such file"):
        list(rows(tmp_path / "none.jsonl"))
