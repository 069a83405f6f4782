"""Policies side by side without a browser's help: a picture, the counts and the aligned steps as tables, a sentence."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

from vnmi_lab.timeline.shapes import document, drawn, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vnmi_lab.timeline.side import Payload

WIDTH, LEAST, MOST, TITLE, LINE = 1180, 32, 56, 36, 18
SHADED = "Shaded: where a policy has nothing to do while another one works."


def summary(payload: Payload) -> str:
    """Say in one line what is compared, and what came of it."""
    return f"{payload['title']} ({payload['scenario']}). {' '.join(payload['verdict'])}"


def svg(payload: Payload) -> str:
    """Draw the strips as one SVG, with what is to be said below them."""
    drawing = payload["drawing"]
    unit = max(LEAST, min(MOST, (WIDTH - drawing["gutter"]) / max(1, payload["columns"])))
    width = drawing["gutter"] + unit * payload["columns"] + 16
    body = drawn(drawing["names"], 1) + drawn(drawing["shapes"], unit, drawing["gutter"])
    below = drawing["height"] + LINE
    lines = [*payload["verdict"], SHADED, payload["scenario"]]
    said = drawn([text(16, below + LINE * n, [line], "lane") for n, line in enumerate(lines)], 1)
    whole = f'<g transform="translate(0,{TITLE})">{body}{said}</g>'
    return document(whole, width, TITLE + below + LINE * len(lines), payload["title"])


def tables(payload: Payload) -> str:
    """Give the counts and the aligned steps as two HTML tables."""
    counts = payload["counts"]
    names = [run["name"] for run in payload["runs"]]
    steps = []
    there = [dict(zip(run["where"], run["text"], strict=True)) for run in payload["runs"]]
    marks = {found[0]: names[found[2]] for found in payload["divergences"]}
    for column in range(payload["columns"]):
        cells = [
            run["words"][own[column]] if column in own else "" for run, own in zip(payload["runs"], there, strict=True)
        ]
        note = f"the guest of {marks[column]} first sees something else" if column in marks else ""
        steps.append([str(column), *cells, note])
    return _table("What it took", ["policy", *counts["head"]], counts["rows"]) + _table(
        "The steps, side by side", ["column", *names, ""], steps
    )


def html(payload: Payload) -> str:
    """Give picture, sentences and tables as HTML for pages that run no script and strip what they do not trust."""
    picture = b64encode(svg(payload).encode()).decode()
    image = f'<img alt="{escape(summary(payload))}" src="data:image/svg+xml;base64,{picture}">'
    return f"<figure>{image}<details><summary>Counts and steps as tables</summary>{tables(payload)}</details></figure>"


def _table(caption: str, head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(_cell(n, cell) for n, cell in enumerate(row))}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _cell(place: int, said: object) -> str:
    text = escape(str(said))
    return f"<td>{text}</td>" if place else f'<th scope="row">{text}</th>'
