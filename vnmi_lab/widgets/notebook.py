"""What a notebook does with the values of the checks: a prediction asks, a result opens its run where it went wrong."""

from __future__ import annotations

from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display

from vnmi_lab.checks import PlaceFlag, Prediction, Result, SetBits
from vnmi_lab.widgets.magic import register_magic
from vnmi_lab.widgets.predict import Predict
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
    return True


def load_ipython_extension(_shell: object) -> None:
    """Do what ``%load_ext vnmi_lab`` asks for; importing the widgets did it already."""
    register()


def ask(prediction: Prediction | PlaceFlag | SetBits) -> None:
    """Show a prediction as a panel."""
    display(Predict(prediction))  # type: ignore[no-untyped-call]  # IPython has not typed it


def tell(result: Result) -> None:
    """Show a result, and below it the learner's run at the step where it left the right path."""
    note: dict[str, Any] = {"text/plain": repr(result), "text/html": result._repr_html_()}  # Jupyter's name
    display(note, raw=True)  # type: ignore[no-untyped-call]  # IPython has not typed it
    if result.trace is not None and result.divergence is not None:
        run = show(result.trace)
        run.cursor = result.divergence.step
        display(run)  # type: ignore[no-untyped-call]  # IPython has not typed it
