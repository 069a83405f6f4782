"""`vnmi-lab`: what a notebook can do, without one.

Bad input ends in one line on stderr that says what was wrong, with the value, and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vnmi_lab import __version__, labs

if TYPE_CHECKING:
    from vnmi_lab.scenario import Scenario

BAD_INPUT = 2
_INTERRUPTED = 130
_LONGEST = 3600


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand: its line of help, its arguments, and what it does with them (its exit code)."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    passes_on: bool = False  # whether options it does not know go on to another program


class _BadInputError(Exception):
    """Words that a command cannot use; the text is the line that says so."""


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
    except (labs.UnknownLabError, _BadInputError) as problem:
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


def _open_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lab", nargs="?", metavar="LAB", help="a lab to open, by number or name; else the folder")
    parser.add_argument(
        "--folder",
        type=_file,
        default=Path(labs.WORK_FOLDER),
        help=f"where your copy of the labs is kept (default: ./{labs.WORK_FOLDER}); a checkout opens its own labs",
    )
    parser.epilog = "Other options go on to JupyterLab, such as --no-browser or --port=8889."


def _open(options: argparse.Namespace) -> int:
    origin = _origin()
    folder = origin if labs.in_checkout(origin) else _work_folder(origin, options.folder)
    target = labs.find(folder, options.lab) if options.lab else folder
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}", *options.rest]
    if options.lab:
        command.append(str(target.resolve()))
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in command:
        command.append("--allow-root")
    return subprocess.run(command, check=False).returncode  # noqa: S603  # our own Python, and the user's own options


def _origin() -> Path:
    """Return the labs of this installation."""
    origin = labs.source()
    if origin is None:
        raise labs.UnknownLabError("this installation has no labs: vnmi-lab doctor says more")
    return origin


def _work_folder(origin: Path, folder: Path) -> Path:
    copied = labs.copy(origin, folder)
    if copied.written:
        print(f"copied {len(copied.written)} files of the labs into {folder}")
    for path in copied.kept:
        print(f"kept your {folder / path}: it differs from the one in vnmi_lab {__version__}")
    return folder


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """Take none."""
    del parser


def _conform_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=_file, metavar="FILE.jsonl", help="recorded cases, one a line")


def _conform(options: argparse.Namespace) -> int:
    from vnmi_lab import conform

    return conform.main(options.files)


def _diagram_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "svg"), default="text", help="text (default) or a picture")
    parser.add_argument("-o", "--output", type=_file, metavar="FILE", help="write here instead of to the terminal")


def _diagram(options: argparse.Namespace) -> int:
    from vnmi_lab.hw import diagram

    drawn = diagram.svg() if options.format == "svg" else diagram.text()
    _write(drawn, options.output)
    return 0


def _scenario_arguments(parser: argparse.ArgumentParser, nargs: str | None) -> None:
    parser.add_argument("scenario", nargs=nargs, metavar="SCENARIO", help="a name (run --list) or v1~GUEST~MACHINE~...")


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    _scenario_arguments(parser, "?")
    parser.add_argument("--list", action="store_true", help="every scenario of the library: its name and a sentence")
    parser.add_argument("--policy", metavar="P", help="bare or a policy, instead of the scenario's own")
    parser.add_argument("--format", default="text", metavar="FORMAT", help="text (default), or one of those below")
    parser.add_argument(
        "-o",
        "--output",
        type=_file,
        metavar="FILE",
        help="write here, over what is there, instead of to the terminal (-); a folder gets a file named after the run",
    )
    parser.epilog = (
        "Formats: html (plays offline), svg, vcd (GTKWave, Surfer), perfetto, wavedrom, ftrace, csv, jsonl, json, text."
        " docs/exports.md says what each holds and how to open it."
    )


def _run(options: argparse.Namespace) -> int:
    if options.list:
        from vnmi_lab.library import LIBRARY

        width = max(map(len, LIBRARY))
        _write("".join(f"{name:<{width}}  {entry.sentence}\n" for name, entry in LIBRARY.items()), options.output)
        return 0
    if options.scenario is None:
        raise _BadInputError("run needs a scenario; run --list names them")
    from vnmi_lab.export import known, write
    from vnmi_lab.trace import Trace

    scenario = _scenario(options.scenario, options.policy)
    try:
        known(options.format)
    except ValueError as problem:
        raise _BadInputError(problem) from None
    made = write(Trace(scenario.machine(), str(scenario)), options.format)
    _write(made.text, options.output, made.name)
    return 0


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    _scenario_arguments(parser, None)
    parser.add_argument("--policies", default="legacy,vnmi", metavar="P,P", help="policies, beside bare metal")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument(
        "--svg", type=_file, metavar="FILE", help="the runs side by side as a picture; - is the terminal"
    )


def _compare(options: argparse.Namespace) -> int:
    from vnmi_lab.compare import compare

    scenario = _scenario(options.scenario)
    policies = options.policies.split(",")
    for policy in policies:
        _scenario(options.scenario, policy)
    if options.svg is not None:
        from vnmi_lab.timeline import side, sidestill

        try:
            _write(sidestill.svg(side.side(scenario, ["bare", *policies])), options.svg)
        except ValueError as problem:
            raise _BadInputError(problem) from None
        return 0
    table = compare(scenario, policies)
    print(json.dumps(table.as_dict(), indent=1) if options.json else table)
    return 0


def _scenario(text: str, policy: str | None = None) -> Scenario:
    """Return the scenario that a name or a text form means, on another machine if one is named."""
    from vnmi_lab.library import find

    try:
        scenario = find(text)
        return scenario if policy is None else scenario.on(policy)
    except ValueError as problem:
        raise _BadInputError(problem) from None


def _file(text: str) -> Path:
    """Read where to write; a shell's unset variable is no place."""
    if not text:
        raise argparse.ArgumentTypeError("a file, a folder or - must be named")
    return Path(text)


def _write(text: str, output: Path | None, name: str = "") -> None:
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


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    what = "measure the player in Chromium, beside matplotlib and ipympl (from a checkout)"
    parser.add_argument("--browser", action="store_true", help=what)


def _bench(options: argparse.Namespace) -> int:
    from vnmi_lab import bench

    measured = bench.browser if options.browser else bench.main
    return measured(as_json=options.json)


def _explore_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", required=True, metavar="P|FILE.py:NAME", help="a shipped policy, or your own code")
    parser.add_argument("--guest", help="a guest by name; else those that expose or acquit the policy")
    parser.add_argument("--nmis", type=int, help="how many NMIs may arrive (default: 3)")
    parser.add_argument(
        "--switches", action="store_true", help="ask again under each open switch, and say which the verdict depends on"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--svg", type=_file, metavar="FILE", help="the states of a shipped policy as a picture")


def _explore(options: argparse.Namespace) -> int:
    import json

    from vnmi_lab import isolate, judge

    if options.svg is not None:
        return _explored(options)
    try:
        verdicts = isolate.ask(options.policy, options.guest, options.nmis, switches=options.switches)
    except (ValueError, judge.LearnerError) as problem:
        print(f"vnmi-lab explore: {problem}", file=sys.stderr)
        return BAD_INPUT
    if options.json:
        print(json.dumps([judge.as_json_value(verdict) for verdict in verdicts], indent=1))
    else:
        print(*verdicts, sep="\n")
        for verdict in verdicts:
            if (found := judge.divergence(verdict)) is not None:
                print(found)
            if verdict.scenario is not None:
                print(f"to see it: vnmi-lab run {verdict.scenario}")
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def _explored(options: argparse.Namespace) -> int:
    """Draw what is explored; a learner's own code is drawn in a notebook, where it is loaded already."""
    from vnmi_lab import judge
    from vnmi_lab.graph import graph
    from vnmi_lab.timeline import graphs

    try:
        judge.checked(options.guest, options.nmis)
        payload = graph(judge.named(options.policy), options.guest, options.nmis)
    except ValueError as problem:
        raise _BadInputError(problem) from None
    _write(graphs.svg(payload), options.svg)
    return 1 if payload["walk"] else 0


def _progress_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=_file, metavar="FOLDER", help="where you run the labs, or the file")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _progress(options: argparse.Namespace) -> int:
    from vnmi_lab.checks import map as course

    usual = (Path(), Path(labs.WORK_FOLDER), labs.source() or Path())
    try:
        shown = course.read_from(usual if options.folder is None else (options.folder,))
    except ValueError as problem:
        raise _BadInputError(problem) from None
    print(json.dumps(shown.as_value(), indent=1) if options.json else shown)
    return 0


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebooks", nargs="+", type=_file, metavar="NOTEBOOK", help="a learner's notebook of a lab")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--seconds", type=_seconds, default=30, help="how long a cell may take (default: 30)")
    parser.epilog = "Each runs in a process of its own, with limits: SECURITY.md says what they hold back, and where."


def _check(options: argparse.Namespace) -> int:
    from vnmi_lab.grading import commands

    return commands.check(options.notebooks, seconds=options.seconds, as_json=options.json)


def _class_report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=_file, metavar="FILE.json", help="of check --json, or of progress")
    parser.add_argument("--csv", type=_file, metavar="FILE", help="write every count")
    parser.add_argument("--html", type=_file, metavar="FILE", help="write a page with what was missed most, and why")


def _class_report(options: argparse.Namespace) -> int:
    from vnmi_lab.grading import commands

    return commands.class_report(options.files, options.csv, options.html)


def _assignment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=_file, metavar="FOLDER", help="where the course is made: source/ and settings")


def _assignment(options: argparse.Namespace) -> int:
    from vnmi_lab.grading import commands

    return commands.assignment(_origin(), options.folder)


def _seconds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 1 to {_LONGEST}")
    return int(text)


def _practice_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="which problem (default: 1)")
    parser.add_argument("--level", type=int, default=1, metavar="L", help="1 (bare metal) to 5 (faults, find the bug)")
    parser.add_argument("--reveal", action="store_true", help="add the answer, and why each option is right or wrong")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--print", type=int, metavar="N", dest="sheet", help="N problems from S on as an HTML page")
    parser.add_argument("-o", "--output", type=_file, metavar="FILE", help="write here instead of to the terminal")
    parser.add_argument("--key", type=_file, metavar="FILE", help="with --print: write the answers to this page")


def _practice(options: argparse.Namespace) -> int:
    from vnmi_lab.checks import practice

    if options.key is not None and options.sheet is None:
        raise _BadInputError("--key goes with --print N: it has the answers to those problems")
    try:
        made = practice.problems(1 if options.sheet is None else options.sheet, options.seed, options.level)
    except ValueError as problem:
        raise _BadInputError(problem) from None
    if options.sheet is None:
        told = practice.as_json if options.json else practice.text
        _write(told(made[0], reveal=options.reveal), options.output)
    else:
        _write(practice.sheet(made), options.output)
    if options.key is not None:
        _write(practice.key(made), options.key)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    del options
    from vnmi_lab.doctor import doctor

    report = doctor()
    print(report)
    return 0 if report.ok else 1


COMMANDS = {
    "open": Command("start JupyterLab on the labs", _open_arguments, _open, passes_on=True),
    "run": Command("run a scenario and say what happens, step by step", _run_arguments, _run),
    "compare": Command("run a scenario under several policies and count exits and NMIs", _compare_arguments, _compare),
    "conform": Command(
        "replay recorded traces; print the first difference of each failing case, then 'N passed, M failed'",
        _conform_arguments,
        _conform,
    ),
    "diagram": Command(
        "the states of an NMI, drawn from the tables that the processor runs on", _diagram_arguments, _diagram
    ),
    "bench": Command(
        "measure this project on this machine, against Unicorn and Spin where they are there", _bench_arguments, _bench
    ),
    "explore": Command(
        "judge a policy over every schedule of a few NMIs; exit 1 with the shortest one that breaks it",
        _explore_arguments,
        _explore,
    ),
    "progress": Command("show a map of the course with all you did", _progress_arguments, _progress),
    "check": Command("run learners' notebooks and judge their exercises", _check_arguments, _check),
    "practice": Command(
        "a problem that the machine makes and answers, or a sheet of them", _practice_arguments, _practice
    ),
    "class-report": Command(
        "count what a class did: CSV, and a page with what was missed most", _class_report_arguments, _class_report
    ),
    "assignment": Command(
        "make nbgrader assignments of the labs, with the solutions in them", _assignment_arguments, _assignment
    ),
    "doctor": Command("say what works in this installation, and the remedy for what does not", _no_arguments, _doctor),
}
