"""What the commands share: how one is described, how bad input is said, and where a text is written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vnmi_lab.scenario import Scenario

BAD_INPUT = 2


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand: its line of help, its arguments, and what it does with them (its exit code)."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    passes_on: bool = False  # whether options it does not know go on to another program


class BadInputError(Exception):
    """Words that a command cannot use; the text is the line that says so."""


def scenario_of(text: str, policy: str | None = None) -> Scenario:
    """Return the scenario that a name or a text form means, on another machine if one is named."""
    from vnmi_lab.library import find

    try:
        scenario = find(text)
        return scenario if policy is None else scenario.on(policy)
    except ValueError as problem:
        raise BadInputError(problem) from None


def file(text: str) -> Path:
    """Read where to write; a shell's unset variable is no place."""
    if not text:
        raise argparse.ArgumentTypeError("a file, a folder or - must be named")
    return Path(text)


def write_out(text: str, output: Path | None, name: str = "") -> None:
    """Write to a file, or to the terminal for None and for ``-``; in a folder under a name, which is printed."""
    if output is None or output == Path("-"):
        if isinstance(sys.stdout, TextIOWrapper) and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # a file is the same whoever writes it
        print(text, end="")
        return
    if name and output.is_dir():
        output /= name
        print(output)
    try:
        output.write_text(text, encoding="utf-8", newline="\n")
    except OSError as problem:
        problem.filename = problem.filename or str(output)  # a full disk is reported without one
        raise


def no_arguments(parser: argparse.ArgumentParser) -> None:
    """Take none."""
    del parser
