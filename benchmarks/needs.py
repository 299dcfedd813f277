"""Packages of an extra that a benchmark cannot do without: named in one line where they are not."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path


def need(extra: str, *packages: str) -> None:
    """Ends the program, before it computes anything, where one of the packages is not installed."""
    if missing := [name for name in packages if find_spec(name) is None]:
        program = Path(sys.argv[0]).name
        sys.exit(f"{program}: needs {', '.join(missing)}; run: pip install '.[{extra}]'")
