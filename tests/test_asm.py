"""The assembler: shortest encodings, labels, directives, and errors that say where and what would be right."""

from __future__ import annotations

import iced_x86 as iced
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnmi_lab.hw.asm import AsmError, assemble
from vnmi_lab.hw.insn import ALIASES, CONDITIONS, disassemble

ORIGIN = 0x300000

SHORTEST = [
    ("add rsp, 8", "48 83 C4 08"),
    ("add rsp, 80h", "48 81 C4 80 00 00 00"),
    ("add rax, 0x12345678", "48 05 78 56 34 12"),
    ("add al, 5", "04 05"),
    ("add eax, -1", "83 C0 FF"),
    ("add eax, 0xffffffff", "83 C0 FF"),
    ("cmp qword [rbx+800h], 0", "48 83 BB 00 08 00 00 00"),
    ("or dword [rsp], 100h", "81 0C 24 00 01 00 00"),
    ("mov rax, 1", "48 C7 C0 01 00 00 00"),
    ("mov eax, 1", "B8 01 00 00 00"),
    ("mov rax, 0x80000000", "48 B8 00 00 00 80 00 00 00 00"),
    ("mov rax, 0xffffffff80000000", "48 C7 C0 00 00 00 80"),
    ("mov rax, rbx", "48 89 D8"),
    ("xor eax, eax", "31 C0"),
    ("test rax, rax", "48 85 C0"),
    ("push 127", "6A 7F"),
    ("push 128", "68 80 00 00 00"),
    ("push r12", "41 54"),
    ("mov ss, r12d", "41 8E D4"),
    ("MOV SS, R12", "41 8E D4"),
    ("mov ss, ax", "8E D0"),
    ("inc qword [rbx]", "48 FF 03"),
    ("inc qword [rbp]", "48 FF 45 00"),
    ("inc qword [r13+rax]", "49 FF 44 05 00"),
    ("inc qword [r12]", "49 FF 04 24"),
    ("inc qword [rax+rsp]", "48 FF 04 04"),
    ("inc qword [rcx*4]", "48 FF 04 8D 00 00 00 00"),
    ("mov rax, [0xffffffff80000000]", "48 8B 04 25 00 00 00 80"),
    ("mov dword ptr [r15], 4400h", "41 C7 07 00 44 00 00"),
    ("jmp [rax]", "FF 20"),
    ("in al, dx", "EC"),
    ("out 80h, al", "E6 80"),
]


@pytest.mark.parametrize(("text", "code"), SHORTEST, ids=[text for text, _code in SHORTEST])
def test_the_shortest_encoding_is_chosen(text: str, code: str) -> None:
    assert assemble(text).code == bytes.fromhex(code)


SPELLINGS = [
    ("mov rax, 10h", "mov rax, 16"),
    ("mov rax, 0b1_0000", "mov rax, 0x10"),
    ("mov rax, 2*8", "mov rax, 16"),
    ("mov rax, 0FFh", "mov rax, 255"),
    ("mov rax, --16+-1+1", "mov rax, 16"),
    ("mov rax, [rbx + 4*rcx - 8]", "mov rax, [rbx+rcx*4-8]"),
    ("mov rax, [8+rbx]", "mov rax, [rbx+8]"),
    ("mov rax, [rcx*2+rbx]", "mov rax, [rbx+rcx*2]"),
    ("mov rax, qword ptr [rbx]", "mov rax, [rbx]"),
    ("  NOP ; a comment", "nop"),
    ("nop # another", "nop"),
    ("db 'a;b#', 1", "db 97, 59, 98, 35, 1"),
    ("db -1", "db 255"),
    ("dw 1, 'abc'", "db 1, 0, 'abc', 0"),
    ("dd -2", "db 0FEh, 0FFh, 0FFh, 0FFh"),
    ("dq 0x123456789abcdef0", "dd 0x9abcdef0, 0x12345678"),
    ("times 3 nop", "nop\nnop\nnop"),
    ("times 0 nop", ""),
    ("times 2 db 1, 2", "db 1, 2, 1, 2"),
    ("loopz $", "loope $"),
    ("jmp $", f"jmp {ORIGIN}"),
    ("mov rax, [rel $+7]", "mov rax, [rip]"),
    ("mov rax, [rip+counter]", f"mov rax, [rip+{0x340000 - ORIGIN - 7}]"),
    ("mov rax, counter", "mov rax, 0x340000"),
    ("inc qword [rbx+slot*8]", "inc qword [rbx+16]"),
    ("inc qword [rbx+8*slot-slot]", "inc qword [rbx+14]"),
]


@pytest.mark.parametrize(("text", "same"), SPELLINGS, ids=[text for text, _same in SPELLINGS])
def test_other_spellings_of_the_same(text: str, same: str) -> None:
    symbols = {"counter": 0x340000, "slot": 2}
    assert assemble(text, ORIGIN, symbols).code == assemble(same, ORIGIN).code


@pytest.mark.parametrize("other", [f"j{other}" for names in CONDITIONS for other in names[1:]])
def test_other_names_of_conditions(other: str) -> None:
    theirs = iced.Decoder(64, assemble(f"{other} $").code).decode()
    assert f"{theirs}".split()[0] == ALIASES[other]


# Programs ------------------------------------------------------------------------------------------------------------

PROGRAM = """\
; counts to three
start:  mov rcx, 3
again:  inc qword [rbx+8]       # the counter
        loop again
        jmp start
table:  dq again, table
"""


def test_a_program_has_labels_and_remembers_its_lines() -> None:
    program = assemble(PROGRAM, ORIGIN)
    assert program.labels == {"start": ORIGIN, "again": ORIGIN + 7, "table": ORIGIN + 15}
    assert program.lines == (
        (ORIGIN, 2, "mov rcx, 3"),
        (ORIGIN + 7, 3, "inc qword [rbx+8]"),
        (ORIGIN + 11, 4, "loop again"),
        (ORIGIN + 13, 5, "jmp start"),
        (ORIGIN + 15, 6, "dq again, table"),
    )
    assert program.code[-16:] == (ORIGIN + 7).to_bytes(8, "little") + (ORIGIN + 15).to_bytes(8, "little")
    assert [insn.text for insn in disassemble(program.code[:15], ORIGIN)] == [
        "mov rcx, 3",
        "inc qword [rbx+8]",
        "loop 0x300007",
        "jmp 0x300000",
    ]


@pytest.mark.parametrize(("gap", "length"), [(126, 2), (127, 2), (128, 5)])
def test_a_forward_jump_is_short_as_long_as_it_reaches(gap: int, length: int) -> None:
    program = assemble(f"jmp over\ntimes {gap} nop\nover: nop")
    assert program.labels["over"] == length + gap
    assert disassemble(program.code)[0].length == length


@pytest.mark.parametrize(("gap", "length"), [(126, 2), (127, 6)])
def test_a_backward_jump_is_short_as_long_as_it_reaches(gap: int, length: int) -> None:
    program = assemble(f"back: times {gap} nop\njne back", 0xFFFF_FFFF_8000_0000)
    assert len(program.code) == gap + length


def test_one_jump_growing_makes_another_grow() -> None:
    program = assemble("jmp near\njmp far\ntimes 124 nop\nnear: times 200 nop\nfar: nop")
    first, second = disassemble(program.code)[:2]
    assert (first.length, second.length) == (5, 5)
    assert first.text == f"jmp {program.labels['near']:#x}"
    assert second.text == f"jmp {program.labels['far']:#x}"
    assert len(assemble("jmp near\njmp near\ntimes 124 nop\nnear: times 200 nop").code) == 2 + 2 + 324


def test_a_label_in_an_address_gets_32_bits_and_rip_relative_reaches_it() -> None:
    program = assemble("mov rax, [rbx+here]\nlea rax, [rip+here]\nlea rcx, [rel here]\nhere: nop", ORIGIN)
    first, second, third, _nop = disassemble(program.code, ORIGIN)
    assert first.text == "mov rax, [rbx+0x300015]"
    assert (second.text, third.text) == ("lea rax, [rip+7]", "lea rcx, [rip]")


def test_an_empty_program_is_no_bytes() -> None:
    assert assemble("\n ; nothing\n").code == b""


LINES = st.sampled_from(
    ["nop", "jmp {0}", "jne {0}", "call {0}", "mov rax, {0}", "lea rax, [rip+{0}]", "times 40 nop", "add rax, {0}-{1}"]
)


@given(st.lists(st.tuples(LINES, st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=30))
def test_disassembled_programs_assemble_to_the_same_bytes(lines: list[tuple[str, int, int]]) -> None:
    names = [f"l{number}" for number in range(len(lines))]
    source = "\n".join(
        f"{name}: {text.format(names[a % len(lines)], names[b % len(lines)])}"
        for name, (text, a, b) in zip(names, lines, strict=True)
    )
    program = assemble(source, ORIGIN)
    texts = [insn.text for insn in disassemble(program.code, ORIGIN)]
    assert assemble("\n".join(texts), ORIGIN).code == program.code
    starts = {address for address, _line, _text in program.lines}
    assert starts <= {insn.address for insn in disassemble(program.code, ORIGIN)}
    assert all(address in starts for address in program.labels.values())


# Errors --------------------------------------------------------------------------------------------------------------

ERRORS = [
    ("movv rax, 1", "line 1, column 1: unknown instruction 'movv': did you mean 'mov'?"),
    ("iret", "line 1, column 1: unknown instruction 'iret': did you mean 'iretq'?"),
    ("again", "line 1, column 1: unknown instruction 'again': a label ends in ':'"),
    ("nop\n  mov rax, raz", "line 2, column 12: unknown name 'raz': did you mean 'rax'?"),
    ("jne dome\ndone: nop", "line 1, column 5: unknown name 'dome': did you mean 'done'?"),
    ("mov al, 300", "line 1, column 9: '300' (0x12c) does not fit in 8 bits"),
    ("int 0x100", "line 1, column 5: '0x100' does not fit in 8 bits: 0 to 255"),
    ("out 300, al", "line 1, column 5: '300' (0x12c) does not fit in 8 bits: 0 to 255"),
    (
        "add rax, 0x100000000",
        "line 1, column 10: '0x100000000' does not fit in 32 bits, sign-extended to 64: put it in a register first",
    ),
    ("mov rax rbx", "line 1, column 9: expected a comma or the end of the line, not 'rbx'"),
    ("mov rax,", "line 1, column 9: expected an operand, not the end of the line"),
    ("mov rax, [rbx", "line 1, column 14: expected ']', not the end of the line"),
    ("mov rax, qword rbx", "line 1, column 16: expected '[' after 'qword', not 'rbx'"),
    ("5", "line 1, column 1: expected an instruction, not '5'"),
    ("nop @", "line 1, column 5: unexpected '@'"),
    (
        "inc [rbx]",
        "line 1, column 5: size of '[rbx]' is unknown: write byte, dword or qword before it, as in 'qword [rbx]'",
    ),
    (
        "mov ss, 5",
        (
            "line 1, column 1: 'mov' does not take 'ss, 5': it takes SS, reg16/32/64/mem16 | reg8, imm8 | "
            "reg32, imm32 | reg64, imm64"
        ),
    ),
    ("push eax", "line 1, column 1: 'push' does not take 'eax': it takes reg64 | imm8 | imm32 | reg/mem64"),
    ("int", "line 1, column 1: 'int' needs operands: it takes vector"),
    ("nop 1", "line 1, column 1: 'nop' does not take '1': it takes no operand"),
    ("x: nop\nx: nop", "line 2, column 1: label 'x' is already on line 1"),
    ("slot: nop", "line 1, column 1: label 'slot' is already a symbol (0x2)"),
    ("rax: nop", "line 1, column 1: 'rax' is a register: give the label another name"),
    ("loop 0x1000", "line 1, column 6: '0x1000' is 4094 bytes away: 'loop' reaches -128 to 127"),
    (
        "mov ah, r8b",
        "line 1, column 1: 'ah' cannot stand in an instruction that needs a REX prefix (APM volume 3, 1.2.7)",
    ),
    ("mov rax, [ebx]", "line 1, column 11: 'ebx' cannot address memory: did you mean 'rbx'?"),
    ("mov rax, [rsp*2]", "line 1, column 11: 'rsp' cannot be an index here"),
    ("mov rax, [rip+rcx]", "line 1, column 15: 'rcx' cannot be an index here"),
    ("mov rax, [rbx+rcx*3]", "line 1, column 19: expected a scale of 1, 2, 4 or 8, not '3'"),
    ("mov rax, [rax*2+rcx*4]", "line 1, column 17: 'rcx' is a second scaled register: only the index has a scale"),
    (
        "mov rax, [rax+rcx+rdx]",
        "line 1, column 19: 'rdx' is one register too many: an address has a base and an index",
    ),
    ("mov rax, [rbx-rcx]", "line 1, column 15: 'rcx' cannot be subtracted in an address"),
    (
        "mov rax, [0x123456789]",
        "line 1, column 10: displacement 0x123456789 does not fit in 32 bits: load it into a register",
    ),
    (
        "lea rax, [rel 0x123456789]",
        "line 1, column 1: 'lea rax, [rel 0x123456789]' is out of reach of rip: at most 2 GiB away",
    ),
    ("mov rax, 12q", "line 1, column 10: '12q' is not a number: write 16, 0x10, 10h or 0b10000"),
    ("mov rax, slot*slot", "line 1, column 15: 'slot' is multiplied by another name: one of them must be a number"),
    ("db rax", "line 1, column 4: 'rax' is no data: db takes numbers and text"),
    ("db 256", "line 1, column 4: '256' (0x100) does not fit in 8 bits"),
    ("db", "line 1, column 1: 'db' needs data: numbers or text"),
    ("mov rax, 'a'", "line 1, column 10: 'a' is text: only db, dw, dd and dq take it"),
    ("times 99999999 nop", "line 1, column 7: 'times 99999999' is too many: at most 65536"),
    ("times x nop", "line 1, column 7: expected a number after 'times', not 'x'"),
    ("times 3", "line 1, column 8: expected an instruction, not the end of the line"),
]


def refusal(text: str) -> AsmError | None:
    try:
        assemble(text, symbols={"slot": 2})
    except AsmError as error:
        return error
    return None


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=[text for text, _message in ERRORS])
def test_errors_say_where_and_what_would_be_right(text: str, message: str) -> None:
    error = refusal(text)
    assert error is not None
    assert str(error) == message
    assert str(error) == f"line {error.line}, column {error.column}: {error.problem}"


def test_a_number_of_5000_digits_is_refused_in_one_line() -> None:
    for digits in ("9" + 5000 * "0", f"0x{5000 * 'f'}"):
        assert str(refusal(f"mov rax, {digits}")) == (
            f"line 1, column 10: '{digits[:12]}...' goes on for {len(digits):,} letters; a register holds 64 bits"
        )


@given(st.text(alphabet="abcdefghilmnoprstvx rdi[]+-*,:;'\"0123456789$.\n\té", max_size=40))
def test_any_text_assembles_or_is_refused_with_a_place(text: str) -> None:
    error = refusal(text)
    if error is not None:
        assert 1 <= error.line <= len(text.splitlines())
        assert 1 <= error.column <= len(text.splitlines()[error.line - 1]) + 1
