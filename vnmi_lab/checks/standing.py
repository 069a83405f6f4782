"""How far a learner is: what came of each exercise and prediction, lab by lab, and what is next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from vnmi_lab.checks import progress
from vnmi_lab.checks.asked import Asked
from vnmi_lab.checks.course import COURSE, Lab
from vnmi_lab.checks.exercise import Exercise
from vnmi_lab.checks.record import Log, Noted
from vnmi_lab.checks.text import Note

State: TypeAlias = Literal["done", "tried", "new", "right", "wrong", "skipped"]
SIGNS: dict[State, str] = {
    "done": "\N{CHECK MARK}",
    "tried": "\N{CIRCLE WITH LEFT HALF BLACK}",
    "right": "\N{CHECK MARK}",
    "wrong": "\N{MULTIPLICATION X}",
    "skipped": "\N{RIGHTWARDS ARROW WITH STROKE}",
    "new": "\N{WHITE CIRCLE}",
}

PRACTICE = re.compile(r"p\d+-\d+-\d+")
"""What the id of a problem of practice looks like."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An exercise or a prediction, and how it stands. Only exercises have ``tries``, ``hints`` and a ``solution``."""

    id: str
    state: State
    tries: int = 0
    hints: int = 0
    solution: bool = False

    @property
    def name(self) -> str:
        """What its notebook calls it."""
        return self.id.split(".")[-1]

    @property
    def is_left(self) -> bool:
        """Whether it is still to be done. A prediction that was skipped has been answered, and cannot be made."""
        return self.state in {"new", "tried"}

    @property
    def words(self) -> str:
        """How it stands, and what it took."""
        return ", ".join([SAID[self.state], *self.took])

    @property
    def took(self) -> list[str]:
        """What it took, in words."""
        counts = [counted(self.tries, "try", "tries")] * bool(self.tries)
        counts += [counted(self.hints, "hint", "hints")] * bool(self.hints)
        return counts + ["solution seen"] * self.solution


SAID: dict[State, str] = {state: state for state in SIGNS} | {"new": "not yet", "tried": "not right yet"}


@dataclass(frozen=True, slots=True)
class Row:
    """A lab of the course and how everything in it stands."""

    lab: Lab
    exercises: tuple[Mark, ...]
    predictions: tuple[Mark, ...]

    @property
    def left(self) -> list[Mark]:
        """What is still to be done."""
        return [mark for mark in (*self.predictions, *self.exercises) if mark.is_left]

    @property
    def is_begun(self) -> bool:
        """Whether anything was done."""
        return any(mark.state != "new" or mark.took for mark in (*self.predictions, *self.exercises))


def rows(log: Log) -> tuple[Row, ...]:
    """Return how every lab of this version stands in a log."""
    notes = list(log)
    return tuple(
        Row(lab, _exercises(lab.exercises, notes), _predictions(lab.predictions, notes)) for lab in COURSE if lab.exists
    )


def practised(log: Log) -> tuple[Mark, ...]:
    """Return what came of each problem of practice that was answered, in the order of the log."""
    notes = [one for one in log if PRACTICE.fullmatch(one.id)]
    return tuple(
        Mark(id_, _said([one for one in notes if one.id == id_])) for id_ in dict.fromkeys(n.id for n in notes)
    )


def upcoming(standing: Iterable[Row]) -> Row | None:
    """Return the first lab in which something is left, None when all is done."""
    return next((row for row in standing if row.left), None)


def tally(marks: Iterable[Mark]) -> dict[State, int]:
    """Return how many stand in each way, in the order of ``SIGNS`` and without those that are none."""
    states = [mark.state for mark in marks]
    return {state: states.count(state) for state in SIGNS if state in states}


def in_words(marks: Iterable[Mark]) -> str:
    """Return a tally as text: "3 right, 1 wrong"."""
    return ", ".join(f"{count} {SAID[state]}" for state, count in tally(marks).items())


def counted(count: int, one: str, many: str) -> str:
    """Return a count and its word."""
    return f"{count} {one if count == 1 else many}"


def as_value(standing: Sequence[Row]) -> list[dict[str, Any]]:
    """Return how the labs stand as plain values for JSON."""
    return [
        {
            "lab": row.lab.number,
            "title": row.lab.title,
            "exercises": [
                {"id": m.id, "state": m.state, "tries": m.tries, "hints": m.hints, "solution": m.solution}
                for m in row.exercises
            ],
            "predictions": [{"id": m.id, "state": m.state} for m in row.predictions],
        }
        for row in standing
    ]


@dataclass(frozen=True, slots=True)
class Left:
    """Called, it says what of a lab is not done yet. A lab's module has one as ``left``, for its last cell."""

    predictions: tuple[Asked, ...]
    exercises: tuple[Exercise, ...]

    def __call__(self) -> Note:
        """Return a line that names each prediction and exercise that is still to be done."""
        notes = list(progress.noted())
        asked, tasks = _predictions(self.predictions, notes), _exercises(self.exercises, notes)
        open_ = [(word, [f"`{m.name}`" for m in marks if m.is_left]) for word, marks in _sorts(asked, tasks)]
        parts = [f"{word}{'s' * (len(names) > 1)} {', '.join(names)}" for word, names in open_ if names]
        if parts:
            return Note("Still to do in this lab", f"{'; '.join(parts)}.")
        return Note("All done in this lab", f"exercises: {in_words(tasks)}; predictions: {in_words(asked)}.")


def _sorts(asked: tuple[Mark, ...], tasks: tuple[Mark, ...]) -> tuple[tuple[str, tuple[Mark, ...]], ...]:
    return ("prediction", asked), ("exercise", tasks)


def _exercises(exercises: Iterable[Exercise], notes: Sequence[Noted]) -> tuple[Mark, ...]:
    return tuple(_exercise(exercise.id, [one for one in notes if one.id == exercise.id]) for exercise in exercises)


def _exercise(id_: str, notes: list[Noted]) -> Mark:
    tries = [one for one in notes if one.kind == "check"]
    is_done = any(one.get("outcome") == "correct" for one in tries)
    hints = max((_number(one.get("number")) for one in notes if one.kind == "hint"), default=0)
    seen = any(one.kind == "solution" for one in notes)
    state: State = "done" if is_done else "tried" if tries else "new"
    # A right answer counts once: its cell is run again whenever the notebook is.
    count = sum(one.times for one in tries if one.get("outcome") != "correct") + is_done
    return Mark(id_, state, count, hints, seen)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _predictions(predictions: Iterable[Asked], notes: Sequence[Noted]) -> tuple[Mark, ...]:
    return tuple(Mark(asked.id, _said([one for one in notes if one.id == asked.id])) for asked in predictions)


def _said(notes: list[Noted]) -> State:
    """Return what came of the first answer: it stands, whatever was said later."""
    first = next((one for one in notes if one.kind in progress.ANSWERS), None)
    said = first.get("said") if first else None
    return "right" if said == "right" else "wrong" if said == "wrong" else "skipped" if said == "skipped" else "new"
