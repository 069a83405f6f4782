"""What instructions do: each maker reads a decoded instruction once and returns a closure specialised to it.

A closure does everything, RIP included. Where a fault can happen (memory), it happens before anything is committed.
Jumps are in `branches`.
"""

from __future__ import annotations

from dataclasses import replace
from operator import methodcaller
from typing import TYPE_CHECKING, Final

from vnmi_lab.hw.access import Decoded, Effect, Op, Processor, effective_address, load, store
from vnmi_lab.hw.events import Fault
from vnmi_lab.hw.operands import M64, MASK, RSP, Imm, Mem, Operand, Reg, Seg

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.hw.alu import Kernel, UnaryKernel

GP: Final = 13
UD: Final = 6
RPL: Final = 3
FIRST_INTERCEPT: Final = 0x60
"""Exit code of bit 0 of the intercept vectors 3 and 4 (APM volume 2, appendix C)."""
FLAT_SELECTORS: Final = (0, 0x10)
"""Selectors that DS and ES can hold in the flat machine: null and the data segment."""
MIN_DIRECT: Final = 4
"""Register writes of at least this many bytes replace the whole register, so a fast path may assign it."""


def _bits(insn: Decoded) -> int:
    return 8 * insn.width


# Data movement -------------------------------------------------------------------------------------------------------


def nop(insn: Decoded) -> Op:
    """Do nothing."""
    next_rip = insn.next_rip

    def op(cpu: Processor) -> None:
        cpu.rip = next_rip

    return op


def mov(insn: Decoded) -> Op:
    """Copy the second operand to the first (MOV, and MOVZX since values are read zero-extended)."""
    target, source = insn.operands
    next_rip = insn.next_rip
    read = load(source, next_rip)
    write = store(target, next_rip)
    if isinstance(target, Reg) and target.size >= MIN_DIRECT:
        number = target.number
        if isinstance(source, Imm):
            value = source.value

            def set_register(cpu: Processor) -> None:
                cpu.r[number] = value
                cpu.rip = next_rip

            return set_register

        def load_register(cpu: Processor) -> None:
            cpu.r[number] = read(cpu)
            cpu.rip = next_rip

        return load_register

    def op(cpu: Processor) -> None:
        write(cpu, read(cpu))
        cpu.rip = next_rip

    return op


def lea(insn: Decoded) -> Op:
    """Put the address of the second operand, not its value, in the first."""
    target, source = insn.operands
    next_rip = insn.next_rip
    if not (isinstance(target, Reg) and isinstance(source, Mem)):
        raise TypeError(insn.text)
    number, mask, address = target.number, MASK[target.size], effective_address(source, next_rip)

    def op(cpu: Processor) -> None:
        cpu.r[number] = address(cpu) & mask
        cpu.rip = next_rip

    return op


def xchg(insn: Decoded) -> Op:
    """Exchange two operands; memory is written first because only it can fault."""
    first, second = insn.operands
    next_rip = insn.next_rip
    read_first, read_second = load(first, next_rip), load(second, next_rip)
    write_first, write_second = store(first, next_rip), store(second, next_rip)

    def op(cpu: Processor) -> None:
        a, b = read_first(cpu), read_second(cpu)
        write_first(cpu, b)
        write_second(cpu, a)
        cpu.rip = next_rip

    return op


def push(insn: Decoded) -> Op:
    """Push a quadword; PUSH RSP stores the old RSP."""
    next_rip = insn.next_rip
    read = load(insn.operands[0], next_rip)

    def op(cpu: Processor) -> None:
        rsp = cpu.r[RSP] - 8 & M64
        cpu.write(rsp, 8, read(cpu))
        cpu.r[RSP] = rsp
        cpu.rip = next_rip

    return op


def pop(insn: Decoded) -> Op:
    """Pop a quadword; an address that uses RSP uses the incremented one (APM volume 3, POP)."""
    next_rip = insn.next_rip
    target = insn.operands[0]
    if isinstance(target, Mem) and target.base == RSP:
        target = replace(target, disp=target.disp + 8)
    write = store(target, next_rip)
    to_memory = isinstance(target, Mem)

    def pop_memory(cpu: Processor) -> None:
        rsp = cpu.r[RSP]
        write(cpu, cpu.read(rsp, 8))
        cpu.r[RSP] = rsp + 8 & M64
        cpu.rip = next_rip

    def pop_register(cpu: Processor) -> None:
        rsp = cpu.r[RSP]
        value = cpu.read(rsp, 8)
        cpu.r[RSP] = rsp + 8 & M64
        write(cpu, value)
        cpu.rip = next_rip

    return pop_memory if to_memory else pop_register


# Arithmetic ----------------------------------------------------------------------------------------------------------


def binary(kernel: Callable[[int], Kernel]) -> Effect:
    """First operand = kernel(first, second)."""

    def make(insn: Decoded) -> Op:
        target, source = insn.operands
        if isinstance(target, Reg) and target.size >= MIN_DIRECT and not isinstance(source, Mem):
            return _binary_register(kernel(_bits(insn)), insn, target, source)
        next_rip = insn.next_rip
        alu = kernel(_bits(insn))
        read, other, write = load(target, next_rip), load(source, next_rip), store(target, next_rip)

        def op(cpu: Processor) -> None:
            value, flags = alu(cpu.rflags, read(cpu), other(cpu))
            write(cpu, value)
            cpu.rflags = flags
            cpu.rip = next_rip

        return op

    return make


def _binary_register(alu: Kernel, insn: Decoded, target: Reg, source: Operand) -> Op:
    """Fast path of `binary`: no memory, whole registers."""
    number, mask, next_rip = target.number, MASK[target.size], insn.next_rip
    if isinstance(source, Imm):
        constant = source.value

        def with_constant(cpu: Processor) -> None:
            r = cpu.r
            r[number], cpu.rflags = alu(cpu.rflags, r[number] & mask, constant)
            cpu.rip = next_rip

        return with_constant
    if not isinstance(source, Reg):
        raise TypeError(insn.text)
    other = source.number

    def with_register(cpu: Processor) -> None:
        r = cpu.r
        r[number], cpu.rflags = alu(cpu.rflags, r[number] & mask, r[other] & mask)
        cpu.rip = next_rip

    return with_register


def compare(kernel: Callable[[int], Kernel]) -> Effect:
    """Set the flags of kernel(first, second) and drop the result (CMP, TEST)."""

    def make(insn: Decoded) -> Op:
        next_rip = insn.next_rip
        alu = kernel(_bits(insn))
        left, right = (load(operand, next_rip) for operand in insn.operands)

        def op(cpu: Processor) -> None:
            cpu.rflags = alu(cpu.rflags, left(cpu), right(cpu))[1]
            cpu.rip = next_rip

        return op

    return make


def unary(kernel: Callable[[int], UnaryKernel]) -> Effect:
    """Operand = kernel(operand)."""

    def make(insn: Decoded) -> Op:
        next_rip = insn.next_rip
        alu = kernel(_bits(insn))
        (target,) = insn.operands
        if isinstance(target, Reg) and target.size >= MIN_DIRECT:
            number, mask = target.number, MASK[target.size]

            def on_register(cpu: Processor) -> None:
                r = cpu.r
                r[number], cpu.rflags = alu(cpu.rflags, r[number] & mask)
                cpu.rip = next_rip

            return on_register
        read, write = load(target, next_rip), store(target, next_rip)

        def op(cpu: Processor) -> None:
            value, flags = alu(cpu.rflags, read(cpu))
            write(cpu, value)
            cpu.rflags = flags
            cpu.rip = next_rip

        return op

    return make


# System --------------------------------------------------------------------------------------------------------------


def system(method: str) -> Effect:
    """Hand over to the processor method of that name with the next RIP and the operand values (an address for LIDT)."""

    def make(insn: Decoded) -> Op:
        next_rip = insn.next_rip
        values = [
            effective_address(operand, next_rip)
            if isinstance(operand, Mem) and not operand.size
            else load(operand, next_rip)
            for operand in insn.operands
            if not isinstance(operand, Seg)
        ]
        if not values:
            return methodcaller(method, next_rip)

        def op(cpu: Processor) -> None:
            getattr(cpu, method)(next_rip, *[value(cpu) for value in values])

        return op

    return make


def undefined(_insn: Decoded) -> Op:
    """Raise #UD: UD2, and bytes that are no instruction."""

    def op(_cpu: Processor) -> None:
        raise Fault(UD)

    return op


def port_in(insn: Decoded) -> Op:
    """Read a port; the processor checks the I/O permission map itself."""
    next_rip, size = insn.next_rip, insn.width
    port = load(insn.operands[1], next_rip)
    return lambda cpu: cpu.op_in(next_rip, port(cpu), size)


def port_out(insn: Decoded) -> Op:
    """Write a port; the processor checks the I/O permission map itself."""
    next_rip, size = insn.next_rip, insn.width
    port = load(insn.operands[0], next_rip)
    return lambda cpu: cpu.op_out(next_rip, port(cpu), size)


def mov_flat_segment(insn: Decoded) -> Op:
    """Load DS or ES: nothing changes in a flat machine, and any other selector is #GP."""
    next_rip = insn.next_rip
    read = load(insn.operands[1], next_rip)

    def op(cpu: Processor) -> None:
        selector = read(cpu) & MASK[2]
        if selector & ~RPL not in FLAT_SELECTORS:
            raise Fault(GP, selector & ~RPL)
        cpu.rip = next_rip

    return op


def intercepted(code: int, next_rip: int, op: Op) -> Op:
    """Wrap an operation so that its intercept, when active, comes before everything it would do."""
    bit = 1 << code - FIRST_INTERCEPT

    def guarded(cpu: Processor) -> None:
        if cpu.intercepts & bit:
            cpu.intercept(code, next_rip)
        else:
            op(cpu)

    return guarded
