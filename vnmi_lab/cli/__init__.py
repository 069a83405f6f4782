"""`vnmi-lab`: what a notebook can do, without one.

Bad input ends in one line on stderr that says what was wrong, with the value, and exit code 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

from vnmi_lab import __version__, labs
from vnmi_lab.cli import course, play
from vnmi_lab.cli.words import BAD_INPUT, BadInputError

COMMANDS = {**course.COMMANDS, **play.COMMANDS}
_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line; argparse would print the usage, too."""
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 fine, 1 a finding, 2 bad input."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        parser.error(_no_command(words[0]))
    options, rest = parser.parse_known_args(words)
    command = COMMANDS.get(options.command)
    if command is None:
        parser.print_help()
        return BAD_INPUT
    if rest and not command.passes_on:
        parser.error(f"{options.command} does not know {' '.join(rest)!r}")
    options.rest = rest
    try:
        return command.run(options)
    except (labs.UnknownLabError, BadInputError) as problem:
        parser.error(str(problem))
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:
        parser.error(f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem))
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> _Parser:
    parser = _Parser(prog="vnmi-lab", allow_abbrev=False, description="A lab bench for NMI virtualization on AMD SVM.")
    parser.add_argument("--version", action="version", version=f"vnmi-lab {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        command.arguments(commands.add_parser(name, help=command.help, description=command.help, allow_abbrev=False))
    return parser


def _no_command(word: str) -> str:
    close = get_close_matches(word, COMMANDS, n=1)
    return f"no command {word!r}: " + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COMMANDS)}")
