"""Pixels without a library: a canvas with a palette that draws spans, polygons, lines and small letters, and is a PNG.

Nothing is smoothed: an edge falls on a pixel or beside it. The letters are the project's own, drawn in
``assets/font.txt``, a line each: its rows from the height of a capital down to what hangs below the line.
"""

from __future__ import annotations

import re
import struct
import zlib
from functools import cache
from itertools import pairwise
from math import floor, hypot
from typing import TypeAlias

from vnmi_lab.timeline.bundle import asset

Point: TypeAlias = tuple[float, float]
Ink: TypeAlias = "tuple[str, float]"
"""A colour ``#rrggbb`` and how much of it covers what is below, from 0 to 1."""

CAPITAL, SPACE = 7, 3
"""How high a capital is, and how wide a space, in pixels."""
MOST_COLOURS = 256
_DRAWN = re.compile(rb"\xff+")
_SAME = bytes(range(MOST_COLOURS))
_ROUND = {4: (2, 1), 3: (2, 1), 2: (1,)}
"""How far the first rows of a box with that radius stand in."""


class Canvas:
    """A picture of ``width`` by ``height`` pixels, all ``#ffffff`` at first; what lies outside is not drawn."""

    def __init__(self, width: int, height: int) -> None:
        """Start with an empty picture."""
        self.width, self.height = width, height
        self.pixels = bytearray(width * height)
        self.palette: dict[str, int] = {"#ffffff": 0}
        self._mixed: dict[Ink, tuple[bytes, bytes]] = {}

    def png(self) -> bytes:
        """Give the picture as a PNG file."""
        rows = bytearray()
        for start in range(0, len(self.pixels), self.width):
            rows.append(0)  # a row as it is, no filter
            rows += self.pixels[start : start + self.width]
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 3, 0, 0, 0)  # eight bits that index a palette
        colours = bytes.fromhex("".join(colour[1:] for colour in self.palette))
        parts = ((b"IHDR", head), (b"PLTE", colours), (b"IDAT", zlib.compress(rows, 3)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)

    def span(self, y: int, x: int, end: int, ink: Ink) -> None:
        """Colour the pixels of a row from ``x`` to before ``end``."""
        x, end = max(0, x), min(self.width, end)
        if not 0 <= y < self.height or x >= end:
            return
        first, last = y * self.width + x, y * self.width + end
        if ink[1] >= 1:
            self.pixels[first:last] = bytes((self._index(ink[0]),)) * (last - first)
        else:
            below = self.pixels[first:last]
            self.pixels[first:last] = below.translate(self._over(ink, below))

    def slope(self, x: int, y: int, count: int, lean: int, ink: Ink) -> None:
        """Colour ``count`` pixels from a place down, each ``lean`` (-1, 0 or 1) beside the one above it, at once."""
        first, last = max(0, -y), min(count, self.height - y)
        if lean > 0:
            first, last = max(first, -x), min(last, self.width - x)
        elif lean < 0:
            first, last = max(first, x - self.width + 1), min(last, x + 1)
        elif not 0 <= x < self.width:
            return
        if first >= last:
            return
        start, stride = (y + first) * self.width + x + lean * first, self.width + lean
        place = slice(start, start + stride * (last - first - 1) + 1, stride)
        if ink[1] >= 1:
            self.pixels[place] = bytes((self._index(ink[0]),)) * (last - first)
        else:
            below = self.pixels[place]
            self.pixels[place] = below.translate(self._over(ink, below))

    def block(self, x: int, y: int, width: int, height: int, ink: Ink, radius: int = 0) -> None:
        """Fill a box, its corners rounded a little."""
        inset = _ROUND.get(min(radius, 4, width // 2, height // 2), ())
        for near, cut in enumerate(inset):
            for row in {y + near, y + height - 1 - near}:
                self.span(row, x + cut, x + width - cut, ink)
        self._rows(range(y + len(inset), y + height - len(inset)), x, x + width, ink)

    def _rows(self, rows: range, x: int, end: int, ink: Ink) -> None:
        """Colour the pixels of rows from ``x`` to before ``end``: ``span`` for many, measured once."""
        x, end = max(0, x), min(self.width, end)
        top, low = max(0, rows.start), min(self.height, rows.stop)
        if x >= end or top >= low:
            return
        if ink[1] < 1:
            for y in range(top, low):
                self.span(y, x, end, ink)
            return
        colour, pixels = bytes((self._index(ink[0]),)) * (end - x), self.pixels
        for first in range(top * self.width + x, low * self.width + x, self.width):
            pixels[first : first + end - x] = colour

    def polygon(self, outlines: list[list[Point]], ink: Ink) -> None:
        """Fill what outlines enclose; where two overlap is outside."""
        sides = [
            (a, b) if a[1] < b[1] else (b, a)
            for line in outlines
            for a, b in zip(line, [*line[1:], line[0]], strict=True)
            if a[1] != b[1]
        ]
        if not sides:
            return
        top, low = floor(min(a[1] for a, _ in sides)), floor(max(b[1] for _, b in sides))
        for y in range(max(0, top), min(self.height, low + 1)):
            middle = y + 0.5
            cuts = sorted(
                a[0] + (middle - a[1]) * (b[0] - a[0]) / (b[1] - a[1]) for a, b in sides if a[1] <= middle < b[1]
            )
            for x, end in zip(cuts[::2], cuts[1::2], strict=True):
                self.span(y, floor(x + 0.5), floor(end + 0.5), ink)

    def line(self, points: list[Point], width: float, ink: Ink, dash: tuple[float, ...] = ()) -> None:
        """Draw a line through points, in dashes of those lengths and gaps if any."""
        pieces = list(pairwise(points))
        for a, b in _dashed(pieces, dash) if dash else pieces:
            self._segment(a, b, max(1, floor(width + 0.5)), ink)

    def text(self, x: float, y: float, text: str, ink: Ink, *, bold: bool = False, upward: bool = False) -> None:
        """Write a text on the line ``y``, from ``x``; or up from there, turned to the left."""
        left, line = floor(x), floor(y)
        masks = [b"".join(parts) for parts in zip(*(_masks(letter, bold=bold) for letter in text), strict=True)]
        for down, mask in enumerate(masks):
            if not upward:
                self._stencil(line - CAPITAL + down, left, mask, ink)
                continue
            for run in _DRAWN.finditer(mask):
                self.block(left - CAPITAL + down, line - run.end(), 1, run.end() - run.start(), ink)

    def _stencil(self, y: int, x: int, mask: bytes, ink: Ink) -> None:
        """Colour the pixels of a row, from ``x``, where ``mask`` is 255 and not where it is 0."""
        if ink[1] < 1:
            for run in _DRAWN.finditer(mask):
                self.span(y, x + run.start(), x + run.end(), ink)
            return
        first, last = max(0, x), min(self.width, x + len(mask))
        drawn = int.from_bytes(mask[first - x : last - x], "little") if first < last else 0
        if not drawn or not 0 <= y < self.height:
            return
        place, size = slice(y * self.width + first, y * self.width + last), last - first
        below = int.from_bytes(self.pixels[place], "little")
        colour = int.from_bytes(bytes((self._index(ink[0]),)) * size, "little")
        self.pixels[place] = (below & ~drawn | colour & drawn).to_bytes(size, "little")

    def _segment(self, a: Point, b: Point, width: int, ink: Ink) -> None:
        (x, y), (to, down) = a, b
        back = (width - 1) / 2
        if y == down:
            top = floor(y - back)
            for row in range(top, top + width):
                self.span(row, floor(min(x, to)), max(floor(max(x, to)), floor(min(x, to)) + 1), ink)
            return
        if x == to:
            left, top = floor(x - back), floor(min(y, down))
            for beside in range(width):
                self.slope(left + beside, top, floor(max(y, down)) + 1 - top, 0, ink)
            return
        if abs(to - x) == abs(down - y) and (to - x) % 1 == 0:
            (high, start), lean = min((y, x), (down, to)), 1 if (to > x) == (down > y) else -1
            for row in range(width):
                self.slope(floor(start), floor(high - back) + row, int(abs(to - x)) + 1, lean, ink)
            return
        if width == 1 and ink[1] >= 1:
            self._dots(a, b, self._index(ink[0]))
        else:
            self._lean(a, b, width, ink)

    def _lean(self, a: Point, b: Point, width: int, ink: Ink) -> None:
        """Draw a piece of a line that leans, a pixel further at a time."""
        (x, y), (to, down) = a, b
        back = (width - 1) / 2
        count = max(1, round(max(abs(to - x), abs(down - y))))
        steep = abs(down - y) > abs(to - x)
        for step in range(count + 1):
            along, over = x + (to - x) * step / count, y + (down - y) * step / count
            if steep:
                left = floor(along - back)
                self.span(floor(over), left, left + width, ink)
            else:
                for row in range(width):
                    self.span(floor(over - back) + row, floor(along), floor(along) + 1, ink)

    def _dots(self, a: Point, b: Point, colour: int) -> None:
        """Draw a piece of a line that leans, one pixel wide and nothing seen through it: ``_lean`` for most lines."""
        (x, y), (to, down) = a, b
        count = max(1, round(max(abs(to - x), abs(down - y))))
        right, fall = (to - x) / count, (down - y) / count
        width, height, pixels = self.width, self.height, self.pixels
        for step in range(count + 1):
            at, row = floor(x + right * step), floor(y + fall * step)
            if 0 <= at < width and 0 <= row < height:
                pixels[row * width + at] = colour

    def _index(self, colour: str) -> int:
        """Give the place of a colour in the palette; when that is full, the place of the one most like it."""
        if colour not in self.palette:
            if len(self.palette) == MOST_COLOURS:
                return self.palette[min(self.palette, key=lambda other: _distance(colour, other))]
            self.palette[colour] = len(self.palette)
        return self.palette[colour]

    def _over(self, ink: Ink, below: bytearray) -> bytes:
        """Give a table of what the colours in ``below`` become under an ink that lets them through."""
        known, table = self._mixed.get(ink, (b"", _SAME))
        if fresh := set(below.translate(None, known)):
            colours, changed = list(self.palette), bytearray(table)
            for index in fresh:
                changed[index] = self._index(_mix(ink, colours[index]))
            known, table = self._mixed[ink] = known + bytes(fresh), bytes(changed)
        return table


def width_of(text: str, *, bold: bool = False) -> int:
    """Give how many pixels wide a text will be."""
    return sum(_advance(letter, bold=bold) for letter in text)


@cache
def font() -> dict[str, list[list[tuple[int, int]]]]:
    """Give the letters as rows of spans; an empty name is the box that stands for a letter nobody drew."""
    drawn: dict[str, list[list[tuple[int, int]]]] = {" ": []}
    drawn[""] = [_spans(row) for row in ("#####", *["#...#"] * 5, "#####")]
    for line in asset("font.txt").splitlines():
        letter, *rows = line.split(" ")
        drawn[letter] = [_spans(row) for row in rows]
    return drawn


@cache
def _advance(letter: str, *, bold: bool) -> int:
    if letter == " ":
        return SPACE + 1
    letters = font()
    return max(end for row in letters.get(letter, letters[""]) for _, end in row) + 1 + bold


@cache
def _masks(letter: str, *, bold: bool) -> tuple[bytes, ...]:
    """Give a letter's rows, as many for each letter, as masks with room behind it: 255 where it is drawn."""
    letters = font()
    rows, width = letters.get(letter, letters[""]), _advance(letter, bold=bold)
    drawn = [bytearray(width) for _ in range(max(map(len, letters.values())))]
    for mask, row in zip(drawn, rows, strict=False):
        for start, end in row:
            mask[start : end + bold] = b"\xff" * (end + bold - start)
    return tuple(map(bytes, drawn))


def _spans(row: str) -> list[tuple[int, int]]:
    found, start = [], 0
    for piece in row.split("."):
        if piece:
            found.append((start, start + len(piece)))
        start += len(piece) + 1
    return found


def _parts(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _distance(one: str, other: str) -> int:
    return sum((a - b) ** 2 for a, b in zip(_parts(one), _parts(other), strict=True))


def _mix(ink: Ink, below: str) -> str:
    colour, cover = ink
    pairs = zip(_parts(colour), _parts(below), strict=True)
    return "#" + "".join(f"{round(top * cover + bottom * (1 - cover)):02x}" for top, bottom in pairs)


def _dashed(pieces: list[tuple[Point, Point]], dash: tuple[float, ...]) -> list[tuple[Point, Point]]:
    """Cut a line into its dashes; the pattern goes on from one piece to the next."""
    found: list[tuple[Point, Point]] = []
    turn, left = 0, dash[0]
    for (x, y), (to, down) in pieces:
        length, done = hypot(to - x, down - y), 0.0
        while done < length:
            go = min(left, length - done)
            if turn % 2 == 0:
                ends = [(x + (to - x) * at / length, y + (down - y) * at / length) for at in (done, done + go)]
                found.append((ends[0], ends[1]))
            done, left = done + go, left - go
            if left <= 0:
                turn += 1
                left = dash[turn % len(dash)]
    return found


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
