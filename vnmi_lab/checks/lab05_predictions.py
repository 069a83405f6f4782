"""Lab 05, blocking rules: its guests and its predictions."""

from __future__ import annotations

from vnmi_lab.checks.asked import Flag
from vnmi_lab.checks.bitset import Bit, SetBits
from vnmi_lab.checks.lab03 import exit_of, label_at, name_of, next_step
from vnmi_lab.checks.measure import arrived, entries, exits
from vnmi_lab.checks.placing import PlaceFlag, Spot
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.guest import Guest
from vnmi_lab.guests import DATA
from vnmi_lab.hv.profiles import VNMI
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Stimulus
from vnmi_lab.trace import Trace

# --- guests ---------------------------------------------------------------------------------------------------------

HANDLER = """
handler: inc qword [rbx+16]    ; keep count of the visits, in memory
         nop
leave:   iretq
"""
SHADED = f"""
start:   nop
         sti                   ; interrupts on, but not for the next instruction
shaded:  inc qword [{DATA:#x}] ; it needs a page that is not there yet
after:   inc rax
done:    inc rax
rest:    hlt
         jmp rest
"""
GATED = """
start:   clgi                  ; close the gate: GIF = 0
closed:  inc rax
         out 0x10, al          ; to a device: user space takes over, and comes back
         stgi                  ; open it: GIF = 1
open:    inc rax
done:    inc rax
rest:    hlt
         jmp rest
"""
QUIET = """
start:   clgi
closed:  inc rax
         stgi
open:    inc rax
work:    inc rax
done:    inc rax
rest:    hlt
         jmp rest
"""
SHADE = Guest.of(SHADED, {2: HANDLER}, tail="hlt")
GATE = Guest.of(GATED, {2: HANDLER}, tail="hlt")
GATE_ALONE = Guest.of(QUIET, {2: HANDLER}, tail="hlt")

L2 = Features(guest_mode=True, nested_run_pending=True)
"""The guest is an L2, and its first entry is the VMRUN of L1."""
L2_OF_L1S = Features(guest_mode=True, exit_on_nmi=True)
"""The guest is an L2, and L1 wants to see its NMIs."""


def shaded(times: int = 1, features: Features | None = None) -> Kvm:
    """Let NMIs arrive when an exit lies in the shadow of an STI; none for ``times=0``."""
    stimuli = [Stimulus(at="shaded", times=times)] if times else []
    return Kvm(SHADE, VNMI, features, stimuli=stimuli, absent=[DATA])


def gated(times: int = 1) -> Kvm:
    """Let NMIs arrive while the guest's GIF is 0."""
    return Kvm(GATE, VNMI, stimuli=[Stimulus(at="closed", times=times)])


def nested() -> Kvm:
    """Let an NMI wait when L1's VMRUN of its guest is about to happen."""
    return Kvm(GATE_ALONE, VNMI, L2, stimuli=[Stimulus(at=0)])


# --- predictions ----------------------------------------------------------------------------------------------------


def spent(trace: Trace) -> tuple[str, ...]:
    """Return the exits that had to do with the wait: no kick, no missing page, no device, no end."""
    names = [name_of(event.code) for _step, event in exits(trace)]
    return tuple(name for name in names if name not in ("INTR", "NPF", "IOIO", "HLT"))


def _first_exit(trace: Trace) -> int:
    return exits(trace)[0][0].index


def _guests_step(trace: Trace, label: str) -> int:
    """Return the step at which the guest executes the instruction with a label."""
    return next(step.index for step in trace if step.kind == "exec" and label_at(trace, step.rip) == label)


def _what_first(trace: Trace) -> str:
    """Return what comes of L1's VMRUN: the guest leaves at once, takes the NMI, or goes on."""
    kind = next(step.kind for step in trace if step.kind in ("vmexit", "deliver", "exec"))
    return {"vmexit": "leaves", "deliver": "takes", "exec": "goes on"}[kind]


def _where_l2_ended(trace: Trace) -> str | None:
    return label_at(trace, trace[-1].rip)


in_the_shade = PlaceFlag(
    "lab05.in_the_shade",
    "The guest executes `sti`; the instruction behind it needs a page that is not there, so there is an exit right in "
    "the shadow. There an NMI has arrived. KVM sees to the page, writes V_NMI = 1, and enters the guest again. Before "
    "which step does the guest take the NMI?",
    "the NMI is taken",
    shaded,
    lambda: shaded(0),
    lambda trace: entries(trace)[0].index,
    "The shadow covers one instruction. The exit did not end it: #VMEXIT saves it, VMRUN loads it, and there it goes "
    "on. Then it is over, and V_NMI is waiting.",
    "The shadow was saved at the exit and is there again: the instruction behind the `sti` comes first.",
    "The shadow covers one instruction and no more. After it nothing holds the NMI back.",
    (
        Spot(
            "At once, before `inc qword`.",
            lambda trace: _guests_step(trace, "shaded"),
            "An exit does not end the shadow. The guest must not be able to see that there was an exit at all.",
        ),
        Spot(
            "At the end, at the `hlt`.",
            lambda trace: len(trace) - 1,
            "That would be so if KVM had to bring it. V_NMI is in the processor, which looks at every boundary.",
        ),
    ),
    lambda trace: (Flag(_first_exit(trace), "given", "an NMI arrives"),),
    "One NMI in the shadow",
    "The same guest, and no NMI",
)

two_in_the_shade = Prediction(
    "lab05.two_in_the_shade",
    "The same guest, and two NMIs arrive in the shadow. KVM puts one into V_NMI. The other is to go by EVENTINJ, but "
    "that is not allowed yet: it waits in `nmi_pending`. Which exit brings KVM back when the shadow is over?",
    (
        Option("None: V_NMI will do.", (), "V_NMI holds one. Nothing tells KVM that EVENTINJ is free for the other."),
        Option("A #DB: KVM steps over the shadow.", ("#DB",), "TF, as in Lab 03: one instruction, and an exit."),
        Option("An IRET, as in Lab 03.", ("IRET",), "No NMI is in service here, so no IRET ends what blocks them."),
    ),
    lambda: shaded(2),
    spent,
    _first_exit,
    "Two NMIs in the shadow",
)

behind_the_gate = SetBits(
    "lab05.behind_the_gate",
    "The guest has closed its gate. An NMI arrives, KVM kicks the guest out, hands the NMI over and enters it again. "
    "The gate is still closed when the guest comes to its `out`, which exits. Which `int_ctl` does #VMEXIT write? "
    "(What stands there now is from the VMRUN at the beginning.)",
    "int_ctl",
    (
        Bit(9, "V_GIF", "The guest's own gate. `clgi` set the processor's copy to 0, and #VMEXIT writes it back."),
        Bit(11, "V_NMI", "KVM handed the NMI over. The processor keeps it: it may not take it while V_GIF is 0."),
        Bit(12, "V_NMI_MASK", "No NMI is in service. A closed gate is not a mask: the two are asked one by one."),
        Bit(25, "V_GIF_ENABLE", "Only the hypervisor writes this bit. It lets `clgi` and `stgi` run without an exit."),
    ),
    "GIF and the mask are two conditions, in two bits. CLGI touches one of them, an NMI the other.",
    gated,
    lambda trace: exit_of(trace, "IOIO").index,
    lambda trace: arrived(trace)[0].index,
    "An NMI behind a closed gate",
)

the_gate_opens = Prediction(
    "lab05.the_gate_opens",
    "Two NMIs arrive while the gate is closed. One is in V_NMI, the other in `nmi_pending`. How does KVM learn that "
    "the gate is open again?",
    (
        Option("It need not: `stgi` does not exit.", (), "For the one in V_NMI. The other one needs KVM."),
        Option(
            "By single steps, until it is.", ("#DB",) * 3, "A gate may be closed for long: an exit for each instruction"
        ),
        Option("It asks that `stgi` exits.", ("STGI",), "The window for a closed gate: the STGI intercept, just once."),
    ),
    lambda: gated(2),
    spent,
    lambda trace: arrived(trace)[1].index,
    "Two NMIs behind a closed gate",
)

not_in_this_entry = Prediction(
    "lab05.not_in_this_entry",
    "The guest is an L2: its own hypervisor, L1, has executed VMRUN, and KVM is about to carry that VMRUN out "
    "(`nested_run_pending`). An NMI waits. KVM's answer is -EBUSY. What becomes of this entry?",
    (
        Option(
            "L2 is entered, and leaves at once.",
            "leaves",
            "L1's VMRUN happens, as it must. A kick that KVM sent to itself ends it before the first instruction.",
        ),
        Option(
            "The NMI goes in with it.",
            "takes",
            "L1 may have an event of its own for L2 in that VMRUN, and there is one EVENTINJ.",
        ),
        Option("L2 goes on until a window opens.", "goes on", "A window is for a 0. -EBUSY means: in a moment."),
    ),
    nested,
    _what_first,
    lambda trace: next(step.index for step in trace if step.kind == "host"),
    "An NMI, and L1's VMRUN",
)

not_for_l2 = Prediction(
    "lab05.not_for_l2",
    "The guest is an L2 again, in the shadow of an `sti`, and an NMI arrives. But this L1 intercepts NMIs: it wants an "
    "exit for each. Where in L2 does that exit happen?",
    (
        Option(
            "At `after`: the shadow comes first.",
            "after",
            "The shadow is L2's. It keeps NMIs from L2's handler, and L2's handler will not run.",
        ),
        Option("At `shaded`: in the shadow.", "shaded", "L2 will not take this NMI: what blocks L2 does not matter."),
        Option("At `rest`: when L2 exits by itself.", "rest", "L1 is not made to wait: KVM has an NMI for it now."),
    ),
    lambda: shaded(features=L2_OF_L1S),
    _where_l2_ended,
    lambda trace: next_step(trace, "kvm", exit_of(trace, "NPF")).index,
    "An NMI for L1, in a shadow of L2",
)

PREDICTIONS = (in_the_shade, two_in_the_shade, behind_the_gate, the_gate_opens, not_in_this_entry, not_for_l2)
