"""The files of a source on this machine: a local folder, the Hugging Face hub, or the web.

Whatever the place, the same goes for all: names or globs in, paths with their SHA-256 out, checked
against the configuration. Downloads are kept and taken up where they broke off.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TypeVar

from spct import artifact
from spct.errors import ConfigError, StageStopped
from spct.schema import SourceConfig

DATA, CACHE = "SPCT_DATA", "SPCT_CACHE"
TIMEOUT = 30.0  # seconds without a byte
GLOB = "*?["
SHORT = re.compile("[0-9a-f]{7,39}")  # a commit by its first digits, as the hub's pages show it
T = TypeVar("T")


@dataclass(frozen=True)
class Fetched:
    """A file of a source: ``name`` below the source's place, and where it came from."""

    name: str
    path: Path
    sha256: str
    place: str
    revision: str = ""  # the commit that the configured revision turned out to be


def fetch(source: SourceConfig) -> list[Fetched]:
    """The source's files, sorted by name within each entry of ``files``.

    Raises :class:`~spct.errors.ConfigError` for a place or file that is not there (wrong revision
    and name included), :class:`~spct.errors.StageStopped` where the network does not answer,
    :class:`spct.artifact.BrokenArtifact` for a file of another checksum.
    """
    if source.path:
        found = _local(source)
    elif source.hub:
        found = _hub(source)
    else:
        found = [_web(source, name) for name in source.files]
    for file in found:
        _check(source, file)
    return found


def _check(source: SourceConfig, file: Fetched) -> None:
    wanted = source.sha256.get(file.name, file.sha256)
    if file.sha256 != wanted:
        raise artifact.BrokenArtifact(
            f"{source.name}: {file.path} has SHA-256 {file.sha256}, not {wanted} as configured; "
            "delete the file and run again, or correct sha256 if you mean this version"
        )


def _file(name: str, path: Path, place: str, revision: str = "") -> Fetched:
    return Fetched(name, path, artifact.file_hash(path), place, revision)


# ---- a local folder --------------------------------------------------------------------------


def folder(source: SourceConfig) -> Path:
    """The local folder of a source; a relative one is looked up under ``SPCT_DATA``."""
    path = Path(source.path).expanduser()
    if path.is_absolute():
        return path
    root = os.environ.get(DATA)
    if not root:
        raise ConfigError(
            f"{source.name}: its path {source.path!r} lies under {DATA}, which is not set; "
            "set it to the folder that holds the data sets"
        )
    return Path(root).expanduser() / path


def _local(source: SourceConfig) -> list[Fetched]:
    root = folder(source)
    return [_file(name, root / name, source.path) for name in local(source)]


def local(source: SourceConfig) -> list[str]:
    """The files of a source in a local folder, below it. Raises as :func:`fetch`; reads none."""
    root = folder(source)
    if not root.is_dir():
        raise ConfigError(f"{source.name}: no folder {root}; correct path or {DATA}")
    names: dict[str, None] = {}
    for entry in source.files:
        found = sorted(path for path in root.glob(entry) if path.is_file())
        if not found:
            raise ConfigError(f"{source.name}: no file {entry} in {root}")
        names.update(dict.fromkeys(path.relative_to(root).as_posix() for path in found))
    return list(names)


# ---- the Hugging Face hub --------------------------------------------------------------------


def _hub(source: SourceConfig) -> list[Fetched]:
    import huggingface_hub

    endpoint = os.environ.get("HF_ENDPOINT")
    at = {"repo_type": "dataset", "revision": _whole(source, endpoint)}
    names: dict[str, None] = {}
    listing: list[str] | None = None
    for entry in source.files:
        if any(sign in entry for sign in GLOB):
            if listing is None:
                api = huggingface_hub.HfApi(endpoint=endpoint)
                listing = _ask_hub(source, partial(api.list_repo_files, source.hub, **at))
            matching = sorted(name for name in listing if fnmatch(name, entry))
            if not matching:
                raise ConfigError(f"{source.name}: no file {entry} in {_named(source)}")
            names.update(dict.fromkeys(matching))
        else:
            names.setdefault(entry)
    found = []
    for name in names:
        get = partial(huggingface_hub.hf_hub_download, source.hub, name, endpoint=endpoint, **at)
        path = Path(_ask_hub(source, get, name))
        found.append(_file(name, path, f"hub:{source.hub}", _commit(path)))
    return found


def _whole(source: SourceConfig, endpoint: str | None) -> str:
    """The revision to ask for: of a commit's first digits all 40, by the cache or by the hub."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    if not SHORT.fullmatch(source.revision):
        return source.revision
    cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=source.hub, repo_type="dataset")
    known = [path.name for path in cache.glob(f"snapshots/{source.revision}*")]
    if not known:
        api = huggingface_hub.HfApi(endpoint=endpoint)
        commits = _ask_hub(source, partial(api.list_repo_commits, source.hub, repo_type="dataset"))
        ids = [commit.commit_id for commit in commits]
        known = [one for one in ids if one.startswith(source.revision)]
    if len(known) != 1:
        raise ConfigError(
            f"{source.name}: {len(known)} commits of the hub's {source.hub} begin with "
            f"{source.revision}; correct revision"
        )
    return known[0]


def _named(source: SourceConfig) -> str:
    return f"the hub's {source.hub} at revision {source.revision}"


def _commit(path: Path) -> str:
    """The commit of a file in the hub's cache: ``…/snapshots/<commit>/<name>``."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else ""


def _ask_hub(source: SourceConfig, call: Callable[[], T], name: str = "") -> T:
    from huggingface_hub import errors

    what = f"{source.name}: {name or 'its files'} of {_named(source)}"
    try:
        return call()
    except errors.GatedRepoError as error:
        raise ConfigError(f"{what}: access is gated; accept its terms and log in") from error
    except errors.RepositoryNotFoundError as error:
        raise ConfigError(f"{what}: no such data set, or it is private; correct hub") from error
    except errors.RevisionNotFoundError as error:
        raise ConfigError(f"{what}: no such revision; correct revision") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise StageStopped(_unreachable(what)) from error
    except errors.EntryNotFoundError as error:
        raise ConfigError(f"{what}: no such file; correct files") from error
    except errors.HFValidationError as error:
        raise ConfigError(f"{what}: not a data set's id; correct hub") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise StageStopped(_unreachable(what)) from error


def _unreachable(what: str) -> str:
    return (
        f"{what} cannot be fetched and is not in the cache; go online and run again (a broken "
        "download goes on where it stopped), or give a local path"
    )


# ---- the web ---------------------------------------------------------------------------------


def cache() -> Path:
    """Where files from the web are kept: ``SPCT_CACHE``, else ``~/.cache/spct``."""
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "spct")


def _web(source: SourceConfig, name: str) -> Fetched:
    url = f"{source.url.rstrip('/')}/{urllib.parse.quote(name)}"
    path = cache() / artifact.text_hash(source.url)[:16] / name
    if not path.is_file():
        what = f"{source.name}: {url}"
        try:
            _download(url, path)
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                raise ConfigError(f"{what}: no such file; correct url or files") from error
            raise StageStopped(_unreachable(what)) from error
        except (OSError, http.client.HTTPException) as error:
            raise StageStopped(_unreachable(what)) from error
    return _file(name, path, url)


def _download(url: str, path: Path) -> None:
    """Fetch aside, from where an earlier try stopped, and rename when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    have = aside.stat().st_size if aside.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == http.client.PARTIAL_CONTENT
            length = answer.headers.get("Content-Length")
            with aside.open("ab" if resumed else "wb") as out:
                shutil.copyfileobj(answer, out)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        aside.unlink()
        _download(url, path)
        return
    whole = None if length is None else int(length) + (have if resumed else 0)
    if whole is not None and aside.stat().st_size != whole:
        raise http.client.IncompleteRead(b"", whole - aside.stat().st_size)
    os.replace(aside, path)
