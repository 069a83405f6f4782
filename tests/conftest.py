"""What every test shares: how many examples Hypothesis tries, and an honest count of tests that were left out.

Without Chromium the browser tests are left out and one line says so. With VNMI_REQUIRE_ALL=1 nothing may be left
out: a browser test fails where there is no browser, and any skip is a failure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

from tests.installed import installed, wheel
from vnmi_lab.checks import progress
from vnmi_lab.checks.course import COURSE
from vnmi_lab.checks.saved import Saved
from vnmi_lab.doctor import find_browser

__all__ = ["installed", "wheel"]  # fixtures that tests in both folders share

REQUIRE_ALL = os.environ.get("VNMI_REQUIRE_ALL") == "1"
LEFT_OUT = pytest.StashKey[int]()

# No test leaves a learner's file in the folder that it runs in, nor does a kernel or a server that it starts.
os.environ[progress.VARIABLE] = progress.OFF

# Derandomized: the same examples on every machine, so a red test is red for everybody.
settings.register_profile("fast", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("full", max_examples=100, deadline=None, derandomize=True)
settings.load_profile("fast")


@pytest.fixture(autouse=True)
def _nothing_said_yet() -> None:
    """No test sees what another one answered: predictions are values of their labs' modules."""
    progress.use(Saved())
    for lab in COURSE:
        module = sys.modules.get(f"vnmi_lab.checks.lab{lab.number}")
        for asked in module.PREDICTIONS if module else ():
            asked.record.clear()


def _needs_browser(item: pytest.Item) -> bool:
    return item.get_closest_marker("browser") is not None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_needs_browser)  # last: the browser's driver leaves an event loop running in this thread
    if REQUIRE_ALL or find_browser():
        return
    left_out = [item for item in items if _needs_browser(item)]
    items[:] = [item for item in items if not _needs_browser(item)]
    config.stash[LEFT_OUT] = len(left_out)
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """As many as there are cores, whatever their kind: one more was slower, as a page in a browser needs one alone."""
    return os.cpu_count() or 1


@pytest.hookimpl
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a process of pytest-xdist, whose terminal is elsewhere
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401  # pytest-xdist's, which need not be there
    """Take over what a process left out: all of them collect the same tests."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)  # none if it crashed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.stash.get(LEFT_OUT, 0)
    if count:
        terminalreporter.write_line(
            f"left out: {count} test{'s' * (count > 1)} in tests/browser, for want of Chromium. To run them, "
            "install chromium or google-chrome, or set VNMI_CHROMIUM=/path/to/it"
        )


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: VNMI_REQUIRE_ALL=1 allows no skip: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report
