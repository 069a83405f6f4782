"""The assembler: Intel text with labels to bytes, always in the shortest encoding.

Jumps start short and grow until every target is reached. A label inside a memory operand gets a 32-bit displacement:
its address is not known when the line is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from vnmi_lab.hw.encode import UNSIZED, HighByteError, Value, encode, matches, matching, number_fits
from vnmi_lab.hw.forms import Kind, Row, Spec
from vnmi_lab.hw.insn import ALIASES, ROWS
from vnmi_lab.hw.operands import M64, RIP, Mem, fits_signed, hexadecimal, sign_extend
from vnmi_lab.hw.syntax import (
    DATA_SIZES,
    Argument,
    AsmError,
    Label,
    LineParser,
    Place,
    Statement,
    Sum,
    Token,
    did_you_mean,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["AsmError", "Program", "assemble"]

MOST_FORMS: Final = 4
"""How many forms an error message lists."""
HERE: Final = "$"
"""Name of the statement's own address."""


def _by_mnemonic() -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in ROWS:
        found.setdefault(row.mnemonic, []).append(row)
    return found


_FORMS: Final = _by_mnemonic()
_WORDS: Final = (*_FORMS, *ALIASES, *DATA_SIZES, "times")


@dataclass(frozen=True, slots=True)
class Program:
    """Assembled bytes, where they belong, and which line each came from."""

    origin: int
    code: bytes
    labels: Mapping[str, int]
    lines: tuple[tuple[int, int, str], ...]
    """(address, line number, source text) of every statement."""


def assemble(source: str, origin: int = 0, symbols: Mapping[str, int] | None = None) -> Program:
    """Assemble a program to run at `origin`; `symbols` are names it may use besides its own labels."""
    numbered = enumerate(source.splitlines(), start=1)
    layout = _Layout([item for number, line in numbered for item in LineParser(line, number).parse()], symbols or {})
    starts, labels, chunks = layout.settle(origin)
    lines = tuple(
        (start, statement.token.line, statement.source)
        for start, statement in zip(starts, layout.statements, strict=True)
    )
    return Program(origin, b"".join(chunks), labels, lines)


class _Layout:
    """The statements of a program while their lengths are still being settled."""

    def __init__(self, items: Sequence[Label | Statement], symbols: Mapping[str, int]) -> None:
        self.items = items
        self.symbols = symbols
        self.statements = [item for item in items if isinstance(item, Statement)]
        self.names: dict[str, Token] = {}
        for item in items:
            if isinstance(item, Label):
                self.declare(item.token)
        self.local = {HERE, *self.names}

    def declare(self, token: Token) -> None:
        """Note a label; each name means one thing."""
        if token.text in self.names:
            raise token.error(f"label '{token.text}' is already on line {self.names[token.text].line}")
        if token.text in self.symbols:
            raise token.error(f"label '{token.text}' is already a symbol ({hex(self.symbols[token.text])})")
        self.names[token.text] = token

    def settle(self, origin: int) -> tuple[list[int], dict[str, int], list[bytes]]:
        """Lengthen statements until all reach what they name. Lengths only grow, so this ends."""
        known = {**self.symbols, **dict.fromkeys(self.local, origin)}
        shared: dict[int, bytes] = {}  # a repeated statement is one object
        chunks = [
            shared.get(id(statement)) or shared.setdefault(id(statement), _encode(statement, known, self.local))
            for statement in self.statements
        ]
        moving = [_depends_on_place(statement) for statement in self.statements]
        while True:
            starts, labels = self.place(chunks, origin)
            known = {**self.symbols, **labels}
            settled = [
                _encode(statement, known | {HERE: start}, self.local, start, len(chunk)) if moves else chunk
                for statement, start, chunk, moves in zip(self.statements, starts, chunks, moving, strict=True)
            ]
            if list(map(len, settled)) == list(map(len, chunks)):
                return starts, labels, settled
            chunks = settled

    def place(self, chunks: list[bytes], origin: int) -> tuple[list[int], dict[str, int]]:
        """Give the address of every statement and label."""
        starts, labels, address = [], {}, origin
        lengths = map(len, chunks)
        for item in self.items:
            if isinstance(item, Label):
                labels[item.token.text] = address
            else:
                starts.append(address)
                address = address + next(lengths) & M64
        return starts, labels


def _depends_on_place(statement: Statement) -> bool:
    """Tell whether the bytes may change when the statement or a label moves."""
    jumps = any(spec.kind is Kind.REL for row in _forms(statement) for spec in row.specs)
    return jumps or any(
        (isinstance(value, Sum) and value.names) or (isinstance(value, Place) and (value.relative or value.disp.names))
        for value in (argument.value for argument in statement.arguments)
    )


def _forms(statement: Statement) -> Sequence[Row]:
    """Find the rows of a mnemonic; data directives have none."""
    word = statement.mnemonic
    if word in DATA_SIZES:
        return ()
    rows = _FORMS.get(ALIASES.get(word, word))
    if rows is None:
        hint = did_you_mean(word, _WORDS) or ("" if statement.arguments else ": a label ends in ':'")
        raise statement.token.error(f"unknown instruction '{statement.token.text}'{hint}")
    return rows


def _encode(
    statement: Statement, known: Mapping[str, int], local: set[str], start: int | None = None, minimum: int = 0
) -> bytes:
    """Encode one statement in the fewest bytes, `minimum` at least; without a `start` any jump is short."""
    rows = _forms(statement)
    if not rows:
        if not statement.arguments:
            raise statement.token.error(f"'{statement.mnemonic}' needs data: numbers or text")
        return b"".join(_data(statement, argument, known) for argument in statement.arguments)
    operands = [_value(argument, known) for argument in statement.arguments]
    shaped = [row for row in rows if matches(row, operands)]
    if not shaped:
        raise _no_form(statement, rows, operands)
    _require_size(statement, shaped, operands)
    places = [argument.value for argument in statement.arguments if isinstance(argument.value, Place)]
    wide = any(name.text in local for place in places for _factor, name in place.disp.names)
    relative = any(place.relative for place in places)
    try:
        found = [_encode_row(row, operands, start, wide=wide, relative=relative) for row in shaped]
    except HighByteError as error:
        raise statement.token.error(str(error)) from None
    fitting = [code for code in found if code and len(code) >= minimum]
    if not fitting:
        raise _out_of_range(statement, shaped, operands, start)
    return min(fitting, key=len)


def _encode_row(row: Row, operands: Sequence[Value], start: int | None, *, wide: bool, relative: bool) -> bytes | None:
    """Encode one row; nothing if a number does not fit it."""
    next_rip = (start or 0) + len(encode(row, operands, wide=wide)) & M64
    final: list[Value] = []
    for spec, operand in zip(row.specs, operands, strict=True):
        match operand:
            case int() if spec.kind is Kind.REL:
                distance = sign_extend(operand - next_rip, 8) if start is not None else 0
                if not number_fits(row, spec, distance):
                    return None
                final.append(distance)
            case int() if not number_fits(row, spec, operand):
                return None
            case Mem(disp=disp) if relative:
                distance = sign_extend(disp - next_rip, 8)
                if start is not None and not fits_signed(distance, 32):
                    return None
                final.append(replace(operand, disp=distance))
            case _:
                final.append(operand)
    return encode(row, final, wide=wide)


def _value(argument: Argument, known: Mapping[str, int]) -> Value:
    """Resolve the names of an operand."""
    value = argument.value
    if isinstance(value, bytes):
        raise argument.token.error(f"{argument.text} is text: only db, dw, dd and dq take it")
    if isinstance(value, Sum):
        return value.value(known)
    if not isinstance(value, Place):
        return value
    disp = value.disp.value(known)
    if value.relative:
        return replace(value.mem, base=RIP, disp=disp)
    disp = sign_extend(disp, 8) if -1 << 63 <= disp <= M64 else disp
    if not fits_signed(disp, 32):
        raise argument.token.error(f"displacement {hexadecimal(disp)} does not fit in 32 bits: load it into a register")
    return replace(value.mem, disp=disp)


def _data(statement: Statement, argument: Argument, known: Mapping[str, int]) -> bytes:
    """Encode one item of DB, DW, DD or DQ."""
    size = DATA_SIZES[statement.mnemonic]
    match argument.value:
        case bytes() as text:
            return text + bytes(-len(text) % size)
        case Sum() as total:
            number = total.value(known)
            if -(1 << 8 * size - 1) <= number < 1 << 8 * size:
                return (number % (1 << 8 * size)).to_bytes(size, "little")
            raise argument.token.error(f"'{argument.text}' ({hexadecimal(number)}) does not fit in {8 * size} bits")
        case _:
            raise argument.token.error(f"'{argument.text}' is no data: {statement.mnemonic} takes numbers and text")


# Errors --------------------------------------------------------------------------------------------------------------


def _require_size(statement: Statement, rows: Sequence[Row], operands: Sequence[Value]) -> None:
    """Refuse memory of unknown size where several sizes are possible."""
    for position, operand in enumerate(operands):
        if isinstance(operand, Mem) and operand.size == UNSIZED and len({row.specs[position].size for row in rows}) > 1:
            argument = statement.arguments[position]
            remedy = f"write byte, dword or qword before it, as in 'qword {argument.text}'"
            raise argument.token.error(f"size of '{argument.text}' is unknown: {remedy}")


def _no_form(statement: Statement, rows: Sequence[Row], operands: Sequence[Value]) -> AsmError:
    """Explain that the instruction does not take these operands, with the forms that come nearest."""
    given = ", ".join(argument.text for argument in statement.arguments)
    nearest = sorted(rows, key=lambda row: matching(row, operands), reverse=True)
    taken = list(dict.fromkeys(row.operands or "no operand" for row in nearest))[:MOST_FORMS]
    problem = f"'{statement.mnemonic}' does not take '{given}'" if given else f"'{statement.mnemonic}' needs operands"
    return statement.token.error(f"{problem}: it takes {' | '.join(taken)}")


def _out_of_range(statement: Statement, rows: Sequence[Row], operands: Sequence[Value], start: int | None) -> AsmError:
    """Explain which number does not fit."""
    for position, (argument, operand) in enumerate(zip(statement.arguments, operands, strict=True)):
        row = max(rows, key=lambda row: row.specs[position].size)
        spec = row.specs[position]
        if not isinstance(operand, int):
            continue
        if spec.kind is Kind.REL:
            distance = sign_extend(operand - (start or 0) - 2, 8)
            reach = f"'{statement.mnemonic}' reaches {-1 << 8 * spec.size - 1} to {(1 << 8 * spec.size - 1) - 1}"
            return argument.token.error(f"'{argument.text}' is {distance} bytes away: {reach}")
        if not number_fits(row, spec, operand):
            shown = (
                f"'{argument.text}'" if argument.text == hex(operand) else f"'{argument.text}' ({hexadecimal(operand)})"
            )
            return argument.token.error(f"{shown} does not fit in {8 * spec.size} bits{_extended(row, spec)}")
    return statement.token.error(f"'{statement.source}' is out of reach of rip: at most 2 GiB away")


def _extended(row: Row, spec: Spec) -> str:
    if spec.kind is Kind.BYTE:
        return ": 0 to 255"
    return f", sign-extended to {8 * row.width}: put it in a register first" if spec.size < row.width else ""
