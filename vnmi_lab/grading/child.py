"""The learner's process: runs the cells of a notebook, and hands every answer to the parent, which judges it.

All that it knows of right and wrong is what the parent tells it. It talks in lines of JSON over the pipes it was
started with; what a learner prints goes nowhere.
"""

from __future__ import annotations

import builtins
import json
import linecache
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from vnmi_lab.checks import Divergence, Exercise, Result, progress
from vnmi_lab.checks.course import COURSE
from vnmi_lab.checks.record import Kind, Value
from vnmi_lab.grading import answers
from vnmi_lab.grading.cells import piece, read
from vnmi_lab.grading.confine import confine
from vnmi_lab.guest_text import source_of
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.isolate import state_of, vcpu_of
from vnmi_lab.judge import LearnerError, parent_of, watched
from vnmi_lab.rules import Rule

UNDRAWN = "vnmi_lab.widgets"
OF_VCPU = "fields"


class Undrawn:
    """Stands for whatever a notebook draws: here nobody looks."""

    def __call__(self, *_args: object, **_options: object) -> Undrawn:
        """Return itself."""
        return self

    def __getattr__(self, name: str) -> Undrawn:
        """Return itself; what Python asks of a value is not there."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self


class Learner:
    """One notebook while it runs: its names, and the line to the parent."""

    def __init__(self, receive: Callable[[], dict[str, Any]], send: Callable[[dict[str, Any]], None]) -> None:
        self.receive, self.send = receive, send
        self.names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
        self.checked: set[str] = set()

    def install(self) -> None:
        """Let checks, notes and pictures of this process go to the parent, or nowhere."""
        learner = self

        def check(exercise: Exercise, answer: object = ...) -> Result:
            return learner.check(exercise, answer)

        Exercise.check = check  # type: ignore[assignment, method-assign]  # the verdict is found elsewhere
        noted = progress.note

        def note(id: str, kind: Kind, **data: Value) -> None:  # noqa: A002  # as of progress.note
            noted(id, kind, **data)
            learner.send({"note": [id, kind, data]})

        progress.note = note
        drawn: Any = ModuleType(UNDRAWN)
        drawn.__getattr__ = lambda _name: Undrawn()
        drawn.__path__ = []
        sys.modules[UNDRAWN] = drawn

    def check(self, exercise: Exercise, answer: object) -> Result:
        """Have an answer judged; while that goes on, run its functions for the judge."""
        self.checked.add(exercise.id)
        functions: list[FunctionType] = []
        said = answers.encode(answer, functions) if exercise.attempted(answer) else {"as": "..."}
        self.send({"check": exercise.id, "answer": said})
        while "result" not in (question := self.receive()):
            self.send(_answered(functions[question["number"]], _policy(exercise, answer), question))
        return _result(question["result"])

    def run(self, number: int, source: str) -> None:
        """Run one cell; what it raises is told to the parent."""
        self.send({"cell": number})
        name = f"<cell {number}>"
        part = piece(source)
        linecache.cache[name] = (len(part.text), None, part.text.splitlines(keepends=True), name)
        try:
            if part.kind == "guest":
                self.names[part.name] = source_of(part.text)
            else:
                exec(compile(part.text, name, "exec"), self.names)  # noqa: S102  # what a kernel does
        except BaseException as error:  # noqa: BLE001  # SystemExit and KeyboardInterrupt end a cell, no more
            self.send({"raised": number, "said": _said(error), "line": _line(error)})

    def leftovers(self, numbers: list[str]) -> None:
        """Check what was answered and never checked, where the name of the answer belongs to one exercise alone."""
        self.send({"cell": -1})
        exercises = [exercise for lab in COURSE if lab.number in numbers for exercise in lab.exercises]
        variables = [exercise.variable for exercise in exercises]
        for exercise in exercises:
            own = variables.count(exercise.variable) == 1 and exercise.variable in self.names
            if own and exercise.id not in self.checked:
                exercise.check(self.names[exercise.variable])


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _line(error: BaseException) -> str:
    """Return the learner's own line that raised, as the checks write it."""
    if isinstance(error, SyntaxError) and str(error.filename).startswith("<cell"):
        return f"line {error.lineno}: {(error.text or '').strip()}"
    own = [entry for entry in traceback.extract_tb(error.__traceback__) if entry.filename.startswith("<cell")]
    return f"line {own[-1].lineno}: {own[-1].line}" if own else ""


def _answered(function: FunctionType, policy: NmiOps | None, question: dict[str, Any]) -> dict[str, Any]:
    """Call a learner's function as the judge asks, and return what came of it."""
    args = answers.decode(question["args"], _no_function)
    try:
        if OF_VCPU not in question:
            return {"value": answers.encode(function(*args), [])}
        vcpu = vcpu_of(question, policy or parent_of(function.__name__))
        value = watched(function)(vcpu, *args)
    except LearnerError as error:
        return {"error": str(error), "line": ""}
    except BaseException as error:  # noqa: BLE001  # as in a cell
        return {"error": _said(error), "line": _line(error)}
    return {**state_of(vcpu), "value": answers.encode(value, [])}


def _policy(exercise: Exercise, answer: object) -> NmiOps | None:
    """Return the policy that a learner's functions are a part of, if answer or exercise say."""
    found = answer if isinstance(answer, NmiOps) else getattr(exercise.judge, "parent", None)
    return found if isinstance(found, NmiOps) else None


def _no_function(_number: int, _name: str) -> FunctionType:
    raise ValueError("no function is sent to a learner")


def _result(sent: dict[str, Any]) -> Result:
    found = sent["divergence"]
    divergence = None if found is None else Divergence(**{**found, "rule": Rule(**found["rule"])})
    return Result(sent["exercise"], sent["outcome"], sent["message"], sent["line"], divergence)


def main() -> None:
    """Take the task from the parent, shut the doors, and run the notebook."""
    lines, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)

    def send(said: dict[str, Any]) -> None:
        out.write(json.dumps(said).encode() + b"\n")
        out.flush()

    def receive() -> dict[str, Any]:
        line = lines.readline()
        if not line:  # the parent is gone
            os._exit(1)
        return dict(json.loads(line))

    task = receive()
    given, work = Path(task["given"]), Path(task["work"])
    send({"ready": confine(given, work, task["limits"], walls=task["walls"], root=task["root"])})
    sys.path.insert(0, str(work))
    learner = Learner(receive, send)
    learner.install()
    for cell in read(work / task["notebook"]):
        if cell.number not in task["skip"]:
            learner.run(cell.number, cell.source)
    learner.leftovers(task["labs"])
    send({"done": True})


if __name__ == "__main__":
    main()
