"""Commands for the course: open, progress, practice, check, class-report, assignment, doctor."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from vnmi_lab import __version__, labs
from vnmi_lab.cli.words import BadInputError, Command, file, no_arguments, write_out

_LONGEST = 3600
"""Seconds that a cell may be given."""


def _open_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lab", nargs="?", metavar="LAB", help="a lab to open, by number or name; else the folder")
    parser.add_argument(
        "--folder",
        type=file,
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


def _progress_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=file, metavar="FOLDER", help="where you run the labs, or the file")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _progress(options: argparse.Namespace) -> int:
    from vnmi_lab.checks import map as course

    usual = (Path(), Path(labs.WORK_FOLDER), labs.source() or Path())
    try:
        shown = course.read_from(usual if options.folder is None else (options.folder,))
    except ValueError as problem:
        raise BadInputError(problem) from None
    print(json.dumps(shown.as_value(), indent=1) if options.json else shown)
    return 0


def _practice_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="which problem (default: 1)")
    parser.add_argument("--level", type=int, default=1, metavar="L", help="1 (bare metal) to 5 (faults, find the bug)")
    parser.add_argument("--reveal", action="store_true", help="add the answer, and why each option is right or wrong")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--print", type=int, metavar="N", dest="sheet", help="N problems from S on as an HTML page")
    parser.add_argument("-o", "--output", type=file, metavar="FILE", help="write here instead of to the terminal")
    parser.add_argument("--key", type=file, metavar="FILE", help="with --print: write the answers to this page")


def _practice(options: argparse.Namespace) -> int:
    from vnmi_lab.checks import practice

    if options.key is not None and options.sheet is None:
        raise BadInputError("--key goes with --print N: it has the answers to those problems")
    try:
        made = practice.problems(1 if options.sheet is None else options.sheet, options.seed, options.level)
    except ValueError as problem:
        raise BadInputError(problem) from None
    if options.sheet is None:
        told = practice.as_json if options.json else practice.text
        write_out(told(made[0], reveal=options.reveal), options.output)
    else:
        write_out(practice.sheet(made), options.output)
    if options.key is not None:
        write_out(practice.key(made), options.key)
    return 0


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebooks", nargs="+", type=file, metavar="NOTEBOOK", help="a learner's notebook of a lab")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--seconds", type=_seconds, default=30, help="how long a cell may take (default: 30)")
    parser.epilog = "Each runs in a process of its own, with limits: SECURITY.md says what they hold back, and where."


def _check(options: argparse.Namespace) -> int:
    from vnmi_lab.grading import commands

    return commands.check(options.notebooks, seconds=options.seconds, as_json=options.json)


def _seconds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 1 to {_LONGEST}")
    return int(text)


def _class_report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=file, metavar="FILE.json", help="of check --json, or of progress")
    parser.add_argument("--csv", type=file, metavar="FILE", help="write every count")
    parser.add_argument("--html", type=file, metavar="FILE", help="write a page with what was missed most, and why")


def _class_report(options: argparse.Namespace) -> int:
    from vnmi_lab.grading import commands

    return commands.class_report(options.files, options.csv, options.html)


def _assignment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=file, metavar="FOLDER", help="where the course is made: source/ and settings")


def _assignment(options: argparse.Namespace) -> int:
    from vnmi_lab.grading import commands

    return commands.assignment(_origin(), options.folder)


def _doctor(options: argparse.Namespace) -> int:
    del options
    from vnmi_lab.doctor import doctor

    report = doctor()
    print(report)
    return 0 if report.ok else 1


COMMANDS = {
    "open": Command("start JupyterLab on the labs", _open_arguments, _open, passes_on=True),
    "progress": Command("show a map of the course with all you did", _progress_arguments, _progress),
    "practice": Command(
        "a problem that the machine makes and answers, or a sheet of them", _practice_arguments, _practice
    ),
    "check": Command("run learners' notebooks and judge their exercises", _check_arguments, _check),
    "class-report": Command(
        "count what a class did: CSV, and a page with what was missed most", _class_report_arguments, _class_report
    ),
    "assignment": Command(
        "make nbgrader assignments of the labs, with the solutions in them", _assignment_arguments, _assignment
    ),
    "doctor": Command("say what works in this installation, and the remedy for what does not", no_arguments, _doctor),
}
