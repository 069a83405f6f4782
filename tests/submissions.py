"""Notebooks as learners hand them in, made from the labs: with good answers, wrong ones, and anything else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vnmi_lab.checks import Exercise
from vnmi_lab.checks.course import COURSE, Lab

LABS = {lab.number: lab for lab in COURSE if lab.exists}
FOLDER = Path(__file__).parent.parent / "labs"


def cell(exercise: Exercise, answer: str) -> str:
    """Return an exercise's cell with an answer in it."""
    return f"{answer}\n{exercise.call}"


def good(lab: Lab) -> list[str]:
    """Return a cell with the good answer for each exercise of a lab."""
    return [cell(exercise, exercise.good) for exercise in lab.exercises]


def wrong(lab: Lab) -> list[str]:
    """Return a cell with a wrong answer for each exercise of a lab."""
    return [cell(exercise, exercise.wrong[0].code) for exercise in lab.exercises]


def imports(lab: Lab) -> str:
    """Return the imports of a lab's notebook."""
    source = (FOLDER / lab.notebook).with_suffix(".py").read_text(encoding="utf-8")
    return "\n".join(line for line in source.splitlines() if line.startswith(("from ", "import ")))


def notebook(path: Path, cells: Sequence[str]) -> Path:
    """Write a notebook of code cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made: list[dict[str, object]] = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for n, text in enumerate(cells)
    ]
    path.write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return path


def submission(folder: Path, lab: Lab, cells: Sequence[str]) -> Path:
    """Write a learner's notebook of a lab: its imports and these cells."""
    return notebook(folder / lab.notebook, [imports(lab), *cells])
