"""The table of the course, beside the notebooks that it is about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vnmi_lab.checks.course import COURSE, Lab

LABS = Path(__file__).parent.parent / "labs"
THERE = [lab for lab in COURSE if lab.exists]


def source(lab: Lab) -> str:
    return (LABS / lab.notebook).with_suffix(".py").read_text(encoding="utf-8")


def test_the_course_has_ten_labs_in_order() -> None:
    assert [lab.number for lab in COURSE] == [f"{number:02}" for number in range(10)]


def test_every_notebook_is_in_the_table() -> None:
    assert {path.name for path in LABS.glob("*.ipynb")} == {lab.notebook for lab in THERE}


@pytest.mark.parametrize("lab", THERE, ids=lambda lab: lab.number)
def test_title_and_minutes_are_those_of_the_notebook(lab: Lab) -> None:
    title = re.search(r"^# # (.+)$", source(lab), flags=re.MULTILINE)
    minutes = re.search(r"\*\*Time:\*\* about (\d+) minutes", source(lab))
    assert title
    assert minutes
    assert title[1].casefold() == f"Lab {lab.number}: {lab.title}".casefold()
    assert int(minutes[1]) == lab.minutes <= 45


@pytest.mark.parametrize("lab", COURSE, ids=lambda lab: lab.number)
def test_what_is_asked_has_the_number_of_its_lab(lab: Lab) -> None:
    asked = [*(one.id for one in lab.exercises), *(one.id for one in lab.predictions)]
    assert bool(asked) == lab.exists
    assert all(id_.startswith(f"lab{lab.number}.") for id_ in asked)
    assert len(set(asked)) == len(asked)


def test_lab_00_has_the_map_with_the_minutes() -> None:
    rows = re.findall(
        r"^# \| \[?(\d\d) ([^]|]+?)(?:\]\(([^)]+)\))? \| (\d+) \| ([^|]+) \|$", source(COURSE[0]), re.MULTILINE
    )
    assert [(number, title, int(minutes)) for number, title, _link, minutes, _about in rows] == [
        (lab.number, lab.title, lab.minutes) for lab in COURSE
    ]
    assert [link for _number, _title, link, _minutes, _about in rows] == ["", *(lab.notebook for lab in COURSE[1:])]


@pytest.mark.parametrize("lab", COURSE, ids=lambda lab: lab.number)
def test_every_lab_asks_enough_and_every_exercise_has_three_hints(lab: Lab) -> None:
    assert len(lab.exercises) >= (1 if lab is COURSE[0] else 3)
    assert len(lab.predictions) >= 1
    assert {len(exercise.hints) for exercise in lab.exercises} == {3}
    assert all(len({*exercise.hints}) == 3 for exercise in lab.exercises)
    assert all(exercise.good not in hint for exercise in lab.exercises for hint in exercise.hints[:2])


@pytest.mark.parametrize("lab", COURSE, ids=lambda lab: lab.number)
def test_every_lab_exists_and_its_parts_have_names_of_their_own(lab: Lab) -> None:
    assert lab.exists
    for id_ in [*(one.id for one in lab.exercises), *(one.id for one in lab.predictions)]:
        assert getattr(lab.module(), id_.split(".")[1]).id == id_, "a notebook says lab.name"
