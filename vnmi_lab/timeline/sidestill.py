"""Policies side by side without a browser's help: a picture, the counts and the aligned steps as tables, a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vnmi_lab.timeline import pages
from vnmi_lab.timeline.shapes import document, drawn, text

if TYPE_CHECKING:
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
    body = drawn(drawing["names"], 1, 0, TITLE) + drawn(drawing["shapes"], unit, drawing["gutter"], TITLE)
    below = TITLE + drawing["height"] + LINE
    lines = [*payload["verdict"], SHADED, payload["scenario"]]
    said = drawn([text(16, below + LINE * n, [line], "lane") for n, line in enumerate(lines)], 1)
    return document(body + said, width, below + LINE * len(lines), payload["title"])


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
    return pages.table("What it took", ["policy", *counts["head"]], counts["rows"]) + pages.table(
        "The steps, side by side", ["column", *names, ""], steps
    )


def bundle(payload: Payload) -> dict[str, str]:
    """Give what a notebook keeps beside the widget, by mime type."""
    return pages.bundle(summary(payload), svg(payload), "Counts and steps as tables", tables(payload))
