"""JupyterLite: the site that tools/lite.py builds runs labs in the browser alone, with the network cut."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, ProxySettings, expect

from tests.browser.lab import ERRORS, KERNEL_IDLE, NOTEBOOK_READY, RUN_ALL
from vnmi_lab.checks import course

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("npm"), reason="needs npm, which has the interpreter: apt-get install npm"),
]

MOST_MB = 60
CUT: ProxySettings = {"server": "http://127.0.0.1:9", "bypass": "127.0.0.1"}
"""A proxy that nobody answers for: what is asked of any other machine fails."""
LABS = [lab for lab in course.COURSE if lab.number in {"00", "04"}]


class Quiet(SimpleHTTPRequestHandler):
    """A static server, as plain as any."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tools.lite import build  # only here: whoever runs the fast tests has none of what it needs

    folder = tmp_path_factory.mktemp("lite") / "site"
    build(folder)
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("lab", LABS, ids=[lab.number for lab in LABS])
def test_a_lab_runs_in_the_browser_with_the_network_cut(lab: course.Lab, address: str, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 1600}, proxy=CUT)
    context.set_default_timeout(120_000)
    page, asked, uncaught = context.new_page(), list[str](), list[str]()
    context.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: uncaught.append(str(error)))
    page.goto(f"{address}doc/tree/index.html?path={lab.notebook}")
    page.wait_for_function(NOTEBOOK_READY)
    page.wait_for_function(KERNEL_IDLE)
    page.evaluate(RUN_ALL)
    page.wait_for_function(KERNEL_IDLE)
    assert page.evaluate(ERRORS) == []

    player = page.locator(".vnmi-player").first
    expect(player).to_have_attribute("data-ready", "true")
    before = int(player.get_attribute("data-cursor") or 0)
    player.locator(".vl-scroll").press("ArrowRight")
    expect(player).to_have_attribute("data-cursor", str(before + 1))
    panel = page.locator(".vnmi-predict").filter(has=page.get_by_role("radio")).first  # what Python answers there
    panel.get_by_role("radio").first.check()
    panel.get_by_role("button", name=re.compile("^Check")).click()
    expect(panel.locator(".vnmi-note[data-said]")).to_be_visible(timeout=30_000)
    assert uncaught == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    context.close()


def test_the_site_has_the_labs_with_their_pictures_and_no_source_maps(site: Path) -> None:
    labs = Path(__file__).parents[2] / "labs"
    shown = {path.relative_to(labs) for path in labs.rglob("*") if path.suffix in {".ipynb", ".svg"}}
    shown = {path for path in shown if not any(part.startswith(".") for part in path.parts)}
    assert len(shown) > len(LABS)
    assert shown == {path.relative_to(site / "files") for path in (site / "files").rglob("*") if path.is_file()}
    assert not list(site.rglob("*.map"))
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < MOST_MB * 1e6
