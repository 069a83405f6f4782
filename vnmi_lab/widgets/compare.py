"""Policies side by side in a notebook: one payload goes to the browser, and nothing more is needed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import anywidget
import traitlets

from vnmi_lab import timeline
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hw.bits import expect
from vnmi_lab.library import LIBRARY, find
from vnmi_lab.scenario import Scenario
from vnmi_lab.timeline import sidestill
from vnmi_lab.timeline.side import side
from vnmi_lab.widgets.timeline import MimeBundle


class Compare(anywidget.AnyWidget):
    """Play, step and scrub through the runs of several policies, aligned by what arrives and what the guest does.

    ``cursor`` is the column shown, both ways; ``payload`` is what ``timeline.side.side`` gives.
    """

    _esm = timeline.script("compare")
    _css = timeline.asset("player.css") + timeline.asset("views.css")
    payload = traitlets.Dict(read_only=True).tag(sync=True)
    cursor = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(self, payload: Mapping[str, Any], *, cursor: int = 0) -> None:
        super().__init__(cursor=cursor)
        self.set_trait("payload", dict(payload))

    def _repr_mimebundle_(self, **kwargs: Any) -> MimeBundle | None:  # noqa: ANN401 - IPython's own
        """Give the widget, and for pages that run none: a sentence, pictures, and picture with tables as HTML."""
        bundle = cast("MimeBundle | None", super()._repr_mimebundle_(**kwargs))
        return bundle and ({**bundle[0], **sidestill.bundle(self.payload)}, bundle[1])


def side_by_side(
    scenario: Scenario | str, policies: Sequence[str | NmiOps] = ("bare", "legacy", "vnmi"), *, title: str = ""
) -> Compare:
    """Show one scenario under two to four policies; ``bare`` is bare metal, and a policy may be your own record.

    A scenario is a value, a name of the library, or its text form. ``ValueError`` in one line for what is none.
    """
    if isinstance(scenario, str):
        title = title or (LIBRARY[scenario].sentence if scenario in LIBRARY else "")
        scenario = find(scenario)
    expect(scenario, (Scenario,), "side_by_side takes a scenario, its name or its text")
    return Compare(side(scenario, policies, title))
