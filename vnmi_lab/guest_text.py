"""A guest as one text, the way it is typed: main first, then each handler under a line that names its vector.

    start:  sti
    work:   nop                     ; labels are the moments that a scenario speaks of
    rest:   hlt
            jmp rest

    handler nmi:                    ; or a vector: handler 2:, handler 0x41:
    entry:  inc qword [rbx+16]
            iretq

A vector without a handler counts itself and returns. What does not assemble is said with its line, its column, and what
would be right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vnmi_lab.guest import MAIN, Guest, handler_address
from vnmi_lab.guests import NMI_VECTOR, Source
from vnmi_lab.hw.asm import AsmError, assemble
from vnmi_lab.hw.syntax import MOST_DIGITS

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 20_000
"""Characters of a guest; its main program has room for less."""
HEADING = "a handler begins with a line such as 'handler nmi:' or 'handler 13:'"
_HANDLER = re.compile(r"\s*handler\s+(?P<vector>[^\s:;]+)\s*:\s*(;.*)?", re.IGNORECASE)
_ALMOST = re.compile(r"\s*handler(\s+[^:]*)?(;.*)?", re.IGNORECASE)
_LABEL = re.compile(r"\s*(?P<label>[A-Za-z_.$][\w.$]*\s*:)\s*(?P<rest>.*)")
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+", re.IGNORECASE | re.ASCII)
_NAMES = {"nmi": NMI_VECTOR}
_TABS = 4
_INDENT = 9
"""Columns that labels stand in."""


class GuestTextError(ValueError):
    """Text that is no guest: ``line``, ``column``, the ``problem`` with what would be right, the ``source`` line."""

    def __init__(self, line: int, column: int, problem: str, source: str = "") -> None:
        super().__init__(f"line {line}, column {column}: {problem}")
        self.line, self.column, self.problem, self.source = line, column, problem, source

    @property
    def pointed(self) -> str:
        """The line, and below it a caret under the place."""
        number = f"{self.line:>4} | "
        before = self.source[: self.column - 1].expandtabs(_TABS)
        return f"{number}{self.source.expandtabs(_TABS)}\n{' ' * (len(number) + len(before))}^"


@dataclass
class _Part:
    """Main, or a handler: its lines, and the number of the first."""

    vector: int | None
    first: int
    heading: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def source_of(text: str) -> Source:
    """Read a guest; ``GuestTextError`` says where it is wrong, and what would be right."""
    if len(text) > LONGEST:
        raise GuestTextError(1, 1, f"a guest has at most {LONGEST:,} characters, not {len(text):,}")
    main, *handlers = _trimmed(list(_parts(text.splitlines())))
    for part in (main, *handlers):
        _assembles(part)
    if not assemble(main.text).code:
        raise GuestTextError(1, 1, "main has no instruction: write one, such as 'start: nop'", "")
    source = Source(main.text, tuple(sorted((part.vector or 0, part.text) for part in handlers)))
    source.guest()
    return source


def text_of(source: Source) -> str:
    """Write a guest as it is typed, labels in a column of their own; ``source_of`` reads the same program back."""
    parts = [source.main, *(f"handler {_said(vector)}:\n{text}" for vector, text in source.handlers)]
    return "\n\n".join("\n".join(map(_neat, part.strip("\n").splitlines())) for part in parts) + "\n"


def same(one: Source, other: Source) -> bool:
    """Say whether two guests are the same program, whatever their texts look like."""
    return one == other or one.guest() == other.guest()


def listed(guest: Guest) -> list[str]:
    """Return a guest's listing, a line each: address, bytes, and text with its label."""
    lines = []
    where = "main"
    for line in guest.listing():
        if line.where != where:
            where = line.where
            lines += ["", f"handler {_said(int(where[1:]))}:"]
        label = f"{line.label}:" if line.label else ""
        lines.append(f"{line.address:x}  {line.raw.hex(' '):<24}  {label:<{_INDENT - 1}} {line.text}".rstrip())
    return lines


# --- reading ---------------------------------------------------------------------------------------------------------


def _parts(lines: list[str]) -> Iterator[_Part]:
    part = _Part(None, 1)
    seen: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        found = _HANDLER.fullmatch(line)
        if found:
            yield part
            part = _Part(_vector(found, number, line, seen), number + 1, line)
            seen[part.vector or 0] = number
        elif _ALMOST.fullmatch(line):
            raise GuestTextError(number, _column(line), HEADING, line)
        else:
            part.lines.append(line)
    yield part


def _vector(found: re.Match[str], number: int, line: str, seen: dict[int, int]) -> int:
    word = found["vector"].lower()
    at = found.start("vector") + 1
    if word not in _NAMES and (not _NUMBER.fullmatch(word) or len(word) > MOST_DIGITS):
        raise GuestTextError(number, at, f"a vector is a number from 0 to 255, or nmi, not {word[:80]!r}", line)
    vector = _NAMES[word] if word in _NAMES else int(word, 16 if word.startswith("0x") else 10)
    try:
        handler_address(vector)
    except ValueError as problem:
        raise GuestTextError(number, at, str(problem), line) from None
    if vector in seen:
        raise GuestTextError(number, at, f"vector {vector} has a handler already, on line {seen[vector]}", line)
    return vector


def _trimmed(parts: list[_Part]) -> list[_Part]:
    """Leave out the blank lines around each part."""
    for part in parts:
        while part.lines and not part.lines[-1].strip():
            part.lines.pop()
        while part.lines and not part.lines[0].strip():
            part.lines.pop(0)
            part.first += 1
    return parts


def _assembles(part: _Part) -> None:
    try:
        if part.vector is None:
            program = assemble(part.text, MAIN)
            Guest.of(program.code, tail="hlt")
        else:
            program = assemble(part.text, handler_address(part.vector))
            Guest.of("nop", {part.vector: program.code}, tail="hlt")
    except AsmError as error:
        line = part.lines[error.line - 1] if error.line <= len(part.lines) else ""
        raise GuestTextError(part.first + error.line - 1, error.column, error.problem, line) from None
    except ValueError as error:
        head = part.heading or (part.lines[0] if part.lines else "")
        raise GuestTextError(part.first - bool(part.heading), _column(head), str(error), head) from None


def _column(line: str) -> int:
    return len(line) - len(line.lstrip()) + 1


# --- writing ---------------------------------------------------------------------------------------------------------


def _said(vector: int) -> str:
    return next((name for name, number in _NAMES.items() if number == vector), str(vector))


def _neat(line: str) -> str:
    if _HANDLER.fullmatch(line):
        return line.strip()
    found = _LABEL.fullmatch(line)
    label, rest = (found["label"], found["rest"]) if found else ("", line.strip())
    return f"{label:<{_INDENT - 1}} {rest}".rstrip()
