"""The instruction table against iced-x86 (every form), against a slow oracle for flags, and against Unicorn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from random import Random

import iced_x86 as iced
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnmi_lab.hw import alu
from vnmi_lab.hw.asm import AsmError, assemble
from vnmi_lab.hw.cpu import Cpu
from vnmi_lab.hw.encode import HighByteError, Value, encode
from vnmi_lab.hw.events import Fault
from vnmi_lab.hw.forms import Kind, Row, Spec
from vnmi_lab.hw.insn import ROWS, Insn, compile_insn, decode, disassemble
from vnmi_lab.hw.operands import M64, MASK, RIP, RSP, Imm, Mem, Reg, Seg, Target

ORIGIN = 0x300000
MNEMONICS = {row.mnemonic for row in ROWS}


def decoded(code: bytes, address: int = ORIGIN) -> Insn:
    return decode(code.__getitem__, address)


class FakeCpu:
    """Registers, byte-wise memory with one page that faults, and a record of what was asked of the processor."""

    FAULTING = range(0x666000, 0x667000)

    def __init__(self) -> None:
        self.r = [0] * 16
        self.rip = 0
        self.rflags = 2
        self.ss = 0x10
        self.intercepts = 0
        self.memory: dict[int, int] = {}
        self.calls: list[tuple[str | int, ...]] = []

    def read(self, address: int, size: int) -> int:
        if address in self.FAULTING:
            raise Fault(14, 0, address)
        return sum(self.memory.get(address + n & M64, 0) << 8 * n for n in range(size))

    def write(self, address: int, size: int, value: int) -> None:
        if address in self.FAULTING:
            raise Fault(14, 2, address)
        assert 0 <= value <= MASK[size]
        self.memory |= {address + n & M64: value >> 8 * n & 255 for n in range(size)}

    def intercept(self, code: int, next_rip: int) -> None:
        self.calls.append(("intercept", code, next_rip))

    def op_in(self, next_rip: int, port: int, size: int) -> None:
        self.calls.append(("op_in", next_rip, port, size))

    def op_out(self, next_rip: int, port: int, size: int) -> None:
        self.calls.append(("op_out", next_rip, port, size))

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("op_"):
            raise AttributeError(name)
        return lambda *values: self.calls.append((name, *values))

    def run(self, text: str) -> FakeCpu:
        """Execute one instruction written in Intel syntax."""
        compile_insn(decoded(assemble(text, ORIGIN).code))(self)
        return self


# Every form against iced-x86 -----------------------------------------------------------------------------------------

MEMORY = [
    Mem(base, index, scale, disp)
    for base, (index, scale), disp in product(
        (0, 3, 4, 5, 12, 13, 15), ((None, 1), (1, 1), (5, 8), (12, 2)), (0, 8, -128, 0x12345678)
    )
] + [
    Mem(None, None, 1, -0x80000000),
    Mem(None, None, 1, 0x7FFFFFFF),
    Mem(None, 0, 4, 0x10),
    Mem(None, 12, 1, -4),
    Mem(RIP, None, 1, -0x10),
    Mem(RIP, None, 1, 0x1000),
]
BYTE_REGISTERS = [Reg(number, 1) for number in range(16)] + [Reg(number, 1, high=True) for number in range(4)]


def values(row: Row, spec: Spec, memory: list[Mem]) -> Iterator[Value]:
    """Give every register, the memory forms and the extreme numbers that an operand can be."""
    if spec.kind is Kind.FIXED:
        assert isinstance(spec.fixed, Reg | Seg)
        yield spec.fixed
    if spec.kind in {Kind.RM, Kind.REG}:
        size = spec.registers[0]
        yield from BYTE_REGISTERS if size == 1 else (Reg(number, size) for number in range(16))
    if spec.kind in {Kind.RM, Kind.MEM}:
        yield from (Mem(m.base, m.index, m.scale, m.disp, spec.size) for m in memory)
    if spec.kind in {Kind.IMM, Kind.REL, Kind.BYTE}:
        top = 1 << 8 * spec.size - 1
        yield from {0, 1, 5, top - 1}
        yield from {-top & MASK[row.width], -2 & MASK[row.width]} if spec.kind is Kind.IMM else ()
        yield from {-top, -3} if spec.kind is Kind.REL else ()
        yield from {255} if spec.kind is Kind.BYTE else ()


def samples(row: Row) -> Iterator[bytes]:
    """Encode a row with every operand value at least once, the others drawn from a fixed seed."""
    choices = [list(values(row, spec, MEMORY)) for spec in row.specs]
    random = Random(row.encoding)  # noqa: S311 - repeatable, not secret
    for turn in range(max(map(len, choices), default=1)):
        operands = [random.choice(choice) for choice in choices]
        for position, choice in enumerate(choices):
            drawn = [*operands[:position], choice[turn % len(choice)], *operands[position + 1 :]]
            try:
                yield encode(row, drawn)
            except HighByteError:
                continue
    if not choices:
        yield encode(row, [])


def names_of(module: type) -> dict[int, str]:
    return {value: name.lower() for name, value in vars(module).items() if isinstance(value, int)}


ICED_CODES = {value: name for name, value in vars(iced.Code).items() if isinstance(value, int)}
ICED_MNEMONICS = names_of(iced.Mnemonic)  # type: ignore[arg-type] # a module of constants
ICED_REGISTERS = {
    value: re.sub(r"^(r\d+)l$", r"\1b", name)
    for value, name in names_of(iced.Register).items()  # type: ignore[arg-type] # a module of constants
}


def iced_decode(code: bytes) -> iced.Instruction:
    return iced.Decoder(64, code, options=iced.DecoderOptions.AMD, ip=ORIGIN).decode()


def iced_operand(insn: iced.Instruction, position: int, mask: int) -> tuple[object, ...]:
    match insn.op_kind(position):
        case iced.OpKind.REGISTER:
            register = insn.op_register(position)
            if ICED_CODES[insn.code] in {"MOV_SREG_R64M16", "MOV_R64M16_SREG"}:  # only 16 bits count: we show 32
                register = iced.RegisterInfo(register).full_register32
            return ("register", ICED_REGISTERS[register])
        case iced.OpKind.MEMORY:
            size = iced.MemorySizeInfo(insn.memory_size).size
            base, index = (ICED_REGISTERS[number] for number in (insn.memory_base, insn.memory_index))
            scale = insn.memory_index_scale if insn.memory_index else 1
            return ("memory", size, base, index, scale, insn.memory_displacement)
        case iced.OpKind.NEAR_BRANCH64:
            return ("target", insn.near_branch_target)
        case _:
            return ("number", insn.immediate(position) & mask)


def our_operand(insn: Insn, position: int, size: int) -> tuple[object, ...]:
    match insn.operands[position]:
        case Reg() | Seg() as register:
            return ("register", register.text)
        case Mem(base, index, scale, disp):
            names = [
                "none" if number is None else "rip" if number == RIP else Reg(number, 8).text
                for number in (base, index)
            ]
            start = insn.next_rip if base == RIP else 0
            return ("memory", size, *names, scale, start + disp & M64)
        case Target(address):
            return ("target", address)
        case Imm(value):
            return ("number", value)


def assert_same(ours: Insn, theirs: iced.Instruction) -> None:
    assert theirs.len == ours.length
    assert ICED_MNEMONICS[theirs.mnemonic] == ours.row.mnemonic
    for position, operand in enumerate(ours.operands):  # iced shows the RAX of VMRUN, which we leave implied
        mask = MASK[operand.size] if isinstance(operand, Imm) else 0
        address_only = isinstance(operand, Mem) and not operand.size
        size = iced.MemorySizeInfo(theirs.memory_size).size if address_only else getattr(operand, "size", 0)
        assert our_operand(ours, position, size) == iced_operand(theirs, position, mask)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_every_form_is_what_iced_reads_and_writes(row: Row) -> None:
    for code in samples(row):
        ours, theirs = decoded(code), iced_decode(code)
        assert ours.row is row, code.hex()
        assert_same(ours, theirs)
        encoder = iced.Encoder(64)
        encoder.encode(theirs, ORIGIN)
        assert encoder.take_buffer() == code


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_every_form_is_assembled_from_its_own_text(row: Row) -> None:
    for code in samples(row):
        ours = decoded(code)
        again = assemble(ours.text, ORIGIN).code
        assert len(again) <= len(code), ours.text
        assert decoded(again).text == ours.text


def test_no_two_rows_share_bytes() -> None:
    assert len({(row.encoding, row.operands) for row in ROWS}) == len({row.encoding for row in ROWS}) == len(ROWS)


REFERENCE = [  # the programs of the recorded traces, byte for byte
    ("41 8E D4", "mov ss, r12d"),
    ("41 C7 07 00 44 00 00", "mov dword [r15], 0x4400"),
    ("48 FF 83 18 00 00 00", "inc qword [rbx+0x18]"),
    ("48 8B 04 25 00 00 00 80", "mov rax, [0xffffffff80000000]"),
    ("81 0C 24 00 01 00 00", "or dword [rsp], 0x100"),
    ("48 C7 44 24 08 34 12 00 00", "mov qword [rsp+8], 0x1234"),
    ("48 83 BB 00 08 00 00 00", "cmp qword [rbx+0x800], 0"),
    ("75 0E", "jne 0x300010"),
    ("48 CF", "iretq"),
    ("0F 01 D9", "vmmcall"),
    ("F3 90", "pause"),
    ("CD 40", "int 0x40"),
    ("48 83 C4 08", "add rsp, 8"),
]


@pytest.mark.parametrize(("code", "text"), REFERENCE, ids=[text for _code, text in REFERENCE])
def test_the_recorded_programs_read_as_they_should(code: str, text: str) -> None:
    assert decoded(bytes.fromhex(code)).text == text


# Any bytes -----------------------------------------------------------------------------------------------------------

LEGACY_PREFIXES = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3}
LEFT_OUT = {  # forms of instructions in the table that are not in it, by their iced name
    *(f"MOV_{pair}" for pair in ("AL_MOFFS8", "EAX_MOFFS32", "RAX_MOFFS64", "MOFFS8_AL", "MOFFS32_EAX", "MOFFS64_RAX")),
    *(f"{name}Q_{segment}" for name in ("PUSH", "POP") for segment in ("FS", "GS")),
    *("XCHG_R32_EAX", "XCHG_R64_RAX", "RETNQ_IMM16", "NOP_RM32", "NOP_RM64", "LIDT_M1664"),
    *(f"TEST_RM{size}_F{opcode}R1" for size, opcode in (("8_IMM8", 6), ("32_IMM32", 7), ("64_IMM32", 7))),
    *(f"{name}_M{far}" for name in ("CALL", "JMP") for far in ("1632", "1664")),
    *("MOVZX_R32_RM16", "MOVZX_R64_RM16", "CALL_M1616", "JMP_M1616"),
}
FIRST_BYTES = sorted({row.opcode[0] for row in ROWS} | set(range(0x40, 0x50)))
CODE = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.builds(
        lambda rex, opcode, rest: bytes([*rex, opcode]) + rest,
        st.lists(st.sampled_from([0xF3, *range(0x40, 0x50)]), max_size=2),
        st.sampled_from(FIRST_BYTES),
        st.binary(min_size=15, max_size=15),
    ),
)


def assert_reads_back(insn: Insn) -> None:
    """Assemble an instruction's own text: other bytes perhaps, but the same text again."""
    if insn.row.mnemonic in {"loop", "loope", "loopne", "jrcxz"} and insn.length > 2:
        with suppress(AsmError):  # a redundant prefix may carry it further than it can go without
            assemble(insn.text, insn.address)
        return
    again = assemble(insn.text, insn.address).code
    assert disassemble(again, insn.address)[0].text == insn.text


def decode_or_vector(code: bytes) -> Insn | int:
    try:
        return decoded(code)
    except Fault as fault:
        return fault.vector


@given(CODE)
def test_any_bytes_decode_as_iced_says_or_raise_ud(code: bytes) -> None:
    ours = decode_or_vector(code)
    theirs = iced_decode(code)
    if isinstance(ours, Insn):
        assert_same(ours, theirs)
        assert_reads_back(ours)
        return
    assert ours == 6
    known = ICED_MNEMONICS[theirs.mnemonic] in MNEMONICS
    assert not known or is_left_out(theirs, code), f"{theirs} ({ICED_CODES[theirs.code]})"


def is_left_out(theirs: iced.Instruction, code: bytes) -> bool:
    """Tell whether the module's documented limits say #UD for this instruction."""
    name = ICED_CODES[theirs.code]
    segment = "SREG" in name  # only SS, DS and ES, and CS never
    control = "_CR" in name or "_DR" in name
    return bool(LEGACY_PREFIXES.intersection(code[: theirs.len - 1])) or segment or control or name in LEFT_OUT


REDUNDANT_REX = [
    ("40 90", "nop"),
    ("48 FB", "sti"),
    ("48 40 FF C0", "inc eax"),  # only the REX directly before the opcode counts
    ("40 48 FF C0", "inc rax"),
    ("48 53", "push rbx"),
    ("4F 90", None),  # REX.B makes it XCHG R8, RAX: not in the table
    ("48 F3 90", "pause"),
    ("F3 48 90", "pause"),
    ("49 8E D4", "mov ss, r12d"),
    ("88 E0", "mov al, ah"),
    ("40 88 E0", "mov al, spl"),
    ("45 8B 05 10 00 00 00", "mov r8d, [rip+0x10]"),
]


@pytest.mark.parametrize(("code", "text"), REDUNDANT_REX, ids=[code for code, _text in REDUNDANT_REX])
def test_redundant_prefixes_are_read_as_a_processor_does(code: str, text: str | None) -> None:
    found = decode_or_vector(bytes.fromhex(code))
    assert (found.text if isinstance(found, Insn) else None) == text


UNDEFINED = [
    "66 90",
    "67 8B 00",
    "F0 FF 00",
    "F3 C3",
    "CF",
    "0F 05",
    "0F 01 DA",
    "0F 01 D0",
    "48 8D C0",
    "FF F8",
    "8E C8",
]


@pytest.mark.parametrize("code", UNDEFINED)
def test_bytes_outside_the_table_raise_ud(code: str) -> None:
    assert decode_or_vector(bytes.fromhex(code) + bytes(8)) == 6


def test_a_sixteenth_byte_raises_gp() -> None:
    assert decode_or_vector(b"\x48" * 14 + b"\x90") != 13
    with pytest.raises(Fault) as caught:
        decoded(b"\x48" * 15 + b"\x90")
    assert (caught.value.vector, caught.value.error) == (13, 0)


def test_a_fault_of_the_fetch_comes_through() -> None:
    def fetch(offset: int) -> int:
        if offset:
            raise Fault(14, 0x10)
        return 0x48

    with pytest.raises(Fault) as caught:
        decode(fetch, ORIGIN)
    assert caught.value.vector == 14


@given(st.binary(max_size=40), st.sampled_from([0, ORIGIN, 0xFFFF_FFFF_FFFF_FFF0]))
def test_disassembly_covers_every_byte_and_never_fails(code: bytes, origin: int) -> None:
    found = disassemble(code, origin)
    assert b"".join(insn.raw for insn in found) == code
    for insn in found:
        assert_reads_back(insn)


# Flags and results against a slow oracle -----------------------------------------------------------------------------


def ripple(a: int, b: int, carry: int, bits: int) -> tuple[int, list[int]]:
    """Add bit by bit; give the sum and the carry out of every bit."""
    total, carries = 0, []
    for n in range(bits):
        ones = (a >> n & 1) + (b >> n & 1) + carry
        total |= (ones & 1) << n
        carry = ones >> 1
        carries.append(carry)
    return total, carries


def flags_of(value: int, bits: int, cf: int, af: int, of: int) -> int:
    pf = not sum(value >> n & 1 for n in range(8)) % 2
    return cf | pf << 2 | af << 4 | (value == 0) << 6 | (value >> bits - 1) << 7 | of << 11


def oracle(mnemonic: str, a: int, b: int, carry: int, bits: int) -> tuple[int, int]:
    """Give result and arithmetic flags the slow way."""
    mask = (1 << bits) - 1
    logic = {"and": a & b, "test": a & b, "or": a | b, "xor": a ^ b}
    if mnemonic in logic:
        return logic[mnemonic], flags_of(logic[mnemonic], bits, 0, 0, 0)
    if mnemonic == "neg":
        a, b = 0, a
    if mnemonic in {"inc", "dec"}:
        b = 1
    borrow = mnemonic in {"sub", "cmp", "dec", "neg"}
    value, carries = ripple(a, b ^ mask if borrow else b, int(borrow), bits)
    cf = carry if mnemonic in {"inc", "dec"} else carries[-1] ^ borrow
    return value, flags_of(value, bits, cf, carries[3] ^ borrow, carries[-1] ^ carries[-2])


BINARY = ["add", "sub", "cmp", "and", "or", "xor", "test"]
UNARY = ["inc", "dec", "neg"]
NAMES = {8: ("cl", "dl"), 32: ("ecx", "edx"), 64: ("rcx", "rdx")}
WORDS = {8: "byte", 32: "dword", 64: "qword"}
EXTREMES = [0, 1, 15, 16, 127, 128, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
NUMBERS = st.one_of(st.sampled_from(EXTREMES), st.integers(0, M64))
ARITHMETIC = 0x8D5


@pytest.mark.parametrize("bits", NAMES)
@pytest.mark.parametrize("mnemonic", BINARY + UNARY)
@given(a=NUMBERS, b=NUMBERS, flags=st.integers(0, 2**18 - 1))
def test_results_and_flags_are_exact(mnemonic: str, bits: int, a: int, b: int, flags: int) -> None:
    mask = (1 << bits) - 1
    value, expected = oracle(mnemonic, a & mask, b & mask, flags & 1, bits)
    expected |= flags & ~ARITHMETIC
    kept = (a if bits == 64 else 0 if bits == 32 else a & ~mask) if mnemonic not in {"cmp", "test"} else a
    result = a if mnemonic in {"cmp", "test"} else kept & ~mask | value
    left, right = NAMES[bits]
    for place in (left, f"{WORDS[bits]} [rbx]"):
        cpu = FakeCpu()
        cpu.r[1], cpu.r[2], cpu.r[3], cpu.rflags = a, b, 0x1000, flags
        cpu.write(0x1000, bits // 8, a & mask)
        cpu.run(f"{mnemonic} {place}" + (f", {right}" if mnemonic in BINARY else ""))
        assert cpu.rflags == expected
        assert cpu.r[1] == (result if place == left else a)
        if place != left:
            assert cpu.read(0x1000, bits // 8) == (a & mask if mnemonic in {"cmp", "test"} else value)


CONDITIONS: list[tuple[str, Callable[[int], bool]]] = [
    ("o", lambda f: bool(f & alu.OF)),
    ("b", lambda f: bool(f & alu.CF)),
    ("e", lambda f: bool(f & alu.ZF)),
    ("be", lambda f: bool(f & alu.CF or f & alu.ZF)),
    ("s", lambda f: bool(f & alu.SF)),
    ("p", lambda f: bool(f & alu.PF)),
    ("l", lambda f: bool(f & alu.SF) != bool(f & alu.OF)),
    ("le", lambda f: bool(f & alu.ZF) or bool(f & alu.SF) != bool(f & alu.OF)),
]
OPPOSITE = {"o": "no", "b": "ae", "e": "ne", "be": "a", "s": "ns", "p": "np", "l": "ge", "le": "g"}


@pytest.mark.parametrize(("name", "holds"), CONDITIONS, ids=[name for name, _holds in CONDITIONS])
def test_conditions_over_all_flags(name: str, holds: Callable[[int], bool]) -> None:
    bits = [alu.CF, alu.PF, alu.AF, alu.ZF, alu.SF, alu.OF]
    for chosen in product((0, 1), repeat=len(bits)):
        cpu = FakeCpu()
        cpu.rflags = sum(bit for bit, taken in zip(bits, chosen, strict=True) if taken)
        target, next_rip = ORIGIN + 0x20, ORIGIN + 2
        assert cpu.run(f"j{name} {target}").rip == (target if holds(cpu.rflags) else next_rip)
        assert cpu.run(f"j{OPPOSITE[name]} {target}").rip == (next_rip if holds(cpu.rflags) else target)


# Faults, intercepts and system instructions --------------------------------------------------------------------------

FAULTING = [
    "inc qword [rbx]",
    "add [rbx], rax",
    "add rax, [rbx]",
    "cmp dword [rbx], 1",
    "mov [rbx], al",
    "mov rax, [rbx]",
    "xchg [rbx], rax",
    "push qword [rbx]",
    "pop qword [rbx]",
    "call qword [rbx]",
    "jmp qword [rbx]",
    "mov ss, [rbx]",
]
STACK_FAULTING = ["push rax", "pop rax", "pop rsp", "pop qword [rcx]", "call 0x300100", "ret", "push 5", "push [rcx]"]


@pytest.mark.parametrize("text", FAULTING + STACK_FAULTING)
def test_a_fault_commits_nothing(text: str) -> None:
    cpu = FakeCpu()
    cpu.r = [number + 0x100 for number in range(16)]
    if text in STACK_FAULTING:
        cpu.r[RSP] = 0x666800
    else:
        cpu.r[3] = 0x666000
        cpu.r[RSP] = 0x5000
    before = [*cpu.r]
    with pytest.raises(Fault):
        cpu.run(text)
    assert (cpu.r, cpu.rip, cpu.rflags, cpu.memory, cpu.calls) == (before, 0, 2, {}, [])


INTERCEPTED = [(row, row.intercept) for row in ROWS if row.intercept is not None]


@pytest.mark.parametrize(("row", "code"), INTERCEPTED, ids=[row.mnemonic for row, _code in INTERCEPTED])
def test_an_active_intercept_comes_before_the_effect(row: Row, code: int) -> None:
    raw = next(samples(row))
    cpu = FakeCpu()
    cpu.intercepts = 1 << code - 0x60
    compile_insn(decoded(raw))(cpu)
    assert cpu.calls == [("intercept", code, ORIGIN + len(raw))]
    cpu.intercepts ^= M64
    compile_insn(decoded(raw))(cpu)
    assert cpu.calls[1][0] != "intercept"


SYSTEM = [
    ("cli", ("op_cli", 1)),
    ("sti", ("op_sti", 1)),
    ("hlt", ("op_hlt", 1)),
    ("pause", ("op_pause", 2)),
    ("iretq", ("op_iretq", 2)),
    ("int 0x40", ("op_int", 2, 0x40)),
    ("int3", ("op_int3", 1)),
    ("pushfq", ("op_pushfq", 1)),
    ("popfq", ("op_popfq", 1)),
    ("cpuid", ("op_cpuid", 2)),
    ("rdtsc", ("op_rdtsc", 2)),
    ("lidt [rbx+8]", ("op_lidt", 4, 0x1008)),
    ("vmrun", ("op_vmrun", 3)),
    ("vmmcall", ("op_vmmcall", 3)),
    ("stgi", ("op_stgi", 3)),
    ("clgi", ("op_clgi", 3)),
    ("mov ss, ebx", ("op_mov_ss", 2, 0x1000)),
    ("in al, 0x60", ("op_in", 2, 0x60, 1)),
    ("in eax, dx", ("op_in", 1, 0x3F8, 4)),
    ("out 0x80, eax", ("op_out", 2, 0x80, 4)),
    ("out dx, al", ("op_out", 1, 0x3F8, 1)),
]


@pytest.mark.parametrize(("text", "call"), SYSTEM, ids=[text for text, _call in SYSTEM])
def test_system_instructions_hand_over_to_the_processor(text: str, call: tuple[str | int, ...]) -> None:
    cpu = FakeCpu()
    cpu.r[2], cpu.r[3] = 0xF_03F8, 0x1000
    cpu.run(text)
    name, length, *operands = call
    assert isinstance(length, int)
    assert cpu.calls == [(name, ORIGIN + length, *operands)]
    assert callable(getattr(Cpu, str(name)))


def test_ud2_and_data_raise_ud() -> None:
    for insn in (decoded(b"\x0f\x0b"), disassemble(b"\x66")[0]):
        with pytest.raises(Fault, match="6"):
            compile_insn(insn)(FakeCpu())


@pytest.mark.parametrize(("selector", "vector"), [(0, None), (0x10, None), (0x13, None), (8, 13)])
def test_data_segments_take_the_flat_selectors(selector: int, vector: int | None) -> None:
    cpu = FakeCpu()
    cpu.r[0] = selector
    if vector is None:
        assert cpu.run("mov ds, eax").rip == ORIGIN + 2
    else:
        with pytest.raises(Fault) as caught:
            cpu.run("mov es, eax")
        assert (caught.value.vector, caught.value.error) == (vector, selector)


def test_ss_can_be_read() -> None:
    cpu = FakeCpu()
    cpu.r = [M64] * 16
    assert cpu.run("mov ecx, ss").r[1] == 0x10
    cpu.r[3] = 0x1000
    cpu.run("mov [rbx], ss")
    assert cpu.memory == {0x1000: 0x10, 0x1001: 0}


# Against Unicorn -----------------------------------------------------------------------------------------------------

DATA = 0x400000
NOT_IN_UNICORN = {"cli", "sti", "hlt", "pause", "iretq", "int", "int3", "ud2", "cpuid", "rdtsc", "lidt", "in", "out"}
NOT_IN_UNICORN |= {"vmrun", "vmmcall", "stgi", "clgi", "pushfq", "popfq"}
COMPUTING = [
    row
    for row in ROWS
    if row.mnemonic not in NOT_IN_UNICORN and not {"SS", "DS", "ES"}.intersection(row.operands.split(", "))
]
NEAR_DATA = [
    Mem(3), Mem(3, disp=8), Mem(3, disp=-0x200), Mem(3, 1, 8, 4), Mem(13, 9, 2, -64), Mem(4, disp=16), Mem(4),
    Mem(5, 1), Mem(None, None, 1, DATA + 0x800), Mem(RIP, None, 1, DATA - ORIGIN - 0x700),
]  # fmt: skip
THROUGH_OPERAND = {"jmp", "call", "ret"}
LANDING = ORIGIN + 0x1800


def start_state(row: Row, random: Random) -> FakeCpu:
    """Give random registers, with the bases of NEAR_DATA in the data page, and random data."""
    cpu = FakeCpu()
    cpu.r = [random.choice((random.choice(EXTREMES), random.getrandbits(64))) for _ in range(16)]
    for base in (3, 4, 5, 13):
        cpu.r[base] = DATA + 0x800 + 8 * random.randrange(16)
    cpu.r[1], cpu.r[9] = random.randrange(8), random.randrange(8)
    cpu.rflags = 2 | random.getrandbits(12) & ARITHMETIC
    data = random.randbytes(0x1000)
    if row.mnemonic in THROUGH_OPERAND:
        cpu.r[0], data = LANDING, LANDING.to_bytes(8, "little") * 0x200
    cpu.memory = {DATA + offset: byte for offset, byte in enumerate(data)}
    return cpu


def drawn_code(row: Row, random: Random) -> bytes | None:
    """Encode a row with random operands that stay in the data page; nothing where AH meets REX."""
    choices = [
        [-0x80, -3, 5, 0x7F] if spec.kind is Kind.REL else list(values(row, spec, NEAR_DATA)) for spec in row.specs
    ]
    operands = [random.choice(choice) for choice in choices]
    if row.mnemonic in THROUGH_OPERAND:  # of registers only RAX holds an address, and of memory all that is aligned
        operands = [value if isinstance(value, int) else Reg(0, 8) for value in operands]
    try:
        return encode(row, operands)
    except HighByteError:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("row", COMPUTING, ids=repr)
def test_one_instruction_does_what_unicorn_does(row: Row) -> None:
    unicorn = pytest.importorskip("unicorn")
    from unicorn import x86_const as x86

    ids = [getattr(x86, f"UC_X86_REG_{Reg(number, 8).text.upper()}") for number in range(16)]
    random = Random(row.encoding)  # noqa: S311 - repeatable, not secret
    emulator = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    emulator.mem_map(ORIGIN, 0x2000)
    emulator.mem_map(DATA, 0x1000)
    for start in range(
        ORIGIN + 0x800, ORIGIN + 0x1000, 0x40
    ):  # never the same place twice: Unicorn caches translations
        code = drawn_code(row, random)
        if code is None:
            continue
        cpu = start_state(row, random)
        emulator.mem_write(start, code)
        emulator.mem_write(DATA, bytes(cpu.memory[DATA + offset] for offset in range(0x1000)))
        for number, value in zip(ids, cpu.r, strict=True):
            emulator.reg_write(number, value)
        emulator.reg_write(x86.UC_X86_REG_EFLAGS, cpu.rflags)
        compile_insn(decoded(code, start))(cpu)
        emulator.emu_start(start, 0, count=1)
        found = [emulator.reg_read(number) for number in [*ids, x86.UC_X86_REG_EFLAGS, x86.UC_X86_REG_RIP]]
        assert [*cpu.r, cpu.rflags, cpu.rip] == found, decoded(code).text
        assert bytes(cpu.memory[DATA + offset] for offset in range(0x1000)) == emulator.mem_read(DATA, 0x1000)
