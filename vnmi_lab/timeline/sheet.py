"""The sheet that a still picture is drawn on: an SVG in the making, with its measures."""

from __future__ import annotations

import re
from bisect import bisect_left
from html import escape
from typing import TYPE_CHECKING

from vnmi_lab.timeline.build import shown
from vnmi_lab.timeline.palette import STYLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vnmi_lab.timeline.build import Payload

MOST = 500
"""A picture draws at most this many steps; of a longer run, its events first."""

GUTTER, WIDTH, TOP, NAMES = 158, 1000, 36, 28
LONG, WIDER = 20, 204
"""A longer name is written small, in the wider gutter of a run under KVM."""
NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def kept(payload: Payload, most: int = MOST) -> list[int]:
    """Give the steps a still view shows: all, or for a long run its events and as many others as there is room for."""
    count = shown(payload)
    if count <= most:
        return list(range(count))
    events = [step for step in payload["events"] if step < count][:most]
    rest = sorted(set(range(count)) - set(events))
    room = most - len(events)
    return sorted(events + [rest[len(rest) * place // room] for place in range(room)])


class Sheet:
    """An SVG in the making; ``x`` turns a step into a place."""

    def __init__(self, payload: Payload, most: int = MOST) -> None:
        self.p = payload
        self.steps = kept(payload, most)
        self.end = self.steps[-1] + 1
        self.kvm = bool(payload["calls"]["at"])
        self.gutter = WIDER if self.kvm else GUTTER
        self.col = max(24.0 if self.kvm else 1.6, min(56.0, (WIDTH - self.gutter) / len(self.steps)))
        self.right = self.gutter + self.col * len(self.steps)
        self.parts: list[str] = []
        self.y = TOP

    def x(self, step: float) -> float:
        """Turn a step into a place."""
        whole = int(step)
        return round(self.gutter + (bisect_left(self.steps, whole) + min(step - whole, 1)) * self.col, 1)

    def add(self, tag: str, classes: str, body: str = "", /, **attributes: object) -> None:
        """Append an element."""
        said = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
        self.parts.append(f'<{tag} class="{classes}"{said}{f">{body}</{tag}>" if body else "/>"}')

    def text(self, x: float, y: float, text: str, classes: str = "", anchor: str = "start") -> None:
        """Write a text."""
        self.add("text", classes, escape(NO_XML.sub("", text)), x=x, y=y, text_anchor=anchor)

    def label(self, x: float, y: float, room: float, texts: Sequence[str], classes: str, anchor: str = "start") -> None:
        """Write the first of some texts that fits; the last of them may be written small."""
        for size, candidates in (("", texts), (" small", texts[-1:])):
            text = next((text for text in candidates if text and len(text) * (5.5 if size else 6.4) + 4 <= room), None)
            if text:
                self.text(x, y, text, classes + size, anchor)
                return

    def box(self, x: float, y: float, width: float, height: float, classes: str) -> None:
        """Draw a box, at least one px wide."""
        self.add("rect", classes, x=x, y=y, width=round(max(1, width), 1), height=height, rx=3)

    def path(self, d: str, classes: str) -> None:
        """Draw a path."""
        self.add("path", classes, d=d)

    def name(self, y: float, text: str, detail: str = "") -> None:
        """Name a lane in the gutter."""
        self.text(NAMES, y, text, ("code small" if len(text) > LONG else "code") if detail else "name")
        if detail:
            self.text(NAMES, y + 13, detail, "detail")

    def owner(self, name: str, top: int) -> None:
        """Say in the gutter whose the lanes from ``top`` to here are."""
        if self.y == top:
            return
        self.add("rect", "owner", x=0.5, y=top + 0.5, width=19, height=self.y - top)
        if len(name) * 5.4 + 2 <= self.y - top:  # px, about the length of the name
            middle = (top + self.y) / 2
            at = f"rotate(-90 13 {middle})"
            self.add("text", "detail", escape(NO_XML.sub("", name)), x=13, y=middle, text_anchor="middle", transform=at)

    def lane(self, height: int) -> int:
        """Open a lane, ruled off from the one above, and give its top."""
        top, self.y = self.y, self.y + height
        self.path(f"M0 {top + 0.5}H{self.right + 12}", "grid")
        return top

    def hatch(self, kind: str, style: str, x: float, end: float, high: float, low: float) -> None:
        """Draw lines that say "high" without colour: slanted for a mask, upright for something pending."""
        lean = {"mask": low - high, "pend": 0}.get(kind)
        if lean is not None:
            places = range(int(x + 3), int(end - lean), 7)
            self.path("".join(f"M{at} {low}l{lean} {high - low}" for at in places) or "M0 0", f"{style} hatch")


def known(style: str) -> str:
    """Give a style that the picture has: that of plain things for one it has not."""
    return style if style in STYLES else "plain"
