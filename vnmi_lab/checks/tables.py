"""A small table of results, in a terminal and in a notebook: a head, and lines whose first cell names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

FIGURE = re.compile(r"[\d,.]+")
"""A cell that is a number: a column of nothing else is set to the right."""
CELL = "padding:.2em .8em;vertical-align:top;text-align:"


def _sides(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return on which side each column is set."""
    columns = list(zip(*lines, strict=True))[1:]
    return ["left", *("right" if all(map(FIGURE.fullmatch, column)) else "left" for column in columns)]


def plain(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return the table for a terminal."""
    everything = [list(head), *map(list, lines)]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    sides = _sides(lines)
    rows = ([_set(*cell) for cell in zip(sides, line, widths, strict=True)] for line in everything)
    return "\n".join("  ".join(row).rstrip() for row in rows)


def _set(side: str, text: str, width: int) -> str:
    return text.rjust(width) if side == "right" else text.ljust(width)


def html(head: Sequence[str], lines: Sequence[Sequence[str]], name: str, caption: str = "") -> str:
    """Return the table for a notebook; whatever stands in it is escaped. ``name`` is its class."""
    first, *others = styles = [CELL + side for side in _sides(lines)]
    top = "".join(
        f'<th scope="col" style="{style}">{escape(text)}</th>' for style, text in zip(styles, head, strict=True)
    )
    rows = "".join(
        f'<tr><th scope="row" style="{first}">{escape(line[0])}</th>'
        + "".join(f'<td style="{style}">{escape(text)}</td>' for style, text in zip(others, line[1:], strict=True))
        + "</tr>"
        for line in lines
    )
    above = f'<caption style="{CELL}left">{escape(caption)}</caption>' if caption else ""
    return f'<table class="{escape(name)}">{above}<thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>'


@dataclass(frozen=True, slots=True, repr=False)
class Grid:
    """A table that a cell of a lab shows, with what it is about above it."""

    caption: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def __repr__(self) -> str:
        """Return the table for a terminal."""
        return f"{self.caption}\n{plain(self.head, self.lines)}"

    def _repr_html_(self) -> str:
        return self.html()

    def html(self) -> str:
        """Return the table as HTML."""
        return html(self.head, self.lines, "vnmi-grid", self.caption)
