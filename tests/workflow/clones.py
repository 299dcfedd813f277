"""Copies of the repository to run the workflow in, with real stages or with stubs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from spct import artifact
from spct.models import BASES

ROOT = Path(__file__).parents[2]
COPIED = ("Snakefile", "conf", "workflow", "profiles", "slurm", "ci", "reports")

# Stands in for src/spct/__main__.py: every stage writes its outputs and nothing else.
STUB = """
import sys
import time
from pathlib import Path


def main():
    stage, *words = sys.argv[1:]
    if stage == "resume":
        from spct.resume import resume_cli

        return resume_cli(words)
    if stage == "grpo" and Path("slow").exists():
        Path("slow").unlink()
        time.sleep(3600)
    given = dict(word.split("=", 1) for word in words if "=" in word)
    if stage == "sync":
        given["io.out"] = words[words.index("--out") + 1]
    if stage == "prepare":
        given["io.out_page"] = str(Path(given["io.out_card"]).with_suffix(".md"))
    for name, value in given.items():
        if name.startswith("io.out"):
            inside = {"report": ["report.html", "scaling.svg", "scaling.png", "health/a"]}
            inside["report"] += [f"training_vs_inference.{kind}" for kind in ("svg", "png")]
            inside["paper"] = ["index.html", "errors.html", "tables.csv", "claims.csv"]
            inside["paper"] += ["inference.svg", "sizes.svg", "lengths.svg"]
            inside |= dict.fromkeys(["rft", "grpo", "metarm"], ["config.json"])
            for file in inside.get(stage, [""]):
                path = Path(value) / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(" ".join(words))


if __name__ == "__main__":
    sys.exit(main())
"""


@dataclass
class Clone:
    """A copy of the repository and the Snakemake that runs in it."""

    root: Path
    path: tuple[Path, ...] = ()  # to look for Python modules in after the clone's own

    def start(self, module: str, *args: str, to: IO[str] | None = None) -> subprocess.Popen[str]:
        """A Python module started in the clone, with the clone's own package.

        What it says goes to a file or, without one, into a pipe.
        """
        path = os.pathsep.join(map(str, (self.root / "src", *self.path)))
        env = {**os.environ, "PYTHONPATH": path}
        return subprocess.Popen(
            [sys.executable, "-m", module, *args],
            cwd=self.root, env=env, stdout=to or subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def run(self, module: str, *args: str, ok: bool = True) -> str:
        """Its output, once it has ended as expected."""
        process = self.start(module, *args)
        text, _ = process.communicate()
        assert (process.returncode == 0) == ok, text
        return text

    def snakemake(self, *args: str, ok: bool = True) -> str:
        """The output of Snakemake with these arguments."""
        return self.run("snakemake", *args, ok=ok)

    def complete(self, *args: str) -> None:
        """Run everything (stubs)."""
        self.snakemake("--cores", "2", *args)

    def planned(self, *args: str) -> Counter[str]:
        """Jobs a run would start, by rule, ``all`` left out."""
        text = self.snakemake("--dry-run", *args)
        return Counter(re.findall(r"^(?:local)?rule (?!all:)(\w+):$", text, re.MULTILINE))

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new))


def clone_to(root: Path, *, weights: bool = False) -> Clone:
    """A copy of what the workflow needs, with the shipped weights only if stages really run."""
    root.mkdir(exist_ok=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_symlink():
            (root / name).symlink_to(os.readlink(source))
        elif source.is_dir():
            only = shutil.ignore_patterns("__pycache__") if name != "reports" else _generated
            shutil.copytree(source, root / name, ignore=only)
        else:
            shutil.copy2(source, root / name)
    left_out = ["__pycache__"] if weights else ["__pycache__", "*.safetensors"]
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns(*left_out))
    for name in ("toy_s", "toy_m", "toy_l"):
        (root / "src" / BASES.relative_to(ROOT / "src") / name).mkdir(parents=True, exist_ok=True)
    return Clone(root)


def hashes(root: Path) -> dict[str, str]:
    """The content hash of every finished artefact under ``results/``."""
    found = {}
    for path in sorted((root / "results").rglob("*")):
        table = path.suffix in (".parquet", ".csv")
        if table or (path.is_dir() and (path / artifact.MANIFEST).is_file()):
            found[str(path.relative_to(root))] = artifact.content_hash(path)
    return found


def _generated(folder: str, names: list[str]) -> list[str]:
    """Of ``reports/``, what runs wrote: every folder but the captions."""
    return [n for n in names if (Path(folder) / n).is_dir() and n != "captions"]


def stubbed(root: Path) -> Clone:
    """A clone with stubs for stages."""
    made = clone_to(root)
    (made.root / "src" / "spct" / "__main__.py").write_text(STUB)
    return made
