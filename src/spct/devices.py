"""``python -m spct.devices N COMMAND …``: run a command on N GPUs that no other such job has.

For jobs that share a machine without a scheduler that hands out its GPUs. A GPU is taken by a lock
on its file, which the command inherits: it lasts as long as that process, however it ends. Under
Slurm, which has given the job its GPUs, the command runs as it is.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from spct.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
STAND_IN = "SPCT_GPUS"  # names of GPUs, comma-separated, instead of those found
POLL_S = 0.2


def found() -> list[str]:
    """Names of this process's GPUs: ``SPCT_GPUS``, what CUDA may see, else all that there are.

    The driver's names are UUIDs, which mean the same whatever order CUDA numbers in.
    """
    for variable in (STAND_IN, VISIBLE):
        if variable in os.environ:
            return _listed(variable)
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return re.findall(r"^GPU \d+: .*\(UUID: (\S+)\)", listed.stdout, re.MULTILINE)


def visible() -> list[str]:
    """Names of the GPUs that CUDA shows this process, in CUDA's order."""
    return _listed(VISIBLE) if VISIBLE in os.environ else found()


def _listed(variable: str) -> list[str]:
    names = (name.strip() for name in os.environ[variable].split(","))
    return [name for name in takewhile(_is_gpu, names) if name]


def _is_gpu(name: str) -> bool:
    return not name.startswith("-")  # CUDA stops reading at -1


def scheduled() -> bool:
    """Whether a scheduler gave this process its GPUs."""
    return "SLURM_JOB_ID" in os.environ


def take(count: int) -> None:
    """Let CUDA see ``count`` GPUs, this process's own, unless a scheduler has seen to that.

    Raises ``ConfigError`` as :func:`claim` does.
    """
    if count and not scheduled():
        os.environ[VISIBLE] = ",".join(claim(count, found()))


def claim(count: int, names: Sequence[str], folder: Path | None = None) -> list[str]:
    """Take ``count`` of the named GPUs for this process and what it becomes by ``exec``.

    All at once or none, so that two that want several never wait for each other; waits until
    enough are free. The locks are on files in ``folder``, by default one of this user's. Raises
    ``ConfigError`` if there are fewer than ``count``, or if the folder is another user's.
    """
    if count > len(names):
        raise ConfigError(
            f"{count} GPUs are asked for, this machine shows {len(names)}; "
            "ask for fewer (set-resources of the profile)"
        )
    folder = _private(folder or Path(tempfile.gettempdir()) / f"spct-gpus-{os.getuid()}")
    told = False
    while True:
        with (folder / "choosing").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            taken = _take(count, names, folder)
        if taken:
            return taken
        if not told:
            holders = ", ".join(_holder(folder / _file(name)) for name in names)
            print(f"waiting for {count} of {len(names)} GPUs; held by {holders}", file=sys.stderr)
            told = True
        time.sleep(POLL_S)


def _take(count: int, names: Sequence[str], folder: Path) -> list[str]:
    """The first ``count`` free ones, locked; none if there are not so many."""
    held: dict[str, int] = {}
    for name in names:
        if len(held) == count:
            break
        lock = os.open(folder / _file(name), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            held[name] = lock
    if len(held) < count:
        for lock in held.values():
            os.close(lock)
        return []
    for lock in held.values():
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        os.set_inheritable(lock, True)
    return list(held)


def _private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} is not this user's; set TMPDIR to a folder of your own")
    return folder


def _file(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name) + ".gpu"


def _holder(path: Path) -> str:
    try:
        return f"process {int(path.read_text())}"
    except (OSError, ValueError):
        return "nobody known"


def main(words: Sequence[str]) -> int:
    """Become the command, on its GPUs."""
    if len(words) < 2 or not words[0].isdigit():
        print("usage: python -m spct.devices N COMMAND …", file=sys.stderr)
        return 2
    count, command = int(words[0]), list(words[1:])
    try:
        take(count)
    except ConfigError as error:
        print(f"spct: {error}", file=sys.stderr)
        return 2
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
