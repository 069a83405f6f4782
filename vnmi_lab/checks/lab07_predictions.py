"""Lab 07, write it yourself: its predictions."""

from __future__ import annotations

from vnmi_lab.checks.answers import under_kvm
from vnmi_lab.checks.asked import Flag
from vnmi_lab.checks.lab03 import GUEST, IN_HANDLER, exit_of, next_step, second_arrival
from vnmi_lab.checks.lab07_stages import STAGES
from vnmi_lab.checks.measure import depth, entries, irets
from vnmi_lab.checks.placing import PlaceFlag, Spot
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.hv.profiles import LEGACY
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Stimulus
from vnmi_lab.trace import Trace

ONE = (Stimulus(at="work"),)


def one_nmi() -> Kvm:
    """Let one NMI arrive for a guest whose hypervisor is complete."""
    return under_kvm(GUEST, LEGACY, ONE)


def _second(trace: Trace) -> str:
    """Return what becomes of an NMI that arrives in the handler of another."""
    runs = entries(trace)
    if len(runs) == 1:
        return "never"
    if depth(runs[1]) > 1:
        return "nested"
    over = irets(trace)[0]
    return "at once" if runs[1].index == over.index + 1 else "later"


def _goes_on(trace: Trace) -> str:
    """Return what the guest does behind its first IRET exit."""
    if not irets(trace):
        return "round"
    return "nested" if len(entries(trace)) > 1 else "returns"


nobody_asks = Prediction(
    "lab07.nobody_asks",
    "`inject_nmi` now writes `nmi_masked` = 1. The guest is in its NMI handler, and a second NMI arrives. "
    "What becomes of it?",
    (
        Option("It waits: NMIs are masked.", "at once", "The mask is a note of KVM's. The processor cannot see it."),
        Option("It is taken in the handler.", "nested", "EVENTINJ looks at nothing, and KVM did not look either."),
        Option("It is lost.", "never", "Nothing throws it away. The trouble is that nothing holds it back."),
    ),
    lambda: under_kvm(GUEST, STAGES["inject_nmi"].ops, IN_HANDLER),
    _second,
    second_arrival,
    "KVM keeps a mask, and nobody reads it",
)

round_and_round = Prediction(
    "lab07.round_and_round",
    "There is one NMI, and its handler is at its end: the `iretq` exits, because `inject_nmi` had it intercepted. "
    "KVM's function for this exit only counts it. What does the guest do next?",
    (
        Option("It returns to its program.", "returns", "The exit came before the IRET, and it is still intercepted."),
        Option("It exits at the same `iretq`, for ever.", "round", "Nobody took the intercept down, so it exits anew."),
        Option("It takes the NMI once more.", "nested", "There was only one, and it has been delivered."),
    ),
    lambda: under_kvm(GUEST, STAGES["nmi_allowed"].ops, ONE),
    _goes_on,
    lambda trace: exit_of(trace, "IRET").index,
    "An intercept that nobody takes down",
)

too_late = PlaceFlag(
    "lab07.too_late",
    "This is the run with one NMI. A second one arrives in the handler, where the flag stands. KVM may not inject it "
    "yet, and so far `enable_nmi_window` only says: look again after the next exit. Before which step does the guest "
    "take the second NMI?",
    "the second NMI is taken",
    lambda: under_kvm(GUEST, STAGES["complete_interrupts"].ops, IN_HANDLER),
    one_nmi,
    lambda trace: entries(trace)[1].index,
    "KVM could inject as soon as the IRET is done, but it sleeps until the guest exits. The next exit is the `hlt`'s.",
    "The first handler is still in service there, and `nmi_allowed` says no.",
    "The guest had exited before, at its `hlt`, and KVM looks after each exit.",
    (
        Spot(
            "Directly behind the `iretq`.",
            lambda trace: irets(trace)[0].index + 1,
            "There it ought to be, as on bare metal. But nothing makes the guest exit there.",
        ),
        Spot(
            "Before the `iretq`, at its exit.",
            lambda trace: exit_of(trace, "IRET").index,
            "The exit is there, and KVM looks. But the IRET has not been executed, and `nmi_allowed` says no.",
        ),
    ),
    lambda trace: (Flag(entries(trace)[0].index + 1, "given", "the second NMI arrives"),),
    "A second NMI, and no window",
    "One NMI, and where a second one will arrive",
)

nothing_exits = Prediction(
    "lab07.nothing_exits",
    "Your hypervisor, finished, moves to a processor with vNMI, and sets V_NMI_ENABLE. Everything else is as before. "
    "A second NMI arrives in the handler of the first: KVM holds it in `nmi_pending` and waits for the IRET's exit. "
    "When does the guest take it?",
    (
        Option("Directly behind the IRET.", "at once", "So it would be if it were in V_NMI. It is in `nmi_pending`."),
        Option("At the exit for its `hlt`.", "later", "KVM looks at what waits when somebody asks, and nobody asks."),
        Option("Never.", "never", "V_NMI_MASK falls inside the processor, without an exit: KVM waits for nothing."),
    ),
    lambda: under_kvm(GUEST, STAGES["the new processor"].ops, IN_HANDLER),
    _second,
    lambda trace: next_step(trace, "vmrun", exit_of(trace, "INTR", 1)).index,
    "IRET interception on a processor with vNMI",
)

PREDICTIONS = (nobody_asks, round_and_round, too_late, nothing_exits)
