"""What the checks and predictions ask of a run: counts, places, and the first step at which something happens."""

from __future__ import annotations

from collections.abc import Iterator

from vnmi_lab.hw.events import Arrived, Delivered, Event, IretRetired, Taken, VmExit
from vnmi_lab.trace import Step, Trace

NMI = 2
"""The vector of an NMI."""


def events(trace: Trace) -> Iterator[tuple[Step, Event]]:
    """Yield every event of a run with its step."""
    return ((step, event) for step in trace for event in step.events)


def entries(trace: Trace, vector: int = NMI) -> list[Step]:
    """Return the steps that entered the handler of a vector."""
    return [step for step, event in events(trace) if isinstance(event, Delivered) and event.vector == vector]


def taken(trace: Trace, source: str) -> list[Step]:
    """Return the steps at which the processor took an event from a source: "nmi", "injection", "intr", ..."""
    return [step for step, event in events(trace) if isinstance(event, Taken) and event.source == source]


def arrived(trace: Trace, source: str = "nmi") -> list[Step]:
    """Return the step of every arrival; ten that come at once give the same step ten times."""
    return [step for step, event in events(trace) if isinstance(event, Arrived) and event.source == source]


def merged(trace: Trace) -> list[Step]:
    """Return the step of every NMI that merged into one already pending."""
    return [step for step, event in events(trace) if isinstance(event, Arrived) and event.coalesced]


def irets(trace: Trace) -> list[Step]:
    """Return the steps at which an IRET completed."""
    return [step for step, event in events(trace) if isinstance(event, IretRetired)]


def exits(trace: Trace) -> list[tuple[Step, VmExit]]:
    """Return every #VMEXIT with its step."""
    return [(step, event) for step, event in events(trace) if isinstance(event, VmExit)]


def number(step: Step, field: str) -> int:
    """Return a field of the state after a step, 0 where there is no such field."""
    value = step.state.get(field)
    return value if isinstance(value, int) else 0


def depth(step: Step) -> int:
    """Return how many NMI handlers are entered and not left after a step."""
    return number(step, "handler_depth")


def deepest(trace: Trace) -> Step:
    """Return the first of the steps with the most NMI handlers entered."""
    return max(trace, key=depth)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 NMI", "2 NMIs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def times(count: int) -> str:
    """Return how often: "once", "twice", "3 times"."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
