"""The animated timeline in a notebook: one payload goes to the browser, and nothing more is needed there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import traitlets

from vnmi_lab import timeline
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import BareMetal, Host
from vnmi_lab.timeline import TraceLike
from vnmi_lab.widgets.export import Saving
from vnmi_lab.widgets.turn import TURN

MimeBundle: TypeAlias = "tuple[dict[str, Any], dict[str, Any]]"

fallback = timeline.bundle
"""What every panel gives a page that runs no widget."""


def titled(machine: BareMetal | Host | Kvm) -> str:
    """Say what the run of a machine is called that nobody gave a title."""
    if isinstance(machine, Kvm):
        return f"A guest under KVM: {machine.ops.name}"
    return "A run on bare metal" if isinstance(machine, BareMetal) else "A guest under a host that follows a script"


class Timeline(Saving):
    """Play, step and scrub through a finished run: a trace, or what ``timeline.build`` made of one.

    ``cursor`` is the step shown, both ways. Steps after ``visible_until`` are neither drawn nor reached; None lifts
    that. ``flags`` stand on the chart as (step, "given" or "you" or "machine", text). While ``placing`` says what is to
    be placed, the reader points at a step, which is ``placed`` then. Timelines of one page with the same ``link`` move
    together, without the kernel: step by step where the runs are equally long, else so many steps after the same
    stimulus. ``lint=False`` leaves out the lane of broken rules.
    """

    _esm = timeline.script("timeline")
    _css = timeline.asset("player.css")
    cursor = traitlets.Int(0, min=0).tag(sync=True)
    visible_until = traitlets.Int(None, allow_none=True, min=0).tag(sync=True)
    flags = traitlets.List(traitlets.Tuple(traitlets.Int(), traitlets.Unicode(), traitlets.Unicode())).tag(sync=True)
    placing = traitlets.Unicode("").tag(sync=True)
    placed = traitlets.Int(None, allow_none=True, min=0).tag(sync=True)
    link = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        run: TraceLike | Mapping[str, Any],
        *,
        cursor: int = 0,
        visible_until: int | None = None,
        link: str = "",
        lint: bool = True,
    ) -> None:
        if isinstance(run, Mapping) and run.get("version") != timeline.VERSION:
            msg = f"this is no payload that timeline.build made: its version is {run.get('version')!r}"
            raise ValueError(msg)
        if not isinstance(run, Mapping):
            timeline.expect_length(run)
        elif visible_until is None:
            visible_until = run["visible_until"]
        # opened before anything is read, so that the page meanwhile loads the player
        super().__init__(cursor=cursor, visible_until=visible_until, link=link)
        self.lint = lint
        if isinstance(run, Mapping):
            self.put(dict(run))
        else:
            self.open_run(run, cursor)
        self.on_msg(self._asked)
        self.on_msg(self._pointed)

    def _pointed(self, _widget: object, content: object, _buffers: object) -> None:
        if isinstance(content, Mapping):
            with TURN:
                self.point(content.get("placed"))

    def point(self, step: object) -> None:
        """Take the step that the reader pointed at, while one is to be placed; what is no step is left out."""
        if self.placing and isinstance(step, int):
            self.placed = min(max(0, step), self.payload["steps"] - 1)

    @property
    def still(self) -> timeline.Payload:
        """The payload as it may be seen now; of a run of which only the beginning is sent so far, that."""
        return {**self._payload, "visible_until": self.visible_until, "flags": self.flags}

    def _repr_mimebundle_(self, **kwargs: Any) -> MimeBundle | None:  # noqa: ANN401 - IPython's own
        """Give the widget, and for pages that run none: a sentence, pictures, and picture with table as HTML."""
        bundle = cast("MimeBundle | None", super()._repr_mimebundle_(**kwargs))
        return bundle and ({**bundle[0], **fallback(self.still, self.cursor or None)}, bundle[1])
