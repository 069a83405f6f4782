"""Runs the examples in docs/ and writes what they say below them; with --check, names the pages that say otherwise.

A block marked ``console`` has commands after ``$``, of `vnmi-lab` and of `cat`, also with ``| head -N`` behind them. A
block marked ``pycon`` has statements after ``>>>``, one marked ``python`` runs without output. The blocks of a page
share one namespace and one empty folder.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from doctest import DocTestParser
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from vnmi_lab.cli import main as vnmi_lab

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ELSEWHERE = {
    "gallery.md": "tests/browser/test_gallery.py runs its examples in JupyterLab, and makes the page",
    "hub.md": "tests/browser/test_hub.py starts its hub, and logs in",
}
"""Pages whose examples something else runs."""

_BLOCK = re.compile(r"^```(console|pycon|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEAD = re.compile(r"(.*) \| head -(\d+)")

Namespace = dict[str, object]


def pages() -> list[Path]:
    """List the pages with examples."""
    found = sorted(DOCS.rglob("*.md"))
    return [path for path in found if path.name not in ELSEWHERE and _BLOCK.search(path.read_text(encoding="utf-8"))]


def rebuilt(text: str) -> str:
    """Return a page with what its examples say now; an example that raises raises here."""
    namespace: Namespace = {"__name__": "example"}
    with TemporaryDirectory() as folder, chdir(folder):
        return _BLOCK.sub(lambda found: f"```{found[1]}\n{_RUN[found[1]](found[2], namespace)}```", text)


def _console(block: str, _namespace: Namespace) -> str:
    commands = re.findall(r"^\$ (.*(?:\\\n.*)*)\n", block, re.MULTILINE)
    return "".join(f"$ {command}\n{_command(command)}" for command in commands)


def _command(text: str) -> str:
    """Run one command line, and return what a terminal would show."""
    head = _HEAD.fullmatch(text)
    words = shlex.split((head[1] if head else text).replace("\\\n", " "))
    if words[0] == "cat":
        said = Path(words[1]).read_text(encoding="utf-8")
    elif words[0] == "vnmi-lab":
        said = _said(lambda: vnmi_lab(words[1:]))
    else:
        raise ValueError(f"an example may start with vnmi-lab or cat, not with {words[0]!r}")
    lines = [line.rstrip() for line in said.splitlines()]
    return "".join(f"{line}\n" for line in (lines[: int(head[2])] if head else lines))


def _pycon(block: str, namespace: Namespace) -> str:
    return "".join(_statement(example.source, namespace) for example in DocTestParser().get_examples(block))


def _statement(source: str, namespace: Namespace) -> str:
    lines = source.splitlines()
    shown = "".join(f"{'...' if number else '>>>'} {line}".rstrip() + "\n" for number, line in enumerate(lines))
    code = compile(source, "<example>", "single")
    said = _said(lambda: exec(code, namespace))  # noqa: S102 - the project's own pages
    return shown + said


def _python(block: str, namespace: Namespace) -> str:
    exec(compile(block, "<example>", "exec"), namespace)  # noqa: S102 - the project's own pages
    return block


_RUN: dict[str, Callable[[str, Namespace], str]] = {"console": _console, "pycon": _pycon, "python": _python}


def _said(run: Callable[[], object]) -> str:
    """Return what something prints, on either stream; a command that ends itself has said why."""
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said), suppress(SystemExit):
        run()
    return said.getvalue()


def stale(*, write: bool) -> Iterator[Path]:
    """Give the pages that say something else than their examples do; with ``write`` they do no longer."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        now = rebuilt(text)
        if now != text:
            if write:
                path.write_text(now, encoding="utf-8")
            yield path


def main() -> int:
    """Run every example; 1 if a comparison fails."""
    os.environ["COLUMNS"] = "80"
    check = "--check" in sys.argv[1:]
    found = [path.relative_to(ROOT) for path in stale(write=not check)]
    for path in found:
        print(f"{path} {'says something else than its examples: make examples' if check else 'written'}")
    return 1 if found and check else 0


if __name__ == "__main__":
    sys.exit(main())
