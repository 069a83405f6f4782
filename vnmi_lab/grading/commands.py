"""``vnmi-lab check`` and ``vnmi-lab class-report``: what they print and write, and their exit codes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from vnmi_lab.grading import assignment as nbgrader
from vnmi_lab.grading import classpage, classroom
from vnmi_lab.grading.cells import BadNotebookError
from vnmi_lab.grading.report import Report, as_file, grade, seen
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
            print(f"vnmi-lab check: {seen(str(problem))}", file=sys.stderr)
            continue
        if not as_json:
            print(reports[-1], flush=True)
    if as_json:
        print(json.dumps(as_file(reports), indent=1))
    if not reports:
        return 2
    return 0 if len(reports) == len(notebooks) and all(one.earned == one.points for one in reports) else 1


def class_report(files: list[Path], csv: Path | None, html: Path | None) -> int:
    """Count files and write what is asked for, else a summary; 1 when a file could not be read, 2 when none could."""
    counted, problems = classroom.count(files)
    for problem in problems:
        print(f"vnmi-lab class-report: {seen(problem)}", file=sys.stderr)
    if not counted.learners:
        return 2
    for path, text in ((csv, classroom.as_csv), (html, classpage.page)):
        if path is not None:
            path.write_text(text(counted), encoding="utf-8", newline="\n")
    if csv is None and html is None:
        print(classroom.as_text(counted))
    return 1 if problems else 0


def assignment(origin: Path, folder: Path) -> int:
    """Make an nbgrader course of the labs in ``origin``; ``FileExistsError`` for what is in the way."""
    for path in nbgrader.write(origin, folder):
        print(path)
    print("These notebooks hold the solutions. Next, in that folder: nbgrader generate_assignment lab01")
    return 0
