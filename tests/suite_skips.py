"""With ``CI=true`` a skipped test is a failed one, unless its reason stands here.

``conftest.py`` hands these hooks to pytest. An expected failure (xfail) is no skip.
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


def judged(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turns the report of a skip into that of a failure where CI asks for it."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
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
    judged(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector):  # type: ignore[no-untyped-def]
    report = yield
    judged(report)
    return report
