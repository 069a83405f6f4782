"""What a notebook shows. No rule of the machine is in here."""

from vnmi_lab.widgets.bench import Bench
from vnmi_lab.widgets.compare import Compare, side_by_side
from vnmi_lab.widgets.graph import StateGraph, state_graph
from vnmi_lab.widgets.notebook import load_ipython_extension, register
from vnmi_lab.widgets.practice import Practice, practice
from vnmi_lab.widgets.predict import Predict
from vnmi_lab.widgets.presenter import Presenter
from vnmi_lab.widgets.progress import ProgressPanel, progress
from vnmi_lab.widgets.show import show
from vnmi_lab.widgets.timeline import Timeline

__all__ = [
    "Bench",
    "Compare",
    "Practice",
    "Predict",
    "Presenter",
    "ProgressPanel",
    "StateGraph",
    "Timeline",
    "load_ipython_extension",
    "practice",
    "progress",
    "show",
    "side_by_side",
    "state_graph",
]

register()
