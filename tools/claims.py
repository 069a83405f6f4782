"""The ledger of claims: what the labs state as fact, and on what ground. Prints how many there are: tools/claims.py.

A paragraph of a lab that states what a kernel maintainer could dispute ends in a mark that no reader sees,
``<!-- claim: 05-03 -->``. ``docs/claims/05.toml`` has its entry: one sentence, a grade, and at least one piece of
evidence. ``tests/test_claims.py`` holds both to each other and every piece of evidence to what it names.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
LEDGER = ROOT / "docs" / "claims"
PAGE = LEDGER / "README.md"

GRADES = {
    "specification": "the text of AMD's manual says so; nothing about vNMI is verified on hardware",
    "KVM": "the code of Linux, or a posting about it, says so",
    "trace": "recorded from QEMU and Bochs, or from a real kernel",
    "model": "this project's machine, its limits or its assumptions",
}
EVIDENCE = ("rule", "test", "trace", "source")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
MARK = re.compile(r"<!-- claim: (\d\d-\d\d(?: \d\d-\d\d)*) -->")


class Claim(NamedTuple):
    """One entry of the ledger; ``evidence`` has what stands under each of the four keys, as lists."""

    id: str
    says: str
    grade: str
    evidence: Mapping[str, tuple[str, ...]]


class Row(NamedTuple):
    """How many claims of each grade a lab has, in the order of ``GRADES``."""

    lab: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """All claims of the lab."""
        return sum(self.counts)


def labs() -> dict[str, Path]:
    """Return the source of each lab by its number."""
    return {path.name[:2]: path for path in sorted((ROOT / "labs").glob("[0-9][0-9]_*.py"))}


def marks(text: str) -> list[str]:
    """Return the ids that the marks in the source of a lab name, in order."""
    return [name for mark in MARK.finditer(text) for name in mark[1].split()]


def entries(data: Mapping[str, Any]) -> list[Claim]:
    """Return the entries of a ledger; a key that is none, or is missing, raises."""
    found = []
    for name, entry in data.items():
        evidence = {key: _several(entry[key]) for key in EVIDENCE if key in entry}
        if more := set(entry) - {"says", "grade", *EVIDENCE}:
            raise ValueError(f"claim {name}: no such key: {', '.join(sorted(more))}")
        found.append(Claim(name, entry["says"], entry["grade"], evidence))
    return found


def _several(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def ledger(lab: str) -> list[Claim]:
    """Return the entries of a lab, none if it has no ledger."""
    path = LEDGER / f"{lab}.toml"
    return entries(tomllib.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def rows() -> list[Row]:
    """Count the claims of every lab by grade."""
    found = []
    for lab in labs():
        counts = Counter(claim.grade for claim in ledger(lab))
        found.append(Row(lab, tuple(counts[grade] for grade in GRADES)))
    return found


def table() -> str:
    """Return the counts as a table in Markdown, a line a lab and a last one for all."""
    every = rows()
    sums = tuple(map(sum, zip(*(row.counts for row in every), strict=True)))
    lines = [["lab", *GRADES, "claims"], ["---", *["---:"] * (len(GRADES) + 1)]]
    lines += [[row.lab, *map(str, row.counts), str(row.total)] for row in [*every, Row("all", sums)]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """Print the counts; with --write, put them into the page that tells of the ledger."""
    print(table(), end="")
    if "--write" in sys.argv[1:]:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def with_table(page: str) -> str:
    """Return a page with the counts as they are now in the place of its table."""
    return re.sub(r"^\| lab \|.*\n(?:\|.*\n)*", lambda _old: table(), page, count=1, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
