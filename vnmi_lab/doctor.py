"""What works in this installation, and the remedy for what does not.

Nothing is imported to find out: versions come from package metadata, so the answer takes milliseconds and is right
even where an import would fail.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from enum import Enum
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from vnmi_lab import __version__, labs


class State(Enum):
    """The three things that can be said of a line, in words: colour is never the only sign."""

    OK = "ok"
    PROBLEM = "problem"
    OPTIONAL = "optional"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing looked at: what was found and, where something is missing, what to do."""

    name: str
    state: State
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n{'':12}-> {self.remedy}" if self.remedy else ""
        return f"{self.state.value:<9}  {self.name}: {self.found}{remedy}"


@dataclass(frozen=True, slots=True)
class Report:
    """All lines; reads well printed in a terminal and shown in a notebook."""

    lines: tuple[Line, ...]

    @property
    def ok(self) -> bool:
        """Whether the labs will work: nothing that they need is missing."""
        return all(line.state is not State.PROBLEM for line in self.lines)

    @property
    def verdict(self) -> str:
        """The report in one sentence."""
        problems = sum(line.state is State.PROBLEM for line in self.lines)
        if not problems:
            return "Everything the labs need is here."
        return f"{problems} problem{'s' if problems > 1 else ''} to mend before the labs will work."

    def __str__(self) -> str:
        return "\n".join([*map(str, self.lines), "", self.verdict])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="text-align:left">{h}</th>' for h in ("", "what", "found", "remedy"))
        cells = ((line.state.value, line.name, line.found, line.remedy) for line in self.lines)
        rows = "".join(f"<tr>{''.join(_cell(text) for text in row)}</tr>" for row in cells)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{escape(self.verdict)}</p>"


def _cell(text: str) -> str:
    return f'<td style="text-align:left">{escape(text)}</td>'


# The oldest Python and packages that the labs run on; pyproject.toml says the same, and a test compares.
OLDEST_PYTHON = (3, 11)
OLDEST = {"jupyterlab": (4, 2), "ipywidgets": (8, 1), "anywidget": (0, 9, 13)}

# JupyterLab shows a widget only if its front end lies under the same prefix as JupyterLab itself.
_FRONT_ENDS = {"ipywidgets": "@jupyter-widgets/jupyterlab-manager", "anywidget": "anywidget"}

# How each place a notebook can be open in gives itself away to the kernel. The first that fits.
_PLACES = (
    ("COLAB_RELEASE_TAG", "Colab", "not tried by this project: widgets are expected to work"),
    ("VSCODE_PID", "VS Code", "not tried by this project: widgets are expected to work"),
    ("BINDER_SERVICE_HOST", "JupyterLab on Binder", "animated timelines"),
    ("JPY_SESSION_NAME", "a Jupyter server", "animated timelines"),
    ("JPY_PARENT_PID", "a Jupyter kernel", "animated timelines where the page shows widgets, pictures elsewhere"),
)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def doctor() -> Report:
    """Look at everything the labs and the tests need; nothing is imported, started or changed."""
    return Report((_python(), *map(_package, OLDEST), _front_end(), _labs(), _browser(), _unicorn()))


def find_browser() -> str | None:
    """Return the Chromium that browser tests use: `VNMI_CHROMIUM` where set, else one on the path."""
    chosen = os.environ.get("VNMI_CHROMIUM")
    candidates = (chosen,) if chosen else _BROWSERS
    return next(filter(None, map(shutil.which, candidates)), None)


def _python() -> Line:
    found = f"{sys.version.split()[0]}, vnmi_lab {__version__}"
    if sys.version_info >= OLDEST_PYTHON:
        return Line("Python", State.OK, found)
    return Line("Python", State.PROBLEM, found, "install Python 3.11 or newer and set the project up with it")


def _package(name: str) -> Line:
    oldest = OLDEST[name]
    wanted = f"{name}>={'.'.join(map(str, oldest))}"
    remedy = f'"{sys.executable}" -m pip install "{wanted}"'
    try:
        found = version(name)
    except PackageNotFoundError:
        return Line(name, State.PROBLEM, "not installed", remedy)
    if tuple(map(int, re.findall(r"\d+", found)[:3])) < oldest:
        return Line(name, State.PROBLEM, f"{found}, too old", remedy)
    front_end = _FRONT_ENDS.get(name)
    if front_end and not (Path(sys.prefix) / "share/jupyter/labextensions" / front_end).is_dir():
        again = f'"{sys.executable}" -m pip install --force-reinstall "{wanted}"'
        return Line(name, State.PROBLEM, f"{found}, its JupyterLab front end is missing under {sys.prefix}", again)
    return Line(name, State.OK, found)


def _front_end() -> Line:
    if sys.platform == "emscripten":
        return Line("front end", State.OK, "JupyterLite: animated timelines, in the browser without a server")
    for variable, place, shows in _PLACES:
        if variable in os.environ:
            return Line("front end", State.OK, f"{place}: {shows}")
    return Line("front end", State.OK, "unknown, no notebook asks: a terminal shows text, a notebook the timelines")


def _labs() -> Line:
    folder = labs.source()
    count = len(labs.notebooks(folder)) if folder else 0
    if not count:
        return Line("labs", State.PROBLEM, "none found", "install vnmi_lab again, from a wheel or a full checkout")
    return Line("labs", State.OK, f"{count} in {folder}")


def _browser() -> Line:
    name, found = "browser for tests", find_browser()
    if found:
        return Line(name, State.OK, found)
    remedy = "only the project's tests want one: install chromium, or set VNMI_CHROMIUM to a Chrome or Chromium"
    return Line(name, State.OPTIONAL, "no Chromium found", remedy)


def _unicorn() -> Line:
    try:
        return Line("unicorn", State.OK, version("unicorn"))
    except PackageNotFoundError:
        remedy = f'only `vnmi-lab bench` compares with it: "{sys.executable}" -m pip install "unicorn>=2.1,<3"'
        return Line("unicorn", State.OPTIONAL, "not installed", remedy)


class _Callable(ModuleType):
    """`vnmi_lab.doctor` is this module; called, it is the function of the same name."""

    def __call__(self) -> Report:
        return doctor()


sys.modules[__name__].__class__ = _Callable
