"""Draws where an NMI can wait under KVM, and who can mask: from the tables of ``vnmi_lab/checks/lab04_way.py``."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from vnmi_lab.checks.lab04_way import MASKS, PLACES, Place
from vnmi_lab.timeline.palette import THEMES, palette

WIDTH, HEIGHT = 860, 330
BOX_W, BOX_H = 150, 58
COLOURS = ("bg", "ink", "muted", "line", "main-edge", "pend-fill", "pend-edge", "nmi-fill", "nmi-edge")
WAYS = {"nmi_queued": (140, 56), "nmi_pending": (330, 56), "EVENTINJ": (520, 56), "V_NMI": (520, 138)}
"""Where each place stands; arrows go from the left to the right."""
ARROWS = (
    (96, 85, 140, 85), (290, 85, 330, 85), (480, 85, 520, 85), (670, 85, 726, 108), (670, 167, 726, 138),
)  # fmt: skip
TITLE = "A waiting NMI is in one of four places, and three can say that one is in service"


def svg() -> str:
    """Return the picture."""
    return "\n".join([*_head(), *_waiting(), *_masks(), "</svg>"])


def _head() -> Iterator[str]:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{TITLE}">'
    light, dark = ("".join(f"--{name}:{palette(theme)[name]};" for name in COLOURS) for theme in THEMES)
    yield (
        f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
        'text{font:12px system-ui,"DejaVu Sans",sans-serif;fill:var(--ink)}'
        '.code{font:600 13px ui-monospace,"DejaVu Sans Mono",monospace}.soft{font-size:10.5px;fill:var(--muted)}'
        ".title{font-size:14px;font-weight:600}.card{fill:var(--bg);stroke:var(--line)}"
        ".wait{fill:var(--pend-fill);stroke:var(--pend-edge)}.mask{fill:var(--nmi-fill);stroke:var(--nmi-edge)}"
        ".way{fill:none;stroke:var(--main-edge);stroke-width:1.5;marker-end:url(#to)}#to path{fill:var(--main-edge)}"
        "</style>"
    )
    yield (
        '<defs><marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>'
    )
    yield f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>'


def _waiting() -> Iterator[str]:
    yield '<text class="title" x="20" y="32">Where a waiting NMI is</text>'
    yield '<text x="20" y="82">an NMI</text><text x="20" y="98">arrives</text>'
    yield '<text x="736" y="120">it is taken: the</text><text x="736" y="136">handler runs</text>'
    for place in PLACES:
        yield from _box(place, "wait", *WAYS[place.name])
    for x1, y1, x2, y2 in ARROWS:
        yield f'<path class="way" d="M{x1} {y1}L{x2} {y2}"/>'
    yield '<path class="way" d="M215 114V167H520"/>'
    yield '<text class="soft" x="232" y="160">with vNMI</text>'


def _masks() -> Iterator[str]:
    yield '<text class="title" x="20" y="238">Who says that one is in service</text>'
    for place, (x, _y) in zip(MASKS, list(WAYS.values())[:3], strict=True):
        yield from _box(place, "mask", x, 252)


def _box(place: Place, kind: str, x: int, y: int) -> Iterator[str]:
    middle = x + BOX_W / 2
    yield f'<rect class="{kind}" x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="6"/>'
    for row, (style, text) in enumerate((("code", place.name), ("soft", place.whose), ("soft", place.says))):
        yield f'<text class="{style}" text-anchor="middle" x="{middle:g}" y="{y + 20 + 15 * row}">{escape(text)}</text>'
