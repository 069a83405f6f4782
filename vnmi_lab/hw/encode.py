"""Operands and a table row to bytes: the decoder of `insn` run backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vnmi_lab.hw.forms import Kind, Row, Spec
from vnmi_lab.hw.operands import MASK, RIP, RSP, Mem, Reg, Seg, fits_signed, sign_extend

if TYPE_CHECKING:
    from collections.abc import Sequence

UNSIZED: Final = -1
"""Size of a memory operand written without ``byte``, ``dword`` or ``qword``."""

Value = Reg | Seg | Mem | int
"""An operand as the assembler knows it before it has chosen a row: numbers have no size yet."""

_REX, _REX_W, _REX_R, _REX_X, _REX_B = 0x40, 8, 4, 2, 1


def matches(row: Row, operands: Sequence[Value]) -> bool:
    """Tell whether a row takes operands of these kinds and sizes, whatever their numbers are."""
    return len(row.specs) == len(operands) and matching(row, operands) == len(operands)


def matching(row: Row, operands: Sequence[Value]) -> int:
    """Count the operands of which a row takes the kind and size."""
    return sum(map(_takes, row.specs, operands))


def _takes(spec: Spec, operand: Value) -> bool:
    if spec.kind is Kind.FIXED:
        return operand == spec.fixed
    match operand:
        case int():
            return spec.kind in {Kind.IMM, Kind.BYTE, Kind.REL}
        case Reg(size=size):
            return size in spec.registers
        case Mem(size=size):
            return spec.kind in {Kind.RM, Kind.MEM} and size in {UNSIZED, spec.size}
        case Seg():
            return False


def number_fits(row: Row, spec: Spec, number: int) -> bool:
    """Tell whether the row's bytes can hold an immediate, a vector, a port or the distance of a jump."""
    if spec.kind is Kind.REL:
        return fits_signed(number, 8 * spec.size)
    if spec.kind is Kind.BYTE:
        return 0 <= number <= MASK[1]
    if not -(1 << 8 * row.width - 1) <= number <= MASK[row.width]:
        return False
    return fits_signed(sign_extend(number, row.width), 8 * spec.size)


class HighByteError(ValueError):
    """AH, CH, DH or BH beside something that needs REX: the same bits then name another register."""


class _Encoding:
    """The fields of one instruction while its operands are filled in."""

    def __init__(self, row: Row) -> None:
        self.rex = _REX | _REX_W if row.rex_w else 0
        self.opcode = bytearray(row.opcode)
        self.reg = row.digit or 0
        self.rm = b""
        self.tail = b""
        self.high = ""

    def register(self, reg: Reg, extension: int) -> int:
        """Note what a register needs of REX; give its three bits."""
        code = reg.number
        if reg.high:
            self.high = reg.text
            return code + 4
        if code >= 8:
            self.rex |= _REX | extension
        elif reg.size == 1 and code >= 4:
            self.rex |= _REX
        return code & 7

    def memory(self, mem: Mem, *, wide: bool) -> None:
        """Fill in ModRM.rm, SIB and the displacement (APM volume 3, sections 1.4.3 and 1.5)."""
        if mem.base is None or mem.base == RIP:
            mod, size = 0, 4
        else:
            mod, size = _displacement(mem, wide=wide)
        if mem.base == RIP:
            head = [5]
        elif mem.base is not None and mem.index is None and mem.base & 7 != RSP:
            head = [mod << 6 | self.register(Reg(mem.base, 8), _REX_B)]
        else:
            base = 5 if mem.base is None else self.register(Reg(mem.base, 8), _REX_B)
            index = 4 if mem.index is None else self.register(Reg(mem.index, 8), _REX_X)
            head = [mod << 6 | 4, (mem.scale.bit_length() - 1) << 6 | index << 3 | base]
        self.rm = bytes(head) + (mem.disp & MASK[size]).to_bytes(size, "little") if size else bytes(head)

    def join(self, row: Row) -> bytes:
        """Put the fields together."""
        if self.high and self.rex:
            raise HighByteError(
                f"'{self.high}' cannot stand in an instruction that needs a REX prefix (APM volume 3, 1.2.7)"
            )
        prefix = self.opcode[: len(row.opcode) - 1] if row.opcode[0] == 0xF3 else b""
        rm = bytes([self.rm[0] | self.reg << 3]) + self.rm[1:] if row.modrm else b""
        rex = bytes([self.rex]) if self.rex else b""
        return bytes(prefix) + rex + bytes(self.opcode[len(prefix) :]) + rm + self.tail


def _displacement(mem: Mem, *, wide: bool) -> tuple[int, int]:
    """Choose ModRM.mod and the size of the displacement; RBP and R13 cannot do without one."""
    if wide or not fits_signed(mem.disp, 8):
        return 2, 4
    if mem.disp or (mem.base or 0) & 7 == 5:
        return 1, 1
    return 0, 0


def encode(row: Row, operands: Sequence[Value], *, wide: bool = False) -> bytes:
    """Encode a matching row; jump targets hold the displacement. `wide` asks for a 32-bit memory displacement."""
    code = _Encoding(row)
    for spec, operand in zip(row.specs, operands, strict=True):
        match operand:
            case int() if spec.kind is not Kind.FIXED:
                code.tail += (operand & MASK[spec.size]).to_bytes(spec.size, "little")
            case Mem():
                code.memory(operand, wide=wide)
            case Reg() if spec.kind is Kind.RM:
                code.rm = bytes([0xC0 | code.register(operand, _REX_B)])
            case Reg() if spec.kind is Kind.REG and row.plus_register:
                code.opcode[-1] |= code.register(operand, _REX_B)
            case Reg() if spec.kind is Kind.REG:
                code.reg = code.register(operand, _REX_R)
    return code.join(row)
