"""Clones to test the DAG in: fresh, with stubs for stages, and finished."""

from __future__ import annotations

from pathlib import Path

import pytest
from clones import Clone, clone_to, stubbed


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A fresh clone, for dry runs."""
    return clone_to(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def stubs(tmp_path: Path) -> Clone:
    """A fresh clone with stubs for stages."""
    return stubbed(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with stubs for stages, in which ``smoke`` is complete; who changes it mends it."""
    made = stubbed(tmp_path_factory.mktemp("finished"))
    made.complete("--config", "experiments=[smoke]")
    return made
