"""The suite's own rules: names of tests that are equal everywhere, and no silent skips in CI."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import suite_ids
import suite_order
import suite_skips
import suite_surroundings
import torch
from hypothesis import settings

ROOT = Path(__file__).parents[2]


def pytest_run(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Pytest in a process of its own, with the variables that a person may or may not have."""
    left_out = ("CI", "SPCT_DATA", "PYTHONHASHSEED", "PYTEST_ADDOPTS")
    around = {name: value for name, value in os.environ.items() if name not in left_out}
    around["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, env=around | env, capture_output=True, text=True)


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "name"),
    [
        pytest.param("grpo.lr=1", "grpo.lr=1", id="key"),
        pytest.param("a b\n\\boxed{8}", "a_b_boxed_8", id="signs"),
        pytest.param("ü" * 9, "argument", id="no_ascii"),
        pytest.param("x" * 999, "x" * 24, id="long"),
        pytest.param(b"\x1f\x8b", "argument", id="bytes"),
        pytest.param(lambda: 1, "argument", id="lambda"),
        pytest.param(re.compile("a.b"), "a.b", id="pattern"),
        pytest.param("", None, id="empty"),
        pytest.param(0.5, None, id="number"),
        pytest.param({"a"}, None, id="set"),
    ],
)
def test_a_value_gives_a_short_name(value: Any, name: str | None) -> None:
    assert suite_ids.pytest_make_parametrize_id(value, "argument") == name


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        pytest.param("test_a[x-1]", False, id="plain"),
        pytest.param("test_a[grpo beta 0.04]", False, id="blanks"),
        pytest.param(f"test_a[{'x' * 80}]", False, id="longest"),
        pytest.param(f"test_a[{'x' * 81}]", True, id="too_long"),
        pytest.param(r"test_a[\x1f\x8b]", True, id="bytes"),
        pytest.param("test_a[ü]", True, id="no_ascii"),
        pytest.param("test_a[<object object at 0x7f1c>]", True, id="address"),
    ],
)
def test_a_name_that_could_differ_elsewhere_is_refused(name: str, refused: bool) -> None:
    assert suite_ids.wrong(name) == refused


@pytest.mark.medium
def test_the_suite_is_collected_alike_at_another_time_and_in_another_order() -> None:
    """By another hash seed, a second later, without data, in another time zone and another home."""

    def names(**env: str) -> list[str]:
        words = ("--collect-only", "--quiet", "-m", "")
        done = pytest_run(ROOT, *words, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return [line for line in done.stdout.splitlines() if "::" in line]

    first = names(PYTHONHASHSEED="1", SPCT_DATA="/nowhere", CI="true", TZ="UTC")
    time.sleep(1)  # the second that a compressed file's header tells
    assert names(PYTHONHASHSEED="2", TZ="Asia/Tokyo", HOME="/nowhere") == first
    assert len(first) > 3000 and len(set(first)) == len(first)


# ---- skips ---------------------------------------------------------------------------------------

SKIPPING = """
import pytest

@pytest.mark.skipif(True, reason="no such package")
def test_by_mark(): ...

def test_inside(): pytest.skip("no such disk")

def test_package(): pytest.importorskip("no_such_package")

@pytest.mark.xfail(strict=True)
def test_expected(): assert False

@pytest.mark.xfail(run=False)
def test_never(): assert False

def test_out(): pytest.xfail("no such disk")

@pytest.fixture
def missing(): pytest.skip("no such machine")

def test_fixture(missing): ...
"""


@pytest.mark.parametrize(
    ("ci", "counts", "told"),
    [
        pytest.param("true", {"3 failed", "3 errors", "1 xfailed"}, 6, id="ci"),
        pytest.param("false", {"4 skipped", "3 xfailed"}, 0, id="person"),
    ],
)
def test_a_skip_is_a_failure_in_ci(tmp_path: Path, ci: str, counts: set[str], told: int) -> None:
    (tmp_path / "test_here.py").write_text(SKIPPING)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("suite_skips",)')
    done = pytest_run(tmp_path, "--quiet", "-rN", CI=ci)
    assert set(re.findall(r"\d+ [a-z]+", done.stdout.splitlines()[-1])) >= counts
    assert done.stdout.count("With CI=true no test is skipped, but this one said: ") == told


@pytest.mark.medium
def test_a_file_that_skips_itself_is_a_failure_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_here.py").write_text("import pytest\npytest.importorskip('no_such')")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("suite_skips",)')
    assert pytest_run(tmp_path, CI="true").returncode not in (0, 5)
    assert pytest_run(tmp_path).returncode == 5  # nothing was collected


def test_a_listed_reason_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite_skips, "ALLOWED", {r"no file of \w+": "it is large"})
    assert not suite_skips.refused("no file of rmb")
    assert suite_skips.refused("no file of rmb and no disk")


def test_the_list_of_skips_is_short_and_says_why() -> None:
    assert len(suite_skips.ALLOWED) <= 5
    assert all(len(why.split()) > 4 for why in suite_skips.ALLOWED.values())


# ---- surroundings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "taken_away"),
    [
        ("SPCT_OPENAI", True), ("SLURM_JOB_ID", True), ("MLFLOW_TRACKING_URI", True),
        ("WORLD_SIZE", True), ("SPCT_DATA", False), ("PATH", False),
    ],
)  # fmt: skip
def test_a_shells_variables_change_nothing(name: str, taken_away: bool) -> None:
    assert suite_surroundings.unwanted(name) == taken_away


def test_examples_are_the_same_every_time_and_may_take_as_long_as_they_like() -> None:
    assert settings().deadline is None and settings().derandomize


DRAWS: list[tuple[float, ...]] = []


@pytest.mark.parametrize("turn", [1, 2])
def test_what_is_drawn_without_a_seed_is_the_same_in_any_order(turn: int) -> None:
    DRAWS.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert len(set(DRAWS)) == 1


def test_no_test_reads_the_time_to_assert_it() -> None:
    """A bound on seconds is a test of the machine; waiting has a word of its own: patience."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"assert\b.*(monotonic|perf_counter|process_time|time\.time)\(", line)
    ]
    assert [one for one in found if "PATIENCE" not in one and "deadline" not in one] == []


def test_long_files_begin_first_and_are_there() -> None:
    assert all(path.is_file() for path in suite_order.RANK)
