"""The prediction panel without a browser: what is asked, what is hidden, what is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from vnmi_lab.checks import Prediction, lab01, lab02
from vnmi_lab.widgets import Predict

PREDICTIONS = [*lab01.PREDICTIONS, *lab02.PREDICTIONS]


@pytest.fixture(autouse=True)
def as_new() -> Iterator[None]:
    yield
    for prediction in PREDICTIONS:
        prediction.record.clear()


def bundle(panel: Predict) -> dict[str, Any]:
    made = panel._repr_mimebundle_()
    assert made is not None
    return dict(made[0])


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda prediction: prediction.id)
def test_the_rest_of_the_run_is_hidden_until_there_is_an_answer(prediction: Prediction) -> None:
    panel = Predict(prediction)
    until = prediction.until(prediction.trace())
    assert (panel.timeline.payload["steps"], panel.timeline.cursor) == (until + 1, until)
    panel.choice.value = prediction.answer()
    panel.check.click()
    assert panel.timeline.payload["steps"] == len(prediction.trace())
    assert prediction.record == ["right"]
    assert panel.choice.value == prediction.answer()
    assert panel.choice.disabled
    assert "you said this" in panel.answer.value


def test_check_needs_a_choice_and_skip_does_not() -> None:
    panel = Predict(lab01.ten_more)
    assert panel.check.disabled
    assert not panel.skip.disabled
    panel.choice.value = "A"
    assert not panel.check.disabled
    panel.skip.click()
    assert lab01.ten_more.record == ["skipped"]
    assert panel.timeline.payload["steps"] == len(lab01.ten_more.trace())
    assert "you said" not in panel.answer.value


def test_an_error_while_answering_is_shown_and_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = Predict(lab01.ten_more)

    def fail(_self: Prediction) -> str:
        raise RuntimeError("<broken>")

    monkeypatch.setattr(Prediction, "answer", fail)
    panel.skip.click()
    assert "RuntimeError: &lt;broken&gt;" in panel.answer.value
    assert panel.timeline.payload["steps"] < len(lab01.ten_more.trace())
    assert lab01.ten_more.record == []


def test_a_page_without_widgets_gets_question_picture_and_a_folded_answer() -> None:
    shown = bundle(Predict(lab02.nested_injection))
    assert "application/vnd.jupyter.widget-view+json" in shown
    asked, *folded = shown["text/html"].split("<details>")
    assert "How many NMI handlers" in asked
    assert "the machine does this" not in asked
    assert "the machine does this" in folded[0]
    assert shown["text/html"].count("<img ") == 2, "the run up to the question, and the whole of it"
    assert "Answer with .choose" in shown["text/plain"]


def test_the_still_picture_before_the_answer_does_not_give_it_away() -> None:
    shown = bundle(Predict(lab01.second_nmi))["text/html"]
    before_whole, whole = shown.split("<summary>The whole run</summary>")
    assert "2 runs of the NMI handler" in whole
    assert "2 runs of the NMI handler" not in before_whole
