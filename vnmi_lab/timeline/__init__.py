"""A trace as lanes in time: one payload, and the still picture and table made from it.

The player (``assets/js``) animates the same payload in a browser.
"""

from vnmi_lab.timeline.build import MOST_STEPS, VERSION, Payload, TraceLike, build, shown, state_at
from vnmi_lab.timeline.bundle import asset, script
from vnmi_lab.timeline.palette import palette
from vnmi_lab.timeline.png import drawn, png
from vnmi_lab.timeline.still import bundle, html, summary, table
from vnmi_lab.timeline.svg import svg

__all__ = [
    "MOST_STEPS",
    "VERSION",
    "Payload",
    "TraceLike",
    "asset",
    "build",
    "bundle",
    "drawn",
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
