"""The full record of a run: every step, every change with its rule, unlimited exact travel in time.

A trace keeps a snapshot every ``SPACING`` steps and plays the machine again from the nearest one: the machine is
deterministic, so what comes back is exactly what happened. A hundred thousand steps cost a few megabytes, and any
step is at most ``SPACING`` untraced steps away.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vnmi_lab.hw.delivery import IF, NMI_WORD, TF, vector_of
from vnmi_lab.hw.events import (
    Arrived,
    Changed,
    Delivered,
    Event,
    Executed,
    HostDid,
    MemoryWritten,
    Stopped,
    Taken,
    VmExit,
    Vmrun,
)
from vnmi_lab.hw.svm import HOST_SAVED
from vnmi_lab.hw.vmcb import IntCtl
from vnmi_lab.machine import BUDGET, BareMetal, Host
from vnmi_lab.rules import RULES, Rule
from vnmi_lab.words import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vnmi_lab.guest import CodeLine
    from vnmi_lab.hw.cpu import Cpu

SPACING = 128
REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
STACK_SHOWN = 8
FRAME_NOTES = ("RIP", "CS", "RFLAGS", "RSP", "SS")

Value: TypeAlias = int | str | None
StackLine: TypeAlias = tuple[int, int, str | None]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run; ``world``, ``state`` and ``stack`` are as they are after it.

    ``kind`` is "exec" (an instruction retired), "deliver" (a handler was entered), "vmrun", "vmexit", "host" (a line
    of the host's script), "stimulus" (the outside world), or "stop". ``rip`` is where the step started.
    """

    index: int
    kind: str
    world: str
    rip: int
    text: str
    sentence: str
    events: tuple[Event, ...]
    changes: tuple[Changed, ...]
    state: dict[str, Value]
    stack: tuple[StackLine, ...]


class Trace:
    """A finished run that can be read at any step, in any order: ``trace[i]``, ``len(trace)``, iteration."""

    def __init__(self, machine: BareMetal | Host, title: str = "", limit: int = BUDGET) -> None:
        """Run ``machine`` from where it stands until nothing more happens, at most ``limit`` steps."""
        self.title = title
        self.code: tuple[CodeLine, ...] = machine.guest.listing()
        self.rules: dict[str, Rule] = RULES
        self._machine = machine
        self._checkpoints = [machine.snapshot()]
        self._length = 0
        while self._length < limit:
            count = min(SPACING, limit - self._length)
            done = machine.advance(count)
            self._length += done
            if done < count:
                break
            self._checkpoints.append(machine.snapshot())
        self._position = self._length
        self.cut = self._length == limit
        self._last: tuple[int, Step] | None = None

    def __len__(self) -> int:
        """Return the number of steps."""
        return self._length

    def __getitem__(self, index: int) -> Step:
        """Return one step; negative indices count from the end, as in a list."""
        at = index + self._length if index < 0 else index
        if not 0 <= at < self._length:
            msg = f"a step must be 0 to {self._length - 1}, not {index}"
            raise IndexError(msg)
        if self._last is None or self._last[0] != at:
            self.goto(at)
            self._last = (at, _record(self._machine, at))
            self._position = at + 1
        return self._last[1]

    def __iter__(self) -> Iterator[Step]:
        """Yield every step in order."""
        return (self[i] for i in range(self._length))

    def goto(self, position: int) -> BareMetal | Host:
        """Put the machine where it stood before step ``position`` and return it, to be looked at and not to be run."""
        if not 0 <= position <= self._length:
            msg = f"a position must be 0 to {self._length}, not {position}"
            raise IndexError(msg)
        ahead = position - self._position
        if not 0 <= ahead <= SPACING:
            checkpoint = min(position // SPACING, len(self._checkpoints) - 1)
            self._machine.restore(self._checkpoints[checkpoint])  # type: ignore[arg-type]  # it is this machine's own
            ahead = position - checkpoint * SPACING
        self._machine.advance(ahead)
        self._position = position
        return self._machine

    def find(self, wanted: Callable[[Step], bool], start: int = 0, *, backward: bool = False) -> int | None:
        """Return the first step from ``start`` on (or back) that ``wanted`` accepts, or None; nothing moves."""
        steps = range(start, -1, -1) if backward else range(start, self._length)
        return next((i for i in steps if wanted(self[i])), None)

    def to_jsonl(self) -> str:
        """Return one JSON object a line and step: index, kind, world, rip, text, changes with their rules."""
        return "".join(json.dumps(_as_json(step)) + "\n" for step in self)


def _as_json(step: Step) -> dict[str, object]:
    changes = [[c.rule, c.field, c.old, c.new] for c in step.changes]
    return {
        "index": step.index, "kind": step.kind, "world": step.world, "rip": step.rip, "text": step.text,
        "changes": changes,
    }  # fmt: skip


# --- one step, watched ------------------------------------------------------------------------------------------------


def _record(machine: BareMetal | Host, index: int) -> Step:
    """Take one step with everything watched, and say what happened."""
    cpu = machine.cpu
    events: list[Event] = []
    before = _seen(machine)
    world = _world(machine)
    rip = before["rip"]
    assert isinstance(rip, int)
    cpu.sink, cpu.memory.log = events.append, []
    try:
        machine.step()
        written = cpu.memory.log
    finally:
        cpu.sink = cpu.memory.log = None
    events.extend(MemoryWritten(*write) for write in written if write[0] >> 12 != _vmcb_page(machine))
    after = _seen(machine)
    kind = _kind(events)
    changes = [e for e in events if isinstance(e, Changed) and not _of_host_itself(e, machine)]
    if world == _world(machine) and kind in ("exec", "deliver"):
        changes += _unexplained(before, after, {c.field for c in changes})
    if kind == "exec":
        changes += [
            Changed("R-EXEC", f"[{e.address:#x}]", e.old, e.new) for e in events if isinstance(e, MemoryWritten)
        ]
    text, sentence = words(kind, events, changes, machine.guest)
    return Step(
        index, kind, _world(machine), rip, text, sentence, tuple(events), tuple(changes), after, _stack(cpu, after)
    )


def _of_host_itself(change: Changed, machine: BareMetal | Host) -> bool:
    """Say whether a change only swaps the registers of a scripted host, which has none worth showing."""
    return isinstance(machine, Host) and change.rule in ("R-VMRUN", "R-VMEXIT-HOST") and change.field in HOST_SAVED


def _world(machine: BareMetal | Host) -> str:
    if machine.cpu.guest_mode:
        return "guest"
    return "host" if isinstance(machine, Host) else "bare"


def _vmcb_page(machine: BareMetal | Host) -> int:
    return machine.view.pa >> 12 if isinstance(machine, Host) else -1


_FIRST_MATCH: tuple[tuple[type, str], ...] = (
    (Stopped, "stop"),
    (VmExit, "vmexit"),
    (Vmrun, "vmrun"),
    (HostDid, "host"),
    (Executed, "exec"),
    (Taken, "deliver"),
    (Delivered, "deliver"),
    (Arrived, "stimulus"),
)


def _kind(events: list[Event]) -> str:
    return next(kind for cls, kind in _FIRST_MATCH if any(isinstance(e, cls) for e in events))


def _unexplained(before: dict[str, Value], after: dict[str, Value], explained: set[str]) -> Iterator[Changed]:
    """Yield what an instruction changed by doing what it does."""
    for field in ("rip", "rflags", *REGISTERS):
        old, new = before[field], after[field]
        if old != new and field not in explained:
            assert isinstance(old, int)
            assert isinstance(new, int)
            yield Changed("R-EXEC", field, old, new)


def _seen(machine: BareMetal | Host) -> dict[str, Value]:
    """Return the state to show: the guest's, from the processor while it runs and from the VMCB while it does not."""
    cpu = machine.cpu
    state: dict[str, Value] = {"rip": cpu.rip, "rflags": cpu.rflags, "shadow": cpu.shadow}
    state |= zip(REGISTERS, cpu.r, strict=True)
    if isinstance(machine, Host):
        vmcb = machine.view
        if not cpu.guest_mode:
            state |= {name: int(getattr(vmcb, name)) for name in ("rip", "rflags", "rsp", "rax")}
            state["shadow"] = int(vmcb.int_state) & 1
        state |= {name: int(getattr(vmcb, name)) for name in VMCB_SHOWN}
        bits = IntCtl(machine.view.int_ctl).named()
        state |= {name: bits[name] for name in BITS_SHOWN}
        live = bool(cpu.guest_mode and cpu.v_nmi_enable)
        state["live_v_nmi_pending"] = cpu.v_nmi_pending if live else None
        state["live_v_nmi_blocking"] = cpu.v_nmi_blocking if live else None
        state["host_nmi"] = machine.nmis
    flags = state["rflags"]
    assert isinstance(flags, int)
    state |= {name: getattr(cpu, name) for name in ("gif", "nmi_mask", "nmi_latch", "halted", "guest_mode", "cr2")}
    state |= {"IF": int(flags & IF > 0), "TF": int(flags & TF > 0)}
    state["handler_depth"] = sum(vector == vector_of(NMI_WORD) for vector, _frame in cpu.frames)
    return state


VMCB_SHOWN = ("int_ctl", "event_inj", "exit_code", "exit_int_info", "int_state", "exit_info_1", "exit_info_2", "clean")
BITS_SHOWN = ("v_nmi_enable", "v_nmi_pending", "v_nmi_blocking", "v_irq", "v_gif")


def _stack(cpu: Cpu, state: dict[str, Value]) -> tuple[StackLine, ...]:
    """Return the quadwords at RSP, with names on those that belong to an interrupt frame."""
    rsp = state["rsp"]
    assert isinstance(rsp, int)
    notes = {frame + 8 * i: note for _vector, frame in cpu.frames for i, note in enumerate(FRAME_NOTES)}
    addresses = [(rsp + 8 * i) % (1 << 64) for i in range(STACK_SHOWN)]
    return tuple((at, cpu.memory.read(at, 8), notes.get(at)) for at in addresses)
