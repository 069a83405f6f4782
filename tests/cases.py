"""Scenarios as tables: a guest, what the host or the outside world does, and what must be seen in between.

A script line that is a dict is an expectation; every other line is a line of ``vnmi_lab.machine.Host``'s script (or,
for ``Bare``, a ``Stimulus``). ``run`` answers the first difference, so that the mutation run can ask every case again
with a rule switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Protocol

import pytest

from vnmi_lab.guest import COUNTERS, HANDLER_SPAN, HANDLERS, IDT, STACK, Guest
from vnmi_lab.hw.delivery import CODE_SELECTOR, IF, INTERRUPT_GATE, TF, VALID, Gate
from vnmi_lab.hw.events import Delivered, Event, VmExit
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.machine import BareMetal, Host, Stimulus
from vnmi_lab.rules import Switches
from vnmi_lab.trace import REGISTERS

INJ_NMI = 0x80000200
V_IRQ, V_GIF, V_NMI, V_NMI_MASK = 1 << 8, 1 << 9, 1 << 11, 1 << 12
V_IGN_TPR, V_INTR_MASKING, V_GIF_ENABLE, V_NMI_ENABLE = 1 << 20, 1 << 24, 1 << 25, 1 << 26
SELF_NMI = "mov dword [r15], 0x4400\n"
SELF_IRQ = "mov dword [r15], 0x4040\n"
ERROR_AT_TOP = f"mem {STACK - 48:#x}"  # where an error code is when the stack was empty
STOP_IN = dict.fromkeys((0, 1, 2, 3, 6, 8, 11, 12, 13, 14, 17, 64), "vmmcall\niretq")  # handlers that report at once
MARGIN = 5_000  # steps that no case needs

Line = object
Expected = Mapping[str, object]


class Runnable(Protocol):
    """A row of any table."""

    @property
    def name(self) -> str:
        """Its name in the test report."""

    def run(self, switches: Switches) -> str | None:
        """Return the first difference, or None."""


def difference(where: str, wanted: Expected, look: Callable[[str], object]) -> str | None:
    """Return the first expectation that does not hold."""
    for key, value in wanted.items():
        got = look(key)
        if got != value:
            return f"{where}: {key} is {got!r}, not {value!r}"
    return None


def named(machine: Host | BareMetal, address: int) -> str:
    """Return the label at an address, or the label before it and the distance."""
    labels = {at: name for name, at in reversed(list(machine.guest.labels().items())) if "." not in name}
    before = [at for at in labels if at <= address]
    if HANDLERS <= address < IDT and (not before or address - max(before) >= HANDLER_SPAN):
        vector, distance = divmod(address - HANDLERS, HANDLER_SPAN)
        return f"h{vector}" + (f"+{distance}" if distance else "")
    if not before or address - max(before) >= HANDLER_SPAN:
        return f"{address:#x}"
    return labels[max(before)] + (f"+{address - max(before)}" if address > max(before) else "")


COUNTED = {"de": 0, "db": 1, "nmi": 2, "bp": 3, "ud": 6, "df": 8, "np": 11, "ss": 12, "gp": 13, "pf": 14, "irq": 0x40}


class Watched:
    """A machine with what happened to it since the last look, and one name for each thing that can be looked at."""

    def __init__(self, machine: Host | BareMetal) -> None:
        self.machine = machine
        self.events: list[Event] = []
        self.outcome = ""
        machine.cpu.sink = self.events.append

    def look(self, key: str) -> object:
        """Return one observation; names are those of the VMCB and the processor, and the few below."""
        word, _, number = key.partition(" ")
        if key in COUNTED:
            word, number = "count", str(COUNTED[key])
        if word in ("count", "mem"):
            return self.machine.cpu.memory.read(int(number, 0) if word == "mem" else COUNTERS + 8 * int(number, 0), 8)
        if key == "outcome":
            return self.outcome
        if key in ("entered", "exits"):
            return self._since(key)
        if isinstance(self.machine, Host):
            return self._look_vmcb(self.machine, key)
        return self._look_cpu(key)

    def _since(self, key: str) -> object:
        """Return what happened since the last look: handlers entered with where each returns to, or exits."""
        entered = [(e.vector, named(self.machine, e.return_rip)) for e in self.events if isinstance(e, Delivered)]
        exits = [exit_name(e.code) for e in self.events if isinstance(e, VmExit)]
        self.events.clear()
        return entered if key == "entered" else exits

    def _look_cpu(self, key: str) -> object:
        cpu = self.machine.cpu
        values: dict[str, Callable[[], object]] = {
            "at": lambda: named(self.machine, cpu.rip),
            "rsp": lambda: STACK - cpu.r[4],
            "IF": lambda: int(cpu.rflags & IF > 0),
            "TF": lambda: int(cpu.rflags & TF > 0),
        }
        if key in values:
            return values[key]()
        return cpu.r[REGISTERS.index(key)] if key in REGISTERS else getattr(cpu, key)

    def _look_vmcb(self, host: Host, key: str) -> object:
        vmcb, cpu = host.view, host.cpu
        info = int(vmcb.exit_int_info)
        values: dict[str, Callable[[], object]] = {
            "exit": lambda: exit_name(vmcb.exit_code),
            "at": lambda: named(host, vmcb.rip),
            "rsp": lambda: STACK - vmcb.rsp,
            "IF": lambda: int(vmcb.rflags & IF > 0),
            "TF": lambda: int(vmcb.rflags & TF > 0),
            "shadow": lambda: int(vmcb.int_state) & 1,
            "info": lambda: info if info & VALID else None,
            "inj": lambda: vmcb.event_inj.valid,
            "runs": lambda: sum(report.kind == "exit" for report in host.reports),
        }
        if key in values:
            return values[key]()
        if key in ("nmis", "interrupts", "smis"):
            return getattr(host, key)
        if key in vmcb.int_ctl.FIELDS:
            return getattr(vmcb.int_ctl, key)
        if key in ("nmi_mask", "nmi_latch", "gif", "irr", "smi", "init", "stopped", "svme"):
            return getattr(cpu, key)
        if key in REGISTERS and key not in ("rax", "rsp"):
            return cpu.r[REGISTERS.index(key)]
        return int(getattr(vmcb, key))


@cache
def _guest(main: str, handlers: tuple[tuple[int, str], ...], tail: str, ist: tuple[tuple[int, int, int], ...]) -> Guest:
    return Guest.of(main, dict(handlers), tail=tail, ist={v: (i, top) for v, i, top in ist})


@dataclass(frozen=True)
class Case:
    """One scenario under a host; ``derived`` marks what no source states."""

    name: str
    main: str
    script: tuple[Line, ...]
    handlers: Mapping[int, str] = field(default_factory=dict)
    derived: bool = False
    switches: Mapping[str, object] = field(default_factory=dict)
    ist: tuple[tuple[int, int, int], ...] = ()

    def run(self, switches: Switches) -> str | None:
        """Play the script; the first expectation that fails is the answer."""
        every = replace(switches, **self.switches)  # type: ignore[arg-type]  # names of fields, checked by replace
        guest = _guest(self.main, tuple(sorted(self.handlers.items())), "vmmcall", self.ist)
        watched = Watched(Host(guest, every))
        host = watched.machine
        assert isinstance(host, Host)
        for number, line in enumerate(self.script):
            if isinstance(line, Mapping):
                wrong = difference(f"line {number}", line, watched.look)
                if wrong:
                    return wrong
            else:
                words = (line,) if isinstance(line, str) else tuple(line)  # type: ignore[arg-type]  # a line of script
                watched.outcome = _carry_out(host, words)
        return None


def _carry_out(host: Host, words: tuple[object, ...]) -> str:
    """Do one line: of ``Host``'s script, or one of ours.

    ``("world", "nmi")`` while the guest runs: it arrives from outside, and the guest goes on.
    ``requeue``: the host injects again what EXITINTINFO says was interrupted, as KVM does.
    ``("poke", address, value)`` writes guest memory, ``("cpu", field, value)`` the processor.
    """
    if words[0] == "world":
        host.cpu.arrive(str(words[1]))
        return host.finish(MARGIN).text
    if words[0] == "requeue":
        words = ("set", "event_inj", int(host.view.exit_int_info))
    if words[0] == "cpu":
        setattr(host.cpu, str(words[1]), words[2])
        return "done"
    if words[0] == "poke":
        host.cpu.memory.write(int(str(words[1])), 8, int(str(words[2])))
        return "done"
    return host.do(str(words[0]), *words[1:], budget=MARGIN).text


@dataclass(frozen=True)
class Bare:
    """One scenario without a hypervisor: stimuli, a run to the end, and what is seen then."""

    name: str
    main: str
    stimuli: tuple[Stimulus, ...]
    expect: Expected
    handlers: Mapping[int, str] = field(default_factory=dict)
    derived: bool = False
    switches: Mapping[str, object] = field(default_factory=dict)
    ist: tuple[tuple[int, int, int], ...] = ()
    setup: Mapping[str, object] = field(default_factory=dict)  # fields of the processor at the start

    def run(self, switches: Switches) -> str | None:
        """Run to the end and look."""
        every = replace(switches, **self.switches)  # type: ignore[arg-type]  # names of fields, checked by replace
        guest = _guest(self.main, tuple(sorted(self.handlers.items())), "hlt", self.ist)
        machine = BareMetal(guest, self.stimuli, every)
        for name, value in self.setup.items():
            setattr(machine.cpu, name, value)
        watched = Watched(machine)
        watched.outcome = machine.run(MARGIN).text
        return difference("at the end", self.expect, watched.look)


@dataclass(frozen=True)
class Check:
    """A row whose check is a function of the switches."""

    name: str
    check: Callable[[Switches], str | None]
    derived: bool = False

    def run(self, switches: Switches) -> str | None:
        """Return what the function returns."""
        return self.check(switches)


def table(rows: Iterable[Runnable]) -> pytest.MarkDecorator:
    """Parametrize a test with a table's rows under their names; two rows may not share one."""
    rows = list(rows)
    assert len({row.name for row in rows}) == len(rows), "two rows have the same name"
    return pytest.mark.parametrize("case", rows, ids=[row.name for row in rows])


def judge(case: Runnable) -> None:
    """Fail with the first difference."""
    wrong = case.run(Switches())
    assert wrong is None, wrong


def gate_bytes(vector: int, **changes: int) -> tuple[Line, ...]:
    """Return the lines that write a changed gate of ``vector``."""
    fields = {"selector": CODE_SELECTOR, "ist": 0, "type": INTERRUPT_GATE, "dpl": 0, "present": 1, **changes}
    raw = Gate(HANDLERS + vector * HANDLER_SPAN, **fields).encode()
    return tuple(("poke", IDT + vector * 16 + 8 * i, int.from_bytes(raw[8 * i : 8 * i + 8], "little")) for i in (0, 1))


def product(**axes: Iterable[object]) -> Iterator[dict[str, object]]:
    """Yield every combination of the axes' values as a dict."""
    found: list[dict[str, object]] = [{}]
    for name, values in axes.items():
        found = [{**row, name: value} for row in found for value in list(values)]
    yield from found
