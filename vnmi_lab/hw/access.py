"""What a compiled instruction sees: the processor, and its operands as closures that read or write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vnmi_lab.hw.operands import M64, MASK, RIP, Imm, Mem, Operand, Reg, Seg


class Decoded(Protocol):
    """What a maker needs of a decoded instruction."""

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Operand values in Intel order."""

    @property
    def width(self) -> int:
        """Operand size in bytes."""

    @property
    def next_rip(self) -> int:
        """Address of the byte after the instruction."""

    @property
    def text(self) -> str:
        """Intel syntax."""


class Processor(Protocol):
    """What a compiled instruction needs of the processor (system instructions call its ``op_`` methods)."""

    r: list[int]
    rip: int
    rflags: int
    ss: int
    intercepts: int

    def read(self, address: int, size: int, /) -> int:
        """Read linear memory."""

    def write(self, address: int, size: int, value: int, /) -> None:
        """Write linear memory."""

    def intercept(self, code: int, next_rip: int, /) -> None:
        """Leave the guest because it met an intercepted instruction."""

    def op_in(self, next_rip: int, port: int, size: int, /) -> None:
        """IN: read a port into the low `size` bytes of RAX."""

    def op_out(self, next_rip: int, port: int, size: int, /) -> None:
        """OUT: write the low `size` bytes of RAX to a port."""


Op = Callable[[Processor], None]
Effect = Callable[[Decoded], Op]
Load = Callable[[Processor], int]
Store = Callable[[Processor, int], None]


def effective_address(mem: Mem, next_rip: int) -> Load:
    """Make the address computation of a memory operand (APM volume 1, section 2.2.3)."""
    base, index, scale, disp = mem.base, mem.index, mem.scale, mem.disp
    if index is not None:
        if base is None:
            return lambda cpu: cpu.r[index] * scale + disp & M64
        return lambda cpu: cpu.r[base] + cpu.r[index] * scale + disp & M64
    if base is None or base == RIP:
        constant = (next_rip if base == RIP else 0) + disp & M64
        return lambda _cpu: constant
    if not disp:
        return lambda cpu: cpu.r[base]
    return lambda cpu: cpu.r[base] + disp & M64


def load(operand: Operand, next_rip: int) -> Load:
    """Make the reader of an operand; narrow values come zero-extended."""
    match operand:
        case Reg(number, 8):
            return lambda cpu: cpu.r[number]
        case Reg(number, size, high):
            shift, mask = 8 * high, MASK[size]
            return lambda cpu: cpu.r[number] >> shift & mask
        case Imm(value):
            return lambda _cpu: value
        case Mem(size=size):
            address = effective_address(operand, next_rip)
            return lambda cpu: cpu.read(address(cpu), size)
        case Seg("ss"):
            return lambda cpu: cpu.ss
        case _:
            message = f"operand {operand.text} cannot be read"
            raise TypeError(message)


def store(operand: Operand, next_rip: int) -> Store:
    """Make the writer of an operand; a 32-bit result zero-extends, a byte keeps the rest of its register."""
    match operand:
        case Reg(number, 8 | 4):

            def write_register(cpu: Processor, value: int) -> None:
                cpu.r[number] = value

            return write_register
        case Reg(number, size, high):
            shift = 8 * high
            keep = M64 ^ MASK[size] << shift

            def write_part(cpu: Processor, value: int) -> None:
                cpu.r[number] = cpu.r[number] & keep | value << shift

            return write_part
        case Mem(size=size):
            address = effective_address(operand, next_rip)
            return lambda cpu, value: cpu.write(address(cpu), size, value)
        case _:
            message = f"operand {operand.text} cannot be written"
            raise TypeError(message)
