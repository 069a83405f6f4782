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
DB = 1


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
    if vcpu.ops.uses_vnmi and vcpu.features.has_vnmi:
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
    return bool(vcpu.vmcb.int_ctl.v_nmi_enable) and not vcpu.features.guest_mode


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
    if vcpu.nmi_pending or vcpu.smi_pending or vcpu.interrupt is not None:
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
    if vcpu.features.guest_mode and vcpu.features.exit_on_nmi:
        return False
    return vcpu.ops.get_nmi_mask(vcpu) or bool(vcpu.vmcb.int_state.interrupt_shadow)


def allowed_unless(blocked: Callable[[Vcpu], bool]) -> Callable[[Vcpu, bool], int]:
    """Make ``svm_nmi_allowed`` around a policy's own idea of blocked."""

    @kvm(SVM)
    def svm_nmi_allowed(vcpu: Vcpu, for_injection: bool) -> int:  # noqa: FBT001 - KVM's signature
        """Answer 1: an NMI may be injected; 0: blocked; -EBUSY: not in this entry."""
        if vcpu.features.nested_run_pending:
            return EBUSY
        if blocked(vcpu):
            return 0
        if for_injection and vcpu.features.guest_mode and vcpu.features.exit_on_nmi:
            return EBUSY
        return 1

    return svm_nmi_allowed


svm_nmi_allowed = allowed_unless(svm_nmi_blocked)


@kvm(SVM)
def svm_interrupt_allowed(vcpu: Vcpu) -> int:
    """Answer 1: an interrupt may be injected; 0: blocked."""
    blocked = vcpu.vmcb.int_state.interrupt_shadow or not guest_rflags(vcpu) & IF
    return int(gif_set(vcpu) and not blocked)


@kvm(SVM)
def svm_smi_allowed(vcpu: Vcpu) -> int:
    """Answer 1: SMM may be entered; 0: blocked."""
    return int(gif_set(vcpu) and not vcpu.in_smm)


def guest_rflags(vcpu: Vcpu) -> int:
    """Return the guest's RFLAGS without the TF and RF that KVM borrowed (``svm_get_rflags``)."""
    flags = int(vcpu.vmcb.rflags)
    if vcpu.nmi_singlestep:
        flags &= ~((TF | RF) & ~vcpu.nmi_singlestep_guest_rflags)
    return flags


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
    vcpu.vmcb.event_inj = event_word(EXCEPTION, vector, error)


@kvm(SVM)
def svm_inject_irq(vcpu: Vcpu, *, reinjected: bool) -> None:
    """Write the interrupt to EVENTINJ."""
    del reinjected
    assert vcpu.interrupt_injected is not None
    vcpu.vmcb.event_inj = event_word(INTR, vcpu.interrupt_injected)


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
    if vcpu.ops.get_nmi_mask(vcpu) and not vcpu.awaiting_iret_completion:
        if is_vnmi_enabled(vcpu):
            vcpu.warnings += 1  # nothing exits when the processor clears V_NMI_MASK; KVM warns once
        return  # the IRET intercept will exit
    if vcpu.features.sev_es_guest:
        return
    if not gif_set(vcpu):
        if vcpu.features.vgif:
            vcpu.vmcb.intercept("stgi")
        return  # STGI exits
    vcpu.nmi_singlestep_guest_rflags = guest_rflags(vcpu)
    vcpu.nmi_singlestep = True
    vcpu.vmcb.rflags |= TF | RF


@kvm(SVM)
def disable_nmi_singlestep(vcpu: Vcpu) -> None:
    """Give back the borrowed TF and RF, unless the guest had set them itself."""
    vcpu.nmi_singlestep = False
    vcpu.vmcb.rflags &= ~((TF | RF) & ~vcpu.nmi_singlestep_guest_rflags)


@kvm(SVM)
def svm_enable_irq_window(vcpu: Vcpu) -> None:
    """Ask for an exit when the guest can take an interrupt: a dummy virtual interrupt, intercepted."""
    if not gif_set(vcpu):
        if vcpu.features.vgif:
            vcpu.vmcb.intercept("stgi")
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
        vcpu.make_request(REQ_EVENT)
    if vcpu.immediate_exit:
        vcpu.cpu.arrive_intr(KICK_VECTOR)
    vcpu.cpu.tr_base = int(vcpu.vmcb.tr_base)
    vcpu.flush()
    hardware.vmrun(vcpu.cpu, vcpu.vmcb.pa)
    vcpu.seen = None  # what the processor wrote is its own to tell


@kvm(SVM)
def svm_complete_interrupts(vcpu: Vcpu) -> None:
    """Unmask if the IRET is over, drop what was delivered, queue again what EXITINTINFO says was not."""
    if vcpu.awaiting_iret_completion and int(vcpu.vmcb.rip) != vcpu.nmi_iret_rip:
        vcpu.awaiting_iret_completion = False
        vcpu.nmi_masked = False
        vcpu.make_request(REQ_EVENT)
    requeue(vcpu)


def requeue(vcpu: Vcpu, *, again: bool = True) -> None:
    """Drop the queues and, if ``again``, queue the event that EXITINTINFO says was not delivered."""
    vcpu.nmi_injected, vcpu.exception, vcpu.interrupt_injected = False, None, None
    event = vcpu.vmcb.exit_int_info
    if not event.valid or not again:
        return
    vcpu.make_request(REQ_EVENT)
    kind, vector = kind_of(event), vector_of(event)
    if kind == NMI:
        vcpu.nmi_injected = True
    elif kind == EXCEPTION:
        vcpu.exception = ("injected", vector, event.error_code if event.ev else None)
    elif kind in (INTR, SOFT):
        vcpu.interrupt_injected = vector


@kvm(SVM)
def svm_cancel_injection(vcpu: Vcpu) -> None:
    """Take back what was written to EVENTINJ because the entry is called off."""
    vcpu.vmcb.store("exit_int_info", int(vcpu.vmcb.event_inj))
    vcpu.vmcb.event_inj = 0
    vcpu.ops.complete_interrupts(vcpu)


# --- exit handlers ---------------------------------------------------------------------------------------------------


@kvm(SVM)
def iret_interception(vcpu: Vcpu) -> None:
    """Note that the guest is about to execute IRET: the mask stays until RIP has moved."""
    vcpu.nmi_window_exits += 1
    vcpu.awaiting_iret_completion = True
    if not vcpu.features.sev_es_guest:
        svm_clr_iret_intercept(vcpu)
        vcpu.nmi_iret_rip = int(vcpu.vmcb.rip)
    vcpu.make_request(REQ_EVENT)


@kvm(SVM)
def db_interception(vcpu: Vcpu) -> None:
    """End a borrowed single step; a #DB that is the guest's own goes to the guest."""
    if not vcpu.nmi_singlestep:
        vcpu.exception = ("pending", DB, None)
        vcpu.make_request(REQ_EVENT)
        return
    disable_nmi_singlestep(vcpu)
    vcpu.make_request(REQ_EVENT)


@kvm("svm/nested.c")
def stgi_interception(vcpu: Vcpu) -> None:
    """Carry out the guest's STGI."""
    svm_skip_emulated_instruction(vcpu, 3)
    svm_set_gif(vcpu, True)  # noqa: FBT003 - KVM's signature


@kvm("svm/nested.c")
def clgi_interception(vcpu: Vcpu) -> None:
    """Carry out the guest's CLGI."""
    svm_skip_emulated_instruction(vcpu, 3)
    svm_set_gif(vcpu, False)  # noqa: FBT003 - KVM's signature


@kvm(SVM)
def interrupt_window_interception(vcpu: Vcpu) -> None:
    """End the interrupt window."""
    vcpu.vmcb.update("int_ctl", v_irq=0, v_intr_prio=0)
    vcpu.vmcb.intercept("vintr", on=False)
    vcpu.make_request(REQ_EVENT)


@kvm("x86.c")
def kvm_emulate_halt(vcpu: Vcpu) -> str:
    """Move over HLT; without an in-kernel interrupt controller user space is told."""
    svm_skip_emulated_instruction(vcpu, 1)
    vcpu.halted = True
    return "HLT"


@kvm("x86.c")
def kvm_fast_pio(vcpu: Vcpu) -> str:
    """Move over an OUT and tell user space of it."""
    port = int(vcpu.vmcb.exit_info_1) >> 16
    svm_skip_emulated_instruction(vcpu, 2)
    return f"OUT {port:#x}"


@kvm("x86.c")
def kvm_emulate_hypercall(vcpu: Vcpu) -> str:
    """Move over VMMCALL; the guests of this lab use it to stop, so user space is told."""
    svm_skip_emulated_instruction(vcpu, 3)
    return "VMMCALL"


@kvm("mmu/mmu.c")
def npf_interception(vcpu: Vcpu) -> None:
    """Map the page that was not present and let the guest go on; carry out an access to the local APIC."""
    page = int(vcpu.vmcb.exit_info_2) >> 12
    if page == apic.BASE >> 12:
        emulate.x86_emulate_instruction(vcpu)
    else:
        vcpu.cpu.set_absent(vcpu.cpu.absent - {page})


@kvm(SVM)
def nop_on_interception(vcpu: Vcpu) -> None:
    """Do nothing: the host took the interrupt or NMI when it enabled them again."""
    del vcpu


HANDLERS: dict[int, str | Callable[[Vcpu], str | None]] = {
    0x41: "db_interception",
    0x60: nop_on_interception,
    0x61: nop_on_interception,
    0x62: nop_on_interception,
    0x64: interrupt_window_interception,
    0x74: "iret_interception",
    0x78: kvm_emulate_halt,
    0x7B: kvm_fast_pio,
    0x81: kvm_emulate_hypercall,
    0x84: "stgi_interception",
    0x85: clgi_interception,
    hardware.NPF: npf_interception,
}
"""What handles an exit: a function, or the name of a seam of the policy."""
ENDS = {hardware.SHUTDOWN: "SHUTDOWN", hardware.INVALID: "FAIL_ENTRY", 0x63: "INIT"}


@kvm(SVM)
def svm_handle_exit(vcpu: Vcpu) -> str | None:
    """Call the handler of the exit code; return what user space must see, if anything."""
    code = int(vcpu.vmcb.exit_code)
    vcpu.exits = (*vcpu.exits, code)
    if code in ENDS:
        return ENDS[code]
    handler = HANDLERS.get(code)
    if handler is None:
        return f"UNKNOWN {hardware.exit_name(code)}"
    function = getattr(vcpu.ops, handler) if isinstance(handler, str) else handler
    said = function(vcpu)
    return said if isinstance(said, str) else None
