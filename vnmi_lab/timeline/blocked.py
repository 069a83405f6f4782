"""Why an NMI is blocked, for every step of a run: who is asked, what decides, and where that ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from vnmi_lab.timeline.columns import Column, put
from vnmi_lab.why import Answer, asked

if TYPE_CHECKING:
    from vnmi_lab.trace import AnyMachine, Step


class Readable(Protocol):
    """A run that can be read step by step."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Step: ...


@runtime_checkable
class Replayed(Readable, Protocol):
    """A run with a machine behind it that can be put where it stood before any step."""

    def goto(self, position: int) -> AnyMachine:
        """Return the machine as it stood before a step."""


def blocked(run: object) -> dict[str, Any] | None:
    """Give the answers after each step, or None for a run that has no machine to ask.

    ``conditions`` are ``[name, sentence, what ends it, source]``. ``answers`` are distinct lists of parties, each
    ``{who, verdict, waits, decides, held, note}``: ``verdict`` is 1, 0, KVM's -16 (-EBUSY), or None where it
    is not asked; ``decides`` a condition or None; ``held`` lists ``[condition, 1 or 0]``. ``at`` is a column of
    answers. ``ends`` has for each party a column: the step after which what decides no longer holds, None where the
    run does not say.
    """
    return read(run)[1] if isinstance(run, Replayed) else None


def read(run: Readable) -> tuple[list[Step], dict[str, Any] | None]:
    """Give every step of a run and what ``blocked`` says of it, while its machine goes through the run once."""
    if not isinstance(run, Replayed):
        return [run[step] for step in range(len(run))], None
    writer = _Writer()
    steps = []
    for step in range(len(run)):
        steps.append(run[step])
        writer.add(step, asked(run.goto(step + 1)))
    return steps, writer.written()


class _Writer:
    """Takes answers step by step; each is written once."""

    def __init__(self) -> None:
        self.conditions: list[list[str]] = []
        self.answers: list[list[dict[str, Any]]] = []
        self.at: Column = []
        self._answer: dict[tuple[Answer, ...], int] = {}
        self._steps: list[int] = []

    def add(self, step: int, said: tuple[Answer, ...]) -> None:
        """Take the answers after a step."""
        number = self._answer.setdefault(said, len(self.answers))
        if number == len(self.answers):
            self.answers.append([self._party(answer) for answer in said])
        put(self.at, step, number)
        self._steps.append(number)

    def _party(self, answer: Answer) -> dict[str, Any]:
        held = []
        decides = None
        for condition in answer.blocked.conditions:
            said = [condition.name, condition.sentence, condition.ends, condition.source]
            if said not in self.conditions:
                self.conditions.append(said)
            place = self.conditions.index(said)
            held.append([place, int(condition.holds)])
            if condition is answer.blocked.decides:
                decides = place
        verdict = answer.blocked.allowed
        party = {"who": answer.who, "verdict": verdict, "waits": answer.waits, "decides": decides, "held": held}
        return party | ({"note": answer.note} if answer.note else {})

    def written(self) -> dict[str, Any]:
        """Give what was taken."""
        parties = dict.fromkeys(party["who"] for answer in self.answers for party in answer)
        ends = {who: self._ends(who) for who in parties}
        return {"conditions": self.conditions, "answers": self.answers, "at": self.at, "ends": ends}

    def _ends(self, who: str) -> Column:
        """Go back from the end of the run once, and note for each condition where it last did not hold.

        While a party is not asked, what held before goes on: only an answer that denies a condition ends it.
        """
        frees = [self._frees(answer, who) for answer in self.answers]
        free: dict[int, int] = {}
        found: list[int | None] = []
        for step in range(len(self._steps) - 1, -1, -1):
            decides, freed = frees[self._steps[step]]
            for place in freed:
                free[place] = step
            found.append(None if decides is None else free.get(decides))
        flat: Column = []
        for step, end in enumerate(reversed(found)):
            put(flat, step, end)
        return flat

    def _frees(self, answer: list[dict[str, Any]], who: str) -> tuple[int | None, list[int]]:
        """Give what decides for a party in an answer, and what that answer denies."""
        party = next((party for party in answer if party["who"] == who), None)
        if party is None:
            return None, []
        held = dict(party["held"])
        told = party["verdict"] is not None
        return party["decides"], [place for place in range(len(self.conditions)) if not held.get(place, not told)]
