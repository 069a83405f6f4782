"""How many: entries of the handler, exits of a kind, handlers inside one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from vnmi_lab.checks.measure import deepest as deepest_step
from vnmi_lab.checks.measure import entries
from vnmi_lab.checks.practice.ask import FEWEST, Ask, distinct, under
from vnmi_lab.checks.practice.runs import OWN_EXITS, Run, at_steps, became, came, deepest, exits_of, own_exits
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.compare import Row
from vnmi_lab.trace import Trace

Guess = tuple[int, str]
RIVALS = 2
"""Other policies that come before what people take for true."""


class Count(NamedTuple):
    """Something to be counted: the question, how to count it in a trace, the same in a row of ``compare``, and why.

    ``fact`` says how it came to be so many, ``guesses`` what people take it for, each with what is so instead.
    """

    question: str
    count: Callable[[Trace], int]
    of_row: Callable[[Row], int]
    fact: Callable[[Run], str]
    guesses: Callable[[Run], Iterator[Guess]]


def _entered(run: Run) -> str:
    return became(run.row, run.entered)


def _runs(run: Run) -> Iterator[Guess]:
    row, first = run.row, run.entered
    if len(first) > 1:
        yield 1, f"That would be so if an NMI were lost that has to wait. One was taken {at_steps(first[1:2])}."
    if row.arrived != row.delivered:
        yield row.arrived, f"So many arrive, but there is no counter of all that arrive. {_entered(run)}"
    yield len(run.scenario.stimuli), f"Something arrives so many times. {_entered(run)}"
    if len(first) > 1:
        yield len(first) - 1, f"That leaves out the first entry, {at_steps(first[:1])}."


def _exit_fact(name: str, shown: str) -> Callable[[Run], str]:
    def fact(run: Run) -> str:
        found = exits_of(run.trace, name)
        if not found:
            return f"No step of this run is an exit for {shown}."
        return f"The exits for {shown} are {at_steps(found)}."

    return fact


def _exit_guesses(fact: Callable[[Run], str]) -> Callable[[Run], Iterator[Guess]]:
    def guesses(run: Run) -> Iterator[Guess]:
        row = run.row
        yield row.delivered, f"That is one for each NMI that is delivered. {fact(run)}"
        yield 0, f"That would be so if nothing had to be found out by an exit. {fact(run)}"
        yield row.arrived, f"That is one for each NMI that arrives. {fact(run)}"
        yield 2 * row.delivered, f"That is two for each NMI that is delivered. {fact(run)}"

    return guesses


def _own_fact(run: Run) -> str:
    counted = [f"{word.removeprefix('EXC_')} {at_steps(found)}" for word in OWN_EXITS.values()
               if (found := exits_of(run.trace, word))]  # fmt: skip
    return f"They are: {', '.join(counted)}." if counted else "No step of this run is such an exit."


def _kick_guesses(run: Run) -> Iterator[Guess]:
    fact = _exit_fact("INTR", "a kick")(run)
    yield run.row.arrived, f"A kick gets the guest out once, however many wait. {fact}"
    yield len(run.scenario.stimuli), f"A guest that does not run needs no kick. {fact}"
    yield 0, f"V_NMI in the VMCB is read at VMRUN only, so a running guest is kicked. {fact}"
    yield run.row.delivered, f"That is one for each NMI that is delivered. {fact}"


def _depth_fact(run: Run) -> str:
    at = at_steps(run.entered)
    return f"The handler is entered {at}, and step {deepest_step(run.trace).index} is the first with the most inside."


def _depth_guesses(run: Run) -> Iterator[Guess]:
    yield run.row.delivered, f"That would be so if no handler ended before the next began. {_depth_fact(run)}"
    yield 1, f"That would be so if every NMI waited for the handler before it. {_depth_fact(run)}"
    yield 2, f"That would take a second NMI that is taken before the first handler has returned. {_depth_fact(run)}"
    yield run.row.arrived, f"That would be so if every NMI were taken where it arrives. {_depth_fact(run)}"


_IRET, _STEP, _KICK = _exit_fact("IRET", "an IRET"), _exit_fact("EXC_DB", "a single step"), _exit_fact("INTR", "a kick")

COUNTS: dict[str, Count] = {
    "runs": Count(
        "How many times is the NMI handler entered in all?",
        lambda trace: len(entries(trace)),
        lambda row: row.delivered,
        _entered,
        _runs,
    ),
    "iret": Count(
        "How many exits are there for an IRET (#VMEXIT 74h)?",
        lambda trace: len(exits_of(trace, "IRET")),
        lambda row: row.iret,
        _IRET,
        _exit_guesses(_IRET),
    ),
    "steps": Count(
        "How many exits are there for a single step (#DB, #VMEXIT 41h)?",
        lambda trace: len(exits_of(trace, "EXC_DB")),
        lambda row: row.db,
        _STEP,
        _exit_guesses(_STEP),
    ),
    "own": Count(
        "How many exits does the policy ask for itself, to learn when it may inject: IRET, #DB, STGI and VINTR "
        "together? Kicks, page faults and the last HLT do not count.",
        lambda trace: len(own_exits(trace)),
        lambda row: row.beyond_kicks,
        _own_fact,
        _exit_guesses(_own_fact),
    ),
    "kicks": Count(
        "How many times is the guest kicked, that is, how many exits for an interrupt of the host (#VMEXIT 60h) are "
        "there?",
        lambda trace: len(exits_of(trace, "INTR")),
        lambda row: row.kicks,
        _KICK,
        _kick_guesses,
    ),
    "deepest": Count(
        "How many NMI handlers are inside one another at most, entered and not yet returned from?",
        deepest,
        lambda row: row.deepest,
        _depth_fact,
        _depth_guesses,
    ),
}
"""The kinds of counts."""


def how_many(kind: str) -> Callable[[Ask], Prediction | None]:
    """Return the maker of questions of a kind."""
    what = COUNTS[kind]

    def make(ask: Ask) -> Prediction | None:
        run = ask.run
        answer = what.count(run.trace)
        right = Option(_times(answer), answer, what.fact(run))
        rivals = _rivals(ask, what)
        wrong = distinct(right, chain(islice(rivals, RIVALS), _guesses(run, what), rivals, _near(run, what, answer)))
        if what.of_row(run.row) != answer or len(wrong) < FEWEST or run.row.arrived == 1 == run.row.delivered:
            return None
        options = sorted([right, *wrong], key=lambda option: int(str(option.value)))
        question = f"{ask.intro()} {what.question}"
        return Prediction(ask.id, question, tuple(options), run.scenario.machine, what.count, came, ask.title)

    return make


def _times(number: int) -> str:
    return f"{number}."


def _guesses(run: Run, what: Count) -> Iterator[Option]:
    return (Option(_times(number), number, why) for number, why in what.guesses(run))


def _rivals(ask: Ask, what: Count) -> Iterator[Option]:
    for policy in ask.rivals():
        other = ask.run.under(policy)
        if other.ended == "waiting":
            number = what.of_row(other)
            yield Option(_times(number), number, f"{under(policy)} Here: {what.fact(ask.run)}")


def _near(run: Run, what: Count, answer: int) -> Iterator[Option]:
    for number in (answer + 1, answer + 2, answer - 1):
        if number > 0:
            yield Option(_times(number), number, what.fact(run))
