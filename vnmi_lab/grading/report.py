"""The verdicts on a notebook as a value, as JSON, and as text for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnmi_lab import __version__
from vnmi_lab.checks import Asked, Result, saved
from vnmi_lab.checks.progress import ANSWERS
from vnmi_lab.checks.record import Log, OtherVersionError, UnreadableError
from vnmi_lab.checks.text import wrapped
from vnmi_lab.grading.cells import labs_of, read
from vnmi_lab.grading.sandbox import Limits
from vnmi_lab.grading.session import Session, as_json

FORMAT, VERSION = "vnmi-lab check", 1
"""What ``check --json`` calls itself; the version counts up when a reader of it has to know more."""
LONGEST = 1_000
"""Characters of a message in the text; the JSON has all of it."""
_UNSEEN = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True, slots=True)
class Graded:
    """The verdict on an exercise, and the hints that were asked for, None where nothing tells."""

    result: Result
    hints: int | None = None
    points: int = 1

    @property
    def earned(self) -> int:
        """The points that the answer gets."""
        return self.points if self.result.ok else 0


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a learner said to a prediction: a letter, a step or a word, None for a skip; and whether it is so."""

    id: str
    answer: str | int | None
    said: str


@dataclass(frozen=True, slots=True)
class Report:
    """A notebook: its labs, its exercises in order, what was predicted, and what kept its process in bounds."""

    notebook: str
    labs: tuple[str, ...]
    exercises: tuple[Graded, ...]
    predictions: tuple[Predicted, ...]
    in_force: dict[str, Any]
    stopped: tuple[tuple[int, str], ...] = ()
    """Cells that ended the notebook's process or did not end, and how."""

    @property
    def earned(self) -> int:
        """The points of all exercises."""
        return sum(graded.earned for graded in self.exercises)

    @property
    def points(self) -> int:
        """The points that there are."""
        return sum(graded.points for graded in self.exercises)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "notebook": self.notebook,
            "labs": list(self.labs),
            "points": {"earned": self.earned, "of": self.points},
            "exercises": [
                {**as_json(one.result), "hints": one.hints, "points": {"earned": one.earned, "of": one.points}}
                for one in self.exercises
            ],
            "predictions": [{"prediction": p.id, "answer": p.answer, "said": p.said} for p in self.predictions],
            "stopped": [{"cell": cell, "why": why} for cell, why in self.stopped],
            "sandbox": self.in_force,
        }

    def __str__(self) -> str:
        """Return it for a terminal, with nothing in it that a terminal would act on."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        labs = " and ".join(self.labs)
        yield f"{seen(self.notebook)}: {self.earned} of {self.points} points, lab {labs}"
        for graded in self.exercises:
            result = graded.result
            hints = f" ({graded.hints} hints used)" if graded.hints else ""
            yield f"  {result.outcome:<13}  {result.exercise}{hints}"
            if result.outcome in ("incorrect", "raised"):
                yield wrapped(seen(result.message), " " * 17)
            if result.line:
                yield f"{' ' * 19}{seen(result.line)}"
            if result.divergence:
                yield wrapped(seen(str(result.divergence)), " " * 17)
        if self.predictions:
            said = [predicted.said for predicted in self.predictions]
            yield "  predictions    " + ", ".join(
                f"{said.count(word)} {word}" for word in ("right", "wrong", "skipped")
            )


def grade(path: Path, limits: Limits | None = None) -> Report:
    """Run a notebook in a process of its own and judge its exercises.

    ``BadNotebookError`` for a file that is none, and where no process can be started.
    """
    cells = read(path)
    session = Session(path, cells, labs_of(path, cells), limits or Limits())
    session.run()
    notes = _Notes(session)
    exercises = tuple(
        Graded(session.results.get(exercise.id) or exercise.judged(...), notes.hints(exercise.id))
        for exercise in session.exercises
    )
    predicted = (notes.predicted(prediction) for lab in session.labs for prediction in lab.predictions)
    return Report(
        str(path),
        tuple(lab.number for lab in session.labs),
        exercises,
        tuple(said for said in predicted if said is not None),
        session.in_force,
        tuple(sorted(session.skipped.items())),
    )


def as_file(reports: list[Report]) -> dict[str, Any]:
    """Return what ``check --json`` writes."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "vnmi_lab": __version__,
        "notebooks": [report.as_json() for report in reports],
    }


def seen(text: str) -> str:
    """Return a learner's text with nothing in it that a terminal acts on or that cannot be seen, and not too long."""
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text.replace("\n", " "))[:LONGEST]


class _Notes:
    """What is known of a learner's hints and predictions: their progress file if there is one, and the run's notes."""

    def __init__(self, session: Session) -> None:
        self.log = _progress(session.path)
        self.run = session.notes

    def hints(self, exercise: str) -> int | None:
        """Return the number of hints seen, None where nothing tells."""
        noted = [one.get("number") for one in self.log or () if (one.id, one.kind) == (exercise, "hint")]
        noted += [data.get("number") for name, kind, data in self.run if (name, kind) == (exercise, "hint")]
        return max((number for number in noted if isinstance(number, int)), default=None if self.log is None else 0)

    def predicted(self, prediction: Asked) -> Predicted | None:
        """Return what was said first to a prediction; later a learner knows the answer."""
        said = [one.get("answer") for one in self.log or () if one.id == prediction.id and one.kind in ANSWERS]
        said += [data.get("answer") for name, kind, data in self.run if name == prediction.id and kind in ANSWERS]
        if not said:
            return None
        answer = said[0] if isinstance(said[0], str | int) else None
        reveal = prediction.retold(answer)  # what is so is found here, whoever says so
        return None if reveal is None else Predicted(prediction.id, answer, reveal.said)


def _progress(notebook: Path) -> Log | None:
    """Return the progress file beside a notebook, unless the folder holds the same lab of several learners."""
    names = [path.name for path in notebook.parent.iterdir() if path.suffix == ".ipynb" and path.name != notebook.name]
    file = notebook.parent / saved.FILE
    if not file.is_file() or any(name.startswith(notebook.name[:2]) for name in names):
        return None
    try:
        return saved.read(file)
    except (OSError, UnreadableError, OtherVersionError):
        return None
