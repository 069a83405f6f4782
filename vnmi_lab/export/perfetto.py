"""Chrome's trace events as JSON, which the Perfetto UI and ``chrome://tracing`` open.

The format is that of the "Trace Event Format" document to which https://perfetto.dev/docs/getting-started/other-formats
refers: slices (``X``, or ``B`` and ``E``) of one thread nest, counters (``C``) belong to a process, an instant (``i``)
says how wide it is drawn, a flow (``s`` and ``f``, one ``id``) leads from the slice around its start to the one around
its end, metadata (``M``) names processes and threads. Times are microseconds: one step of the run is drawn as 1 ms.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from vnmi_lab import __version__
from vnmi_lab.timeline.columns import at, number, runs
from vnmi_lab.timeline.fields import form_of, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vnmi_lab.export.source import Source
    from vnmi_lab.timeline import Payload

Event: TypeAlias = "dict[str, Any]"
STEP = 1000
"""Microseconds that stand for one step."""
LEAVES, REACHES = STEP // 4, STEP // 2
"""Where in its step an arrow starts and ends; a cause in the same step stays before its effect."""
PROCESS = 1
WORLDS = {"bare": "bare metal", "kvm": "KVM", "host": "host", "guest": "guest"}


class _Sheet:
    """Events in the making, on threads that are numbered as they are named."""

    def __init__(self, title: str) -> None:
        self.events: list[Event] = []
        self.named: list[Event] = [_metadata("process_name", 0, name=title)]
        self.threads: dict[str, int] = {}

    def thread(self, name: str) -> int:
        if name not in self.threads:
            number = self.threads[name] = len(self.threads) + 1
            self.named.append(_metadata("thread_name", number, name=name))
            self.named.append(_metadata("thread_sort_index", number, sort_index=number))
        return self.threads[name]

    def add(self, ph: str, thread: str, step: float, name: str, /, **more: object) -> None:
        where = {"pid": PROCESS, "tid": self.thread(thread), "ts": _time(step)}
        self.events.append({"name": name, "ph": ph, "cat": thread, **where, **more})

    def slice(self, thread: str, first: float, end: float, name: str, /, **args: object) -> None:
        self.add("X", thread, first, name, dur=_time(end) - _time(first), args=args)


def perfetto(source: Source) -> str:
    """Give the run as trace events, sorted by time; every track is described in ``docs/exports.md``."""
    payload = source.payload
    sheet = _Sheet(source.title)
    for draw in (_outside, _calls, _world, _steps, _code, _instances, _buses, _flows):
        draw(sheet, payload)
    sheet.events.extend(_counters(payload))
    sheet.events.sort(key=_order)
    other = {"tool": f"vnmi_lab {__version__}", "title": source.title, "unit": "one step of the run is drawn as 1 ms"}
    whole = {"displayTimeUnit": "ms", "otherData": other, "traceEvents": sheet.named + sheet.events}
    return json.dumps(whole, allow_nan=False, separators=(",", ":")) + "\n"


def _time(step: float) -> float:
    time = round(step * STEP, 3)
    return int(time) if time == int(time) else time


def _metadata(what: str, thread: int, **args: object) -> Event:
    return {"name": what, "ph": "M", "cat": "__metadata", "pid": PROCESS, "tid": thread, "ts": 0, "args": args}


def _order(event: Event) -> tuple[float, int, float]:
    """Sort by time; what ends comes before what begins, and a slice before those inside it."""
    rank = {"E": 0, "B": 1, "X": 1}.get(event["ph"], 2)
    return event["ts"], rank, -event.get("dur", 0)


def _outside(sheet: _Sheet, payload: Payload) -> None:
    for step, style, label in payload["marks"]:
        sheet.slice("outside", step, step + 1, label, step=step, what=style)


def _calls(sheet: _Sheet, payload: Payload) -> None:
    """Draw KVM's functions nested as they called each other; the parts of a step are equally long."""
    calls = payload["calls"]
    for step, path in calls["at"]:
        opened: list[tuple[int, str]] = []
        entered = calls["paths"][path]
        for place, (depth, function) in enumerate(entered):
            now = step + place / len(entered)
            _close(sheet, opened, depth, now)
            name, file, what = calls["functions"][function]
            sheet.add("B", "KVM functions", now, name, args={"file": file, "what": what})
            opened.append((depth, name))
        _close(sheet, opened, 0, step + 1)


def _close(sheet: _Sheet, opened: list[tuple[int, str]], depth: int, now: float) -> None:
    while opened and opened[-1][0] >= depth:
        sheet.add("E", "KVM functions", now, opened.pop()[1])


def _world(sheet: _Sheet, payload: Payload) -> None:
    for first, end, world in payload["worlds"]:
        sheet.slice("world", first, end, WORLDS.get(world, world))
    for step, way, label in payload["crossings"]:
        name = label if way == "down" else f"#VMEXIT {label}"
        sheet.add("i", "world", step + 0.5, name, s="t", args={"step": step})


def _steps(sheet: _Sheet, payload: Payload) -> None:
    forms = {key: form for key, _, form, *_ in payload["fields"]}
    changes: dict[int, dict[str, str]] = {}
    for step, rule, field, old, new in payload["changes"]:
        form = form_of(forms, field)
        told = f"{written(form, old)} to {written(form, new)} ({rule})"
        seen = changes.setdefault(step, {})
        seen[field] = f"{seen[field]}, {told}" if field in seen else told
    words = payload["words"]
    for step, kind in enumerate(payload["kinds"]):
        rip = written("address", at(payload["columns"]["at"], step))
        args = {"step": step, "kind": kind, "rip": rip, "sentence": words[payload["sentence"][step]]}
        sheet.slice("steps", step, step + 1, words[payload["text"][step]], **args, changes=changes.get(step, {}))


def _code(sheet: _Sheet, payload: Payload) -> None:
    """Draw instructions inside the runs of their handlers; handlers that overlap without nesting get a track more."""
    spans = [(first, end, name) for first, end, _, _, name, *_ in payload["handlers"]]
    for track, inside in enumerate(nested(spans)):
        for first, end, name in inside:
            sheet.slice("guest code" if track == 0 else f"handlers {track + 1}", first, end, name)
    for step, kind in enumerate(payload["kinds"]):
        if kind in {"exec", "deliver"}:
            sheet.slice("guest code", step, step + 1, payload["words"][payload["text"][step]], step=step)


def nested(spans: Iterable[tuple[float, float, str]]) -> list[list[tuple[float, float, str]]]:
    """Deal spans out to tracks, in each of which any two are one inside the other or apart."""
    tracks: list[list[tuple[float, float, str]]] = []
    for span in sorted(spans, key=lambda one: (one[0], -one[1])):
        free = (track for track in tracks if all(span[0] >= end or span[1] <= end for _, end, _ in track))
        track = next(free, None)
        if track is None:
            tracks.append([span])
        else:
            track.append(span)
    return tracks


def _instances(sheet: _Sheet, payload: Payload) -> None:
    for instance in payload["instances"]:
        for first, end, phase, place in instance["spans"]:
            args = {"where": place, "end": instance["end"], "into": instance["into"]}
            sheet.slice(instance["name"], first, end, phase, **args)


def _buses(sheet: _Sheet, payload: Payload) -> None:
    """Draw fields that are words or addresses as slices while they hold something."""
    for wave in payload["waves"]:
        if wave["style"] not in {"bus", "shadow"}:
            continue
        form = "shadow" if wave["style"] == "shadow" else "vmcb"
        for first, end, value in runs(payload["state"][wave["key"]], payload["steps"]):
            if number(value) & wave["mask"]:
                sheet.slice(wave["key"], first, end, written(form, value))


def _counters(payload: Payload) -> Iterator[Event]:
    """Yield bits and counts as counters; where a field has no value, its counter is 0."""
    for wave in payload["waves"]:
        if wave["style"] in {"bus", "shadow"}:
            continue
        for first, _, value in runs(payload["state"][wave["key"]], payload["steps"]):
            where = {"pid": PROCESS, "tid": 0, "ts": _time(first)}
            yield {"name": wave["key"], "ph": "C", "cat": "state", **where, "args": {"value": number(value)}}


def _flows(sheet: _Sheet, payload: Payload) -> None:
    """Draw each cause and effect as an arrow between slices that are there."""
    there = {"outside": {mark[0] for mark in payload["marks"]}}
    there["guest code"] = {step for step, kind in enumerate(payload["kinds"]) if kind in {"exec", "deliver"}}
    tracks = {"outside": "outside", "code": "guest code"}

    def track(lane: str, step: int) -> str:
        name = tracks.get(lane, "steps")
        return name if step in there.get(name, ()) else "steps"

    for count, (first, cause, last, effect, sentence, rule) in enumerate(payload["links"], start=1):
        flow = {"id": count, "cat": "cause", "args": {"why": payload["words"][sentence], "rule": rule}}
        begin, end = first + LEAVES / STEP, last + REACHES / STEP
        sheet.add("s", track(cause, first), begin, "cause and effect", **flow)
        sheet.add("f", track(effect, last), end, "cause and effect", **flow, bp="e")
