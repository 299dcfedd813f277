"""With ``CI=true`` a skipped test is a failed one, unless its reason stands here.

``conftest.py`` hands these hooks to pytest. An expected failure is no skip if the test carries the
mark and runs; ``pytest.xfail(…)`` from inside and ``run=False`` leave it out like a skip.
"""

from __future__ import annotations

import os
import re

import pytest

# What a skip says (a pattern for all of it), and why CI may let it pass.
ALLOWED = {
    r"no small disk can be mounted here: .*": "a container without the right to mount has no disk"
    " of its own to fill, and nothing that CI could install gives that right",
}


def refused(reason: str) -> bool:
    """Whether CI takes this reason for a failure."""
    return not any(re.fullmatch(pattern, reason) for pattern in ALLOWED)


def judged(report: pytest.TestReport | pytest.CollectReport, *, marked: bool = False) -> None:
    """Turns the report of a skip into that of a failure where CI asks for it.

    ``marked`` is whether the test says that it is expected to fail.
    """
    expected = getattr(report, "wasxfail", "[NOTRUN]")
    ran_as_marked = marked and not expected.startswith("[NOTRUN]")
    if os.environ.get("CI") != "true" or not report.skipped or ran_as_marked:
        return
    if hasattr(report, "wasxfail"):
        del report.wasxfail  # else pytest counts it as expected all the same
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = told.removeprefix("Skipped: ")
    if refused(reason):
        report.outcome = "failed"
        report.longrepr = (
            f"With CI=true no test is skipped, but this one said: {reason}\n"
            f"Install what it needs in .ci/run, or list the reason in tests/{__name__}.py."
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: object):  # type: ignore[no-untyped-def]
    report = yield
    judged(report, marked=item.get_closest_marker("xfail") is not None)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector):  # type: ignore[no-untyped-def]
    report = yield
    judged(report)
    return report
