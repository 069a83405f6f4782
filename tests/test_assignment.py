"""The labs as nbgrader assignments: made, released without a solution, graded, and told why."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.submissions import FOLDER, LABS
from vnmi_lab.checks.course import Lab
from vnmi_lab.cli import main
from vnmi_lab.grading import assignment, grade

LAB = LABS["03"]
ANSWERS = {
    "good": [exercise.good for exercise in LAB.exercises],
    "half": [LAB.exercises[0].good, LAB.exercises[1].start, LAB.exercises[2].wrong[0].code],
    "wrong": [exercise.wrong[0].code for exercise in LAB.exercises],
}
EARNED = {"good": 3, "half": 1, "wrong": 0}


def cells(path: Path) -> list[dict[str, Any]]:
    book = json.loads(path.read_text(encoding="utf-8"))
    return [{**cell, "source": "".join(cell["source"])} for cell in book["cells"]]


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nbgrader") / "course"
    assert main(["assignment", str(folder)]) == 0
    return folder


def test_every_lab_is_an_assignment_with_a_point_for_each_exercise(course: Path) -> None:
    assert {path.name for path in (course / "source").iterdir()} == {f"lab{number}" for number in LABS}
    for lab in LABS.values():
        made = cells(course / "source" / assignment.assignment(lab) / lab.notebook)
        marks = [cell["metadata"]["nbgrader"] for cell in made if "nbgrader" in cell["metadata"]]
        assert sum(mark.get("points", 0) for mark in marks) == len(lab.exercises)
        assert len({mark["grade_id"] for mark in marks}) == len(marks)
        assert all(mark["locked"] != mark["solution"] for mark in marks)
        assert [cell["id"] for cell in made] == list(dict.fromkeys(cell["id"] for cell in made))


def test_links_and_pictures_lead_somewhere(course: Path) -> None:
    for path in (course / "source").glob("*/*.ipynb"):
        text = "\n".join(cell["source"] for cell in cells(path) if cell["cell_type"] == "markdown")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            if (FOLDER / Path(target).name).exists() or target.startswith("pictures/"):
                assert (path.parent / target).exists(), (path, target)


def test_what_is_there_is_never_overwritten(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in course.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit):
        main(["assignment", str(course)])
    assert "is there already, and is left as it is" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in course.rglob("*") if path.is_file()} == before


def nbgrader(course: Path, *words: str) -> str:
    """Run nbgrader as an instructor does, in the course's folder and with this environment's commands first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *words], cwd=course, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def hand_in(course: Path, lab: Lab, learner: str) -> Path:
    """Take the release, write a learner's answers into it, and put it where nbgrader looks for it."""
    name = assignment.assignment(lab)
    book = json.loads((course / "release" / name / lab.notebook).read_text(encoding="utf-8"))
    answers = dict(zip([exercise.start.rstrip() for exercise in lab.exercises], ANSWERS[learner], strict=True))
    for cell in book["cells"]:
        for start, answer in answers.items():
            if cell["cell_type"] == "code" and "".join(cell["source"]).startswith(start):
                cell["source"] = answer
    path = course / "submitted" / learner / name / lab.notebook
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(book), encoding="utf-8")
    return path


def feedback(notebook: Path) -> str:
    """Return the text of nbgrader's page about a submission."""
    page = notebook.with_suffix(".html").read_text(encoding="utf-8")
    return unescape(re.sub(r"<[^>]+>", "", page.partition("<body")[2]))


@pytest.mark.slow
def test_a_release_holds_no_solution(course: Path) -> None:
    clear = pytest.importorskip("nbgrader.preprocessors").ClearSolutions()
    nbformat = pytest.importorskip("nbformat")
    for lab in LABS.values():
        book = nbformat.read(course / "source" / assignment.assignment(lab) / lab.notebook, as_version=4)
        assert any(assignment.BEGIN in cell.source for cell in book.cells)
        released, _resources = clear.preprocess(book, {})
        code = "\n".join(cell.source for cell in released.cells if cell.cell_type == "code")
        text = "\n".join(cell.source for cell in released.cells)
        assert "SOLUTION" not in text
        for exercise in lab.exercises:
            assert exercise.start.rstrip() in code
            assert exercise.good.strip() not in text
            new = {line.strip() for line in exercise.good.splitlines()} - set(
                map(str.strip, exercise.start.split("\n"))
            )
            assert new, exercise.id
            assert not new <= set(map(str.strip, code.splitlines())), exercise.id


@pytest.mark.slow
def test_good_half_done_and_wrong_submissions_get_their_points_and_the_reason(course: Path) -> None:
    pytest.importorskip("nbgrader")
    name = assignment.assignment(LAB)
    nbgrader(course, "generate_assignment", name)
    handed_in = {learner: hand_in(course, LAB, learner) for learner in ANSWERS}
    nbgrader(course, "autograde", name)
    nbgrader(course, "export", "--to", "grades.csv")
    rows = list(csv.DictReader((course / "grades.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["student_id"]: float(row["score"]) for row in rows} == EARNED
    assert {float(row["max_score"]) for row in rows} == {3.0}
    nbgrader(course, "generate_feedback", name)
    told = {learner: feedback(course / "feedback" / learner / name / LAB.notebook) for learner in ANSWERS}
    assert told["wrong"].count("AssertionError: Incorrect: ") == 3
    assert told["half"].count("AssertionError: Not attempted: ") == 1
    assert "AssertionError" not in told["good"]
    assert not list(course.rglob("vnmi-progress.json"))
    for learner, path in handed_in.items():
        assert grade(path).earned == EARNED[learner], "vnmi-lab check says the same"
