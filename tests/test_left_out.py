"""A test that did not run is never mistaken for one that passed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SUITE = """
import pytest

def test_passes(): pass

@pytest.mark.browser
def test_in_a_browser(): pass

def test_skips(): pytest.skip("no such device")
"""


def run(folder: Path, suite: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (folder / "test_suite.py").write_text(suite)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = browser\n")
    variables = {"VNMI_REQUIRE_ALL": "0", "VNMI_CHROMIUM": sys.executable, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**os.environ, **variables, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_browser_one_line_says_what_was_left_out_and_how_to_get_it(tmp_path: Path) -> None:
    done = run(tmp_path, SUITE, VNMI_CHROMIUM="none")
    assert done.returncode == 0
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("left out"))
    assert line == (
        "left out: 1 test in tests/browser, for want of Chromium. To run them, install chromium or google-chrome, "
        "or set VNMI_CHROMIUM=/path/to/it"
    )
    assert "1 passed, 1 skipped, 1 deselected" in done.stdout


@pytest.mark.slow
def test_the_line_is_there_when_the_tests_run_in_several_processes(tmp_path: Path) -> None:
    done = run(tmp_path, SUITE, "-n2", VNMI_CHROMIUM="none")
    assert "left out: 1 test in tests/browser" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout


def test_with_a_browser_nothing_is_left_out(tmp_path: Path) -> None:
    done = run(tmp_path, SUITE)
    assert "left out" not in done.stdout
    assert "2 passed, 1 skipped" in done.stdout


@pytest.mark.parametrize(
    ("suite", "counts"),
    [
        (SUITE, "1 failed, 2 passed"),
        ("import pytest\npytest.importorskip('no_such_module')\n", "1 error"),
    ],
    ids=["in a test", "in a module"],
)
def test_a_skip_fails_where_everything_is_required(tmp_path: Path, suite: str, counts: str) -> None:
    done = run(tmp_path, suite, VNMI_REQUIRE_ALL="1", VNMI_CHROMIUM="none")
    assert done.returncode != 0
    assert counts in done.stdout
    assert "VNMI_REQUIRE_ALL=1 allows no skip" in done.stdout
