"""The code cells of a notebook's file, and what Python can run of them without IPython."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import NamedTuple

from vnmi_lab.checks.course import COURSE, Lab

LARGEST = 50 << 20
"""Bytes of a notebook's file: pictures in its outputs may be large."""
MOST_CELLS = 2_000
RUNS_ITS_BODY = ("time", "timeit", "capture", "prun")
"""Cell magics whose cell is Python all the same."""
_IMPORTS = r"\b(?:from\s+vnmi_lab\.checks\s+import\s+|import\s+vnmi_lab\.checks\.)lab(\d\d)\b"
_CHECKS = (re.compile(_IMPORTS + r"\s+as\s+lab\b"), re.compile(_IMPORTS))
"""What a notebook imports as ``lab`` is its lab; if there is no such, what it imports at all."""
_CELL_MAGIC = re.compile(r"\s*%%(?P<name>\w+)[ \t]*(?P<line>[^\n]*)\n?(?P<body>.*)", re.DOTALL)
_NOT_PYTHON = re.compile(r"(?P<indent>\s*)(?:[%!?].*|[\w.]+\?{1,2}\s*)", re.DOTALL)


class BadNotebookError(ValueError):
    """A file that is no notebook of a lab; one line says why."""


class Cell(NamedTuple):
    """A code cell: its place among all cells of the notebook, and its text."""

    number: int
    source: str


class Piece(NamedTuple):
    """What there is to run of a cell: Python, or for ``guest`` the text of a guest and the name it gets."""

    kind: str
    text: str
    name: str = ""


def read(path: Path) -> tuple[Cell, ...]:
    """Return the code cells of a notebook; ``BadNotebookError`` for a file that is none."""
    if path.exists() and not path.is_file():
        raise BadNotebookError(f"{path}: not a plain file")
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8-sig") if size <= LARGEST else ""
    except OSError as problem:
        raise BadNotebookError(f"{path}: {problem.strerror or problem}") from None
    except ValueError:
        raise BadNotebookError(f"{path}: not a text in UTF-8") from None
    if size > LARGEST:
        raise BadNotebookError(f"{path}: larger than {LARGEST >> 20} MB")
    try:
        cells = json.loads(text)["cells"]
        found = tuple(Cell(number, _text(cell["source"])) for number, cell in enumerate(cells) if _is_code(cell))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadNotebookError(f"{path}: not a notebook of format 4") from None
    if len(found) > MOST_CELLS:
        raise BadNotebookError(f"{path}: more than {MOST_CELLS} cells")
    return found


def labs_of(path: Path, cells: tuple[Cell, ...]) -> tuple[Lab, ...]:
    """Return the labs that a notebook is about: whose checks it imports, or the one in its file's name."""
    imported = [{number for cell in cells for number in form.findall(cell.source)} for form in _CHECKS]
    numbers = next(filter(None, imported), {path.name[:2]})
    found = tuple(lab for lab in COURSE if lab.number in numbers and lab.exists)
    if not found:
        raise BadNotebookError(f"{path}: no lab; its cells import none, such as: from vnmi_lab.checks import lab03")
    return found


def asks(cell: Cell, exercise: str) -> bool:
    """Whether the text of a cell checks an exercise, named as in its id."""
    return re.search(rf"\.{exercise.partition('.')[2]}\.(check|require)\s*\(", cell.source) is not None


def piece(source: str) -> Piece:
    """Return what can be run of a cell; other languages and IPython's own commands are left out."""
    magic = _CELL_MAGIC.fullmatch(source)
    if magic is not None and magic["name"] == "guest":
        return Piece("guest", magic["body"], magic["line"].strip())
    if magic is not None:
        return Piece("python", magic["body"] if magic["name"] in RUNS_ITS_BODY else "")
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        lines = source.split("\n")
        return Piece("python", "\n".join(_python(line) for line in lines))
    return Piece("python", source)


def _python(line: str) -> str:
    other = _NOT_PYTHON.fullmatch(line)
    return line if other is None else f"{other['indent']}pass"


def _text(source: object) -> str:
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def _is_code(cell: dict[str, object]) -> bool:
    return cell["cell_type"] == "code"
