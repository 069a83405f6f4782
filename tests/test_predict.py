"""The prediction panel without a browser: what is asked, what is hidden, what is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from vnmi_lab.checks import PlaceFlag, Prediction, SetBits, lab01, lab02, lab04
from vnmi_lab.timeline import svg
from vnmi_lab.widgets import Predict

PREDICTIONS = [*lab01.PREDICTIONS, *lab02.PREDICTIONS]
FLAG, BITS = lab04.behind_the_iret, lab04.written_back


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
    assert (panel.check.disabled, panel.skip.disabled) == (True, False)
    panel.choice.value = "A"
    assert not panel.check.disabled
    panel.skip.click()
    assert lab01.ten_more.record == ["skipped"]
    assert panel.timeline.payload["steps"] == len(lab01.ten_more.trace())
    assert "you said" not in panel.answer.value


def test_the_first_answer_stands() -> None:
    panel = Predict(lab01.ten_more)
    panel.choice.value = "A"
    panel.check.click()
    told = panel.answer.value
    panel.check.click()
    panel.skip.click()
    assert (len(lab01.ten_more.record), panel.answer.value) == (1, told)


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


# --- on the timeline


def flags(panel: Predict) -> list[tuple[int, str]]:
    return [(step, whose) for step, whose, _text in panel.timeline.flags]


def test_a_flag_is_placed_on_another_run_and_both_flags_stand_on_the_real_one() -> None:
    panel = Predict(FLAG)
    assert panel.timeline.payload["steps"] == len(FLAG.run_seen())
    assert panel.timeline.placing == "the second NMI is taken"
    assert flags(panel) == [(8, "given")]
    assert panel.check.disabled
    panel.timeline.placed = 12
    assert "before step 12" in panel.choice.value
    panel.timeline.placed = 10  # another thought
    assert "<code" in panel.choice.value
    panel.check.click()
    assert FLAG.record == ["wrong"]
    so = FLAG.measure(FLAG.trace())
    assert flags(panel) == [(so, "machine"), (14, "you")]
    assert panel.timeline.payload["steps"] == len(FLAG.trace())
    assert panel.timeline.cursor == so
    assert panel.timeline.placing == ""
    assert "Before the" in panel.answer.value
    assert "10" in panel.choice.value, "what was said stays"


def test_never_is_said_in_the_place_of_a_flag() -> None:
    panel = Predict(FLAG)
    panel.timeline.placed = 12
    panel.never.click()
    assert "it never happens" in panel.choice.value
    assert not panel.check.disabled
    panel.timeline.placed = 12  # another thought
    assert "before step 12" in panel.choice.value
    panel.never.click()
    panel.check.click()
    assert FLAG.record == ["wrong"]
    assert flags(panel) == [(FLAG.measure(FLAG.trace()), "machine")]
    assert panel.never.layout.display == "none"
    assert Predict(BITS).never.layout.display == "none"


def test_the_flags_stand_in_the_still_picture() -> None:
    panel = Predict(FLAG)
    step, _, text = panel.timeline.flags[0]
    before = bundle(panel)["image/svg+xml"]
    assert f">{text}</text>" in before
    assert "the machine: " not in before
    panel.timeline.placed = 12
    panel.check.click()
    after = bundle(panel)["image/svg+xml"]
    assert f">the machine: {FLAG.flag}</text>" in after
    assert f">you: {FLAG.flag}</text>" in after
    assert "pole yours" in after
    hidden = svg({**panel.whole, "flags": [[step, "given", "<b>"], [40, "you", "hidden"]], "visible_until": step})
    assert "&lt;b&gt;" in hidden
    assert "hidden" not in hidden


def test_the_bits_of_a_word_are_set_and_both_words_stand_on_the_timeline() -> None:
    panel = Predict(BITS)
    assert panel.timeline.payload["steps"] == BITS.until(BITS.trace()) + 1
    assert panel.choice.word == BITS.start()
    assert not panel.check.disabled
    panel.choice.word = BITS.answer() ^ 1 << 11
    panel.check.click()
    assert BITS.record == ["wrong"]
    assert panel.choice.disabled
    where = BITS.where(BITS.trace())
    assert flags(panel) == [(where, "machine"), (where, "you")]
    assert {text for _step, _whose, text in panel.timeline.flags} == {"int_ctl = 07001200h", "int_ctl = 07001A00h"}


@pytest.mark.parametrize("prediction", [FLAG, BITS], ids=lambda prediction: prediction.id)
def test_a_prediction_on_the_timeline_can_be_skipped(prediction: PlaceFlag | SetBits) -> None:
    panel = Predict(prediction)
    panel.skip.click()
    assert prediction.record == ["skipped"]
    assert [whose for _step, whose in flags(panel)] == ["machine"]
    assert panel.timeline.payload["steps"] == len(prediction.trace())


def test_the_run_that_a_flag_is_placed_on_has_nothing_of_the_answer() -> None:
    shown = bundle(Predict(FLAG))["text/html"]
    before_whole, whole = shown.split("<summary>The whole run</summary>")
    assert "2 runs of the NMI handler" in whole
    assert "2 runs of the NMI handler" not in before_whole


def test_what_the_page_says_comes_as_messages_and_nonsense_is_left_out() -> None:
    choice, bits, flag = Predict(lab01.ten_more), Predict(BITS), Predict(FLAG)
    choice.choice._said(None, {"value": "B", "options": []}, None)
    assert (choice.choice.value, choice.check.disabled) == ("B", False)
    bits.choice._said(None, {"word": 5}, None)
    assert bits.choice.word == 5
    bits.check.click()
    assert "set or clear bits" in bits.answer.value, "a word that cannot be is refused, and the run stays hidden"
    assert BITS.record == []
    last = len(FLAG.run_seen()) - 1
    for said, placed in [({"placed": "3"}, None), ("placed", None), ({"placed": 10**9}, last), ({"placed": -4}, 0)]:
        flag.timeline._pointed(None, said, None)
        assert flag.timeline.placed == placed


def test_what_a_click_brings_along_counts_and_a_message_that_comes_late_does_not() -> None:
    choice, bits, flag = Predict(lab01.ten_more), Predict(BITS), Predict(FLAG)
    bits.check._clicked(None, {"click": {"word": BITS.answer()}}, None)
    assert BITS.record == ["right"]
    bits.choice._said(None, {"word": BITS.start()}, None)
    assert bits.choice.word == BITS.answer()
    choice.check._clicked(None, {"click": {"value": lab01.ten_more.answer()}}, None)
    assert lab01.ten_more.record == ["right"]
    choice.choice._said(None, {"value": "B"}, None)
    assert choice.choice.value == lab01.ten_more.answer()
    flag.timeline._pointed(None, {"placed": 12}, None)
    flag.check._clicked(None, {"click": {"placed": FLAG.answer()}}, None)
    assert FLAG.record == ["right"]
    flag.timeline._pointed(None, {"placed": 3}, None)
    assert flag.timeline.placed is None
    assert "before step 3" not in flag.choice.value


def test_a_click_that_says_never_counts_and_one_that_brings_nonsense_says_nothing() -> None:
    never, choice = Predict(FLAG), Predict(lab01.ten_more)
    never.timeline._pointed(None, {"placed": 12}, None)
    assert never.never.says == {"placed": None}
    never.check._clicked(None, {"click": never.never.says}, None)
    assert [step for step, whose in flags(never) if whose == "you"] == []
    assert FLAG.record == ["wrong"]
    for nonsense in ({"click": 5}, {"click": {"words": 3}}, "click", {}):
        choice.check._clicked(None, nonsense, None)
    assert lab01.ten_more.record == [], "nothing is chosen yet"
