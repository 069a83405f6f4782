"""WaveJSON, the timing diagrams of WaveDrom (https://github.com/wavedrom/schema/blob/master/WaveJSON.md).

One column is one step, and the number over its left edge is the step's. It is strict JSON, which the editor reads too.
"""

from __future__ import annotations

import json
import re
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING, Any, TypeAlias

from vnmi_lab.timeline.columns import number, runs
from vnmi_lab.timeline.fields import written

if TYPE_CHECKING:
    from vnmi_lab.export.source import Source
    from vnmi_lab.timeline import Payload

Lanes: TypeAlias = "dict[str, tuple[str, dict[str, Any]]]"

MOST = 200
"""Columns of a diagram; a longer one is a strip that nobody can read."""
SCALE = 2
COLUMN = 10
"""Letters that fit into a column, ``SCALE`` times 40 px wide; WaveDrom writes longer ones over what is beside."""
LETTERS = ascii_uppercase + ascii_lowercase
"""Names for the ends of arrows, one letter each; WaveDrom shows the small ones."""
SHORT = (
    (re.compile(r"^#VMEXIT (\S+).*"), r"\1 exit"),
    (re.compile(r"^host: (.*)"), r"\1"),
    (re.compile(r"^(KVM): .*"), r"\1"),
    (re.compile(r"^(\S+) .*"), r"\1"),
)
"""How the text of a step is cut, each only while it is too long."""


def wavedrom(source: Source) -> str:
    """Give the first ``MOST`` steps as WaveJSON; the line under a cut one says so."""
    payload = source.payload
    end = min(payload["steps"], MOST)
    lanes = _lanes(payload, end)
    edges = _edges(payload, lanes, end)
    cut = f"Steps 0 to {end - 1} of {payload['steps']:,}; VCD holds them all." if end < payload["steps"] else ""
    signal: list[Any] = [lane for group, lane in lanes.values() if not group]
    for group_id, name in payload["groups"]:
        if inside := [lane for group, lane in lanes.values() if group == group_id]:
            signal += [{}, [name, *inside]]
    head = {"text": source.title} | ({"tick": 0} if end > 1 else {})  # WaveDrom stumbles over ticks of one column
    whole: dict[str, Any] = {"signal": signal, "config": {"hscale": SCALE}, "head": head}
    if edges:
        whole["edge"] = edges
    if cut:
        whole["foot"] = {"text": cut}
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def _lanes(payload: Payload, end: int) -> Lanes:
    """Give each lane by the name that links have for it: its group, and the lane."""
    texts = [payload["words"][text] for text in payload["text"][:end]]
    columns = payload["columns"]
    lanes: Lanes = {
        "world": ("", _bus("world", runs(columns["world"], end), "")),
        "code": ("", _bus("step", [(step, step + 1, text) for step, text in enumerate(texts)], "")),
    }
    for wave in payload["waves"]:
        if wave["quiet"]:
            continue
        found = runs(payload["state"][wave["key"]], end)
        form = {"bus": "vmcb", "shadow": "shadow"}.get(wave["style"], "bit")
        bits = form == "bit" and all(value in {None, 0, 1} for _, _, value in found)
        lane = _bits(wave["key"], found) if bits else _bus(wave["key"], found, form, wave["mask"])
        lanes[wave["key"]] = (wave["group"], lane)
    return lanes


def _bits(name: str, found: list[tuple[int, int, Any]]) -> dict[str, Any]:
    level = {None: "x", 0: "0", 1: "1"}
    return {"name": name, "wave": "".join(level[value] + "." * (end - first - 1) for first, end, value in found)}


def _bus(name: str, found: list[tuple[int, int, Any]], form: str, mask: int = 0) -> dict[str, Any]:
    """Give a lane of labelled values; with a mask, one that has no bit of it is drawn low."""
    wave, data = "", []
    for first, end, value in found:
        empty = value is None or (mask and not number(value) & mask)
        wave += ("x" if value is None else "0" if empty else "=") + "." * (end - first - 1)
        if not empty:
            data.append(_short(written(form, value), (end - first) * COLUMN))
    return {"name": name, "wave": wave, "data": data}


def _short(label: str, room: int) -> str:
    for long, short in SHORT:
        label = label if len(label) <= room else long.sub(short, label)
    return label if len(label) <= room else f"{label[: room - 1]}…"


def _edges(payload: Payload, lanes: Lanes, end: int) -> list[str]:
    """Give arrows from cause to effect as long as there are letters for their ends, and write those into the lanes."""
    letters = iter(LETTERS)
    nodes: dict[tuple[str, int], str] = {}
    edges = []
    for first, cause, last, effect, *_ in payload["links"]:
        ends = [("code" if lane == "outside" else lane, step) for lane, step in ((cause, first), (effect, last))]
        if last >= end or any(lane not in lanes for lane, _ in ends) or ends[0] == ends[1]:
            continue
        if len(LETTERS) - len(nodes) < len(ends):
            break
        edges.append("~>".join(nodes.get(place) or nodes.setdefault(place, next(letters)) for place in ends))
    for (lane, step), letter in nodes.items():
        node = lanes[lane][1].setdefault("node", "." * end)
        lanes[lane][1]["node"] = node[:step] + letter + node[step + 1 :]
    return edges
