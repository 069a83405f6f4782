"""Practice without end as a panel: the guest, the prediction, and a button that brings the next problem."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, cast

import ipywidgets as widgets

from vnmi_lab.checks.practice import LEVELS, Problem, problem
from vnmi_lab.widgets.button import Button
from vnmi_lab.widgets.predict import Predict
from vnmi_lab.widgets.timeline import MimeBundle


class Practice(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A problem to be answered before its run is shown; ``problem`` is the one on the page, ``panel`` asks it."""

    problem: Problem
    panel: Predict

    def __init__(self, first: Problem) -> None:
        """Ask ``first``."""
        self.next = Button(self._next, description="Next problem", tooltip="The problem of the next seed")
        self.next.layout = widgets.Layout(width="auto", align_self="flex-start", margin="0 0 8px 1em")
        self._shown: tuple[widgets.Widget, ...] = ()
        super().__init__()
        self.add_class("vnmi-practice")
        self._ask(first)

    def _next(self, _said: Mapping[str, Any]) -> None:
        self._ask(self.problem.following())

    def _ask(self, asked: Problem) -> None:
        self.problem, self.panel = asked, Predict(asked.asked)
        before, self._shown = self._shown, (widgets.HTML(_about(asked)), self.panel)
        self.children = (*self._shown, self.next)
        for child in before:
            child.close()

    def __repr__(self) -> str:
        """Return the problem for a terminal."""
        return repr(self.problem)

    def _repr_mimebundle_(self, **kwargs: Any) -> MimeBundle | None:  # noqa: ANN401  # IPython's own
        """Give the panel; and for pages that run no widget the problem, with its answer folded away."""
        bundle, still = super()._repr_mimebundle_(**kwargs), self.panel._repr_mimebundle_(**kwargs)
        if bundle is None or still is None:
            return None
        data, metadata = cast("MimeBundle", bundle if isinstance(bundle, tuple) else (bundle, {}))
        listing = f"<pre>{escape(self.problem.listing)}</pre>"
        html = f"{_about(self.problem)}{listing}{still[0]['text/html']}"
        return {**still[0], **data, "text/plain": repr(self), "text/html": html}, metadata


def practice(seed: int = 1, level: int = 1) -> Practice:
    """Ask the problem of a seed at a level from 1 to 5: what happens, where, how often, which bits, or which bug.

    The same seed and level give the same problem. ``ValueError`` in one line for a seed or level that cannot be.
    """
    return Practice(problem(seed, level))


def _about(asked: Problem) -> str:
    return f"<div><strong>{escape(asked.id)}</strong>, level {asked.level}: {escape(LEVELS[asked.level].about)}</div>"
