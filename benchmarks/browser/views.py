"""The same view three times: ours, matplotlib drawing each frame into an Image widget, and ipympl.

All three draw the same lanes of the same run, the cursor, and what the step says. The cells of ``measure.py`` call
this module in the kernel of a notebook.
"""

from __future__ import annotations

import asyncio
import io
from typing import Any

import ipywidgets as widgets
import matplotlib as mpl
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from vnmi_lab import timeline
from vnmi_lab.guest import Guest
from vnmi_lab.hv.profiles import LEGACY
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import BareMetal
from vnmi_lab.timeline.columns import at, number, runs
from vnmi_lab.trace import Trace

GUEST = Guest.of(
    "top: mov dword [r15], 0x4400\n nop\n nop\n inc rax\n nop\n nop\n nop\n nop\n jmp top",
    {2: "inc qword [rbx+16]\n nop\n nop\n iretq"},
    tail="hlt",
)
"""It sends itself an NMI every ten instructions or so, for ever."""
SEEN = 100
"""Steps in the window, as many as our player shows of a long run at this width."""
COLOURS = {"mask": "#aa3377", "pend": "#ee6677", "bus": "#228833", "shadow": "#ccbb44", "plain": "#4477aa"}
OWNERS = {"main": "#4477aa", "nmi": "#ee6677", "other": "#ccbb44"}
WORLDS = {"kvm": "#bbbbbb", "host": "#bbbbbb", "guest": "#66ccee", "bare": "#66ccee"}


def run(steps: int, *, kvm: bool = True) -> Trace:
    """Give a run of so many steps, under KVM without vNMI or on bare metal."""
    machine = Kvm(GUEST, LEGACY) if kvm else BareMetal(GUEST)
    return Trace(machine, f"{steps} steps", limit=steps)


class Lanes:
    """The lanes of a payload in a figure of matplotlib: built once, the playhead and the texts move."""

    def __init__(self, payload: timeline.Payload, figure: Figure) -> None:
        self.payload, self.figure = payload, figure
        self.axes = figure.add_axes((0.16, 0.06, 0.62, 0.86))
        self.names = ["code", "world"] + [wave["key"] for wave in payload["waves"] if not wave["quiet"]]
        self.draw_lanes()
        self.playhead = self.axes.axvspan(0, 1, color="#3366cc", alpha=0.25)
        self.title = figure.text(0.16, 0.95, "")
        rows = [field for field in payload["fields"] if not field[4]]
        self.fields = [
            (key, figure.text(0.8, 0.93 - 0.9 * n / len(rows), "", fontsize=7, family="monospace"))
            for n, (key, *_rest) in enumerate(rows)
        ]
        self.show(0)

    def draw_lanes(self) -> None:
        """Draw every lane of the whole run, as collections: the quickest that matplotlib has."""
        payload, axes = self.payload, self.axes
        count = len(self.names)
        spans: list[tuple[float, float, float, str]] = []
        owner = payload["columns"]["owner"]
        for step, kind in enumerate(payload["kinds"]):
            if kind in ("exec", "deliver"):
                spans.append((step + 0.1, step + 0.9, count - 1, OWNERS.get(at(owner, step), "#4477aa")))
        spans += [(first, end, count - 2, WORLDS[world]) for first, end, world in payload["worlds"]]
        for place, wave in enumerate(wave for wave in payload["waves"] if not wave["quiet"]):
            for first, end, value in runs(payload["state"][wave["key"]], payload["steps"]):
                if number(value) & wave["mask"]:
                    spans.append((first, end, count - 3 - place, COLOURS.get(wave["style"], "#4477aa")))
        boxes = [[(a, y - 0.35), (b, y - 0.35), (b, y + 0.35), (a, y + 0.35)] for a, b, y, _ in spans]
        axes.add_collection(PolyCollection(boxes, facecolors=[colour for *_, colour in spans], linewidths=0))
        axes.set_yticks(range(count), reversed(self.names), fontsize=7)
        axes.set_ylim(-0.6, count - 0.4)

    def show(self, step: int) -> None:
        """Move the window, the playhead and the texts to a step."""
        payload = self.payload
        left = step // SEEN * SEEN
        self.axes.set_xlim(left, left + SEEN)
        self.playhead.set_x(step)
        self.title.set_text(f"{step}  {payload['words'][payload['text'][step]]}")
        for key, text in self.fields:
            text.set_text(f"{key:<24} {at(payload['state'][key], step)}")


class Player:
    """What the two views of matplotlib share: a button that steps, and play in the kernel's own loop."""

    def __init__(self, payload: timeline.Payload) -> None:
        self.steps, self.cursor = payload["steps"], 0
        self.button = widgets.Button(description="Step")
        self.button.on_click(lambda _button: self.go(self.cursor + 1))

    def go(self, step: int) -> None:
        """Show a step."""
        self.cursor = step % self.steps
        self.redraw()

    def redraw(self) -> None:
        """Draw what ``cursor`` says and send it."""
        raise NotImplementedError

    async def play(self, seconds: float) -> None:
        """Show one step after the other, as fast as they can be drawn."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            self.go(self.cursor + 1)
            await asyncio.sleep(0)


class Pictures(Player):
    """Draws each frame with Agg and sends it as a PNG in an Image widget."""

    def __init__(self, payload: timeline.Payload) -> None:
        super().__init__(payload)
        self.figure = Figure(figsize=(12, 6), dpi=100)
        self.lanes = Lanes(payload, self.figure)
        self.image = widgets.Image(format="png")
        self.redraw()
        self.view = widgets.VBox([self.button, self.image])

    def redraw(self) -> None:
        """Draw a PNG and set it."""
        self.lanes.show(self.cursor)
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        self.image.value = buffer.getvalue()


class Canvas(Player):
    """Draws on ipympl's canvas, which sends what differs from the frame before."""

    def __init__(self, payload: timeline.Payload) -> None:
        super().__init__(payload)
        mpl.use("module://ipympl.backend_nbagg")
        from matplotlib import pyplot as plt  # noqa: PLC0415 - the backend comes first

        with plt.ioff():
            self.figure: Any = plt.figure(figsize=(12, 6), dpi=100)
        self.lanes = Lanes(payload, self.figure)
        self.view = widgets.VBox([self.button, self.figure.canvas])

    def redraw(self) -> None:
        """Draw and send at once."""
        self.lanes.show(self.cursor)
        self.figure.canvas.draw()
