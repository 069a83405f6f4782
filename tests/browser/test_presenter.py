"""The presenter at a projector's size: a clicker's keys, full screen, and nothing before it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.axe import findings, settle
from tests.browser.conftest import OpenNotebook
from tests.browser.test_jupyterlab import write

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUN = 'from vnmi_lab import show\nshow("in-handler", presenter=True, cursor=4)'
ASKED = "from vnmi_lab.checks import lab01\nshow(lab01.ten_more, presenter=True)"


def test_a_clicker_reveals_a_run_and_an_answer_in_full_screen(open_notebook: OpenNotebook, tmp_path: Path) -> None:
    opened = open_notebook(write(tmp_path / "room.ipynb", RUN, ASKED), width=1280, height=720, still=True)
    assert opened.run_all() == []
    page, panels = opened.page, opened.page.locator(".vnmi-presenter")
    run, asked = panels.nth(0), panels.nth(1)
    player = run.locator(".vnmi-player")
    expect(player).to_have_attribute("data-cursor", "4")
    expect(player.locator(".vl-step b").first).to_have_text("NMI arrives")
    run.get_by_role("button", name="Full screen").click()
    box = run.bounding_box()
    assert box is not None
    assert box["width"] >= 1270
    page.keyboard.press("PageDown")
    expect(player).to_have_attribute("data-cursor", "5")
    expect(player.locator(".vl-step b").first).to_contain_text("#VMEXIT INTR")
    page.keyboard.press("PageUp")
    expect(player).to_have_attribute("data-cursor", "4")
    run.get_by_role("button", name="Show all").click()
    expect(player.locator(".vl-cover")).to_be_hidden()
    expect(run.get_by_role("button", name="◀ Back")).to_be_focused()
    canvas = player.locator(".vl-canvas")
    before = canvas.bounding_box()
    run.get_by_role("button", name="Larger").click()
    after = canvas.bounding_box()
    assert before is not None
    assert after is not None
    assert after["height"] > before["height"] * 1.05
    page.mouse.click(600, after["y"] + 10)  # the mouse points at the same step, whatever the size
    expect(player).not_to_have_attribute("data-cursor", "25")
    column = player.locator(".vl-playhead").bounding_box()
    assert column is not None
    assert column["x"] <= 600 <= column["x"] + column["width"]
    run.get_by_role("button", name="Leave full screen").click()

    asked.get_by_role("button", name="Show the answer").scroll_into_view_if_needed()
    expect(asked).not_to_contain_text("the machine does this")
    asked.get_by_role("button", name="Full screen").click()
    page.keyboard.press("PageDown")
    expect(asked).to_contain_text("the machine does this")
    size = asked.locator(".vnmi-asked").evaluate("node => parseFloat(getComputedStyle(node).fontSize)")
    assert size >= 20
    page.keyboard.press("PageUp")
    expect(asked).not_to_contain_text("the machine does this")
    settle(page)
    assert findings(page, ".vnmi-presenter") == []
    assert opened.errors == []
