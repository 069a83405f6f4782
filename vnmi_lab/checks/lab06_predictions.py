"""Lab 06, when delivery fails: its guests and its predictions."""

from __future__ import annotations

from collections.abc import Sequence

from vnmi_lab.checks.asked import Flag
from vnmi_lab.checks.lab03 import GUEST, exit_of, next_step
from vnmi_lab.checks.measure import entries, exits, irets, number
from vnmi_lab.checks.places import Way, way
from vnmi_lab.checks.placing import PlaceFlag, Spot
from vnmi_lab.checks.prediction import LONGEST, Option, Prediction
from vnmi_lab.guest import IDT, STACK, Guest, handler_address
from vnmi_lab.hv.ops import Events, NmiOps
from vnmi_lab.hv.profiles import LEGACY, PATCH_V4, VNMI, complete_and_forget
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Stimulus
from vnmi_lab.trace import Trace

# --- guests ---------------------------------------------------------------------------------------------------------

FRAME_VECTOR = 16
FRAME = handler_address(FRAME_VECTOR)
"""The beginning of a page."""
STOPS = """
handler: inc qword [rbx+16]
         out 0x10, al          ; to a device: KVM_RUN returns to user space
saved:   nop                   ; and from here the guest goes on
leave:   iretq
"""
WORKS = """
start:   inc rax
work:    inc rax
more:    inc rax
done:    inc rax
rest:    hlt
         jmp rest
"""
STOPPING = Guest.of(WORKS, {2: STOPS}, tail="hlt")
FAR_HANDLER = f"""
handler: inc qword [rbx+16]
         mov rsp, {FRAME:#x}     ; return from a frame on a page of its own
leave:   iretq
"""
WAY_BACK = Guest.of(WORKS, tail="hlt").labels()["more"]
FAR = Guest.of(WORKS, {2: FAR_HANDLER, FRAME_VECTOR: f"dq {WAY_BACK}\ndq 8\ndq 2\ndq {STACK:#x}\ndq 0x10"}, tail="hlt")
"""The frame that its NMI handler returns from stands where a handler that nobody calls would stand."""

FORGETFUL = VNMI.but(
    name="forgetful",
    follows="nobody looks at EXITINTINFO",
    complete_interrupts=complete_and_forget,
)
ONE = (Stimulus(at="work"),)
IN_SERVICE_AND_IN_SLOT = (Stimulus(at="work"), Stimulus(at="handler"))
MOVE = Stimulus(at="saved", what="migrate")


def delivered_late(ops: NmiOps = VNMI, absent: Sequence[int] = (IDT,)) -> Kvm:
    """Let one NMI arrive whose delivery needs pages that are absent."""
    return Kvm(GUEST, ops, Features(vnmi_cpuid=ops.uses_vnmi), stimuli=ONE, absent=absent)


def returns_late(times: int = 1) -> Kvm:
    """Let an NMI's handler return from a page that is absent, with a second NMI that waits for ``times=2``."""
    stimuli = [Stimulus(at="work"), *([Stimulus(at="handler")] if times > 1 else [])]
    return Kvm(FAR, VNMI, stimuli=stimuli, absent=[FRAME])


def moved(ops: NmiOps = VNMI, stimuli: Sequence[Stimulus] = (*IN_SERVICE_AND_IN_SLOT, MOVE)) -> Kvm:
    """Move a vCPU to another machine while one NMI is in service and another waits in V_NMI."""
    return Kvm(STOPPING, ops, Features(vnmi_cpuid=ops.uses_vnmi), stimuli=stimuli)


def token() -> Way:
    """Follow an NMI whose delivery fails once."""
    return way(delivered_late(), "One NMI, and a page that is missing", LONGEST)


def token_legacy() -> Way:
    """Follow two NMIs without vNMI."""
    return way(Kvm(GUEST, LEGACY, Features(vnmi_cpuid=False), stimuli=IN_SERVICE_AND_IN_SLOT), "Two NMIs", LONGEST)


def token_moved() -> Way:
    """Follow two NMIs through a migration."""
    return way(moved(), "Two NMIs, and a new home", LONGEST)


# --- predictions ----------------------------------------------------------------------------------------------------


def events_at(trace: Trace, step: int, ops: NmiOps) -> Events:
    """Return what a policy's KVM_GET_VCPU_EVENTS reports before a step; the run stays as it is."""
    kvm = trace.goto(step)
    assert isinstance(kvm, Kvm)
    before = kvm.snapshot()
    events = ops.get_vcpu_events(kvm.vcpu)
    kvm.restore(before)
    return events


def move_of(trace: Trace) -> int:
    """Return the step at which the vCPU moves."""
    return next(step.index for step in trace if step.kind == "host" and "KVM_SET_VCPU_EVENTS" in step.text)


def _where_now(trace: Trace) -> str:
    step = exit_of(trace, "NPF")
    if number(step, "v_nmi_pending"):
        return "slot"
    return "queue" if number(step, "nmi_pending") or number(step, "nmi_queued") else "exitintinfo"


def _becomes(trace: Trace) -> str:
    gone = exit_of(trace, "NPF").index
    runs = [step.index for step in entries(trace)]
    if not runs:
        return "lost"
    between = [step for step in trace if gone < step.index < runs[0] and step.kind == "exec"]
    return "late" if between else "at once"


def _second_word(trace: Trace) -> int:
    return number(exit_of(trace, "NPF", 1), "exit_int_info")


def _reported(trace: Trace) -> tuple[int | None, bool]:
    events = events_at(trace, move_of(trace), VNMI)
    return events.pending, events.masked


def _differs(trace: Trace) -> str:
    """Return the field that v4 reports otherwise than today's KVM when it moves the same guest."""
    today = Trace(moved().fresh(), "", LONGEST)
    runs = (today, VNMI), (trace, PATCH_V4)
    ours, theirs = (events_at(run, move_of(run), ops)._asdict() for run, ops in runs)
    return ", ".join(name for name in ours if ours[name] != theirs[name])


where_now = Prediction(
    "lab06.where_now",
    "KVM has put an NMI into V_NMI and enters the guest. The processor recognizes it and looks up its handler in the "
    "IDT. But the page of the IDT is not there: #VMEXIT NPF. Where is the NMI after this exit?",
    (
        Option(
            "In V_NMI: the processor puts it back.",
            "slot",
            "V_NMI went to 0 before the IDT was touched, and #VMEXIT writes the 0 back.",
        ),
        Option(
            "In `nmi_pending`: KVM keeps it until it is delivered.",
            "queue",
            "KVM gave it away when it set V_NMI. It cannot see a delivery, so it could never drop such a copy.",
        ),
        Option("In EXITINTINFO, and nowhere else.", "exitintinfo", "An exit report: this event was on its way."),
    ),
    delivered_late,
    _where_now,
    lambda trace: next_step(trace, "vmrun", exit_of(trace, "INTR")).index,
    "A page is missing",
)

forgotten = Prediction(
    "lab06.forgotten",
    "KVM brings the page in and enters the guest again, but it never looks at EXITINTINFO. What becomes of the NMI?",
    (
        Option(
            "The guest takes it at once.",
            "at once",
            "From where? V_NMI is 0 and EVENTINJ is empty. A report does nothing by itself.",
        ),
        Option("It is lost.", "lost", "The next exit writes EXITINTINFO anew, and the last trace is gone."),
        Option("The guest takes it later.", "late", "There is no later: nobody has it any more."),
    ),
    lambda: delivered_late(FORGETFUL),
    _becomes,
    lambda trace: exit_of(trace, "NPF").index,
    "Nobody looks",
)

twice = Prediction(
    "lab06.twice",
    "Now the real KVM, and two pages are missing, that of the IDT and that of the stack. KVM injects the NMI again, "
    "the IDT is there, and the processor comes to the stack: another #VMEXIT NPF. What is in EXITINTINFO now?",
    (
        Option(
            "80000200h, as KVM wrote it.",
            0x80000200,
            "An injected event is reported as it was injected. KVM leaves the vector 0; an NMI's vector is 2 anyway.",
        ),
        Option(
            "80000202h, as the first time.",
            0x80000202,
            "The first time the processor took the NMI by itself and filled in the vector. Now it came by EVENTINJ.",
        ),
        Option("0: an injected event is not reported.", 0, "Then it would be lost the second time."),
    ),
    lambda: delivered_late(absent=(IDT, STACK - 8)),
    _second_word,
    lambda trace: next_step(trace, "vmrun", exit_of(trace, "NPF")).index,
    "Two pages are missing",
)

half_way = PlaceFlag(
    "lab06.half_way",
    "This handler returns from a frame on a page that is missing, so its `iretq` begins, and exits half-way. This is "
    "the run with one NMI. Now let a second one arrive where the flag stands, and wait in V_NMI. Before which step "
    "is it taken?",
    "the second NMI is taken",
    lambda: returns_late(2),
    returns_late,
    lambda trace: entries(trace)[1].index,
    "V_NMI_MASK falls when an IRET completes. The one that exited half-way has not; the processor does it again.",
    "The IRET has not completed yet: V_NMI_MASK is still 1.",
    "The IRET has completed and V_NMI is waiting: nothing holds it back any more.",
    (
        Spot(
            "Before the `iretq`, after the exit.",
            lambda trace: irets(trace)[0].index,
            "That would be so if an attempt were enough. The first handler's frame is still in use.",
        ),
        Spot(
            "When the guest halts.",
            lambda trace: exits(trace)[-1][0].index,
            "Nobody has to bring it: it waits in the processor.",
        ),
    ),
    lambda trace: (Flag(entries(trace)[0].index + 1, "given", "the second NMI arrives"),),
    "An IRET that exits half-way, and an NMI that waits",
    "An IRET that exits half-way",
)

reported = Prediction(
    "lab06.reported",
    "The guest is in its NMI handler, and a second NMI waits in V_NMI. The guest stops for a device, and user space "
    "takes the opportunity to move it. What does KVM_GET_VCPU_EVENTS report?",
    (
        Option("pending 0, masked 1", (0, True), "One does wait. It is in V_NMI, and KVM knows where to look."),
        Option("pending 2, masked 0", (2, False), "One is in service: it was delivered, and its mask says so."),
        Option("pending 1, masked 0", (1, False), "V_NMI_MASK is 1. A new home that does not know it would nest them."),
        Option("pending 1, masked 1", (1, True), "V_NMI is counted as pending, and V_NMI_MASK says masked."),
    ),
    moved,
    _reported,
    lambda trace: move_of(trace) - 1,
    "A stop in the handler",
)

left_behind = Prediction(
    "lab06.left_behind",
    "The same move under patch series v4. It has the same bits in the VMCB, and a KVM_GET_VCPU_EVENTS that was written "
    "before vNMI. Which field does it report otherwise?",
    (
        Option("`masked`", "masked", "v4 asks V_NMI_MASK here, and says 1."),
        Option("`pending`", "pending", "It reports `nmi_pending`, which is 0. V_NMI stays behind, with its NMI."),
        Option("`injected`", "injected", "Nothing is on its way in: this NMI waits in V_NMI."),
    ),
    lambda: moved(PATCH_V4),
    _differs,
    lambda trace: move_of(trace) - 1,
    "The same stop under v4",
)

PREDICTIONS = (where_now, forgotten, twice, half_way, reported, left_behind)
