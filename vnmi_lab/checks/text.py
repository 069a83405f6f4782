"""How the checks are written out: as plain text in a terminal, as escaped HTML in a notebook.

The HTML takes every colour from JupyterLab's theme and never says anything by colour alone.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from html import escape

WIDTH = 100
CODE = re.compile(r"`([^`]+)`")


def prose(text: str) -> str:
    """Return text as HTML: escaped, with `names in backquotes` set as code."""
    return CODE.sub(r'<code style="padding:0">\1</code>', escape(text))


def wrapped(text: str, indent: str = "") -> str:
    """Return text broken into lines for a terminal."""
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent or "  ")


def listing(code: str) -> str:
    """Return code as an HTML block that keeps its lines."""
    return f'<pre style="margin:.4em 0;white-space:pre-wrap">{escape(code)}</pre>'


def box(inner: str, colour: str, **attributes: str) -> str:
    """Return the frame that every answer of the lab stands in; ``colour`` is a variable of JupyterLab's theme."""
    style = (
        f"border-left:4px solid var({colour},#616161);background:var(--jp-layout-color2,#f5f5f5);"
        "color:var(--jp-ui-font-color0,inherit);padding:.5em .9em;margin:.3em 0;max-width:52em;line-height:1.5"
    )
    more = "".join(f' data-{name}="{escape(value)}"' for name, value in attributes.items())
    return f'<div class="vnmi-note" role="status"{more} style="{style}">{inner}</div>'


@dataclass(frozen=True, slots=True, repr=False)
class Note:
    """Something the lab says when asked: a hint, a solution."""

    title: str
    text: str
    code: str = ""

    def __repr__(self) -> str:
        """Return the note for a terminal."""
        return "\n".join(part for part in (wrapped(f"{self.title}: {self.text}"), self.code) if part)

    def _repr_html_(self) -> str:
        code = listing(self.code) if self.code else ""
        return box(f"<strong>{escape(self.title)}.</strong> {prose(self.text)}{code}", "--jp-info-color1")
