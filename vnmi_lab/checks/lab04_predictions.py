"""Lab 04, vNMI: its guests and its predictions."""

from __future__ import annotations

from collections.abc import Sequence

from vnmi_lab.checks.answers import under_kvm
from vnmi_lab.checks.asked import Flag
from vnmi_lab.checks.bitset import Bit, SetBits
from vnmi_lab.checks.costs import Costs, costs
from vnmi_lab.checks.lab03 import GUEST, HANDLER, IN_HANDLER, PROGRAM, exit_of, name_of, next_step, second_arrival
from vnmi_lab.checks.measure import entries, exits, irets
from vnmi_lab.checks.placing import PlaceFlag, Spot
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.hv.profiles import LEGACY, POLICIES, VNMI
from vnmi_lab.hw.events import HostDid
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Stimulus
from vnmi_lab.trace import Step, Trace

# --- guests ---------------------------------------------------------------------------------------------------------

TALKS = """
handler: inc qword [rbx+16]
call:    vmmcall               ; "host, I am in my NMI handler"
leave:   iretq
"""
CALLS = """
start:   inc rax
work:    inc rax
done:    vmmcall               ; "host, I am done"
"""
V_NMI, V_NMI_MASK, V_NMI_ENABLE = 1 << 11, 1 << 12, 1 << 26
NMI_WORD = 0x80000200


class Mailbox(Kvm):
    """A KVM that is careless: for an NMI it writes V_NMI into the VMCB at once, and does not kick."""

    def fresh(self) -> Mailbox:
        """Return the same machine at its start."""
        return Mailbox(self.guest, self.ops, self.features, self.switches, self.stimuli)

    def _arrive(self, stimulus: Stimulus) -> None:
        """Write V_NMI while the guest runs."""
        del stimulus
        old = self.vcpu.vmcb.int_ctl
        self.cpu.emit(HostDid("R-HOST", "V_NMI = 1"))
        self.vcpu.vmcb.store("int_ctl", old.replace(v_nmi_pending=1))


def side_by_side(stimuli: Sequence[Stimulus]) -> Costs:
    """Count the same guest with the same NMIs on bare metal, with IRET interception, and with virtual NMIs."""
    return costs(PROGRAM, HANDLER, stimuli, ("legacy", "vnmi"))


def old_way() -> Kvm:
    """Let one NMI arrive for a guest without virtual NMIs."""
    return under_kvm(GUEST, LEGACY, [Stimulus(at="work")])


def one_nmi() -> Kvm:
    """Let one NMI arrive for a guest with virtual NMIs."""
    return under_kvm(GUEST, VNMI, [Stimulus(at="work")])


def both(stimuli: Sequence[Stimulus]) -> tuple[Kvm, Kvm]:
    """Return the same guest with the same NMIs twice: as it was up to Linux 6.3, and with virtual NMIs."""
    return under_kvm(GUEST, LEGACY, stimuli), under_kvm(GUEST, VNMI, stimuli)


# --- predictions ----------------------------------------------------------------------------------------------------


def extra(trace: Trace) -> list[Step]:
    """Return the exits that are neither a kick nor the end: what an NMI costs beside its arrival."""
    return [step for step, event in exits(trace) if name_of(event.code) not in ("INTR", "HLT")]


def _written(trace: Trace) -> int:
    return next(step.index for step in trace if step.kind == "host" and "V_NMI" in step.text)


def _mail(trace: Trace) -> str:
    """Return when the NMI that was written into the VMCB of a running guest is taken."""
    runs = entries(trace)
    if not runs:
        return "never"
    gone = [step.index for step, _event in exits(trace)]
    return "at once" if runs[0].index < gone[0] else "later"


def _how_two(trace: Trace) -> tuple[int, int]:
    return len(entries(trace)), len(extra(trace))


def _entered(trace: Trace) -> str:
    """Return what becomes of the first VMRUN."""
    return "refused" if exit_name(exits(trace)[0][1].code) == "INVALID" else "runs"


def _handed_over(trace: Trace) -> int:
    return next_step(trace, "vmrun", exit_of(trace, "INTR")).index


def _first_vmrun(trace: Trace) -> int:
    return next(step.index for step in trace if step.kind == "vmrun") - 1


no_exit = Prediction(
    "lab04.no_exit",
    "KVM has written V_NMI = 1 and enters the guest, which takes the NMI, handles it, returns and goes on. "
    "How many exits will there be on the way, before the guest halts?",
    (
        Option("None.", 0, "The processor takes it, masks, and unmasks at the IRET. KVM need not hear of any of it."),
        Option("One: the IRET.", 1, "That was how software learnt of the end. Now the processor keeps the mask."),
        Option("Two: the IRET, and a step behind it.", 2, "Even the old way took the step only when an NMI waited."),
    ),
    one_nmi,
    lambda trace: len(extra(trace)),
    _handed_over,
    "One virtual NMI",
)

written_back = SetBits(
    "lab04.written_back",
    "The guest has taken its NMI, and its handler begins. A second NMI arrives, and KVM kicks the guest out. At this "
    "#VMEXIT the processor writes its own copies of the bits into `int_ctl`, where KVM's word from before VMRUN still "
    "stands. Which word does KVM find there?",
    "int_ctl",
    (
        Bit(
            9,
            "V_GIF",
            "It was 1 at VMRUN, and the guest executed no CLGI. It has nothing to do with NMIs here.",
        ),
        Bit(11, "V_NMI", "The processor cleared it when it took the first NMI. The second one is still with KVM."),
        Bit(12, "V_NMI_MASK", "The processor set it when it took the NMI: one is in service, until an IRET completes."),
        Bit(24, "V_INTR_MASKING", "Only the hypervisor writes this bit. The processor leaves it as it is."),
        Bit(25, "V_GIF_ENABLE", "Only the hypervisor writes this bit."),
        Bit(26, "V_NMI_ENABLE", "Only the hypervisor writes this bit. KVM set it once, when the vCPU was made."),
    ),
    "Of the three NMI bits two belong to both sides: KVM writes V_NMI, the processor moves it on to V_NMI_MASK.",
    lambda: under_kvm(GUEST, VNMI, IN_HANDLER),
    lambda trace: exit_of(trace, "INTR", 1).index,
    second_arrival,
    "What #VMEXIT writes back",
)

behind_the_iret = PlaceFlag(
    "lab04.behind_the_iret",
    "This is the run with one NMI. A second one arrives where the flag stands, at the beginning of the handler: "
    "V_NMI_MASK is 1, and KVM writes V_NMI = 1 again. Before which step does the guest take the second NMI?",
    "the second NMI is taken",
    lambda: under_kvm(GUEST, VNMI, IN_HANDLER),
    one_nmi,
    lambda trace: entries(trace)[1].index,
    "The IRET clears V_NMI_MASK, and V_NMI was waiting. There is no exit for it: no intercept is set.",
    "V_NMI_MASK stays 1 until the handler's IRET has completed, and while it is 1 the processor takes no virtual NMI.",
    "Nothing holds it back any more once V_NMI_MASK is 0. The processor looks at every instruction boundary by itself.",
    (
        Spot(
            "In the handler, where it arrives.",
            lambda trace: entries(trace)[0].index + 1,
            "It is V_NMI_MASK that the processor looks at first: it would nest.",
        ),
        Spot(
            "Before the `iretq`.",
            lambda trace: irets(trace)[0].index,
            "That was the trouble of Lab 03: the IRET has not popped its frame. The mask falls when it has completed.",
        ),
        Spot(
            "When the guest exits next, at its `hlt`.",
            lambda trace: exits(trace)[-1][0].index,
            "So it would be if KVM had to bring it. But V_NMI is in the processor already.",
        ),
    ),
    lambda trace: (Flag(entries(trace)[0].index + 1, "given", "the second NMI arrives"),),
    "A second virtual NMI in the handler of the first",
    "One virtual NMI, and where a second one will arrive",
)

mailbox = Prediction(
    "lab04.mailbox",
    "Now somebody is clever and saves the kick. The guest runs, and another processor writes V_NMI = 1 straight into "
    "the VMCB in memory. When does the guest take that NMI?",
    (
        Option("At once.", "at once", "The running processor does not look into the VMCB. It has its own copy."),
        Option("After the next exit and VMRUN.", "later", "It would, if the bit were still there after the exit."),
        Option("Never.", "never", "At the exit the processor writes its own copy back, and that says 0."),
    ),
    lambda: Mailbox(GUEST, VNMI, stimuli=[Stimulus(at="work")]),
    _mail,
    _written,
    "V_NMI, written while the guest runs",
)

two_doors = Prediction(
    "lab04.two_doors",
    "Two NMIs arrive before the guest is entered. On bare metal both would be taken, one after the other. V_NMI is "
    "one bit. How often does the handler run, and at what price beside the arrivals?",
    (
        Option("Twice, with one exit in between.", (2, 1), "It needs no exit: one VMRUN can carry two NMIs."),
        Option("Twice, with no exit at all.", (2, 0), "One goes by EVENTINJ, which sets V_NMI_MASK; the other waits."),
        Option(
            "Once: they share the bit.", (1, 0), "The bit is one door. There is a second one, and it is an old one."
        ),
    ),
    lambda: under_kvm(GUEST, VNMI, [Stimulus(at=0, times=2)]),
    _how_two,
    _first_vmrun,
    "Two NMIs before the guest is entered",
)

no_intercept = Prediction(
    "lab04.no_intercept",
    "A virtual NMI never exits. So somebody thinks that the NMI intercept is of no use any more and leaves it out, "
    "with V_NMI_ENABLE = 1. What does VMRUN do?",
    (
        Option("It refuses: #VMEXIT INVALID.", "refused", "The manual demands the intercept. It is for physical NMIs."),
        Option("It runs, and all is well.", "runs", "It would leave a physical NMI, the host's own, to the guest."),
    ),
    lambda: under_kvm(GUEST, POLICIES["m10"]),
    _entered,
    lambda _trace: 0,
    "V_NMI_ENABLE without the NMI intercept",
)

PREDICTIONS = (no_exit, written_back, behind_the_iret, no_intercept, mailbox, two_doors)
