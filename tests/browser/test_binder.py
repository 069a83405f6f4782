"""Binder: repo2docker accepts the repository, and the environment that binder/ makes runs the first lab.

The measured figures are printed: `pytest -s tests/browser/test_binder.py`. docs/binder.md has them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.binder import ROOT, Built, build, image_pins, python_version, resident_mb
from tests.browser.lab import NotebookPage, serve

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MOST_MB, MOST_MEMORY_MB = 700, 400
"""Far above what is measured: a new dependency that weighs as much as JupyterLab should not pass unseen."""

TO_PLAYER = """() => {
  const { content } = window.jupyterapp.shell.currentWidget;
  const cells = content.widgets.map((cell) => cell.model.sharedModel.source);
  return content.scrollToItem(cells.findIndex((source) => source.includes("show(")), "start");
}"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("binder"))


def test_repo2docker_accepts_the_repository() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "repo2docker", "--debug", "--no-build", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = (done.stdout + done.stderr).splitlines()
    assert f"Building conda environment for python={python_version()}" in said
    assert 'RUN ${KERNEL_PYTHON_PREFIX}/bin/pip install --no-cache-dir -r "binder/requirements.txt"' in said
    assert said.index("RUN chmod +x binder/postBuild") < said.index("RUN ./binder/postBuild")


def test_the_first_lab_runs_in_what_binder_builds(built: Built, browser: Browser, tmp_path: Path) -> None:
    first = min((built.checkout / "labs").glob("*.ipynb"))
    program = (built.python, "-m", "jupyterlab", f"--ServerApp.root_dir={built.checkout}")
    with serve(tmp_path, program=program, folder=built.checkout) as server:
        context = browser.new_context(viewport={"width": 1280, "height": 1600})
        context.set_default_timeout(30_000)
        page = NotebookPage(context.new_page())
        page.open(server.address(f"labs/{first.name}"), "light")
        errors = page.run_all()
        page.page.evaluate(TO_PLAYER)  # Binder's JupyterLab has no cell on the page that is off the screen
        expect(page.page.locator(".vnmi-player").first).to_be_visible()
        memory = resident_mb(server.process)
        page.close()
    assert errors == []
    assert page.errors == []
    sys.stdout.write(
        f"\nBinder: {', '.join(image_pins())}\n"
        f"environment {built.mb:.0f} MB, of it {built.image_mb:.0f} MB the image's;\n"
        f"server and one kernel after {first.stem}: {memory:.0f} MB\n"
    )
    assert built.mb < MOST_MB
    assert memory < MOST_MEMORY_MB
