"""The labs as nbgrader assignments: an instructor's notebook for each lab, made from the one that learners get.

An answer cell begins with what a learner is given and has the good answer between nbgrader's marks, which takes it out
of the release. The cell behind it is locked, and asks the same check that the learner's cell does, for a point.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vnmi_lab.checks import Exercise
from vnmi_lab.checks.course import COURSE, Lab
from vnmi_lab.checks.exercise import GRADED

SCHEMA = 3
"""The version of nbgrader's metadata that is written."""
POINTS = 1
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
CONFIG = "nbgrader_config.py"
FIRST = f"""# This lab counts for a grade: exercises give hints, and no solutions.
import os

os.environ["{GRADED}"] = "1"
"""
CONFIG_TEXT = '''\
"""What the labs of vnmi_lab need of nbgrader; a course of your own needs these lines in its configuration."""

import os

c = get_config()  # noqa: F821  # nbgrader gives it
c.CourseDirectory.course_id = "vnmi_lab"
c.ClearSolutions.code_stub = {"python": "# Your answer: change the lines above."}
c.ClearSolutions.enforce_metadata = True
c.Execute.timeout = 60
c.ExecuteOnce.timeout = 60
os.environ["VNMI_LAB_PROGRESS"] = "off"  # autograde leaves no progress files among the submissions
'''
_LINK = re.compile(r"\]\((?P<number>\d\d)_(?P<rest>\w+\.ipynb)")


def assignment(lab: Lab) -> str:
    """Return what nbgrader is to call the lab."""
    return f"lab{lab.number}"


def write(origin: Path, folder: Path) -> list[Path]:
    """Make a course of all labs in a folder: ``source/labNN/`` and a configuration; what is there is never overwritten.

    Returns what was written, or ``FileExistsError`` names what is in the way.
    """
    labs = [lab for lab in COURSE if lab.exists and (origin / lab.notebook).is_file()]
    made = {folder / "source" / assignment(lab) / lab.notebook: source(origin / lab.notebook, lab) for lab in labs}
    made[folder / CONFIG] = CONFIG_TEXT
    for path in made:
        if path.exists():
            raise FileExistsError(17, "is there already, and is left as it is", str(path))
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    for lab in labs:
        shutil.copytree(origin / "pictures", folder / "source" / assignment(lab) / "pictures", dirs_exist_ok=True)
    return list(made)


def source(notebook: Path, lab: Lab) -> str:
    """Return the instructor's notebook of a lab as text."""
    book = json.loads(notebook.read_text(encoding="utf-8"))
    cells = list(_cells(book["cells"], lab))
    asked = sum(cell["metadata"].get("nbgrader", {}).get("grade", False) for cell in cells)
    assert asked == len(lab.exercises), f"{notebook}: {asked} exercises, not {len(lab.exercises)}"
    book["cells"] = cells
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def _cells(cells: list[dict[str, Any]], lab: Lab) -> Iterator[dict[str, Any]]:
    yield _code(f"{assignment(lab)}-graded", FIRST, _mark("graded", grade=False, solution=False))
    for cell in cells:
        text = "".join(cell["source"])
        exercise = next((one for one in lab.exercises if text == f"{one.start}\n{one.call}"), None)
        if exercise is not None:
            yield from _exercise(cell["id"], exercise)
        elif cell["cell_type"] == "markdown":
            yield {**cell, "source": _LINK.sub(r"](../lab\g<number>/\g<number>_\g<rest>", text)}
        else:
            yield cell


def _exercise(cell: str, exercise: Exercise) -> Iterator[dict[str, Any]]:
    """Return three cells: what the learner writes, what says how it went, and what is graded."""
    name = exercise.id.partition(".")[2]
    answer = f"{exercise.start.rstrip()}\n{BEGIN}\n{exercise.good.rstrip()}\n{END}\n"
    yield _code(cell, answer, _mark(f"{name}-answer", grade=False, solution=True))
    yield _code(f"{cell}-check", exercise.call, {})
    required = f"{exercise.name}.require({exercise.variable})"
    yield _code(f"{cell}-points", required, {**_mark(f"{name}-points", grade=True, solution=False), "points": POINTS})


def _mark(name: str, *, grade: bool, solution: bool) -> dict[str, Any]:
    """Return nbgrader's metadata of a cell; what a learner does not write is locked."""
    kind = {"grade": grade, "solution": solution, "locked": not solution, "task": False}
    return {"schema_version": SCHEMA, "grade_id": name.replace("_", "-"), **kind}


def _code(cell: str, text: str, mark: dict[str, Any]) -> dict[str, Any]:
    metadata = {"nbgrader": mark} if mark else {}
    parts: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "id": cell[-64:],
        "metadata": metadata,
        "outputs": [],
    }
    return {**parts, "source": text.splitlines(keepends=True)}
