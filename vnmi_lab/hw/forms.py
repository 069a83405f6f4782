"""How the instruction table writes its rows, and what a row says to those who read it.

As in APM volume 3, chapters 3 and 4: ``/r`` a ModRM byte with a register in it, ``/0``..``/7`` a ModRM byte with an
opcode extension, ``+r`` a register in the opcode byte, ``ib id iq`` an immediate, ``cb cd`` a relative target.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from vnmi_lab.hw.operands import Operand, Reg, Seg

if TYPE_CHECKING:
    from vnmi_lab.hw.access import Effect


class Kind(Enum):
    """Where an operand is in the bytes."""

    RM = "ModRM.rm: a register or memory"
    MEM = "ModRM.rm: memory only"
    REG = "ModRM.reg or the opcode byte"
    IMM = "immediate, sign-extended to the operand size"
    BYTE = "immediate byte that is a vector or a port"
    REL = "displacement from the next instruction"
    FIXED = "implied by the opcode"


class Spec(NamedTuple):
    """One operand of a row: its place, its size in bytes, and its value when the opcode implies it."""

    kind: Kind
    size: int
    fixed: Operand | None = None
    registers: tuple[int, ...] = ()
    """Sizes of the registers that may be written here, the printed one first."""


SPECS: Final[dict[str, Spec]] = {
    **{f"reg/mem{bits}": Spec(Kind.RM, bits // 8, registers=(bits // 8,)) for bits in (8, 32, 64)},
    **{f"reg{bits}": Spec(Kind.REG, bits // 8, registers=(bits // 8,)) for bits in (8, 32, 64)},
    "reg16/32/64/mem16": Spec(Kind.RM, 2, registers=(4, 8, 2)),
    "reg32/64/mem16": Spec(Kind.RM, 2, registers=(4, 8)),
    **{f"imm{bits}": Spec(Kind.IMM, bits // 8) for bits in (8, 32, 64)},
    "mem": Spec(Kind.MEM, 0),
    "vector": Spec(Kind.BYTE, 1),
    "port": Spec(Kind.BYTE, 1),
    "rel8off": Spec(Kind.REL, 1),
    "rel32off": Spec(Kind.REL, 4),
    "AL": Spec(Kind.FIXED, 1, Reg(0, 1)),
    "EAX": Spec(Kind.FIXED, 4, Reg(0, 4)),
    "RAX": Spec(Kind.FIXED, 8, Reg(0, 8)),
    "DX": Spec(Kind.FIXED, 0, Reg(2, 2)),  # size 0: a port says nothing of the operand size, nor does a selector
    "SS": Spec(Kind.FIXED, 0, Seg("ss")),
    "DS": Spec(Kind.FIXED, 0, Seg("ds")),
    "ES": Spec(Kind.FIXED, 0, Seg("es")),
}
"""Operand words of the table. `vector` and `port` are ours (the manual says imm8)."""


class Row(NamedTuple):
    """One form of an instruction: the five columns of the table, then what the encoding column says."""

    encoding: str
    mnemonic: str
    operands: str
    effect: Effect
    intercept: int | None
    """Exit code of the intercept that stops it, if there is one (APM volume 2, appendix C)."""
    opcode: bytes
    specs: tuple[Spec, ...]
    rex_w: bool
    modrm: bool
    digit: int | None
    """Opcode extension in ModRM.reg."""
    plus_register: bool
    """The low three bits of the opcode are a register."""
    width: int
    """Operand size in bytes, to which immediates are extended."""

    def __repr__(self) -> str:
        """Show the row as it stands in the table."""
        return f"<{self.encoding}: {self.mnemonic} {self.operands}>"


_HEX: Final = frozenset(f"{byte:02X}" for byte in range(256))
"""How an opcode byte is written."""


def make_row(encoding: str, mnemonic: str, operands: str, effect: Effect, intercept: int | None = None) -> Row:
    """Read one line of the table."""
    words = encoding.split()
    specs = tuple([SPECS[word] for word in operands.split(", ") if word])
    sizes = [spec.size for spec in specs if spec.kind in {Kind.RM, Kind.REG, Kind.FIXED} and spec.size]
    slash = next((word[1] for word in words if word[0] == "/"), "")
    return Row(
        encoding=encoding,
        mnemonic=mnemonic,
        operands=operands,
        effect=effect,
        intercept=intercept,
        opcode=bytes([int(word, 16) for word in words if word in _HEX]),
        specs=specs,
        rex_w="REX.W" in words,
        modrm=slash != "",
        digit=int(slash) if slash.isdigit() else None,
        plus_register="+r" in words,
        width=sizes[0] if sizes else 8,
    )
