"""Commands for the machine and the hypervisor: run, compare, conform, diagram, bench, explore."""

from __future__ import annotations

import argparse
import json
import sys

from vnmi_lab.cli.words import BAD_INPUT, BadInputError, Command, file, scenario_of, write_out


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    _scenario_arguments(parser, "?")
    parser.add_argument("--list", action="store_true", help="every scenario of the library: its name and a sentence")
    parser.add_argument("--policy", metavar="P", help="bare or a policy, instead of the scenario's own")
    parser.add_argument("--format", default="text", metavar="FORMAT", help="text (default), or one of those below")
    parser.add_argument(
        "-o",
        "--output",
        type=file,
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
        write_out("".join(f"{name:<{width}}  {entry.sentence}\n" for name, entry in LIBRARY.items()), options.output)
        return 0
    if options.scenario is None:
        raise BadInputError("run needs a scenario; run --list names them")
    from vnmi_lab.export import known, write
    from vnmi_lab.trace import Trace

    scenario = scenario_of(options.scenario, options.policy)
    try:
        known(options.format)
    except ValueError as problem:
        raise BadInputError(problem) from None
    made = write(Trace(scenario.machine(), str(scenario)), options.format)
    write_out(made.text, options.output, made.name)
    return 0


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    _scenario_arguments(parser, None)
    parser.add_argument("--policies", default="legacy,vnmi", metavar="P,P", help="policies, beside bare metal")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument(
        "--svg", type=file, metavar="FILE", help="the runs side by side as a picture; - is the terminal"
    )


def _compare(options: argparse.Namespace) -> int:
    from vnmi_lab.compare import compare

    scenario = scenario_of(options.scenario)
    policies = options.policies.split(",")
    for policy in policies:
        scenario_of(options.scenario, policy)
    if options.svg is not None:
        from vnmi_lab.timeline import side, sidestill

        try:
            write_out(sidestill.svg(side.side(scenario, ["bare", *policies])), options.svg)
        except ValueError as problem:
            raise BadInputError(problem) from None
        return 0
    table = compare(scenario, policies)
    print(json.dumps(table.as_dict(), indent=1) if options.json else table)
    return 0


def _scenario_arguments(parser: argparse.ArgumentParser, nargs: str | None) -> None:
    parser.add_argument("scenario", nargs=nargs, metavar="SCENARIO", help="a name (run --list) or v1~GUEST~MACHINE~...")


def _conform_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=file, metavar="FILE.jsonl", help="recorded cases, one a line")


def _conform(options: argparse.Namespace) -> int:
    from vnmi_lab import conform

    return conform.main(options.files)


def _diagram_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "svg"), default="text", help="text (default) or a picture")
    parser.add_argument("-o", "--output", type=file, metavar="FILE", help="write here instead of to the terminal")


def _diagram(options: argparse.Namespace) -> int:
    from vnmi_lab.hw import diagram

    drawn = diagram.svg() if options.format == "svg" else diagram.text()
    write_out(drawn, options.output)
    return 0


def _explore_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", required=True, metavar="P|FILE.py:NAME", help="a shipped policy, or your own code")
    parser.add_argument("--guest", help="a guest by name; else those that expose or acquit the policy")
    parser.add_argument("--nmis", type=int, help="how many NMIs may arrive (default: 3)")
    parser.add_argument(
        "--switches", action="store_true", help="ask again under each open switch, and say which the verdict depends on"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--svg", type=file, metavar="FILE", help="the states of a shipped policy as a picture")


def _explore(options: argparse.Namespace) -> int:
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
        raise BadInputError(problem) from None
    write_out(graphs.svg(payload), options.svg)
    return 1 if payload["walk"] else 0


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    what = "measure the player in Chromium, beside matplotlib and ipympl (from a checkout)"
    parser.add_argument("--browser", action="store_true", help=what)


def _bench(options: argparse.Namespace) -> int:
    from vnmi_lab import bench

    measured = bench.browser if options.browser else bench.main
    return measured(as_json=options.json)


COMMANDS = {
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
}
