"""What all kinds of predictions share: a run that stops at the question, a record of what was said, and the reveal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from vnmi_lab.checks import progress
from vnmi_lab.checks.record import Kind
from vnmi_lab.checks.text import box, prose, wrapped
from vnmi_lab.guest import CodeLine
from vnmi_lab.rules import Rule
from vnmi_lab.trace import AnyMachine, Step, Trace

Said: TypeAlias = Literal["right", "wrong", "skipped"]
Whose: TypeAlias = Literal["given", "you", "machine"]

# How each is headed, and the variable of JupyterLab's theme that colours its edge.
HEADINGS: dict[Said, tuple[str, str]] = {
    "right": ("You predicted it", "--jp-success-color1"),
    "wrong": ("The machine does something else", "--jp-warn-color1"),
    "skipped": ("Skipped", "--jp-border-color1"),
}
LONGEST = 48
"""Steps of a run that a prediction is about; enough to see that one never ends."""
DOES, SAYS = "the machine does this", "you said this"


class Flag(NamedTuple):
    """Something that stands on a timeline at a step: given with the question, said by the learner, or so."""

    step: int
    whose: Whose
    text: str


class Line(NamedTuple):
    """One thing that could be said: how it is listed, what it says, whether it is so or was said, and why."""

    lead: str
    text: str
    mark: str
    why: str


@dataclass(frozen=True, slots=True, repr=False)
class Reveal:
    """What was said, what is so, and why each is right or wrong; ``flags`` show both on the run."""

    said: Said
    lines: tuple[Line, ...]
    flags: tuple[Flag, ...] = ()

    def __repr__(self) -> str:
        """Return it for a terminal."""
        heading, _colour = HEADINGS[self.said]
        said = [f"{lead}{' ' if lead else ''}{text}{f' [{m}]' if m else ''} {why}" for lead, text, m, why in self.lines]
        return "\n".join([f"{heading}.", *map(wrapped, said)])

    def _repr_html_(self) -> str:
        heading, colour = HEADINGS[self.said]
        return box(f"<strong>{heading}.</strong>{self.rows()}", colour, said=self.said)

    def rows(self) -> str:
        """Return the lines as an HTML list."""
        return f'<ul style="list-style:none;margin:.4em 0 0;padding:0">{"".join(map(_row, self.lines))}</ul>'


def _row(line: Line) -> str:
    lead = f"{prose(line.lead)} " if line.lead else ""
    label = f" <strong>({line.mark})</strong>" if line.mark else ""
    return f'<li style="margin:.35em 0">{lead}<em>{prose(line.text)}</em>{label}<br>{prose(line.why)}</li>'


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first ``length`` steps of a trace, with nothing in it of what follows."""

    trace: Trace
    length: int

    def __len__(self) -> int:
        """Return the number of steps that may be seen."""
        return self.length

    def __getitem__(self, index: int) -> Step:
        """Return one of them."""
        return self.trace[index]

    @property
    def title(self) -> str:
        """The title of the run."""
        return self.trace.title

    @property
    def code(self) -> tuple[CodeLine, ...]:
        """The guest's listing."""
        return self.trace.code

    @property
    def rules(self) -> dict[str, Rule]:
        """The rules of the machine."""
        return self.trace.rules


class Earlier(NamedTuple):
    """What was answered before, None for a skip, and what was revealed."""

    answer: str | int | None
    reveal: Reveal


class Asked(ABC):
    """A question about a run before it is shown. The machine has the answer, not the question."""

    __slots__ = ()
    id: str
    question: str
    scene: Callable[[], AnyMachine]
    title: str
    record: list[Said]
    """What was said, in order."""

    def trace(self) -> Trace:
        """Return the run that is asked about."""
        return Trace(self.scene().fresh(), self.title, limit=LONGEST)

    def cursor(self) -> int:
        """Return the step of ``shown`` at which the question is asked."""
        return len(self.shown()) - 1

    def given(self) -> tuple[Flag, ...]:
        """Return the flags that stand on ``shown``."""
        return ()

    @abstractmethod
    def shown(self) -> Beginning:
        """Return what may be seen before the answer."""

    @abstractmethod
    def _reveal(self, said: Any, /) -> Reveal:  # noqa: ANN401 - each kind is answered with its own
        """Return what is revealed to what was said, None for a skip."""

    def skip(self) -> Reveal:
        """Show the answer without a prediction; recorded as skipped, never as right."""
        return self.told(self._reveal(None), "skip")

    def truth(self) -> Reveal:
        """Return what is so, without anything being recorded."""
        return self._reveal(None)

    @abstractmethod
    def asks(self) -> str:
        """Return what can be said, as HTML for a page where nothing can be clicked."""

    def told(self, reveal: Reveal, kind: Kind, **answer: str | int) -> Reveal:
        """Record what was said, and how."""
        self.record.append(reveal.said)
        progress.note(self.id, kind, said=reveal.said, **answer)
        return reveal

    def earlier(self) -> Earlier | None:
        """Return the answer that stands, and its reveal: the first one, which may be of an earlier kernel."""
        noted = progress.first_answer(self.id)
        if noted is None:
            return None
        answer = noted.get("answer")
        reveal = self.retold(None if noted.kind == "skip" else answer)
        return None if reveal is None else Earlier(None if noted.kind == "skip" else answer, reveal)

    @abstractmethod
    def retold(self, answer: str | int | None) -> Reveal | None:
        """Return what was revealed to an answer, None for a skip; None if it cannot be an answer (any more)."""

    def _repr_html_(self) -> str:
        """Return question, what can be said, and the answer, for a page where nothing can be clicked."""
        return box(
            f"<p><strong>Predict.</strong> {prose(self.question)}</p>{self.asks()}"
            f"<details><summary>What the machine does</summary>{self.truth().rows()}</details>",
            "--jp-brand-color1",
        )
