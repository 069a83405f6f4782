"""Builds labs/*.ipynb from the percent scripts beside them; with --check, says which are not what would be built.

A built notebook has no outputs and the same cell ids each time, so that a diff shows what a writer changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
import nbformat

LABS = Path(__file__).parent.parent / "labs"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def build(source: Path) -> str:
    """Return the text of the notebook that a percent script stands for."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat_minor = 5  # the first that has cell ids
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem[:50]}-{number}"
    return str(nbformat.writes(notebook)).rstrip("\n") + "\n"


def main() -> int:
    """Build, or compare; 1 if a comparison fails."""
    stale = [path for path in LABS.glob("*.ipynb") if not path.with_suffix(".py").exists()]
    for source in sorted(LABS.glob("[0-9][0-9]_*.py")):
        notebook, text = source.with_suffix(".ipynb"), build(source)
        if notebook.exists() and notebook.read_text(encoding="utf-8") == text:
            continue
        if "--check" in sys.argv[1:]:
            stale.append(notebook)
        else:
            notebook.write_text(text, encoding="utf-8")
            print(f"built {notebook.name}")
    for notebook in stale:
        print(f"{notebook.name} is not what its source builds: make notebooks", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
