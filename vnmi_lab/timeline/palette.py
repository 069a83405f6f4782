"""The colours, read from the player's style sheet: they are stated there and nowhere else."""

from __future__ import annotations

import re
from functools import cache

from vnmi_lab.timeline.bundle import asset

THEMES = ("light", "dark")

STYLES = {
    "main": "main", "nmi": "nmi", "other": "other", "intr": "other", "host": "main", "bare": "main", "guest": "guest",
    "mask": "nmi", "pend": "pend", "bus": "other", "plain": "main", "shadow": "main",
}  # fmt: skip
"""Every style a lane may name, and the hue it is drawn in."""

_BLOCK = re.compile(r"/\* palette: ([\w-]+) \*/[^{]*\{([^}]*)\}")
_COLOUR = re.compile(r"--vl-([\w-]+):[^;]*(#[0-9a-f]{6})")


@cache
def palette(theme: str) -> dict[str, str]:
    """Give the colours of a theme, by name without the ``--vl-``."""
    blocks = dict(_BLOCK.findall(asset("player.css")))
    return dict(_COLOUR.findall(blocks[theme]))
