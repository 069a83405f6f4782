"""What NMIs cost: the same guest and the same arrivals under several policies, counted by the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vnmi_lab.checks.tables import html, plain
from vnmi_lab.compare import Row, compare
from vnmi_lab.guests import Source
from vnmi_lab.machine import Stimulus
from vnmi_lab.scenario import BARE, Scenario

NAMES = {BARE: "bare metal", "blind": "blind injection", "legacy": "IRET interception", "vnmi": "vNMI"}
COLUMNS = {
    "arrived": "NMIs sent",
    "delivered": "delivered",
    "deepest": "deepest nesting",
    "kicks": "kicks",
    "iret": "IRET exits",
    "db": "#DB exits",
}
"""Fields of a row of ``compare``, and what stands above them."""


@dataclass(frozen=True, slots=True, repr=False)
class Costs:
    """A table: a line for each machine, and what it delivered and spent."""

    rows: tuple[Row, ...]

    def __getitem__(self, machine: str) -> Row:
        """Return the line of a machine: "bare", "legacy", "vnmi"."""
        return next(row for row in self.rows if row.machine == machine)

    def _lines(self) -> list[list[str]]:
        head = ["", *COLUMNS.values()]
        return [head, *([NAMES[row.machine], *(str(getattr(row, name)) for name in COLUMNS)] for row in self.rows)]

    def __repr__(self) -> str:
        """Return the table for a terminal."""
        head, *lines = self._lines()
        return plain(head, lines)

    def _repr_html_(self) -> str:
        head, *lines = self._lines()
        return html(head, lines, "vnmi-costs")


def costs(program: str, handler: str, stimuli: Sequence[Stimulus], policies: Sequence[str]) -> Costs:
    """Run a guest with the same arrivals on bare metal and under each policy, and count."""
    source = Source(program, ((2, handler),))
    return Costs(compare(Scenario(source, stimuli=tuple(stimuli)), tuple(policies)).rows)
