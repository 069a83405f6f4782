"""Every exercise with its good answer and its named wrong ones; every prediction against the machine."""

from __future__ import annotations

import html
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from vnmi_lab.checks import (
    Asked,
    Exercise,
    PlaceFlag,
    Prediction,
    Result,
    SetBits,
    lab01,
    lab02,
    lab03,
    lab04,
    lab05,
    lab06,
    lab07,
    lab08,
    lab09,
    progress,
)
from vnmi_lab.checks.course import COURSE
from vnmi_lab.checks.exercise import untouched
from vnmi_lab.checks.placing import NOT_YET, moment
from vnmi_lab.checks.prediction import lettered
from vnmi_lab.checks.result import SHOWN, Outcome
from vnmi_lab.hv.ops import EBUSY
from vnmi_lab.hv.svm import borrow_step, gif_set, open_window
from vnmi_lab.hv.vcpu import REQ_EVENT
from vnmi_lab.machine import Stimulus

MODULES = [lab.module() for lab in COURSE if lab.exists]
EXERCISES = [exercise for module in MODULES for exercise in module.EXERCISES]
PREDICTIONS: list[Asked] = [prediction for module in MODULES for prediction in module.PREDICTIONS]
CHOICES = [prediction for prediction in PREDICTIONS if isinstance(prediction, Prediction)]
FLAGS = [prediction for prediction in PREDICTIONS if isinstance(prediction, PlaceFlag)]
WORDS = [prediction for prediction in PREDICTIONS if isinstance(prediction, SetBits)]
NAMES: dict[str, object] = {
    "EBUSY": EBUSY,
    "REQ_EVENT": REQ_EVENT,
    "Stimulus": Stimulus,
    "borrow_step": borrow_step,
    "gif_set": gif_set,
    "open_window": open_window,
}
"""What the labs import for what a learner writes."""
WRONG = [pytest.param(e, w.code, w.message, id=f"{e.id}: {w.name}") for e in EXERCISES for w in e.wrong]


def by_id(item: Exercise | Asked) -> str:
    return item.id


def answer(exercise: Exercise, code: str) -> object:
    names = dict(NAMES)
    exec(code, names)  # noqa: S102  # what a learner's cell does
    return names[exercise.variable]


# --- exercises ---------------------------------------------------------------


@pytest.mark.parametrize("exercise", EXERCISES, ids=by_id)
def test_the_good_answer_is_correct(exercise: Exercise) -> None:
    result = exercise.check(answer(exercise, exercise.good))
    assert result.outcome == "correct", result
    assert result.ok
    assert result.trace is not None
    assert result.divergence is None


@pytest.mark.parametrize(("exercise", "code", "message"), WRONG)
def test_a_wrong_answer_gets_its_message(exercise: Exercise, code: str, message: str) -> None:
    result = exercise.check(answer(exercise, code))
    assert result.outcome == "incorrect"
    assert result.message.startswith(message)
    if result.divergence:
        assert result.trace is not None
        step = result.trace[result.divergence.step]
        assert result.divergence.text == step.text
        assert result.divergence.expected != result.divergence.actual


@pytest.mark.parametrize("exercise", EXERCISES, ids=by_id)
def test_an_exercise_names_enough_wrong_answers_with_a_divergence(exercise: Exercise) -> None:
    results = [exercise.check(answer(exercise, wrong.code)) for wrong in exercise.wrong]
    assert len(results) >= 3
    assert any(result.divergence for result in results)
    assert len({wrong.name for wrong in exercise.wrong}) == len(exercise.wrong)


@pytest.mark.parametrize("exercise", EXERCISES, ids=by_id)
def test_what_a_learner_begins_with_is_not_attempted(exercise: Exercise) -> None:
    for start in (answer(exercise, exercise.start), ..., None, "____"):
        assert exercise.check(start).outcome == "not attempted"
    assert exercise.check().outcome == "not attempted"


@pytest.mark.parametrize("exercise", EXERCISES, ids=by_id)
@pytest.mark.parametrize(
    "junk", [5, 2.5, "words", b"\x90", {"a": 1}, [], [object()], print, True], ids=lambda j: type(j).__name__
)
def test_junk_is_answered_and_never_raises(exercise: Exercise, junk: object) -> None:
    result = exercise.check(junk)
    assert result.outcome in ("incorrect", "raised")
    assert result.message


ENDLESS = [
    (lab01.two_runs, itertools.repeat(Stimulus(at="work"))),
    (lab01.no_way_back, [Stimulus(at="work", times=10**12)]),
    (lab01.open_the_door, "again: jmp again"),
    (lab02.nest, itertools.repeat("run")),
    (lab02.one_at_a_time, ["run"] * 50),
    (lab02.nmi_word, 1 << 100),
    (lab03.in_order, itertools.repeat("INTR")),
    (lab03.break_it, itertools.repeat(Stimulus(at="work"))),
    (lab04.four_more, [Stimulus(at="work", times=10**12)]),
    (lab04.int_ctl, 1 << 100),
    (lab05.spy, "start: jmp start"),
    (lab06.visited, itertools.repeat("nmi_queued")),
    (lab06.move, [Stimulus(at="work", times=10**12)]),
    (lab07.break_it, itertools.repeat(Stimulus(at="work"))),
    (lab09.worst, [Stimulus(at="work", times=10**12)]),
    (lab09.formula, lambda n: 10 ** (10**n)),  # a number of a million digits
    *((exercise, itertools.repeat(Stimulus(at="open"))) for exercise in (lab08.stuck, lab08.lose, lab08.alarm)),
    (lab08.one_more, [Stimulus(at="closed", times=10**12)]),
    (lab08.where, 1 << 100),
    (lab08.which_bit, 1 << 100),
]


@pytest.mark.parametrize(("exercise", "endless"), ENDLESS, ids=[exercise.id for exercise, _ in ENDLESS])
def test_what_has_no_end_is_answered(exercise: Exercise, endless: object) -> None:
    assert exercise.check(endless).outcome == "incorrect"


def test_hints_come_one_after_the_other_and_the_last_one_stays() -> None:
    exercise = lab01.two_runs
    assert [exercise.hint().title for _ in range(4)] == ["Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3", "Hint 3 of 3"]
    assert exercise.hint(1).text == exercise.hints[0]
    assert "solution()" in exercise.hint().text
    assert "not 4" in exercise.hint(4).text
    assert progress.hints_used(exercise.id) == 3
    exercise.reset()
    assert progress.hints_used(exercise.id) == 0
    assert exercise.hint().title == "Hint 1 of 3"


def test_the_solution_is_the_good_answer_and_reset_gives_back_the_cell() -> None:
    assert lab02.nest.solution().code == lab02.nest.good
    assert lab02.nest.reset().code == 'script = ["inj", "run", ...]\nlab.nest.check(script)'


# --- the learner's own line ---------------------------------------------------------------

RAISES = [
    (lab01.two_runs, "stimuli = [Stimulus(at='hander', times=5)]", "did you mean 'handler'?", "Stimulus(at='hander'"),
    (lab01.two_runs, "stimuli = (Stimulus(at=1 // x) for x in (0,))", "ZeroDivisionError", "line 1"),
    (lab01.open_the_door, "my_handler = 'handler: nop\\n itn3\\n iretq'", "did you mean 'int3'?", "itn3"),
    (lab01.open_the_door, "my_handler = 'times 300 nop'", "at most 256 fit", "times 300 nop"),
    (lab02.nest, "script = ['inj', 'rum']", "did you mean 'run'?", "'rum'"),
    (lab02.nest, "script = ['inj', ('set', 'event_ing', 1), 'run']", "event_inj", "('set', 'event_ing', 1)"),
    (lab02.nest, "script = [('icpt', 'irte'), 'run']", "iret", "('icpt', 'irte')"),
    (lab03.break_it, "attack = [Stimulus(at='leav')]", "did you mean 'leave'?", "Stimulus(at='leav'"),
    (lab04.four_more, "stimuli = [Stimulus(at='mor')]", "did you mean 'more'?", "Stimulus(at='mor'"),
    (lab06.move, "schedule = [Stimulus(at='savd', what='migrate')]", "did you mean 'saved'?", "Stimulus(at='savd'"),
    (lab07.break_it, "attack = [Stimulus(at='handlr')]", "did you mean 'handler'?", "Stimulus(at='handlr'"),
    (lab08.stuck, "attack = [Stimulus(at='dne', times=2)]", "did you mean 'done'?", "Stimulus(at='dne'"),
]


@pytest.mark.parametrize(("exercise", "code", "message", "line"), RAISES, ids=[row[3] for row in RAISES])
def test_what_cannot_run_is_shown_in_their_own_line(exercise: Exercise, code: str, message: str, line: str) -> None:
    result = exercise.check(answer(exercise, code))
    assert result.outcome == "raised"
    assert message in result.message
    assert line in result.line
    assert line in repr(result)


def test_an_error_in_a_learners_file_shows_its_line(tmp_path: Path) -> None:
    path = tmp_path / "cell.py"
    path.write_text("def lines():\n    yield 'inj'\n    yield 1 / 0\n")
    names: dict[str, object] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)  # noqa: S102  # what a learner's cell does
    lines = names["lines"]
    assert callable(lines)
    result = lab02.nest.check(lines())
    assert (result.outcome, result.line) == ("raised", "line 3: yield 1 / 0")


def test_a_mistake_of_the_package_is_not_blamed_on_the_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnmi_lab.checks.lab02.scripted", lambda *_: json.loads.nothing)  # type: ignore[attr-defined]
    monkeypatch.setattr("vnmi_lab.checks.exercise.PACKAGE", "")  # every file counts as the package's
    with pytest.raises(AttributeError):
        lab02.nest.check(["run"])


def test_a_blank_anywhere_is_untouched() -> None:
    assert untouched([1, (2, ...)])
    assert untouched({"a": (1, ...)})
    assert untouched("a ____ b")
    assert not untouched(["run"])
    assert not untouched(0)


# --- judged by what runs ---------------------------------------------------------------

OTHER_GOOD = [
    (lab01.two_runs, "stimuli = [Stimulus(at='work')] + [Stimulus(at='handler')] * 4"),
    (lab01.two_runs, "stimuli = [Stimulus(at='start', times=4), Stimulus(at='done')]"),
    (lab01.open_the_door, "my_handler = 'inc qword [rbx+16]\\n int 0x40\\n iretq'"),
    (lab01.open_the_door, "my_handler = 'int3\\n iretq'"),
    (lab02.nmi_word, "nmi_word = 0x80000202"),
    (lab02.nmi_word, "nmi_word = 0x80000255"),
    (lab02.nest, "script = [('inj', 0x80000200), 'mark', 'run', ('set', 'event_inj', 0x80000202), 'run', 'run']"),
    (lab02.one_at_a_time, "script = ['run', 'inj', 'run', 'run', 'inj', 'run', 'run']"),
    (lab03.in_order, "order = ('INTR', 'IRET', '#DB', 'IRET', 'HLT')"),
    (lab03.break_it, "attack = [Stimulus(at=12), Stimulus(at=3)]"),
    (lab04.int_ctl, "int_ctl = 0x04001800"),
    (lab04.four_more, "stimuli = [Stimulus(at='start', times=2), Stimulus(at='done')]"),
    (lab04.four_more, "stimuli = [Stimulus(at='work'), Stimulus(at='handler', times=3), Stimulus(at='done')]"),
    (lab06.complete_interrupts, lab06.complete_interrupts.good.replace("nmi_injected = True", "nmi_pending += 1")),
    (lab06.move, "schedule = [Stimulus(at='saved', what='migrate'), Stimulus(at='work'), Stimulus(at='saved')]"),
]


@pytest.mark.parametrize(("exercise", "code"), OTHER_GOOD, ids=[code for _, code in OTHER_GOOD])
def test_an_answer_is_judged_by_what_it_does(exercise: Exercise, code: str) -> None:
    result = exercise.check(answer(exercise, code))
    assert result.outcome == "correct", result


# --- predictions ---------------------------------------------------------------


@pytest.mark.parametrize("prediction", CHOICES, ids=by_id)
def test_the_machine_makes_exactly_one_option_true(prediction: Prediction) -> None:
    values = [option.value for option in prediction.options]
    assert len(set(values)) == len(values)
    assert prediction.answer() in dict(lettered(prediction.options))
    assert all(option.why for option in prediction.options)
    trace = prediction.trace()
    assert 0 <= prediction.until(trace) < len(trace) - 1


@pytest.mark.parametrize("prediction", CHOICES, ids=by_id)
def test_choosing_says_right_or_wrong_and_skipping_is_never_right(prediction: Prediction) -> None:
    true = prediction.answer()
    said = [prediction.choose(letter.lower()).said for letter, _option in lettered(prediction.options)]
    expected = ["right" if letter == true else "wrong" for letter, _option in lettered(prediction.options)]
    assert said == expected
    reveal = prediction.skip()
    assert prediction.record == [*expected, "skipped"]
    shown = reveal._repr_html_() + repr(reveal)
    assert "Skipped" in shown
    assert all(
        html.escape(option.text) in html.unescape(shown) or option.text in shown for option in prediction.options
    )


def test_a_letter_that_is_no_option_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^choose one of A, B, C, not 'Q'$"):
        lab01.second_nmi.choose("Q")
    assert lab01.second_nmi.record == []


def test_true_answers_are_not_all_in_one_place() -> None:
    for module in MODULES:
        letters = [p.answer() for p in module.PREDICTIONS if isinstance(p, Prediction)]
        assert len(set(letters)) >= min(3, len(letters) - 1), module


# --- predictions on the timeline -------------------------------------------------------


def test_each_kind_of_prediction_is_used() -> None:
    assert CHOICES
    assert FLAGS
    assert WORDS


@pytest.mark.parametrize("prediction", FLAGS, ids=by_id)
def test_a_flag_is_right_in_one_place_and_every_other_has_its_why(prediction: PlaceFlag) -> None:
    seen, trace = prediction.run_seen(), prediction.trace()
    place, so = prediction.answer(), prediction.measure(trace)
    assert place is not None
    right = moment(seen, place)
    for step in range(len(seen)):
        reveal = prediction.place(step)
        said = moment(seen, step)
        assert reveal.said == ("right" if said == right else "wrong")
        machine, you = reveal.flags
        assert machine[:2] == (so, "machine")
        assert (you.step == so) == (said == right)
        assert you.whose == "you"
        assert sum(line.mark.startswith("you said this") for line in reveal.lines) == 1
        assert all(line.why and line.text for line in reveal.lines)
    assert {"right", "wrong"} == set(prediction.record)


@pytest.mark.parametrize("prediction", FLAGS, ids=by_id)
def test_that_it_never_happens_is_an_answer(prediction: PlaceFlag) -> None:
    so = prediction.measure(prediction.trace())
    wrong = prediction.never()
    assert (wrong.said, [flag.whose for flag in wrong.flags]) == ("wrong", ["machine"])
    assert f"It never happens. [you said this] It does, at step {so}." in repr(wrong)
    assert ".never()" in repr(prediction)
    assert "it never happens" in prediction.asks()
    assert prediction.retold("never") == wrong
    nowhere = replace(prediction, measure=lambda _trace: None, record=[])
    assert nowhere.answer() is None
    right = nowhere.never()
    assert (right.said, right.flags, right.lines[0].text) == ("right", (), "It never happens.")
    placed = nowhere.place(len(nowhere.run_seen()) - 1)
    assert (placed.said, [flag.whose for flag in placed.flags]) == ("wrong", ["you"])
    assert nowhere.skip().flags == ()
    assert nowhere.record == ["right", "wrong", "skipped"]


@pytest.mark.parametrize("prediction", FLAGS, ids=by_id)
def test_nothing_of_what_a_flag_is_to_say_is_in_the_run_it_is_placed_on(prediction: PlaceFlag) -> None:
    seen, trace = prediction.run_seen(), prediction.trace()
    taken = sum(step.kind == "deliver" for step in seen)
    assert taken < sum(step.kind == "deliver" for step in trace)
    spots = [moment(seen, spot.where(seen)) for spot in prediction.spots]
    assert len(set(spots)) == len(spots), "two wrong places are one"
    place = prediction.answer()
    assert place is not None
    assert moment(seen, place) not in spots
    with pytest.raises(ValueError, match=r"^place the flag at a step from 0 to \d+, not 99$"):
        prediction.place(99)
    reveal = prediction.skip()
    assert (reveal.said, [flag.whose for flag in reveal.flags]) == ("skipped", ["machine"])
    assert "you said" not in repr(reveal)
    assert prediction.record == ["skipped"]


def test_a_flag_too_early_too_late_and_before_the_arrival_are_told_apart() -> None:
    flag = lab04.behind_the_iret
    arrives = flag.given()[0].step
    said = {
        step: next(line.why for line in flag.place(step).lines if line.mark == "you said this") for step in (0, 9, 12)
    }
    assert said[0] == NOT_YET
    assert arrives < 9
    assert said[9] == flag.early
    assert said[12] == flag.late
    named = flag.place(10)
    assert next(line for line in named.lines if line.mark == "you said this").text == "Before the `iretq`."


@pytest.mark.parametrize("prediction", WORDS, ids=by_id)
def test_a_word_is_right_only_if_every_bit_is(prediction: SetBits) -> None:
    start, answer = prediction.start(), prediction.answer()
    assert start != answer, "that nothing changes is no question"
    assert not (start ^ answer) & ~prediction.mask, "a bit that changes is not asked about"
    for bit in prediction.bits:
        reveal = prediction.set(answer ^ 1 << bit.number)
        assert reveal.said == "wrong"
        wrong = [
            line for line in reveal.lines if line.mark.startswith("you said 0") or line.mark.startswith("you said 1")
        ]
        assert [line.lead for line in wrong] == [f"Bit {bit.number},"]
        assert all(line.why for line in reveal.lines)
    reveal = prediction.set(answer)
    assert reveal.said == "right"
    assert {flag.text for flag in reveal.flags} == {prediction.written(answer)}
    unasked = next(n for n in range(32) if not prediction.mask >> n & 1)
    with pytest.raises(ValueError, match=r"^take 0x[0-9a-f]+ and set or clear bits [\d, ]+ of it, not 0x"):
        prediction.set(answer ^ 1 << unasked)
    assert prediction.skip().said == "skipped"


@pytest.mark.parametrize("prediction", [*FLAGS, *WORDS], ids=by_id)
def test_a_prediction_on_the_timeline_reads_in_a_terminal_and_without_widgets(prediction: Asked) -> None:
    before, after = prediction._repr_html_().split("<details>")
    assert "the machine does this" not in before
    assert "the machine does this" in after
    never = r" with \.never\(\) if it does not happen at all,"
    asked = rf"Answer with (\.set\(\w+\),|\.place\(STEP\),{never}) or \.skip\(\) to see it\.$"
    assert re.search(asked, repr(prediction))
    assert prediction.record == []


# --- how it looks ---------------------------------------------------------------


@pytest.mark.parametrize("outcome", list(SHOWN))
def test_a_result_says_its_outcome_in_words_and_escapes_what_is_not_ours(outcome: Outcome) -> None:
    evil = "<script>alert(1)</script> & `<b>`"
    result = Result("lab01.<x>", outcome, evil, line=evil)
    shown = result._repr_html_()
    assert SHOWN[outcome][0] in shown
    assert SHOWN[outcome][0] in repr(result)
    assert 'role="status"' in shown
    assert "<script" not in shown
    assert "<b>" not in shown
    assert re.search(r"var\(--jp-\w", shown)
    assert not re.search(r"[:;](color|background):#", shown), "every colour is the theme's"


def test_a_result_cannot_be_changed() -> None:
    result = lab02.nmi_word.check(0)
    with pytest.raises(AttributeError):
        result.outcome = "correct"  # type: ignore[misc]


def test_an_incorrect_result_reads_like_this() -> None:
    assert repr(lab02.nmi_word.check(0x200)).splitlines() == [
        "Incorrect: Nothing was injected: VMRUN found no valid event in this word.",
        "  Step 1 (VMRUN): `EVENTINJ.V` expected 1, actual 0.",
        "  A valid EVENTINJ is delivered before the guest's first instruction, whatever IF, the shadow or any",
        "  mask say. [R-EVENTINJ; APM 15.20; grade: APM]",
    ]


def test_a_prediction_without_a_front_end_hides_its_answer_in_details() -> None:
    shown = lab01.ten_more._repr_html_()
    before, after = shown.split("<details>")
    assert "Eleven times." in before
    assert "the machine does this" not in before
    assert "the machine does this" in after
    assert "A. Once." in repr(lab01.ten_more)
