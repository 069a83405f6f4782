"""The practice panel without a browser: it asks, reveals after the answer, and brings the next problem."""

from __future__ import annotations

from typing import Any

import pytest

import vnmi_lab
from vnmi_lab.checks import Prediction, progress
from vnmi_lab.checks import map as course
from vnmi_lab.checks.practice import LEVELS, problem
from vnmi_lab.widgets import Practice


@pytest.mark.parametrize("level", LEVELS)
def test_a_problem_is_asked_and_then_the_next_one(level: int) -> None:
    panel = vnmi_lab.practice(3, level)
    asked = panel.problem
    assert (asked.id, panel.panel.prediction) == (f"p1-{level}-3", asked.asked)
    panel.panel.skip.click()
    assert asked.asked.record == ["skipped"]
    panel.next.click()
    assert panel.problem.id == f"p1-{level}-4"
    assert panel.panel.reveal is None
    assert panel.children[1] is panel.panel
    assert panel.children[-1] is panel.next


def test_an_answer_is_noted_for_the_progress_of_the_learner() -> None:
    panel = Practice(next(one for seed in range(20) if isinstance((one := problem(seed, 1)).asked, Prediction)))
    panel.panel.choice.value = panel.problem.asked.answer()
    panel.panel.check.click()
    noted = progress.first_answer(panel.problem.id)
    assert noted is not None
    assert (noted.kind, noted.get("said")) == ("choose", "right")


def test_the_map_says_what_came_of_practice() -> None:
    assert "Practice" not in repr(course.report())
    for seed in (1, 2):
        vnmi_lab.practice(seed, 1).panel.skip.click()
    shown = course.report()
    assert "Practice: 2 problems, 2 skipped." in repr(shown)
    assert "Practice: 2 problems, 2 skipped." in shown._repr_html_()
    assert [one["id"] for one in shown.as_value()["practice"]] == ["p1-1-1", "p1-1-2"]


def test_nothing_of_the_answer_is_sent_before_it_is_asked_for() -> None:
    panel = vnmi_lab.practice(1, 2)
    asked = panel.problem.asked
    assert panel.panel.timeline.payload["steps"] == len(asked.shown()) < len(asked.trace())


def test_a_page_without_widgets_gets_the_problem_and_a_folded_answer() -> None:
    panel = vnmi_lab.practice(2, 3)
    made: Any = panel._repr_mimebundle_()
    data = dict(made[0])
    assert data["text/plain"] == repr(panel) == repr(panel.problem)
    before, _folded, _rest = data["text/html"].partition("<details>")
    assert panel.problem.id in before
    assert "the machine does this" not in before
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id


def test_what_cannot_be_is_refused_in_a_line() -> None:
    with pytest.raises(ValueError, match="a level must be a whole number from 1 to 5, not 7"):
        vnmi_lab.practice(1, 7)
