"""From what a learner wrote to a machine that runs it; what cannot run is named in the learner's own line."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from reprlib import repr as short

from vnmi_lab.checks.exercise import LearnerError
from vnmi_lab.checks.result import Verdict, wrong
from vnmi_lab.guest import Guest
from vnmi_lab.guest_text import GuestTextError, source_of
from vnmi_lab.guests import Source
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.hw.asm import AsmError
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import BareMetal, Host, Stimulus

STEPS = 200
"""Steps that an exercise may run: every right answer is far shorter, and an endless one is seen to be endless."""

MOST = 50
"""Lines or arrivals that an answer may have; a few are enough everywhere."""


def listed(answer: object, what: str) -> list[object] | Verdict:
    """Return the parts of an answer that must be a list, or what is wrong with it."""
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        return wrong(f"{what}, not {short(answer)}.")
    parts = list(islice(answer, MOST + 1))
    return parts if len(parts) <= MOST else wrong(f"That is a list of more than {MOST}; a few are enough.")


def guest_of(main: str, handlers: Mapping[int, str], answer: str, *, tail: str) -> Guest:
    """Assemble a guest in which ``answer`` is the learner's part; ``LearnerError`` shows their line."""
    try:
        return Guest.of(main, handlers, tail=tail)
    except AsmError as error:
        line = answer.splitlines()[error.line - 1] if error.line <= len(answer.splitlines()) else ""
        raise LearnerError(f"The assembler cannot read this: {_said(error)}", line.strip()) from error
    except ValueError as error:
        raise LearnerError(f"This is no guest: {_said(error)}", answer.strip().splitlines()[0]) from error


def text_guest(answer: object) -> Guest | Verdict:
    """Return the guest that an answer is, as text or from a ``%%guest`` cell; ``LearnerError`` shows their line."""
    if isinstance(answer, Source):
        return answer.guest()
    if not isinstance(answer, str):
        return wrong(f"The answer must be a guest: its text, or what a `%%guest` cell made, not {short(answer)}.")
    try:
        return source_of(answer).guest()
    except GuestTextError as error:
        raise LearnerError(f"This is no guest: {_said(error)}", error.source.strip()) from error


def tabled(answer: object, rows: Collection[object]) -> dict[object, object] | Verdict:
    """Return the learner's table if it has just these rows, or what is wrong with it."""
    if not isinstance(answer, dict):
        return wrong(f"The answer must be a table `{{row: answer, ...}}`, not {short(answer)}.")
    strange = next((row for row in answer if row not in rows), None)
    if strange is not None:
        return wrong(f"There is no row {short(strange)}; the rows are {', '.join(map(repr, rows))}.")
    missing = next((row for row in rows if row not in answer), None)
    return answer if missing is None else wrong(f"The row {missing!r} is missing.")


def bare_metal(guest: Guest, stimuli: list[Stimulus]) -> BareMetal:
    """Put a guest and the learner's stimuli on bare metal; ``LearnerError`` shows the stimulus that cannot be."""
    for stimulus in stimuli:
        try:
            BareMetal(guest, [stimulus])
        except ValueError as error:
            raise LearnerError(f"Nothing can arrive there: {_said(error)}", repr(stimulus)) from error
    return BareMetal(guest, stimuli)


def nmis(answer: object, most: int, advice: str = "") -> list[Stimulus] | Verdict:
    """Return the learner's list of stimuli, at most ``most`` NMIs and nothing else, or what is wrong with it."""
    parts = listed(answer, "The answer must be a list of `Stimulus(...)`")
    if isinstance(parts, Verdict):
        return parts
    stimuli = []
    for part in parts:
        if not isinstance(part, Stimulus):
            return wrong(f"Everything in the list must be a `Stimulus(...)`, not {short(part)}.")
        if part.what != "nmi":
            return wrong(f"Only NMIs may arrive here, no {part.what.upper()}.")
        stimuli.append(part)
    sent = sum(stimulus.times for stimulus in stimuli)
    advice = advice or f"the task is to use at most {most}"
    return stimuli if sent <= most else wrong(f"You send {sent:,} NMIs; {advice}.")


def under_kvm(guest: Guest, ops: NmiOps, stimuli: Iterable[Stimulus] = ()) -> Kvm:
    """Put a guest and the learner's stimuli under KVM; ``LearnerError`` shows the stimulus that cannot be.

    The processor has virtual NMIs if the policy uses them.
    """
    arrivals, features = tuple(stimuli), Features(vnmi_cpuid=ops.uses_vnmi)
    for stimulus in arrivals:
        try:
            Kvm(guest, ops, features, stimuli=[stimulus])
        except ValueError as error:
            raise LearnerError(f"Nothing can arrive there: {_said(error)}", repr(stimulus)) from error
    return Kvm(guest, ops, features, stimuli=arrivals)


def scripted(guest: Guest, script: list[object]) -> Host:
    """Let a host carry out the learner's script as far as it goes; ``LearnerError`` shows the line that it cannot."""
    host = Host(guest)
    for line in script:
        name, *operands = line if isinstance(line, list | tuple) else (line,)
        try:
            host.do(str(name), *operands, budget=STEPS)
        except (ValueError, AttributeError) as error:
            raise LearnerError(f"The host cannot do this: {_said(error)}", repr(line)) from error
    return host


def _said(error: Exception) -> str:
    """Return the error's text as the end of a sentence."""
    text = str(error)
    return text if text.endswith("?") else f"{text}."
