"""axe-core finds nothing serious or critical: players alone in every theme, and what a lab shows in JupyterLab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.axe import findings
from tests.browser.conftest import OpenNotebook
from tests.browser.lab import Theme
from tests.browser.players import Open, players
from tests.kvm_runs import two_at_once
from tests.timeline_runs import latched, nested
from vnmi_lab.hv.profiles import LEGACY
from vnmi_lab.timeline import build
from vnmi_lab.trace import Trace

pytestmark = pytest.mark.browser

CELLS = (
    "import vnmi_lab.widgets\nfrom vnmi_lab.checks import lab01",
    "lab01.second_nmi",
    "lab01.two_runs.hint()",
    "lab01.two_runs.check([])",
    "vnmi_lab.show('in-handler')",
    "vnmi_lab.doctor()",
)


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    with players(browser, tmp_path) as opened:
        yield opened


def test_axe_is_at_work(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<main><button></button><p style='color:#ccc;background:#fff'>pale</p></main>")
    found = findings(page)
    assert [line.split(" ")[0] for line in found if "region" not in line][:2] == ["button-name", "color-contrast"]
    page.close()


@pytest.mark.parametrize(
    ("jupyter", "theme"),
    [
        ("true", "JupyterLab Light"),
        pytest.param("false", "JupyterLab Dark", marks=pytest.mark.slow),
        pytest.param("true", "JupyterLab Light High Contrast", marks=pytest.mark.slow),
        pytest.param("false", "JupyterLab Dark High Contrast", marks=pytest.mark.slow),
    ],
)
def test_a_player_in_every_theme(show: Open, jupyter: str, theme: str) -> None:
    shown = show(build(nested()), build(Trace(two_at_once(LEGACY))), jupyter=jupyter, theme=theme)
    assert findings(shown.page, ".vnmi-player") == []
    for number, step in ((0, 7), (1, 12)):
        shown.page.evaluate(f"() => models[{number}].set('cursor', {step})")
        shown.at(step, number)
    shown.click("All lanes")
    sheets = shown.view().locator("button[aria-expanded]:visible")
    for number in range(sheets.count()):
        sheets.nth(number).click()
        assert findings(shown.page, ".vl-bar, .vl-pop, .vl-keys") == []
        shown.page.keyboard.press("Escape")


def test_a_run_that_stops_at_a_question(show: Open) -> None:
    shown = show(build(latched(), visible_until=7), width=600)
    shown.press("End")
    shown.at(7)
    assert findings(shown.page, ".vnmi-player") == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_a_lab_shows(theme: Theme, open_notebook: OpenNotebook, tmp_path: Path) -> None:
    notebook = tmp_path / "views.ipynb"
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(CELLS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), notebook)
    page = open_notebook(notebook, theme=theme)
    assert page.run_all() == []
    expect(page.page.locator(".vnmi-player").last).to_have_attribute("data-ready", "true")
    outputs = ".jp-OutputArea-output"
    assert findings(page.page, outputs) == []
    panel = page.page.locator(".vnmi-predict").first
    panel.get_by_role("radio").first.check()
    panel.get_by_role("button", name="Check").click()
    expect(panel.locator(".vnmi-note[data-said]")).to_be_visible()
    assert findings(page.page, outputs) == []
