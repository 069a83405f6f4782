"""Progress in a notebook: the panel, what it carries, and predictions that know what was said before a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import vnmi_lab
from vnmi_lab.checks import PlaceFlag, Prediction, SetBits, lab01, lab04, progress
from vnmi_lab.checks.map import report
from vnmi_lab.checks.record import Log, dump, parse
from vnmi_lab.checks.saved import FILE, Saved
from vnmi_lab.widgets import Predict, ProgressPanel, notebook

CHOICE, FLAG, BITS = lab01.second_nmi, lab04.behind_the_iret, lab04.written_back
ANSWERS: list[tuple[Prediction | PlaceFlag | SetBits, Callable[[], object]]] = [
    (CHOICE, lambda: CHOICE.choose("A")),
    (FLAG, lambda: FLAG.place(10)),
    (BITS, lambda: BITS.set(BITS.answer())),
    (CHOICE, CHOICE.skip),
    (FLAG, FLAG.skip),
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(progress.VARIABLE)
    yield
    progress.watch(None)
    progress.listen(print)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Begin as a notebook's kernel does, in a folder of its own; gives the messages that it shows."""
    shell = InteractiveShell.instance()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(type(shell), "kernel", object(), raising=False)

    def start() -> list[str]:
        shown: list[str] = []
        monkeypatch.setattr(notebook, "display", lambda what, **_options: shown.append(repr(what)))
        progress.use(Saved())
        assert notebook.register()
        return shown

    yield start
    InteractiveShell.clear_instance()


def told(panel: Predict) -> object:
    return panel.reveal


def flags(panel: Predict) -> list[str]:
    return sorted(whose for _step, whose, _text in panel.timeline.flags)


# --- where it is kept


def test_a_kernel_keeps_progress_in_its_folder_and_a_terminal_does_not(
    kernel: Callable[[], list[str]], tmp_path: Path
) -> None:
    CHOICE.skip()
    assert list(tmp_path.iterdir()) == []
    kernel()
    CHOICE.skip()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert "Kept in vnmi-progress.json" in repr(report())


@pytest.mark.parametrize(("value", "files"), [("off", []), ("elsewhere.json", ["elsewhere.json"])])
def test_a_variable_says_where_or_that_nothing_is_kept(
    value: str, files: list[str], kernel: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(progress.VARIABLE, value)
    kernel()
    CHOICE.skip()
    assert [path.name for path in tmp_path.iterdir()] == files


def test_what_was_done_before_the_notebook_was_known_is_kept_too(
    kernel: Callable[[], list[str]], tmp_path: Path
) -> None:
    progress.use(Saved())
    CHOICE.skip()
    progress.keep(tmp_path)
    lab01.two_runs.hint()
    assert len(parse((tmp_path / FILE).read_text())) == 2
    assert kernel() == []


def test_a_message_is_shown_as_a_note(kernel: Callable[[], list[str]], tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    shown = kernel()
    lab01.two_runs.hint()
    assert len(shown) == 1
    assert shown[0].startswith("Progress: vnmi-progress.json could not be read")


# --- predictions


@pytest.mark.parametrize(("prediction", "say"), ANSWERS)
def test_an_answer_is_there_again_after_a_restart_and_can_be_given_anew(
    prediction: Prediction | PlaceFlag | SetBits,
    say: Callable[[], object],
    kernel: Callable[[], list[str]],
) -> None:
    kernel()
    say()
    before = Predict(prediction)
    kernel()
    panel = Predict(prediction)
    assert told(panel) == before.reveal
    assert panel.answer.value == before.answer.value
    assert panel.timeline.payload["steps"] == len(prediction.trace())
    assert panel.check.layout.display == panel.skip.layout.display == "none"
    assert flags(panel) == flags(before)
    count = len(progress.noted())

    assert panel.again.layout.display is None
    panel.again.click()
    assert told(panel) is None
    assert panel.answer.value == ""
    assert panel.timeline.payload["steps"] == len(prediction.shown())
    assert flags(panel) == ["given"] * len(prediction.given())
    assert len(progress.noted()) == count, "to ask is no answer"
    panel.skip.click()
    assert told(panel) is not None
    assert told(Predict(prediction)) == before.reveal, "the first answer stands"


def test_a_restored_choice_shows_what_was_chosen(kernel: Callable[[], list[str]]) -> None:
    kernel()
    CHOICE.choose("B")
    panel = Predict(CHOICE)
    assert (panel.choice.value, panel.choice.disabled) == ("B", True)
    panel.again.click()
    assert (panel.choice.value, panel.choice.disabled, panel.check.disabled) == (None, False, True)
    BITS.set(BITS.answer())
    assert Predict(BITS).choice.word == BITS.answer()
    FLAG.place(10)
    again = Predict(FLAG)
    assert "step 10" in again.choice.value
    again.again.click()
    assert "not placed yet" in again.choice.value
    again.timeline.placed = 4
    assert "step 4" in again.choice.value


def test_trouble_while_a_button_is_pressed_is_said_in_the_panel(
    kernel: Callable[[], list[str]], tmp_path: Path
) -> None:
    shown = kernel()
    panel = Predict(CHOICE)
    (tmp_path / FILE).write_text("<b>")
    panel.skip.click()
    assert "could not be read" in panel.answer.value
    assert "Skipped" in panel.answer.value
    assert shown == [], "a cell that is done shows nothing more"


# --- the panel


def bundle(panel: ProgressPanel) -> dict[str, Any]:
    made = panel._repr_mimebundle_()
    assert made is not None
    return dict(made[0])


def test_the_panel_is_the_map_and_follows_what_is_done() -> None:
    panel = ProgressPanel(vnmi_lab.progress())
    assert "0 of" in panel.map.value
    assert parse(panel.carrier.text) == Log()
    CHOICE.choose("C")
    assert "1 right" in panel.map.value
    assert parse(panel.carrier.text) == progress.noted()
    shown = bundle(panel)
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert shown["text/html"] == panel.map.value
    assert "1 right" in shown["text/plain"]


def test_only_the_last_panel_follows() -> None:
    old, new = ProgressPanel(report()), ProgressPanel(report())
    CHOICE.choose("C")
    assert ("1 right" in old.map.value, "1 right" in new.map.value) == (False, True)


def test_an_upload_is_added_to_what_was_done() -> None:
    lab01.ten_more.skip()
    text = dump(progress.noted())
    progress.use(Saved())
    CHOICE.choose("C")
    panel = ProgressPanel(report())
    panel.carrier._handle_custom_msg({"upload": text, "name": "mine.json"}, [])
    assert panel.carrier.said == "Loaded: 1 note from mine.json; what you did here is still there."
    assert "1 right, 1 skipped" in panel.map.value
    assert len(progress.noted()) == 2


@pytest.mark.parametrize("content", [None, "upload", {"upload": 3}, {}])
def test_what_is_no_upload_is_left_alone(content: object) -> None:
    panel = ProgressPanel(report())
    panel._uploaded(None, content, None)
    assert panel.carrier.said == ""


def test_a_wrong_upload_says_so_and_changes_nothing() -> None:
    CHOICE.choose("C")
    panel = ProgressPanel(report())
    panel._uploaded(None, {"upload": "<script>", "name": "<b>.json"}, None)
    assert panel.carrier.said.startswith("<b>.json could not be read: it is no JSON")
    assert "<b>" not in panel.map.value
    assert len(progress.noted()) == 1
