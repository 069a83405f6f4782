"""Drawings as data: boxes, lines and words that a page and a still picture draw alike.

A place is a pair: units along the axis, and pixels beside that. What a unit is worth is decided where it is drawn, so
one drawing fits any width. A shape is one of

    ["box", from, to, inset, top, height, classes]
    ["path", [[x, dx, y], ...], classes]
    ["hatch", from, to, top, bottom, lean, classes]
    ["text", x, dx, y, room, [texts], classes, anchor]

``inset`` is what a box leaves free at both ends, in pixels. Of ``texts`` the first is written that fits into ``room``
units (0: any); if none does, the last one small, or none. Classes are words; styles are among ``palette.STYLES``.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any, TypeAlias

from vnmi_lab.timeline.palette import STYLES, palette

Shape: TypeAlias = list[Any]
LETTER, SMALL, MARGIN, GAP = 6.4, 5.5, 4, 7
"""Pixels: a letter, a small one, what a text keeps free, from one line of a hatch to the next."""
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def box(first: float, end: float, top: float, height: float, classes: str, inset: float = 0.5) -> Shape:
    """Give a box."""
    return ["box", first, end, inset, top, height, classes]


def path(points: list[list[float]], classes: str) -> Shape:
    """Give a line through points; one of class "fill", "solid", "box" or "tip" is closed."""
    return ["path", points, classes]


def text(  # noqa: PLR0913 - a text and its place
    x: float, y: float, texts: list[str], classes: str, room: float = 0, *, dx: float = 0, anchor: str = "start"
) -> Shape:
    """Give a text, with shorter ones for where there is less room."""
    return ["text", x, dx, y, room, texts, classes, anchor]


def hatch(first: float, end: float, top: float, bottom: float, lean: float, classes: str) -> Shape:
    """Give lines that fill a box: upright, or leaning by some pixels."""
    return ["hatch", first, end, top, bottom, lean, classes]


def drawn(shapes: list[Shape], unit: float, left: float = 0, down: float = 0) -> str:
    """Draw shapes as SVG elements, a unit so many pixels wide; ``left`` and ``down`` move them all."""
    return "".join(_DRAW[shape[0]](shape, unit, left, down) for shape in shapes)


def _box(shape: Shape, unit: float, left: float, down: float) -> str:
    _, first, end, inset, top, height, classes = shape
    x, width = left + first * unit + inset, max(1.0, (end - first) * unit - 2 * inset)
    return f'<rect class="{classes}" x="{x:.1f}" y="{top + down:g}" width="{width:.1f}" height="{height}" rx="3"/>'


def _path(shape: Shape, unit: float, left: float, down: float) -> str:
    _, points, classes = shape
    d = "L".join(f"{left + x * unit + dx:.1f} {y + down:g}" for x, dx, y in points)
    closed = "z" if CLOSED & set(classes.split()) else ""
    return f'<path class="{classes}" d="M{d}{closed}"/>'


CLOSED = {"fill", "solid", "box", "tip"}


def _hatch(shape: Shape, unit: float, left: float, down: float) -> str:
    _, first, end, top, bottom, lean, classes = shape
    x, stop = left + first * unit + 3, left + end * unit - lean
    d = ""
    while x < stop:
        d += f"M{x:.1f} {bottom + down:g}L{x + lean:.1f} {top + down:g}"
        x += GAP
    return f'<path class="{classes}" d="{d}"/>' if d else ""


def _text(shape: Shape, unit: float, left: float, down: float) -> str:
    _, x, dx, y, room, texts, classes, anchor = shape
    said, size = fitting(texts, room * unit)
    if not said:
        return ""
    place = f'x="{left + x * unit + dx:.1f}" y="{y + down:g}" text-anchor="{anchor}"'
    return f'<text class="{classes}{size}" {place}>{escape(_NO_XML.sub("", said))}</text>'


def fitting(texts: list[str], room: float) -> tuple[str, str]:
    """Give the text to write in so many pixels, and " small" if it is to be small."""
    if not room:
        return texts[0], ""
    for size, letter, margin, candidates in (("", LETTER, MARGIN, texts), (" small", SMALL, MARGIN / 2, texts[-1:])):
        for said in candidates:
            if said and len(said) * letter + margin <= room:
                return said, size
    return "", ""


_DRAW = {"box": _box, "path": _path, "hatch": _hatch, "text": _text}

_LOOK = """text{font:10.5px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;fill:var(--muted)}
.soft,.lane,.note,.title{font-family:system-ui,"DejaVu Sans",sans-serif}
.title{font-size:14px;font-weight:600;fill:var(--ink)}.lane{font-size:11.5px;fill:var(--ink)}
.note,.soft{font-size:10px}.strong{font-weight:600}.big{font-size:13px}
.card{fill:var(--bg);stroke:var(--line)}.grid{stroke:var(--line);fill:none}
.rest{stroke:var(--edge);stroke-dasharray:1 4;fill:none}.said{fill:var(--ink)}
.arrow{stroke:var(--ink);stroke-width:1.5;fill:none}.tip{fill:var(--ink)}
.box{fill:var(--f);stroke:var(--e)}.thick{stroke-width:2}.solid{fill:var(--e);stroke:var(--e)}.fill{fill:var(--f)}
.low{stroke:var(--edge);stroke-width:1.25;fill:none}
.high{stroke:var(--e);stroke-width:1.75;fill:none;stroke-linejoin:round}
.hatch{stroke:var(--e);stroke-width:.75;stroke-opacity:.45;fill:none}
.ink{fill:var(--i)}.small{font-size:9px}.on{fill:var(--bg);font-weight:600}.only{fill:var(--surface)}
.mark{stroke:var(--nmi-edge);stroke-width:2;stroke-dasharray:6 3;fill:none}
.head{fill:var(--ink);fill-opacity:.06;stroke:var(--ink);stroke-width:1.5}"""


def style(more: str = "") -> str:
    """Give the style sheet of a still picture of shapes, for light and dark pages."""
    hues = "".join(f".{n}{{--f:var(--{h}-fill);--e:var(--{h}-edge);--i:var(--{h}-ink)}}" for n, h in STYLES.items())
    light, dark = (";".join(f"--{n}:{value}" for n, value in palette(theme).items()) for theme in ("light", "dark"))
    sheet = f"svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}{_LOOK}{more}{hues}"
    return sheet.replace("\n", "")


def document(body: str, width: float, height: float, title: str, more: str = "") -> str:
    """Give a whole picture with a frame around it."""
    said = escape(_NO_XML.sub("", title))
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img"'
    card = f'<rect class="card" x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="8"/>'
    head = f'<text class="title" x="16" y="24">{said}</text>'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} aria-label="{said}">'
    return f"{start}<style>{style(more)}</style>{card}{head}{body}</svg>"
