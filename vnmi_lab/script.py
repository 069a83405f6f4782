"""The lines of a host's script: their operands, what each does to the host, and how it reads.

Names and operands are those of ``tests/reference/README.md``; "set", "hostintr", "hostsmi", "hostinit", "hostif" and
"absent" are this project's own. A line is checked as a whole before it is queued, so a wrong one changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.guest import IDT, VECTORS
from vnmi_lab.hw.bits import misspelt
from vnmi_lab.hw.delivery import IF, RF, TF
from vnmi_lab.hw.memory import M64
from vnmi_lab.hw.vmcb import FIELDS, INTERCEPT_NAMES, ExceptionIntercepts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vnmi_lab.machine import Host

INJECT_NMI = 0x80000200
"""What KVM writes to inject an NMI: SVM_EVTINJ_VALID | SVM_EVTINJ_TYPE_NMI."""
DEFAULT_IRQ = 0x40
M32 = (1 << 32) - 1
Action = tuple[object, ...]


# --- operands: each check returns the value to use, or raises ValueError in one line ---------------------------------


def number(value: object) -> int:
    """Check that ``value`` is an integer."""
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"a number is needed here, not {value!r}"
        raise ValueError(msg)  # noqa: TRY004 - bad input of a script, reported like all bad input
    return value


def between(low: int, high: int, what: str) -> Callable[[object], int]:
    """Make a check for a number from ``low`` to ``high``."""

    def check(value: object) -> int:
        if not low <= number(value) <= high:
            shown = f"{low} to {high}" if high < VECTORS else f"{low} to {high:#x}"
            msg = f"{what} must be {shown}, not {value!r}"
            raise ValueError(msg)
        return number(value)

    return check


def one_of(names: Sequence[str], what: str, part: str) -> Callable[[object], str]:
    """Make a check for one of ``names``; a misspelt one names the nearest."""

    def check(value: object) -> str:
        if str(value) not in names:
            raise ValueError(misspelt(what, str(value), list(names), part))
        return str(value)

    return check


def flag(value: object) -> int:
    """Check that ``value`` is 0, 1, false or true."""
    if value not in (0, 1):
        msg = f"a flag must be 0 or 1, not {value!r}"
        raise ValueError(msg)
    return int(bool(value))


VECTOR = between(0, VECTORS - 1, "a vector")
EXCEPTION = between(0, len(ExceptionIntercepts.FIELDS) - 1, "an exception")
OFFSET = between(-(1 << 63), M64, "an offset")
BITS32, BITS64 = between(0, M32, "the value"), between(0, M64, "the value")
INTERCEPT = one_of(INTERCEPT_NAMES, "the VMCB", "intercept")
FIELD = one_of(list(FIELDS), "the VMCB", "field")
WORD = one_of(("noskip",), "run", "option")


class Line(NamedTuple):
    """One kind of line: its operands, how many may be left out, what it does, how it reads.

    ``many``: the last operand may be repeated.
    """

    operands: tuple[Callable[[object], object], ...]
    perform: Callable[[Host, Sequence[object]], None]
    template: str
    optional: int = 0
    many: bool = False

    def check(self, name: str, given: Sequence[object]) -> Action:
        """Return the line with its operands checked; ``ValueError`` says what is wrong."""
        least, most = len(self.operands) - self.optional, len(self.operands)
        if len(given) < least or (len(given) > most and not self.many):
            wanted = f"{least} or more" if self.many else str(most) if least == most else f"{least} to {most}"
            msg = f"step {name!r} takes {wanted} operands, not {len(given)}"
            raise ValueError(msg)
        checks = [*self.operands, *self.operands[-1:] * (len(given) - most)]
        return (name, *(check(value) for check, value in zip(checks, given, strict=False)))

    def text(self, operands: Sequence[object]) -> str:
        """Return the line in words; numbers in hex where the template says so."""
        shown = [*operands, *[INJECT_NMI] * (not operands)]
        return self.template.format(*shown, all=", ".join(map(str, operands)))


# --- what a line does; operands have been checked -------------------------------------------------------------------


def _run(host: Host, operands: Sequence[object]) -> None:
    host.vmrun(skip=not operands)


def _mark(host: Host, _operands: Sequence[object]) -> None:
    host.reports = (*host.reports, host.report("mark"))


def _inject(host: Host, operands: Sequence[object]) -> None:
    host.view.event_inj = number(operands[0]) if operands else INJECT_NMI


def _intercept(*, on: bool) -> Callable[[Host, Sequence[object]], None]:
    def perform(host: Host, operands: Sequence[object]) -> None:
        for name in operands:
            host.view.intercept(f"exc_{name}" if isinstance(name, int) else str(name), on=on)

    return perform


def _flag(bits: int) -> Callable[[Host, Sequence[object]], None]:
    def perform(host: Host, operands: Sequence[object]) -> None:
        flags = host.view.rflags
        host.view.rflags = flags | bits if operands[0] else flags & ~bits

    return perform


def _control(*, on: bool) -> Callable[[Host, Sequence[object]], None]:
    def perform(host: Host, operands: Sequence[object]) -> None:
        now, mask = host.view.int_ctl, number(operands[0])
        host.view.int_ctl = now | mask if on else now & ~mask

    return perform


def _write(size: int) -> Callable[[Host, Sequence[object]], None]:
    """Make a write of ``size`` bytes at a field's offset, as the recordings have it; it may reach the next field."""

    def perform(host: Host, operands: Sequence[object]) -> None:
        row, value = FIELDS[str(operands[0])], number(operands[1])
        for covered in FIELDS.values():
            if row.offset <= covered.offset < row.offset + size and covered.clean is not None:
                host.view.update("clean", **{covered.clean: 0})
        host.cpu.memory.write(host.view.pa + row.offset, size, value & (1 << 8 * size) - 1)

    return perform


def _set(host: Host, operands: Sequence[object]) -> None:
    setattr(host.view, str(operands[0]), number(operands[1]))


def _gate(host: Host, operands: Sequence[object]) -> None:
    vector, present = operands
    at = IDT + number(vector) * 16 + 5
    byte = host.cpu.memory.read(at, 1)
    host.cpu.memory.write(at, 1, byte | 0x80 if present else byte & 0x7F)


def _skip(host: Host, operands: Sequence[object]) -> None:
    host.view.rip = (host.view.rip + number(operands[0])) & M64


def _int_state(host: Host, operands: Sequence[object]) -> None:
    host.view.int_state = number(operands[0])


def _gif(value: int) -> Callable[[Host, Sequence[object]], None]:
    return lambda host, _operands: host.cpu.change("R-STGI" if value else "R-CLGI", "gif", value)


def _host_if(host: Host, operands: Sequence[object]) -> None:
    flags = host.cpu.rflags
    host.cpu.change("R-HOST", "rflags", flags | IF if operands[0] else flags & ~IF)


def _arrive(what: str) -> Callable[[Host, Sequence[object]], None]:
    return lambda host, _operands: host.cpu.arrive(what)


def _interrupt(host: Host, operands: Sequence[object]) -> None:
    host.cpu.arrive_intr(number(operands[0]) if operands else DEFAULT_IRQ)


def _absent(host: Host, operands: Sequence[object]) -> None:
    host.view.update("nested_ctl", np_enable=1)
    host.cpu.set_absent(frozenset(number(address) >> 12 for address in operands))


ACTIONS: dict[str, Line] = {
    "run": Line((WORD,), _run, "VMRUN", optional=1),
    "mark": Line((), _mark, "look at the VMCB"),
    "inj": Line((BITS64,), _inject, "EVENTINJ = {0:X}h", optional=1),
    "icpt": Line((INTERCEPT,), _intercept(on=True), "intercept {all}", many=True),
    "noicpt": Line((INTERCEPT,), _intercept(on=False), "do not intercept {all}", many=True),
    "icpt_exc": Line((EXCEPTION,), _intercept(on=True), "intercept exception {0}"),
    "noicpt_exc": Line((EXCEPTION,), _intercept(on=False), "do not intercept exception {0}"),
    "tf": Line((flag,), _flag(TF), "guest RFLAGS.TF = {0}"),
    "if": Line((flag,), _flag(IF), "guest RFLAGS.IF = {0}"),
    "rf_tf": Line((flag,), _flag(TF | RF), "guest RFLAGS.TF and RF = {0}"),
    "ist": Line((BITS32,), _int_state, "int_state = {0}"),
    "ctl+": Line((BITS32,), _control(on=True), "int_ctl |= {0:X}h"),
    "ctl-": Line((BITS32,), _control(on=False), "int_ctl &= ~{0:X}h"),
    "w32": Line((FIELD, number), _write(4), "{0} = {1:X}h"),
    "w64": Line((FIELD, number), _write(8), "{0} = {1:X}h"),
    "set": Line((FIELD, number), _set, "{0} = {1:X}h"),
    "gate": Line((VECTOR, flag), _gate, "IDT gate {0} present = {1}"),
    "skip": Line((OFFSET,), _skip, "RIP += {0}"),
    "clgi": Line((), _gif(0), "CLGI"),
    "stgi": Line((), _gif(1), "STGI"),
    "hostnmi": Line((), _arrive("nmi"), "NMI arrives"),
    "hostintr": Line((VECTOR,), _interrupt, "INTR arrives", optional=1),
    "hostsmi": Line((), _arrive("smi"), "SMI arrives"),
    "hostinit": Line((), _arrive("init"), "INIT arrives"),
    "hostif": Line((flag,), _host_if, "host RFLAGS.IF = {0}"),
    "absent": Line((BITS64,), _absent, "nested page table: {all} not present", optional=1, many=True),
}


def checked(action: Action) -> Action:
    """Return the line if it is one; ``ValueError`` says what is wrong with it."""
    name = action[0] if action else ""
    if not isinstance(name, str) or name not in ACTIONS:
        raise ValueError(misspelt("the script", str(name), list(ACTIONS), "line"))
    whole = ACTIONS[name].check(name, action[1:])
    if name == "set":
        FIELDS[str(whole[1])].fits(number(whole[2]))
    return whole
