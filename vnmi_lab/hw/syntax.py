"""The assembler's language: Intel syntax, one statement a line, read into statements whose names are not yet resolved.

again:  mov qword [rbx+rcx*8-8], 10h   ; numbers: 16 0x10 10h 0b10000
        times 3 nop                    # both comment signs
        jnz again
        dq again, $+8                  ; db dw dd dq; $ is the address of the statement
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from vnmi_lab.hw.encode import UNSIZED
from vnmi_lab.hw.operands import NAMES, REGISTERS, RIP, RSP, SIZE_WORDS, Mem, Reg, Seg

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

SEGMENTS: Final = {name: Seg(name) for name in ("ss", "ds", "es")}
DATA_SIZES: Final = {"db": 1, "dw": 2, "dd": 4, "dq": 8}
"""Data directives and the bytes of one item."""
MAX_TIMES: Final = 0x10000
"""Most repetitions that TIMES takes: a guest's whole code window."""

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)|(?P<comment>[;#].*)
    |(?P<number>\d\w*)|(?P<string>"[^"]*"|'[^']*')
    |(?P<name>[^\W\d][\w.]*|[.$?][\w.]*)|(?P<mark>[][+\-*,:])""",
    re.VERBOSE,
)
_NUMBER: Final = re.compile(
    r"0x(?P<x>[0-9a-f_]+)|(?P<h>[0-9][0-9a-f_]*)h|0b(?P<b>[01_]+)|(?P<d>[0-9_]+)", re.IGNORECASE
)
_RADIX: Final = {"x": 16, "h": 16, "b": 2, "d": 10}


class AsmError(ValueError):
    """Text that does not assemble: where, what was wrong, and what would be right."""

    def __init__(self, line: int, column: int, problem: str) -> None:
        super().__init__(f"line {line}, column {column}: {problem}")
        self.line = line
        self.column = column
        self.problem = problem


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Suggest the nearest known word, or nothing."""
    import difflib  # noqa: PLC0415 - only an error pays for it

    near = difflib.get_close_matches(word.lower(), known, n=1)
    return f": did you mean '{near[0]}'?" if near else ""


class Token(NamedTuple):
    """A word of the source and its place."""

    kind: str
    text: str
    line: int
    column: int

    def error(self, problem: str) -> AsmError:
        """Make the error that points here."""
        return AsmError(self.line, self.column, problem)


class Sum(NamedTuple):
    """A number plus multiples of names."""

    constant: int = 0
    names: tuple[tuple[int, Token], ...] = ()

    def plus(self, other: Sum, factor: int) -> Sum:
        """Add a multiple of another sum."""
        names = tuple((factor * count, name) for count, name in other.names)
        return Sum(self.constant + factor * other.constant, self.names + names)

    def value(self, known: Mapping[str, int]) -> int:
        """Resolve the names."""
        total = self.constant
        for factor, name in self.names:
            if name.text not in known:
                hint = did_you_mean(name.text, [*known, *REGISTERS])
                raise name.error(f"unknown name '{name.text}'{hint}")
            total += factor * known[name.text]
        return total


class Place(NamedTuple):
    """A memory operand whose displacement is still a sum; `relative` asks for RIP-relative addressing of an address."""

    mem: Mem
    disp: Sum
    relative: bool = False


class Argument(NamedTuple):
    """One operand as written."""

    value: Reg | Seg | Place | Sum | bytes
    text: str
    token: Token


class Statement(NamedTuple):
    """An instruction or a data directive."""

    mnemonic: str
    arguments: tuple[Argument, ...]
    token: Token
    source: str


class Label(NamedTuple):
    """A name for the address of what follows."""

    token: Token


def tokenize(source: str, line: int) -> list[Token]:
    """Split one line; comments are dropped and an end token closes it."""
    tokens = []
    position = 0
    while position < len(source):
        found = _TOKEN.match(source, position)
        if not found:
            raise AsmError(line, position + 1, f"unexpected {source[position]!r}")
        if found.lastgroup not in {"space", "comment"}:
            tokens.append(Token(str(found.lastgroup), found[0], line, position + 1))
        position = found.end()
    end = tokens[-1].column + len(tokens[-1].text) if tokens else 1
    return [*tokens, Token("end", "the end of the line", line, end)]


MOST_DIGITS = 80
"""A number of 64 bits has no more, in whatever way it is written."""


def number(token: Token) -> int:
    """Read 16, 0x10, 10h or 0b10000."""
    found = _NUMBER.fullmatch(token.text)
    if found and len(token.text) > MOST_DIGITS:
        raise token.error(f"'{token.text[:12]}...' goes on for {len(token.text):,} letters; a register holds 64 bits")
    if not found:
        raise token.error(f"'{token.text}' is not a number: write 16, 0x10, 10h or 0b10000")
    return int(found[str(found.lastgroup)], _RADIX[str(found.lastgroup)])


class LineParser:
    """Reads the statements of one line."""

    def __init__(self, source: str, line: int) -> None:
        self.source = source
        self.tokens = tokenize(source, line)
        self.at = 0

    @property
    def token(self) -> Token:
        """The token not yet read."""
        return self.tokens[self.at]

    def next(self) -> Token:
        """Read a token; the end can be read for ever."""
        token = self.token
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def accept(self, text: str) -> bool:
        """Read the token if it is this word or mark."""
        if self.token.kind in {"name", "mark"} and self.token.text.lower() == text:
            self.next()
            return True
        return False

    def expected(self, what: str) -> AsmError:
        """Make the error that refuses the token."""
        return self.token.error(f"expected {what}, not {_quoted(self.token)}")

    def parse(self) -> list[Label | Statement]:
        """Read labels, then at most one statement, repeated if TIMES says so."""
        found: list[Label | Statement] = []
        while self.token.kind == "name" and self.tokens[self.at + 1].text == ":":
            found.append(Label(_free_name(self.next())))
            self.next()
        if self.token.kind == "end":
            return found
        times = self.times()
        statement = self.statement()
        if self.token.kind != "end":
            raise self.expected("a comma or the end of the line")
        return [*found, *[statement] * times]

    def times(self) -> int:
        """Read ``times N`` if it is there."""
        if not self.accept("times"):
            return 1
        token = self.token
        if token.kind != "number":
            raise self.expected("a number after 'times'")
        count = number(self.next())
        if count > MAX_TIMES:
            raise token.error(f"'times {token.text}' is too many: at most {MAX_TIMES}")
        return count

    def statement(self) -> Statement:
        """Read a mnemonic and its operands."""
        if self.token.kind != "name":
            raise self.expected("an instruction")
        token = self.next()
        arguments = []
        if self.token.kind != "end":
            arguments.append(self.argument())
            while self.accept(","):
                arguments.append(self.argument())
        text = self.source[token.column - 1 : self.token.column - 1].strip()
        return Statement(token.text.lower(), tuple(arguments), token, text)

    def argument(self) -> Argument:
        """Read one operand."""
        token = self.token
        value = self.operand()
        text = self.source[token.column - 1 : self.token.column - 1].strip()
        return Argument(value, text, token)

    def operand(self) -> Reg | Seg | Place | Sum | bytes:
        """Read a register, memory, text, or a sum."""
        word = self.token.text.lower()
        if self.token.kind == "string":
            return self.next().text[1:-1].encode()
        if self.token.kind == "name" and word in REGISTERS | SEGMENTS:
            self.next()
            return REGISTERS[word] if word in REGISTERS else SEGMENTS[word]
        if self.token.kind == "name" and word in SIZE_WORDS:
            self.next()
            self.accept("ptr")
            if self.token.text != "[":
                raise self.expected(f"'[' after '{word}'")
            return self.memory(SIZE_WORDS[word])
        if self.token.text == "[":
            return self.memory(UNSIZED)
        total = Sum()
        for sign in self.signs():
            total = total.plus(self.product(), sign)
        return total

    def product(self) -> Sum:
        """Read numbers and at most one name, multiplied."""
        total = self.factor()
        while self.accept("*"):
            token = self.token
            other = self.factor()
            if total.names and other.names:
                raise token.error(f"'{token.text}' is multiplied by another name: one of them must be a number")
            total = Sum().plus(other, total.constant) if other.names else Sum().plus(total, other.constant)
        return total

    def factor(self) -> Sum:
        """Read a number or a name."""
        if self.token.kind == "number":
            return Sum(number(self.next()))
        if self.token.kind == "name":
            return Sum(0, ((1, self.next()),))
        raise self.expected("an operand")

    def signs(self) -> Iterator[int]:
        """Give the sign of each term of a sum, the first one's too, as long as there are terms."""
        yield self.sign()
        while self.token.text in {"+", "-"}:
            yield self.sign()

    def sign(self) -> int:
        """Read plus and minus signs."""
        sign = 1
        while self.token.text in {"+", "-"}:
            sign = -sign if self.next().text == "-" else sign
        return sign

    def memory(self, size: int) -> Place:
        """Read ``[base+index*scale+displacement]``."""
        self.next()
        relative = self.accept("rel")
        registers: list[tuple[Token, int | None]] = []
        disp = Sum()
        for sign in self.signs():
            token = self.token
            scaled = self.scaled_register()
            if scaled is None:
                disp = disp.plus(self.product(), sign)
            elif sign < 0:
                raise token.error(f"'{token.text}' cannot be subtracted in an address")
            else:
                registers.append(scaled)
        if not self.accept("]"):
            raise self.expected("']'")
        mem = _base_and_index(registers, size)
        return Place(mem, disp, relative=relative or (mem.base == RIP and bool(disp.names)))

    def scaled_register(self) -> tuple[Token, int | None] | None:
        """Read ``rcx``, ``rcx*4`` or ``4*rcx`` if one of them is there."""
        if _is_register(self.token):
            token = self.next()
            return token, self.scale() if self.accept("*") else None
        ahead = self.tokens[self.at : self.at + 3]
        if len(ahead) == 3 and ahead[1].text == "*" and _is_register(ahead[2]):
            scale = self.scale()
            self.next()
            return self.next(), scale
        return None

    def scale(self) -> int:
        """Read the factor of an index register."""
        token = self.next()
        if token.kind != "number" or number(token) not in {1, 2, 4, 8}:
            raise token.error(f"expected a scale of 1, 2, 4 or 8, not {_quoted(token)}")
        return number(token)


def _quoted(token: Token) -> str:
    return token.text if token.kind == "end" else f"'{token.text}'"


def _is_register(token: Token) -> bool:
    return token.kind == "name" and (token.text.lower() in REGISTERS or token.text.lower() == "rip")


def _free_name(token: Token) -> Token:
    """Refuse a label that could never be told from a register."""
    if _is_register(token) or token.text.lower() in SEGMENTS:
        raise token.error(f"'{token.text}' is a register: give the label another name")
    return token


def _base_and_index(registers: list[tuple[Token, int | None]], size: int) -> Mem:
    """Decide which register is the base: the first without a scale, and never the index RSP."""
    ordered = sorted(registers, key=lambda item: (item[1] is not None, item[1] != 1))
    if len(ordered) == 2 and ordered[1][0].text.lower() == "rsp" and ordered[1][1] in {None, 1}:
        ordered.reverse()
    if len(ordered) > 2:
        raise ordered[2][0].error(
            f"'{ordered[2][0].text}' is one register too many: an address has a base and an index"
        )
    numbers = [_address_register(token) for token, _scale in ordered]
    if len(ordered) == 1:
        scale = ordered[0][1]
        return Mem(numbers[0], size=size) if scale is None else _indexed(None, ordered[0][0], scale, size)
    if not ordered:
        return Mem(size=size)
    (_first, first_scale), (token, scale) = ordered
    if first_scale not in {None, 1}:
        raise token.error(f"'{token.text}' is a second scaled register: only the index has a scale")
    return _indexed(numbers[0], token, scale or 1, size)


def _indexed(base: int | None, token: Token, scale: int, size: int) -> Mem:
    index = _address_register(token)
    if index in {RSP, RIP} or base == RIP:
        raise token.error(f"'{token.text}' cannot be an index here")
    return Mem(base, index, scale, size=size)


def _address_register(token: Token) -> int:
    """Give the number of a 64-bit register."""
    name = token.text.lower()
    if name in NAMES[8]:
        return NAMES[8].index(name)
    reg = REGISTERS[name]
    raise token.error(f"'{token.text}' cannot address memory: did you mean '{NAMES[8][reg.number]}'?")
