"""Two processes that would write the same output: the second is refused, a killed one is no bar."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spct import artifact, writer

HOLD = """
import sys
from pathlib import Path
from spct import writer
with writer.sole(map(Path, sys.argv[1:])):
    print("held", flush=True)
    sys.stdin.readline()
"""
# Several at once: each leaves a file while it writes; a second one would find it.
COUNT = """
import os, sys, time
from pathlib import Path
from spct import writer
from spct.errors import ConfigError
out, done = Path(sys.argv[1]), 0
while done < 15:
    try:
        with writer.sole([out]):
            os.close(os.open(f"{out}.busy", os.O_CREAT | os.O_EXCL))
            os.unlink(f"{out}.busy")
            done += 1
    except ConfigError:
        time.sleep(0.001)
print(done)
"""


def start(script: str, *arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def holder(*outputs: Path) -> subprocess.Popen[str]:
    process = start(HOLD, *outputs)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("stage", ["rollout", "grpo"])
def test_the_second_is_refused_and_a_killed_one_is_no_bar(
    line: Any, tmp_path: Path, stage: str
) -> None:
    out = tmp_path / "out" / line.files[stage]
    first = holder(tmp_path / "out" / "other", out)
    code, told = line(stage, out)
    assert code == 2
    assert f"{out} is being written by process {first.pid} on " in told and "Traceback" not in told
    assert not out.exists()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert line(stage, out)[0] == 0
    assert {path.name for path in out.parent.iterdir() if ".lock" in path.name} == {".other.lock"}
    assert artifact.content_hash(out) == line.quiet(stage, tmp_path)


def test_what_a_killed_one_had_begun_is_swept_and_nothing_else(tmp_path: Path) -> None:
    begun = [tmp_path / ".out.17.part", tmp_path / ".out.18.part"]
    begun[0].mkdir()
    (begun[0] / "model.safetensors").touch()
    begun[1].touch()
    others = [".out.v2.17.part", ".outer.17.part", "out", ".out.17.parts", "xout.17.part"]
    for name in others:
        (tmp_path / name).touch()
    with writer.sole([tmp_path / "out"]):
        assert not any(path.exists() for path in begun)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_many_at_once_take_turns(tmp_path: Path) -> None:
    processes = [start(COUNT, tmp_path / "out") for _ in range(4)]
    assert [process.communicate()[0].strip() for process in processes] == ["15"] * 4
    assert not list(tmp_path.iterdir())


def test_a_lock_is_not_inherited(tmp_path: Path) -> None:
    """A worker that outlives its killed stage keeps nobody out."""
    out = tmp_path / "out"
    with writer.sole([out]):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
    try:
        holder(out).communicate("\n")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_file_system_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with writer.sole([tmp_path / "out"]):
        pass
    assert not list(tmp_path.iterdir())
