"""An exercise: a task, a judge that runs the machine, hints, one good answer and several named wrong ones."""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, TracebackType
from typing import Any

from vnmi_lab.checks import progress
from vnmi_lab.checks.result import Outcome, Result, Verdict
from vnmi_lab.checks.text import Note

BLANK = "____"
"""What stands in a text where the learner is to write."""

PACKAGE = str(Path(__file__).parent.parent)
GRADED = "VNMI_LAB_GRADED"
"""The variable of the environment that is 1 where answers count for a grade: there is no solution then."""


class LearnerError(Exception):
    """The learner's answer cannot be run; ``line`` is the line of theirs that says why."""

    def __init__(self, message: str, line: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wrong answer that learners give, and how the message it must get begins."""

    name: str
    code: str
    message: str


@dataclass(slots=True)
class Exercise:
    """``check`` an answer, ask for a ``hint``, see a ``solution``, or ``reset``.

    ``start`` is the code a learner begins with, ``good`` and each of ``wrong`` stand in its place; all assign
    ``variable``, which is what is checked.
    """

    id: str
    task: str
    variable: str
    judge: Callable[[Any], Verdict]
    hints: tuple[str, ...]
    start: str
    good: str
    why: str
    wrong: tuple[Wrong, ...]

    def check(self, answer: object = ...) -> Result:
        """Run the machine on an answer and say what came of it. Never raises for what a learner wrote."""
        result = self.judged(answer)
        if result.outcome != "not attempted":
            progress.note(self.id, "check", outcome=result.outcome)
        return result

    def require(self, answer: object = ...) -> Result:
        """Do as ``check`` does, and raise ``AssertionError`` with what it says unless that is "correct"."""
        result = self.check(answer)
        if not result.ok:
            raise AssertionError(repr(result))
        return result

    def judged(self, answer: object) -> Result:
        """Do as ``check`` does, and note nothing of it."""
        if not self.attempted(answer):
            return Result(self.id, "not attempted", f"{self.task} For a hint: `{self.name}.hint()`.")
        try:
            verdict = self.judge(answer)
        except LearnerError as error:
            return Result(self.id, "raised", str(error), error.line)
        except Exception as error:
            line = _learners_line(error.__traceback__)
            if line is None:  # not theirs: a mistake of this package must not look like the learner's
                raise
            return Result(self.id, "raised", f"{type(error).__name__}: {error}", line)
        outcome: Outcome = "correct" if verdict.ok else "incorrect"
        return Result(self.id, outcome, verdict.message, "", verdict.divergence, verdict.trace)

    def attempted(self, answer: object) -> bool:
        """Whether an answer is more than the learner was given."""
        return not (untouched(answer) or self._is_as_given(answer))

    def _is_as_given(self, answer: object) -> bool:
        """Whether a function is compiled from no more than the one that a learner begins with."""
        if not isinstance(answer, FunctionType):
            return False
        given = [const for const in compile(self.start, "", "exec").co_consts if isinstance(const, CodeType)]
        return any(_does(code) == _does(answer.__code__) for code in given)

    def hint(self, number: int | None = None) -> Note:
        """Return the next hint, or hint ``number`` (from 1); after the last one it stays."""
        last = len(self.hints)
        if number is None:
            number = min(progress.hints_used(self.id) + 1, last)
        if not 1 <= number <= last:
            return Note("No such hint", f"This exercise has hints 1 to {last}, not {number!r}.")
        progress.note(self.id, "hint", number=number)
        after = "" if graded() else f"; there is `{self.name}.solution()`"
        more = "" if number < last else f" That was the last one{after}."
        return Note(f"Hint {number} of {last}", self.hints[number - 1] + more)

    def solution(self) -> Note:
        """Return one good answer and why it is good; in graded mode, that there is none."""
        if graded():
            return Note("No solution", f"This counts for a grade. There are hints: `{self.name}.hint()`.")
        progress.note(self.id, "solution")
        return Note("One solution", self.why, self.good)

    def reset(self) -> Note:
        """Forget the hints used and return the code that the exercise began with."""
        progress.note(self.id, "reset")
        return Note("Reset", "The cell began like this:", f"{self.start}\n{self.call}")

    @property
    def call(self) -> str:
        """The last line of the exercise's cell."""
        return f"{self.name}.check({self.variable})"

    @property
    def name(self) -> str:
        """What a notebook calls the exercise."""
        return f"lab.{self.id.split('.')[-1]}"

    def __repr__(self) -> str:
        """Return what is to be done."""
        return f"Exercise {self.id}: {self.task}"


def graded() -> bool:
    """Whether answers count for a grade here."""
    return os.environ.get(GRADED) == "1"


def variant(good: str, *changes: tuple[str, str]) -> str:
    """Return a good answer with changes, each of which must apply."""
    for old, new in changes:
        assert old in good
        good = good.replace(old, new)
    return good


def untouched(answer: object) -> bool:
    """Whether an answer still has ``...``, None or a blank in it; a function, whether it uses ``...`` as a value."""
    if isinstance(answer, FunctionType):
        return ... in answer.__code__.co_consts
    if isinstance(answer, str):
        return BLANK in answer
    if isinstance(answer, dict):
        return any(untouched(part) for part in answer.values())
    if isinstance(answer, list | tuple):
        return any(untouched(part) for part in answer)
    return answer is None or answer is ...


def _does(code: CodeType) -> tuple[object, ...]:
    """Return what a function does, whatever it is called and wherever it stands; a bare ``...`` does nothing."""
    return code.co_code, code.co_names, code.co_varnames, code.co_consts


def _learners_line(traceback: TracebackType | None) -> str | None:
    """Return the first line outside this package that an error went through."""
    while traceback is not None:
        path = traceback.tb_frame.f_code.co_filename
        if not path.startswith(PACKAGE):
            return f"line {traceback.tb_lineno}: {linecache.getline(path, traceback.tb_lineno).strip()}".rstrip(": ")
        traceback = traceback.tb_next
    return None
