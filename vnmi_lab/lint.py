"""What a hypervisor did at a step that no hypervisor may do, each with the rule it broke: read off a finished run.

A law of ``laws.py`` says what the guest must never see. This is about the act itself, whether or not it did harm yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.hw.delivery import NMI_WORD, VALID, kind_of
from vnmi_lab.hw.events import Changed, VmExit
from vnmi_lab.hw.vmcb import Clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vnmi_lab.trace import Step

IRET_EXIT = 0x74
KVM = "K-"
V_NMI_BITS = ("int_ctl.v_nmi_pending", "int_ctl.v_nmi_blocking")
MASKS = ("nmi_masked", "int_ctl.v_nmi_blocking")


class Finding(NamedTuple):
    """A step at which a rule was broken: a few words, a sentence, and the rule."""

    step: int
    label: str
    sentence: str
    rule: str


def lint(steps: Sequence[Step]) -> list[Finding]:
    """Give what a run's hypervisor did wrong, in order; nothing for a run without one."""
    return [found for index in range(1, len(steps)) for found in _looked_at(steps, index)]


def _looked_at(steps: Sequence[Step], index: int) -> Iterator[Finding]:
    step, before = steps[index], steps[index - 1]
    if any(isinstance(e, VmExit) and e.rule == "R-CHECK-VNMI" for e in step.events):
        sentence = "V_NMI_ENABLE is set and NMIs are not intercepted, so VMRUN is refused."
        yield Finding(index, "no NMI intercept", sentence, "R-CHECK-VNMI")
    own = [e for e in step.events if isinstance(e, Changed) and e.rule.startswith(KVM)]
    if step.kind == "vmrun" and any(e.field in V_NMI_BITS for e in own) and Clean(_int(step, "clean")).intr:
        sentence = "V_NMI or V_NMI_MASK was changed and its clean bit says that it was not: the processor may miss it."
        yield Finding(index, "clean bit left set", sentence, "R-CLEAN")
    if step.kind != "kvm":
        return
    event = _int(step, "exit_int_info")
    if event & VALID and kind_of(event) == kind_of(NMI_WORD) and not step.state["nmi_injected"]:
        sentence = "EXITINTINFO names an NMI whose delivery was interrupted, and it is not queued again."
        yield Finding(index, "EXITINTINFO dropped", sentence, "R-EXITINTINFO")
    if step.state["exit_code"] != IRET_EXIT:
        return
    if any(e.field in MASKS and not e.new for e in own) and not before.state["awaiting_iret_completion"]:
        sentence = "NMIs are unmasked at the exit of an IRET, which has not executed yet."
        yield Finding(index, "unmasked before IRET", sentence, "R-IRET-UNMASK")
    if any(e.field == "vmcb.rip" for e in own):
        sentence = "RIP was moved over an IRET that has not executed, so it never will."
        yield Finding(index, "IRET skipped", sentence, "R-IRET-UNMASK")


def _int(step: Step, field: str) -> int:
    value = step.state[field]
    assert isinstance(value, int)
    return value
