"""A text with a button that copies it."""

from __future__ import annotations

import anywidget
import traitlets

from vnmi_lab import timeline


class Copyable(anywidget.AnyWidget):
    """A text that stays selectable where the clipboard is blocked."""

    _esm = timeline.script("copy")
    _css = timeline.asset("bench.css")
    name = traitlets.Unicode("Text").tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
