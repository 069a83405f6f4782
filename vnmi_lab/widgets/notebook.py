"""What a notebook does with the values of the checks: a prediction asks, a result opens its run where it went wrong.

A notebook also keeps its learner's progress, in the folder that its kernel starts in.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display

from vnmi_lab.checks import Note, PlaceFlag, Prediction, Result, SetBits, progress
from vnmi_lab.checks.map import Progress
from vnmi_lab.widgets.magic import register_magic
from vnmi_lab.widgets.predict import Predict
from vnmi_lab.widgets.progress import ProgressPanel
from vnmi_lab.widgets.show import show


def register() -> bool:
    """Let the running IPython show predictions and results so, and know ``%%guest``; False where there is none."""
    shell = get_ipython()
    if shell is None or shell.display_formatter is None:
        return False
    register_magic(shell)
    formatter = shell.display_formatter.ipython_display_formatter
    for kind in (Prediction, PlaceFlag, SetBits):
        formatter.for_type(kind, ask)
    formatter.for_type(Result, tell)
    formatter.for_type(Progress, lay_out)
    if is_kernel(shell):
        progress.listen(say)
        progress.keep(Path.cwd())
    return True


def is_kernel(shell: object) -> bool:
    """Whether a notebook is behind this IPython, and no terminal."""
    return getattr(shell, "kernel", None) is not None or "pyodide_kernel" in sys.modules


def load_ipython_extension(_shell: object) -> None:
    """Do what ``%load_ext vnmi_lab`` asks for; importing the widgets did it already."""
    register()


def ask(prediction: Prediction | PlaceFlag | SetBits) -> None:
    """Show a prediction as a panel."""
    display(Predict(prediction))  # type: ignore[no-untyped-call]  # IPython has not typed it


def lay_out(shown: Progress) -> None:
    """Show progress as a panel."""
    display(ProgressPanel(shown))  # type: ignore[no-untyped-call]  # IPython has not typed it


def say(message: str) -> None:
    """Show a message about progress as a note."""
    display(Note("Progress", message))  # type: ignore[no-untyped-call]  # IPython has not typed it


def tell(result: Result) -> None:
    """Show a result, and below it the learner's run at the step where it left the right path."""
    note: dict[str, Any] = {"text/plain": repr(result), "text/html": result._repr_html_()}  # Jupyter's name
    display(note, raw=True)  # type: ignore[no-untyped-call]  # IPython has not typed it
    if result.trace is not None and result.divergence is not None:
        run = show(result.trace)
        run.cursor = result.divergence.step
        display(run)  # type: ignore[no-untyped-call]  # IPython has not typed it
