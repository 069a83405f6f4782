"""A run on its way to the page, and its way into a file: the page asks for a format, the kernel answers with its text.

A page that plays offline is made by the notebook's page itself, so that a run can be kept after its kernel died.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets

from vnmi_lab.export import FORMATS, write
from vnmi_lab.export.page import skeleton
from vnmi_lab.export.source import slug
from vnmi_lab.timeline import LONG, Payload, TraceLike, beginning, build, expect_length, shown
from vnmi_lab.trace import Trace

SOON = 0.25
"""Seconds until the rest of a long run is read: what the cell shows goes out, and is painted, before."""


class Saving(anywidget.AnyWidget):
    """A widget whose run can be saved. ``formats`` are [key, name, file, sentence], for the page's menu.

    ``sent`` is the payload as the page gets it. Of a long run its beginning is sent first, while a cell runs in a
    notebook, and the whole once the cell is done, so that there is something to see at once.
    """

    visible_until: traitlets.Int[int | None, int | None]
    sent = traitlets.Bytes(b"", read_only=True).tag(sync=True)
    formats = traitlets.List(traitlets.List(traitlets.Unicode()), read_only=True).tag(sync=True)
    page = traitlets.Unicode("", read_only=True).tag(sync=True)
    lint = True
    """Whether the run says which rules the hypervisor broke: an exercise may want them found."""
    trace: TraceLike | None = None
    """The run itself; without it only what a payload is enough for can be saved."""

    _rest: Trace | None = None
    """The run of which only the beginning was sent."""
    _payload: Payload
    """What was sent: the payload of the run, or of its beginning."""

    @property
    def payload(self) -> Payload:
        """The payload of the whole run."""
        self.finish()
        return self._payload

    def open_run(self, trace: TraceLike, shown_first: int = 0) -> None:
        """Show a run; ``shown_first`` is the step that is shown first."""
        expect_length(trace)
        if isinstance(trace, Trace) and len(trace) > LONG and shown_first < LONG // 2 and _later(self.finish):
            self.put(beginning(trace), trace)
            self._rest = trace
        else:
            self.put(build(trace), trace)

    def finish(self) -> None:
        """Read and send the rest of a run, if only its beginning was."""
        if self._rest is not None:
            self.put(build(self._rest), self._rest)

    def put(self, payload: Payload, trace: TraceLike | None = None) -> None:
        """Show another run: its payload, and the trace that this was made from where it is at hand."""
        self.trace, self._rest = trace, None
        self._payload = {**payload, "visible_until": None} | ({} if self.lint else {"lint": []})
        named = slug(payload["title"])
        offered = {key: made for key, made in FORMATS.items() if trace is not None or not made.needs_trace}
        with self.hold_sync():
            rows = [[key, made.name, named + made.suffix, made.sentence] for key, made in offered.items()]
            self.set_trait("formats", rows)
            self.set_trait("page", skeleton())
            text = json.dumps(self._payload, separators=(",", ":"), allow_nan=False)
            self.set_trait("sent", text.encode())

    def answer(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``{"save": format, "id": n}`` with ``saved``, which is that n, and the file or an ``error``."""
        said = {"saved": content.get("id")}
        if shown({**self.payload, "visible_until": self.visible_until}) < self.payload["steps"]:
            return {**said, "error": "A part of this run is hidden until you answer; it can be saved then."}
        try:
            key = str(content["save"])
            whole = self.trace if self.lint or FORMATS[key].needs_trace else None
            made = write(self.payload if whole is None else whole, key)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the learner must see it, not the kernel's log
            return {**said, "error": str(error)}
        return {
            **said,
            "name": slug(self.payload["title"]) + FORMATS[content["save"]].suffix,
            "mime": made.mime,
            "text": made.text,
        }

    def _asked(self, _widget: object, content: object, _buffers: object) -> None:
        if isinstance(content, Mapping) and "save" in content:
            self.send(self.answer(content))


def _later(action: Callable[[], None]) -> bool:
    """Let something be done once what runs now is done; False where nothing would do it, as outside a notebook."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    loop.call_later(SOON, action)
    return True
