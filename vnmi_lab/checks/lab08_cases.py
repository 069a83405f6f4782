"""Lab 08, bug hunt: the four cases, each with its guest, its hypervisor, and what the guest saw of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from vnmi_lab.checks.answers import bare_metal, under_kvm
from vnmi_lab.checks.hooks import AT_ONCE, SEEN, in_the_call_path, told
from vnmi_lab.checks.lab03 import HANDLER, PROGRAM
from vnmi_lab.checks.measure import entries, number
from vnmi_lab.checks.tables import html, plain
from vnmi_lab.checks.text import wrapped
from vnmi_lab.explore import explore
from vnmi_lab.guest import Guest
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hv.profiles import PATCH_V4, VNMI, VNMI_6_4_RC
from vnmi_lab.hv.svm import svm_set_vnmi_pending
from vnmi_lab.hv.vcpu import Vcpu
from vnmi_lab.judge import Case
from vnmi_lab.kvm import Kvm
from vnmi_lab.laws import LAWS, Law
from vnmi_lab.machine import Stimulus
from vnmi_lab.rules import Switches
from vnmi_lab.scenario import at_once
from vnmi_lab.trace import Trace

# --- guests ---------------------------------------------------------------------------------------------------------

BUSY = """
start:   inc rax               ; the program's own work
work:    inc rax
more:    inc rax
done:    inc rax
spin:    jmp spin              ; and then it is busy, for ever: it never exits
"""
CLOSED = """
start:   inc rax
         clgi                  ; close GIF: nothing gets in, not even an NMI
closed:  inc rax
opening: stgi                  ; and open it again
open:    inc rax
rest:    hlt
         jmp rest
"""
SPINS = Guest.of(BUSY, {2: HANDLER}, tail="hlt")
WORKS = Guest.of(PROGRAM, {2: HANDLER}, tail="hlt")
SHUTS = Guest.of(CLOSED, {2: HANDLER}, tail="hlt")
LONG = 64
"""Steps of a case that are looked at: by then every guest rests or goes round."""
SHOWN = 30
"""Steps of a case that are shown: what happens later happens again and again."""

# --- hypervisors ----------------------------------------------------------------------------------------------------


def no_room_while_masked(vcpu: Vcpu) -> bool:
    """Put an NMI into V_NMI, unless V_NMI is taken or an NMI is in service."""
    return not vcpu.vmcb.int_ctl.v_nmi_blocking and bool(svm_set_vnmi_pending(vcpu))


ALARMED = VNMI.but(
    name="with the assertion", follows="Linux v6.4 to v6.9", enable_nmi_window=VNMI_6_4_RC.enable_nmi_window
)
"""Right but for its assertion."""
MASKED = VNMI.but(
    name="masked cannot pend",
    follows="an idea in the review of Xen's vNMI, February 2026, put into KVM",
    set_vnmi_pending=in_the_call_path(no_room_while_masked, "lab 08"),
)


class Hunt(NamedTuple):
    """A case: a guest, the hypervisor under suspicion, and the arrivals with which it was noticed."""

    title: str
    guest: Guest
    ops: NmiOps
    stimuli: tuple[Stimulus, ...]

    def trace(self) -> Trace:
        """Return the run of the case."""
        return Trace(under_kvm(self.guest, self.ops, self.stimuli), self.title, SHOWN)


CASES = {
    "late": Hunt("Case 1", SPINS, PATCH_V4, (Stimulus(at="work", times=2),)),
    "ghost": Hunt(
        "Case 1, again",
        SPINS,
        PATCH_V4,
        (
            Stimulus(at="work"),
            Stimulus(at="handler"),
            Stimulus(at="leave", times=9),
            Stimulus(at="done", what="intr"),
        ),
    ),
    "pair": Hunt("Case 2, two at once", WORKS, VNMI_6_4_RC, (Stimulus(at="work", times=2),)),
    "lost": Hunt("Case 2", WORKS, VNMI_6_4_RC, (Stimulus(at="work"), Stimulus(at="handler"))),
    "alarm": Hunt("Case 3", SHUTS, ALARMED, (Stimulus(at="closed", times=2),)),
    "xen": Hunt("Case 4", WORKS, MASKED, (Stimulus(at="work"), Stimulus(at="handler"))),
}


def run(case: str) -> Trace:
    """Return the run of a case, to be shown."""
    return CASES[case].trace()


# --- what the guest saw -----------------------------------------------------------------------------------------------


def seen_by_guest(trace: Trace) -> list[str]:
    """Return where each NMI interrupted the guest, by the labels of its code."""
    return [_place(trace, step.rip) for step in entries(trace)]


def on_bare_metal(guest: Guest, stimuli: Iterable[Stimulus], limit: int = LONG) -> Trace:
    """Return the run of the same guest with the same NMIs on bare metal."""
    return Trace(bare_metal(guest, list(at_once(guest, tuple(stimuli), Switches()))), "On bare metal", limit)


def _place(trace: Trace, rip: int) -> str:
    """Name a place in the code by the label at it, or by the last one before it."""
    before = [line for line in trace.code if line.address <= rip and line.label]
    return f"before `{before[-1].label}`" if before[-1].address == rip else f"behind `{before[-1].label}`"


@dataclass(frozen=True, slots=True, repr=False)
class Symptom:
    """What a guest saw, beside what it ought to have seen: a head, and a line for each of the two."""

    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def __repr__(self) -> str:
        """Return it for a terminal."""
        return plain(self.head, self.lines)

    def _repr_html_(self) -> str:
        lines = [[cell.replace("`", "") for cell in line] for line in self.lines]
        return html(self.head, lines, "vnmi-symptom")


def symptom(case: str) -> Symptom:
    """Return what the guest of a case saw, beside bare metal; of case 3 what the host's log saw, too."""
    hunt = CASES[case]
    ours = Trace(under_kvm(hunt.guest, hunt.ops, hunt.stimuli), "", LONG)
    if case != "alarm":
        theirs = on_bare_metal(hunt.guest, hunt.stimuli)
        return _table(("on bare metal", theirs), ("in the virtual machine", ours))
    theirs = Trace(under_kvm(hunt.guest, VNMI, hunt.stimuli), "", LONG)
    made = _table(("under KVM of Linux 6.10", theirs), ("under KVM of Linux 6.9", ours))
    lines = tuple((*line, str(warned(trace))) for line, trace in zip(made.lines, (theirs, ours), strict=True))
    return Symptom((*made.head, "warnings in the host's log"), lines)


def warned(trace: Trace) -> int:
    """Return how often the hypervisor of a run wrote a warning into the host's log."""
    machine = trace.goto(len(trace))
    return machine.vcpu.warnings if isinstance(machine, Kvm) else 0


def _table(*runs: tuple[str, Trace]) -> Symptom:
    places = [seen_by_guest(trace) for _name, trace in runs]
    count = max(map(len, places))
    head = ("the guest takes its NMIs", *(f"number {n}" for n in range(1, count + 1)))
    lines = [(name, *seen, *(["never"] * (count - len(seen)))) for (name, _), seen in zip(runs, places, strict=True)]
    return Symptom(head, tuple(lines))


# --- what process_nmi did in case 2 ----------------------------------------------------------------------------------

BITS = {"v_nmi_pending": "V_NMI (11)", "v_nmi_blocking": "V_NMI_MASK (12)", "v_nmi_enable": "V_NMI_ENABLE (26)"}


def observed() -> Symptom:
    """Return what `process_nmi` found and did in case 2, each time that it ran: the evidence."""
    head = ("process_nmi ran", "NMIs queued", *BITS.values(), "accepted")
    return Symptom(head, tuple(line for name in ("pair", "lost") for line in _accepted(name)))


def _accepted(name: str) -> list[tuple[str, ...]]:
    """Return a line for each time that NMIs were accepted in a case."""
    trace, lines = run(name), []
    for step in trace:
        if any(function == "process_nmi" for _depth, function, _file in step.calls):
            before = trace[step.index - 1]
            queued = number(before, "nmi_queued")
            kept = sum(number(step, field) for field in ("live_v_nmi_pending", "nmi_injected", "nmi_pending"))
            bits = [str(number(before, field)) for field in BITS]
            lines.append((f"{trace.title}, step {step.index}", str(queued), *bits, str(kept)))
    return lines


# --- all of them ------------------------------------------------------------------------------------------------------

UNREST: tuple[Law, ...] = (*LAWS, AT_ONCE)


@dataclass(frozen=True, slots=True, repr=False)
class Lineup:
    """What the judge has to say of each suspect."""

    lines: tuple[tuple[str, ...], ...]

    head = ("suspect", "what breaks", "the shortest schedule")

    def __repr__(self) -> str:
        """Return it for a terminal."""
        return "\n".join(wrapped(" - ".join(line)) for line in self.lines)

    def _repr_html_(self) -> str:
        return html(self.head, self.lines, "vnmi-lineup")


def lineup() -> Lineup:
    """Let the judge look at all suspects, with three NMIs."""
    lines = []
    for ops in (PATCH_V4, VNMI_6_4_RC, ALARMED, MASKED):
        search = replace(Case("idle", 3).search(ops), laws=UNREST)
        verdict = explore(search)
        law = verdict.broken
        words = f"nothing, in {verdict.states:,} states" if law is None else SEEN[law.slug].words.replace("`", "")
        lines.append((ops.name, words, told(verdict.schedule) if law else "none"))
    return Lineup(tuple(lines))
