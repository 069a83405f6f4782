"""The timeline without a browser's help: one sentence, and an HTML table beside the picture."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

from vnmi_lab.timeline.build import shown
from vnmi_lab.timeline.columns import at
from vnmi_lab.timeline.fields import form_of, written
from vnmi_lab.timeline.png import drawn, readable
from vnmi_lab.timeline.sheet import MOST, kept
from vnmi_lab.timeline.svg import svg

if TYPE_CHECKING:
    from vnmi_lab.timeline.build import Payload


def summary(payload: Payload) -> str:
    """Say in one line what a timeline shows."""
    count = shown(payload)
    inside = [step for step in range(count) if payload["kinds"][step] == "deliver"]
    runs = sum(first < count for first, *_ in payload["handlers"])
    exits = sum(step < count and way == "up" for step, way, _ in payload["crossings"])
    whole = f"{payload['whole']:,} steps, of them the first " if "whole" in payload else ""
    parts = [f"{whole}{count:,} steps", f"{len(inside)} events taken", f"{runs} runs of the NMI handler"]
    if payload["crossings"]:
        parts.append(f"{exits} #VMEXIT")
    return f"Timeline: {payload['title']} ({', '.join(parts)})"


def table(payload: Payload, most: int = MOST) -> str:
    """Give at most ``most`` steps as an HTML table: what happened, the waves after it, what changed by which rule."""
    forms = {key: form for key, _, form, *_ in payload["fields"]}
    waves = [wave["key"] for wave in payload["waves"] if not wave["quiet"]]
    changes: dict[int, list[str]] = {}
    for step, rule, field, old, new in payload["changes"]:
        form = form_of(forms, field)
        changes.setdefault(step, []).append(f"{field} {written(form, old)} → {written(form, new)} ({rule})")
    head = "".join(
        f'<th scope="col">{escape(name)}</th>' for name in ("step", "what", "world", "rip", *waves, "changed")
    )
    rows, steps = [], kept(payload, most)
    for step in steps:
        cells = [payload["words"][payload["text"][step]], at(payload["columns"]["world"], step)]
        cells.append(written("address", at(payload["columns"]["at"], step)))
        cells += [written(forms.get(key, ""), at(payload["state"][key], step)) for key in waves]
        cells.append("; ".join(changes.get(step, [])))
        rows.append(f'<tr><th scope="row">{step}</th>{"".join(f"<td>{escape(str(cell))}</td>" for cell in cells)}</tr>')
    among = payload.get("whole", shown(payload))
    left_out = "" if len(steps) == among else f": {len(steps)} of {among:,} steps, the events first"
    caption = f"<caption>{escape(payload['title'])}{left_out}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def nmis(payload: Payload) -> str:
    """Give the NMIs whose life is over in the steps shown as an HTML list, a sentence each; empty if there are none."""
    count = shown(payload)
    told = [one["said"] for one in payload["instances"] if one["spans"][-1][1] <= count]
    return f"<ul>{''.join(f'<li>{escape(said)}</li>' for said in told)}</ul>" if told else ""


def html(payload: Payload, cursor: int | None = None) -> str:
    """Give picture and table as HTML for pages that run no script and strip what they do not trust."""
    return _figure(payload, svg(payload, cursor), MOST)


def bundle(payload: Payload, cursor: int | None = None) -> dict[str, str]:
    """Give what a notebook keeps beside a widget, by mime type: a sentence, the picture twice, and it with the table.

    An untrusted JupyterLab shows the HTML, whose picture is an image and no markup; the PNG is for pages that show
    neither that nor SVG. They show few steps of a long run: JupyterLab waits for them before it shows the widget.
    """
    most = readable(payload)
    picture = svg(payload, cursor, most=most)
    return {
        "text/plain": summary(payload),
        "image/svg+xml": picture,
        "image/png": b64encode(drawn(picture)).decode(),
        "text/html": _figure(payload, picture, most),
    }


def _figure(payload: Payload, picture: str, most: int) -> str:
    said, data = escape(summary(payload)), b64encode(picture.encode()).decode()
    image = f'<img alt="{said}" src="data:image/svg+xml;base64,{data}">'
    details = f"<summary>The steps as a table</summary>{nmis(payload)}{table(payload, most)}"
    return f"<figure>{image}<details>{details}</details></figure>"
