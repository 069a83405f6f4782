"""The bench for a room: a run in large type that shows nothing of what comes before somebody asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import anywidget
import ipywidgets as widgets
import traitlets

from vnmi_lab import timeline
from vnmi_lab.checks import Asked
from vnmi_lab.checks.text import box, prose
from vnmi_lab.timeline import TraceLike
from vnmi_lab.widgets.timeline import MimeBundle, Timeline
from vnmi_lab.widgets.turn import TURN

STEP, ANSWER = "Next step", "Show the answer"


class Bar(anywidget.AnyWidget):
    """The presenter's buttons, and the keys of a clicker: Page Down, Page Up, Enter. ``offers`` can be asked for."""

    _esm = timeline.script("presenter")
    _css = timeline.asset("presenter.css")
    offers = traitlets.List(traitlets.Unicode()).tag(sync=True)
    next_word = traitlets.Unicode(STEP).tag(sync=True)
    stepwise = traitlets.Bool(default_value=True).tag(sync=True)
    place = traitlets.Unicode("").tag(sync=True)


class Presenter(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A run that is shown step by step, or a prediction whose answer is shown when it is asked for.

    ``until`` is the last step that can be seen. Nothing is recorded: what a room says is not one learner's answer.
    """

    timeline: Timeline

    def __init__(self, what: TraceLike | Asked, *, title: str = "", cursor: int = 0) -> None:
        """Show ``what``: a run up to step ``cursor``, a prediction up to its question."""
        self.asked = what if isinstance(what, Asked) else None
        self.trace = what.trace() if isinstance(what, Asked) else what
        whole = timeline.build(self.trace)
        self.whole = {**whole, "title": title or whole["title"], "visible_until": None}
        self.answered = False
        self.bar, self.head, self.told = Bar(), widgets.HTML(), widgets.HTML()
        if isinstance(what, Asked):
            self.head.value = _question(what)
            self.timeline = Timeline(what.shown(), cursor=what.cursor())
            self.timeline.flags = [tuple(flag) for flag in what.given()]
        else:
            first = min(max(0, cursor), whole["steps"] - 1)
            self.timeline = Timeline(self.whole, cursor=first, visible_until=first)
            self.timeline.put(self.whole, self.trace)
        self.bar.on_msg(self._pressed)
        self._offer()
        super().__init__([self.head, self.bar, self.told, self.timeline])
        self.add_class("vnmi-presenter")

    @property
    def until(self) -> int:
        """The last step that can be seen."""
        last = int(self.timeline.payload["steps"]) - 1
        return last if self.timeline.visible_until is None else min(self.timeline.visible_until, last)

    def show(self, what: str) -> None:
        """Do what a button says: "next", "back", "event", "all"; what is not offered does nothing."""
        if what not in self.bar.offers:
            return
        if self.asked is not None:
            self._answer(self.asked, shown=what == "next")
        else:
            self._reach(self._target(what))
        self._offer()

    def _target(self, what: str) -> int:
        last = int(self.whole["steps"]) - 1
        if what == "all":
            return last
        if what == "event":
            return next((int(step) for step in self.whole["events"] if step > self.until), last)
        return self.until + (1 if what == "next" else -1)

    def _reach(self, step: int) -> None:
        """Let a step be the last that can be seen, and show it."""
        with self.timeline.hold_sync():
            self.timeline.visible_until = step
            self.timeline.cursor = step

    def _answer(self, asked: Asked, *, shown: bool) -> None:
        """Show the answer and the whole run, or hide both again."""
        truth, beginning = asked.truth(), asked.shown()
        self.answered = shown
        self.told.value = box(truth.rows(), "--jp-success-color1") if shown else ""
        with self.timeline.hold_sync():
            self.timeline.flags = [tuple(flag) for flag in (truth.flags if shown else asked.given())]
            if shown:
                self.timeline.put(self.whole, self.trace)
            else:
                self.timeline.put(timeline.build(beginning), beginning)
                self.timeline.cursor = asked.cursor()

    def _offer(self) -> None:
        last = self.whole["steps"] - 1
        more, less = (not self.answered, self.answered) if self.asked else (self.until < last, self.until > 0)
        offers = ["back"] * less + ["next"] * more + (["event", "all"] if more and not self.asked else [])
        with self.bar.hold_sync():
            self.bar.offers = offers
            self.bar.stepwise = self.asked is None
            self.bar.next_word = ANSWER if self.asked else STEP
            self.bar.place = "" if self.asked else f"Step {self.until}"

    def _pressed(self, _widget: object, content: object, _buffers: object) -> None:
        if isinstance(content, Mapping):
            with TURN:
                self.show(str(content.get("show", "")))

    def _repr_mimebundle_(self, **kwargs: Any) -> MimeBundle | None:  # noqa: ANN401  # IPython's own
        """Give the panel; and for pages that run no widget what may be seen of the run now, and the question."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = cast("MimeBundle", bundle if isinstance(bundle, tuple) else (bundle, {}))
        seen = timeline.bundle(self.timeline.still, self.timeline.cursor)
        return {**data, **seen, "text/html": self.head.value + seen["text/html"]}, metadata


def _question(asked: Asked) -> str:
    return f'<div class="vnmi-asked"><strong>Predict.</strong> {prose(asked.question)}{asked.asks()}</div>'
