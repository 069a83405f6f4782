"""Lab 09, what it costs: its exercises, and by name its predictions and figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from reprlib import repr as short
from types import FunctionType

from vnmi_lab.checks.answers import nmis, under_kvm
from vnmi_lab.checks.exercise import Exercise, LearnerError, Wrong
from vnmi_lab.checks.lab03 import GUEST, exit_of, name_of
from vnmi_lab.checks.lab09_figures import assumptions, counters, over_rates, prices
from vnmi_lab.checks.lab09_predictions import (
    BUSY,
    PREDICTIONS,
    counted_twice,
    extra,
    fall_back,
    kicks,
    merged_too,
    old_way,
    says_so,
    shadowed,
)
from vnmi_lab.checks.measure import counted, entries, exits
from vnmi_lab.checks.prediction import LONGEST
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.checks.standing import Left
from vnmi_lab.export import write
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.judge import LearnerError as Raised
from vnmi_lab.judge import watched
from vnmi_lab.library import find
from vnmi_lab.machine import Stimulus
from vnmi_lab.scenario import Scenario
from vnmi_lab.trace import Step, Trace

__all__ = [
    "EXERCISES",
    "PREDICTIONS",
    "assumptions",
    "counted_twice",
    "counters",
    "fall_back",
    "formula",
    "left",
    "log",
    "merged_too",
    "not_free",
    "old_way",
    "over_rates",
    "prices",
    "read_it",
    "says_so",
    "shadowed",
    "worst",
]

# --- exercise 1 -----------------------------------------------------------------------------------------------------

UP_TO, MANY = 6, 1_000
"""NMIs that arrive at once in exercise 1, up to which the formula is tried; and exits that are too many to be meant."""


def at_once(number: int) -> Trace:
    """Return the run in which so many NMIs arrive at one moment, under IRET interception."""
    stimuli = [Stimulus(at="work", times=number)] if number else []
    return Trace(under_kvm(GUEST, LEGACY, stimuli), f"{counted(number, 'NMI')} at once", LONGEST)


def _judge_formula(answer: object) -> Verdict:
    if not isinstance(answer, FunctionType):
        return wrong(f"The answer must be your function `extra_exits`, not {short(answer)}.")
    said = watched(answer)
    for number in range(UP_TO + 1):
        trace = at_once(number)
        is_so = len(extra(trace))
        try:
            yours = said(number)
        except Raised as error:
            text, _at, line = str(error).partition(" at line ")
            raise LearnerError(f"{text.rstrip(',.')}.", f"line {line}" if line else "") from error
        if isinstance(yours, bool) or not isinstance(yours, int) or not 0 <= yours < MANY:
            return wrong(f"`extra_exits({number})` must be a whole number from 0 on, and not a large one.")
        if yours != is_so:
            return _differs(trace, number, yours)
    return right(f"Right for every number up to {UP_TO}: a third NMI merges, and costs nothing more.", at_once(UP_TO))


def _differs(trace: Trace, number: int, yours: int) -> Verdict:
    """Say for how many NMIs the formula is wrong, and show the last exit that the machine spends on them."""
    spent = extra(trace)
    said = f"`extra_exits({number})` is {yours}; the machine spends {len(spent)}: {', '.join(spent) or 'none'}."
    if not spent:
        return wrong(said, trace)
    where = [step.index for step, event in exits(trace) if name_of(event.code) == spent[-1]][-1]
    rule = "K-iret_interception"
    return wrong(said, trace, Divergence.at(trace, where, "extra exits", expected=yours, actual=len(spent), rule=rule))


formula = Exercise(
    id="lab09.formula",
    task="Write how many exits IRET interception spends, kicks left out, when n NMIs arrive at one moment.",
    variable="extra_exits",
    judge=_judge_formula,
    hints=(
        "Two questions: how many of the n are delivered? And how many of those had to wait for the IRET of another?",
        "KVM accepts two at once, the rest merge. Each delivered one costs an IRET exit, each that waited a #DB exit.",
        "`delivered = min(n, 2)`, `waited = max(delivered - 1, 0)`, and the answer is their sum.",
    ),
    start="def extra_exits(n):\n    return ...\n\n",
    good=(
        "def extra_exits(n):\n"
        "    delivered = min(n, 2)\n"
        "    waited = max(delivered - 1, 0)\n"
        "    return delivered + waited\n\n"
    ),
    why="One IRET exit for each NMI delivered, one #DB exit for each that waited. At most two are delivered.",
    wrong=(
        Wrong("one for each", "def extra_exits(n):\n    return n\n", "`extra_exits(2)` is 2; the machine spends 3:"),
        Wrong(
            "two for each", "def extra_exits(n):\n    return 2 * n\n", "`extra_exits(1)` is 2; the machine spends 1:"
        ),
        Wrong(
            "nothing merges",
            "def extra_exits(n):\n    return 2 * n - 1 if n else 0\n",
            "`extra_exits(3)` is 5; the machine spends 3:",
        ),
        Wrong("the IRETs alone", "def extra_exits(n):\n    return min(n, 2)\n", "`extra_exits(2)` is 2;"),
        Wrong("no number", "def extra_exits(n):\n    return n / 2\n", "`extra_exits(0)` must be a whole number"),
    ),
)

# --- exercise 2 -----------------------------------------------------------------------------------------------------

MOST, RATIO = 4, 4
"""NMIs that may be sent, and how many times the exits of vNMI the other policy can be made to spend."""


def both_ways(stimuli: list[Stimulus]) -> tuple[Trace, Trace]:
    """Return the same NMIs under IRET interception and under vNMI."""
    runs = [Trace(under_kvm(GUEST, ops, stimuli), f"Your NMIs: {ops.name}", LONGEST * 3) for ops in (LEGACY, VNMI)]
    return runs[0], runs[1]


def _judge_worst(answer: object) -> Verdict:
    stimuli = nmis(answer, MOST)
    if isinstance(stimuli, Verdict):
        return stimuli
    legacy, vnmi = both_ways(stimuli)
    many, few = len(exits(legacy)), len(exits(vnmi))
    said = f"{many} exits against {few}"
    if many >= RATIO * few:
        return right(f"{said}: {many / few:.0f} times as many. No schedule of so few NMIs does more.", legacy)
    kicked = kicks(vnmi)
    because = f" Both spend {counted(kicked, 'kick')}." if kicked else ""
    where = exit_of(vnmi, "INTR" if kicked else "HLT").index
    found = Divergence.at(
        vnmi, where, "exits of both", expected=f"{RATIO} to 1", actual=f"{many} to {few}", rule="R-VMEXIT"
    )
    return wrong(f"{said} is {many / few:.2g} times as many; the task is {RATIO}.{because}", vnmi, found)


worst = Exercise(
    id="lab09.worst",
    task="Place at most four NMIs so that IRET interception spends four times as many exits as vNMI, all counted.",
    variable="stimuli",
    judge=_judge_worst,
    hints=(
        "The exits that both spend make the ratio small. Which are they, and when is an NMI without a kick?",
        "A vCPU that is not in the guest needs no kick. And an NMI that has to wait costs IRET interception two exits.",
        "Two at once, before the guest is entered for the first time: `Stimulus(at=0, times=2)`.",
    ),
    start='stimuli = [Stimulus(at="work"), ...]',
    good="stimuli = [Stimulus(at=0, times=2)]",
    why="No kick, so the only exit of vNMI is the guest's HLT. IRET interception has two IRETs and a #DB beside it.",
    wrong=(
        Wrong(
            "in the handler", 'stimuli = [Stimulus(at="work"), Stimulus(at="handler")]', "6 exits against 3 is 2 times"
        ),
        Wrong("two at once", 'stimuli = [Stimulus(at="work", times=2)]', "5 exits against 2 is 2.5 times"),
        Wrong("one before entry", "stimuli = [Stimulus(at=0)]", "2 exits against 1 is 2 times"),
        Wrong(
            "and one in the handler",
            'stimuli = [Stimulus(at=0, times=2), Stimulus(at="handler")]',
            "5 exits against",
        ),
        Wrong("many", "stimuli = [Stimulus(at=0, times=9)]", "You send 9 NMIs; the task is to use at most 4."),
    ),
)

# --- exercise 3 -----------------------------------------------------------------------------------------------------


def _judge_not_free(answer: object) -> Verdict:
    if not isinstance(answer, str | Scenario):
        return wrong(f"The answer must be the text of a scenario, not {short(answer)}.")
    try:
        scenario = find(str(answer))
    except ValueError as error:
        return wrong(f"That is no scenario: {error}.")
    if scenario.policy != VNMI.name or not scenario.features.has_vnmi or scenario.features.sev_es_guest:
        return wrong("The scenario must run under the policy `vnmi`, with the feature, and with no SEV-ES guest.")
    trace = Trace(scenario.machine(), str(scenario), LONGEST * 3)
    spent = [step for step, event in exits(trace) if name_of(event.code) in WINDOWS]
    if spent:
        names = ", ".join(extra(trace))
        return right(f"vNMI spends {names}. One NMI sits in V_NMI; the second must wait outside the processor.", trace)
    last = exits(trace)[-1][0] if exits(trace) else trace[-1]
    found = Divergence.at(trace, last.index, "#DB and STGI exits", expected=1, actual=0, rule="R-VMEXIT")
    return wrong("No exit of this run is a window: nothing had to wait outside the processor.", trace, found)


WINDOWS = ("#DB", "STGI")
not_free = Exercise(
    id="lab09.not_free",
    task="Write a scenario in which vNMI, too, spends an exit to wait: a #DB or an STGI.",
    variable="scenario",
    judge=_judge_not_free,
    hints=(
        "V_NMI is one bit. How many NMIs must wait before one of them is outside the processor?",
        "Two NMIs, and something that holds both: a shadow or GIF. The guests `shadow` and `gif` have one.",
        "In the guest `gif`, GIF is 0 at the label `closed`: two NMIs there.",
    ),
    start='scenario = "v1~gif~vnmi~____"',
    good='scenario = "v1~gif~vnmi~nmix2@closed"',
    why="One NMI goes into V_NMI and waits for GIF. The other waits in KVM, which has STGI intercepted to hear of it.",
    wrong=(
        Wrong("one is enough for nobody", 'scenario = "v1~gif~vnmi~nmi@closed"', "No exit of this run is a window"),
        Wrong("nothing holds them", 'scenario = "v1~plain~vnmi~nmix2@work"', "No exit of this run is a window"),
        Wrong("in the handler", 'scenario = "v1~plain~vnmi~nmi@work~nmix2@body"', "No exit of this run is a window"),
        Wrong("another policy", 'scenario = "v1~gif~legacy~nmix2@closed"', "The scenario must run under the policy"),
        Wrong("no such label", 'scenario = "v1~gif~vnmi~nmix2@close"', "That is no scenario:"),
    ),
)

# --- exercise 4 -----------------------------------------------------------------------------------------------------

LOGGED = (Stimulus(at="start"), Stimulus(at="more"), Stimulus(at="handler"), Stimulus(at="done"))
SHOWN = re.compile(r"^.*?\s(\d+\.\d+: kvm_(?:entry|exit): vcpu 0,? (?:reason .*? )?rip \w+).*$")
ASKED = {"kicks": "kicks", "delivered": "NMIs that were delivered", "waited": "NMIs that had to wait for an IRET"}


def logged() -> Trace:
    """Return the run whose tracepoints are read in exercise 4."""
    return Trace(under_kvm(BUSY, LEGACY, LOGGED), "The run behind the log", LONGEST * 3)


def log() -> str:
    """Return the entries and exits of a run as KVM's tracepoints print them, a line each."""
    lines = write(logged(), "ftrace").text.splitlines()
    return "\n".join(found[1] for line in lines if (found := SHOWN.match(line)))


def in_the_log(trace: Trace) -> dict[str, list[Step]]:
    """Return what exercise 4 asks for, each as the steps of its exits."""
    named = [(step, name_of(event.code)) for step, event in exits(trace)]
    kinds = {"kicks": "INTR", "delivered": "IRET", "waited": "#DB"}
    return {word: [step for step, name in named if name == kind] for word, kind in kinds.items()}


def _judge_read(answer: object) -> Verdict:
    if not isinstance(answer, Mapping) or set(answer) != set(ASKED):
        names = ", ".join(f'"{name}"' for name in ASKED)
        return wrong(f"The answer must be a dictionary with {names}, not {short(answer)}.")
    trace = logged()
    assert len(entries(trace)) == len(in_the_log(trace)["delivered"])
    for word, steps in in_the_log(trace).items():
        yours = answer[word]
        if isinstance(yours, bool) or yours != len(steps):
            said = yours if isinstance(yours, int) else short(yours)
            found = Divergence.at(
                trace, steps[-1].index, ASKED[word], expected=said, actual=len(steps), rule="R-VMEXIT"
            )
            return wrong(f"The log has another number of {ASKED[word]}.", trace, found)
    return right("Kicks by `interrupt`, NMIs delivered by `iret`, those that waited by `DB excp`: all there.", trace)


read_it = Exercise(
    id="lab09.read_it",
    task="Count in the log: kicks, NMIs that were delivered, and NMIs that had to wait for the IRET of another.",
    variable="found",
    judge=_judge_read,
    hints=(
        "Each of the three has its own reason of exit. The entries tell you nothing, and `hypercall` is the guest's.",
        "A kick is an `interrupt`. A delivered NMI ends in an `iret`. One that waits makes KVM step: `DB excp`.",
        "Count the lines: `interrupt` for kicks, `iret` for delivered, `DB excp` for waited.",
    ),
    start='found = {"kicks": ..., "delivered": ..., "waited": ...}',
    good='found = {"kicks": 2, "delivered": 4, "waited": 1}',
    why=(
        "Each NMI delivered ends in an IRET exit, each that waited costs a #DB exit. Two of the four came while the "
        "guest was not running, and needed no kick."
    ),
    wrong=(
        Wrong(
            "the step is an NMI",
            'found = {"kicks": 2, "delivered": 5, "waited": 1}',
            "The log has another number of NMIs that were delivered.",
        ),
        Wrong(
            "a kick for each",
            'found = {"kicks": 4, "delivered": 4, "waited": 1}',
            "The log has another number of kicks.",
        ),
        Wrong(
            "nobody waited",
            'found = {"kicks": 2, "delivered": 4, "waited": 0}',
            "The log has another number of NMIs that had to wait for an IRET.",
        ),
        Wrong("a part", 'found = {"kicks": 2}', "The answer must be a dictionary"),
    ),
)

EXERCISES = (formula, worst, not_free, read_it)
left = Left(PREDICTIONS, EXERCISES)
