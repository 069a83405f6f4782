"""What an export reads: a run, and the timeline's view of it, each made once and only when a format asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from vnmi_lab import timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vnmi_lab.timeline import Payload, TraceLike
    from vnmi_lab.trace import Step

Run: TypeAlias = "TraceLike | Payload"
"""A finished run: a trace, or the payload that ``timeline.build`` made of one."""

LONGEST_NAME = 60


class Source:
    """A run as the formats see it: whole, also where a notebook still hides its end from a learner."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._payload: Payload | None = None

    @property
    def title(self) -> str:
        """What the run is about."""
        return str(self._run["title"]) if isinstance(self._run, Mapping) else self._run.title

    @property
    def payload(self) -> Payload:
        """The run as lanes; ``ValueError`` for a run without a step."""
        if self._payload is None:
            made = dict(self._run) if isinstance(self._run, Mapping) else timeline.build(self._run)
            self._payload = {**made, "visible_until": None}
        return self._payload

    @property
    def trace(self) -> TraceLike:
        """The run itself; ``ValueError`` where only its payload is at hand."""
        if isinstance(self._run, Mapping):
            raise ValueError(  # noqa: TRY004 - it is the run that lacks something
                "this format needs the trace; a timeline's payload does not hold every state exactly"
            )
        return self._run

    def steps(self) -> Iterator[Step]:
        """Yield the steps in order."""
        return (self.trace[index] for index in range(len(self.trace)))


def slug(title: str) -> str:
    """Give a title as a file name for every system: ``v1~plain~vnmi~nmi@work`` is ``vnmi-lab-plain-vnmi-nmi-work``."""
    words = re.sub(r"[^a-z0-9]+", "-", title.lower().removeprefix("v1~")).strip("-")
    return f"vnmi-lab-{words[:LONGEST_NAME].rstrip('-') or 'run'}"


def ascii_line(text: str) -> str:
    """Give a text as one line of printable ASCII; whatever else it has becomes a question mark."""
    return re.sub(r"[^\x20-\x7e]", "?", " ".join(text.split()))
