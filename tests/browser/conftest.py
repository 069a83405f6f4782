"""One JupyterLab and one Chromium for the whole run; one page of it opens the notebooks of one test after the other."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

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


FAILED = pytest.StashKey[bool]()


@dataclass
class OpenNotebook:
    """Opens a copy of a notebook in JupyterLab, on the page that is on the ``desk`` if there is one."""

    server: Server
    browser: Browser
    desk: list[Page]
    test: str
    opened: list[NotebookPage] = field(default_factory=list)

    def __call__(
        self,
        notebook: Path,
        *,
        theme: Theme = "light",
        width: int = 1280,
        height: int = 1600,
        still: bool = False,
        fresh: bool = False,
    ) -> NotebookPage:
        """Open it in a theme and a window of a size, ``still`` with reduced motion.

        ``fresh`` is for a test that does to its page what no other is to notice.
        """
        name = f"{self.test}-{len(self.opened)}-{notebook.name}"
        shutil.copyfile(notebook, self.server.folder / name)
        kept = None if fresh or not self.desk else self.desk.pop()
        page = NotebookPage(kept or self.browser.new_context().new_page(), fresh=fresh)
        self.opened.append(page)
        page.page.context.set_default_timeout(30_000)
        page.page.set_viewport_size({"width": width, "height": height})
        page.page.emulate_media(reduced_motion="reduce" if still else "no-preference")
        if kept:
            page.turn_to(name, theme)
        else:
            page.open(self.server.address(name), theme)
        return page

    def close(self, *, failed: bool) -> None:
        """Put one page that is as it was on the desk, and close the others; none is after a failure."""
        for page in self.opened:
            clean = not page.fresh and not failed and page.clear()
            if clean and not self.desk:
                self.desk.append(page.page)
            else:
                page.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


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


@pytest.fixture(scope="session")
def desk() -> list[Page]:
    """Return the page with a JupyterLab that shows nothing, if there is one: to load it takes five seconds."""
    return []


@pytest.fixture
def open_notebook(
    lab_server: Server, browser: Browser, desk: list[Page], request: pytest.FixtureRequest
) -> Iterator[OpenNotebook]:
    opener = OpenNotebook(lab_server, browser, desk, re.sub(r"[^\w-]", "-", request.node.name))
    yield opener
    opener.close(failed=request.node.stash.get(FAILED, False))
