"""A button whose click brings along what was said in its panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets

from vnmi_lab import timeline
from vnmi_lab.widgets.turn import TURN


class Button(anywidget.AnyWidget):
    """A button of a panel. ``says`` is what its click says for the panel's next answer, such as {"placed": None}."""

    _esm = timeline.script("button")
    description = traitlets.Unicode("").tag(sync=True)
    tooltip = traitlets.Unicode("").tag(sync=True)
    primary = traitlets.Bool(default_value=False).tag(sync=True)
    disabled = traitlets.Bool(default_value=False).tag(sync=True)
    says = traitlets.Dict().tag(sync=True)

    def __init__(self, pressed: Callable[[Mapping[str, Any]], None], **traits: object) -> None:
        """Call ``pressed`` at each click with what was said in the panel and not yet answered."""
        super().__init__(**traits)
        self._pressed = pressed
        self.on_msg(self._clicked)

    def click(self, said: Mapping[str, Any] | None = None) -> None:
        """Do what a click does."""
        with TURN:
            self._pressed(said or {})

    def _clicked(self, _widget: object, content: object, _buffers: object) -> None:
        if isinstance(content, Mapping) and isinstance(content.get("click"), Mapping):
            self.click(content["click"])
