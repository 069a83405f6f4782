"""A prediction as a panel: the question, the run up to it, and after the answer the rest of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any, cast

import ipywidgets as widgets

from vnmi_lab import timeline
from vnmi_lab.checks import Prediction, Reveal
from vnmi_lab.checks.prediction import lettered
from vnmi_lab.checks.text import box, prose
from vnmi_lab.guest import CodeLine
from vnmi_lab.rules import Rule
from vnmi_lab.trace import Step, Trace
from vnmi_lab.widgets.timeline import MimeBundle, Timeline, fallback


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first ``length`` steps of a trace, with nothing in it of what follows."""

    trace: Trace
    length: int

    def __len__(self) -> int:
        """Return the number of steps that may be seen."""
        return self.length

    def __getitem__(self, index: int) -> Step:
        """Return one of them."""
        return self.trace[index]

    @property
    def title(self) -> str:
        """The title of the run."""
        return self.trace.title

    @property
    def code(self) -> tuple[CodeLine, ...]:
        """The guest's listing."""
        return self.trace.code

    @property
    def rules(self) -> dict[str, Rule]:
        """The rules of the machine."""
        return self.trace.rules


class Predict(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Asks before it shows. ``reveal`` holds what was said and what is so, None before the answer.

    The rest of the run is not even sent to the page before "Check", which needs a choice, or "Skip, show me", which is
    recorded as skipped. What was chosen stays on the page beside what is so.
    """

    def __init__(self, prediction: Prediction) -> None:
        """Ask ``prediction``."""
        self.prediction = prediction
        self.reveal: Reveal | None = None
        self.trace = trace = prediction.trace()
        until = prediction.until(trace)
        self.timeline = Timeline(Beginning(trace, until + 1))
        self.timeline.cursor = until
        self.whole = timeline.build(trace)
        self.choice = widgets.RadioButtons(
            options=[(f"{letter}. {_plain(option.text)}", letter) for letter, option in lettered(prediction.options)],
            value=None,
            layout=widgets.Layout(width="auto", margin="0 0 0 1em"),
        )
        self.check = widgets.Button(description="Check", button_style="primary", disabled=True)
        self.skip = widgets.Button(description="Skip, show me", tooltip="Recorded as skipped")
        self.answer = widgets.HTML()
        self.choice.observe(self._chosen, "value")
        self.check.on_click(lambda _button: self._answer(lambda: prediction.choose(str(self.choice.value))))
        self.skip.on_click(lambda _button: self._answer(prediction.skip))
        self.question = widgets.HTML(_asked(prediction, " <em>The picture stops at the question.</em>"))
        self.buttons = widgets.HBox([self.check, self.skip], layout=widgets.Layout(margin="0 0 8px 1em"))
        super().__init__([self.question, self.choice, self.buttons, self.answer, self.timeline])
        self.add_class("vnmi-predict")

    def _chosen(self, _change: object) -> None:
        self.check.disabled = self.choice.value is None

    def _answer(self, say: Callable[[], Reveal]) -> None:
        """Record the answer and show the rest; an error is shown in the panel, where it would otherwise vanish."""
        try:
            self.reveal = say()
            self.answer.value = self.reveal._repr_html_()  # Jupyter's name for this promise
            self.timeline.put(self.whole, self.trace)
            self.question.value = _asked(self.prediction)
            self.choice.disabled = True
            self.buttons.layout.display = "none"
        except Exception as error:  # noqa: BLE001  # whatever went wrong, the learner must see it
            text = escape(f"{type(error).__name__}: {error}")
            self.answer.value = box(f"<strong>Something went wrong.</strong> {text}", "--jp-error-color1")

    def _repr_mimebundle_(self, **kwargs: Any) -> MimeBundle | None:  # noqa: ANN401  # IPython's own
        """Give the panel; and for pages that run no widget the question, with its answer folded away."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = cast("MimeBundle", bundle if isinstance(bundle, tuple) else (bundle, {}))
        seen = fallback(self.timeline.still, self.timeline.cursor)
        still = {**seen, "text/plain": repr(self.prediction), "text/html": self._still(seen["text/html"])}
        return {**data, **still}, metadata

    def _still(self, seen: str) -> str:
        whole = timeline.html(self.whole)
        asked = self.prediction._repr_html_()
        return f"{asked}{seen}<details><summary>The whole run</summary>{whole}</details>"


def _asked(prediction: Prediction, more: str = "") -> str:
    return box(f"<strong>Predict.</strong> {prose(prediction.question)}{more}", "--jp-brand-color1")


def _plain(text: str) -> str:
    """Return text without backquotes: a radio button's label has no markup."""
    return text.replace("`", "")
