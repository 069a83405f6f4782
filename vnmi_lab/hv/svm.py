"""The part of KVM for AMD: ``svm_*``, the exit handlers, and the software NMI mask with its window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vnmi_lab.hv import emulate
from vnmi_lab.hv.calls import kvm
from vnmi_lab.hv.ops import EBUSY
from vnmi_lab.hv.vcpu import REQ_EVENT
from vnmi_lab.hw import apic
from vnmi_lab.hw import svm as hardware
from vnmi_lab.hw.delivery import EXCEPTION, IF, INTR, NMI, RF, SOFT, TF, VALID, event_word, kind_of, vector_of
from vnmi_lab.hw.memory import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.hv.vcpu import Vcpu

SVM = "svm/svm.c"
EVTINJ_NMI = VALID | NMI << 8
"""SVM_EVTINJ_VALID | SVM_EVTINJ_TYPE_NMI; KVM leaves the vector 0."""
KICK_VECTOR = 0xFD
"""The interrupt with which KVM kicks a running vCPU (RESCHEDULE_VECTOR)."""
IOPM_PA = (1 << 32) + 0x10_0000
CLEAN_ALL = 0xFFF
INTERCEPTS = ("intr", "nmi", "smi", "init", "hlt", "ioio_prot", "shutdown", "vmrun", "vmmcall", "exc_1")
VC = 29
SOFT_EXCEPTIONS = (3, 4)
"""#BP and #OF: KVM injects them like INT n."""
NESTED_EXIT = "NESTED_VMEXIT NMI"
"""What user space is told where L2 ends."""


# --- the VMCB --------------------------------------------------------------------------------------------------------


@kvm(SVM)
def init_vmcb(vcpu: Vcpu) -> None:
    """Set the intercepts KVM needs, and virtual GIF and virtual NMIs where the processor has them."""
    for name in INTERCEPTS:
        vcpu.vmcb.intercept(name)
    vcpu.cpu.memory.write_bytes(IOPM_PA, b"\xff" * 3 * PAGE)
    vcpu.vmcb.iopm_base_pa = IOPM_PA
    vcpu.vmcb.update("int_ctl", v_intr_masking=1)
    vcpu.vmcb.update("nested_ctl", np_enable=1)
    vcpu.cpu.set_absent(vcpu.cpu.absent | {apic.BASE >> 12})
    if vcpu.features.vgif:
        vcpu.vmcb.update("int_ctl", v_gif_enable=1, v_gif=1)
    else:
        for name in ("stgi", "clgi"):
            vcpu.vmcb.intercept(name)
    if vcpu.ops.uses_vnmi and vcpu.features.has_vnmi and not vcpu.guest_mode:  # vmcb02 has no virtual NMIs of L1's
        vcpu.vmcb.update("int_ctl", v_nmi_enable=1)


def vmcb_mark_dirty(vcpu: Vcpu) -> None:
    """Clear the clean bit that covers int_ctl (VMCB_INTR)."""
    vcpu.vmcb.update("clean", intr=0)


@kvm("svm/svm.h")
def vmcb_mark_all_clean(vcpu: Vcpu) -> None:
    """Set every clean bit: the processor may keep what it loaded until KVM changes it."""
    vcpu.vmcb.store("clean", CLEAN_ALL)


def is_vnmi_enabled(vcpu: Vcpu) -> bool:
    """Return whether virtual NMIs are KVM's to use now: not while a nested guest runs."""
    return bool(vcpu.vmcb.int_ctl.v_nmi_enable) and not vcpu.guest_mode


def write_vnmi(vcpu: Vcpu, **bits: int) -> None:
    """Change bits of int_ctl; whether the processor is told is the policy's ``mark_vmcb_dirty``."""
    vcpu.vmcb.store("int_ctl", vcpu.vmcb.int_ctl.replace(**bits))
    vcpu.ops.mark_vmcb_dirty(vcpu)


# --- GIF and shadow --------------------------------------------------------------------------------------------------


def gif_set(vcpu: Vcpu) -> bool:
    """Return the guest's GIF: V_GIF with virtual GIF, KVM's own flag without."""
    return bool(vcpu.vmcb.int_ctl.v_gif) if vcpu.features.vgif else vcpu.soft_gif


@kvm(SVM)
def svm_set_gif(vcpu: Vcpu, value: bool) -> None:  # noqa: FBT001 - KVM's signature
    """Set the guest's GIF; when it opens, drop the STGI intercept and look at what waits."""
    if vcpu.features.vgif:
        vcpu.vmcb.update("int_ctl", v_gif=int(value))
    else:
        vcpu.soft_gif = value
    if not value:
        return
    if vcpu.features.vgif:
        vcpu.vmcb.intercept("stgi", on=False)
    if vcpu.nmi_pending or vcpu.smi_pending or vcpu.irr:
        vcpu.make_request(REQ_EVENT)


@kvm(SVM)
def svm_set_interrupt_shadow(vcpu: Vcpu, shadow: bool) -> None:  # noqa: FBT001 - KVM's signature
    """Open or close the guest's interrupt shadow."""
    vcpu.vmcb.update("int_state", interrupt_shadow=int(shadow))


@kvm(SVM)
def svm_skip_emulated_instruction(vcpu: Vcpu, length: int) -> None:
    """Move RIP over an instruction that KVM carried out; its shadow ends with it."""
    vcpu.vmcb.rip = vcpu.vmcb.next_rip or vcpu.vmcb.rip + length
    svm_set_interrupt_shadow(vcpu, False)  # noqa: FBT003 - KVM's signature


# --- may it be injected? ---------------------------------------------------------------------------------------------


@kvm(SVM)
def svm_nmi_blocked(vcpu: Vcpu) -> bool:
    """Say whether the guest cannot take an NMI now: GIF, the mask, or a shadow."""
    if not gif_set(vcpu):
        return True
    if vcpu.guest_mode and vcpu.features.exit_on_nmi:
        return False  # not the guest, but its L1 will see it
    return vcpu.ops.get_nmi_mask(vcpu) or bool(vcpu.vmcb.int_state.interrupt_shadow)


def allowed_unless(blocked: Callable[[Vcpu], bool]) -> Callable[[Vcpu, bool], int]:
    """Make ``svm_nmi_allowed`` around a policy's own idea of blocked."""

    @kvm(SVM)
    def svm_nmi_allowed(vcpu: Vcpu, for_injection: bool) -> int:  # noqa: FBT001 - KVM's signature
        """Answer 1: an NMI may be injected; 0: blocked; -EBUSY: not in this entry."""
        if vcpu.nested_run_pending:
            return EBUSY
        if blocked(vcpu):
            return 0
        if for_injection and vcpu.guest_mode and vcpu.features.exit_on_nmi:
            return EBUSY
        return 1

    return svm_nmi_allowed


svm_nmi_allowed = allowed_unless(svm_nmi_blocked)


@kvm(SVM)
def svm_interrupt_allowed(vcpu: Vcpu) -> int:
    """Answer 1: an interrupt may be injected; 0: blocked; -EBUSY: not in this entry."""
    if vcpu.nested_run_pending:
        return EBUSY
    blocked = vcpu.vmcb.int_state.interrupt_shadow or not vcpu.guest_rflags & IF
    return int(gif_set(vcpu) and not blocked)


@kvm(SVM)
def svm_smi_allowed(vcpu: Vcpu) -> int:
    """Answer 1: SMM may be entered; 0: blocked; -EBUSY: not in this entry."""
    if vcpu.nested_run_pending:
        return EBUSY
    return int(gif_set(vcpu) and not vcpu.in_smm)


# --- nested, as far as the NMI goes ----------------------------------------------------------------------------------


@kvm("svm/nested.c")
def svm_check_nested_events(vcpu: Vcpu) -> int | str:
    """Leave L2 for an NMI that L1 intercepts; -EBUSY while L1's VMRUN or an event on its way comes first.

    The guest of this lab is the L2, so the machine stops there: what L1 does then is not modelled.
    """
    if not vcpu.nmi_pending or svm_nmi_blocked(vcpu):
        return 0
    if vcpu.nested_run_pending or needs_reinjection(vcpu):
        return EBUSY
    if not vcpu.features.exit_on_nmi:
        return 0
    vcpu.guest_mode = False
    svm_set_gif(vcpu, False)  # noqa: FBT003 - KVM's signature
    return NESTED_EXIT


def needs_reinjection(vcpu: Vcpu) -> bool:
    """Say whether an event is on its way whose delivery is not confirmed (``kvm_event_needs_reinjection``)."""
    exception = vcpu.exception is not None and vcpu.exception[0] == "injected"
    return exception or vcpu.nmi_injected or vcpu.interrupt_injected is not None


# --- injecting -------------------------------------------------------------------------------------------------------


@kvm(SVM)
def svm_inject_nmi(vcpu: Vcpu) -> None:
    """Write the NMI to EVENTINJ; without virtual NMIs remember that one is in service and wait for its IRET."""
    vcpu.vmcb.event_inj = EVTINJ_NMI
    if vcpu.nmi_l1_to_l2:
        return
    if not is_vnmi_enabled(vcpu):
        vcpu.nmi_masked = True
        svm_set_iret_intercept(vcpu)
    vcpu.nmi_injections += 1


@kvm(SVM)
def svm_inject_exception(vcpu: Vcpu) -> None:
    """Write the queued exception to EVENTINJ."""
    assert vcpu.exception is not None
    _how, vector, error = vcpu.exception
    if vector in SOFT_EXCEPTIONS:
        svm_update_soft_interrupt_rip(vcpu)
    vcpu.vmcb.event_inj = event_word(EXCEPTION, vector, error)


@kvm(SVM)
def svm_inject_irq(vcpu: Vcpu) -> None:
    """Write the interrupt to EVENTINJ; an INT n as what it is, so that the guest goes on behind it."""
    assert vcpu.interrupt_injected is not None
    if vcpu.interrupt_soft:
        svm_update_soft_interrupt_rip(vcpu)
    vcpu.vmcb.event_inj = event_word(SOFT if vcpu.interrupt_soft else INTR, vcpu.interrupt_injected)


@kvm(SVM)
def svm_update_soft_interrupt_rip(vcpu: Vcpu) -> None:
    """Say where the guest goes on after INT n or INT3: in next_rip, or in RIP for a processor that ignores next_rip."""
    old = int(vcpu.vmcb.rip)
    after = emulate.next_rip(vcpu)
    vcpu.soft_int_injected, vcpu.soft_int_old_rip, vcpu.soft_int_next_rip = True, old, after
    if vcpu.cpu.switches.injected_soft_uses_nrip:
        vcpu.vmcb.next_rip = after
    else:
        vcpu.vmcb.rip = after
        svm_set_interrupt_shadow(vcpu, False)  # noqa: FBT003 - KVM's signature


@kvm(SVM)
def svm_complete_soft_interrupt(vcpu: Vcpu) -> None:
    """Move RIP back onto an INT n or INT3 whose delivery was interrupted again."""
    if not vcpu.cpu.switches.injected_soft_uses_nrip and int(vcpu.vmcb.rip) == vcpu.soft_int_next_rip:
        vcpu.vmcb.rip = vcpu.soft_int_old_rip


@kvm(SVM)
def svm_set_iret_intercept(vcpu: Vcpu) -> None:
    """Intercept IRET, except in an SEV-ES guest, where it cannot be."""
    if not vcpu.features.sev_es_guest:
        vcpu.vmcb.intercept("iret")


@kvm(SVM)
def svm_clr_iret_intercept(vcpu: Vcpu) -> None:
    """Stop intercepting IRET."""
    if not vcpu.features.sev_es_guest:
        vcpu.vmcb.intercept("iret", on=False)


# --- the mask and the window -----------------------------------------------------------------------------------------


@kvm(SVM)
def svm_get_nmi_mask(vcpu: Vcpu) -> bool:
    """Say whether an NMI is in service: V_NMI_MASK, or KVM's own flag without virtual NMIs."""
    if is_vnmi_enabled(vcpu):
        return bool(vcpu.vmcb.int_ctl.v_nmi_blocking)
    return vcpu.nmi_masked


@kvm(SVM)
def svm_set_nmi_mask(vcpu: Vcpu, masked: bool) -> None:  # noqa: FBT001 - KVM's signature
    """Mask or unmask NMIs: V_NMI_MASK, or KVM's own flag and the IRET intercept without virtual NMIs."""
    if is_vnmi_enabled(vcpu):
        write_vnmi(vcpu, v_nmi_blocking=int(masked))
        return
    vcpu.nmi_masked = masked
    if masked:
        svm_set_iret_intercept(vcpu)
    else:
        svm_clr_iret_intercept(vcpu)


@kvm(SVM)
def svm_is_vnmi_pending(vcpu: Vcpu) -> bool:
    """Say whether V_NMI holds an NMI."""
    return is_vnmi_enabled(vcpu) and bool(vcpu.vmcb.int_ctl.v_nmi_pending)


@kvm(SVM)
def svm_set_vnmi_pending(vcpu: Vcpu) -> bool:
    """Put an NMI into V_NMI; False without virtual NMIs or when V_NMI is taken."""
    if not is_vnmi_enabled(vcpu) or vcpu.vmcb.int_ctl.v_nmi_pending:
        return False
    write_vnmi(vcpu, v_nmi_pending=1)
    vcpu.nmi_injections += 1  # the delivery itself is invisible, so it is counted here
    return True


@kvm(SVM)
def svm_enable_nmi_window(vcpu: Vcpu) -> None:
    """Arrange an exit for the moment an NMI may be injected: the IRET, the STGI, or one instruction from now."""
    masked = vcpu.ops.get_nmi_mask(vcpu)
    if masked and is_vnmi_enabled(vcpu):
        vcpu.warnings += 1  # nothing exits when the processor clears V_NMI_MASK; KVM warns once (b4bd55646747)
    open_window(vcpu, masked=masked)


def open_window(vcpu: Vcpu, *, masked: bool) -> None:
    """Do what ``svm_enable_nmi_window`` does: wait for the IRET, for the STGI, or for one instruction."""
    if masked and not vcpu.awaiting_iret_completion:
        return  # the IRET intercept will exit
    if vcpu.features.sev_es_guest:
        return  # its flags cannot be written; it says NMI_COMPLETE
    if not gif_set(vcpu):
        intercept_stgi(vcpu)
        return
    borrow_step(vcpu)


def borrow_step(vcpu: Vcpu) -> None:
    """Borrow TF and RF: the guest exits behind its next instruction, and ``disable_nmi_singlestep`` gives them back."""
    vcpu.nmi_singlestep_guest_rflags = vcpu.guest_rflags
    vcpu.nmi_singlestep = True
    vcpu.vmcb.rflags |= TF | RF


@kvm(SVM)
def disable_nmi_singlestep(vcpu: Vcpu) -> None:
    """Give back the borrowed TF and RF, unless the guest had set them itself."""
    vcpu.nmi_singlestep = False
    vcpu.vmcb.rflags &= ~((TF | RF) & ~vcpu.nmi_singlestep_guest_rflags)


def intercept_stgi(vcpu: Vcpu) -> None:
    """See to it that STGI exits: without virtual GIF it does anyhow."""
    if vcpu.features.vgif:
        vcpu.vmcb.intercept("stgi")


@kvm(SVM)
def svm_enable_smi_window(vcpu: Vcpu) -> None:
    """Ask for an exit when GIF opens; in SMM the RSM exits."""
    if not gif_set(vcpu):
        intercept_stgi(vcpu)


@kvm(SVM)
def svm_enable_irq_window(vcpu: Vcpu) -> None:
    """Ask for an exit when the guest can take an interrupt: a dummy virtual interrupt, intercepted.

    It waits for virtual GIF by itself. Without virtual GIF the STGI exits, and this is asked again.
    """
    if not gif_set(vcpu) and not vcpu.features.vgif:
        return
    vcpu.vmcb.update("int_ctl", v_irq=1, v_intr_prio=0xF)
    vcpu.vmcb.intercept("vintr")


# --- running ---------------------------------------------------------------------------------------------------------


@kvm(SVM)
def svm_vcpu_run(vcpu: Vcpu) -> None:
    """Enter the guest with VMRUN."""
    if vcpu.nmi_singlestep and vcpu.vmcb.event_inj.valid:
        disable_nmi_singlestep(vcpu)  # or the event would push the borrowed TF
        vcpu.immediate_exit = True
    if vcpu.immediate_exit:
        vcpu.cpu.arrive_intr(KICK_VECTOR)
    vcpu.cpu.tr_base = int(vcpu.vmcb.tr_base)
    vcpu.flush()
    vcpu.cpu.change("R-CLGI", "gif", 0)  # KVM brackets VMRUN with CLGI and STGI
    hardware.vmrun(vcpu.cpu, vcpu.vmcb.pa)
    vcpu.seen = None  # what the processor wrote is its own to tell


@kvm(SVM)
def svm_complete_interrupts(vcpu: Vcpu) -> None:
    """Unmask if the IRET is over, drop what was delivered, queue again what EXITINTINFO says was not."""
    complete_iret(vcpu)
    requeue(vcpu)


def complete_iret(vcpu: Vcpu) -> None:
    """Unmask once RIP has left the IRET that exited; RIP of an SEV-ES guest cannot be read, so at any exit."""
    left = vcpu.features.sev_es_guest or int(vcpu.vmcb.rip) != vcpu.nmi_iret_rip
    if vcpu.awaiting_iret_completion and left:
        vcpu.awaiting_iret_completion = False
        vcpu.nmi_masked = False
        vcpu.make_request(REQ_EVENT)


def requeue(vcpu: Vcpu, *, again: bool = True) -> None:
    """Drop the queues and, if ``again``, queue the event that EXITINTINFO says was not delivered."""
    l1_to_l2, soft_int_injected = vcpu.nmi_l1_to_l2, vcpu.soft_int_injected
    vcpu.nmi_injected, vcpu.exception, vcpu.interrupt_injected = False, None, None
    vcpu.nmi_l1_to_l2 = vcpu.soft_int_injected = vcpu.interrupt_soft = False
    event = vcpu.vmcb.exit_int_info
    if not event.valid or not again:
        return
    vcpu.make_request(REQ_EVENT)
    kind, vector = kind_of(event), vector_of(event)
    soft = kind == SOFT or (kind == EXCEPTION and vector in SOFT_EXCEPTIONS)
    if soft and soft_int_injected:
        svm_complete_soft_interrupt(vcpu)
    if kind == NMI:
        vcpu.nmi_injected, vcpu.nmi_l1_to_l2 = True, l1_to_l2
    elif kind == EXCEPTION and vector != VC:
        vcpu.exception = ("injected", vector, event.error_code if event.ev else None)
    elif kind in (INTR, SOFT):
        vcpu.interrupt_injected, vcpu.interrupt_soft = vector, soft


@kvm(SVM)
def svm_cancel_injection(vcpu: Vcpu) -> None:
    """Take back what was written to EVENTINJ because the entry is called off."""
    vcpu.vmcb.store("exit_int_info", int(vcpu.vmcb.event_inj))
    vcpu.vmcb.event_inj = 0
    vcpu.ops.complete_interrupts(vcpu)
