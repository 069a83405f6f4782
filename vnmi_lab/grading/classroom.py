"""What a class did: files of ``check --json`` and learners' progress files, counted by exercise and by prediction.

The files come from learners, so every field is looked at; one that cannot be read gets a line, and the rest counts.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vnmi_lab.checks import Asked, Prediction
from vnmi_lab.checks.asked import SAYS
from vnmi_lab.checks.course import COURSE, Lab
from vnmi_lab.checks.prediction import lettered
from vnmi_lab.checks.progress import ANSWERS
from vnmi_lab.checks.record import FORMAT as PROGRESS
from vnmi_lab.checks.record import Log, OtherVersionError, UnreadableError, parse
from vnmi_lab.checks.result import SHOWN, Outcome
from vnmi_lab.grading.report import FORMAT, VERSION, seen

LARGEST = 100 << 20
OUTCOMES: tuple[Outcome, ...] = ("correct", "incorrect", "raised", "not attempted")
assert set(OUTCOMES) == set(SHOWN)
MOST = 5
"""Exercises and predictions that are listed as missed most."""
SKIPPED = "skipped"
COLUMNS = ("kind", "lab", "id", "what", "count", "of", "right")


class BadFileError(ValueError):
    """A file that cannot be counted; one line says why."""


class Work(NamedTuple):
    """What one learner did in the labs that they began."""

    labs: frozenset[str]
    outcomes: Mapping[str, str]
    messages: Mapping[str, str]
    answers: Mapping[str, str | int | None]


class Said(NamedTuple):
    """An answer to a prediction: how it reads, how many gave it, whether it is so, and the why that belongs to it."""

    text: str
    times: int
    is_right: bool
    why: str


@dataclass
class Tally:
    """How a class did in one exercise: outcomes, and what those heard who were wrong."""

    id: str
    task: str
    outcomes: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)

    @property
    def learners(self) -> int:
        """Who had the exercise before them."""
        return self.outcomes.total()

    @property
    def tried(self) -> int:
        """Who answered."""
        return self.learners - self.outcomes["not attempted"]

    @property
    def missed(self) -> int:
        """Who answered, and not rightly."""
        return self.outcomes["incorrect"] + self.outcomes["raised"]


@dataclass
class Asking:
    """How a class answered one prediction, by what was said first."""

    prediction: Asked
    answers: Counter[str | int | None] = field(default_factory=Counter)

    @property
    def learners(self) -> int:
        """Who answered or skipped."""
        return self.answers.total()

    @property
    def tried(self) -> int:
        """Who answered."""
        return self.learners - self.answers[None]

    @property
    def missed(self) -> int:
        """Who answered, and not rightly."""
        return sum(said.times for said in self.said() if not said.is_right and said.text != SKIPPED)

    def said(self) -> list[Said]:
        """Return every answer in its order, also the options that nobody chose; who skipped comes last."""
        given = set(self.answers)
        if isinstance(self.prediction, Prediction):
            given |= {letter for letter, _option in lettered(self.prediction.options)}
        order = sorted(given, key=lambda answer: (answer is None, isinstance(answer, str), answer or 0))
        return [self._said(answer, self.answers[answer]) for answer in order]

    def misconception(self) -> Said:
        """Return the wrong answer that was given most."""
        return max((one for one in self.said() if not one.is_right and one.text != SKIPPED), key=lambda one: one.times)

    def _said(self, answer: str | int | None, count: int) -> Said:
        if answer is None:
            return Said(SKIPPED, count, is_right=False, why="")
        reveal = self.prediction.retold(answer)
        assert reveal is not None  # others were not counted
        line = next((line for line in reveal.lines if line.mark.startswith(SAYS)), reveal.lines[0])
        return Said(f"{line.lead} {line.text}".strip(), count, reveal.said == "right", line.why)


@dataclass
class Class:
    """All that was counted, lab by lab; ``learners`` is the number of notebooks and progress files."""

    learners: int = 0
    exercises: dict[str, Tally] = field(default_factory=dict)
    predictions: dict[str, Asking] = field(default_factory=dict)

    def add(self, work: Work) -> None:
        """Count one learner's work."""
        self.learners += 1
        for lab in self.known():
            if lab.number in work.labs:
                self._add(lab, work)

    def _add(self, lab: Lab, work: Work) -> None:
        for exercise in lab.exercises:
            tally = self.exercises.setdefault(exercise.id, Tally(exercise.id, exercise.task))
            outcome = work.outcomes.get(exercise.id, "not attempted")
            tally.outcomes[outcome] += 1
            if outcome == "incorrect" and exercise.id in work.messages:
                tally.messages[work.messages[exercise.id]] += 1
        for prediction in lab.predictions:
            asking = self.predictions.setdefault(prediction.id, Asking(prediction))
            if prediction.id in work.answers and prediction.retold(work.answers[prediction.id]) is not None:
                asking.answers[work.answers[prediction.id]] += 1

    @staticmethod
    def known() -> Iterator[Lab]:
        """Return the labs of this version."""
        return (lab for lab in COURSE if lab.exists)

    def labs(self) -> list[Lab]:
        """Return the labs that somebody began."""
        return [lab for lab in self.known() if any(exercise.id in self.exercises for exercise in lab.exercises)]

    def rows(self) -> Iterator[tuple[str | int, ...]]:
        """Return the lines of the CSV: one for each outcome of an exercise, and for each answer to a prediction."""
        for tally in self.exercises.values():
            for outcome in OUTCOMES:
                right = "yes" if outcome == "correct" else "no"
                yield "exercise", tally.id[3:5], tally.id, outcome, tally.outcomes[outcome], tally.learners, right
        for asking in self.predictions.values():
            name = asking.prediction.id
            for said in asking.said():
                right = "yes" if said.is_right else "no"
                yield "prediction", name[3:5], name, said.text, said.times, asking.learners, right


def worst(counted: Iterable[Tally] | Iterable[Asking]) -> list[Any]:
    """Return what was missed by the largest share of those who answered, the worst first."""
    missed = [one for one in counted if one.missed]
    return sorted(missed, key=lambda one: (-one.missed / one.tried, -one.missed))[:MOST]


def count(paths: Sequence[Path]) -> tuple[Class, list[str]]:
    """Count files; the second value has a line for each that could not be."""
    counted, problems = Class(), []
    for path in paths:
        try:
            for work in works(path):
                counted.add(work)
        except BadFileError as problem:
            problems.append(f"{path}: {problem}")
    return counted, problems


def works(path: Path) -> list[Work]:
    """Return the work that a file tells of, of one learner or of several; ``BadFileError`` says why not."""
    try:
        text = path.read_text(encoding="utf-8") if path.stat().st_size <= LARGEST else ""
        read = json.loads(text)
    except OSError as problem:
        raise BadFileError(problem.strerror or str(problem)) from None
    except (ValueError, RecursionError):
        raise BadFileError("not JSON") from None
    kind = read.get("format") if isinstance(read, dict) else None
    if kind == PROGRESS:
        return [_of_progress(text)]
    if kind != FORMAT:
        raise BadFileError(f"neither a progress file nor what vnmi-lab check --json writes: format {seen(str(kind))!r}")
    if read.get("version") != VERSION:
        raise BadFileError(f"version {seen(str(read.get('version')))!r}, and this vnmi_lab reads version {VERSION}")
    try:
        return [_of_notebook(notebook) for notebook in read["notebooks"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadFileError("not as vnmi-lab check --json writes it") from None


def _of_notebook(notebook: Mapping[str, Any]) -> Work:
    """Read one notebook of a check; an error for whatever is not as it is written."""
    outcomes = {str(one["exercise"]): str(one["outcome"]) for one in notebook["exercises"]}
    if not set(outcomes.values()) <= set(OUTCOMES):
        raise ValueError(outcomes)
    messages = {str(one["exercise"]): seen(str(one["message"])) for one in notebook["exercises"]}
    answers = {str(one["prediction"]): _answer(one["answer"]) for one in notebook["predictions"]}
    return Work(frozenset(map(str, notebook["labs"])), outcomes, messages, answers)


def _answer(answer: object) -> str | int | None:
    if answer is not None and not isinstance(answer, str | int):
        raise TypeError(answer)
    return answer


def _of_progress(text: str) -> Work:
    try:
        log = parse(text)
    except (UnreadableError, OtherVersionError) as problem:
        raise BadFileError(seen(str(problem))) from None
    checks = sorted((one for one in log if one.kind == "check"), key=lambda one: one.last)
    outcomes = {one.id: str(one.get("outcome")) for one in checks}
    outcomes |= {one.id: "correct" for one in checks if one.get("outcome") == "correct"}
    outcomes = {name: outcome for name, outcome in outcomes.items() if outcome in OUTCOMES}
    labs = frozenset(one.id[3:5] for one in log if one.id.startswith("lab"))
    return Work(labs, outcomes, {}, _first(log))


def _first(log: Log) -> dict[str, str | int | None]:
    """Return what was said first to each prediction."""
    answers: dict[str, str | int | None] = {}
    for one in log:
        if one.kind in ANSWERS:
            answers.setdefault(one.id, None if one.kind == "skip" else one.get("answer"))
    return answers


def as_csv(counted: Class) -> str:
    """Return the class as CSV, one line a count."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(counted.rows())
    return out.getvalue()


def as_text(counted: Class) -> str:
    """Return the class for a terminal."""
    lines = [f"{counted.learners} learners' files"]
    for tally in counted.exercises.values():
        counts = ", ".join(f"{tally.outcomes[outcome]} {outcome}" for outcome in OUTCOMES)
        lines.append(f"  {tally.id}: {counts}")
    for asking in worst(counted.predictions.values()):
        lines.append(f"  missed most: {asking.prediction.id}: {asking.missed} of {asking.tried}")
        lines += [f"    {said.times:>3}  {seen(said.text)}" for said in asking.said()]
    return "\n".join(lines)
