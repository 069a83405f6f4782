"""What jumps, calls and loops do; made like `effects`."""

from __future__ import annotations

from typing import Final

from vnmi_lab.hw.access import Decoded, Effect, Op, Processor, load
from vnmi_lab.hw.alu import CF, OF, PF, SF, ZF
from vnmi_lab.hw.operands import M64, RSP, Imm, Target


def _target(insn: Decoded) -> int:
    operand = insn.operands[0]
    if not isinstance(operand, Target):
        raise TypeError(insn.text)
    return operand.address


def jmp(insn: Decoded) -> Op:
    """Jump to a fixed address or through an operand."""
    if isinstance(insn.operands[0], Target):
        return _go(_target(insn))
    read = load(insn.operands[0], insn.next_rip)

    def op(cpu: Processor) -> None:
        cpu.rip = read(cpu)

    return op


def _go(target: int) -> Op:
    def op(cpu: Processor) -> None:
        cpu.rip = target

    return op


def call(insn: Decoded) -> Op:
    """Push the address of the next instruction and jump."""
    next_rip = insn.next_rip
    operand = insn.operands[0]
    read = load(Imm(operand.address, 8) if isinstance(operand, Target) else operand, next_rip)

    def op(cpu: Processor) -> None:
        target = read(cpu)
        rsp = cpu.r[RSP] - 8 & M64
        cpu.write(rsp, 8, next_rip)
        cpu.r[RSP] = rsp
        cpu.rip = target

    return op


def ret(_insn: Decoded) -> Op:
    """Pop RIP."""

    def op(cpu: Processor) -> None:
        rsp = cpu.r[RSP]
        cpu.rip = cpu.read(rsp, 8)
        cpu.r[RSP] = rsp + 8 & M64

    return op


_ANY: Final = {0: OF, 2: CF, 4: ZF, 6: CF | ZF, 8: SF, 10: PF}
"""Condition codes true when any of these flags is set (APM volume 3, section 1.2.7); 12 and 14 compare SF and OF."""
_LESS_EQUAL: Final = 14
_OF_TO_SF: Final = 4
"""OF shifted down by this lands on SF."""


def jcc(condition: int) -> Effect:
    """Jump when a condition code holds; an odd code is the negation of the even one below it."""

    def make(insn: Decoded) -> Op:
        taken, fallen = _target(insn), insn.next_rip
        if condition & 1:
            taken, fallen = fallen, taken
        even = condition & ~1
        if even in _ANY:
            return _branch_any(_ANY[even], taken, fallen)
        return _branch_less(ZF if even == _LESS_EQUAL else 0, taken, fallen)

    return make


def _branch_any(mask: int, taken: int, fallen: int) -> Op:
    def op(cpu: Processor) -> None:
        cpu.rip = taken if cpu.rflags & mask else fallen

    return op


def _branch_less(or_mask: int, taken: int, fallen: int) -> Op:
    def op(cpu: Processor) -> None:
        flags = cpu.rflags
        cpu.rip = taken if (flags ^ flags >> _OF_TO_SF) & SF or flags & or_mask else fallen

    return op


def loop(insn: Decoded) -> Op:
    """Decrement RCX without touching flags; jump while it is not zero."""
    target, next_rip = _target(insn), insn.next_rip

    def op(cpu: Processor) -> None:
        r = cpu.r
        count = r[1] = r[1] - 1 & M64
        cpu.rip = target if count else next_rip

    return op


def loop_while(zero_flag: int) -> Effect:
    """LOOPE (ZF) or LOOPNE (0): LOOP that also wants ZF to be so."""

    def make(insn: Decoded) -> Op:
        target, next_rip = _target(insn), insn.next_rip

        def op(cpu: Processor) -> None:
            count = cpu.r[1] = cpu.r[1] - 1 & M64
            cpu.rip = target if count and cpu.rflags & ZF == zero_flag else next_rip

        return op

    return make


def jrcxz(insn: Decoded) -> Op:
    """Jump when RCX is zero."""
    target, next_rip = _target(insn), insn.next_rip

    def op(cpu: Processor) -> None:
        cpu.rip = next_rip if cpu.r[1] else target

    return op
