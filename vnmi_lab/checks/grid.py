"""A small table that a lab shows: words in a terminal, a table with headers in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

CELL = "padding:.2em .8em;text-align:right"
FIRST = "padding:.2em .8em;text-align:left"


@dataclass(frozen=True, slots=True, repr=False)
class Grid:
    """Lines under a head; the first cell of each line names it."""

    caption: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def __repr__(self) -> str:
        """Return the table for a terminal."""
        every = [self.head, *self.lines]
        widths = [max(map(len, column)) for column in zip(*every, strict=True)]
        rows = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in every]
        return "\n".join([self.caption, *rows])

    def _repr_html_(self) -> str:
        return self.html()

    def html(self) -> str:
        """Return the table as HTML."""
        head = "".join(
            f'<th scope="col" style="{CELL if n else FIRST}">{escape(t)}</th>' for n, t in enumerate(self.head)
        )
        body = "".join(
            f'<tr><th scope="row" style="{FIRST};font-weight:normal">{escape(line[0])}</th>'
            + "".join(f'<td style="{CELL}">{escape(text)}</td>' for text in line[1:])
            + "</tr>"
            for line in self.lines
        )
        caption = f'<caption style="text-align:left;padding:.3em .8em">{escape(self.caption)}</caption>'
        return f'<table class="vnmi-grid">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
