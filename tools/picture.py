"""Draws the pictures that stand in texts, as the timeline draws them: the README's, and those of the labs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vnmi_lab.checks import lab00, lab01, lab02, lab04_picture
from vnmi_lab.library import find
from vnmi_lab.timeline import build, sidestill, svg
from vnmi_lab.timeline.side import side
from vnmi_lab.trace import Trace

ROOT = Path(__file__).parent.parent
SLIDE = "Two NMIs, the second in the handler of the first: IRET interception above, vNMI below"
PICTURES: dict[str, Callable[[], str]] = {
    "docs/first-picture.svg": lambda: svg(build(lab01.second_nmi.trace())),
    "labs/pictures/start.svg": lambda: svg(build(lab00.first())),
    "labs/pictures/one_nmi.svg": lambda: svg(build(Trace(lab01.one_nmi(), "One NMI"))),
    "labs/pictures/any_iret.svg": lambda: svg(build(lab01.breakpoint_inside.trace())),
    "labs/pictures/injected.svg": lambda: svg(build(lab02.closed_ears.trace())),
    "labs/pictures/places.svg": lab04_picture.svg,
    "labs/pictures/legacy_and_vnmi.svg": lambda: sidestill.svg(side(find("in-handler"), ("legacy", "vnmi"), SLIDE)),
}
"""Each picture's file, and what draws it."""


def draw(name: str) -> str:
    """Return a picture."""
    return PICTURES[name]() + "\n"


if __name__ == "__main__":
    for name in PICTURES:
        place = ROOT / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(draw(name), encoding="utf-8")
