"""Runs learners' notebooks, which nobody has to trust, and judges their exercises; counts what a class did.

The learner's process only gives answers. What is right is found here, by the same checks as in the notebook.
"""

from vnmi_lab.grading.cells import BadNotebookError
from vnmi_lab.grading.report import Graded, Report, grade
from vnmi_lab.grading.sandbox import Limits

__all__ = ["BadNotebookError", "Graded", "Limits", "Report", "grade"]
