"""``vnmi-lab check``: what it prints, and its exit code."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from vnmi_lab.grading.cells import BadNotebookError
from vnmi_lab.grading.report import Report, as_file, grade
from vnmi_lab.grading.sandbox import Limits, walls

OPEN_DOORS = (
    "vnmi-lab check: there are no namespaces here, so a notebook can reach the network and your files: see SECURITY.md"
)


def check(notebooks: list[Path], *, seconds: int, as_json: bool) -> int:
    """Judge notebooks one after the other; 0 when all is correct, 1 when not, 2 when none could be read."""
    if not walls():
        print(OPEN_DOORS, file=sys.stderr)
    limits = replace(Limits(), cell_seconds=seconds, seconds=4 * seconds)
    reports: list[Report] = []
    for path in notebooks:
        try:
            reports.append(grade(path, limits))
        except BadNotebookError as problem:
            print(f"vnmi-lab check: {problem}", file=sys.stderr)
            continue
        if not as_json:
            print(reports[-1], flush=True)
    if as_json:
        print(json.dumps(as_file(reports), indent=1))
    if not reports:
        return 2
    return 0 if len(reports) == len(notebooks) and all(one.earned == one.points for one in reports) else 1
