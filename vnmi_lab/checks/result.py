"""What a check answers: one of four outcomes, and where the run first left the right path."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Literal, TypeAlias

from vnmi_lab.checks.text import box, listing, prose, wrapped
from vnmi_lab.rules import Rule
from vnmi_lab.trace import Trace

Outcome: TypeAlias = Literal["correct", "incorrect", "not attempted", "raised"]

# What each outcome is called, its sign, and the variable of JupyterLab's theme that colours its edge.
SHOWN: dict[Outcome, tuple[str, str, str]] = {
    "correct": ("Correct", "\N{CHECK MARK}", "--jp-success-color1"),
    "incorrect": ("Incorrect", "\N{MULTIPLICATION X}", "--jp-error-color1"),
    "not attempted": ("Not attempted", "\N{HORIZONTAL ELLIPSIS}", "--jp-border-color1"),
    "raised": ("Your code raised", "!", "--jp-warn-color1"),
}


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first step at which a run is not what was asked for: expected, actual, and the rule that made it so."""

    step: int
    text: str
    field: str
    expected: str
    actual: str
    rule: Rule

    @classmethod
    def at(cls, trace: Trace, step: int, field: str, *, expected: object, actual: object, rule: str) -> Divergence:
        """Describe step ``step`` of a trace; ``rule`` is an id of the trace's rules."""
        return cls(step, trace[step].text, field, str(expected), str(actual), trace.rules[rule])

    def __str__(self) -> str:
        """Return where and what."""
        return f"Step {self.step} ({self.text}): `{self.field}` expected {self.expected}, actual {self.actual}."

    @property
    def because(self) -> str:
        """The rule that made it so, with its source and how sure it is."""
        return f"{self.rule.sentence} [{self.rule.id}; {self.rule.source}; grade: {self.rule.grade}]"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the machine says about an answer that could be run."""

    ok: bool
    message: str
    trace: Trace | None = None
    divergence: Divergence | None = None


def right(message: str, trace: Trace | None = None) -> Verdict:
    """Return the verdict on an answer that does what was asked."""
    return Verdict(ok=True, message=message, trace=trace)


def wrong(message: str, trace: Trace | None = None, divergence: Divergence | None = None) -> Verdict:
    """Return the verdict on an answer that does not."""
    return Verdict(ok=False, message=message, trace=trace, divergence=divergence)


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """The answer of ``check``: shown as text in a terminal, as a note in a notebook.

    ``trace`` is the run of the learner's answer, for whoever wants to open it at ``divergence``; ``line`` is the
    learner's own line that raised.
    """

    exercise: str
    outcome: Outcome
    message: str
    line: str = ""
    divergence: Divergence | None = None
    trace: Trace | None = field(default=None, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the answer is correct."""
        return self.outcome == "correct"

    def __repr__(self) -> str:
        """Return the result for a terminal."""
        word, _sign, _colour = SHOWN[self.outcome]
        lines = [wrapped(f"{word}: {self.message}")]
        if self.line:
            lines.append(f"    {self.line}")
        if self.divergence:
            lines += [wrapped(str(self.divergence), "  "), wrapped(self.divergence.because, "  ")]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        word, sign, colour = SHOWN[self.outcome]
        inner = f'<strong><span aria-hidden="true">{sign}</span> {escape(word)}.</strong> {prose(self.message)}'
        if self.line:
            inner += listing(self.line)
        if self.divergence:
            inner += f'<p style="margin:.4em 0 0">{prose(str(self.divergence))}<br>{prose(self.divergence.because)}</p>'
        return box(inner, colour, outcome=self.outcome, exercise=self.exercise)
