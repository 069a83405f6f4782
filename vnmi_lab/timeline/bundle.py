"""The player's modules as the one module that a page can load without asking a server for more.

The sources are plain ES modules (``assets/js``), each with its imports on top, so that node runs and tests them as they
are. A page gets them one after another in the order in which they need each other, without the imports.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const |class |function )", re.MULTILINE)


def asset(name: str) -> str:
    """Give the text of a file of ``vnmi_lab/assets``."""
    return files("vnmi_lab").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def script(entry: str) -> str:
    """Give the ES module that ``assets/js/<entry>.js`` and all it imports make together."""
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", asset(f"js/{name}.js"))) for name in _needed(entry, []))


def _needed(name: str, found: list[str]) -> list[str]:
    """Append a module to ``found``, after those it imports."""
    for other in _IMPORT.findall(asset(f"js/{name}.js")):
        _needed(other, found)
    if name not in found:
        found.append(name)
    return found
