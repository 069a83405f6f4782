"""A guest as a value: its programs, laid out in memory with an IDT, counters and a stack.

The layout is that of the recorded traces (``tests/reference/README.md``), so what a learner writes runs where other
people's emulators ran theirs. Code is given as assembly text or as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.hw.asm import Program, assemble
from vnmi_lab.hw.delivery import CODE_SELECTOR, INTERRUPT_GATE, WITH_ERROR, Gate
from vnmi_lab.hw.insn import disassemble
from vnmi_lab.hw.memory import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vnmi_lab.hw.cpu import Cpu

MAIN, HANDLERS, IDT, TSS = 0x300000, 0x310000, 0x330000, 0x332000
COUNTERS, STACK, ICR = 0x340000, 0x350000, 0xFEE00300
HANDLER_SPAN = 0x100
VECTORS = 256
IDT_LIMIT = VECTORS * 16 - 1
NOP, HLT, VMMCALL = b"\x90", b"\xf4", b"\x0f\x01\xd9"
TAIL_LENGTH = 16
LAST_IST = 7
LARGEST_MAIN = HANDLERS - MAIN - TAIL_LENGTH * len(VMMCALL)


class CodeLine(NamedTuple):
    """One line of a guest's listing: where it stands, its bytes and text, a label before it, which program it is of."""

    address: int
    raw: bytes
    text: str
    label: str | None
    where: str


@dataclass(frozen=True, slots=True)
class Guest:
    """A main program and handlers by vector; vectors without a handler count themselves and return.

    ``tail`` fills in after main: ``"vmmcall"`` for a guest that reports to a host, ``"hlt"`` for bare metal.
    ``ist`` gives a vector an interrupt stack: vector to (IST index, top of that stack).
    """

    main: Program
    handlers: Mapping[int, Program] = field(default_factory=dict)
    tail: str = "vmmcall"
    ist: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Names of addresses that were asked for before (see ``words.place``)."""

    @classmethod
    def of(
        cls,
        main: str | bytes,
        handlers: Mapping[int, str | bytes] | None = None,
        *,
        tail: str = "vmmcall",
        ist: Mapping[int, tuple[int, int]] | None = None,
    ) -> Guest:
        """Assemble a guest; ``ValueError`` in one line for text, a vector or a size that cannot be."""
        if tail not in ("vmmcall", "hlt"):
            msg = f"tail must be 'vmmcall' or 'hlt', not {tail!r}"
            raise ValueError(msg)
        programs = {vector: _program(code, handler_address(vector)) for vector, code in (handlers or {}).items()}
        for vector, program in programs.items():
            _fits(f"the handler of vector {vector}", program, HANDLER_SPAN)
        main_program = _program(main, MAIN)
        _fits("main", main_program, LARGEST_MAIN)
        for vector, (index, top) in (ist or {}).items():
            _is_stack(vector, index, top)
        return cls(main_program, programs, tail, dict(ist or {}))

    def image(self) -> Image:
        """Return memory as it is before the first instruction."""
        tail = (VMMCALL if self.tail == "vmmcall" else HLT) * TAIL_LENGTH
        chunks = {MAIN: NOP * (IDT - MAIN)}
        layers = [chunks, {MAIN: self.main.code + tail}, {IDT: b"".join(self._gates())}]
        layers += [{handler_address(v): default_handler(v)} for v in range(VECTORS) if v not in self.handlers]
        layers += [{handler_address(v): program.code} for v, program in self.handlers.items()]
        layers += [{TSS + 0x1C + 8 * index: top.to_bytes(8, "little")} for index, top in self.ist.values()]
        return Image.of(layers)

    def _gates(self) -> Iterator[bytes]:
        for vector in range(VECTORS):
            index, _top = self.ist.get(vector, (0, 0))
            yield Gate(handler_address(vector), CODE_SELECTOR, index, INTERRUPT_GATE, 0, 1).encode()

    def registers(self, cpu: Cpu) -> None:
        """Set the general registers as every scenario of the recorded traces starts."""
        cpu.r[:] = [0] * 16
        cpu.r[3], cpu.r[12], cpu.r[15] = COUNTERS, 0x10, ICR

    def labels(self) -> dict[str, int]:
        """Return every label with its address; a handler's is also known as "h2.name"."""
        found = dict(self.main.labels)
        for vector, program in sorted(self.handlers.items()):
            found |= {name: address for name, address in program.labels.items() if name not in found}
            found |= {f"h{vector}.{name}": address for name, address in program.labels.items()}
            found.setdefault(f"h{vector}", program.origin)
        return found

    def listing(self) -> tuple[CodeLine, ...]:
        """Return main and the handlers as lines to show, in address order."""
        parts = [("main", self.main), *((f"h{v}", program) for v, program in sorted(self.handlers.items()))]
        return tuple(line for where, program in parts for line in _lines(where, program))


def handler_address(vector: int) -> int:
    """Return where the handler of a vector stands; ``ValueError`` for what is no vector."""
    if not 0 <= vector < VECTORS:
        msg = f"a vector must be 0 to 255, not {vector!r}"
        raise ValueError(msg)
    return HANDLERS + vector * HANDLER_SPAN


def default_handler(vector: int) -> bytes:
    """Return the handler of a vector that the guest does not name: count, drop the error code if any, return."""
    drop = bytes.fromhex("4883c408") if vector in WITH_ERROR else b""
    return count(vector) + drop + bytes.fromhex("48cf")


def count(vector: int) -> bytes:
    """Return ``inc qword [rbx + vector*8]`` with a 32-bit displacement, as the recorded guests have it."""
    return bytes.fromhex("48ff83") + (vector * 8).to_bytes(4, "little")


def _program(code: str | bytes, origin: int) -> Program:
    if isinstance(code, bytes):
        return Program(origin, code, {}, ())
    return assemble(code, origin)


def _is_stack(vector: int, index: int, top: int) -> None:
    handler_address(vector)
    if not 1 <= index <= LAST_IST:
        msg = f"an IST index must be 1 to {LAST_IST}, not {index!r}"
        raise ValueError(msg)
    if not 0 <= top < 1 << 64:
        msg = f"the top of an interrupt stack must be an address of 64 bits, not {top!r}"
        raise ValueError(msg)


def _fits(what: str, program: Program, room: int) -> None:
    if len(program.code) > room:
        msg = f"{what} is {len(program.code)} bytes long; at most {room} fit"
        raise ValueError(msg)


def _lines(where: str, program: Program) -> Iterator[CodeLine]:
    named = {address: name for name, address in reversed(list(program.labels.items()))}
    for insn in disassemble(program.code, program.origin):
        yield CodeLine(insn.address, insn.raw, insn.text, named.get(insn.address), where)


assert IDT + VECTORS * 16 <= TSS < COUNTERS < STACK, "the guest's regions overlap"
