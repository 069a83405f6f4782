"""The map of the course in a notebook, with a file to take along and to bring back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import anywidget
import ipywidgets as widgets
import traitlets

from vnmi_lab import timeline
from vnmi_lab.checks import progress as notes
from vnmi_lab.checks.map import Progress, loaded, report
from vnmi_lab.checks.record import dump
from vnmi_lab.checks.saved import FILE
from vnmi_lab.widgets.timeline import MimeBundle


class Carrier(anywidget.AnyWidget):
    """Two controls: download ``text`` as ``file``, upload such a file; ``said`` is what came of it.

    The text is on the page before it is asked for: a kernel that Binder has ended cannot be asked any more.
    """

    _esm = timeline.script("progress")
    _css = timeline.asset("bench.css")
    file = traitlets.Unicode(FILE).tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
    said = traitlets.Unicode("").tag(sync=True)


class ProgressPanel(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The map, kept up to date while it is the last that was shown, and what carries progress to another place."""

    def __init__(self, shown: Progress) -> None:
        """Show how far a learner is."""
        self.map = widgets.HTML()
        self.carrier = Carrier()
        self.carrier.on_msg(self._uploaded)
        super().__init__([self.map, self.carrier])
        self.add_class("vnmi-progress-panel")
        self.show(shown)
        notes.watch(lambda: self.show(report()))

    def show(self, shown: Progress) -> None:
        """Show how far a learner is now."""
        self.shown = shown
        self.map.value = shown._repr_html_()  # Jupyter's name for this promise
        self.carrier.text = dump(notes.noted())

    def _uploaded(self, _widget: object, content: object, _buffers: object) -> None:
        if not isinstance(content, Mapping) or not isinstance(content.get("upload"), str):
            return
        try:
            said = loaded(content["upload"], str(content.get("name", FILE)))
            self.carrier.said = f"{said.title}: {said.text}"
        except ValueError as error:
            self.carrier.said = str(error)
        self.show(report())

    def _repr_mimebundle_(self, **kwargs: Any) -> MimeBundle | None:  # noqa: ANN401  # IPython's own
        """Give the panel; and for pages that run no widget the map alone."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = cast("MimeBundle", bundle if isinstance(bundle, tuple) else (bundle, {}))
        still = {"text/plain": repr(self.shown), "text/html": self.shown._repr_html_()}
        return {**data, **still}, metadata


def progress() -> Progress:
    """Return a map of the course with all you did; ``save`` and ``load`` carry it to another place."""
    return report()
