"""A learner's progress: what is noted, how it is carried to another place, and the map."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kept import restart, rows
from vnmi_lab import cli
from vnmi_lab.checks import Prediction, lab01, lab03, lab04, progress
from vnmi_lab.checks.course import COURSE
from vnmi_lab.checks.map import loaded, read_from, report
from vnmi_lab.checks.record import Log, OtherVersionError, UnreadableError, Value, dump, parse
from vnmi_lab.checks.saved import FILE, read
from vnmi_lab.checks.standing import Left

CHOICE: Prediction = lab01.second_nmi
LEFT: Left = lab01.left


def notes() -> list[tuple[str, str, dict[str, Value]]]:
    return [(noted.id, noted.kind, dict(noted.data)) for noted in progress.noted()]


@pytest.fixture
def said(tmp_path: Path) -> list[str]:
    """Progress is kept in a file now; the messages about it."""
    return restart(tmp_path / FILE)


# --- what is noted ---------------------------------------------------------------------------------------------------


ACTS: dict[str, tuple[Callable[[], object], str, dict[str, Value]]] = {
    "wrong": (lambda: lab01.open_the_door.check("handler: iretq"), "check", {"outcome": "incorrect"}),
    "raised": (lambda: lab01.open_the_door.check("itn3"), "check", {"outcome": "raised"}),
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
    [(id_, *noted)] = notes()
    assert noted == [kind, data]
    assert id_.startswith("lab01.")


def test_an_exercise_that_is_not_attempted_is_not_noted() -> None:
    lab01.two_runs.check(...)
    assert notes() == []


def test_every_prediction_notes_a_skip_and_it_stays_one() -> None:
    asked = [prediction for lab in COURSE for prediction in lab.predictions]
    for prediction in asked:
        prediction.skip()
    assert [noted[:2] for noted in notes()] == [(prediction.id, "skip") for prediction in asked]
    earlier = asked[0].earlier()
    assert earlier
    assert (earlier.answer, earlier.reveal.said) == (None, "skipped")


def test_a_placed_flag_and_a_set_word_are_noted_with_the_answer_and_told_again() -> None:
    kinds = {type(one).__name__: one for module in (lab03, lab04) for one in module.PREDICTIONS}
    for name, act, kind in [("PlaceFlag", "place", "place"), ("SetBits", "set", "set")]:
        asked = kinds[name]
        answer = asked.answer()
        told = getattr(asked, act)(answer)
        assert notes()[-1] == (asked.id, kind, {"said": "right", "answer": answer})
        assert (asked.earlier().answer, asked.earlier().reveal) == (answer, told)


def test_the_first_answer_stands() -> None:
    CHOICE.choose("A")
    CHOICE.choose("C")
    CHOICE.skip()
    earlier = CHOICE.earlier()
    assert earlier
    assert (earlier.answer, earlier.reveal.said) == ("A", "wrong")
    assert [mark.state for mark in rows()[0].predictions + rows()[1].predictions].count("wrong") == 1


@pytest.mark.parametrize("answer", ["Z", 7, -1, 1 << 40])
def test_an_answer_that_fits_no_more_counts_as_none(answer: Value) -> None:
    asked = [CHOICE, *(one for one in (*lab03.PREDICTIONS, *lab04.PREDICTIONS) if type(one) is not Prediction)]
    for one in asked:
        assert one.retold("Q" if answer == 7 else answer) is None


# --- carried to another place ----------------------------------------------------------------------------------------


def test_what_is_saved_in_one_place_is_loaded_in_another_and_both_stay(said: list[str], tmp_path: Path) -> None:
    CHOICE.choose("C")
    note = report().save(tmp_path / "mine.json", name="Ada")
    assert "1 note" in note.text
    assert read(tmp_path / "mine.json").name == "Ada"
    restart(tmp_path / "other" / FILE)
    (tmp_path / "other").mkdir()
    lab01.ten_more.skip()
    report().load(tmp_path / "mine.json")
    assert {noted.id for noted in read(tmp_path / "other" / FILE)} == {"lab01.second_nmi", "lab01.ten_more"}
    report().save(tmp_path / "mine.json")
    assert len(read(tmp_path / "mine.json")) == 2
    assert said == []


def test_what_is_no_progress_is_neither_loaded_nor_written_over(tmp_path: Path) -> None:
    CHOICE.choose("C")
    other = tmp_path / "thesis.txt"
    other.write_text("my thesis")
    for act in (report().save, report().load, lambda place: read_from([place])):
        with pytest.raises(ValueError, match="Nothing was changed"):
            act(other)
    with pytest.raises(ValueError, match=r"upload\.json could not be read: it is of version 9"):
        loaded(dump(Log()).replace('"version": 1', '"version": 9'), "upload.json")
    assert (other.read_text(), len(progress.noted())) == ("my thesis", 1)


@pytest.mark.parametrize("text", ["{}", dump(Log()).replace('"version": 1', '"version": null')])
def test_a_text_that_is_no_progress_says_so(text: str) -> None:
    with pytest.raises((UnreadableError, OtherVersionError), match=r"does not say|of version None"):
        parse(text)


# --- the map ---------------------------------------------------------------------------------------------------------


def test_the_map_names_every_lab_and_exercise_and_says_what_is_next() -> None:
    text, html = repr(report()), report()._repr_html_()
    for lab in COURSE:
        for shown in (text, html):
            assert (lab.title in shown) == lab.exists
            assert all(exercise.id.split(".")[1] in shown for exercise in lab.exercises)
    first = next(lab for lab in COURSE if lab.exists)
    assert f"Next: Lab {first.number}" in text
    assert html.count("aria-current") == 2, "the style, and one row"


def test_the_map_says_what_it_took() -> None:
    for _ in range(2):
        lab01.open_the_door.check("handler: iretq")
    lab01.open_the_door.hint(2)
    lab01.open_the_door.solution()
    lab01.ten_more.skip()
    CHOICE.choose("A")
    text = repr(report())
    assert "open_the_door: not right yet, 2 tries, 2 hints, solution seen" in text
    assert "1 wrong, 1 skipped" in text
    assert "2 tries, 2 hints, solution seen" in report()._repr_html_()


def test_a_right_answer_counts_once_however_often_its_cell_is_run() -> None:
    for outcome in ("incorrect", "correct", "correct", "raised", "correct"):
        progress.note("lab01.two_runs", "check", outcome=outcome)
    [mark] = [mark for row in rows() for mark in row.exercises if mark.id == "lab01.two_runs"]
    assert (mark.state, mark.tries) == ("done", 3)


def test_what_is_left_is_named_in_one_line_until_nothing_is() -> None:
    assert "predictions `interrupts_off`" in LEFT().text
    assert "exercises `two_runs`, `open_the_door`, `no_way_back`" in LEFT().text
    for prediction in lab01.PREDICTIONS:
        prediction.skip()
    assert "prediction" not in LEFT().text
    for exercise in lab01.EXERCISES:
        progress.note(exercise.id, "check", outcome="correct")
    assert LEFT().title == "All done in this lab"
    assert LEFT().text == "exercises: 3 done; predictions: 5 skipped."


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_command_line_shows_the_map_of_a_folder_and_writes_nothing(
    said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    CHOICE.choose("C")
    before = (tmp_path / FILE).read_text()
    assert cli.main(["progress", str(tmp_path)]) == 0
    from_folder = capsys.readouterr().out
    assert "1 right" in from_folder
    assert cli.main(["progress", str(tmp_path / FILE)]) == 0
    assert capsys.readouterr().out == from_folder
    monkeypatch.chdir(tmp_path)
    assert cli.main(["progress", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    states = {one["id"]: one["state"] for lab in shown["labs"] for one in lab["predictions"]}
    assert (states["lab01.second_nmi"], set(states.values())) == ("right", {"right", "new"})
    assert ((tmp_path / FILE).read_text(), said) == (before, [])


def test_the_command_line_says_where_nothing_is_and_what_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["progress", str(tmp_path)]) == 0
    assert "Nothing is noted yet" in capsys.readouterr().out
    (tmp_path / FILE).write_text("{")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["progress", str(tmp_path)])
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "it is no JSON" in error
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
