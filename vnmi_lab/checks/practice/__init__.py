"""Practice without end: problems that the machine makes and answers, the same ones for the same seed and level."""

from vnmi_lab.checks.practice.problem import MOST_SEED, VERSION, Problem, problem
from vnmi_lab.checks.practice.scenes import LEVELS
from vnmi_lab.checks.practice.sheet import key, problems, sheet
from vnmi_lab.checks.practice.told import as_json, text

__all__ = ["LEVELS", "MOST_SEED", "VERSION", "Problem", "as_json", "key", "problem", "problems", "sheet", "text"]
