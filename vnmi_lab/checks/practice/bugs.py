"""Find the bug: which policy brought about what was seen of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vnmi_lab.checks.measure import counted, number, times
from vnmi_lab.checks.practice.ask import MOST, Ask, distinct
from vnmi_lab.checks.practice.runs import Run, arrivals, came, deepest, exits_of
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.compare import Row
from vnmi_lab.hv.profiles import ABOUT
from vnmi_lab.kvm import FATAL
from vnmi_lab.trace import Trace


class Seen(NamedTuple):
    """What an observer sees of a run: where NMIs were taken, how deep they nest, how many exits of which kind."""

    returns: tuple[str, ...]
    deepest: int
    iret: int
    db: int
    stgi: int
    kicks: int
    refused: bool

    def __str__(self) -> str:
        """Return it as a sentence."""
        if self.refused:
            return "VMRUN was refused with #VMEXIT INVALID."
        places = f", to return to {', '.join(f'`{name}`' for name in self.returns)}" if self.returns else ""
        exits = {"IRET": self.iret, "#DB": self.db, "STGI": self.stgi}
        shown = ", ".join(f"{count} for {what}" for what, count in exits.items() if count)
        inside = f" (at most {self.deepest} inside one another)" if self.returns else ""
        return (
            f"The handler was entered {times(len(self.returns))}{places}{inside}. "
            f"There were {counted(self.kicks, 'kick')}, and exits: {shown or 'none for IRET, #DB or STGI'}."
        )


def bug(ask: Ask) -> Prediction | None:
    """Ask which policy a run was under, by what an observer saw of it: one that is wrong, and it shows."""
    run, policy = ask.run, ask.run.scenario.policy
    so = seen(run, run.trace)
    if any(so == compared(run, run.under(right)) for right in ("legacy", "vnmi")):
        return None
    why = f"It was `{policy}`. `vnmi-lab explore --policy {policy}` finds the shortest run that is wrong."
    right = Option(_told(policy), so, why)
    wrong = distinct(right, _others(ask))
    if len(wrong) < MOST:
        return None
    question = (
        f"Somebody ran this guest under a policy that they do not name. {arrivals(run.scenario)} They saw this. {so} "
        "Which policy can it have been?"
    )
    options = tuple(ask.draw.mixed([right, *wrong]))
    return Prediction(ask.id, question, options, run.scenario.machine, lambda trace: seen(run, trace), came, ask.title)


def _others(ask: Ask) -> Iterator[Option]:
    for policy in ask.rivals():
        row = ask.run.under(policy)
        if row.ended == "waiting" or row.ended in FATAL:
            other = compared(ask.run, row)
            yield Option(_told(policy), other, f"Under `{policy}` one sees this. {other}")


def seen(run: Run, trace: Trace) -> Seen:
    """Return what is seen of a run of the guest of ``run``."""
    iret, db, stgi = (len(exits_of(trace, name)) for name in ("IRET", "EXC_DB", "STGI"))
    kicks = number(trace[-1], "kicks")
    refused = bool(exits_of(trace, "INVALID"))
    return Seen(tuple(run.returns(trace)), deepest(trace), iret, db, stgi, kicks, refused)


def compared(run: Run, row: Row) -> Seen:
    """Return the same as ``compare`` counts it."""
    refused = row.ended in FATAL
    return Seen(tuple(run.returns_in(row)), row.deepest, row.iret, row.db, row.stgi, row.kicks, refused)


def _told(policy: str) -> str:
    """Say what a policy does without its name."""
    about = ABOUT[policy].removeprefix("A mistake somebody could make: ")
    is_word = about.split()[0].isalpha() and about.split()[0].islower()
    return about[:1].upper() + about[1:] if is_word else about
