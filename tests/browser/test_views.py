"""The comparison and the graph of states in one notebook of JupyterLab: the kernel builds them, the page moves them."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenNotebook
from tests.browser.test_jupyterlab import write
from vnmi_lab.graph import graph
from vnmi_lab.hv.profiles import POLICIES

pytestmark = [pytest.mark.browser, pytest.mark.slow]

COMPARE = 'import vnmi_lab\nsides = vnmi_lab.side_by_side("two-at-once")\nsides'
GRAPH = 'states = vnmi_lab.state_graph("patch-v4")\nstates'
TELL = 'print("kernel:", sides.cursor, states.cursor)'
RUN_LAST = """() => {
  const notebook = jupyterapp.shell.currentWidget.content;
  notebook.activeCellIndex = notebook.widgets.length - 1;
  return jupyterapp.commands.execute("notebook:run-cell");
}"""
BESIDE = "node => node.getBoundingClientRect().right - node.closest('.jp-OutputArea').getBoundingClientRect().right"


def test_one_is_played_and_the_other_walked_in_one_notebook(open_notebook: OpenNotebook, tmp_path: Path) -> None:
    walk = graph(POLICIES["patch-v4"])["walk"]
    opened = open_notebook(write(tmp_path / "views.ipynb", COMPARE, GRAPH, TELL), still=True)
    assert opened.run_all() == []
    page, cells = opened.page, opened.page.locator(".jp-Notebook .jp-Cell")
    sides, states = (page.locator(f".vnmi-player.{name}") for name in ("vl-compare", "vl-graph"))
    for view, cell in ((sides, 0), (states, 1)):
        expect(view).to_have_attribute("data-ready", "true")
        expect(cells.nth(cell).locator(".vnmi-player")).to_have_count(1)
        assert view.evaluate(BESIDE) <= 0

    sides.get_by_role("combobox").select_option("10")
    sides.get_by_role("button", name="Play").click()
    expect(sides).to_have_attribute("data-playing", "true")

    states.locator(".vl-scroll").focus()
    for node, text, sentence in walk[1:]:
        page.keyboard.press("ArrowRight")
        expect(states).to_have_attribute("data-node", str(node))
        expect(states.get_by_role("region", name="This step").locator(".vl-doing")).to_have_text(text)
        expect(states.get_by_role("region", name="This step").locator(".vl-sentence")).to_have_text(sentence)
    expect(states).to_contain_text("a law breaks here")

    expect(sides).to_have_attribute("data-playing", "false")  # it came to its end meanwhile, undisturbed
    expect(sides.get_by_role("region", name="legacy")).to_contain_text("step 30 of 30")
    last = sides.get_by_role("slider").get_attribute("max")
    told = cells.nth(2).get_by_text(f"kernel: {last} {len(walk) - 1}")
    for _try in range(20):  # what a view tells waits until the kernel has answered what it told before
        page.evaluate(RUN_LAST)
        page.wait_for_timeout(500)
        if told.count():
            break
    expect(told).to_be_visible()

    page.set_viewport_size({"width": 600, "height": 1600})
    for view in (sides, states):
        page.wait_for_function(f"(node) => ({BESIDE})(node) <= 0", arg=view.element_handle())
    assert opened.errors == []
