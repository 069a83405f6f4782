"""Why is it blocked? Every condition that can keep an NMI out of a guest, which one decides, and what will end it.

Two questions are answered apart, because they are asked by different parties: may KVM inject now (``svm_nmi_allowed``),
and may the processor take what is in V_NMI (APM 15.21.10)?
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.hv.svm import gif_set, is_vnmi_enabled, svm_nmi_allowed, svm_set_vnmi_pending
from vnmi_lab.hw.delivery import BY_NAME, HOLDS
from vnmi_lab.kvm import GUEST, Kvm
from vnmi_lab.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.hv.vcpu import Vcpu
    from vnmi_lab.hw.cpu import Cpu
    from vnmi_lab.trace import AnyMachine, Trace


class Condition(NamedTuple):
    """One thing that can keep an NMI out: its name, whether it does now, why, what ends it, and who says so."""

    name: str
    holds: bool
    sentence: str
    ends: str
    source: str


class Row(NamedTuple):
    """One row of the table below: how to see whether a condition holds, and the answer it makes KVM give."""

    name: str
    test: Callable[[Vcpu], object]
    answer: int
    sentence: str
    ends: str


BUSY, BLOCKED = -16, 0
SOURCE = "svm_nmi_allowed, svm_nmi_blocked; Linux 6.12"

# In the order in which svm_nmi_allowed and svm_nmi_blocked ask; the first that holds decides.
ROWS: tuple[Row, ...] = (
    Row(
        "nested_run_pending",
        lambda v: v.nested_run_pending,
        BUSY,
        "A nested VMRUN has been asked for and has not happened yet.",
        "the nested VMRUN, in the next entry",
    ),
    Row("GIF", lambda v: not gif_set(v), BLOCKED, "The guest's GIF is 0.", "the guest's STGI"),
    Row(
        "exit-on-NMI",
        lambda v: v.guest_mode and v.features.exit_on_nmi,
        BUSY,
        "A nested guest runs whose hypervisor wants an exit for an NMI, not the NMI.",
        "the nested exit",
    ),
    Row(
        "mask",
        lambda v: v.ops.get_nmi_mask(v),
        BLOCKED,
        "An NMI is in service.",
        "the IRET that ends it",
    ),
    Row(
        "shadow",
        lambda v: v.vmcb.int_state.interrupt_shadow,
        BLOCKED,
        "The guest is in an interrupt shadow.",
        "the next instruction of the guest",
    ),
)
REINJECT = "The event that was interrupted on its way in goes first, and one entry carries one event."


class Blocked(NamedTuple):
    """The answer: every condition, the first that decides (None: the NMI may be injected), and KVM's return value.

    ``allowed`` is None where KVM is not asked.
    """

    conditions: tuple[Condition, ...]
    decides: Condition | None
    allowed: int | None

    def __str__(self) -> str:
        """Return one line a condition, the deciding one marked."""
        lines = []
        for c in self.conditions:
            mark, said = "->" if c is self.decides else "  ", f"{c.sentence} Until {c.ends}." if c.holds else ""
            lines.append(f"{mark} {c.name:<20} {'yes' if c.holds else 'no':<4} {said}")
        return "\n".join(line.rstrip() for line in lines)


def may_inject(kvm: Kvm) -> Blocked:
    """Say whether KVM may inject an NMI now, and if not, every reason and the one that decides.

    Where a policy has an ``nmi_allowed`` of its own, that one is asked, too; where it says otherwise, it decides.
    """
    vcpu = kvm.vcpu
    found = [Condition(r.name, bool(r.test(vcpu)), r.sentence, r.ends, SOURCE) for r in ROWS]
    deciding = next(((c, r.answer) for c, r in zip(found, ROWS, strict=True) if c.holds), (None, 1))
    if kvm.ops.nmi_allowed is not svm_nmi_allowed:
        own = _own(kvm)
        if own[1] != deciding[1]:
            found.append(own[0])
            deciding = own if own[0].holds else (None, own[1])
    being = bool(vcpu.nmi_injected or vcpu.exception)
    found.append(Condition("event on its way", being, REINJECT, "the next exit", "kvm_check_and_inject_events"))
    if is_vnmi_enabled(vcpu):
        taken = bool(vcpu.vmcb.int_ctl.v_nmi_pending)
        sentence = "V_NMI already holds one; a further one waits in nmi_pending or merges."
        found.append(Condition("V_NMI taken", taken, sentence, "the processor taking it", "process_nmi; Linux 6.12"))
    return Blocked(tuple(found), *deciding)


def _own(kvm: Kvm) -> tuple[Condition, int]:
    """Ask a policy's own ``nmi_allowed``, and put the machine back as it was: a learner's may change things."""
    before = kvm.snapshot()
    answer = int(kvm.ops.nmi_allowed(kvm.vcpu, True))  # noqa: FBT003 - for_injection, as in KVM
    kvm.restore(before)
    sentence = f"This policy has a rule of its own, which answers {answer}."
    return Condition("its own rule", answer != 1, sentence, "its own rule answering 1", kvm.ops.follows), answer


ENDS = {
    "gif": "STGI, or the next VMRUN",
    "v_gif": "the guest's STGI",
    "shadow": "the next instruction",
    "nmi_mask": "the next IRET that completes",
    "v_nmi_blocking": "the next IRET that completes",
}


def may_take(cpu: Cpu, source: str = "vnmi") -> Blocked:
    """Say whether the processor may take a virtual ("vnmi") or physical ("nmi") NMI now, by the rules of delivery."""
    return _may_take(source, tuple([bool(HOLDS[hold](cpu)) for hold, _rule in BY_NAME[source].holds]))


@cache
def _may_take(source: str, holds: tuple[bool, ...]) -> Blocked:
    found = tuple(
        Condition(hold, held, RULES[rule].sentence, ENDS[hold], RULES[rule].source)
        for held, (hold, rule) in zip(holds, BY_NAME[source].holds, strict=True)
    )
    decides = next((c for c in found if c.holds), None)
    return Blocked(found, decides, int(decides is None))


RUNS = Condition(
    "guest runs",
    True,  # noqa: FBT003 - it holds
    "The guest is running.",
    "the guest's next exit; KVM kicks the guest to get one",
    "kvm_make_request, kvm_vcpu_kick; Linux 6.12",
)
TAKERS = {"vnmi": "processor, virtual NMI", "nmi": "processor, physical NMI"}


FREE = "V_NMI is free, so the next entry hands one NMI to the processor, whatever blocks injection."


class Answer(NamedTuple):
    """What one party says at a moment: who is asked, how many NMIs wait for its answer, the answer, and what to add."""

    who: str
    waits: int
    blocked: Blocked
    note: str = ""


def asked(machine: AnyMachine) -> tuple[Answer, ...]:
    """Give the answers of all who have a say now: KVM, and the processor that runs.

    While the guest runs KVM is not asked. The physical NMIs of a machine under KVM are the host's own business.
    """
    cpu = machine.cpu
    if not isinstance(machine, Kvm):
        virtual = [_taker("vnmi", cpu)] if cpu.guest_mode and cpu.v_nmi_enable else []
        return (*virtual, _taker("nmi", cpu))
    vcpu = machine.vcpu
    waits = vcpu.nmi_queued + vcpu.nmi_pending
    if machine.phase != GUEST:
        answer = may_inject(machine)
        hands_over = is_vnmi_enabled(vcpu) and machine.ops.set_vnmi_pending is svm_set_vnmi_pending
        free = hands_over and answer.allowed != 1 and not vcpu.vmcb.int_ctl.v_nmi_pending
        return (Answer("KVM", waits, answer, FREE if free else ""),)
    running = Answer("KVM", waits, Blocked((RUNS,), RUNS, None))
    return (running, _taker("vnmi", cpu)) if cpu.v_nmi_enable else (running,)


def _taker(source: str, cpu: Cpu) -> Answer:
    return Answer(TAKERS[source], int(getattr(cpu, BY_NAME[source].pending)), may_take(cpu, source))


def unblocked_at(trace: Trace, index: int) -> int | None:
    """Return the first step after ``index`` before which what decides there no longer holds, or None."""
    machine = trace.goto(index)
    first = may_inject(machine).decides  # type: ignore[arg-type]  # only a trace of KVM has a policy to ask
    if first is None:
        return index
    for at in range(index + 1, len(trace) + 1):
        now = may_inject(trace.goto(at))  # type: ignore[arg-type]  # as above
        if not next(c for c in now.conditions if c.name == first.name).holds:
            return at
    return None
