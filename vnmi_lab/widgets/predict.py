"""A prediction as a panel: the question, the run up to it, and after the answer the rest of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any, assert_never, cast

import ipywidgets as widgets

from vnmi_lab import timeline
from vnmi_lab.checks import Note, PlaceFlag, Prediction, Reveal, SetBits, progress
from vnmi_lab.checks.asked import Earlier
from vnmi_lab.checks.placing import NEVER
from vnmi_lab.checks.prediction import lettered
from vnmi_lab.checks.text import box, prose
from vnmi_lab.widgets.answer import Answer
from vnmi_lab.widgets.button import Button
from vnmi_lab.widgets.timeline import MimeBundle, Timeline, fallback

NEVER_SAID = "It never happens"
YOU_SAY_NEVER = "You say: it never happens."
STOPS = "The picture stops at the question."


class Predict(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Asks before it shows. ``reveal`` holds what was said and what is so, None before the answer.

    The rest of the run is not even sent to the page before "Check", which needs an answer, or "Skip, show me", which is
    recorded as skipped. What was said stays on the page beside what is so: in the list, and as flags on the timeline.
    What was answered before the kernel was restarted is shown as it was; "Ask me again" asks anew.
    """

    def __init__(self, prediction: Prediction | PlaceFlag | SetBits) -> None:
        """Ask ``prediction``."""
        self.prediction = prediction
        self.reveal: Reveal | None = None
        self.timeline = Timeline(prediction.shown(), cursor=prediction.cursor())
        self.trace = prediction.trace()
        self.whole = timeline.build(self.trace)
        self.check = Button(self._check, description="Check", primary=True, disabled=True)
        self.skip = Button(self._skip, description="Skip, show me", tooltip="Recorded as skipped")
        self.answer = widgets.HTML()
        self.again = Button(self._anew, description="Ask me again", tooltip="Your first answer stays in your progress")
        nowhere = {"placed": None}
        self.never = Button(self._say_never, description=NEVER_SAID, tooltip="In the place of a flag", says=nowhere)
        self.question, place = widgets.HTML(), widgets.Layout(margin="0 0 8px 1em", flex_flow="row wrap")
        self.buttons = widgets.HBox([self.never, self.check, self.skip, self.again], layout=place)
        super().__init__([])
        self.add_class("vnmi-predict")
        self._ask()
        if (earlier := prediction.earlier()) is not None:
            self._recall(earlier)

    def _ask(self) -> None:
        """Ask, with nothing said yet."""
        prediction = self.prediction
        self._ready(is_ready=False)
        self.choice, self.say, hint = self._input(prediction)
        self.timeline.flags = [tuple(flag) for flag in prediction.given()]
        self.question.value = _asked(prediction.question, f" <em>{hint}</em>")
        self._offer(self.check, self.skip, *([self.never] if isinstance(prediction, PlaceFlag) else []))
        self.children = [self.question, self.choice, self.buttons, self.answer, self.timeline]

    def _anew(self, _said: Mapping[str, Any]) -> None:
        """Ask again: the rest of the run is taken off the page."""
        self.reveal, self.answer.value = None, ""
        self.timeline.unobserve_all("placed")
        shown = self.prediction.shown()
        self.timeline.put(timeline.build(shown), shown)
        self.timeline.cursor = self.prediction.cursor()
        self._ask()

    def _recall(self, earlier: Earlier) -> None:
        """Show an answer that was given before, and what was revealed to it."""
        answer = earlier.answer
        if isinstance(self.choice, Answer) and answer is not None:
            self.choice.set_trait("value" if isinstance(answer, str) else "word", answer)
        elif isinstance(answer, int):
            self.timeline.placed = answer
        elif answer == NEVER:
            self.choice.value = _place(YOU_SAY_NEVER)
        self._show(earlier.reveal)
        self._offer(self.again)

    def _offer(self, *buttons: Button) -> None:
        """Show these buttons and no other."""
        for button in self.buttons.children:
            button.layout.display = None if button in buttons else "none"

    def _input(self, prediction: Prediction | PlaceFlag | SetBits) -> tuple[widgets.Widget, Callable[[], Reveal], str]:
        """Return what the prediction is answered with, how it is said, and what to do."""
        match prediction:
            case Prediction():
                return self._choices(prediction)
            case SetBits():
                return self._bits(prediction)
            case PlaceFlag():
                return self._flag(prediction)
            case _:
                assert_never(prediction)

    def _choices(self, prediction: Prediction) -> tuple[widgets.Widget, Callable[[], Reveal], str]:
        options = [(letter, option.text) for letter, option in lettered(prediction.options)]
        choice = Answer(legend="Your prediction", options=options)
        choice.observe(lambda change: self._ready(is_ready=change["new"] is not None), "value")
        return choice, lambda: prediction.choose(str(choice.value)), STOPS

    def _bits(self, prediction: SetBits) -> tuple[widgets.Widget, Callable[[], Reveal], str]:
        bits = [(bit.number, bit.name) for bit in prediction.bits]
        choice = Answer(legend="Your prediction", bits=bits, name=prediction.word, word=prediction.start())
        self._ready(is_ready=True)  # that nothing changes is an answer, too
        return choice, lambda: prediction.set(choice.word), f"{STOPS} Set or clear the bits."

    def _flag(self, prediction: PlaceFlag) -> tuple[widgets.Widget, Callable[[], Reveal], str]:
        placed = widgets.HTML(_place("Your flag is not placed yet."))
        seen = prediction.run_seen()
        self.timeline.placing = prediction.flag

        def place(change: dict[str, Any]) -> None:
            step = change["new"]
            self._ready(is_ready=step is not None)
            if step is not None:
                placed.value = _place(f"Your flag stands before step {step}: `{seen[step].text}`.")

        def say() -> Reveal:
            step = self.timeline.placed
            return prediction.never() if step is None else prediction.place(step)

        self.timeline.observe(place, "placed")
        return placed, say, "Place your flag on this run, or say that it never happens."

    def _say_never(self, _said: Mapping[str, Any]) -> None:
        """Take the flag away, and let that be the answer."""
        self.timeline.placed = None
        self.choice.value = _place(YOU_SAY_NEVER)
        self._ready(is_ready=True)

    def _ready(self, *, is_ready: bool) -> None:
        self.check.disabled = not is_ready

    def _check(self, said: Mapping[str, Any]) -> None:
        """Answer with what was said on the page; its own message may still be on its way."""
        if self.reveal is not None:
            return
        if isinstance(self.choice, Answer):
            self.choice.take(said)
        elif said == self.never.says:
            self._say_never(said)
        else:
            self.timeline.point(said.get("placed"))
        if not self.check.disabled:
            self._answer(self.say)

    def _skip(self, _said: Mapping[str, Any]) -> None:
        self._answer(self.prediction.skip)

    def _answer(self, say: Callable[[], Reveal]) -> None:
        """Record the answer and show the rest; an error is shown in the panel, where it would otherwise vanish.

        The first answer stands: a second click may be on its way before the buttons are gone.
        """
        if self.reveal is not None:
            return
        said: list[str] = []
        try:
            with progress.heard(said.append):
                reveal = say()
            self._show(reveal, *said)
        except Exception as error:  # noqa: BLE001  # whatever went wrong, the learner must see it
            text = escape(f"{type(error).__name__}: {error}")
            self.answer.value = box(f"<strong>Something went wrong.</strong> {text}", "--jp-error-color1")

    def _show(self, reveal: Reveal, *messages: str) -> None:
        self.reveal = reveal
        notes = [Note("Progress", message)._repr_html_() for message in messages]
        self.answer.value = "".join([reveal._repr_html_(), *notes])  # Jupyter's name for this promise
        with self.timeline.hold_sync():
            self.timeline.placing, self.timeline.placed = "", None
            self.timeline.flags = [tuple(flag) for flag in reveal.flags]
            self.timeline.put(self.whole, self.trace)
            if reveal.flags:
                self.timeline.cursor = reveal.flags[0].step
        self.question.value = _asked(self.prediction.question)
        self.choice.disabled = True
        self._offer()

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


def _asked(question: str, more: str = "") -> str:
    return box(f"<strong>Predict.</strong> {prose(question)}{more}", "--jp-brand-color1")


def _place(text: str) -> str:
    return f'<div class="vnmi-placed" role="status">{prose(text)}</div>'
