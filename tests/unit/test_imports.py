"""Configuration and pure logic load in a moment: no torch, no transformers, no MLflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import spct

ROOT = Path(spct.__file__).parent
HEAVY_MODULES = {"lm"}
PACKAGES = ("bank", "benchmarks", "health", "judge", "planning", "report", "scaling")


def light_modules() -> list[str]:
    """Every module at the top of the package, and those of the light packages."""
    top = [path for path in ROOT.glob("*.py") if path.stem not in HEAVY_MODULES]
    inside = [path for package in PACKAGES for path in (ROOT / package).glob("*.py")]
    names = [path.relative_to(ROOT.parent).with_suffix("") for path in sorted([*top, *inside])]
    return [".".join(name.parts).removesuffix(".__init__") for name in names]


def test_the_light_band_imports_nothing_heavy() -> None:
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers', 'mlflow', 'snakemake'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *light_modules()], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_stage_code_never_imports_snakemake() -> None:
    assert not [
        path
        for path in ROOT.rglob("*.py")
        if any(
            line.startswith(("import snakemake", "from snakemake"))
            for line in path.read_text().splitlines()
        )
    ]
