"""The order in which files of tests begin: long ones first, so that no process is left with one.

``conftest.py`` hands this to pytest; ``make test`` gives files to processes in this order.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
# By the CPU they take, from 2 minutes to 15 seconds. A file that is not here begins later.
LONG = (
    "workflow/test_smoke.py",
    "workflow/test_dryrun.py",
    "unit/test_parallel.py",
    "unit/test_grpo_parallel.py",
    "unit/test_config.py",
    "unit/test_apart.py",
    "unit/test_supervised.py",
    "unit/test_trl_gate.py",
    "workflow/test_explain.py",
    "unit/test_runs.py",
    "unit/test_grpo_resume.py",
    "unit/test_coverage.py",
    "unit/test_grpo_overlap.py",
    "unit/test_native.py",
)
RANK = {HERE / name: rank for rank, name in enumerate(LONG)}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: RANK.get(item.path, len(LONG)))
