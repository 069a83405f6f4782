"""Exercises that count for a grade: no solution, hints as ever, and an assertion where a grader wants one."""

from __future__ import annotations

import pytest

from vnmi_lab.checks import lab01, progress

EXERCISE = lab01.two_runs


def test_in_graded_mode_there_is_no_solution_and_hints_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VNMI_LAB_GRADED", "1")
    assert repr(EXERCISE.solution()) == (
        "No solution: This counts for a grade. There are hints: `lab.two_runs.hint()`."
    )
    hints = [EXERCISE.hint() for _hint in EXERCISE.hints]
    assert [hint.text.removesuffix(" That was the last one.") for hint in hints] == list(EXERCISE.hints)
    assert [noted.kind for noted in progress.noted()] == ["hint"] * 3, "a solution that was not shown is not noted"


def test_otherwise_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VNMI_LAB_GRADED", "0")
    assert EXERCISE.solution().code == EXERCISE.good
    assert EXERCISE.hint(3).text.endswith("there is `lab.two_runs.solution()`.")


def test_what_is_required_and_not_so_is_an_assertion_with_the_words_of_the_check() -> None:
    with pytest.raises(AssertionError) as error:
        EXERCISE.require([])
    assert str(error.value) == repr(EXERCISE.check([]))
    assert str(error.value).startswith("Incorrect: ")
    with pytest.raises(AssertionError, match=r"^Not attempted: "):
        EXERCISE.require(...)
    names: dict[str, object] = {}
    exec(f"from vnmi_lab.machine import Stimulus\n{EXERCISE.good}", names)  # noqa: S102  # what a learner's cell does
    assert EXERCISE.require(names[EXERCISE.variable]).ok
