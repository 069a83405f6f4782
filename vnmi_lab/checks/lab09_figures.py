"""Lab 09, what it costs: the tables and the plot, all counted by the machine while it runs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

from vnmi_lab.checks.tables import Grid
from vnmi_lab.checks.text import Note
from vnmi_lab.compare import measure
from vnmi_lab.costs import COSTS
from vnmi_lab.guest import Guest
from vnmi_lab.hv.profiles import POLICIES
from vnmi_lab.kvm import Kvm
from vnmi_lab.library import find
from vnmi_lab.sweep import Point, Table, compile_table, plot, point
from vnmi_lab.trace import Trace

# --- tables ---------------------------------------------------------------------------------------------------------

PRICED = (
    "one-halted",
    "one",
    "two-before-entry",
    "two-at-once",
    "in-handler",
    "storm",
    "shadow",
    "shadow-two",
    "gif-two",
)
"""Scenarios of the library that stand in the price list."""
KINDS = {"kicks": "kick", "iret": "IRET", "db": "#DB", "stgi": "STGI"}
"""Fields of a row of ``compare``, and what an exit of this kind is called."""
RESTING = 400
"""Steps within which every run of this lab is at rest."""


def prices() -> Grid:
    """Count the exits of the library's scenarios under IRET interception and under vNMI."""
    lines = tuple(
        (name, str(measure(find(name).on("vnmi")).delivered), *(spent(name, policy) for policy in ("legacy", "vnmi")))
        for name in PRICED
    )
    return Grid("Exits until the guest rests; its own HLT is left out", ("scenario", "NMIs", "legacy", "vNMI"), lines)


def spent(name: str, policy: str) -> str:
    """Return the exits of a scenario in words: "2 kick, 1 IRET"."""
    row = measure(find(name).on(policy))
    return ", ".join(f"{count} {word}" for field, word in KINDS.items() if (count := getattr(row, field))) or "none"


def counters(*names: str) -> Grid:
    """Read KVM's counters at the end of scenarios of the library, beside what really became of the NMIs."""
    lines = []
    for name in names:
        for policy in ("legacy", "vnmi"):
            row, windows = measure(find(name).on(policy)), window_exits(name, policy)
            lines.append((f"{name}, {policy}", *map(str, (row.arrived, row.delivered, row.injections, windows))))
    head = ("scenario, policy", "NMIs sent", "delivered", "nmi_injections", "nmi_window_exits")
    return Grid("What KVM counts, and what happened", head, tuple(lines))


def window_exits(name: str, policy: str) -> int:
    """Return KVM's ``nmi_window_exits`` at the end of a scenario."""
    machine = find(name).on(policy).machine()
    assert isinstance(machine, Kvm)
    trace = Trace(machine, "", RESTING)
    end = trace.goto(len(trace))
    assert isinstance(end, Kvm)
    return end.vcpu.nmi_window_exits


def assumptions() -> Grid:
    """Return the parameters of the cost model, each with its source or the word "assumed"."""
    lines = tuple((name, f"{cost.cycles:,.0f}", cost.source) for name, cost in COSTS.items())
    return Grid("The cost model", ("parameter", "cycles", "source"), lines)


# --- rates ----------------------------------------------------------------------------------------------------------

ROUND = Guest.of("again: nop\n nop\n nop\n jmp again", {2: "nop\n nop\n iretq"}, tail="hlt")
"""Works for ever; it is short, so that the table of its states is made in no time."""
ARRIVALS = 5_000
POLICIES_SHOWN = ("legacy", "vnmi")
INK = "#010203"
"""Stands for the colour of the text around the plot while matplotlib draws it."""
STYLE: dict[Any, Any] = {  # the keys that matplotlib knows
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "vnmi_lab",  # the same plot has the same names in it each time
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
MISSING = (
    "The plot needs numpy and matplotlib, and `{name}` is not installed here. The lab goes on without it; its shape is "
    "described below."
)


@cache
def _table(policy: str) -> Table:
    return compile_table(POLICIES[policy], ROUND)


def over_rates(*rates: float) -> Rates | Note:
    """Simulate both policies at each rate, in NMIs for each 1,000 steps; one line where a package is missing."""
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - only a plot needs it
        import numpy as np  # noqa: F401, PLC0415 - only a sweep needs it
    except ImportError as error:
        return Note("No plot", MISSING.format(name=error.name or "one of them"))
    return Rates(tuple(point(_table(p), rate, ARRIVALS) for p in POLICIES_SHOWN for rate in rates))


@dataclass(frozen=True, slots=True, repr=False)
class Rates:
    """A plot over the arrival rate, with the same figures as a table below it."""

    points: tuple[Point, ...]

    @property
    def grid(self) -> Grid:
        """The figures."""
        lines = tuple(
            (f"{p.policy}, {p.rate:g}", f"{p.extra_exits:.2f}", f"{p.delivered:.2f}", f"{p.cycles:,.0f}")
            for p in self.points
        )
        head = ("policy, NMIs for each 1,000 steps", "extra exits for each NMI", "share delivered", "cycles (model)")
        return Grid("Exits over the arrival rate", head, lines)

    def __repr__(self) -> str:
        """Return the figures for a terminal."""
        return repr(self.grid)

    def _repr_html_(self) -> str:
        return (
            f'<figure style="margin:0;max-width:70em">{self.svg()}</figure>'
            f"<details><summary>The figures as a table</summary>{self.grid.html()}</details>"
        )

    def svg(self) -> str:
        """Draw the plot in the colour of the text around it."""
        import matplotlib as mpl  # noqa: PLC0415 - only a plot needs it

        held = io.StringIO()
        with mpl.rc_context(STYLE):
            plot(self.points).savefig(held, format="svg", transparent=True, metadata={"Date": None})
        text = held.getvalue()
        drawn = text[text.index("<svg") :].replace(INK, "currentColor")
        return drawn.replace("<svg", f'<svg role="img" aria-label="{escape(self.said())}" style="width:100%"', 1)

    def said(self) -> str:
        """Say in a sentence what is to be seen."""
        lines = [f"{p.policy} at {p.rate:g}: {p.extra_exits:.2f}" for p in self.points]
        return f"Three plots over the arrival rate. Extra exits for each NMI, kicks left out: {'; '.join(lines)}."
