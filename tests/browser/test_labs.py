"""The labs in JupyterLab as a learner goes through them: play, step, predict, check, hint, check again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import OpenNotebook
from tests.browser.lab import NotebookPage
from vnmi_lab.checks import Exercise, Prediction
from vnmi_lab.checks.course import COURSE

pytestmark = pytest.mark.browser

LABS = Path(__file__).parent.parent.parent / "labs"
MODULES = {f"{lab.number}_{lab.slug}": lab.module() for lab in COURSE if lab.exists}
QUICK = "00_start_here"
"""The lab that is gone through each time; the others are slow."""

JUDGED = 60_000
"""Milliseconds after which an answer that is still being judged fails the test: a busy machine is slow."""

CELL = """text => [...jupyterapp.shell.currentWidget.content.model.cells]
  .findIndex(cell => cell.sharedModel.source.includes(text))"""
WRITE = """([index, source]) => {
  const book = jupyterapp.shell.currentWidget.content;
  book.model.cells.get(index).sharedModel.setSource(source);
  book.activeCellIndex = index;
  book.deselectAll();
}"""
RUN = "() => jupyterapp.commands.execute('notebook:run-cell')"


def run_cell(page: NotebookPage, index: int, source: str) -> Locator:
    """Put a source in a cell, run it as the learner does, and return the cell."""
    page.page.evaluate(WRITE, [index, source])
    page.page.evaluate(RUN)
    return page.page.locator(".jp-Notebook .jp-Cell").nth(index)


def cell_of(page: NotebookPage, exercise: Exercise) -> int:
    return int(page.page.evaluate(CELL, exercise.call))


def say(panel: Locator, letter: str | None) -> None:
    """Answer a prediction, or skip it."""
    if letter is None:
        panel.get_by_role("button", name="Skip, show me").click()
    else:
        panel.get_by_role("radio", name=re.compile(rf"^{letter}\.")).check()
        panel.get_by_role("button", name="Check").click()


@pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODULES]
)
def test_a_learner_goes_through_the_lab(name: str, open_notebook: OpenNotebook) -> None:
    module = MODULES[name]
    page = open_notebook(LABS / f"{name}.ipynb", height=1200)
    assert page.run_all() == []

    # the first picture: it steps with the keyboard and plays
    first = page.page.locator(".vnmi-player").first
    expect(first).to_have_attribute("data-ready", "true")
    step = first.get_by_label("Go to step", exact=True)
    at = int(step.input_value())  # a counterexample opens at the step that breaks a law
    first.get_by_role("button", name="Step (right arrow)").click()
    expect(step).to_have_value(str(at + 1))
    first.get_by_role("button", name="Step back (left arrow)").click()
    expect(step).to_have_value(str(at))
    first.get_by_label("Speed in steps per second").select_option("20")
    first.get_by_role("button", name="Play (space)").click()
    expect(first.get_by_role("button", name="Last step (End)")).to_be_disabled()

    # each prediction: one is skipped, one is wrong, the others are right
    for number, prediction in enumerate(module.PREDICTIONS):
        panel = page.page.locator(".vnmi-predict").nth(number)
        if not isinstance(prediction, Prediction):  # tests/browser/test_bench.py goes through the other kinds
            panel.get_by_role("button", name="Skip, show me").click()
            expect(panel.locator(".vnmi-note[data-said]")).to_contain_text("Skipped")
            continue
        true = prediction.answer()
        letter = {0: None, 1: "A" if true != "A" else "B"}.get(number, true)
        trace, last = prediction.trace(), panel.get_by_label("Go to step", exact=True)
        expect(last).to_have_attribute("max", str(prediction.until(trace)))
        say(panel, letter)
        told = {0: "Skipped", 1: "The machine does something else"}.get(number, "You predicted it")
        expect(panel.locator(".vnmi-note[data-said]")).to_contain_text(told)
        expect(panel).to_contain_text("the machine does this")
        expect(last).to_have_attribute("max", str(len(trace) - 1))
        if letter:
            expect(panel.get_by_role("radio", name=re.compile(rf"^{letter}\."))).to_be_checked()

    # each exercise: wrong with its run opened, hinted, right
    for exercise in module.EXERCISES:
        index = cell_of(page, exercise)
        bad = next(w for w in exercise.wrong if w.name not in {"too few", "never there", "many"})
        cell = run_cell(page, index, f"{bad.code}\n{exercise.call}")
        expect(cell.locator(".vnmi-note")).to_have_attribute("data-outcome", "incorrect", timeout=JUDGED)
        expect(cell.locator(".vnmi-note")).to_contain_text("expected")
        expect(cell.locator(".vnmi-player")).to_have_attribute("data-ready", "true")
        shown = re.search(r"Step (\d+) \(", cell.locator(".vnmi-note").inner_text())
        assert shown
        expect(cell.get_by_label("Go to step", exact=True)).to_have_value(shown[1])
        hint = run_cell(page, index + 1, f"lab.{exercise.id.split('.')[1]}.hint()")
        expect(hint.locator(".vnmi-note")).to_contain_text("Hint 1 of 3")
        cell = run_cell(page, index, f"{exercise.good}\n{exercise.call}")
        expect(cell.locator(".vnmi-note")).to_have_attribute("data-outcome", "correct", timeout=JUDGED)
    assert page.errors == []
