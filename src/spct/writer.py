"""One writer an output: a process that would make what another is making is refused at its start.

Two would mix their logs and sweep away each other's parts. The lock is on a file beside the output
and lasts as long as its process, however that ends; it holds between machines where the file system
has locks, and is left out where it has none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from spct.errors import ConfigError

HELD = {errno.EACCES, errno.EAGAIN}


@contextmanager
def sole(outputs: Iterable[Path]) -> Iterator[None]:
    """Be the only writer of these outputs, and sweep away what killed ones left half-written.

    Raises :class:`spct.errors.ConfigError` naming the process that is writing one of them.
    """
    with ExitStack() as held:
        for path in outputs:
            held.enter_context(_locked(path))
            _sweep(path)
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.name}.lock")
    lock = _open(path, name)
    try:
        yield
    finally:
        name.unlink(missing_ok=True)
        os.close(lock)


def _open(path: Path, name: Path) -> int:
    """The lock file, locked. One that its holder removed meanwhile is no lock: open it anew."""
    while True:
        lock = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # of the process: its children, which may outlive it, inherit none
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                holder = os.read(lock, 200).decode(errors="replace") or "another process"
                os.close(lock)
                raise ConfigError(
                    f"{path} is being written by {holder}; wait for it, or end it"
                ) from error
        if _is(lock, name):
            with suppress(OSError):  # a full disk: what is swept away may make room
                os.truncate(lock, 0)
                os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return lock
        os.close(lock)


def _is(lock: int, name: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), name.stat())
    except FileNotFoundError:
        return False


def _sweep(path: Path) -> None:
    """Files and folders that a killed process began for this output (``artifact.atomic_path``)."""
    begun = re.compile(rf"\.{re.escape(path.name)}\.\d+\.part")
    for one in path.parent.iterdir():
        if begun.fullmatch(one.name):
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one, ignore_errors=True)
            else:
                one.unlink(missing_ok=True)
