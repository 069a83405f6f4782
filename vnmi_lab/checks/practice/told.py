"""A problem in words for who has no notebook: as text, and as plain data for a program."""

from __future__ import annotations

import json

from vnmi_lab.checks.bitset import SetBits
from vnmi_lab.checks.placing import GUESTS_OWN, NEVER, SAID_NEVER, PlaceFlag
from vnmi_lab.checks.practice.problem import VERSION, Problem
from vnmi_lab.checks.prediction import lettered


def text(problem: Problem, *, reveal: bool = False) -> str:
    """Return a problem as text; ``reveal`` adds what is so and why."""
    parts = [repr(problem)]
    if reveal:
        parts.append(f"{solution(problem)}\n\n{_why(problem)}\n\nto see it: vnmi-lab run {problem.scenario}")
    return "\n\n".join(parts) + "\n"


def _why(problem: Problem) -> str:
    """Return what is so of everything that could be said; the heading is for who has said something."""
    return repr(problem.asked.truth()).partition("\n")[2]


def as_json(problem: Problem, *, reveal: bool = False) -> str:
    """Return a problem as a JSON object; ``reveal`` adds ``answer`` and ``why``."""
    asked = problem.asked
    said: dict[str, object] = {
        "id": problem.id,
        "version": VERSION,
        "level": problem.level,
        "seed": problem.seed,
        "kind": problem.kind,
        "guest": problem.listing,
        "question": asked.question,
        "choices": choices(problem),
    }
    if reveal:
        lines = [line._asdict() for line in asked.truth().lines]
        said |= {"answer": asked.answer(), "why": lines, "scenario": problem.scenario}
    return json.dumps(said, indent=1) + "\n"


def choices(problem: Problem) -> dict[str, str]:
    """Return what can be said, by the word that says it: letters, the steps of a run, or the bits of a word."""
    asked = problem.asked
    if isinstance(asked, PlaceFlag):
        steps = {str(step.index): step.text for step in asked.run_seen() if step.kind in GUESTS_OWN}
        return {**steps, NEVER: SAID_NEVER}
    if isinstance(asked, SetBits):
        return {str(bit.number): bit.name for bit in asked.bits}
    return {letter: option.text for letter, option in lettered(asked.options)}


def solution(problem: Problem) -> str:
    """Return the answer in a line."""
    asked = problem.asked
    if isinstance(asked, SetBits):
        return f"Answer: {asked.written(asked.answer())}"
    if isinstance(asked, PlaceFlag):
        return f"Answer: before step {asked.answer()} of the run that is shown"
    answer = asked.answer()
    return f"Answer: {answer}. {dict(lettered(asked.options))[answer].text}"
