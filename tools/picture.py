"""Draws the pictures that stand in texts, as the timeline draws them: the README's, and those of the labs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vnmi_lab.checks import lab01
from vnmi_lab.timeline import build, svg
from vnmi_lab.trace import Trace

ROOT = Path(__file__).parent.parent
PICTURES: dict[str, Callable[[], Trace]] = {
    "docs/first-picture.svg": lab01.second_nmi.trace,
    "labs/pictures/one_nmi.svg": lambda: Trace(lab01.one_nmi(), "One NMI"),
}
"""Each picture's file, and the run that is in it."""


def draw(name: str) -> str:
    """Return a picture."""
    return svg(build(PICTURES[name]())) + "\n"


if __name__ == "__main__":
    for name in PICTURES:
        place = ROOT / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(draw(name), encoding="utf-8")
