"""What a prediction is answered with: options to choose from, or the bits of a word."""

from __future__ import annotations

from collections.abc import Mapping

import anywidget
import traitlets

from vnmi_lab import timeline
from vnmi_lab.widgets.turn import TURN


class Answer(anywidget.AnyWidget):
    """Options, of which ``value`` is the letter chosen; or ``bits`` of a ``word``, if there are any."""

    _esm = timeline.script("predict")
    _css = timeline.asset("bench.css")
    legend = traitlets.Unicode("").tag(sync=True)
    options = traitlets.List(traitlets.Tuple(traitlets.Unicode(), traitlets.Unicode())).tag(sync=True)
    value = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    bits = traitlets.List(traitlets.Tuple(traitlets.Int(), traitlets.Unicode())).tag(sync=True)
    name = traitlets.Unicode("").tag(sync=True)
    word = traitlets.Int(0).tag(sync=True)
    disabled = traitlets.Bool(default_value=False).tag(sync=True)

    def __init__(self, **traits: object) -> None:
        super().__init__(**traits)
        self.on_msg(self._said)

    def _said(self, _widget: object, content: object, _buffers: object) -> None:
        with TURN:
            self.take(content)

    def take(self, said: object) -> None:
        """Take what was chosen on the page, until there is an answer."""
        if isinstance(said, Mapping) and not self.disabled:
            for name in said.keys() & {"value", "word"}:
                self.set_trait(name, said[name])
