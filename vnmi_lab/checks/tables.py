"""A small table of results, in a terminal and in a notebook: a head, and lines whose first cell names them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

CELL = "padding:.2em .8em;vertical-align:top;text-align:"


def plain(head: Sequence[str], lines: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Return the table for a terminal; ``numbers``: what stands behind the names is set to the right."""
    everything = [list(head), *map(list, lines)]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    set_ = str.rjust if numbers else str.ljust
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(set_, line[1:], widths[1:])]).rstrip() for line in everything
    )


def html(head: Sequence[str], lines: Sequence[Sequence[str]], name: str, *, numbers: bool = True) -> str:
    """Return the table for a notebook; whatever stands in it is escaped. ``name`` is its class."""
    side = "right" if numbers else "left"
    top = "".join(f'<th scope="col" style="{CELL}{side}">{escape(text)}</th>' for text in head)
    rows = "".join(
        f'<tr><th scope="row" style="{CELL}left">{escape(line[0])}</th>'
        + "".join(f'<td style="{CELL}{side}">{escape(text)}</td>' for text in line[1:])
        + "</tr>"
        for line in lines
    )
    return f'<table class="{escape(name)}"><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>'
