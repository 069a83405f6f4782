"""Draws docs/first-picture.svg, the README's: lab 01's second NMI, as the timeline draws it."""

from __future__ import annotations

from pathlib import Path

from vnmi_lab.checks import lab01
from vnmi_lab.timeline import build, svg

PICTURE = Path(__file__).parent.parent / "docs" / "first-picture.svg"


def draw() -> str:
    """Return the picture."""
    return svg(build(lab01.second_nmi.trace())) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
