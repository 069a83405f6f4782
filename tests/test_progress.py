"""What is noted of a learner's work."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vnmi_lab.checks import Prediction, lab01, lab03, lab04, progress
from vnmi_lab.checks.course import COURSE


@pytest.fixture(autouse=True)
def _nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "NOTED", [])


CHOICE: Prediction = lab01.second_nmi
ACTS: dict[str, tuple[Callable[[], object], str, dict[str, str | int]]] = {
    "wrong": (lambda: lab01.open_the_door.check("handler: iretq"), "check", {"outcome": "incorrect"}),
    "hint": (lambda: lab01.two_runs.hint(2), "hint", {"number": 2}),
    "solution": (lab01.two_runs.solution, "solution", {}),
    "reset": (lab01.two_runs.reset, "reset", {}),
    "choose": (lambda: CHOICE.choose("a"), "choose", {"said": "wrong", "answer": "A"}),
    "skip": (CHOICE.skip, "skip", {"said": "skipped"}),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_a_learner_does_is_noted(act: str) -> None:
    do, kind, data = ACTS[act]
    do()
    [noted] = progress.NOTED
    assert (noted.kind, dict(noted.data)) == (kind, data)
    assert noted.id.startswith("lab01.")


def test_an_exercise_that_is_not_attempted_is_not_noted() -> None:
    lab01.two_runs.check(...)
    assert progress.NOTED == []


def test_every_prediction_notes_a_skip() -> None:
    asked = [prediction for lab in COURSE for prediction in lab.predictions]
    for prediction in asked:
        prediction.skip()
    assert [(noted.id, noted.kind) for noted in progress.NOTED] == [(prediction.id, "skip") for prediction in asked]


def test_a_placed_flag_and_a_set_word_are_noted_with_the_answer() -> None:
    kinds = {type(one).__name__: one for module in (lab03, lab04) for one in module.PREDICTIONS}
    kinds["PlaceFlag"].place(kinds["PlaceFlag"].answer())
    kinds["SetBits"].set(kinds["SetBits"].answer())
    assert [(noted.kind, dict(noted.data)["said"]) for noted in progress.NOTED] == [
        ("place", "right"),
        ("set", "right"),
    ]
    assert all(isinstance(dict(noted.data)["answer"], int) for noted in progress.NOTED)
