"""Lab 08, bug hunt: by name its cases, its predictions and its exercises."""

from __future__ import annotations

from vnmi_lab.checks.lab08_cases import BUSY, CLOSED, lineup, observed, run, symptom
from vnmi_lab.checks.lab08_fixes import enable_nmi_window, is_vnmi_pending, process_nmi, set_vnmi_pending
from vnmi_lab.checks.lab08_predictions import PREDICTIONS, dropped, ghost, rescued
from vnmi_lab.checks.lab08_schedules import alarm, lose, one_more, stuck, where, which_bit
from vnmi_lab.checks.standing import Left

__all__ = [
    "BUSY",
    "CLOSED",
    "EXERCISES",
    "PREDICTIONS",
    "alarm",
    "dropped",
    "enable_nmi_window",
    "ghost",
    "is_vnmi_pending",
    "left",
    "lineup",
    "lose",
    "observed",
    "one_more",
    "process_nmi",
    "rescued",
    "run",
    "set_vnmi_pending",
    "stuck",
    "symptom",
    "where",
    "which_bit",
]

EXERCISES = (
    stuck,
    where,
    process_nmi,
    lose,
    which_bit,
    one_more,
    is_vnmi_pending,
    alarm,
    enable_nmi_window,
    set_vnmi_pending,
)
left = Left(PREDICTIONS, EXERCISES)
