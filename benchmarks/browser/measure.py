"""Measures the player in headless Chromium against a real JupyterLab, beside two views that matplotlib draws.

``vnmi-lab bench --browser`` runs this. How each figure is taken is in README.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from playwright.sync_api import Browser, WebSocket, sync_playwright

from tests.browser.conftest import QUIET
from tests.browser.lab import NotebookPage, Server, serve
from vnmi_lab import show
from vnmi_lab.bench import Figure, NotMeasuredError
from vnmi_lab.doctor import find_browser

SIZES = (200, 500, 10_000)
PAINTS, CLICKS, SECONDS, SCRUBBED = 5, 30, 4, 200
MOST_BYTES = 300_000
SMALLEST = 200
FIRST_PAINT = {SMALLEST: 200, 10_000: 400}
"""Milliseconds, from so many steps on."""
FRAMES = 60
NEARLY = 0.97
"""A frame or two in a second that comes late is the machine's, not the page's."""
SCRIPT = Path(__file__).parent / "page.js"
SETUP = """import asyncio
from benchmarks.browser.views import *
from vnmi_lab import show
trace, bare = run({steps}), run({steps}, kvm=False)
payload = timeline.build(trace)
"""
WORD = "from IPython.display import HTML; HTML('<b class=\"bench-word\">a word</b>')"
OURS = {"a trace under KVM": "show(trace)", "a trace on bare metal": "show(bare)", "its payload": "show(payload)"}
FOREIGN = {"matplotlib, Image": "Pictures", "ipympl": "Canvas"}


@dataclass
class Wire:
    """Counts what goes over the page's web sockets."""

    received: int = 0
    sent: int = 0
    messages: int = 0

    def watch(self, socket: WebSocket) -> None:
        """Count a socket's frames from here on."""
        socket.on("framereceived", self._came)
        socket.on("framesent", self._went)

    def reset(self) -> None:
        """Begin again at 0."""
        self.received = self.sent = self.messages = 0

    def _came(self, frame: str | bytes) -> None:
        self.received += len(frame)

    def _went(self, frame: str | bytes) -> None:
        self.sent += len(frame)
        self.messages += 1


class Bench:
    """A notebook with a cell for each view of one run."""

    def __init__(self, browser: Browser, server: Server, steps: int) -> None:
        self.steps, self.wire = steps, Wire()
        foreign = [f"foreign = {name}(payload); foreign.view" for name in FOREIGN.values()]
        self.cells = [WORD, *OURS.values(), *foreign]
        name = f"bench-{steps}.ipynb"
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(self.cells)],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        nbformat.write(notebook, server.folder / name)
        context = browser.new_context(viewport={"width": 1600, "height": 1600})
        context.set_default_timeout(120_000)
        self.notebook = NotebookPage(context.new_page())
        self.page = self.notebook.page
        self.page.on("websocket", self.wire.watch)
        self.notebook.open(server.address(name), "light")
        self.page.evaluate(SCRIPT.read_text(encoding="utf-8"))
        self.tell(SETUP.format(steps=steps))

    def close(self) -> None:
        """End kernel and page."""
        self.notebook.close()

    def tell(self, code: str, *, wait: bool = True) -> None:
        """Run code in the kernel, outside any cell."""
        failed = self.page.evaluate("([code, wait]) => bench.tell(code, wait)", [code, wait])
        if failed:
            raise RuntimeError(f"the kernel says: {failed}")

    def paint(self, cell: int) -> float:
        """Run a cell and give the milliseconds until what it shows has been painted; the cell is cleared first."""
        return float(self.page.evaluate("cell => bench.paint(cell)", cell))

    # --- each view -------------------------------------------------------------------------------------------------

    def alone(self) -> Iterator[Figure]:
        """Measure the page without us: what the other figures are to be seen against."""
        name = f"{self.steps:,} steps, JupyterLab alone"
        yield Figure(f"{name}: first paint of a word", median(self.paint(0) for _ in range(PAINTS)), "ms")
        yield Figure(f"{name}: frames", float(self.page.evaluate("() => bench.idle(1)")), "/s")

    def ours(self) -> Iterator[Figure]:
        """Measure the player."""
        name = f"{self.steps:,} steps, player"
        for cell, what in enumerate(OURS, 1):
            self.paint(cell)
            self.wire.reset()
            times = [self.paint(cell) for _ in range(PAINTS)]
            limit = max(ms for steps, ms in FIRST_PAINT.items() if steps <= max(self.steps, SMALLEST))
            taken = median(times)
            yield Figure(f"{name}: first paint of {what}", taken, "ms", f"under {limit} ms", taken < limit)
            whole = float(self.page.evaluate("() => bench.whole"))
            yield Figure(f"{name}: until the whole run is there", whole, "ms")
            yield Figure(f"{name}: received for it, page and all", self.wire.received / PAINTS / 1000, "kB")
        size = payload_size(self.steps) / 1000
        yield Figure(f"{name}: payload", size, "kB", *self._at_500(size))
        yield from self._play(name)
        yield from self._scrub(name)
        clicked = float(self.page.evaluate("count => bench.clicks(count)", CLICKS))
        yield Figure(f"{name}: click to new state, laid out", clicked, "ms", "under 5 ms", clicked < 5)  # noqa: PLR2004 - the target
        pressed = float(self.page.evaluate("count => bench.keys(count)", CLICKS))
        yield Figure(f"{name}: key to new state, laid out", pressed, "ms", "under 5 ms", pressed < 5)  # noqa: PLR2004 - the target

    def _at_500(self, size: float) -> tuple[str, bool | None]:
        return ("under 300 kB", size * 1000 < MOST_BYTES) if self.steps == 500 else ("", None)  # noqa: PLR2004 - the target

    def _play(self, name: str) -> Iterator[Figure]:
        self.wire.reset()
        said: dict[str, Any] = self.page.evaluate("seconds => bench.play(seconds)", min(SECONDS, self.steps / 70))
        target = ("60", said["frames"] >= NEARLY * FRAMES) if self.steps > SMALLEST else ("", None)
        yield Figure(f"{name}: frames in play", said["frames"], "/s", *target)
        yield Figure(f"{name}: steps shown in play", said["steps"], "/s")
        yield Figure(f"{name}: sent and received in play", (self.wire.received + self.wire.sent) / 1000, "kB")

    def _scrub(self, name: str) -> Iterator[Figure]:
        self.wire.reset()
        self.page.evaluate("count => bench.scrub(count)", min(SCRUBBED, self.steps - 1))
        sent = self.wire.messages
        yield Figure(f"{name}: messages during a scrub of {SCRUBBED}", sent, "", "0", sent == 0)
        self.page.wait_for_timeout(1000)
        yield Figure(f"{name}: messages once it rests", self.wire.messages - sent, "")

    def foreign(self, what: str, cell: int) -> Iterator[Figure]:
        """Measure a view that the kernel draws."""
        name = f"{self.steps:,} steps, {what}"
        self.paint(cell)
        self.wire.reset()
        yield Figure(f"{name}: first paint", median(self.paint(cell) for _ in range(PAINTS)), "ms")
        yield Figure(f"{name}: received for it", self.wire.received / PAINTS / 1000, "kB")
        self.wire.reset()
        self.tell(f"playing = asyncio.ensure_future(foreign.play({SECONDS}))", wait=False)
        frames = float(self.page.evaluate("seconds => bench.watch(seconds)", SECONDS - 1))
        yield Figure(f"{name}: frames in play", frames, "/s")
        self.page.wait_for_timeout(2000)
        yield Figure(f"{name}: received in play, each second", self.wire.received / SECONDS / 1000, "kB")
        clicked = float(self.page.evaluate("count => bench.far(count)", CLICKS // 3))
        yield Figure(f"{name}: click to new state", clicked, "ms")


def payload_size(steps: int) -> int:
    """Give the bytes of the run's payload as a page gets it."""
    from benchmarks.browser.views import run  # noqa: PLC0415 - matplotlib, which is not needed to say what is missing

    shown = show(run(steps))
    shown.finish()
    return len(shown.sent)


def measure() -> Iterator[Figure]:
    """Yield every figure; ``NotMeasuredError`` where there is no Chromium."""
    executable = find_browser()
    if executable is None:
        raise NotMeasuredError("no Chromium here: install chromium or google-chrome, or set VNMI_CHROMIUM=/path/to/it")
    with (
        TemporaryDirectory(prefix="vnmi-bench-") as folder,
        serve(Path(folder)) as server,
        sync_playwright() as started,
    ):
        sandbox = os.geteuid() != 0  # Chromium refuses its sandbox to root
        browser = started.chromium.launch(executable_path=executable, chromium_sandbox=sandbox, args=QUIET)
        for steps in SIZES:
            yield from _one(Bench(browser, server, steps))
        browser.close()


def _one(bench: Bench) -> Iterator[Figure]:
    try:
        yield from bench.alone()
        yield from bench.ours()
        for place, what in enumerate(FOREIGN):
            yield from bench.foreign(what, 1 + len(OURS) + place)
    finally:
        bench.close()
