"""Lab 08, bug hunt: its predictions."""

from __future__ import annotations

from vnmi_lab.checks.answers import under_kvm
from vnmi_lab.checks.lab03 import next_step, second_arrival
from vnmi_lab.checks.lab08_cases import CASES, SPINS, seen_by_guest
from vnmi_lab.checks.measure import entries, exits, number
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.hv.profiles import PATCH_V4
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Stimulus
from vnmi_lab.trace import Step, Trace

LATE_TIMER = (Stimulus(at="work", times=2), Stimulus(at="done", what="intr"))


def _case(name: str) -> Kvm:
    """Return the machine of a case."""
    hunt = CASES[name]
    return under_kvm(hunt.guest, hunt.ops, hunt.stimuli)


def _second_at(trace: Trace) -> str:
    places = seen_by_guest(trace)
    return places[1].split("`")[1] if len(places) > 1 else "never"


def _becomes(trace: Trace) -> str:
    """Return what KVM makes of the second NMI, on the way into the guest."""
    entered = _second_entry(trace)
    if number(entered, "live_v_nmi_pending"):
        return "slot"
    return "kept" if number(entered, "nmi_pending") else "dropped"


def _second_entry(trace: Trace) -> Step:
    return next_step(trace, "vmrun", exits(trace)[1][0])


rescued = Prediction(
    "lab08.rescued",
    "The same two NMIs, and this time the guest's timer ticks later on, when the program is at `done`. "
    "It is an ordinary interrupt, and it has nothing to do with the NMIs. When does the guest take the second NMI?",
    (
        Option("At `work`, behind the first one's IRET.", "work", "There it belongs, but nothing exits there."),
        Option(
            "At `done`, with the tick.", "done", "The tick makes KVM look at what waits, and it finds the NMI as well."
        ),
        Option("Never.", "never", "It is not lost: it sits in `nmi_pending`. Any event that makes KVM look finds it."),
    ),
    lambda: under_kvm(SPINS, PATCH_V4, LATE_TIMER),
    _second_at,
    lambda trace: entries(trace)[0].index,
    "Case 1, with a tick of the timer",
)

ghost = Prediction(
    "lab08.ghost",
    "The same hypervisor. One NMI at `work`; one when its handler begins; nine more at its end; and much later, at "
    "`done`, a tick of the timer. On bare metal the handler runs twice. How often does it run here?",
    (
        Option("Twice.", 2, "One in service, one in V_NMI; and then one more in `nmi_pending`, which nobody counted."),
        Option("3 times.", 3, "One was in service, one in V_NMI, and one in `nmi_pending`: the tick lets it out."),
        Option("11 times.", 11, "Most of them merge. But they merge into one place too many."),
    ),
    lambda: _case("ghost"),
    lambda trace: len(entries(trace)),
    second_arrival,
    "Eleven NMIs and a tick",
)

dropped = Prediction(
    "lab08.dropped",
    "The guest is in its NMI handler: V_NMI_MASK is 1, and V_NMI is 0. A second NMI arrives, KVM kicks the guest and "
    "calls `process_nmi`. You know that the guest will never see it. Where is it behind the next VMRUN?",
    (
        Option("In V_NMI.", "slot", "There the processor would find it behind the IRET."),
        Option("In `nmi_pending`.", "kept", "So it was in case 1: held by KVM, and forgotten. Here not even that."),
        Option("Nowhere.", "dropped", "`process_nmi` accepted none: it went by a limit of 0."),
    ),
    lambda: _case("lost"),
    _becomes,
    second_arrival,
    "Case 2, the second NMI",
)

PREDICTIONS = (rescued, ghost, dropped)
