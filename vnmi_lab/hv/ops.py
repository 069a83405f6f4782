"""The record of functions in which NMI policies differ: KVM's own hooks, and named seams where KVM has no hook.

Each row of ``ROWS`` says what a function promises, where KVM has it, and when KVM calls it. A policy is a record; a
variant is ``LEGACY.but(iret_interception=mine)``, and its name says what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from vnmi_lab.hw.bits import misspelt

if TYPE_CHECKING:
    from vnmi_lab.hv.vcpu import Vcpu

EBUSY = -16
"""Legal in principle, but not in this entry: KVM leaves the guest at once and tries again."""

Action = Callable[["Vcpu"], None]
Question = Callable[["Vcpu"], bool]


class Events(NamedTuple):
    """The NMI part of ``struct kvm_vcpu_events``, and its interrupt shadow.

    ``pending`` None: KVM_VCPUEVENT_VALID_NMI_PENDING is not set, so what is pending is left as it is.
    """

    injected: bool
    pending: int | None
    masked: bool
    shadow: bool


class Row(NamedTuple):
    """One function of the record: op or seam, the kernel's function and file, when it is called, what it promises."""

    kind: str
    function: str
    file: str
    when: str
    promise: str


ROWS: dict[str, Row] = {
    "nmi_allowed": Row(
        "op",
        "svm_nmi_allowed",
        "svm/svm.c",
        "before an NMI is injected, and to see whether a halted vCPU should wake",
        "1: may be injected now; 0: blocked; -EBUSY: not in this entry.",
    ),
    "inject_nmi": Row(
        "op",
        "svm_inject_nmi",
        "svm/svm.c",
        "from kvm_check_and_inject_events, for a new NMI and for one whose delivery was interrupted",
        "The NMI is on its way into the guest.",
    ),
    "enable_nmi_window": Row(
        "op",
        "svm_enable_nmi_window",
        "svm/svm.c",
        "when another NMI is pending that cannot be injected in this entry",
        "The guest will exit as soon as that NMI may be injected.",
    ),
    "get_nmi_mask": Row(
        "op",
        "svm_get_nmi_mask",
        "svm/svm.c",
        "process_nmi, KVM_GET_VCPU_EVENTS",
        "Whether NMIs are masked for the guest.",
    ),
    "set_nmi_mask": Row(
        "op",
        "svm_set_nmi_mask",
        "svm/svm.c",
        "KVM_SET_VCPU_EVENTS, entering and leaving SMM, an emulated IRET",
        "NMIs are masked, or not, from now on.",
    ),
    "is_vnmi_pending": Row(
        "op",
        "svm_is_vnmi_pending",
        "svm/svm.c",
        "process_nmi, KVM_GET_VCPU_EVENTS",
        "Whether the processor's slot is taken.",
    ),
    "set_vnmi_pending": Row(
        "op",
        "svm_set_vnmi_pending",
        "svm/svm.c",
        "process_nmi, when an NMI is left to hand over",
        "True: the processor now has it in its slot; False: there is no slot, or it is taken.",
    ),
    "process_nmi": Row(
        "seam",
        "process_nmi",
        "x86.c",
        "on entry with KVM_REQ_NMI, and first in KVM_GET_VCPU_EVENTS",
        "What was queued is accepted, as many as the guest could tell apart.",
    ),
    "iret_interception": Row(
        "seam",
        "iret_interception",
        "svm/svm.c",
        "after exit 74h",
        "The guest is about to execute IRET; it has not yet.",
    ),
    "db_interception": Row(
        "seam",
        "db_interception",
        "svm/svm.c",
        "after exit 41h",
        "A step that KVM borrowed is over; any other #DB is the guest's.",
    ),
    "stgi_interception": Row(
        "seam", "stgi_interception", "svm/nested.c", "after exit 84h", "GIF is set and RIP is past the STGI."
    ),
    "complete_interrupts": Row(
        "seam",
        "svm_complete_interrupts",
        "svm/svm.c",
        "after every exit, before its handler",
        "What was injected is delivered, or queued again from EXITINTINFO.",
    ),
    "sev_es_nmi_complete": Row(
        "seam",
        "sev_handle_vmgexit",
        "svm/sev.c",
        "when an SEV-ES guest reports SVM_VMGEXIT_NMI_COMPLETE",
        "The guest's NMI handler is over: NMIs will be unmasked.",
    ),
    "init_vmcb": Row(
        "seam", "init_vmcb", "svm/svm.c", "when the vCPU is made", "The VMCB has the intercepts and controls it needs."
    ),
    "get_vcpu_events": Row(
        "seam",
        "kvm_vcpu_ioctl_x86_get_vcpu_events",
        "x86.c",
        "KVM_GET_VCPU_EVENTS",
        "All that another machine needs to go on.",
    ),
    "set_vcpu_events": Row(
        "seam",
        "kvm_vcpu_ioctl_x86_set_vcpu_events",
        "x86.c",
        "KVM_SET_VCPU_EVENTS",
        "The vCPU goes on where the events were taken.",
    ),
    "mark_vmcb_dirty": Row(
        "seam",
        "vmcb_mark_dirty",
        "svm/svm.h",
        "after a change of int_ctl",
        "The processor will not use a cached int_ctl.",
    ),
}


@dataclass(frozen=True, slots=True)
class NmiOps:
    """A policy: a name, what it follows, and one function for each row of ``ROWS``."""

    name: str
    follows: str
    nmi_allowed: Callable[[Vcpu, bool], int]
    inject_nmi: Action
    enable_nmi_window: Action
    get_nmi_mask: Question
    set_nmi_mask: Callable[[Vcpu, bool], None]
    is_vnmi_pending: Question
    set_vnmi_pending: Question
    process_nmi: Action
    iret_interception: Action
    db_interception: Action
    stgi_interception: Action
    complete_interrupts: Action
    sev_es_nmi_complete: Action
    init_vmcb: Action
    get_vcpu_events: Callable[[Vcpu], Events]
    set_vcpu_events: Callable[[Vcpu, Events], None]
    mark_vmcb_dirty: Action
    uses_vnmi: bool = False
    """Whether the policy knows virtual NMIs; without the feature it falls back to what its functions do then."""

    def but(
        self,
        name: str | None = None,
        follows: str | None = None,
        *,
        uses_vnmi: bool | None = None,
        **hooks: Any,  # noqa: ANN401 - functions of any row
    ) -> NmiOps:
        """Return a variant with other functions; ``AttributeError`` for a hook that does not exist."""
        for hook, function in hooks.items():
            if hook not in ROWS:
                raise AttributeError(misspelt("NmiOps", hook, list(ROWS), "hook"))
            if not callable(function):
                msg = f"{hook} must be a function, not {function!r}"
                raise TypeError(msg)
        said = ", ".join(f"{hook}={getattr(function, '__name__', 'a function')}" for hook, function in hooks.items())
        knows = self.uses_vnmi if uses_vnmi is None else uses_vnmi
        title = name or f"{self.name} but {said}"
        return replace(self, name=title, follows=follows or self.follows, uses_vnmi=knows, **hooks)


assert {f.name for f in fields(NmiOps)} - {"name", "follows", "uses_vnmi"} == set(ROWS)
