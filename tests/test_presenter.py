"""The presenter without a browser: nothing is shown before it is asked for, and nothing is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from vnmi_lab import show
from vnmi_lab.checks import Asked, lab01, lab04, progress
from vnmi_lab.scenario import Scenario
from vnmi_lab.trace import Trace
from vnmi_lab.widgets import Presenter

TEXT = "v1~plain~vnmi~nmi@work~nmi@body"


def test_a_run_is_shown_step_by_step_and_taken_back() -> None:
    panel = show(TEXT, presenter=True, cursor=4)
    assert isinstance(panel, Presenter)
    assert (panel.until, panel.timeline.visible_until, panel.timeline.cursor) == (4, 4, 4)
    panel.show("next")
    assert (panel.until, panel.timeline.cursor, panel.bar.place) == (5, 5, "Step 5")
    panel.show("back")
    panel.show("event")
    assert panel.until == next(step for step in panel.whole["events"] if step > 4)
    panel.show("all")
    assert panel.until == panel.whole["steps"] - 1
    assert panel.bar.offers == ["back"]
    panel.show("next")
    assert panel.until == panel.whole["steps"] - 1


def test_at_the_first_step_there_is_no_way_back() -> None:
    panel = show("one", presenter=True)
    assert "back" not in panel.bar.offers
    panel.show("back")
    assert panel.until == 0


def test_a_click_comes_as_a_message_and_junk_does_nothing() -> None:
    panel = show("one", presenter=True)
    for content in ({"show": "next"}, {"show": "everything"}, {"show": None}, "next", {}):
        panel.bar._handle_custom_msg(content, [])
    assert panel.until == 1


@pytest.mark.parametrize("asked", [lab01.ten_more, lab04.behind_the_iret, lab04.written_back], ids=lambda a: a.id)
def test_a_prediction_hides_its_answer_until_it_is_asked_for_and_again(asked: Asked) -> None:
    panel = show(asked, presenter=True)
    noted = len(list(progress.noted()))
    assert panel.timeline.payload["steps"] == len(asked.shown())
    assert (panel.bar.offers, panel.bar.next_word) == (["next"], "Show the answer")
    assert panel.told.value == ""
    assert asked.question.split("`")[0] in panel.head.value
    panel.show("next")
    assert panel.timeline.payload["steps"] == len(asked.trace())
    assert "the machine does this" in panel.told.value
    assert "kipped" not in panel.told.value
    panel.show("back")
    assert panel.timeline.payload["steps"] == len(asked.shown())
    assert (panel.told.value, panel.bar.offers) == ("", ["next"])
    assert (asked.record, len(list(progress.noted()))) == ([], noted)


def test_a_page_without_widgets_sees_no_more_than_the_room() -> None:
    made: Any = show(lab01.ten_more, presenter=True)._repr_mimebundle_()
    assert "the machine does this" not in made[0]["text/html"]
    made = show(TEXT, presenter=True, cursor=4)._repr_mimebundle_()
    assert "NMI taken" not in made[0]["text/html"]


def test_traces_and_machines_can_be_presented_and_other_things_not() -> None:
    scenario = Scenario.parse(TEXT)
    for what in (scenario, scenario.source, scenario.machine(), Trace(scenario.machine(), "mine")):
        assert isinstance(show(what, presenter=True), Presenter)
    junk: list[Any] = [5, {"version": 1}]
    for thing in junk:
        with pytest.raises(TypeError, match="a presenter shows a scenario"):
            show(thing, presenter=True)
    alone: Any = lab01.ten_more
    with pytest.raises(TypeError, match="show takes a scenario"):
        show(alone)
