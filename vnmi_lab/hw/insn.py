"""The instructions of the guest: one table row per form, read by decoder, assembler and disassembler alike.

To add an instruction, add its line (and its effect, if it is a new one, to `effects`). The notation is the manual's,
see `forms`; ``#`` makes two rows of one line: 32-bit operands as written, and 64-bit operands with REX.W.

Limits, all answered with #UD: no legacy prefix (66h, 67h, LOCK, segment, REP) except in PAUSE, no 16-bit operand size,
and no instruction outside the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from vnmi_lab.hw import alu
from vnmi_lab.hw import branches as br
from vnmi_lab.hw import effects as fx
from vnmi_lab.hw.access import Effect, Op
from vnmi_lab.hw.events import Fault
from vnmi_lab.hw.forms import Kind, Row, Spec, make_row
from vnmi_lab.hw.operands import M64, MASK, RIP, Imm, Mem, Operand, Reg, Target, operand_texts, sign_extend

MAX_LENGTH: Final = 15
"""Longest instruction a processor accepts (APM volume 3, section 1.1)."""


# The table -----------------------------------------------------------------------------------------------------------

Line = tuple[str, str, str, Effect] | tuple[str, str, str, Effect, int]

CONDITIONS: Final = (
    ("o",), ("no",), ("b", "c", "nae"), ("ae", "nb", "nc"), ("e", "z"), ("ne", "nz"), ("be", "na"), ("a", "nbe"),
    ("s",), ("ns",), ("p", "pe"), ("np", "po"), ("l", "nge"), ("ge", "nl"), ("le", "ng"), ("g", "nle"),
)  # fmt: skip
"""Condition codes in encoding order; the first name is the one printed, the others are read too."""

ALIASES: Final[dict[str, str]] = {"loopz": "loope", "loopnz": "loopne"} | {
    f"j{other}": f"j{names[0]}" for names in CONDITIONS for other in names[1:]
}
"""Mnemonics that the assembler reads as another."""

ALU: Final[tuple[tuple[int, str, Effect], ...]] = (
    (0, "add", fx.binary(alu.add)),
    (1, "or", fx.binary(alu.or_)),
    (4, "and", fx.binary(alu.and_)),
    (5, "sub", fx.binary(alu.sub)),
    (6, "xor", fx.binary(alu.xor)),
    (7, "cmp", fx.compare(alu.sub)),
)
"""The family that shares its encodings: opcode extension, mnemonic, effect."""

TABLE: Final[tuple[Line, ...]] = (
    # encoding         mnemonic   operands                  effect                    exit code of the intercept
    ("90",             "nop",     "",                       fx.nop),
    ("F3 90",          "pause",   "",                       fx.system("op_pause"),    0x77),
    ("FA",             "cli",     "",                       fx.system("op_cli")),
    ("FB",             "sti",     "",                       fx.system("op_sti")),
    ("F4",             "hlt",     "",                       fx.system("op_hlt"),      0x78),
    ("REX.W CF",       "iretq",   "",                       fx.system("op_iretq"),    0x74),
    ("CD ib",          "int",     "vector",                 fx.system("op_int"),      0x75),
    ("CC",             "int3",    "",                       fx.system("op_int3")),
    ("0F 0B",          "ud2",     "",                       fx.undefined),
    ("9C",             "pushfq",  "",                       fx.system("op_pushfq"),   0x70),
    ("9D",             "popfq",   "",                       fx.system("op_popfq"),    0x71),
    ("0F A2",          "cpuid",   "",                       fx.system("op_cpuid"),    0x72),
    ("0F 31",          "rdtsc",   "",                       fx.system("op_rdtsc"),    0x6E),
    ("0F 01 /3",       "lidt",    "mem",                    fx.system("op_lidt"),     0x6A),
    ("0F 01 D8",       "vmrun",   "",                       fx.system("op_vmrun"),    0x80),
    ("0F 01 D9",       "vmmcall", "",                       fx.system("op_vmmcall"),  0x81),
    ("0F 01 DC",       "stgi",    "",                       fx.system("op_stgi"),     0x84),
    ("0F 01 DD",       "clgi",    "",                       fx.system("op_clgi"),     0x85),
    ("E4 ib",          "in",      "AL, port",               fx.port_in),  # IOIO (7Bh) is checked port by port,
    ("E5 ib",          "in",      "EAX, port",              fx.port_in),  # by the processor
    ("EC",             "in",      "AL, DX",                 fx.port_in),
    ("ED",             "in",      "EAX, DX",                fx.port_in),
    ("E6 ib",          "out",     "port, AL",               fx.port_out),
    ("E7 ib",          "out",     "port, EAX",              fx.port_out),
    ("EE",             "out",     "DX, AL",                 fx.port_out),
    ("EF",             "out",     "DX, EAX",                fx.port_out),
    ("8E /2",          "mov",     "SS, reg16/32/64/mem16",  fx.system("op_mov_ss")),
    ("8E /3",          "mov",     "DS, reg16/32/64/mem16",  fx.mov_flat_segment),
    ("8E /0",          "mov",     "ES, reg16/32/64/mem16",  fx.mov_flat_segment),
    ("8C /2",          "mov",     "reg32/64/mem16, SS",     fx.mov),
    ("50 +r",          "push",    "reg64",                  fx.push),
    ("6A ib",          "push",    "imm8",                   fx.push),
    ("68 id",          "push",    "imm32",                  fx.push),
    ("FF /6",          "push",    "reg/mem64",              fx.push),
    ("58 +r",          "pop",     "reg64",                  fx.pop),
    ("8F /0",          "pop",     "reg/mem64",              fx.pop),
    ("88 /r",          "mov",     "reg/mem8, reg8",         fx.mov),
    ("89 /r",          "mov",     "reg/mem#, reg#",         fx.mov),
    ("8A /r",          "mov",     "reg8, reg/mem8",         fx.mov),
    ("8B /r",          "mov",     "reg#, reg/mem#",         fx.mov),
    ("B0 +r ib",       "mov",     "reg8, imm8",             fx.mov),
    ("B8 +r id",       "mov",     "reg32, imm32",           fx.mov),
    ("REX.W B8 +r iq", "mov",     "reg64, imm64",           fx.mov),
    ("C6 /0 ib",       "mov",     "reg/mem8, imm8",         fx.mov),
    ("C7 /0 id",       "mov",     "reg/mem#, imm32",        fx.mov),
    ("0F B6 /r",       "movzx",   "reg#, reg/mem8",         fx.mov),
    ("8D /r",          "lea",     "reg#, mem",              fx.lea),
    ("86 /r",          "xchg",    "reg/mem8, reg8",         fx.xchg),
    ("87 /r",          "xchg",    "reg/mem#, reg#",         fx.xchg),
    ("84 /r",          "test",    "reg/mem8, reg8",         fx.compare(alu.and_)),
    ("85 /r",          "test",    "reg/mem#, reg#",         fx.compare(alu.and_)),
    ("A8 ib",          "test",    "AL, imm8",               fx.compare(alu.and_)),
    ("A9 id",          "test",    "EAX, imm32",             fx.compare(alu.and_)),
    ("REX.W A9 id",    "test",    "RAX, imm32",             fx.compare(alu.and_)),
    ("F6 /0 ib",       "test",    "reg/mem8, imm8",         fx.compare(alu.and_)),
    ("F7 /0 id",       "test",    "reg/mem#, imm32",        fx.compare(alu.and_)),
    ("FE /0",          "inc",     "reg/mem8",               fx.unary(alu.inc)),
    ("FF /0",          "inc",     "reg/mem#",               fx.unary(alu.inc)),
    ("FE /1",          "dec",     "reg/mem8",               fx.unary(alu.dec)),
    ("FF /1",          "dec",     "reg/mem#",               fx.unary(alu.dec)),
    ("F6 /2",          "not",     "reg/mem8",               fx.unary(alu.not_)),
    ("F7 /2",          "not",     "reg/mem#",               fx.unary(alu.not_)),
    ("F6 /3",          "neg",     "reg/mem8",               fx.unary(alu.neg)),
    ("F7 /3",          "neg",     "reg/mem#",               fx.unary(alu.neg)),
    ("EB cb",          "jmp",     "rel8off",                br.jmp),
    ("E9 cd",          "jmp",     "rel32off",               br.jmp),
    ("FF /4",          "jmp",     "reg/mem64",              br.jmp),
    ("E8 cd",          "call",    "rel32off",               br.call),
    ("FF /2",          "call",    "reg/mem64",              br.call),
    ("C3",             "ret",     "",                       br.ret),
    ("E2 cb",          "loop",    "rel8off",                br.loop),
    ("E1 cb",          "loope",   "rel8off",                br.loop_while(alu.ZF)),
    ("E0 cb",          "loopne",  "rel8off",                br.loop_while(0)),
    ("E3 cb",          "jrcxz",   "rel8off",                br.jrcxz),
)  # fmt: skip


def _alu_lines() -> Iterator[Line]:
    for number, name, effect in ALU:
        first = 8 * number
        yield f"{first:02X} /r", name, "reg/mem8, reg8", effect
        yield f"{first + 1:02X} /r", name, "reg/mem#, reg#", effect
        yield f"{first + 2:02X} /r", name, "reg8, reg/mem8", effect
        yield f"{first + 3:02X} /r", name, "reg#, reg/mem#", effect
        yield f"{first + 4:02X} ib", name, "AL, imm8", effect
        yield f"{first + 5:02X} id", name, "EAX, imm32", effect
        yield f"REX.W {first + 5:02X} id", name, "RAX, imm32", effect
        yield f"80 /{number} ib", name, "reg/mem8, imm8", effect
        yield f"83 /{number} ib", name, "reg/mem#, imm8", effect
        yield f"81 /{number} id", name, "reg/mem#, imm32", effect


def _jcc_lines() -> Iterator[Line]:
    for code, (name, *_others) in enumerate(CONDITIONS):
        yield f"{0x70 + code:02X} cb", f"j{name}", "rel8off", br.jcc(code)
        yield f"0F {0x80 + code:02X} cd", f"j{name}", "rel32off", br.jcc(code)


def _rows(lines: tuple[Line, ...]) -> Iterator[Row]:
    for encoding, mnemonic, operands, *rest in lines:
        yield make_row(encoding, mnemonic, operands.replace("#", "32"), *rest)
        if "#" in operands:
            yield make_row(f"REX.W {encoding}", mnemonic, operands.replace("#", "64"), *rest)


ROWS: Final[tuple[Row, ...]] = tuple(_rows((*TABLE, *_alu_lines(), *_jcc_lines())))
DB: Final = make_row("ib", "db", "vector", fx.undefined)
"""Pseudo row of a byte that starts no instruction: the disassembler shows it, the processor raises #UD."""


# Decoding ------------------------------------------------------------------------------------------------------------

Slots = list[Row | None]


def _index(rows: tuple[Row, ...]) -> dict[bytes, Slots]:
    """Group rows by opcode, in slot REX.W * 8 + ModRM.reg; a row without REX.W takes both halves if it can."""
    index: dict[bytes, Slots] = {}
    for row in sorted(rows, key=lambda row: row.rex_w):
        for register in range(8 if row.plus_register else 1):
            opcode = row.opcode[:-1] + bytes([row.opcode[-1] + register])
            slots = index.setdefault(opcode, [None] * 16)
            for digit in range(8) if row.digit is None else (row.digit,):
                slots[8 + digit] = row
                if not row.rex_w:
                    slots[digit] = row
    return index


_BY_OPCODE: Final = _index(ROWS)
_STEMS: Final = frozenset(opcode[:length] for opcode in _BY_OPCODE for length in range(1, len(opcode)))
_WITH_MODRM: Final = frozenset(row.opcode for row in ROWS if row.modrm)
_NOTHING: Final[Slots] = [None] * 16
_REX_W, _REX_R, _REX_X, _REX_B = 8, 4, 2, 1
_PREFIX: Final = 0xF3
_XCHG_RAX: Final = b"\x90"
"""NOP's opcode: with REX.B it would be XCHG R8, RAX, which is not in the table."""


@dataclass(frozen=True, slots=True)
class Insn:
    """One decoded instruction."""

    address: int
    raw: bytes
    row: Row
    operands: tuple[Operand, ...]

    @property
    def length(self) -> int:
        """Number of bytes."""
        return len(self.raw)

    @property
    def next_rip(self) -> int:
        """Address of the byte after it."""
        return self.address + len(self.raw) & M64

    @property
    def width(self) -> int:
        """Operand size in bytes."""
        return self.row.width

    @property
    def text(self) -> str:
        """Intel syntax, which `assemble` reads back."""
        return f"{self.row.mnemonic} {', '.join(operand_texts(self.operands))}".rstrip()


class _Bytes:
    """The bytes of one instruction as they are fetched, and the fields read so far."""

    def __init__(self, fetch: Callable[[int], int], address: int) -> None:
        self.fetch = fetch
        self.address = address
        self.raw = bytearray()
        self.rex = 0
        self.modrm = 0

    def byte(self) -> int:
        """Fetch one more byte; the sixteenth is #GP(0) (APM volume 3, section 1.1)."""
        if len(self.raw) >= MAX_LENGTH:
            raise Fault(fx.GP, 0)
        value = self.fetch(len(self.raw))
        self.raw.append(value)
        return value

    def signed(self, size: int) -> int:
        """Fetch a little-endian number and sign-extend it."""
        return sign_extend(int.from_bytes(bytes(self.byte() for _ in range(size)), "little"), size)

    def register(self, bits: int, extension: int, size: int) -> Reg:
        """Name a register: REX turns AH CH DH BH into SPL BPL SIL DIL, and its bits make eight more."""
        if size == 1 and not self.rex and bits >= 4:
            return Reg(bits - 4, 1, high=True)
        return Reg(bits | (8 if self.rex & extension else 0), size)


def _opcode(code: _Bytes) -> bytes:
    """Read prefixes and opcode; only a REX directly before the opcode counts."""
    prefix = b""
    byte = code.byte()
    while byte == _PREFIX or byte & 0xF0 == 0x40:
        prefix, code.rex = (bytes([byte]), 0) if byte == _PREFIX else (prefix, byte)
        byte = code.byte()
    opcode = prefix + bytes([byte])
    while opcode in _STEMS and opcode not in _BY_OPCODE:
        opcode += bytes([code.byte()])
    if opcode == _XCHG_RAX and code.rex & _REX_B:
        raise Fault(fx.UD)
    return opcode


def _find(code: _Bytes) -> Row:
    """Find the row: by opcode, then REX.W and ModRM.reg, then by a whole ModRM byte (0F 01 D9)."""
    opcode = _opcode(code)
    slots = _BY_OPCODE.get(opcode)
    if slots is None:
        raise Fault(fx.UD)
    if opcode in _WITH_MODRM:
        code.modrm = code.byte()
        if opcode in _STEMS and code.modrm >= 0xC0:
            slots = _BY_OPCODE.get(opcode + bytes([code.modrm]), _NOTHING)
    row = slots[(code.rex & _REX_W) + (code.modrm >> 3 & 7)]
    if row is None:
        raise Fault(fx.UD)
    return row


def _memory(code: _Bytes, size: int) -> Mem:
    """Read SIB and displacement after ModRM (APM volume 3, sections 1.4.3 and 1.5)."""
    mod, rm = code.modrm >> 6, code.modrm & 7
    base: int | None = rm | (8 if code.rex & _REX_B else 0)
    index, scale = None, 1
    if rm == 4:
        sib = code.byte()
        scale, base = 1 << (sib >> 6), sib & 7 | (8 if code.rex & _REX_B else 0)
        number = sib >> 3 & 7 | (8 if code.rex & _REX_X else 0)
        index = None if number == 4 else number
        rm = sib & 7
    if mod == 0 and rm == 5:
        mod, base = 2, RIP if code.modrm & 7 == 5 else None
    disp = code.signed(_DISPLACEMENT[mod]) if mod else 0
    return Mem(base, index, 1 if index is None else scale, disp, size)


_DISPLACEMENT: Final = {1: 1, 2: 4}
"""Displacement bytes by ModRM.mod."""


def _rm(code: _Bytes, spec: Spec) -> Operand:
    if code.modrm < 0xC0:
        return _memory(code, spec.size)
    if spec.kind is Kind.MEM:
        raise Fault(fx.UD)
    return code.register(code.modrm & 7, _REX_B, spec.registers[0])


def _operand(code: _Bytes, spec: Spec, row: Row) -> Operand:
    """Decode one operand, reading the bytes it has of its own."""
    if spec.fixed is not None:
        return spec.fixed
    if spec.kind in {Kind.RM, Kind.MEM}:
        return _rm(code, spec)
    if spec.kind is Kind.REG:
        bits, extension = (code.raw[-1], _REX_B) if row.plus_register else (code.modrm >> 3, _REX_R)
        return code.register(bits & 7, extension, spec.size)
    number = code.signed(spec.size)
    if spec.kind is Kind.REL:
        return Target(code.address + len(code.raw) + number & M64)
    if spec.kind is Kind.BYTE:
        return Imm(number & 0xFF, 1)
    return Imm(number & MASK[row.width], row.width)


def decode(fetch: Callable[[int], int], address: int) -> Insn:
    """Decode the instruction at `address`; `fetch(offset)` gives one of its bytes. Unknown bytes raise #UD."""
    code = _Bytes(fetch, address)
    row = _find(code)
    operands = tuple([_operand(code, spec, row) for spec in row.specs])
    return Insn(address, bytes(code.raw), row, operands)


def compile_insn(insn: Insn) -> Op:
    """Make the closure that executes a decoded instruction, intercept check first."""
    op = insn.row.effect(insn)
    return op if insn.row.intercept is None else fx.intercepted(insn.row.intercept, insn.next_rip, op)


class _EndOfCodeError(Exception):
    """The bytes end inside an instruction."""


def disassemble(code: bytes, origin: int = 0) -> list[Insn]:
    """Decode bytes one after the other; one that starts no instruction becomes ``db``."""
    found: list[Insn] = []
    offset = 0
    while offset < len(code):
        found.append(_disassemble_one(code, offset, origin + offset & M64))
        offset += found[-1].length
    return found


def _disassemble_one(code: bytes, start: int, address: int) -> Insn:
    def fetch(offset: int) -> int:
        if start + offset >= len(code):
            raise _EndOfCodeError
        return code[start + offset]

    try:
        return decode(fetch, address)
    except (Fault, _EndOfCodeError):
        return Insn(address, code[start : start + 1], DB, (Imm(code[start], 1),))
