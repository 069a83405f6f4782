"""The instruction emulator's part that the lab needs: a guest's access to the local APIC page, carried out by KVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from vnmi_lab.hv.calls import kvm
from vnmi_lab.hv.vcpu import REQ_NMI
from vnmi_lab.hw import apic
from vnmi_lab.hw.insn import compile_insn, decode

if TYPE_CHECKING:
    from vnmi_lab.hv.vcpu import Vcpu
    from vnmi_lab.hw.cpu import Cpu

APIC_PAGE = apic.BASE >> 12
NMI_TO_SELF = apic.NMI << 8


class _Emulated:
    """What a compiled instruction needs of a processor, with the guest's registers and a trapped APIC page."""

    def __init__(self, vcpu: Vcpu) -> None:
        self.vcpu = vcpu
        self.r = [int(vcpu.vmcb.rax), *vcpu.cpu.r[1:4], int(vcpu.vmcb.rsp), *vcpu.cpu.r[5:]]
        self.rip, self.rflags = int(vcpu.vmcb.rip), int(vcpu.vmcb.rflags)
        self.attention = self.intercepts = self.ss = 0

    def read(self, address: int, size: int) -> int:
        """Read memory; the emulated APIC reads 0."""
        return 0 if address >> 12 == APIC_PAGE else self.vcpu.cpu.memory.read(address, size)

    def write(self, address: int, size: int, value: int) -> None:
        """Write memory, or the emulated APIC."""
        if address >> 12 == APIC_PAGE:
            kvm_lapic_reg_write(self.vcpu, address & 0xFFF, value)
        else:
            self.vcpu.cpu.memory.write(address, size, value)


@kvm("lapic.c")
def kvm_lapic_reg_write(vcpu: Vcpu, offset: int, value: int) -> None:
    """Write a register of the emulated local APIC; an NMI to itself is posted to the vCPU."""
    if offset == apic.ICR_LOW and value >> 8 & 7 == apic.NMI and value >> 18 & 3 != apic.OTHERS:
        vcpu.nmi_queued += 1
        vcpu.make_request(REQ_NMI)


@kvm("x86.c")
def x86_emulate_instruction(vcpu: Vcpu) -> None:
    """Carry out the guest's instruction that touched the APIC page."""
    rip, memory = int(vcpu.vmcb.rip), vcpu.cpu.memory
    insn = decode(lambda offset: memory.read(rip + offset, 1), rip)
    state = _Emulated(vcpu)
    compile_insn(insn)(cast("Cpu", state))
    vcpu.cpu.r[1:4], vcpu.cpu.r[5:] = state.r[1:4], state.r[5:]
    vcpu.vmcb.rax, vcpu.vmcb.rsp, vcpu.vmcb.rflags = state.r[0], state.r[4], state.rflags
    vcpu.vmcb.rip = rip + insn.length
    vcpu.vmcb.update("int_state", interrupt_shadow=0)
