"""The instruction emulator's part that the lab needs: a guest's access to the local APIC page, carried out by KVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from vnmi_lab.hv.calls import kvm
from vnmi_lab.hv.vcpu import REQ_EVENT, REQ_NMI, REQ_SMI
from vnmi_lab.hw import apic
from vnmi_lab.hw.delivery import TF
from vnmi_lab.hw.insn import Insn, compile_insn, decode

if TYPE_CHECKING:
    from vnmi_lab.hv.vcpu import Vcpu
    from vnmi_lab.hw.cpu import Cpu

APIC_PAGE = apic.BASE >> 12
DB, DR6_BS = 1, 1 << 14


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
    """Write a register of the emulated local APIC; what the guest sends to itself is posted to the vCPU."""
    shorthand, kind = value >> 18 & 3, value >> 8 & 7
    if offset != apic.ICR_LOW or shorthand == apic.OTHERS:
        return
    if kind == apic.NMI:
        vcpu.nmi_queued += 1
        vcpu.make_request(REQ_NMI)
    elif kind == apic.FIXED:
        vcpu.irr |= 1 << (value & 0xFF)
        vcpu.make_request(REQ_EVENT)
    elif kind == apic.SMI:
        vcpu.make_request(REQ_SMI)


@kvm("x86.c")
def x86_emulate_instruction(vcpu: Vcpu) -> None:
    """Carry out the guest's instruction that touched the APIC page."""
    stepping = vcpu.guest_rflags & TF
    rip = int(vcpu.vmcb.rip)
    insn = _decode(vcpu, rip)
    state = _Emulated(vcpu)
    compile_insn(insn)(cast("Cpu", state))
    vcpu.cpu.r[1:4], vcpu.cpu.r[5:] = state.r[1:4], state.r[5:]
    vcpu.vmcb.rax, vcpu.vmcb.rsp, vcpu.vmcb.rflags = state.r[0], state.r[4], state.rflags
    vcpu.vmcb.rip = rip + insn.length
    vcpu.vmcb.update("int_state", interrupt_shadow=0)
    if stepping:
        kvm_vcpu_do_singlestep(vcpu)


@kvm("x86.c")
def kvm_vcpu_do_singlestep(vcpu: Vcpu) -> None:
    """Queue the #DB of a guest that has TF set, after an instruction that KVM carried out for it."""
    vcpu.vmcb.dr6 = int(vcpu.vmcb.dr6) | DR6_BS
    vcpu.exception = ("pending", DB, None)
    vcpu.make_request(REQ_EVENT)


def next_rip(vcpu: Vcpu) -> int:
    """Return the address after the instruction at the guest's RIP."""
    rip = int(vcpu.vmcb.rip)
    return rip + _decode(vcpu, rip).length


def _decode(vcpu: Vcpu, rip: int) -> Insn:
    return decode(lambda offset: vcpu.cpu.memory.read(rip + offset, 1), rip)
