"""The player's keys inside JupyterLab, whose command mode knows most letters; and linked timelines of two cells."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenNotebook

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELL = 'import vnmi_lab\nshown = vnmi_lab.show("in-handler", controls=False, link="both")\nshown'
CELLS = """() =>
  jupyterapp.shell.currentWidget.content.model.sharedModel.cells.map((cell) => [cell.cell_type, cell.source])"""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def test_jupyterlab_hears_no_key_of_the_player_and_cells_move_together(
    open_notebook: OpenNotebook, tmp_path: Path
) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CELL, id=f"cell-{n}") for n in range(2)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, tmp_path / "keys.ipynb")
    opened = open_notebook(tmp_path / "keys.ipynb", height=2400)
    assert opened.run_all() == []
    page = opened.page
    first, second = (page.locator(".vnmi-player").nth(number) for number in range(2))
    for player in (first, second):
        expect(player).to_have_attribute("data-ready", "true")
    before = page.evaluate(CELLS)
    stage = first.locator(".vl-scroll")
    stage.click(position={"x": 5, "y": 60})
    for key in (*LETTERS, "Shift+L", "Shift+M", "/", "?", "Escape", "+", "0", "Enter", "ArrowDown", "ArrowUp"):
        stage.press(key)
    expect(stage).to_be_focused()
    assert page.evaluate(CELLS) == before
    expect(first.locator(".vl-marker")).to_have_count(2)
    stage.press("End")
    last = first.get_attribute("data-cursor")
    assert last is not None
    expect(second).to_have_attribute("data-cursor", last)
    second.locator(".vl-scroll").press("Home")
    expect(first).to_have_attribute("data-cursor", "0")
    assert opened.errors == []
