"""System management mode, which KVM carries out in software: what it does to the NMI mask, and the way in and out.

The lab's SMM handler stands at ``SMM_ENTRY`` in guest memory, in 64-bit code like everything here, and ends with RSM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vnmi_lab.hv.calls import kvm
from vnmi_lab.hv.vcpu import REQ_EVENT

if TYPE_CHECKING:
    from vnmi_lab.hv.vcpu import Vcpu

SVM = "svm/svm.c"
RSM, SMM_ENTRY = 0xAA0F, 0x38000
"""RSM's two bytes; SMBASE at reset plus 8000h. Where nothing stands there, the handler is an RSM."""


@kvm("smm.c")
def enter_smm(vcpu: Vcpu) -> None:
    """Enter SMM: NMIs are masked there; remember whether they were masked before."""
    vcpu.in_smm = True
    if vcpu.ops.get_nmi_mask(vcpu):
        vcpu.smm_inside_nmi = True
    else:
        vcpu.ops.set_nmi_mask(vcpu, True)  # noqa: FBT003 - masked, as in KVM
    svm_enter_smm(vcpu)


@kvm("smm.c")
def emulator_leave_smm(vcpu: Vcpu) -> None:
    """Carry out RSM: go back, and unmask NMIs unless they were masked before SMM."""
    if not vcpu.smm_inside_nmi:
        vcpu.ops.set_nmi_mask(vcpu, False)  # noqa: FBT003 - masked, as in KVM
    vcpu.in_smm = vcpu.smm_inside_nmi = False
    svm_leave_smm(vcpu)
    vcpu.make_request(REQ_EVENT)


@kvm(SVM)
def svm_enter_smm(vcpu: Vcpu) -> None:
    """Put aside where the guest is, and go to the SMM handler with interrupts off."""
    vmcb = vcpu.vmcb
    vcpu.smm_saved = (int(vmcb.rip), int(vmcb.rsp), vcpu.guest_rflags, int(vmcb.int_state))
    if not vcpu.cpu.memory.read(SMM_ENTRY, 2):
        vcpu.cpu.memory.write(SMM_ENTRY, 2, RSM)
    vmcb.rip, vmcb.rflags, vmcb.int_state = SMM_ENTRY, 2, 0
    vmcb.intercept("exc_6")


@kvm(SVM)
def svm_leave_smm(vcpu: Vcpu) -> None:
    """Go back to where the guest was."""
    assert vcpu.smm_saved is not None
    vmcb = vcpu.vmcb
    vmcb.rip, vmcb.rsp, vmcb.rflags, vmcb.int_state = vcpu.smm_saved
    vcpu.smm_saved = None
    vmcb.intercept("exc_6", on=False)
