"""Policies side by side in a notebook: one payload goes to the browser, and nothing more is needed there."""

from __future__ import annotations

from collections.abc import Sequence

from vnmi_lab import timeline
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hw.bits import expect
from vnmi_lab.library import LIBRARY, find
from vnmi_lab.scenario import Scenario
from vnmi_lab.timeline import sidestill
from vnmi_lab.timeline.side import side
from vnmi_lab.widgets.view import View


class Compare(View):
    """Play, step and scrub through the runs of several policies, aligned by what arrives and what the guest does.

    ``cursor`` is the column shown, both ways; ``payload`` is what ``timeline.side.side`` gives.
    """

    _esm = timeline.script("compare")

    def fallback(self) -> dict[str, str]:
        """Give a sentence, pictures, and picture with tables as HTML."""
        return sidestill.bundle(self.payload)


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
