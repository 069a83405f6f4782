"""The still picture as a PNG, for pages that show neither SVG nor the HTML: the same SVG, drawn pixel by pixel.

What draws the SVG is the only place that knows the lanes. Here its shapes are read back and put on a canvas, in the
light colours, with letters of one size and nothing smoothed. A shape or a selector that the drawing does not use yet
is refused, so that no part of a picture goes missing in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from html import unescape
from typing import TYPE_CHECKING

from vnmi_lab.timeline.build import shown
from vnmi_lab.timeline.raster import Canvas, Ink, Point, width_of
from vnmi_lab.timeline.svg import svg

if TYPE_CHECKING:
    from vnmi_lab.timeline.build import Payload

MOST, FEWER = 96, 48
"""A PNG draws at most ``MOST`` steps: it cannot be enlarged, so that more would not be read. Of a longer run, which it
cannot show whole, it draws ``FEWER``: a notebook waits for it."""

_SHAPE = re.compile(r"<(\w+)([^>]*)>([^<]*)")
_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_DARK = re.compile(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*\}")
_VARIABLE = re.compile(r"var\(--([\w-]+)\)")
_COMMAND = re.compile(r"([A-Za-z])([^A-Za-z]*)")
_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)")
_SILENT = {"svg", "style", "title", "desc"}
_BOLD = re.compile(r"\b(?:600|700|bold)\b")
CURVE = 16
"""How many straight pieces stand for a curve."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a shape is drawn: what fills it, what lines it, and whether its letters are bold."""

    fill: Ink | None
    stroke: Ink | None
    width: float
    dash: tuple[float, ...]
    bold: bool


def png(payload: Payload, cursor: int | None = None) -> bytes:
    """Give the picture of a payload as a PNG file of at most ``MOST`` steps."""
    return drawn(svg(payload, cursor, most=readable(payload)))


def readable(payload: Payload) -> int:
    """Give how many steps stand in a picture that cannot be enlarged, and in the table beside it."""
    return MOST if shown(payload) <= MOST else FEWER


def drawn(picture: str) -> bytes:
    """Draw an SVG of this project's as a PNG file; ``ValueError`` for a shape that it has no pixels for."""
    shapes = _SHAPE.findall(picture)
    size = dict(_ATTRIBUTE.findall(shapes[0][1]))
    canvas = Canvas(int(size["width"]), int(size["height"]))
    style = picture.partition("<style>")[2].partition("</style>")[0]
    for tag, said, body in shapes:
        if tag in _SILENT:
            continue
        if tag not in _DRAW:
            raise ValueError(f"a picture is drawn from {', '.join(_DRAW)}; <{tag}> is none of them")
        attributes = dict(_ATTRIBUTE.findall(said))
        _DRAW[tag](canvas, _look(style, tag, attributes.get("class", "")), attributes, body)
    return canvas.png()


# --- the style sheet of the picture: one class or more each, and variables


@cache
def _rules(style: str) -> tuple[list[tuple[str, frozenset[str], dict[str, str]]], dict[str, str]]:
    """Give the rules as element, classes and properties, and the variables of the light theme."""
    rules: list[tuple[str, frozenset[str], dict[str, str]]] = []
    variables: dict[str, str] = {}
    for selectors, body in _RULE.findall(_DARK.sub("", style)):
        said = dict(part.split(":", 1) for part in body.split(";") if part)
        for selector in selectors.split(","):
            if selector.strip() == "svg":
                variables |= said
                continue
            if not re.fullmatch(r"\w*(?:\.[\w-]+)*", selector.strip()):
                raise ValueError(f"a picture's style names elements and classes; {selector.strip()!r} is neither")
            element, *classes = selector.strip().split(".")
            rules.append((element, frozenset(classes), said))
    return rules, variables


@cache
def _look(style: str, tag: str, names: str) -> Look:
    rules, variables = _rules(style)
    classes = set(names.split())
    said: dict[str, str] = {}
    for element, wanted, properties in rules:
        if element in {"", tag} and wanted <= classes:
            said |= properties
    known = {**variables, **said}

    def value(name: str, default: str) -> str:
        text = said.get(name, default)
        while found := _VARIABLE.search(text):
            text = text.replace(found[0], known[f"--{found[1]}"])
        return text

    def ink(name: str, default: str) -> Ink | None:
        colour = value(name, default)
        return None if colour == "none" else (colour, float(value(f"{name}-opacity", "1")))

    dash = tuple(float(n) for n in _NUMBER.findall(value("stroke-dasharray", "")))
    bold = bool(_BOLD.search(value("font", "") + " " + value("font-weight", "")))
    return Look(ink("fill", "#000000"), ink("stroke", "none"), float(value("stroke-width", "1")), dash, bold)


# --- the shapes


def _rect(canvas: Canvas, look: Look, said: dict[str, str], _body: str) -> None:
    x, y, width, height = (float(said[name]) for name in ("x", "y", "width", "height"))
    lined = int(look.stroke is not None)
    box = (int(x), int(y), max(1, int(x + width) - int(x)) + lined, max(1, int(y + height) - int(y)) + lined)
    radius = round(float(said.get("rx", "0")))
    inner = (box[0] + lined, box[1] + lined, box[2] - 2 * lined, box[3] - 2 * lined)
    see_through = look.fill is None or look.fill[1] < 1
    if look.stroke is not None and see_through:
        left, top, right, bottom = box[0], box[1], box[0] + box[2] - 1, box[1] + box[3] - 1
        corners: list[Point] = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        canvas.line(corners, look.width, look.stroke)
    elif look.stroke is not None:
        canvas.block(*box, look.stroke, radius)
    if look.fill is not None:
        canvas.block(*inner, look.fill, max(0, radius - lined))


def _path(canvas: Canvas, look: Look, said: dict[str, str], _body: str) -> None:
    lines = outlines(said["d"])
    if look.fill is not None:
        canvas.polygon([points for points, _ in lines], look.fill)
    if look.stroke is not None:
        for points, closed in lines:
            canvas.line([*points, points[0]] if closed else points, look.width, look.stroke, look.dash)


def _text(canvas: Canvas, look: Look, said: dict[str, str], body: str) -> None:
    if look.fill is None:
        return
    text, x = unescape(body), float(said["x"])
    share = {"middle": 0.5, "end": 1.0}.get(said.get("text-anchor", ""), 0.0)
    before, y, upward = share * width_of(text, bold=look.bold), float(said["y"]), said.get("transform", "")
    if upward and upward != f"rotate(-90 {said['x']} {said['y']})":
        raise ValueError(f"a text is turned a quarter to the left or not at all; {upward!r} is neither")
    x, y = (x, y + before) if upward else (x - before, y)
    canvas.text(x, y, text, look.fill, bold=look.bold, upward=bool(upward))


_DRAW = {"rect": _rect, "path": _path, "text": _text}


def outlines(d: str) -> list[tuple[list[Point], bool]]:
    """Give the lines of a path as points, curves as short pieces, and whether each is closed."""
    found: list[tuple[list[Point], bool]] = []
    x = y = 0.0
    for letter, said in _COMMAND.findall(d):
        numbers = [float(n) for n in _NUMBER.findall(said)]
        command = letter.upper()
        if command == "Z":
            found[-1] = (found[-1][0], True)
            x, y = found[-1][0][0]
            continue
        arity = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6}.get(command)
        if arity is None or len(numbers) % arity:
            raise ValueError(f"a path is made of M, L, H, V, C and Z; {letter}{said!r} is not")
        for at in range(0, len(numbers), arity):
            part = numbers[at : at + arity]
            left, top = (x, y) if letter.islower() else (0.0, 0.0)
            if command == "M" and at == 0:
                found.append(([], False))
            if command == "C":
                ends = [(left + part[k], top + part[k + 1]) for k in (0, 2, 4)]
                found[-1][0].extend(_curve((x, y), ends))
                x, y = ends[-1]
                continue
            if command != "V":
                x = left + part[0]
            if command != "H":
                y = top + part[-1]
            found[-1][0].append((x, y))
    return found


def _curve(start: Point, ends: list[Point]) -> list[Point]:
    points: list[Point] = []
    for piece in range(1, CURVE + 1):
        t = piece / CURVE
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
        corners = (start, *ends)
        points.append(
            (
                sum(w * corner[0] for w, corner in zip(weights, corners, strict=True)),
                sum(w * corner[1] for w, corner in zip(weights, corners, strict=True)),
            )
        )
    return points
