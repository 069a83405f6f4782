"""Two threads at one panel: JupyterLab hands the messages of a page to the main one and to a subshell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread

from vnmi_lab.checks import lab01
from vnmi_lab.checks.saved import Saved, read
from vnmi_lab.scenario import Scenario
from vnmi_lab.widgets import Bench, Predict
from vnmi_lab.widgets.presenter import Presenter
from vnmi_lab.widgets.turn import TURN

PRESSES = 6


def together(*actions: Callable[[], object]) -> None:
    """Do all at once, and come back when all is done."""
    threads = [Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_policy_that_is_chosen_while_another_run_is_being_shown_is_not_lost() -> None:
    bench = Bench(Scenario.parse("v1~plain~vnmi~nmi@work"))
    with TURN:
        bench._syncing = True  # as in the middle of showing the run before
        chooses = Thread(target=lambda: bench.policy.set_trait("value", "legacy"))
        chooses.start()
        chooses.join(0.2)
        assert chooses.is_alive(), "it waits for its turn"
        bench._show()
    chooses.join(60)
    assert (bench.scenario.policy, bench.policy.value) == ("legacy", "legacy")


def test_each_click_of_a_presenter_is_one_step() -> None:
    panel = Presenter(lab01.ten_more.trace())

    def press() -> None:
        for _press in range(PRESSES):
            panel._pressed(None, {"show": "next"}, None)

    together(press, press)
    assert panel.until == 2 * PRESSES


def test_of_two_answers_at_once_one_is_recorded() -> None:
    panel = Predict(lab01.ten_more)
    answer = {"click": {"value": lab01.ten_more.answer()}}
    together(lambda: panel.check._clicked(None, answer, None), panel.skip.click)
    assert len(lab01.ten_more.record) == 1, panel.answer.value


def test_notes_of_two_threads_are_all_kept(tmp_path: Path) -> None:
    saved = Saved(tmp_path / "progress.json")

    def note() -> None:
        for number in range(20):
            saved.note("lab01.faster", "hint", {"number": number})

    together(note, note)
    assert sorted(noted.times for noted in read(tmp_path / "progress.json")) == [2] * 20
