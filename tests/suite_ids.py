"""The names of tests: short, printable, and equal on every machine, at every time, in every order.

``conftest.py`` hands these hooks to pytest. Values of parameters get a name from the first, unless
a test names them itself; the second stops the whole collection where a name is none.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

PART = 24  # characters of one parameter's name
LONGEST = 80  # of all between the brackets
# Printable ASCII without the backslash of an escaped byte.
PLAIN = re.compile(r"[ -\[\]-~]*")
ADDRESS = re.compile(r"\bat 0x[0-9a-f]+")


def short(text: str) -> str:
    """The letters, digits and some signs of a text, the first ``PART`` of them."""
    return re.sub(r"[^\w.=+-]+", "_", text, flags=re.ASCII).strip("_")[:PART].rstrip("_")


def pytest_make_parametrize_id(val: Any, argname: str) -> str | None:
    """A text is named by its beginning, bytes and lambdas by their argument; None: as pytest does.

    Pytest numbers those that come out alike.
    """
    if isinstance(val, re.Pattern):
        val = val.pattern
    if isinstance(val, str) and val:
        return short(val) or argname
    nameless = isinstance(val, bytes) or getattr(val, "__name__", "") == "<lambda>"
    return argname if nameless else None


def wrong(name: str) -> bool:
    """Whether a test's name could differ elsewhere or is too long to be one."""
    _, _, parameters = name.partition("[")
    return len(parameters) > LONGEST + 1 or not PLAIN.fullmatch(name) or bool(ADDRESS.search(name))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raises ``pytest.UsageError``, naming the tests whose names are refused."""
    if found := [item.nodeid for item in items if wrong(item.name)]:
        lines = "\n".join(found)
        raise pytest.UsageError(
            f"{len(found)} test names hold escapes or over {LONGEST} characters of parameters;"
            f" give them ids:\n{lines}"
        )
