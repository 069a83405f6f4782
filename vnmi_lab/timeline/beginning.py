"""The beginning of a long run: what a screen shows first, while the rest is still being read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vnmi_lab.timeline.build import build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vnmi_lab.guest import CodeLine
    from vnmi_lab.rules import Rule
    from vnmi_lab.timeline.build import Payload
    from vnmi_lab.trace import AnyMachine, Step, Trace

FIRST = 128
"""So many steps are read first: more than a screen shows at once."""
LONG = 240
"""A run of up to so many steps is read at once: in two parts it would take longer."""


class Beginning:
    """The first steps of a run, as a run."""

    def __init__(self, trace: Trace, steps: int) -> None:
        """Take the first ``steps`` of ``trace``."""
        self._trace, self._steps = trace, steps

    @property
    def title(self) -> str:
        """What the run is about."""
        return self._trace.title

    @property
    def code(self) -> Sequence[CodeLine]:
        """The guest's disassembly."""
        return self._trace.code

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Rules by id."""
        return self._trace.rules

    def __len__(self) -> int:
        """Return the number of steps."""
        return self._steps

    def __getitem__(self, index: int) -> Step:
        """Return one step."""
        return self._trace[index]

    def goto(self, position: int) -> AnyMachine:
        """Return the machine as it stood before a step."""
        return self._trace.goto(position)


def beginning(trace: Trace, steps: int = FIRST) -> Payload:
    """Give the payload of a run's first steps; its ``whole`` says how many the run has."""
    return build(Beginning(trace, steps)) | {"whole": len(trace)}
