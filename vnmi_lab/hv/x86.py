"""What KVM does alike on Intel and AMD: requests, what is injected in which order, events for user space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vnmi_lab.hv import svm
from vnmi_lab.hv.calls import kvm
from vnmi_lab.hv.ops import EBUSY, Events
from vnmi_lab.hv.vcpu import REQ_EVENT, REQ_NMI, REQ_SMI

if TYPE_CHECKING:
    from vnmi_lab.hv.vcpu import Vcpu

X86 = "x86.c"


@kvm(X86)
def kvm_inject_nmi(vcpu: Vcpu) -> None:
    """Post an NMI to the vCPU, from anywhere; the caller kicks it."""
    vcpu.nmi_queued += 1
    vcpu.make_request(REQ_NMI)


@kvm(X86)
def process_nmi(vcpu: Vcpu) -> None:
    """Accept the NMIs that were queued, as many as a processor would remember.

    Two when none is in service: on hardware the first would be taken at once and the second would pend, but a vCPU may
    not be running, so both have to wait. One otherwise. One fewer when the processor already holds one in its slot.
    """
    ops = vcpu.ops
    limit = 1 if ops.get_nmi_mask(vcpu) or vcpu.nmi_injected else 2
    if ops.is_vnmi_pending(vcpu):
        limit -= 1
    accept(vcpu, limit)
    if vcpu.nmi_pending and ops.set_vnmi_pending(vcpu):
        vcpu.nmi_pending -= 1
    if vcpu.nmi_pending:
        vcpu.make_request(REQ_EVENT)


def accept(vcpu: Vcpu, limit: int) -> None:
    """Move what is queued to ``nmi_pending``, up to ``limit``; what is over merges into those."""
    wanted = vcpu.nmi_pending + vcpu.nmi_queued
    vcpu.nmi_queued = 0
    vcpu.nmi_pending = min(wanted, limit)
    vcpu.dropped += wanted - vcpu.nmi_pending


@kvm(X86)
def kvm_get_nr_pending_nmis(vcpu: Vcpu) -> int:
    """Count the NMIs that wait, in software and in the processor's slot."""
    return vcpu.nmi_pending + int(vcpu.ops.is_vnmi_pending(vcpu))


@kvm(X86)
def kvm_check_and_inject_events(vcpu: Vcpu) -> None:
    """Inject at most one event into this entry: what was interrupted first, then SMI, NMI, IRQ."""
    vcpu.immediate_exit = False
    can_inject = reinject(vcpu)
    if can_inject and vcpu.exception is not None and vcpu.exception[0] == "pending":
        vcpu.exception = ("injected", *vcpu.exception[1:])
        svm.svm_inject_exception(vcpu)
        can_inject = False
    for offer in (offer_smi, offer_nmi, offer_irq):
        done = offer(vcpu, can_inject=can_inject)
        if done == EBUSY:
            vcpu.immediate_exit = True
            return
        can_inject = can_inject and not done


def reinject(vcpu: Vcpu) -> bool:
    """Put back an event whose delivery was interrupted; False when there was one, so nothing else fits."""
    if vcpu.exception is not None:
        if vcpu.exception[0] == "injected":
            svm.svm_inject_exception(vcpu)
            return False
        return not (vcpu.nmi_injected or vcpu.interrupt_injected is not None)
    if vcpu.nmi_injected:
        vcpu.ops.inject_nmi(vcpu)
        return False
    if vcpu.interrupt_injected is not None:
        svm.svm_inject_irq(vcpu, reinjected=True)
        return False
    return True


def offer_smi(vcpu: Vcpu, *, can_inject: bool) -> int:
    """Enter SMM if an SMI waits and may; return whether it did, or -EBUSY."""
    if not vcpu.smi_pending:
        return 0
    allowed = svm.svm_smi_allowed(vcpu) if can_inject else EBUSY
    if allowed > 0:
        vcpu.smi_pending = False
        enter_smm(vcpu)
        return 0  # SMM is entered in software; the entry can still carry an event
    return allowed


def offer_nmi(vcpu: Vcpu, *, can_inject: bool) -> int:
    """Inject an NMI if one waits and may; ask for a window if one still waits; return whether it did, or -EBUSY."""
    if not vcpu.nmi_pending:
        return 0
    allowed = vcpu.ops.nmi_allowed(vcpu, True) if can_inject else EBUSY  # noqa: FBT003 - for_injection, as in KVM
    if allowed < 0:
        return allowed
    if allowed:
        vcpu.nmi_pending -= 1
        vcpu.nmi_injected = True
        vcpu.ops.inject_nmi(vcpu)
    if vcpu.nmi_pending:
        vcpu.ops.enable_nmi_window(vcpu)
    return allowed


def offer_irq(vcpu: Vcpu, *, can_inject: bool) -> int:
    """Inject an interrupt if one waits and may, else ask for a window; return whether it did, or -EBUSY."""
    if vcpu.interrupt is None:
        return 0
    allowed = svm.svm_interrupt_allowed(vcpu) if can_inject else EBUSY
    if allowed < 0:
        return allowed
    if allowed:
        vcpu.interrupt_injected, vcpu.interrupt = vcpu.interrupt, None
        svm.svm_inject_irq(vcpu, reinjected=False)
    else:
        svm.svm_enable_irq_window(vcpu)
    return allowed


@kvm("smm.c")
def enter_smm(vcpu: Vcpu) -> None:
    """Enter SMM: NMIs are masked there; remember whether they were masked before."""
    vcpu.in_smm = True
    if vcpu.ops.get_nmi_mask(vcpu):
        vcpu.smm_inside_nmi = True
    else:
        vcpu.ops.set_nmi_mask(vcpu, True)  # noqa: FBT003 - masked, as in KVM


@kvm("smm.c")
def leave_smm(vcpu: Vcpu) -> None:
    """Leave SMM: NMIs are unmasked unless they were masked before it."""
    if not vcpu.smm_inside_nmi:
        vcpu.ops.set_nmi_mask(vcpu, False)  # noqa: FBT003 - masked, as in KVM
    vcpu.in_smm = vcpu.smm_inside_nmi = False
    vcpu.make_request(REQ_EVENT)


@kvm(X86)
def vcpu_enter_guest(vcpu: Vcpu) -> None:
    """Do what was requested, inject what may be, and enter the guest."""
    if vcpu.check_request(REQ_SMI):
        vcpu.smi_pending = True
        vcpu.make_request(REQ_EVENT)
    if vcpu.check_request(REQ_NMI):
        vcpu.ops.process_nmi(vcpu)
    vcpu.immediate_exit = False
    if vcpu.check_request(REQ_EVENT):
        kvm_check_and_inject_events(vcpu)
    if vcpu.immediate_exit:
        vcpu.make_request(REQ_EVENT)
    svm.svm_vcpu_run(vcpu)


@kvm(X86)
def after_exit(vcpu: Vcpu) -> str | None:
    """Complete what was injected, then handle the exit; return what user space must see, if anything."""
    vcpu.ops.complete_interrupts(vcpu)
    return svm.svm_handle_exit(vcpu)


@kvm(X86)
def kvm_vcpu_has_events(vcpu: Vcpu) -> bool:
    """Say whether a halted vCPU should run again."""
    if vcpu.requests & (REQ_NMI | REQ_SMI) or vcpu.smi_pending:
        return True
    if vcpu.nmi_pending and vcpu.ops.nmi_allowed(vcpu, False):  # noqa: FBT003 - for_injection, as in KVM
        return True
    return vcpu.interrupt is not None and svm.svm_interrupt_allowed(vcpu) > 0


# --- user space ------------------------------------------------------------------------------------------------------


@kvm(X86)
def get_vcpu_events(vcpu: Vcpu) -> Events:
    """Report the state of NMIs; queued ones are accepted first."""
    if vcpu.check_request(REQ_NMI):
        vcpu.ops.process_nmi(vcpu)
    pending = kvm_get_nr_pending_nmis(vcpu)
    return _events(vcpu, min(pending, 1) if vcpu.features.boolean_pending else pending)


def _events(vcpu: Vcpu, pending: int) -> Events:
    return Events(vcpu.nmi_injected, pending, vcpu.ops.get_nmi_mask(vcpu), bool(vcpu.vmcb.int_state.interrupt_shadow))


@kvm(X86)
def set_vcpu_events(vcpu: Vcpu, events: Events) -> None:
    """Take over the state of NMIs; those pending are queued and accepted as if they had just arrived."""
    vcpu.nmi_injected = events.injected
    if events.pending is not None:
        vcpu.nmi_pending = 0
        vcpu.nmi_queued = events.pending
        if events.pending:
            vcpu.make_request(REQ_NMI)
    vcpu.ops.set_nmi_mask(vcpu, events.masked)
    svm.svm_set_interrupt_shadow(vcpu, events.shadow)
    vcpu.make_request(REQ_EVENT)
