"""What KVM does after #VMEXIT: the handlers, by exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vnmi_lab.hv import emulate, smm, svm
from vnmi_lab.hv.calls import kvm
from vnmi_lab.hv.svm import SVM
from vnmi_lab.hv.vcpu import REQ_EVENT
from vnmi_lab.hw import apic
from vnmi_lab.hw import svm as hardware
from vnmi_lab.hw.delivery import TF

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.hv.vcpu import Vcpu

DB, UD = 1, 6
NMI_COMPLETE = 0x80000003
"""SVM_VMGEXIT_NMI_COMPLETE."""


@kvm("x86.c")
def kvm_skip_emulated_instruction(vcpu: Vcpu, length: int) -> None:
    """Move RIP over an instruction that KVM carried out, and single-step for a guest that has TF set."""
    stepping = vcpu.guest_rflags & TF
    svm.svm_skip_emulated_instruction(vcpu, length)
    if stepping:
        emulate.kvm_vcpu_do_singlestep(vcpu)


@kvm(SVM)
def iret_interception(vcpu: Vcpu) -> None:
    """Note that the guest is about to execute IRET: the mask stays until RIP has moved."""
    vcpu.nmi_window_exits += 1
    vcpu.awaiting_iret_completion = True
    if not vcpu.features.sev_es_guest:
        svm.svm_clr_iret_intercept(vcpu)
        vcpu.nmi_iret_rip = int(vcpu.vmcb.rip)
    vcpu.make_request(REQ_EVENT)


@kvm("svm/sev.c")
def sev_es_nmi_complete(vcpu: Vcpu) -> None:
    """Unmask at once: an SEV-ES guest says itself when its NMI handler is over (389fbbec261b, v6.6)."""
    vcpu.nmi_window_exits += 1
    vcpu.nmi_masked = False
    vcpu.make_request(REQ_EVENT)


@kvm("svm/sev.c")
def sev_es_nmi_complete_before_6_6(vcpu: Vcpu) -> None:
    """Take NMI_COMPLETE for an IRET exit: NMIs are unmasked at the next exit, whatever it is."""
    iret_interception(vcpu)


@kvm(SVM)
def db_interception(vcpu: Vcpu) -> None:
    """End a borrowed single step; a #DB that is the guest's own goes to the guest."""
    if not vcpu.nmi_singlestep:
        vcpu.exception = ("pending", DB, None)
        vcpu.make_request(REQ_EVENT)
        return
    svm.disable_nmi_singlestep(vcpu)
    vcpu.make_request(REQ_EVENT)


@kvm("svm/nested.c")
def stgi_interception(vcpu: Vcpu) -> None:
    """Carry out the guest's STGI."""
    kvm_skip_emulated_instruction(vcpu, 3)
    svm.svm_set_gif(vcpu, True)  # noqa: FBT003 - KVM's signature


@kvm("svm/nested.c")
def clgi_interception(vcpu: Vcpu) -> None:
    """Carry out the guest's CLGI."""
    kvm_skip_emulated_instruction(vcpu, 3)
    svm.svm_set_gif(vcpu, False)  # noqa: FBT003 - KVM's signature


@kvm(SVM)
def interrupt_window_interception(vcpu: Vcpu) -> None:
    """End the interrupt window."""
    vcpu.vmcb.update("int_ctl", v_irq=0, v_intr_prio=0)
    vcpu.vmcb.intercept("vintr", on=False)
    vcpu.make_request(REQ_EVENT)


@kvm("x86.c")
def kvm_emulate_halt(vcpu: Vcpu) -> str:
    """Move over HLT; without an in-kernel interrupt controller user space is told."""
    kvm_skip_emulated_instruction(vcpu, 1)
    vcpu.halted = True
    return "HLT"


@kvm("x86.c")
def kvm_fast_pio(vcpu: Vcpu) -> str:
    """Move over an OUT or IN and tell user space of it; an IN reads nothing."""
    info = int(vcpu.vmcb.exit_info_1)
    kvm_skip_emulated_instruction(vcpu, 2)
    return f"{'IN' if info & 1 else 'OUT'} {info >> 16:#x}"


@kvm("x86.c")
def kvm_emulate_hypercall(vcpu: Vcpu) -> str | None:
    """Move over VMMCALL; the guests of this lab use it to stop, so user space is told.

    In an SEV-ES guest it stands for VMGEXIT when RAX is SVM_VMGEXIT_NMI_COMPLETE.
    """
    kvm_skip_emulated_instruction(vcpu, 3)
    if vcpu.features.sev_es_guest and int(vcpu.vmcb.rax) == NMI_COMPLETE:
        vcpu.ops.sev_es_nmi_complete(vcpu)
        return None
    return "VMMCALL"


@kvm(SVM)
def ud_interception(vcpu: Vcpu) -> None:
    """Carry out RSM, which the lab's processor does not know; any other #UD is the guest's."""
    if vcpu.cpu.memory.read(int(vcpu.vmcb.rip), 2) == smm.RSM:
        smm.emulator_leave_smm(vcpu)
        return
    vcpu.exception = ("pending", UD, None)
    vcpu.make_request(REQ_EVENT)


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
    0x46: ud_interception,
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
