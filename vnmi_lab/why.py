"""Why is it blocked? Every condition that can keep an NMI out of a guest, which one decides, and what will end it.

Two questions are answered apart, because they are asked by different parties: may KVM inject now (``svm_nmi_allowed``),
and may the processor take what is in V_NMI (APM 15.21.10)?
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.hv.svm import gif_set, is_vnmi_enabled
from vnmi_lab.hw.delivery import BY_NAME, HOLDS
from vnmi_lab.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.hv.vcpu import Vcpu
    from vnmi_lab.hw.cpu import Cpu
    from vnmi_lab.kvm import Kvm
    from vnmi_lab.trace import Trace


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
    """The answer: every condition, the first that decides (None: the NMI may be injected), and KVM's return value."""

    conditions: tuple[Condition, ...]
    decides: Condition | None
    allowed: int

    def __str__(self) -> str:
        """Return one line a condition, the deciding one marked."""
        lines = []
        for c in self.conditions:
            mark, said = "->" if c is self.decides else "  ", f"{c.sentence} Until {c.ends}." if c.holds else ""
            lines.append(f"{mark} {c.name:<20} {'yes' if c.holds else 'no':<4} {said}")
        return "\n".join(line.rstrip() for line in lines)


def may_inject(kvm: Kvm) -> Blocked:
    """Say whether KVM may inject an NMI now, and if not, every reason and the one that decides."""
    vcpu = kvm.vcpu
    found = [Condition(r.name, bool(r.test(vcpu)), r.sentence, r.ends, SOURCE) for r in ROWS]
    deciding = next(((c, r.answer) for c, r in zip(found, ROWS, strict=True) if c.holds), (None, 1))
    being = bool(vcpu.nmi_injected or vcpu.exception)
    found.append(Condition("event on its way", being, REINJECT, "the next exit", "kvm_check_and_inject_events"))
    if is_vnmi_enabled(vcpu):
        taken = bool(vcpu.vmcb.int_ctl.v_nmi_pending)
        sentence = "V_NMI already holds one; a further one waits in nmi_pending or merges."
        found.append(Condition("V_NMI taken", taken, sentence, "the processor taking it", "process_nmi; Linux 6.12"))
    return Blocked(tuple(found), *deciding)


ENDS = {
    "gif": "STGI, or the next VMRUN",
    "v_gif": "the guest's STGI",
    "shadow": "the next instruction",
    "nmi_mask": "the next IRET that completes",
    "v_nmi_blocking": "the next IRET that completes",
}


def may_take(cpu: Cpu, source: str = "vnmi") -> Blocked:
    """Say whether the processor may take a virtual ("vnmi") or physical ("nmi") NMI now, by the rules of delivery."""
    found = tuple(
        Condition(hold, bool(HOLDS[hold](cpu)), RULES[rule].sentence, ENDS[hold], RULES[rule].source)
        for hold, rule in BY_NAME[source].holds
    )
    decides = next((c for c in found if c.holds), None)
    return Blocked(found, decides, int(decides is None))


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
