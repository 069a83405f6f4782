"""Lab 09, what it costs: its guests and its predictions."""

from __future__ import annotations

from vnmi_lab.checks.answers import under_kvm
from vnmi_lab.checks.lab03 import GUEST, HANDLER, exit_of, name_of
from vnmi_lab.checks.measure import arrived, entries, exits
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.guest import Guest
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.kvm import Kvm
from vnmi_lab.library import find
from vnmi_lab.machine import Stimulus
from vnmi_lab.trace import AnyMachine, Trace

# --- guests ---------------------------------------------------------------------------------------------------------

ASKS = """
start:   inc rax
work:    inc rax
         vmmcall               ; it asks its host for something
more:    inc rax
done:    inc rax
rest:    hlt
         jmp rest
"""
"""A guest with an exit of its own, which has nothing to do with NMIs."""
BUSY = Guest.of(ASKS, {2: HANDLER}, tail="hlt")


def old_way() -> Kvm:
    """Let a second NMI arrive in the handler of the first, on a processor without virtual NMIs."""
    return under_kvm(GUEST, LEGACY, [Stimulus(at="work"), Stimulus(at="handler")])


def without_cpuid() -> Kvm:
    """Let one NMI arrive under a KVM that knows virtual NMIs, on a processor that does not."""
    return Kvm(GUEST, VNMI, Features(vnmi_cpuid=False), stimuli=[Stimulus(at="work")])


def _scene(name: str) -> AnyMachine:
    return find(name).machine()


# --- predictions ----------------------------------------------------------------------------------------------------

ITS_OWN = ("INTR", "HLT", "NPF")
"""Exits that are kicks, or the guest's own doing."""


def kicks(trace: Trace) -> int:
    """Return how many exits were kicks."""
    return sum(name_of(event.code) == "INTR" for _step, event in exits(trace))


def extra(trace: Trace) -> tuple[str, ...]:
    """Return the exits that a policy asked for, by name."""
    return tuple(name for _step, event in exits(trace) if (name := name_of(event.code)) not in ITS_OWN)


def _became(trace: Trace) -> tuple[int, tuple[str, ...]]:
    """Return how often the handler ran, and the exits that the policy asked for."""
    return len(entries(trace)), extra(trace)


def _counted(trace: Trace) -> int:
    """Return KVM's ``nmi_injections`` at the end."""
    end = trace.goto(len(trace))
    assert isinstance(end, Kvm)
    return end.vcpu.nmi_injections


def _second_arrival(trace: Trace) -> int:
    return arrived(trace)[1].index


def _first_arrival(trace: Trace) -> int:
    return arrived(trace)[0].index


merged_too = Prediction(
    "lab09.merged_too",
    "vNMI. One NMI is in service, and three more arrive, one after another, before its IRET. One of them waits in "
    "V_NMI, and two merge into it: the handler runs twice in all. How many kicks does that take, for all four?",
    (
        Option(
            "One: the first. The others need nothing.", 1, "V_NMI is read at VMRUN, so every arrival needs an exit."
        ),
        Option("Two: one for each run of the handler.", 2, "KVM finds out that an NMI merges only once it looks."),
        Option("Four: one for each NMI that arrives.", 4, "The sender cannot know that it will merge. It kicks."),
    ),
    lambda: _scene("storm-spread"),
    kicks,
    _second_arrival,
    "Three more, one after another",
)

shadowed = Prediction(
    "lab09.shadowed",
    "vNMI again. Two NMIs wait while the guest is in the shadow of an STI. V_NMI has room for one of them. The other "
    "must go by EVENTINJ, which asks nobody. What does KVM do beside the kick?",
    (
        Option(
            "Nothing: the processor waits out the shadow.", (), "It does for V_NMI. An injected event asks no shadow."
        ),
        Option(
            "It steps over the shadow: a #DB exit.", ("#DB",), "KVM waits by its old means: TF, for one instruction."
        ),
        Option(
            "It intercepts IRET: an IRET exit.", ("IRET",), "No NMI is in service, so no IRET has to be waited for."
        ),
    ),
    lambda: _scene("shadow-two"),
    extra,
    _first_arrival,
    "Two NMIs in a shadow",
)

says_so = Prediction(
    "lab09.says_so",
    "A guest under SEV-ES, on a processor with vNMI. One NMI arrives. The guest is Linux, and its handler begins with "
    "NMI_COMPLETE. Which exits does this NMI cost beside the kick?",
    (
        Option("None: the processor keeps the mask.", (), "It does. But the guest sends its message all the same."),
        Option("One: NMI_COMPLETE.", ("VMMCALL",), "The guest cannot know that nobody needs it, and so it sends it."),
        Option("One: its IRET.", ("IRET",), "The IRET of such a guest cannot be intercepted."),
    ),
    lambda: _scene("sev-es"),
    extra,
    _first_arrival,
    "A guest that KVM cannot look into",
)

fall_back = Prediction(
    "lab09.fall_back",
    "A kernel that knows vNMI runs on a processor whose CPUID does not have it. One NMI arrives. What happens?",
    (
        Option(
            "KVM intercepts IRET, as it always did.",
            (1, ("IRET",)),
            "The old code is all there, and `is_vnmi_enabled` says no.",
        ),
        Option(
            "KVM injects it, and keeps no mask.",
            (1, ()),
            "`svm_inject_nmi` asks whether vNMI is enabled, and it is not.",
        ),
        Option(
            "V_NMI is written, and nobody takes it.", (0, ()), "`set_vnmi_pending` answers no, and KVM injects instead."
        ),
    ),
    without_cpuid,
    _became,
    _first_arrival,
    "vNMI that the processor does not have",
)

counted_twice = Prediction(
    "lab09.counted_twice",
    "vNMI. KVM has put one NMI into V_NMI. While the processor delivers it, the page of the IDT is not there: the "
    "guest exits, KVM brings the page, and injects the NMI again. It is delivered once. What will `nmi_injections` be?",
    (
        Option(
            "0: the processor delivered it.", 0, "KVM cannot see the delivery. It counts when it hands the NMI over."
        ),
        Option("1: there was one NMI.", 1, "It counts no NMIs. It counts how often one was handed over."),
        Option("2: once into V_NMI, once into EVENTINJ.", 2, "Each hand-over counts, and there were two of them."),
    ),
    lambda: _scene("idt-absent"),
    _counted,
    lambda trace: exit_of(trace, "NPF").index,
    "A delivery that is interrupted",
)

PREDICTIONS = (merged_too, shadowed, says_so, fall_back, counted_twice)
