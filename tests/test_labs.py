"""The labs as a learner gets them, and with the good answers filled in: every cell, from top to bottom."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbclient import NotebookClient

from vnmi_lab.checks import Exercise, Result, lab01

ROOT = Path(__file__).parent.parent
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "labs").glob("*.ipynb"))}
LABS = {number: import_module(f"vnmi_lab.checks.lab{number}") for number in NOTEBOOKS}
NUMBERS = sorted(LABS)
SECONDS = 60
"""After which a cell that still runs is stopped, and the test fails."""


def notebook(number: str) -> Any:  # noqa: ANN401  # nbformat has no types
    return nbformat.read(NOTEBOOKS[number], as_version=4)


def code(number: str) -> list[str]:
    return [cell.source for cell in notebook(number).cells if cell.cell_type == "code"]


def prose(number: str) -> str:
    return "\n\n".join(cell.source for cell in notebook(number).cells if cell.cell_type == "markdown")


def solved(source: str, number: str) -> str:
    """Return a cell with the good answer in the place of what a learner begins with."""
    for exercise in LABS[number].EXERCISES:
        source = source.replace(f"{exercise.start}\n{exercise.call}", f"{exercise.good}\n{exercise.call}")
    return source


def outputs_of(cells: list[Any], mime: str) -> list[str]:
    return [
        o.data[mime] for cell in cells if cell.cell_type == "code" for o in cell.outputs if mime in o.get("data", {})
    ]


def answer(exercise: Exercise, source: str) -> object:
    names: dict[str, object] = {}
    imports = re.findall(r"^(?:from \S+ )?import .+$", "\n".join(code(exercise.id[3:5])), flags=re.MULTILINE)
    exec("\n".join([*imports, source]), names)  # noqa: S102  # what a learner's cells do
    return names[exercise.variable]


# --- in this process: fast ------------------------------------------------------------


class Hooked:
    """Cells run one after the other as in a notebook; ``results`` are the values of ``check`` in them."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.results: list[Result] = []

    def run(self, source: str) -> None:
        with capture_output():
            done = self.shell.run_cell(source)  # type: ignore[no-untyped-call]  # IPython has not typed it
        done.raise_error()
        if isinstance(done.result, Result):
            self.results.append(done.result)


@pytest.fixture
def hooked() -> Iterator[Hooked]:
    from vnmi_lab.widgets.notebook import register

    shell = InteractiveShell.instance()
    assert register()
    yield Hooked(shell)
    InteractiveShell.clear_instance()
    for module in LABS.values():
        for exercise in module.EXERCISES:
            exercise.reset()


@pytest.mark.parametrize("number", NUMBERS)
def test_as_given_every_cell_runs_and_nothing_is_attempted(number: str, hooked: Hooked) -> None:
    for source in code(number):
        hooked.run(source)
    assert [result.outcome for result in hooked.results] == ["not attempted"] * len(LABS[number].EXERCISES)


@pytest.mark.parametrize("number", NUMBERS)
def test_with_the_good_answers_everything_is_correct(number: str, hooked: Hooked) -> None:
    for source in code(number):
        hooked.run(solved(source, number))
    assert [result.exercise for result in hooked.results] == [exercise.id for exercise in LABS[number].EXERCISES]
    assert all(result.ok for result in hooked.results), hooked.results


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_a_wrong_answer_opens_the_run_where_it_went_wrong(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vnmi_lab.widgets import Timeline, notebook

    shown: list[Any] = []
    monkeypatch.setattr(notebook, "display", lambda what, **_options: shown.append(what))
    for exercise in LABS[number].EXERCISES:
        for wrong in exercise.wrong:
            shown.clear()
            result = exercise.check(answer(exercise, wrong.code))
            notebook.tell(result)
            assert shown[0]["text/plain"] == repr(result)
            assert len(shown) == (2 if result.divergence else 1)
            if result.divergence:
                assert isinstance(shown[1], Timeline)
                assert shown[1].cursor == result.divergence.step


# --- a kernel of their own: as JupyterLab does ------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_the_notebook_runs_headless_with_the_good_answers(number: str) -> None:
    """As it is given it is run, and read, in `tests/browser/test_rendered.py`."""
    book = notebook(number)
    for cell in book.cells:
        cell.source = solved(cell.source, number)
    NotebookClient(book, timeout=SECONDS, resources={"metadata": {"path": str(ROOT)}}).execute()
    found = re.findall(r'data-outcome="([^"]*)"', "".join(outputs_of(book.cells, "text/html")))
    assert found == ["correct"] * len(LABS[number].EXERCISES)
    stills = [text for text in outputs_of(book.cells, "text/html") if "What the machine does" in text]
    assert len(stills) == len(LABS[number].PREDICTIONS), "a page without widgets shows each prediction too"


# --- how a lab is made ------------------------------------------------------------


@pytest.mark.slow  # `make lint` asks it too
def test_the_notebooks_are_built_from_their_sources() -> None:
    command = [sys.executable, "tools/notebooks.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_lab_has_a_notebook_and_checks() -> None:
    checks = {path.stem[3:] for path in (ROOT / "vnmi_lab/checks").glob("lab[0-9][0-9].py")}
    assert set(NOTEBOOKS) == checks


@pytest.mark.parametrize("number", NUMBERS)
def test_the_notebook_has_no_outputs_and_the_same_cell_ids_each_time(number: str) -> None:
    book = notebook(number)
    stem = NOTEBOOKS[number].stem
    assert [cell.id for cell in book.cells] == [f"{stem}-{n}" for n in range(len(book.cells))]
    assert book.metadata.kernelspec.name == "python3"
    assert all(not cell.outputs and cell.execution_count is None for cell in book.cells if cell.cell_type == "code")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_picture_comes_first_and_code_cells_are_short(number: str) -> None:
    cells = code(number)
    assert any("show(" in source for source in cells[:2])
    assert all(len([line for line in source.splitlines() if line.strip()]) <= 7 for source in cells)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_prediction_and_exercise_of_the_lab_is_in_it_once(number: str) -> None:
    cells = code(number)
    asked = [f"lab.{prediction.id.split('.')[1]}" for prediction in LABS[number].PREDICTIONS]
    assert [source for source in cells if source in asked] == asked
    for exercise in LABS[number].EXERCISES:
        assert cells.count(f"{exercise.start}\n{exercise.call}") == 1
        assert sum(f"lab.{exercise.id.split('.')[1]}.hint()" in source for source in cells) == 1


@pytest.mark.parametrize("number", NUMBERS)
def test_headings_are_in_order_and_the_frame_is_complete(number: str) -> None:
    text = prose(number)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, flags=re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len([level for level in levels if level == 2]) >= 6
    for part in ("**Goal.**", "**Time:**", "**You need:**", "| word |", "## What you know now", "**Next:**"):
        assert part in text, part


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_the_last_cell_says_what_is_left(number: str, hooked: Hooked) -> None:
    assert notebook(number).cells[-1].source == "lab.left()"
    asked = [*(one.id for one in LABS[number].PREDICTIONS), *(one.id for one in LABS[number].EXERCISES)]
    as_given = repr(LABS[number].left())
    assert [name for name in asked if f"`{name.split('.')[1]}`" in as_given] == asked
    for prediction in LABS[number].PREDICTIONS:
        prediction.skip()
    for source in code(number):
        hooked.run(solved(source, number))
    assert "All done" in repr(LABS[number].left())


@pytest.mark.parametrize("number", NUMBERS)
def test_links_between_labs_lead_somewhere(number: str) -> None:
    for target in re.findall(r"\]\(([^)]+\.ipynb)\)", prose(number)):
        assert (ROOT / "labs" / target).exists(), target


def test_an_exercise_says_what_its_cell_is() -> None:
    exercise: Exercise = lab01.two_runs
    assert exercise.call == "lab.two_runs.check(stimuli)"
