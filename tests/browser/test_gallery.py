"""Every view in every theme: drawn, without an error, nothing serious found by axe-core; and the gallery's pictures.

With VNMI_GALLERY=docs/gallery the pictures, light and dark, are written anew (`make docs`).
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import nbformat
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.axe import findings, settle
from tests.browser.conftest import OpenNotebook
from tests.browser.lab import THEMES, Theme
from tests.browser.views import FIRST, VIEWS

DOCS = Path(__file__).parent.parent.parent / "docs"
MOST_BYTES = 1_500_000
PICTURED: tuple[Theme, ...] = ("light", "dark")


def page() -> str:
    """Give the text of docs/gallery.md."""
    head = "# Gallery\n\nEvery view, light and dark, from `tests/browser/test_gallery.py` (`make docs`).\n"
    parts = [head]
    for view in VIEWS:
        parts.append(f"\n## {view.name}\n\n{view.seen}\n\n```python\n{view.code}\n```\n")
        parts += [f"\n![{view.name}, {theme} theme](gallery/{view.name}-{theme}.png)\n" for theme in PICTURED]
    return "".join(parts)


def fewer_colours(picture: bytes) -> bytes:
    """Give a screenshot as a small PNG of at most 256 colours, rare hues among them."""
    small = io.BytesIO()
    drawn = (
        Image.open(io.BytesIO(picture))
        .convert("RGB")
        .quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    drawn.save(small, "PNG", optimize=True)
    return small.getvalue()


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", list(THEMES))
def test_every_view_is_drawn_and_accessible(theme: Theme, open_notebook: OpenNotebook, tmp_path: Path) -> None:
    cells = [
        nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate([FIRST, *(v.code for v in VIEWS)])
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "views.ipynb")
    shown = open_notebook(tmp_path / "views.ipynb", theme=theme, width=1280, height=2600, still=True)
    assert shown.run_all() == []
    for number, view in enumerate(VIEWS, 1):
        output = shown.page.locator(".jp-Notebook .jp-Cell").nth(number).locator(".jp-Cell-outputArea")
        expect(output).to_be_visible()
        expect(output.locator(".vnmi-player").first).to_have_attribute("data-ready", "true")
        output.scroll_into_view_if_needed()
        view.do(output)
        settle(shown.page)
        picture = output.screenshot(animations="disabled")
        assert len(set(Image.open(io.BytesIO(picture)).convert("L").tobytes())) > 8, view.name
        if (folder := os.environ.get("VNMI_GALLERY")) and theme in PICTURED:
            (Path(folder) / f"{view.name}-{theme}.png").write_bytes(fewer_colours(picture))
    assert findings(shown.page, ".jp-Cell-outputArea") == []
    assert shown.errors == []


def test_the_gallery_has_every_view_and_is_no_burden() -> None:
    if folder := os.environ.get("VNMI_GALLERY"):
        Path(folder).with_suffix(".md").write_text(page(), encoding="utf-8")
        return  # the pictures are still to be drawn
    assert (DOCS / "gallery.md").read_text(encoding="utf-8") == page(), "run: make docs"
    pictures = sorted((DOCS / "gallery").glob("*.png"))
    assert {path.stem for path in pictures} == {f"{view.name}-{theme}" for view in VIEWS for theme in PICTURED}
    assert sum(path.stat().st_size for path in pictures) < MOST_BYTES
