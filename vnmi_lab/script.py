"""The lines of a host's script: what each one does to the host, and how it reads.

Names and operands are those of ``tests/reference/README.md``; "set", "hostintr", "hostsmi", "hostinit", "hostif" and
"absent" are this project's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.guest import IDT
from vnmi_lab.hw.bits import misspelt
from vnmi_lab.hw.delivery import IF, RF, TF
from vnmi_lab.hw.vmcb import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vnmi_lab.machine import Host

    Perform = Callable[["Host", Sequence[object]], None]

INJECT_NMI = 0x80000200
"""What KVM writes to inject an NMI: SVM_EVTINJ_VALID | SVM_EVTINJ_TYPE_NMI."""
Action = tuple[object, ...]


class Line(NamedTuple):
    """One kind of script line: how many operands, what it does, how it reads."""

    least: int
    most: int
    perform: Perform
    template: str

    def text(self, operands: Sequence[object]) -> str:
        """Return the line in words; numbers in hex where the template says so."""
        shown = [*operands, *[INJECT_NMI] * (not operands)]
        return self.template.format(*shown)


def _run(host: Host, operands: Sequence[object]) -> None:
    host.vmrun(skip=not operands)


def _mark(host: Host, _operands: Sequence[object]) -> None:
    host.reports = (*host.reports, host.report("mark"))


def _inject(host: Host, operands: Sequence[object]) -> None:
    host.view.event_inj = _int(operands[0]) if operands else INJECT_NMI


def _intercept(*, on: bool) -> Perform:
    def perform(host: Host, operands: Sequence[object]) -> None:
        for name in operands:
            host.view.intercept(str(name), on=on)

    return perform


def _intercept_exception(*, on: bool) -> Perform:
    return lambda host, operands: host.view.intercept(f"exc_{operands[0]}", on=on)


def _flag(bits: int) -> Perform:
    def perform(host: Host, operands: Sequence[object]) -> None:
        flags = host.view.rflags
        host.view.rflags = flags | bits if operands[0] else flags & ~bits

    return perform


def _control(*, on: bool) -> Perform:
    def perform(host: Host, operands: Sequence[object]) -> None:
        now, mask = host.view.int_ctl, _int(operands[0])
        host.view.int_ctl = now | mask if on else now & ~mask

    return perform


def _write(size: int) -> Perform:
    def perform(host: Host, operands: Sequence[object]) -> None:
        name, value = operands
        row = FIELDS.get(str(name))
        if row is None:
            raise AttributeError(misspelt("Vmcb", str(name), list(FIELDS)))
        for covered in FIELDS.values():
            if row.offset <= covered.offset < row.offset + size and covered.clean is not None:
                host.view.update("clean", **{covered.clean: 0})
        host.cpu.memory.write(host.view.pa + row.offset, size, _int(value) & (1 << 8 * size) - 1)

    return perform


def _set(host: Host, operands: Sequence[object]) -> None:
    name, value = operands
    setattr(host.view, str(name), _int(value))


def _gate(host: Host, operands: Sequence[object]) -> None:
    vector, present = operands
    at = IDT + _int(vector) * 16 + 5
    byte = host.cpu.memory.read(at, 1)
    host.cpu.memory.write(at, 1, byte | 0x80 if present else byte & 0x7F)


def _skip(host: Host, operands: Sequence[object]) -> None:
    host.view.rip = host.view.rip + _int(operands[0])


def _int_state(host: Host, operands: Sequence[object]) -> None:
    host.view.int_state = _int(operands[0])


def _gif(value: int) -> Perform:
    return lambda host, _operands: host.cpu.change("R-STGI" if value else "R-CLGI", "gif", value)


def _host_if(host: Host, operands: Sequence[object]) -> None:
    flags = host.cpu.rflags
    host.cpu.change("R-HOST", "rflags", flags | IF if operands[0] else flags & ~IF)


def _arrive(what: str) -> Perform:
    return lambda host, _operands: host.cpu.arrive(what)


def _interrupt(host: Host, operands: Sequence[object]) -> None:
    host.cpu.arrive_intr(_int(operands[0]) if operands else 0x40)


def _absent(host: Host, operands: Sequence[object]) -> None:
    host.view.update("nested_ctl", np_enable=1)
    host.cpu.set_absent(frozenset(_int(address) >> 12 for address in operands))


ACTIONS: dict[str, Line] = {
    "run": Line(0, 1, _run, "VMRUN"),
    "mark": Line(0, 0, _mark, "look at the VMCB"),
    "inj": Line(0, 1, _inject, "EVENTINJ = {0:X}h"),
    "icpt": Line(1, 8, _intercept(on=True), "intercept {0}"),
    "noicpt": Line(1, 8, _intercept(on=False), "do not intercept {0}"),
    "icpt_exc": Line(1, 1, _intercept_exception(on=True), "intercept exception {0}"),
    "noicpt_exc": Line(1, 1, _intercept_exception(on=False), "do not intercept exception {0}"),
    "tf": Line(1, 1, _flag(TF), "guest RFLAGS.TF = {0}"),
    "if": Line(1, 1, _flag(IF), "guest RFLAGS.IF = {0}"),
    "rf_tf": Line(1, 1, _flag(TF | RF), "guest RFLAGS.TF and RF = {0}"),
    "ist": Line(1, 1, _int_state, "int_state = {0}"),
    "ctl+": Line(1, 1, _control(on=True), "int_ctl |= {0:X}h"),
    "ctl-": Line(1, 1, _control(on=False), "int_ctl &= ~{0:X}h"),
    "w32": Line(2, 2, _write(4), "{0} = {1:X}h"),
    "w64": Line(2, 2, _write(8), "{0} = {1:X}h"),
    "set": Line(2, 2, _set, "{0} = {1:X}h"),
    "gate": Line(2, 2, _gate, "IDT gate {0} present = {1}"),
    "skip": Line(1, 1, _skip, "RIP += {0}"),
    "clgi": Line(0, 0, _gif(0), "CLGI"),
    "stgi": Line(0, 0, _gif(1), "STGI"),
    "hostnmi": Line(0, 0, _arrive("nmi"), "NMI arrives"),
    "hostintr": Line(0, 1, _interrupt, "INTR arrives"),
    "hostsmi": Line(0, 0, _arrive("smi"), "SMI arrives"),
    "hostinit": Line(0, 0, _arrive("init"), "INIT arrives"),
    "hostif": Line(1, 1, _host_if, "host RFLAGS.IF = {0}"),
    "absent": Line(0, 64, _absent, "nested page table: some pages not present"),
}


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"a number is needed here, not {value!r}"
        raise ValueError(msg)  # noqa: TRY004 - bad input of a script, reported like all bad input
    return value


def checked(action: Action) -> Action:
    """Return the action if it is one; ``ValueError`` says what is wrong with it."""
    if not action or str(action[0]) not in ACTIONS:
        raise ValueError(misspelt("the script", str(action[0] if action else ""), list(ACTIONS), "line"))
    row = ACTIONS[str(action[0])]
    if not row.least <= len(action) - 1 <= row.most:
        msg = f"step {action[0]!r} takes {row.least} to {row.most} operands, not {len(action) - 1}"
        raise ValueError(msg)
    return action
