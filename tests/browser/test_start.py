"""The first lab as a newcomer meets it in JupyterLab, and progress that outlives the kernel and the session."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect

from tests.browser.axe import findings
from tests.browser.conftest import OpenNotebook
from tests.browser.lab import KERNEL_IDLE, NotebookPage, Server, Theme
from tests.browser.test_bench import point_at
from tests.browser.test_labs import cell_of, run_cell, say
from vnmi_lab.checks import lab00, progress
from vnmi_lab.checks.record import parse

pytestmark = [pytest.mark.browser, pytest.mark.slow]

START = Path(__file__).parent.parent.parent / "labs" / "00_start_here.ipynb"
FILE = "of-a-newcomer.json"
RESTART = "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
SHUT_DOWN = "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.shutdown()"


@pytest.fixture
def keeping(tmp_path: Path, lab_server: Server) -> Path:
    """Return a copy of the lab whose kernel keeps progress, in a file of its own."""
    (lab_server.folder / FILE).unlink(missing_ok=True)
    book = nbformat.read(START, as_version=4)
    book.cells = [cell for cell in book.cells if cell.cell_type == "code"]
    book.cells[0].source = f'import os\nos.environ["{progress.VARIABLE}"] = "{FILE}"\n{book.cells[0].source}'
    copy = tmp_path / "start.ipynb"
    nbformat.write(book, copy)
    return copy


def panel(page: NotebookPage) -> Locator:
    return page.page.locator(".vnmi-progress-panel")


def knobs(page: NotebookPage) -> int:
    """Count what can be set or pressed above the timeline, but for what is about the scenario's text."""
    shown = page.page.locator(".vnmi-bench").first.locator("select:visible, button:visible")
    names = [shown.nth(n).get_attribute("class") or "" for n in range(shown.count())]
    outside = page.page.locator(".vnmi-bench .vnmi-player").first.locator("select:visible, button:visible").count()
    folded = ("vl-copy", "vnmi-arrival")
    return len([name for name in names if not any(word in name for word in folded)]) - outside


def test_an_nmi_is_delivered_in_the_first_two_cells_with_four_knobs_on_the_screen(open_notebook: OpenNotebook) -> None:
    page = open_notebook(START, height=1200)
    for index in (2, 4):
        cell = run_cell(page, index, nbformat.read(START, 4).cells[index].source)
        page.page.wait_for_function(KERNEL_IDLE)
    player = cell.locator(".vnmi-player")
    expect(player).to_have_attribute("data-ready", "true")
    expect(page.page.locator(".jp-Notebook")).to_contain_text("Everything the labs need is here.")
    player.get_by_label("Speed in steps per second").select_option("20")
    player.get_by_role("button", name="Play (space)").click()
    expect(player.get_by_role("button", name="Last step (End)")).to_be_disabled()
    expect(cell).to_contain_text("NMIs: 1 arrived, 1 delivered")
    assert knobs(page) == 5, "four knobs, and the button that unfolds the rest"

    # once around the bench, as section 3 asks for
    player.get_by_role("button", name="First step (Home)").click()
    player.get_by_role("button", name="Run until… (U)").click()
    player.get_by_role("button", name="On to where a delivery").click()
    expect(player).to_have_attribute("data-cursor", "3")
    page.page.keyboard.press("Escape")
    player.get_by_role("button", name="Step (right arrow)").click()
    expect(player.get_by_label("Why is it blocked?")).to_contain_text("nmi_mask yes, decides")
    player.get_by_label("Why is it blocked?").get_by_role("button").click()
    expect(player).to_have_attribute("data-cursor", "6")
    step = player.get_by_label("Go to step", exact=True)
    for at, key in ((2, "a"), (6, "b")):
        step.fill(str(at))
        step.press("Enter")
        player.locator(".vl-scroll").press(key)
    expect(player).to_contain_text("4 steps")

    # exercise 3: a second NMI is placed with the mouse, and the scenario is the answer
    cell.get_by_role("button", name="Place an NMI").click()
    point_at(cell, 9, 12)
    placed = cell.get_by_label("Scenario", exact=True)
    expect(placed).to_have_value("v1~plain~bare~nmi@work~nmi@later")
    assert lab00.two_places.judged(placed.input_value()).ok
    assert page.errors == []


def test_what_a_newcomer_does_outlives_the_kernel_and_the_session(
    open_notebook: OpenNotebook, keeping: Path, lab_server: Server, tmp_path: Path
) -> None:
    page = open_notebook(keeping, height=1200, fresh=True)
    assert page.run_all() == []
    index = cell_of(page, lab00.taken)
    cell = run_cell(page, index, f"step = 2\n{lab00.taken.call}")
    expect(cell.locator(".vnmi-note")).to_have_attribute("data-outcome", "incorrect")
    expect(cell.get_by_label("Go to step", exact=True)).to_have_value("2")
    hint = run_cell(page, index + 1, "lab.taken.hint(1)")
    expect(hint.locator(".vnmi-note")).to_contain_text("Hint 1 of 3")
    cell = run_cell(page, index, f"{lab00.taken.good}\n{lab00.taken.call}")
    expect(cell.locator(".vnmi-note")).to_have_attribute("data-outcome", "correct")
    say(page.page.locator(".vnmi-predict"), "A")
    shown = panel(page)
    expect(shown).to_contain_text("taken done, 2 tries, 1 hint")
    expect(shown).to_contain_text("1 wrong")
    assert len(parse((lab_server.folder / FILE).read_text())) == 4

    # the kernel is restarted: everything is there again
    page.page.evaluate(RESTART)
    page.page.wait_for_function(KERNEL_IDLE)
    assert page.run_all() == []
    asked = page.page.locator(".vnmi-predict")
    expect(asked.locator(".vnmi-note[data-said]")).to_contain_text("The machine does something else")
    expect(asked.get_by_role("radio", name=re.compile(r"^A\."))).to_be_checked()
    expect(panel(page)).to_contain_text("taken done, 2 tries, 1 hint")
    asked.get_by_role("button", name="Ask me again").click()
    expect(asked.get_by_role("button", name="Skip, show me")).to_be_visible()
    expect(asked.locator(".vnmi-note[data-said]")).to_have_count(0)

    # the session ends: the page still has the file
    page.page.evaluate(SHUT_DOWN)
    with page.page.expect_download() as started:
        panel(page).get_by_role("button", name="Download my progress").click()
    kept = tmp_path / "vnmi-progress.json"
    started.value.save_as(kept)
    assert started.value.suggested_filename == kept.name
    (lab_server.folder / FILE).unlink()

    # another session: it is uploaded, and nothing that was done meanwhile is lost
    again = open_notebook(keeping)
    assert again.run_all() == []
    expect(panel(again)).to_contain_text("taken not yet")
    bad = run_cell(again, cell_of(again, lab00.between), f"steps = 3\n{lab00.between.call}")
    expect(bad.locator(".vnmi-note")).to_have_attribute("data-outcome", "incorrect")
    panel(again).get_by_label("Upload it again").set_input_files(kept)
    expect(panel(again).get_by_role("status")).to_contain_text("Loaded: 6 notes from vnmi-progress.json")
    expect(panel(again)).to_contain_text("taken done, 2 tries, 1 hint")
    expect(panel(again)).to_contain_text("between not right yet, 1 try")
    wrong = tmp_path / "holiday.json"
    wrong.write_text(json.dumps({"<b>": 1}))
    panel(again).get_by_label("Upload it again").set_input_files(wrong)
    expect(panel(again).get_by_role("status")).to_contain_text("holiday.json could not be read")
    expect(panel(again)).to_contain_text("taken done, 2 tries, 1 hint")
    assert page.errors == again.errors == []


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 600)])
def test_the_map_is_accessible_and_fits(theme: Theme, width: int, open_notebook: OpenNotebook, keeping: Path) -> None:
    page = open_notebook(keeping, theme=theme, width=width)
    assert page.run_all() == []
    expect(panel(page).get_by_role("button", name="Download my progress")).to_be_visible()
    assert findings(page.page, ".vnmi-progress-panel") == []
    room = panel(page).evaluate("node => node.scrollWidth - node.clientWidth")
    assert room <= 0
