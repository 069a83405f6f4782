"""Writes docs/course.md: what is in each lab, how much the judge explores for it, and how long it runs.

Everything is counted: exercises and predictions in the code, claims in the ledger, states by judging the good answers,
seconds by running each notebook headless with these answers. ``--keep-seconds`` runs no notebook and keeps the
seconds that stand there.
"""

from __future__ import annotations

import os
import re
import resource
import runpy
import sys
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbclient import NotebookClient

from vnmi_lab.checks import progress
from vnmi_lab.checks.course import COURSE, Lab

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "course.md"
CLAIMS: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "claims.py"))
VISITED = re.compile(r"([\d,]+) states were visited")
HEAD = ("lab", "minutes", "exercises", "predictions", "claims", "states explored", "seconds headless")
WORDS = """# The course

Ten labs, in this order. Each is a notebook; what it says as fact is in the [ledger of claims](claims/README.md), and
[another page](patch-series.md) maps the patch series of vNMI to the labs.

{table}
*States explored*: what the judge visits to say that the good answers are right, every schedule of a few NMIs included.
*Seconds headless*: processor time of a fresh kernel that runs the whole notebook with all good answers, where this page
was made; the start of the kernel is included. `python tools/course_table.py` makes this page again.
"""


class Row(NamedTuple):
    """A line of the table; ``seconds`` is as it stands in the page."""

    lab: Lab
    exercises: int
    predictions: int
    claims: int
    states: int
    seconds: str

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in the line."""
        name = f"[{self.lab.number} {self.lab.title}](labs/{self.lab.notebook[:-6]}.html)"
        counted = (self.exercises, self.predictions, self.claims, self.states)
        return (name, str(self.lab.minutes), *(f"{count:,}" for count in counted), self.seconds)


def counted(lab: Lab, states: int, seconds: str) -> Row:
    """Count what is in a lab."""
    return Row(lab, len(lab.exercises), len(lab.predictions), len(CLAIMS["ledger"](lab.number)), states, seconds)


def states(lab: Lab) -> int:
    """Judge the good answers of a lab and return how many states were visited for that."""
    code = [cell.source for cell in _notebook(lab).cells if cell.cell_type == "code"]
    imports = re.findall(r"^(?:from \S+ )?import .+$", "\n".join(code), flags=re.MULTILINE)
    found = 0
    for exercise in lab.exercises:
        names: dict[str, Any] = {}
        exec("\n".join([*imports, exercise.good]), names)  # noqa: S102 - what a learner's cells do
        visited = VISITED.search(exercise.judged(names[exercise.variable]).message)
        found += int(visited[1].replace(",", "")) if visited else 0
    return found


def seconds(lab: Lab) -> str:
    """Run a notebook headless with its good answers and return the processor time of its kernel."""
    book = _notebook(lab)
    for cell in book.cells:
        for exercise in lab.exercises:
            cell.source = cell.source.replace(f"{exercise.start}\n{exercise.call}", f"{exercise.good}\n{exercise.call}")
    before = _spent()
    os.environ[progress.VARIABLE] = progress.OFF  # no learner's file is left here
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    return f"{_spent() - before:.1f}"


def _notebook(lab: Lab) -> Any:  # noqa: ANN401 - a notebook has no type
    return nbformat.read(ROOT / "labs" / lab.notebook, as_version=4)


def _spent() -> float:
    """Return the processor time of all kernels that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def standing() -> dict[str, list[str]]:
    """Return the cells of the page as it is, by the number of the lab."""
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| [")]
    return {row[0][1:3]: row for row in rows}


def table(rows: list[Row]) -> str:
    """Return the table in Markdown, with the sums in its last line."""
    sums = (
        sum(row.lab.minutes for row in rows),
        *(
            sum(counts)
            for counts in zip(*((r.exercises, r.predictions, r.claims, r.states) for r in rows), strict=True)
        ),
    )
    last = ("all", *(f"{count:,}" for count in sums), f"{sum(float(row.seconds) for row in rows):.1f}")
    rule = ("---", *["---:"] * (len(HEAD) - 1))
    return "".join(f"| {' | '.join(line)} |\n" for line in (HEAD, rule, *(row.cells for row in rows), last))


def main() -> int:
    """Count, run, and write the page."""
    keep = "--keep-seconds" in sys.argv[1:]
    old = standing()
    rows = []
    for lab in COURSE:
        if lab.exists:
            known = keep and lab.number in old
            rows.append(counted(lab, states(lab), old[lab.number][-1] if known else seconds(lab)))
            print(" ".join(rows[-1].cells))
    PAGE.write_text(WORDS.format(table=table(rows)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
