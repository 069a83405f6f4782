"""The JupyterHub of docs/instructor/hub: a learner logs in, finds the labs, and follows a link to lab 00."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
CONFIG = ROOT / "docs/instructor/hub/jupyterhub_config.py"
PASSWORD = "a word for the class"  # noqa: S105  # of a hub that listens on this machine while the test runs
SECONDS = 90
NEEDS = ("jupyterhub", "nbgitpuller", "configurable_http_proxy")
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def answers(url: str) -> bool:
    with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310
        return bool(reply.status == 200)
    return False


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here")
    base = tmp_path_factory.mktemp("hub")
    outside, inside, proxy = free_ports(3)
    url = f"http://127.0.0.1:{outside}"
    command = [
        *(sys.executable, "-m", "jupyterhub", f"--config={CONFIG}", f"--JupyterHub.bind_url={url}"),
        f"--JupyterHub.hub_bind_url=http://127.0.0.1:{inside}",
        f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{proxy}",
        *("--LocalProcessSpawner.interrupt_timeout=1", "--LocalProcessSpawner.term_timeout=2"),
    ]
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "VNMI"))},
        "VNMI_HUB_PASSWORD": PASSWORD,
        "PYTHONPATH": str(ROOT),
        "HOME": str(base),
    }
    log = base / "hub.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=base, env=env, stdout=output, stderr=output, start_new_session=True)
        try:
            deadline = time.monotonic() + SECONDS
            while not answers(f"{url}/hub/login"):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)  # the hub stops its servers and its proxy
            try:
                process.wait(SECONDS)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def page(hub: str, browser: Browser) -> Iterator[Page]:
    """Log in as a learner."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    page.goto(f"{hub}/hub/login")
    page.fill("#username_input", "ada")
    page.fill("#password_input", PASSWORD)
    page.click("#login_submit")
    yield page
    context.close()


def test_a_learner_logs_in_and_is_in_lab_00(page: Page) -> None:
    page.wait_for_url("**/user/ada/lab/tree/vnmi-labs/00_start_here.ipynb")
    expect(page.locator(".jp-Notebook h1").first).to_contain_text("Lab 00", timeout=SECONDS * 1000)


def test_a_link_brings_a_course_from_git_and_opens_lab_00(page: Page, hub: str, tmp_path: Path) -> None:
    page.wait_for_url("**/user/ada/lab/**")
    course = tmp_path / "course"
    (course / "labs").mkdir(parents=True)
    lab = (ROOT / "labs/00_start_here.ipynb").read_bytes()
    (course / "labs/00_start_here.ipynb").write_bytes(lab)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "labs"]):
        subprocess.run([*GIT, *words], cwd=course, check=True)
    wanted = {"repo": course.as_uri(), "branch": "main", "urlpath": "lab/tree/course/labs/00_start_here.ipynb"}
    page.goto(f"{hub}/hub/user-redirect/git-pull?{urlencode(wanted)}")
    page.wait_for_url("**/user/ada/lab/tree/course/labs/00_start_here.ipynb")
    expect(page.locator(".jp-Notebook h1").first).to_contain_text("Lab 00", timeout=SECONDS * 1000)
