"""What the views beside the timeline share: one payload goes to the browser, and a picture stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import anywidget
import traitlets

from vnmi_lab import timeline
from vnmi_lab.widgets.timeline import MimeBundle


class View(anywidget.AnyWidget):
    """A view of a finished payload; ``cursor`` is the place shown, both ways.

    Who extends it says by ``_esm`` what draws the payload and by ``fallback`` what a page shows that runs no widget.
    """

    _css = timeline.asset("player.css") + timeline.asset("views.css")
    payload = traitlets.Dict(read_only=True).tag(sync=True)
    cursor = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(self, payload: Mapping[str, Any], *, cursor: int = 0) -> None:
        super().__init__(cursor=cursor)
        self.set_trait("payload", dict(payload))

    def fallback(self) -> dict[str, str]:
        """Give what a page shows that runs no widget, by mime type."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> MimeBundle | None:  # noqa: ANN401 - IPython's own
        """Give the widget, and for pages that run none: a sentence, pictures, and picture with tables as HTML."""
        bundle = cast("MimeBundle | None", super()._repr_mimebundle_(**kwargs))
        return bundle and ({**bundle[0], **self.fallback()}, bundle[1])
