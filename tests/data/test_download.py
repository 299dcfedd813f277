"""Files from a folder, a hub and the web: fetched once, resumed, checked, or a clear stop.

Hub and web are a server of this process; nothing outside is asked.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from spct.artifact import BrokenArtifact
from spct.data import card, download
from spct.data.book import Book
from spct.data.download import fetch
from spct.errors import ConfigError, StageStopped
from spct.schema import SourceConfig

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BODY = b'{"a": 1}\n' * 5000


def sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


@dataclass
class Server:
    """Serves ``files`` by path; ``cut`` bytes are sent of a whole file, then the line drops."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    cut: int = 0
    ranges: bool = True
    status: int = 0
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None: ...

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.command, self.path, wanted))
            raw = state.files.get(self.path.split("?")[0])
            if raw is None or state.status:
                self.send_response(state.status or 404)
                for name, value in missing(self.path).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            if wanted and state.ranges:
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                if start >= len(raw):
                    self.send_response(416)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(raw) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(raw) - 1}/{len(raw)}")
            self.send_header("ETag", f'"{sha(raw)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                end = state.cut if state.cut and not start else len(raw)
                self.wfile.write(raw[start:end])

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    yield state
    httpd.shutdown()
    httpd.server_close()


def missing(path: str) -> dict[str, str]:
    """How a hub says what is missing."""
    if "/none/" in path:
        return {"X-Error-Code": "RepoNotFound"}
    if f"/{COMMIT}/" not in path:
        return {"X-Error-Code": "RevisionNotFound"}
    return {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}


# ---- a folder --------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPCT_DATA", str(tmp_path))
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.jsonl", "a.jsonl", "sub/c.jsonl"):
        (folder / name).write_bytes(name.encode())
    return folder


def source(**values: Any) -> SourceConfig:
    return SourceConfig(**{"name": "mine", "loader": "generic", "files": ["a.jsonl"], **values})


def test_names_and_globs_below_the_data_folder(local: Path) -> None:
    found = fetch(source(path="set", files=["sub/c.jsonl", "*.jsonl", "a.jsonl"]))
    assert [file.name for file in found] == ["sub/c.jsonl", "a.jsonl", "b.jsonl"]
    assert found[1].path == local / "a.jsonl" and found[1].sha256 == sha(b"a.jsonl")
    assert {file.place for file in found} == {"set"}


def test_an_absolute_folder_needs_no_data_folder(
    local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPCT_DATA")
    assert fetch(source(path=str(local)))[0].path == local / "a.jsonl"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "none"}, r"mine: no folder .*none; correct path or SPCT_DATA"),
        ({"path": "set", "files": ["d.jsonl"]}, r"mine: no file d\.jsonl in .*set"),
        ({"path": "set", "files": ["*.parquet"]}, r"mine: no file \*\.parquet in"),
    ],
)
def test_what_is_not_there_is_named(local: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fetch(source(**change))


def test_no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPCT_DATA", raising=False)
    with pytest.raises(ConfigError, match="SPCT_DATA, which is not set"):
        fetch(source(path="set"))


def test_another_checksum_stops(local: Path) -> None:
    right = {"a.jsonl": sha(b"a.jsonl")}
    assert fetch(source(path="set", sha256=right))
    with pytest.raises(BrokenArtifact, match=r"mine: .*a\.jsonl has SHA-256 .* not 0000"):
        fetch(source(path="set", sha256={"a.jsonl": "0000"}))


# ---- the web ---------------------------------------------------------------------------------


@pytest.fixture
def web(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("SPCT_CACHE", str(tmp_path / "cache"))
    server.files["/data/a.jsonl"] = BODY
    return server


def test_a_file_is_fetched_once(web: Server) -> None:
    config = source(url=f"{web.url}/data/", sha256={"a.jsonl": sha(BODY)})
    first, second = fetch(config), fetch(config)
    assert first == second and first[0].path.read_bytes() == BODY
    assert first[0].place == f"{web.url}/data/a.jsonl"
    assert len(web.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(web: Server, ranges: bool) -> None:
    web.cut, web.ranges = 1000, ranges
    config = source(url=f"{web.url}/data")
    with pytest.raises(StageStopped, match=r"mine: http.*a\.jsonl cannot be fetched"):
        fetch(config)
    assert not list(download.cache().rglob("a.jsonl"))
    web.cut = 0
    assert fetch(config)[0].path.read_bytes() == BODY
    assert web.asked[-1][2] == "bytes=1000-"


def test_a_part_that_is_already_whole(web: Server) -> None:
    config = source(url=f"{web.url}/data")
    whole = fetch(config)[0].path
    whole.rename(whole.with_name(".a.jsonl.part"))
    assert fetch(config)[0].path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [(404, ConfigError, "no such file; correct url"), (503, StageStopped, "cannot be fetched")],
)
def test_a_server_that_refuses(
    web: Server, status: int, kind: type[Exception], message: str
) -> None:
    web.status = status
    with pytest.raises(kind, match=message):
        fetch(source(url=f"{web.url}/data"))


def test_no_server(web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 1.0)
    with pytest.raises(StageStopped, match=r"go online and run again .* or give a local path"):
        fetch(source(url="http://127.0.0.1:1/data"))


# ---- the hub ---------------------------------------------------------------------------------


@pytest.fixture
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server.files[f"/datasets/owner/set/resolve/{COMMIT}/a.jsonl"] = BODY
    server.files["/datasets/owner/set/resolve/main/a.jsonl"] = BODY
    return server


def ours(**values: Any) -> SourceConfig:
    return source(**{"hub": "owner/set", "revision": COMMIT, **values})


def test_the_hub_file_is_cached_by_commit(hub: Server) -> None:
    first = fetch(ours(sha256={"a.jsonl": sha(BODY)}))[0]
    assert first.path.read_bytes() == BODY
    assert (first.place, first.revision) == ("hub:owner/set", COMMIT)
    asked = len(hub.asked)
    hub.status = 503  # a pinned commit in the cache needs no hub
    assert fetch(ours())[0] == first and len(hub.asked) == asked


def test_a_branch_is_resolved_to_its_commit(hub: Server) -> None:
    assert fetch(ours(revision="main"))[0].revision == COMMIT


def commits(*ids: str) -> bytes:
    """What a hub says of the history of a data set."""
    about = {"title": "t", "message": "", "date": "2024-07-12T00:00:00.000Z", "authors": []}
    return json.dumps([{"id": one, **about} for one in ids]).encode()


def test_a_commits_first_digits_pin_it(hub: Server) -> None:
    hub.files["/api/datasets/owner/set/commits/main"] = commits("f" * 40, COMMIT)
    short = ours(revision=COMMIT[:7])
    first = fetch(short)[0]
    assert first.revision == COMMIT and first.path.read_bytes() == BODY
    hub.status = 503  # now the cache knows it
    assert fetch(short)[0] == first
    book = Book()
    book.open("train", short, [first])
    assert not book.warnings()


def test_first_digits_that_no_commit_or_two_have(hub: Server) -> None:
    hub.files["/api/datasets/owner/set/commits/main"] = commits("a" * 40, "a" * 7 + "b" * 33)
    for digits, count in (("0000000", 0), ("a" * 7, 2)):
        with pytest.raises(ConfigError, match=f"mine: {count} commits of .* begin with {digits}"):
            fetch(ours(revision=digits))


@pytest.mark.parametrize(("revision", "pinned"), [("main", False), (COMMIT, True)])
def test_a_revision_that_is_not_pinned_is_told(hub: Server, revision: str, pinned: bool) -> None:
    book = Book()
    config = ours(revision=revision)
    book.open("train", config, fetch(config))
    said = [f"warning: mine: revision not pinned: main was {COMMIT} today"] * (not pinned)
    assert [line.partition(";")[0] for line in book.warnings()] == said
    assert card.sources(book)[0]["pinned"] is pinned
    here = "0123456789ab |" if pinned else "0123456789ab (revision not pinned) |"
    nothing = {"items": 0, "prompt_characters": {}, "response_characters": {}}
    parts = {"train": nothing, "bench": nothing, "general": nothing}
    page = card.page({"world": "real", "seed": 0, "sources": card.sources(book), **parts})
    assert here in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hub": "owner/none"}, "no such data set, or it is private"),
        ({"revision": "v9"}, "revision v9: no such revision; correct revision"),
        ({"files": ["b.jsonl"]}, "mine: b.jsonl of the hub's .*: no such file; correct files"),
        ({"hub": "a/b/c"}, "not a data set's id"),
    ],
)
def test_what_the_hub_does_not_have(hub: Server, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fetch(ours(**change))


def test_an_unreachable_hub(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the hub's client tries for long
    with pytest.raises(StageStopped, match="cannot be fetched and is not in the cache"):
        fetch(ours())


def test_a_hub_file_of_another_checksum(hub: Server) -> None:
    with pytest.raises(BrokenArtifact, match="not 00 as configured"):
        fetch(ours(sha256={"a.jsonl": "00"}))
