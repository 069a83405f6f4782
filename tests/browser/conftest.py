"""One JupyterLab and one Chromium for the whole run; a page for each notebook a test opens."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.lab import NotebookPage, Server, Theme, serve
from vnmi_lab.doctor import find_browser

QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

expect.set_options(timeout=20_000)
"""In ms. A kernel that answers three questions in a row on a busy machine needs more than playwright's five seconds."""


class OpenNotebook(Protocol):
    """Opens a copy of a notebook in JupyterLab: theme, size of the window, and whether motion is reduced."""

    def __call__(
        self, notebook: Path, *, theme: Theme = "light", width: int = 1280, height: int = 1600, still: bool = False
    ) -> NotebookPage: ...


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("jupyterlab")) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        pytest.fail("no Chromium here: install chromium or google-chrome, or set VNMI_CHROMIUM=/path/to/it")
    with sync_playwright() as playwright:
        sandbox = os.geteuid() != 0  # Chromium refuses its sandbox to root
        started = playwright.chromium.launch(executable_path=executable, chromium_sandbox=sandbox, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def open_notebook(lab_server: Server, browser: Browser, request: pytest.FixtureRequest) -> Iterator[OpenNotebook]:
    opened: list[NotebookPage] = []

    def open_(
        notebook: Path, *, theme: Theme = "light", width: int = 1280, height: int = 1600, still: bool = False
    ) -> NotebookPage:
        test = re.sub(r"[^\w-]", "-", request.node.name)
        name = f"{test}-{len(opened)}-{notebook.name}"
        shutil.copyfile(notebook, lab_server.folder / name)
        context = browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce" if still else "no-preference"
        )
        context.set_default_timeout(30_000)
        page = NotebookPage(context.new_page())
        opened.append(page)
        page.open(lab_server.address(name), theme)
        return page

    yield open_
    for page in opened:
        page.close()
