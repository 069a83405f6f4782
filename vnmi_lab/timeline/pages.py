"""What a notebook keeps beside a view for pages that run no widget: a sentence, the picture twice, tables."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

from vnmi_lab.timeline.png import drawn

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_PIXELS = 3_000_000
"""A larger picture has no PNG: nobody would enlarge it to read it, and the HTML has it as SVG."""


def bundle(said: str, picture: str, title: str, tables: str) -> dict[str, str]:
    """Give the mime types: a sentence, an SVG of this project, that as a PNG, and it as HTML with tables folded away.

    An untrusted JupyterLab shows the HTML, whose picture is an image and no markup; the PNG is for pages that show
    neither that nor SVG.
    """
    data = b64encode(picture.encode()).decode()
    image = f'<img alt="{escape(said)}" src="data:image/svg+xml;base64,{data}">'
    found = {
        "text/plain": said,
        "image/svg+xml": picture,
        "text/html": f"<figure>{image}<details><summary>{title}</summary>{tables}</details></figure>",
    }
    width, height = (int(picture.partition(f' {side}="')[2].partition('"')[0]) for side in ("width", "height"))
    if width * height <= MOST_PIXELS:
        found["image/png"] = b64encode(drawn(picture)).decode()
    return found


def table(caption: str, head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Give an HTML table whose first cells name their rows."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(_cell(n, cell) for n, cell in enumerate(row))}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _cell(place: int, said: object) -> str:
    text = escape(str(said))
    return f"<td>{text}</td>" if place else f'<th scope="row">{text}</th>'
