"""The browser tests' own footing: a notebook opens, runs, and its failures are seen."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.browser.conftest import OpenNotebook
from tests.browser.lab import CellError

pytestmark = pytest.mark.browser


def write(path: Path, *cells: str) -> Path:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(cells)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, path)
    return path


@pytest.mark.slow
def test_a_notebook_runs_in_the_dark_theme_and_a_failing_cell_is_named(
    open_notebook: OpenNotebook, tmp_path: Path
) -> None:
    notebook = write(tmp_path / "page.ipynb", "import vnmi_lab\nvnmi_lab.doctor()", "1 / 0")
    page = open_notebook(notebook, theme="dark", width=800)
    assert page.run_all() == [CellError(1, "ZeroDivisionError", "division by zero")]
    assert page.page.get_by_role("table").get_by_text("anywidget").is_visible()
    assert page.page.evaluate("() => document.body.dataset.jpThemeName") == "JupyterLab Dark"
    assert page.errors == []
