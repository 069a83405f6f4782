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

BROWSER = "emscripten"
"""How Python calls a platform that is a browser."""
LIVE = "live: timelines that play"
STILL = "pictures: a terminal shows text, a page without widgets shows pictures and tables"
_COLAB = "if a timeline stays empty: from google.colab import output; output.enable_custom_widget_manager()"
_VSCODE = 'if a timeline stays empty: set "jupyter.widgetScriptSources": ["jsdelivr.com", "unpkg.com"] in VS Code'

# How each place a notebook can be open in gives itself away to the kernel, what it shows, and a remedy. The first that
# fits; docs/front-ends.md says which of them are tested.
_PLACES = (
    ("COLAB_RELEASE_TAG", "Colab", f"{LIVE}, but not tried by this project", _COLAB),
    ("VSCODE_PID", "VS Code", f"{LIVE}, but not tried by this project", _VSCODE),
    ("VOILA_REQUEST_URL", "Voila", LIVE, ""),
    ("BINDER_SERVICE_HOST", "JupyterLab on Binder", LIVE, ""),
    ("JPY_SESSION_NAME", "JupyterLab or Notebook 7", LIVE, ""),
    ("JPY_PARENT_PID", "a Jupyter kernel", f"{LIVE} where the page shows widgets, pictures elsewhere", ""),
)
_SERVED = {"Voila", "JupyterLab or Notebook 7", "a Jupyter kernel"}
_PROCESSES = "/proc"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def doctor() -> Report:
    """Look at everything the labs and the tests need; nothing is imported, started or changed."""
    if sys.platform == BROWSER:  # JupyterLite: the page is the server, and no test runs there
        return Report((_python(), *map(_package, _FRONT_ENDS), _front_end(), _labs()))
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
    front_end = None if sys.platform == BROWSER else _FRONT_ENDS.get(name)  # there the page has its own
    if front_end and not (Path(sys.prefix) / "share/jupyter/labextensions" / front_end).is_dir():
        again = f'"{sys.executable}" -m pip install --force-reinstall "{wanted}"'
        return Line(name, State.PROBLEM, f"{found}, its JupyterLab front end is missing under {sys.prefix}", again)
    return Line(name, State.OK, found)


def _front_end() -> Line:
    name = "mode"
    if sys.platform == BROWSER:
        return Line(name, State.OK, f"JupyterLite: {LIVE}, in the browser without a server")
    for variable, place, shows, remedy in _PLACES:
        if variable not in os.environ:
            continue
        if place in _SERVED and (elsewhere := _other_prefix()) and (missing := _missing_in(elsewhere)):
            python = elsewhere / "bin" / "python"
            found = f"pictures: {place} runs in {elsewhere}, which lacks the front end of {' and '.join(missing)}"
            wanted = " ".join(f'"{one}>={".".join(map(str, OLDEST[one]))}"' for one in missing)
            return Line(name, State.PROBLEM, found, f'"{python}" -m pip install {wanted}, then start the server again')
        return Line(name, State.OK, f"{place}: {shows}", remedy)
    return Line(name, State.OK, STILL, "for timelines that play: vnmi-lab open")


def _missing_in(prefix: Path) -> list[str]:
    """Give the packages whose front end lies neither under a prefix nor where a user's own are."""
    data = Path(os.environ.get("JUPYTER_DATA_DIR", Path.home() / ".local/share/jupyter"))
    places = (prefix / "share/jupyter/labextensions", data / "labextensions")
    return [name for name, end in _FRONT_ENDS.items() if not any((place / end).is_dir() for place in places)]


def _other_prefix() -> Path | None:
    """Give the prefix of the server that started this kernel, if it is another than this one's; Linux tells."""
    parent = os.environ.get("JPY_PARENT_PID", "")
    try:
        python = Path(_PROCESSES, parent, "cmdline").read_bytes().split(b"\0")[0].decode()
    except (OSError, UnicodeDecodeError):
        return None
    prefix = Path(python).parent.parent
    known = parent.isdecimal() and Path(python).is_absolute() and Path(python).name.startswith("python")
    return prefix if known and prefix != Path(sys.prefix) else None


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
