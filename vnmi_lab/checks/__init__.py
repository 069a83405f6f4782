"""Exercises and predictions that the machine judges; all of it runs in a terminal too."""

from vnmi_lab.checks.asked import Asked, Flag, Reveal
from vnmi_lab.checks.bitset import Bit, SetBits
from vnmi_lab.checks.exercise import Exercise, LearnerError, Wrong
from vnmi_lab.checks.placing import PlaceFlag, Spot
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.checks.result import Divergence, Result, Verdict
from vnmi_lab.checks.text import Note

__all__ = [
    "Asked",
    "Bit",
    "Divergence",
    "Exercise",
    "Flag",
    "LearnerError",
    "Note",
    "Option",
    "PlaceFlag",
    "Prediction",
    "Result",
    "Reveal",
    "SetBits",
    "Spot",
    "Verdict",
    "Wrong",
]
