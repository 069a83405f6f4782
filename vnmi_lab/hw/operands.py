"""Operands of an instruction as values, and how Intel syntax writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

M64: Final = (1 << 64) - 1
MASK: Final = {size: (1 << 8 * size) - 1 for size in (1, 2, 4, 8)}
RSP: Final = 4
RIP: Final = 16
"""Number that stands for RIP as the base of a memory operand."""

_OLD: Final = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
_NEW: Final = tuple(f"r{number}" for number in range(8, 16))
_HIGH: Final = ("ah", "ch", "dh", "bh")
NAMES: Final[dict[int, tuple[str, ...]]] = {
    8: (*(f"r{name}" for name in _OLD), *_NEW, "rip"),
    4: (*(f"e{name}" for name in _OLD), *(f"{name}d" for name in _NEW)),
    2: (*_OLD, *(f"{name}w" for name in _NEW)),
    1: ("al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", *(f"{name}b" for name in _NEW)),
}
"""Register names by size in bytes, in encoding order (APM volume 3, section 1.4.2)."""

SIZE_WORDS: Final = {"byte": 1, "word": 2, "dword": 4, "qword": 8}
_WORD_OF_SIZE: Final = {size: word for word, size in SIZE_WORDS.items()}
SMALLEST_HEX: Final = 10
_SHORT_IMMEDIATE: Final = {8: 32, 4: 8, 1: 0}
"""Bits of the shorter immediate that is sign-extended to an operand of so many bytes (for bytes there is none)."""


def hexadecimal(value: int) -> str:
    """Write a number as the disassembler does: digits below ten as they are, the rest in hexadecimal."""
    return str(value) if abs(value) < SMALLEST_HEX else hex(value)


def sign_extend(value: int, size: int) -> int:
    """Read the low `size` bytes of a value as a two's complement number."""
    sign = 1 << 8 * size - 1
    return (value & MASK[size] ^ sign) - sign


def fits_signed(value: int, bits: int) -> bool:
    """Tell whether a number can be held as two's complement in so many bits."""
    return bits > 0 and -(1 << bits - 1) <= value < 1 << bits - 1


class Reg(NamedTuple):
    """A general-purpose register, or the part of it that has a name of its own."""

    number: int
    size: int
    high: bool = False

    @property
    def text(self) -> str:
        """Name in Intel syntax."""
        return _HIGH[self.number] if self.high else NAMES[self.size][self.number]


class Seg(NamedTuple):
    """A segment register."""

    text: str


class Imm(NamedTuple):
    """An immediate, extended to the operand size."""

    value: int
    size: int

    @property
    def text(self) -> str:
        """The number: negative where a shorter, sign-extended encoding of it exists."""
        signed = sign_extend(self.value, self.size)
        return hexadecimal(signed if signed < 0 and fits_signed(signed, _SHORT_IMMEDIATE[self.size]) else self.value)


class Target(NamedTuple):
    """Where a relative jump goes, as a linear address."""

    address: int

    @property
    def text(self) -> str:
        """The address in hexadecimal."""
        return hex(self.address)


@dataclass(frozen=True, slots=True)  # no named tuple: `index` is a method of tuples
class Mem:
    """A memory operand of 64-bit addressing; `size` is 0 where only the address counts (LEA, LIDT)."""

    base: int | None = None
    index: int | None = None
    scale: int = 1
    disp: int = 0
    size: int = 0

    @property
    def text(self) -> str:
        """The address in brackets: ``[rbx+rcx*4-8]``."""
        names = NAMES[8]
        parts = [] if self.base is None else [names[self.base]]
        if self.index is not None:
            bare = self.scale == 1 and parts
            parts.append(names[self.index] if bare else f"{names[self.index]}*{self.scale}")
        inside = "+".join(parts)
        if not inside:
            return f"[{hexadecimal(self.disp & M64)}]"
        if self.disp:
            inside += ("+" if self.disp > 0 else "") + hexadecimal(self.disp)
        return f"[{inside}]"


Operand = Reg | Seg | Imm | Target | Mem


def operand_texts(operands: tuple[Operand, ...]) -> tuple[str, ...]:
    """Write operands, with a size word before memory whose size no register tells."""
    told = {operand.size for operand in operands if isinstance(operand, Reg)}
    return tuple(
        f"{_WORD_OF_SIZE[operand.size]} {operand.text}"
        if isinstance(operand, Mem) and operand.size and operand.size not in told
        else operand.text
        for operand in operands
    )


REGISTERS: Final[dict[str, Reg]] = {
    name: Reg(number, size) for size, names in NAMES.items() for number, name in enumerate(names) if number != RIP
} | {name: Reg(number, 1, high=True) for number, name in enumerate(_HIGH)}
"""Every register name the assembler knows."""
