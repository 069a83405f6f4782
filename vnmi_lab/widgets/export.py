"""Saving what a timeline shows: the page asks for a format, the kernel answers with a file's name and text.

A page that plays offline is made by the notebook's page itself, so that a run can be kept after its kernel died.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anywidget
import traitlets

from vnmi_lab.export import FORMATS, write
from vnmi_lab.export.page import skeleton
from vnmi_lab.export.source import slug
from vnmi_lab.timeline import Payload, TraceLike, shown


class Saving(anywidget.AnyWidget):
    """A widget whose run can be saved. ``formats`` are [key, name, file, sentence], for the page's menu."""

    payload: traitlets.Dict[str, Any]
    visible_until: traitlets.Int[int | None, int | None]
    formats = traitlets.List(traitlets.List(traitlets.Unicode()), read_only=True).tag(sync=True)
    page = traitlets.Unicode("", read_only=True).tag(sync=True)
    trace: TraceLike | None = None
    """The run itself; without it only what a payload is enough for can be saved."""

    def put(self, payload: Payload, trace: TraceLike | None = None) -> None:
        """Show another run: its payload, and the trace that this was made from where it is at hand."""
        self.trace = trace
        named = slug(payload["title"])
        offered = {key: made for key, made in FORMATS.items() if trace is not None or not made.needs_trace}
        with self.hold_sync():
            rows = [[key, made.name, named + made.suffix, made.sentence] for key, made in offered.items()]
            self.set_trait("formats", rows)
            self.set_trait("page", skeleton())
            self.set_trait("payload", {**payload, "visible_until": None})

    def answer(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``{"save": format, "id": n}`` with ``saved``, which is that n, and the file or an ``error``."""
        said = {"saved": content.get("id")}
        if shown({**self.payload, "visible_until": self.visible_until}) < self.payload["steps"]:
            return {**said, "error": "A part of this run is hidden until you answer; it can be saved then."}
        try:
            made = write(self.payload if self.trace is None else self.trace, str(content["save"]))
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
