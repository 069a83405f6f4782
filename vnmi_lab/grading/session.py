"""One notebook, judged while it runs: its process gives answers, and the verdicts are found here.

A cell that does not end, or ends its process, is left out when the notebook is run again from its start.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

from vnmi_lab import judge
from vnmi_lab.checks import Exercise, Result
from vnmi_lab.checks import LearnerError as AnswerError
from vnmi_lab.checks.course import Lab
from vnmi_lab.grading import answers
from vnmi_lab.grading.cells import BadNotebookError, Cell, asks
from vnmi_lab.grading.sandbox import MOST_LINES, Child, Gone, Limits
from vnmi_lab.hv.vcpu import Vcpu
from vnmi_lab.isolate import state_of, take

MOST_RUNS = 6
"""How often a notebook is run, each time without one more cell."""
START_SECONDS = 60
MOST_NOTES = 2_000
BEFORE, AFTER = -2, -1
"""Numbers that no cell has: before the first, and behind the last."""


class CallError(judge.LearnerError, AnswerError):
    """A learner's function raised, did not return, or gave back what it may not; ``line`` is theirs."""

    def __init__(self, message: str, line: str = "") -> None:
        AnswerError.__init__(self, message, line)


@dataclass
class Session:
    """What is known of a notebook while it runs: verdicts by exercise, and what was noted of its learner."""

    path: Path
    cells: tuple[Cell, ...]
    labs: tuple[Lab, ...]
    limits: Limits
    results: dict[str, Result] = field(default_factory=dict)
    notes: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    in_force: dict[str, Any] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    deadline: float = 0.0
    """When the notebook's seconds are over; they begin when its first process has started."""
    cell: int = BEFORE
    checked: set[str] = field(default_factory=set)
    """Exercises with a verdict of the cell that runs."""

    def run(self) -> None:
        """Run the notebook, and again without a cell that ended it; all of it within the notebook's seconds."""
        for _run in range(MOST_RUNS):
            self.notes.clear()
            try:
                self._once()
            except Gone as problem:
                self._stopped(str(problem))
                if self.cell < 0 or time.monotonic() >= self.deadline:
                    break
            else:
                return
        self._never_reached()

    def _once(self) -> None:
        numbers = tuple(lab.number for lab in self.labs)
        with Child(self.path, self.limits, tuple(self.skipped), numbers) as child:
            self.cell = BEFORE
            self._begin(child)
            cell_deadline = self.deadline  # until the first cell, all the time there is: importing may be slow
            for _line in range(MOST_LINES):
                said = child.hear(cell_deadline)
                if "cell" in said:
                    cell_deadline = min(self.deadline, time.monotonic() + self.limits.cell_seconds)
                if not self._take(child, said, cell_deadline):
                    return
        raise Gone("told the grader too much")

    def _begin(self, child: Child) -> None:
        """Hear the first line of all, before any of the learner's code: the limits that are in force."""
        if self.in_force:
            child.hear(self.deadline)
            return
        try:
            self.in_force = dict(child.hear(time.monotonic() + START_SECONDS)["ready"])
        except Gone as problem:
            raise BadNotebookError(f"{self.path}: no process for it, it {problem}: {child.last_words()}") from None
        self.in_force["limits"] += child.kept
        self.deadline = time.monotonic() + self.limits.seconds

    def _take(self, child: Child, said: Mapping[str, Any], deadline: float) -> bool:
        """Take in what the learner's process says; False when it has come to its end."""
        if "cell" in said:
            self.cell = said["cell"] if isinstance(said["cell"], int) else AFTER
            self.checked.clear()
        elif "check" in said:
            child.tell({"result": as_json(self._judged(child, said, deadline))})
        elif "raised" in said:
            self._raised(_text(said.get("said")), _text(said.get("line")))
        elif "note" in said and len(self.notes) < MOST_NOTES:
            self._noted(said["note"])
        return "done" not in said

    def _judged(self, child: Child, said: Mapping[str, Any], deadline: float) -> Result:
        exercise = next((one for one in self.exercises if one.id == said["check"]), None)
        if exercise is None:
            return Result(_text(said["check"]), "not attempted", "This notebook's lab has no such exercise.")

        def function(number: int, name: str) -> FunctionType:
            return _remote(child, number, name, deadline)

        answer = answers.decode(said.get("answer"), function)
        try:
            result = exercise.judged(answer)
        except Exception as error:  # noqa: BLE001  # one answer that the checks stumble over must not stop the others
            fault = f"The check itself failed, and that is no fault of the answer: {type(error).__name__}: {error}"
            result = Result(exercise.id, "raised", fault)
        self.results[exercise.id] = result
        self.checked.add(exercise.id)
        return result

    @property
    def exercises(self) -> tuple[Exercise, ...]:
        """The exercises of the notebook's labs."""
        return tuple(exercise for lab in self.labs for exercise in lab.exercises)

    def _raised(self, message: str, line: str) -> None:
        """Give the exercises of the cell that raised their verdict, unless they had one before it did."""
        for exercise in self.exercises:
            cell = next((cell for cell in self.cells if cell.number == self.cell), None)
            if cell is not None and asks(cell, exercise.id) and exercise.id not in self.checked:
                self.results[exercise.id] = Result(exercise.id, "raised", message, line)

    def _stopped(self, why: str) -> None:
        """Note that the cell which ran ended the notebook; the next run leaves it out."""
        self.checked.clear()
        if self.cell >= 0:
            self.skipped[self.cell] = why
            self._raised(f"This cell {why}.", "")

    def _never_reached(self) -> None:
        """Say of exercises without a verdict that their cells were not run; there may be no answer in them."""
        reason = "; ".join(sorted(set(self.skipped.values()))) or "the notebook ended before its first cell"
        for exercise in self.exercises:
            if exercise.id not in self.results:
                text = f"Not reached: another cell {reason}." if self.skipped else f"Not reached: {reason}."
                self.results[exercise.id] = Result(exercise.id, "raised", text)

    def _noted(self, note: object) -> None:
        match note:
            case [str(name), str(kind), dict(data)]:
                self.notes.append((name, kind, data))


def _remote(child: Child, number: int, name: str, deadline: float) -> FunctionType:
    """Return a function that runs in the learner's process: on a vCPU by its fields, else on values."""

    def call(*args: Any) -> object:  # noqa: ANN401  # whatever the judge gives it
        of_vcpu = bool(args) and isinstance(args[0], Vcpu)
        rest = args[1:] if of_vcpu else args
        question = {"number": number, "args": answers.encode(list(rest), [])}
        child.tell({**question, **state_of(args[0])} if of_vcpu else question)
        answer = child.hear(deadline)
        if "error" in answer:
            raise CallError(_text(answer["error"]), _text(answer.get("line")))
        try:
            if of_vcpu:
                take(args[0], answer)
            value = answers.decode(answer.get("value"), _no_function)
        except judge.LearnerError as error:
            raise CallError(str(error)) from None
        except Exception as error:
            raise CallError(f"{name} left a vCPU behind that is none: {type(error).__name__}") from error
        if of_vcpu and isinstance(value, answers.Other | str | list | dict):
            raise CallError(f"{name} returned {value!r}; a hook returns nothing, a number, or True or False")
        return value

    assert isinstance(call, FunctionType)
    call.__name__ = call.__qualname__ = name
    return call


def _no_function(_number: int, _name: str) -> FunctionType:
    raise ValueError("a function returns no function here")


def as_json(result: Result) -> dict[str, Any]:
    """Return a result as JSON has it, all but its run."""
    divergence = None
    if result.divergence is not None:
        divergence = {**asdict(result.divergence), "rule": result.divergence.rule._asdict()}
    return {
        "exercise": result.exercise,
        "outcome": result.outcome,
        "message": result.message,
        "line": result.line,
        "divergence": divergence,
    }


def _text(said: object, most: int = 2_000) -> str:
    return str(said)[:most] if isinstance(said, str) else ""
