"""A stage that keeps failing: tried again, then its log's end and the command to run it by hand."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from clones import Clone

from spct import closing

SELECTED = "results/smoke/seed0/select/toy_s/rft.parquet"
FAILS = """    if stage == "select":
        with open("tries", "a") as tries:
            tries.write(f"try\\n")
        print("\\n".join(f"line {n}" for n in range(12)) + "\\nspct: no good")
        return 0 if Path("mended").exists() else 2
"""


@pytest.mark.medium
def test_three_tries_then_what_it_said_and_how_to_repeat_it(stubs: Clone) -> None:
    stubs.edit(
        "src/spct/__main__.py", '    if stage == "grpo" and', FAILS + '    if stage == "grpo" and'
    )
    words = ("--cores", "2", "--retries", "2", SELECTED, "--config", "experiments=[smoke]")
    text = stubs.snakemake(*words, ok=False)
    assert (stubs.root / "tries").read_text().count("try") == 3
    log = "logs/smoke/seed0/select/toy_s.log"
    lines = text.splitlines()
    start = lines.index(f"select failed; {log} ends:")
    assert lines[start + 1 : start + 11] == [f"    line {n}" for n in range(3, 12)] + [
        "    spct: no good"
    ]
    label, command = lines[start + 11].split(": ", 1)
    assert label == "  by hand" and text.count("  by hand: ") == 1
    program, *rest = shlex.split(command)
    assert program == "spct" and "2>&1" not in rest
    assert "spct: no good" in stubs.run("spct", *rest, ok=False)


JOB = """Error in rule rft:
    jobid: 4
    output: {output}
    log: {log} (check log file(s) for error details)
    shell:
        $(test 0 -gt 0 && echo x) spct rft --config a.yaml seed=0 io.out=b > {log} 2>&1
        (command exited with non-zero exit code)

"""
GROUP = """    jobs:
        rule select:
            jobid: 3
            output: {done}
            log: {log} (check log file(s) for error details)
        rule rft:
            jobid: 4
            output: {output}
            log: {log} (check log file(s) for error details)

"""


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "log").write_text("why\n")
    (tmp_path / "done").touch()
    return {name: str(tmp_path / name) for name in ("log", "done", "output")}


def test_a_job_that_failed_once_and_then_did_it_is_no_failure(paths: dict[str, str]) -> None:
    assert closing.failures(JOB.format(**paths)) == [
        f"rft failed; {paths['log']} ends:",
        "    why",
        "  by hand: spct rft --config a.yaml seed=0 io.out=b",
    ]
    assert closing.failures(JOB.format(**{**paths, "output": paths["done"]})) == []


def test_of_a_group_the_job_without_its_outputs_failed(paths: dict[str, str]) -> None:
    told = closing.failures(GROUP.format(**paths))
    by_hand = f"  by hand: snakemake --cores all --printshellcmds {paths['output']}"
    assert told == [f"rft failed; {paths['log']} ends:", "    why", by_hand]
    assert closing.failures(GROUP.format(**paths) + JOB.format(**paths))[2:] == [
        "  by hand: spct rft --config a.yaml seed=0 io.out=b"
    ]


def test_a_log_that_says_nothing_of_failures_gives_none() -> None:
    assert closing.failures("rule rft:\n    log: x\nFinished\n") == []
