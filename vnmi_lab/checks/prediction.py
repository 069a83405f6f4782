"""A prediction: a question about a run before it is shown. The machine has the answer, not this file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from vnmi_lab.checks.text import box, prose, wrapped
from vnmi_lab.trace import AnyMachine, Trace

Said: TypeAlias = Literal["right", "wrong", "skipped"]

# How each is headed, and the variable of JupyterLab's theme that colours its edge.
HEADINGS: dict[Said, tuple[str, str]] = {
    "right": ("You predicted it", "--jp-success-color1"),
    "wrong": ("The machine does something else", "--jp-warn-color1"),
    "skipped": ("Skipped", "--jp-border-color1"),
}
LONGEST = 48
"""Steps of a run that a prediction is about; enough to see that one never ends."""


@dataclass(frozen=True, slots=True)
class Option:
    """One answer to choose: ``value`` is what the run would measure if it were true, ``why`` what is (or is not) so."""

    text: str
    value: object
    why: str


@dataclass(frozen=True, slots=True, repr=False)
class Reveal:
    """What was said, what is so, and why each option is right or wrong."""

    options: tuple[Option, ...]
    chosen: str | None
    answer: str
    said: Said

    def lines(self) -> list[tuple[str, str, Option]]:
        """Return each option with its letter and the mark that it gets."""
        marks = {self.answer: "the machine does this"}
        if self.chosen:
            marks[self.chosen] = f"you said this, and {marks[self.answer]}" if self.said == "right" else "you said this"
        return [(letter, marks.get(letter, ""), option) for letter, option in lettered(self.options)]

    def __repr__(self) -> str:
        """Return it for a terminal."""
        heading, _colour = HEADINGS[self.said]
        said = [(f"{at}. {option.text}", f" [{mark}]" if mark else "", option.why) for at, mark, option in self.lines()]
        return "\n".join([f"{heading}.", *(wrapped(f"{text}{mark} {why}") for text, mark, why in said)])

    def _repr_html_(self) -> str:
        heading, colour = HEADINGS[self.said]
        return box(f"<strong>{heading}.</strong>{_rows(self.lines())}", colour, said=self.said)


def _rows(lines: list[tuple[str, str, Option]]) -> str:
    rows = "".join(_row(*line) for line in lines)
    return f'<ul style="list-style:none;margin:.4em 0 0;padding:0">{rows}</ul>'


def _row(letter: str, mark: str, option: Option) -> str:
    label = f" <strong>({mark})</strong>" if mark else ""
    return f'<li style="margin:.35em 0">{letter}. <em>{prose(option.text)}</em>{label}<br>{prose(option.why)}</li>'


@dataclass(slots=True, repr=False)
class Prediction:
    """A question with options; ``measure`` finds in the run of ``scene`` the value that makes one of them true.

    ``until`` gives the last step that may be seen before the answer. ``record`` keeps what was said, in order.
    """

    id: str
    question: str
    options: tuple[Option, ...]
    scene: Callable[[], AnyMachine]
    measure: Callable[[Trace], object]
    until: Callable[[Trace], int]
    title: str = ""
    record: list[Said] = field(default_factory=list)

    def trace(self) -> Trace:
        """Return the run that is asked about."""
        return Trace(self.scene().fresh(), self.title, limit=LONGEST)

    def answer(self) -> str:
        """Return the letter of the option that the machine makes true."""
        value = self.measure(self.trace())
        return next(letter for letter, option in lettered(self.options) if option.value == value)

    def choose(self, letter: str) -> Reveal:
        """Say that option ``letter`` is the true one; ``ValueError`` when there is no such option."""
        chosen = letter.strip().upper()
        known = [known for known, _option in lettered(self.options)]
        if chosen not in known:
            msg = f"choose one of {', '.join(known)}, not {letter!r}"
            raise ValueError(msg)
        answer = self.answer()
        return self._reveal(chosen, answer, "right" if chosen == answer else "wrong")

    def skip(self) -> Reveal:
        """Show the answer without a prediction; recorded as skipped, never as right."""
        return self._reveal(None, self.answer(), "skipped")

    def _reveal(self, chosen: str | None, answer: str, said: Said) -> Reveal:
        self.record.append(said)
        return Reveal(self.options, chosen, answer, said)

    def __repr__(self) -> str:
        """Return the question for a terminal."""
        options = [f"  {letter}. {option.text}" for letter, option in lettered(self.options)]
        return "\n".join([wrapped(self.question), *options, 'Answer with .choose("A"), or .skip() to see it.'])

    def _repr_html_(self) -> str:
        """Return question, options and answer for a page where nothing can be clicked."""
        rows = "".join(f"<li>{letter}. {prose(option.text)}</li>" for letter, option in lettered(self.options))
        reveal = _rows(Reveal(self.options, None, self.answer(), "skipped").lines())
        return box(
            f'<p><strong>Predict.</strong> {prose(self.question)}</p><ul style="list-style:none">{rows}</ul>'
            f"<details><summary>What the machine does</summary>{reveal}</details>",
            "--jp-brand-color1",
        )


def lettered(options: tuple[Option, ...]) -> list[tuple[str, Option]]:
    """Return each option with its letter."""
    return list(zip("ABCDEFGH", options, strict=False))
