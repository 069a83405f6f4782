"""Beside JupyterLab: Notebook 7 and Voila; and when things go wrong: no kernel, a busy one, no network, a reload."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

import nbformat
import pytest
from nbclient import NotebookClient
from playwright.sync_api import Browser, BrowserContext, Error, Locator, Page, Route, expect

from tests.browser.conftest import OpenNotebook
from tests.browser.lab import (
    ERRORS,
    KERNEL_IDLE,
    NOTEBOOK_READY,
    ROOT,
    RUN_ALL,
    NotebookPage,
    Server,
    free_port,
    started,
)
from tests.browser.test_labs import cell_of, run_cell
from vnmi_lab.checks import lab00, lab04

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LABS = ROOT / "labs"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
SHOW = "import vnmi_lab.widgets\nfrom vnmi_lab.timeline import build\nvnmi_lab.widgets.Timeline({})"
RUN = "from vnmi_lab.checks import lab01\nrun = lab01.second_nmi.trace()"
PLAYERS = (f"{RUN}\n{SHOW.format('run')}", "vnmi_lab.widgets.Timeline(run)")
LAST = 14
VOILAS_OWN = re.compile(r"fontawesome|mathjax", re.IGNORECASE)
"""What Voila's own page asks the network for: icons and formulas, neither of which a lab uses."""
KERNEL_BUSY = "() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'busy'"
RUN_LAST = """() => {
  const book = jupyterapp.shell.currentWidget.content;
  book.activeCellIndex = book.widgets.length - 1;
  book.deselectAll();
  jupyterapp.commands.execute('notebook:run-cell');
}"""


def write(path: Path, *cells: str) -> Path:
    made = [nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(cells)]
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=KERNEL), path)
    return path


def player(page: Page, number: int = 0) -> Locator:
    found = page.locator(".vnmi-player").nth(number)
    expect(found).to_have_attribute("data-ready", "true", timeout=60_000)
    return found


def at(one: Locator, cursor: int) -> None:
    expect(one).to_have_attribute("data-cursor", str(cursor), timeout=30_000)


def play(one: Locator) -> None:
    one.get_by_label("Speed in steps per second").select_option("20")
    one.get_by_role("button", name="Play (space)").click()


def steps_and_scrubs(one: Locator) -> None:
    """The last step, the first, one on, and places between, by button, by number and by slider."""
    one.get_by_label("Go to step", exact=True).fill(str(LAST))
    one.get_by_label("Go to step", exact=True).press("Enter")
    at(one, LAST)
    one.get_by_role("button", name="First step").click()
    at(one, 0)
    one.get_by_role("button", name="Step (right arrow)").click()
    at(one, 1)
    one.get_by_label("Go to step", exact=True).fill("9")
    one.get_by_label("Go to step", exact=True).press("Enter")
    at(one, 9)
    one.get_by_role("slider").fill("5")
    at(one, 5)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A reader whose every request beyond this machine fails, and none is made."""
    made = browser.new_context(viewport={"width": 1280, "height": 1600})
    made.set_default_timeout(60_000)
    away: list[str] = []

    def refuse(route: Route) -> None:
        away.append(route.request.url)
        route.abort()

    made.route(beyond, refuse)
    yield made
    made.close()
    assert [url for url in away if not VOILAS_OWN.search(url)] == []


def beyond(url: str) -> bool:
    """Tell whether an address is not on this machine."""
    host = urlparse(url).hostname
    return host is not None and host != "127.0.0.1"


def test_voila_draws_and_plays(context: BrowserContext, lab_server: Server) -> None:
    write(lab_server.folder / "voila.ipynb", *PLAYERS)
    page = context.new_page()
    page.goto(lab_server.address("voila.ipynb", "voila"))
    play(player(page))
    at(player(page), LAST)
    steps_and_scrubs(player(page, 1))
    at(player(page), LAST)


def answers_a_prediction(page: Page) -> None:
    """Choose the first option of the first question that has options, and see what the machine does."""
    panel = page.locator(".vnmi-predict").filter(has=page.get_by_role("radio")).first
    panel.get_by_role("radio").first.check()
    panel.get_by_role("button", name="Check").click()
    expect(panel).to_contain_text("the machine does this")


def test_notebook_7_runs_a_lab_with_its_predictions_and_exercises(context: BrowserContext, lab_server: Server) -> None:
    shutil.copyfile(LABS / "04_vnmi.ipynb", lab_server.folder / "vnmi.ipynb")
    page = context.new_page()
    page.goto(lab_server.address("vnmi.ipynb", "notebook"))
    page.wait_for_function(NOTEBOOK_READY)
    page.evaluate("() => jupyterapp.restored")
    page.wait_for_function(KERNEL_IDLE)
    page.evaluate(RUN_ALL)
    page.wait_for_function(KERNEL_IDLE)
    assert page.evaluate(ERRORS) == []
    play(player(page))
    expect(player(page).get_by_role("button", name="Last step (End)")).to_be_disabled()
    answers_a_prediction(page)
    opened = NotebookPage(page)
    exercise = lab04.EXERCISES[0]
    cell = run_cell(opened, cell_of(opened, exercise), f"{exercise.good}\n{exercise.call}")
    expect(cell.locator(".vnmi-note")).to_have_attribute("data-outcome", "correct")
    page.evaluate("() => jupyterapp.serviceManager.sessions.shutdownAll()")


def test_voila_shows_a_lab_and_its_predictions_can_be_answered(context: BrowserContext, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "voila.log"
    command = [sys.executable, "-m", "voila", str(LABS / "00_start_here.ipynb"), "--no-browser", f"--port={port}"]
    with log.open("wb") as output, started(command, tmp_path, output.fileno(), tmp_path):
        page = context.new_page()
        for _try in range(50):
            with suppress(Error):  # it does not listen yet
                page.goto(f"http://127.0.0.1:{port}/")
                break
            page.wait_for_timeout(500)
        play(player(page))
        expect(player(page).get_by_role("button", name="Last step (End)")).to_be_disabled()
        answers_a_prediction(page)
        expect(page.get_by_role("img", name="One NMI on the timeline")).to_be_visible()
        expect(page.locator("body")).not_to_contain_text("Traceback")
        assert page.locator("[data-outcome='not attempted']").count() == len(lab00.EXERCISES)


def test_jupyterlab_needs_no_network(context: BrowserContext, lab_server: Server) -> None:
    write(lab_server.folder / "cut.ipynb", *PLAYERS, "vnmi_lab.show('in-handler')")
    page = context.new_page()
    page.goto(lab_server.address("cut.ipynb"))
    page.wait_for_function(NOTEBOOK_READY)
    page.wait_for_function(KERNEL_IDLE)
    page.evaluate(RUN_ALL)
    steps_and_scrubs(player(page, 2))
    page.evaluate("() => jupyterapp.serviceManager.sessions.shutdownAll()")


def test_play_goes_on_when_the_kernel_is_killed(open_notebook: OpenNotebook, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    cells = (*PLAYERS, f"import os, pathlib\npathlib.Path({str(pid)!r}).write_text(str(os.getpid()))")
    page = open_notebook(write(tmp_path / "killed.ipynb", *cells), fresh=True)
    assert page.run_all() == []
    first = player(page.page)
    first.get_by_label("Speed in steps per second").select_option("2")
    first.get_by_role("button", name="Play (space)").click()
    expect(first).to_have_attribute("data-cursor", re.compile("^([2-9]|1[0-9])$"))  # a slow page skips some
    os.kill(int(pid.read_text()), signal.SIGKILL)
    page.page.wait_for_function(
        "() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status !== 'idle'"
    )
    first.get_by_label("Speed in steps per second").select_option("20")
    at(first, LAST)
    steps_and_scrubs(first)
    steps_and_scrubs(player(page.page, 1))
    assert page.errors == []


def test_a_busy_kernel_is_not_waited_for(open_notebook: OpenNotebook, tmp_path: Path) -> None:
    go = tmp_path / "go"
    busy = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.05)"
    page = open_notebook(write(tmp_path / "busy.ipynb", *PLAYERS, "'nothing yet'"))
    assert page.run_all() == []
    last = "() => jupyterapp.shell.currentWidget.content.model.cells.get(2)"
    page.page.evaluate(f"source => ({last})().sharedModel.setSource(source)", busy)
    page.page.evaluate(RUN_LAST)
    page.page.wait_for_function(KERNEL_BUSY)
    play(player(page.page))
    at(player(page.page), LAST)
    steps_and_scrubs(player(page.page, 1))
    assert page.page.evaluate(KERNEL_BUSY)
    go.touch()
    page.page.wait_for_function(KERNEL_IDLE)


def test_a_reload_draws_again_while_the_kernel_lives(open_notebook: OpenNotebook, tmp_path: Path) -> None:
    page = open_notebook(write(tmp_path / "again.ipynb", *PLAYERS), fresh=True)
    assert page.run_all() == []
    player(page.page).get_by_role("button", name="Last step").click()
    at(player(page.page), LAST)
    page.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    page.page.reload()
    page.page.wait_for_function(NOTEBOOK_READY)
    at(player(page.page), LAST)
    steps_and_scrubs(player(page.page, 1))


def test_a_notebook_from_somebody_else_shows_picture_table_and_question(
    open_notebook: OpenNotebook, tmp_path: Path
) -> None:
    path = write(tmp_path / "sent.ipynb", *PLAYERS[:1], "lab01.second_nmi")
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=120, store_widget_state=False).execute()
    nbformat.write(notebook, path)
    book = open_notebook(path).page.locator(".jp-Notebook")
    pictures = book.locator("figure img[src^='data:image/svg+xml']")
    expect(pictures.first).to_be_visible()
    assert pictures.first.evaluate("image => image.naturalWidth") > 300
    expect(book).not_to_contain_text("Error displaying widget")
    book.get_by_text("The steps as a table").first.click()
    expect(book.get_by_role("table").first).to_be_visible()
    expect(book).to_contain_text("Predict.")
    expect(book.get_by_text("What the machine does")).to_be_visible()
