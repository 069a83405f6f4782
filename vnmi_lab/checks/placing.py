"""A prediction that is made on a timeline: a flag is placed where something is said to happen.

The timeline is that of another run, in which it does not happen, so that nothing of the answer is on the page. Both
runs are compared by the instructions that the guest has executed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vnmi_lab.checks.asked import DOES, LONGEST, SAYS, Asked, Beginning, Flag, Line, Reveal, Said
from vnmi_lab.checks.text import prose, wrapped
from vnmi_lab.trace import AnyMachine, Trace

GUESTS_OWN = ("exec", "deliver")
"""Kinds of steps that are the guest's: an instruction, and the entry of a handler."""


NOT_YET = "There it has not arrived yet."
NEVER = "never"
"""The answer that it does not happen at all."""
SAID_NEVER = "It never happens."


@dataclass(frozen=True, slots=True)
class Spot:
    """A wrong place that people have a reason for: what it is, its step in the run seen, and why it is wrong."""

    text: str
    where: Callable[[Trace], int]
    why: str


@dataclass(slots=True, repr=False)
class PlaceFlag(Asked):
    """Where does it happen? ``measure`` finds its step in the run of ``scene``; the flag is put on ``seen``.

    Where it never happens ``measure`` gives None; whoever said so is right, and nobody is told beforehand.

    ``flag`` says what happens. A place is the moment before a step. ``why`` explains the right one, ``spots`` wrong
    ones with a name, ``early`` and ``late`` any other. ``marks`` are flags in it, the first of them where it arrives.
    """

    id: str
    question: str
    flag: str
    scene: Callable[[], AnyMachine]
    seen: Callable[[], AnyMachine]
    measure: Callable[[Trace], int | None]
    why: str
    early: str
    late: str
    spots: tuple[Spot, ...]
    marks: Callable[[Trace], tuple[Flag, ...]]
    title: str = ""
    seen_title: str = ""
    record: list[Said] = field(default_factory=list)

    def run_seen(self) -> Trace:
        """Return the run on which the flag is placed."""
        return Trace(self.seen().fresh(), self.seen_title, limit=LONGEST)

    def shown(self) -> Beginning:
        """Return the whole of it: in this run it does not happen."""
        trace = self.run_seen()
        return Beginning(trace, len(trace))

    def cursor(self) -> int:
        """Return the step of the first of the flags that are given."""
        return min((flag.step for flag in self.given()), default=0)

    def given(self) -> tuple[Flag, ...]:
        """Return the flags that stand there from the start."""
        return self.marks(self.run_seen())

    def answer(self) -> int | None:
        """Return a step of the run seen that is the right place; None where it never happens."""
        trace = self.trace()
        so = self.measure(trace)
        return None if so is None else same_place(self.run_seen(), moment(trace, so))

    def place(self, step: int) -> Reveal:
        """Say that it happens before a step of the run seen; ``ValueError`` when there is no such step."""
        last = len(self.run_seen()) - 1
        if not 0 <= step <= last:
            msg = f"place the flag at a step from 0 to {last}, not {step!r}"
            raise ValueError(msg)
        return self.told(self._reveal(step), "place", answer=step)

    def never(self) -> Reveal:
        """Say that it does not happen at all."""
        return self.told(self._reveal(NEVER), "place", answer=NEVER)

    def retold(self, answer: str | int | None) -> Reveal | None:
        """Return what was revealed to a step."""
        if answer is None or answer == NEVER:
            return self._reveal(answer)
        return self._reveal(answer) if isinstance(answer, int) and 0 <= answer < len(self.run_seen()) else None

    def _reveal(self, answer: int | str | None) -> Reveal:
        trace, seen = self.trace(), self.run_seen()
        so = self.measure(trace)
        right = NEVER if so is None else moment(trace, so)
        said = moment(seen, answer) if isinstance(answer, int) else answer
        is_right = said == right
        flags = [] if so is None else [Flag(so, "machine", self.flag)]
        lines = [_place(seen, right, so, f"{SAYS}, and {DOES}" if is_right else DOES, self.why)]
        spots = [(moment(seen, spot.where(seen)), spot) for spot in self.spots]
        if said == NEVER and not is_right:
            lines.append(Line("", SAID_NEVER, SAYS, f"It does, at step {so}."))
        elif isinstance(said, int):
            where = so if is_right and so is not None else same_place(trace, said)
            flags.append(Flag(where, "you", self.flag))
            if not is_right and said not in dict(spots):
                lines.append(_place(seen, said, where, SAYS, self._wrong(said, right)))
        lines += [Line("", spot.text, SAYS if at == said else "", spot.why) for at, spot in spots]
        kind: Said = "skipped" if said is None else "right" if is_right else "wrong"
        return Reveal(kind, tuple(lines), tuple(flags))

    def _wrong(self, said: int, right: int | str) -> str:
        if said < moment(self.run_seen(), self.cursor()):
            return NOT_YET
        return self.early if isinstance(right, int) and said < right else self.late

    def asks(self) -> str:
        """Return what the flag is to say."""
        return f"<p>Place the flag: <em>{prose(self.flag)}</em>. Or say that it never happens.</p>"

    def __repr__(self) -> str:
        """Return the question, and the guest's steps to choose from, for a terminal."""
        seen = self.run_seen()
        marks = [f"  step {step}: {text}" for step, _whose, text in self.given()]
        steps = [f"  {step.index:>4}  {step.text}" for step in seen if step.kind in GUESTS_OWN]
        how = "Answer with .place(STEP), with .never() if it does not happen at all, or .skip() to see it."
        return "\n".join([wrapped(self.question), *marks, *steps, how])


def moment(trace: Trace, step: int) -> int:
    """Return how many instructions and entries of handlers the guest has behind it: what two runs are compared by."""
    return sum(trace[index].kind in GUESTS_OWN for index in range(step))


def same_place(trace: Trace, done: int) -> int:
    """Return the guest's step that has so many behind it; the last step of the run if there is none."""
    at = (step.index for step in trace if step.kind in GUESTS_OWN and moment(trace, step.index) == done)
    return next(at, len(trace) - 1)


def _place(seen: Trace, done: int | str, step: int | None, mark: str, why: str) -> Line:
    """Return a line for a place: its step in the whole run, and what the guest executes there without the event."""
    if not isinstance(done, int):
        return Line("", SAID_NEVER, mark, why)
    return Line("", f"Before `{seen[same_place(seen, done)].text}`, at step {step}.", mark, why)
