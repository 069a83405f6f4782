"""Exercises and predictions that the machine judges; all of it runs in a terminal too."""

from vnmi_lab.checks.exercise import Exercise, LearnerError, Wrong
from vnmi_lab.checks.prediction import Option, Prediction, Reveal
from vnmi_lab.checks.result import Divergence, Result, Verdict
from vnmi_lab.checks.text import Note

__all__ = [
    "Divergence",
    "Exercise",
    "LearnerError",
    "Note",
    "Option",
    "Prediction",
    "Result",
    "Reveal",
    "Verdict",
    "Wrong",
]
