"""What KVM does alike on Intel and AMD: requests, what is injected in which order, events for user space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vnmi_lab.hv import exits, smm, svm
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
def kvm_check_and_inject_events(vcpu: Vcpu) -> str | None:
    """Inject at most one event into this entry: what was interrupted first, then SMI, NMI, IRQ.

    Returns what user space must see: only that L2 ended, which is where this model ends.
    """
    vcpu.immediate_exit = False
    done: int | str = svm.svm_check_nested_events(vcpu) if vcpu.guest_mode else 0
    if isinstance(done, str):
        return done
    if done != EBUSY:
        done = inject(vcpu)
    vcpu.immediate_exit = done == EBUSY
    return None


def inject(vcpu: Vcpu) -> int:
    """Put back what was interrupted, or offer the entry to an exception, SMI, NMI and IRQ; -EBUSY when one must wait.

    An exception that is pending goes even before an event that was interrupted: it is a consequence of it.
    """
    reinject(vcpu)
    can_inject = not svm.needs_reinjection(vcpu)
    if vcpu.exception is not None and vcpu.exception[0] == "pending":
        vcpu.exception = ("injected", *vcpu.exception[1:])
        svm.svm_inject_exception(vcpu)
        can_inject = False
    for offer in (offer_smi, offer_nmi, offer_irq):
        done = offer(vcpu, can_inject=can_inject)
        if done == EBUSY:
            return done
        can_inject = can_inject and not done
    return 0


def reinject(vcpu: Vcpu) -> None:
    """Put back an event whose delivery was interrupted."""
    if vcpu.exception is not None:
        if vcpu.exception[0] == "injected":
            svm.svm_inject_exception(vcpu)
    elif vcpu.nmi_injected:
        vcpu.ops.inject_nmi(vcpu)
    elif vcpu.interrupt_injected is not None:
        svm.svm_inject_irq(vcpu)


def offer_smi(vcpu: Vcpu, *, can_inject: bool) -> int:
    """Enter SMM if an SMI waits and may, else ask for a window; return whether it did, or -EBUSY."""
    if not vcpu.smi_pending:
        return 0
    allowed = svm.svm_smi_allowed(vcpu) if can_inject else EBUSY
    if allowed > 0:
        vcpu.smi_pending = False
        smm.enter_smm(vcpu)
    elif allowed == 0:
        svm.svm_enable_smi_window(vcpu)
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
    """Inject an interrupt if one waits and may; ask for a window if one still waits; return whether it did, or -EBUSY.

    The highest vector of the local APIC goes first; there is no in-service register and no EOI.
    """
    if not vcpu.irr:
        return 0
    allowed = svm.svm_interrupt_allowed(vcpu) if can_inject else EBUSY
    if allowed < 0:
        return allowed
    if allowed:
        vector = vcpu.irr.bit_length() - 1
        vcpu.irr ^= 1 << vector
        vcpu.interrupt_injected, vcpu.interrupt_soft = vector, False
        svm.svm_inject_irq(vcpu)
    if vcpu.irr:
        svm.svm_enable_irq_window(vcpu)
    return allowed


@kvm(X86)
def vcpu_enter_guest(vcpu: Vcpu) -> str | None:
    """Do what was requested, inject what may be, and enter the guest; return what user space must see instead."""
    if vcpu.check_request(REQ_SMI):
        vcpu.smi_pending = True
        vcpu.make_request(REQ_EVENT)
    if vcpu.check_request(REQ_NMI):
        vcpu.ops.process_nmi(vcpu)
    vcpu.immediate_exit = False
    if vcpu.check_request(REQ_EVENT):
        said = kvm_check_and_inject_events(vcpu)
        if said is not None:
            return said
    if vcpu.immediate_exit:
        vcpu.make_request(REQ_EVENT)
    if vcpu.signal:
        svm.svm_cancel_injection(vcpu)
        return kvm_vcpu_exit_request(vcpu)
    svm.svm_vcpu_run(vcpu)
    return None


@kvm(X86)
def kvm_vcpu_exit_request(vcpu: Vcpu) -> str:
    """Call off the entry for a signal to the vCPU's thread: KVM_RUN returns with KVM_EXIT_INTR."""
    vcpu.signal = False
    return "INTR"


@kvm(X86)
def after_exit(vcpu: Vcpu) -> str | None:
    """Complete what was injected, then handle the exit; return what user space must see, if anything."""
    vcpu.nested_run_pending = False  # the VMRUN that L1 asked for has happened
    vcpu.ops.complete_interrupts(vcpu)
    return exits.svm_handle_exit(vcpu)


@kvm(X86)
def kvm_vcpu_has_events(vcpu: Vcpu) -> bool:
    """Say whether a halted vCPU should run again: it looks at ``nmi_pending``, not at V_NMI."""
    if vcpu.exception is not None or vcpu.requests & (REQ_NMI | REQ_SMI):
        return True
    if vcpu.nmi_pending and vcpu.ops.nmi_allowed(vcpu, False):  # noqa: FBT003 - for_injection, as in KVM
        return True
    if vcpu.smi_pending and svm.svm_smi_allowed(vcpu):
        return True
    return bool(vcpu.irr) and svm.svm_interrupt_allowed(vcpu) > 0


# --- user space ------------------------------------------------------------------------------------------------------


@kvm(X86)
def get_vcpu_events(vcpu: Vcpu) -> Events:
    """Report the state of NMIs; queued ones are accepted first, and KVM_REQ_NMI stays up."""
    vcpu.ops.process_nmi(vcpu)
    pending = kvm_get_nr_pending_nmis(vcpu)
    return _events(vcpu, min(pending, 1) if vcpu.features.boolean_pending else pending)


def _events(vcpu: Vcpu, pending: int) -> Events:
    return Events(vcpu.nmi_injected, pending, vcpu.ops.get_nmi_mask(vcpu), bool(vcpu.vmcb.int_state.interrupt_shadow))


@kvm(X86)
def set_vcpu_events(vcpu: Vcpu, events: Events) -> None:
    """Take over the state of NMIs; those pending are queued and accepted as if they had just arrived."""
    vcpu.nmi_injected = events.injected
    if vcpu.features.boolean_pending:
        take_as_it_is(vcpu, events)
    elif events.pending is not None:
        vcpu.nmi_pending = 0
        vcpu.nmi_queued = events.pending
        if events.pending:
            vcpu.make_request(REQ_NMI)
    restore_mask(vcpu, events)


def take_as_it_is(vcpu: Vcpu, events: Events) -> None:
    """Set what is pending without looking at a limit, as kernels up to v6.3 did."""
    if events.pending is not None:
        vcpu.nmi_pending = events.pending


def restore_mask(vcpu: Vcpu, events: Events) -> None:
    """Do the rest of KVM_SET_VCPU_EVENTS: the mask and the shadow."""
    vcpu.ops.set_nmi_mask(vcpu, events.masked)
    svm.svm_set_interrupt_shadow(vcpu, events.shadow)
    vcpu.make_request(REQ_EVENT)
