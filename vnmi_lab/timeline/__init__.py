"""A trace as lanes in time: one payload, and the still picture and table made from it.

The player (``assets/js``) animates the same payload in a browser.
"""

from vnmi_lab.timeline.beginning import FIRST, LONG, beginning
from vnmi_lab.timeline.build import MOST_STEPS, VERSION, Payload, TraceLike, build, expect_length, shown, state_at
from vnmi_lab.timeline.bundle import asset, script
from vnmi_lab.timeline.palette import palette
from vnmi_lab.timeline.png import drawn, png
from vnmi_lab.timeline.still import bundle, html, summary, table
from vnmi_lab.timeline.svg import svg

__all__ = [
    "FIRST",
    "LONG",
    "MOST_STEPS",
    "VERSION",
    "Payload",
    "TraceLike",
    "asset",
    "beginning",
    "build",
    "bundle",
    "drawn",
    "expect_length",
    "html",
    "palette",
    "png",
    "script",
    "shown",
    "state_at",
    "summary",
    "svg",
    "table",
]
