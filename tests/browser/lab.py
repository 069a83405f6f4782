"""JupyterLab as a learner meets it: a server of its own, and one notebook open on a page."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from playwright.sync_api import Error, Page

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 60
STOP_SECONDS = 15

Theme = Literal["light", "dark", "contrast"]
THEMES: dict[Theme, str] = {
    "light": "JupyterLab Light",
    "dark": "JupyterLab Dark",
    "contrast": "JupyterLab Dark High Contrast",
}

# Nothing may ask the network for news.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}

# One server has them all: Notebook 7 and Voila are extensions of it.
FRONTS = {"lab": "doc/tree/{}", "notebook": "notebooks/{}", "voila": "voila/render/{}"}

NOTEBOOK_READY = "() => window.jupyterapp?.shell.currentWidget?.context?.isReady"
KERNEL_IDLE = "() => window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
OPEN = "path => window.jupyterapp.commands.execute('docmanager:open', { path })"
CLEAR = """async () => {
  for (const shown of [...window.jupyterapp.shell.widgets('main')]) shown.dispose();
  await window.jupyterapp.serviceManager.sessions.shutdownAll();
  return !document.querySelector('.jp-Dialog');
}"""
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
SET_THEME = "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })"
THEME_SHOWN = "theme => document.body.dataset.jpThemeName === theme"
SHUT_DOWN = "() => window.jupyterapp?.serviceManager.sessions.shutdownAll()"
ERRORS = """() => {
  const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];
  return cells.flatMap((cell, index) => cell.type !== 'code' ? [] : cell.outputs.toJSON()
    .filter(output => output.output_type === 'error')
    .map(output => [index, output.ename, output.evalue]));
}"""


class CellError(NamedTuple):
    """An exception that a cell ended with."""

    cell: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Server:
    """A running JupyterLab: where it is, what lets one in, the folder it shows, and its process."""

    url: str
    token: str
    folder: Path
    process: int = 0

    def address(self, notebook: str, front: str = "lab") -> str:
        """Return the address of one notebook in a front end; in JupyterLab alone on the page, in a fresh workspace."""
        return f"{self.url}{FRONTS[front].format(notebook)}?token={self.token}&reset"


@dataclass  # without slots: playwright keeps a mark on whom it calls
class NotebookPage:
    """A notebook open in the browser, its kernel idle."""

    page: Page
    errors: list[str] = field(default_factory=list)
    """Uncaught JavaScript errors of the page."""
    fresh: bool = False
    """Whether no other test may have the page."""

    def open(self, address: str, theme: Theme) -> None:
        """Load JupyterLab with the notebook and wait until its kernel can run cells."""
        self.page.on("pageerror", self._heard)
        self.page.goto(address)
        self._wait(theme)

    def turn_to(self, notebook: str, theme: Theme) -> None:
        """Open the notebook in the JupyterLab that is on the page, which shows none, and wait as above."""
        self.page.on("pageerror", self._heard)
        self.page.evaluate(OPEN, notebook)
        self._wait(theme)

    def _heard(self, error: Error) -> None:
        self.errors.append(str(error))

    def _wait(self, theme: Theme) -> None:
        self.page.wait_for_function(NOTEBOOK_READY)
        self.page.evaluate("() => window.jupyterapp.restored")
        self.wear(theme)
        self.page.wait_for_function(KERNEL_IDLE, timeout=60_000)

    def wear(self, theme: Theme) -> None:
        """Change JupyterLab's theme."""
        self.page.evaluate(SET_THEME, THEMES[theme])
        self.page.wait_for_function(THEME_SHOWN, arg=THEMES[theme])

    def run_all(self) -> list[CellError]:
        """Run every cell, as the menu does, and return the exceptions."""
        self.page.evaluate(RUN_ALL)  # settles when the last cell is done
        self.page.wait_for_function(KERNEL_IDLE, timeout=120_000)
        return [CellError(*error) for error in self.page.evaluate(ERRORS)]

    def clear(self) -> bool:
        """End the kernels and put the notebook away; True if JupyterLab is as it was then, with no dialog open."""
        self.page.remove_listener("pageerror", self._heard)
        self.page.context.clear_permissions()
        with suppress(Error):
            return bool(self.page.evaluate(CLEAR))
        return False

    def close(self) -> None:
        """End the kernels of the page, then the page."""
        with suppress(Error):  # a page that never loaded has no kernels
            self.page.evaluate(SHUT_DOWN)
        self.page.context.close()


@contextmanager
def serve(
    base: Path, *, program: tuple[str | Path, ...] = (), folder: Path | None = None, cwd: Path | None = None
) -> Iterator[Server]:
    """Run JupyterLab on its own settings, data and port, below `base`, on a new folder there.

    Another program may start it on a folder of its own; then kernels import what that one's Python has.
    """
    if folder is None:
        folder = base / "labs"
        folder.mkdir()
    program = program or (sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}")
    for name, values in SETTINGS.items():
        path = base / "settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    token, log = secrets.token_hex(16), base / "server.log"
    with (
        log.open("wb") as output,
        started([*map(str, program), *_options(base, token)], base, output.fileno(), cwd) as process,
    ):
        yield Server(_ready(process, base / "runtime", token, log), token, folder, process.pid)


def _options(base: Path, token: str) -> list[str]:
    port = free_port()  # chosen here: some servers do not say which one they chose themselves
    return [
        *("--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        *("--ServerApp.port_retries=0", "--ServerApp.terminals_enabled=False"),
        f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",  # the page can be asked what it does: window.jupyterapp
        "--JupyterNotebookApp.expose_app_in_browser=True",
        *("--LabApp.extension_manager=readonly", "--LabApp.news_url="),
        *(f"--LabApp.user_settings_dir={base / 'settings'}", f"--LabApp.workspaces_dir={base / 'workspaces'}"),
    ]


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(command: list[str], base: Path, output: int, cwd: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of Jupyter with all its settings and data below `base`, until it is no longer needed."""
    own = {
        "JUPYTER_RUNTIME_DIR": base / "runtime",
        "JUPYTER_CONFIG_DIR": base / "config",
        "JUPYTER_DATA_DIR": base / "data",
        "IPYTHONDIR": base / "ipython",
        "PYTHONPATH": ROOT if command[0] == sys.executable else "",
    }
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **{name: str(value) for name, value in own.items()}},
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509  # no thread of ours runs yet, and it must precede exec
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # it ended by itself, and what it said is the message
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _end_with_parent() -> None:
    """Ask Linux to end the server when this test run is killed; elsewhere nothing is asked."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _ready(process: subprocess.Popen[bytes], runtime: Path, token: str, log: Path) -> str:
    """Wait until the server answers and return its address."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            try:
                url = str(json.loads(path.read_text())["url"])
                with urllib.request.urlopen(f"{url}api/status?token={token}", timeout=2):  # noqa: S310  # our own server
                    return url
            except (OSError, ValueError):  # half written, or not listening yet
                pass
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
