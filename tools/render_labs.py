"""Renders the labs, executed, to HTML pages that need no kernel, no script and no network: tools/render_labs.py FOLDER.

What a widget leaves in a notebook beside itself (picture, table, question with its answer folded away) is what the
page shows. An output that nothing but a widget could show is an error, and so is a cell that fails.
"""

from __future__ import annotations

import os
import re
import sys
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

LABS = Path(__file__).parent.parent / "labs"
WIDGET = "application/vnd.jupyter.widget-view+json"
NOT_SHOWN = {WIDGET, "image/svg+xml", "image/png"}
"""What the HTML of the same output makes needless."""

LINK = re.compile(r'href="(\d\d_\w+)\.ipynb"')
"""A link from one lab to another, which leads from page to page here."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="made-from" content="{source}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<p class="said">An executed copy of <code>labs/{name}.ipynb</code>: pictures and tables where the notebook has players
that step. To step, predict and be checked, open the notebook in JupyterLab.</p>
<main>
{body}
</main>
</body>
</html>
"""
STYLE = """:root{color-scheme:light dark}
body{max-width:64rem;margin:0 auto;padding:1rem;font:16px/1.55 system-ui,"DejaVu Sans",sans-serif;
color:#1c2127;background:#fff}
.said{border-left:4px solid #0b5cad;padding:.2rem 1rem;background:#f5f6f8}
pre,code{font:13px/1.5 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}
.jp-InputArea pre,.highlight pre{background:#f5f6f8;border:1px solid #e4e7eb;border-radius:6px;padding:.6rem;
overflow:auto}
.jp-InputPrompt,.jp-OutputPrompt,.anchor-link{display:none}
figure{margin:.5rem 0;overflow-x:auto}figure img{max-width:none}
table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}
th,td{border:1px solid #e4e7eb;padding:.15rem .5rem;text-align:left;vertical-align:top}
.vnmi-note{color:#1c2127}
@media screen and (prefers-color-scheme:dark){body{color:#e8ebef;background:#171a1e}.said,
.jp-InputArea pre,.highlight pre{background:#22272e;border-color:#333a42}th,td{border-color:#333a42}
.vnmi-note{color:#1c2127}a{color:#79b8f5}}
@media print{figure,.vnmi-note{break-inside:avoid}figure img{max-width:100%}}
"""


def executed(notebook: Path) -> Any:  # noqa: ANN401 - a notebook has no type
    """Run a notebook and give it without widgets; ``ValueError`` names a cell that only a widget could show."""
    os.environ["VNMI_LAB_PROGRESS"] = "off"  # a page shows what a newcomer sees
    book = nbformat.read(notebook, 4)
    NotebookClient(book, timeout=300, kernel_name="python3", store_widget_state=False).execute()
    for number, cell in enumerate(book.cells):
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if WIDGET in data and "text/html" not in data:
                raise ValueError(f"{notebook.name}, cell {number}: only a widget could show this output")
            if "text/html" in data:
                for kind in NOT_SHOWN & data.keys():
                    del data[kind]
    book.metadata.pop("widgets", None)
    return book


def fingerprint(notebook: Path) -> str:
    """Give what a page is known by to be made from this very notebook."""
    return sha256(notebook.read_bytes()).hexdigest()


def render(notebook: Path) -> str:
    """Give the page of a lab."""
    exporter = HTMLExporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, embed_images=True
    )
    body, _ = exporter.from_notebook_node(executed(notebook), resources={"metadata": {"path": str(LABS)}})
    light, dark = (HtmlFormatter(style=name, nobackground=True) for name in ("default", "github-dark"))
    body = LINK.sub(r'href="\1.html"', body)
    style = STYLE.replace("\n", "") + light.get_style_defs(".highlight")
    style += f"@media screen and (prefers-color-scheme:dark){{{dark.get_style_defs('.highlight')}}}"
    title = notebook.stem.replace("_", " ")
    return PAGE.format(
        source=fingerprint(notebook), title=escape(title), name=escape(notebook.stem), style=style, body=body
    )


def main() -> int:
    """Render every lab, or those named, into a folder."""
    if len(sys.argv) < 2:  # noqa: PLR2004 - the script itself, and the folder
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    notebooks = [LABS / f"{name}.ipynb" for name in sys.argv[2:]] or sorted(LABS.glob("[0-9][0-9]_*.ipynb"))
    for notebook in notebooks:
        page = folder / f"{notebook.stem}.html"
        page.write_text(render(notebook), encoding="utf-8")
        print(f"{page}: {page.stat().st_size / 1000:,.0f} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
