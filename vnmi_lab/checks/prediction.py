"""A prediction by choice: a question about a run before it is shown. The machine has the answer, not this file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vnmi_lab.checks.asked import DOES, LONGEST, SAYS, Asked, Beginning, Line, Reveal, Said
from vnmi_lab.checks.text import prose, wrapped
from vnmi_lab.trace import AnyMachine, Trace

__all__ = ["LONGEST", "Option", "Prediction", "lettered"]


@dataclass(frozen=True, slots=True)
class Option:
    """One answer to choose: ``value`` is what the run would measure if it were true, ``why`` what is (or is not) so."""

    text: str
    value: object
    why: str


@dataclass(slots=True, repr=False)
class Prediction(Asked):
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

    def shown(self) -> Beginning:
        """Return the run up to the question."""
        trace = self.trace()
        return Beginning(trace, self.until(trace) + 1)

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
        return self.told(self._reveal(chosen), "choose", answer=chosen)

    def retold(self, answer: str | int | None) -> Reveal | None:
        """Return what was revealed to a letter."""
        is_one = answer is None or answer in dict(lettered(self.options))
        return self._reveal(None if answer is None else str(answer)) if is_one else None

    def _reveal(self, chosen: str | None) -> Reveal:
        answer = self.answer()
        marks = {answer: DOES}
        if chosen:
            marks[chosen] = f"{SAYS}, and {DOES}" if chosen == answer else SAYS
        lines = [Line(f"{at}.", option.text, marks.get(at, ""), option.why) for at, option in lettered(self.options)]
        said: Said = "skipped" if chosen is None else "right" if chosen == answer else "wrong"
        return Reveal(said, tuple(lines))

    def asks(self) -> str:
        """Return the options."""
        rows = "".join(f"<li>{letter}. {prose(option.text)}</li>" for letter, option in lettered(self.options))
        return f'<ul style="list-style:none">{rows}</ul>'

    def __repr__(self) -> str:
        """Return the question for a terminal."""
        options = [f"  {letter}. {option.text}" for letter, option in lettered(self.options)]
        return "\n".join([wrapped(self.question), *options, 'Answer with .choose("A"), or .skip() to see it.'])


def lettered(options: tuple[Option, ...]) -> list[tuple[str, Option]]:
    """Return each option with its letter."""
    return list(zip("ABCDEFGH", options, strict=False))
