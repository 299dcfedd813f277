"""SIGKILL of a stage, or of Snakemake above it, at a step of its work, whatever the clock does.

Python imports ``sitecustomize`` wherever it starts. The one that :func:`prepare` writes counts the
files that a stage puts in their place (``os.replace``), and kills before the one that is due.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Blow:
    """Kill before file number ``file``, of those with ``named`` in their path, is put in its place.

    It hits the stage, or Snakemake instead.
    """

    file: int
    named: str = ""
    snakemake: bool = False


def prepare(folder: Path, blows: Mapping[str, Blow]) -> None:
    """Make the folder to put on the path; a job is named by its stage and what it makes."""
    folder.mkdir()
    shutil.copy(__file__, folder / "struck.py")
    (folder / "sitecustomize.py").write_text("import struck\nstruck.wait()\n")
    for number, (job, blow) in enumerate(blows.items()):
        told = {"words": job.split(), **asdict(blow)}
        (folder / f"{number}.json").write_text(json.dumps(told))


def left(folder: Path) -> list[str]:
    """Blows that never fell."""
    return [path.read_text() for path in sorted(folder.glob("*.json"))]


def wait() -> None:
    """In a process that is one of the jobs: let its blow fall when it is due, once."""
    for path in Path(__file__).parent.glob("*.json"):
        blow = json.loads(path.read_text())
        stage, out = blow["words"]
        given = {word.rpartition("=")[2] for word in sys.orig_argv}
        if stage in given and out in given:
            os.replace = struck(os.replace, path, blow)


def struck(
    replace: Callable[..., None], path: Path, blow: Mapping[str, Any]
) -> Callable[..., None]:
    """``os.replace`` that strikes when it is due; ``path`` is then gone, so it does so once."""
    count = 0

    def replaced(source: Any, target: Any, **options: Any) -> None:
        nonlocal count
        count += blow["named"] in str(target)
        if count == blow["file"] and path.exists():
            path.unlink()
            if not blow["snakemake"]:
                os.kill(os.getpid(), signal.SIGKILL)
            _kill_snakemake()
        replace(source, target, **options)

    return replaced


def _kill_snakemake() -> None:
    from spct import resume

    for process, command in resume.processes(Path.cwd()):
        if resume.is_snakemake(command):
            process.kill()
