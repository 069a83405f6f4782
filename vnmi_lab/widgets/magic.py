"""``%%guest NAME``: a cell of assembly becomes a guest, with its listing below it, or what is wrong with it."""

from __future__ import annotations

import builtins
from html import escape
from keyword import iskeyword
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from vnmi_lab.guest_text import GuestTextError, listed, source_of
from vnmi_lab.widgets.notes import explained

MAGIC = "guest"
USAGE = "name the guest in the first line: %%guest mine"


def register_magic(shell: InteractiveShell) -> None:
    """Let cells of this IPython begin with ``%%guest NAME``."""
    register: Any = shell.register_magic_function  # IPython has typed it as something else
    register(lambda line, cell: assemble_cell(shell, line, cell), "cell", MAGIC)


def assemble_cell(shell: InteractiveShell, line: str, cell: str) -> None:
    """Bind the guest in the cell to a name and show its listing; an error is shown, and then the name stays as it was.

    The cell is written as ``vnmi_lab.guest_text`` says: main, then each handler under a line such as ``handler nmi:``.
    The value goes into ``Scenario(guest=NAME)`` and ``show(NAME)``.
    """
    name = line.strip()
    try:
        if not name.isidentifier() or iskeyword(name):
            _refuse(f"{USAGE}, not {name!r}" if name else USAGE)
        if callable(shell.user_ns.get(name, getattr(builtins, name, None))):
            _refuse(f"{name} is a function here already, and stays one: {USAGE}")
        source = source_of(cell)
    except ValueError as error:
        pointed = f"\n{error.pointed}" if isinstance(error, GuestTextError) and error.source else ""
        stays = f"\n{name} stays as it was." if name in shell.user_ns else ""
        _show(f"{error}{pointed}{stays}", explained(error) + (f"<p>{escape(stays)}</p>" if stays else ""))
        return
    shell.user_ns[name] = source
    lines = "\n".join(listed(source.guest()))
    size = len(source.guest().main.code)
    said = f"{name} is a guest of {size} byte{'s' * (size != 1)}: show({name}) runs it."
    _show(f"{said}\n{lines}", f"<p>{escape(said)}</p><pre>{escape(lines)}</pre>")


def _refuse(problem: str) -> None:
    raise ValueError(problem)


def _show(text: str, html: str) -> None:
    data: dict[str, Any] = {"text/plain": text, "text/html": html}
    display(data, raw=True)  # type: ignore[no-untyped-call]  # IPython has not typed it
