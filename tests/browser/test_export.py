"""A run on its way out of the lab: the page that plays offline, and the timeline's menu, with and without a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import OpenNotebook
from tests.export_runs import Make, bare, of
from tests.timeline_runs import hostile
from vnmi_lab.export import FORMATS, write

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELL = "import vnmi_lab\nfrom vnmi_lab.library import find\nvnmi_lab.show(find('in-handler').on('legacy'))"


class Opened:
    """A saved page in a browser that has no network, and all that it asked for."""

    def __init__(self, context: BrowserContext, file: Path) -> None:
        self.page: Page = context.new_page()
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on(
            "console", lambda line: self.wrong.append(line.text) if line.type in {"error", "warning"} else None
        )
        self.page.goto(file.as_uri())
        expect(self.page.locator(".vnmi-player")).to_have_attribute("data-ready", "true")

    def at(self, step: int) -> None:
        expect(self.page.locator(".vnmi-player")).to_have_attribute("data-cursor", str(step))


@pytest.fixture
def offline(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    context.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
    yield context
    context.close()


@pytest.mark.parametrize("make", [lambda: of("in-handler", "legacy"), bare, hostile], ids=["kvm", "bare", "hostile"])
def test_a_saved_page_plays_to_its_end_and_asks_for_nothing(
    make: Make, offline: BrowserContext, tmp_path: Path
) -> None:
    trace = make()
    file = tmp_path / write(trace, "html").name
    file.write_text(write(trace, "html").text, encoding="utf-8")
    opened = Opened(offline, file)
    opened.page.get_by_label("Speed in steps per second").select_option("60")
    opened.page.get_by_role("button", name="Play (space)").click()
    opened.at(len(trace) - 1)
    opened.page.locator(".vl-scroll").press("Home")
    opened.at(0)
    assert opened.page.title() == " ".join(trace.title.split())
    assert opened.page.get_by_role("button", name="Save this run").count() == 0
    assert opened.asked == [file.as_uri()]
    assert opened.wrong == []


def test_a_saved_page_runs_no_script_but_its_own(offline: BrowserContext, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    whole = write(bare(), "html").text
    file.write_text(whole.replace("</main>", "</main><script>document.title = 'taken over'</script>"))
    opened = Opened(offline, file)
    opened.page.evaluate(
        "() => void document.body.insertAdjacentHTML('beforeend', '<img src=http://127.0.0.1:9/a.png>')"
    )
    opened.page.wait_for_function("() => document.querySelector('img').complete")
    opened.page.evaluate("() => fetch('http://127.0.0.1:9/').catch((error) => error.message)")
    assert opened.page.title() == "Two NMIs"
    assert all("Content Security Policy" in line for line in opened.wrong)
    told = " ".join(opened.wrong)
    assert all(refused in told for refused in ("inline script", "127.0.0.1:9/a.png", "Fetch API"))


def test_the_menu_saves_what_the_kernel_writes_and_without_it_the_page(
    open_notebook: OpenNotebook, offline: BrowserContext, tmp_path: Path
) -> None:
    notebook = tmp_path / "save.ipynb"
    cells = [nbformat.v4.new_code_cell(CELL, id="cell-0")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), notebook)
    lab = open_notebook(notebook)
    assert lab.run_all() == []
    page, player = lab.page, lab.page.locator(".vnmi-player")
    button = player.get_by_role("button", name="Save this run as a file")
    trace = of("in-handler", "legacy")

    button.focus()
    page.keyboard.press("Enter")
    menu = player.get_by_role("group", name="Save as")
    expect(menu.get_by_role("button")).to_have_count(len(FORMATS))
    expect(menu.get_by_role("button").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(button).to_be_focused()

    for key in ("vcd", "csv"):
        page.keyboard.press("Enter")
        menu.locator(f"[data-format={key}]").focus()
        with page.expect_download() as saving:
            page.keyboard.press("Enter")
        assert saving.value.suggested_filename.endswith(FORMATS[key].suffix)
        assert saving.value.path().read_text(encoding="utf-8") == write(trace, key).text.replace(
            trace.title, player.locator(".vl-title").inner_text()
        )
        expect(button).to_be_focused()
        expect(player.get_by_text(f"Saved: {saving.value.suggested_filename}").first).to_be_attached()

    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    button.click()
    menu.locator("[data-format=vcd]").click()
    expect(menu.get_by_role("status")).to_contain_text("The kernel does not answer")
    with page.expect_download() as saving:
        menu.locator("[data-format=html]").click()
    file = tmp_path / saving.value.suggested_filename
    saving.value.save_as(file)
    opened = Opened(offline, file)
    opened.page.locator(".vl-scroll").press("End")
    opened.at(len(trace) - 1)
    assert opened.page.get_by_role("heading", level=2).inner_text() == player.locator(".vl-title").inner_text()
    assert (opened.asked, opened.wrong) == ([file.as_uri()], [])
