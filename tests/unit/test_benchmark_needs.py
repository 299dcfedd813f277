"""A benchmark whose packages are not installed says so in one line, before it computes."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
PROJECT = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
MODULES = sorted(path.stem for path in FOLDER.glob("*.py"))
PROGRAMS = [name for name in MODULES if "__main__" in (FOLDER / f"{name}.py").read_text()]
# What is in no base installation, by the names that are imported.
EXTRAS = {"trl", "accelerate", "datasets", "peft", "gguf", "vllm"}
# Arguments with which a program asks for what it can do without.
ASKED = {"sampling": ["--engines", "vllm"], "grpo_vs_trl": ["--models", "10m-lora"]}


def imported(name: str) -> set[str]:
    """Packages a benchmark imports anywhere, also through its neighbours."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    near = found & set(MODULES)
    return (found - near).union(*map(imported, near))


def base() -> set[str]:
    """Names of what every installation has."""
    names = {line.split("=")[0].split(">")[0].split("<")[0] for line in PROJECT["dependencies"]}
    return {{"pyyaml": "yaml", "hydra-core": "hydra"}.get(name, name) for name in names}


@pytest.mark.parametrize("name", MODULES)
def test_what_is_imported_is_the_base_or_a_known_extra(name: str) -> None:
    assert imported(name) <= base() | EXTRAS | {"spct"} | set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_missing_extra_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = imported(name) & EXTRAS
    words = ASKED.get(name, [])
    if not wanted and not words:
        return
    monkeypatch.syspath_prepend(str(FOLDER))
    program, needs = import_module(name), import_module("needs")
    monkeypatch.setattr(
        needs, "find_spec", lambda word: None if word in EXTRAS else find_spec(word)
    )
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    with pytest.raises(SystemExit) as stopped:
        program.main()
    told = str(stopped.value)
    assert told.startswith(f"{name}.py: needs ") and "\n" not in told
    assert "; run: pip install '.[" in told
    if wanted:
        assert all(package in told for package in wanted - {"peft"})


def test_a_missing_one_alone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["benchmarks/x.py"])
    needs = import_module("needs")
    needs.need("dev", "pytest", "json")
    with pytest.raises(SystemExit, match=r"^x\.py: needs no_such; run: pip install '\.\[dev\]'$"):
        needs.need("dev", "pytest", "no_such")
