"""The wheel in an environment of its own: `vnmi-lab open` there, and its copy of a lab in JupyterLab."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import NotebookPage, serve

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# JupyterLab serves the picture beside the notebook under an address that ends in its name.
PICTURE_SHOWN = "() => document.querySelector('.jp-MarkdownCell img[src*=\"one_nmi.svg\"]')?.naturalWidth > 0"


def test_the_wheel_opens_its_labs_and_they_run(installed: Path, browser: Browser, tmp_path: Path) -> None:
    work = tmp_path / "vnmi-labs"
    with serve(tmp_path, program=(installed / "vnmi-lab", "open", "1"), folder=work, cwd=tmp_path) as server:
        context = browser.new_context(viewport={"width": 1280, "height": 1600})
        context.set_default_timeout(30_000)
        page = NotebookPage(context.new_page())
        page.open(server.address("01_nmi_on_bare_metal.ipynb"), "light")
        errors = page.run_all()
        expect(page.page.locator(".vnmi-player").first).to_have_attribute("data-ready", "true")
        page.page.wait_for_function(PICTURE_SHOWN)
        page.close()
    assert errors == []
    assert page.errors == []
    assert server.folder == work
