"""The full record of a run: every step, every change with its rule, unlimited exact travel in time.

A trace keeps a snapshot every ``SPACING`` steps and plays the machine again from the nearest one: the machine is
deterministic, so what comes back is exactly what happened. A hundred thousand steps cost a few megabytes, and any
step is at most ``SPACING`` untraced steps away.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from struct import Struct
from typing import TYPE_CHECKING, TypeAlias

from vnmi_lab.hv.calls import FUNCTIONS
from vnmi_lab.hv.vcpu import as_int
from vnmi_lab.hw.delivery import IF, NMI_WORD, TF, vector_of
from vnmi_lab.hw.events import (
    Arrived,
    Changed,
    Delivered,
    Event,
    Executed,
    HostDid,
    KvmCalled,
    MemoryWritten,
    Stopped,
    Taken,
    VmExit,
    Vmrun,
)
from vnmi_lab.hw.svm import HOST_SAVED
from vnmi_lab.hw.vmcb import FIELDS, IntCtl, IntState, reader
from vnmi_lab.kvm import USER, Kvm
from vnmi_lab.machine import BUDGET, BareMetal, Host
from vnmi_lab.rules import RULES, Rule
from vnmi_lab.scenario import LABEL
from vnmi_lab.words import WORLD, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vnmi_lab.guest import CodeLine
    from vnmi_lab.hw.cpu import Cpu
    from vnmi_lab.hw.vmcb import Vmcb

SPACING = 128
REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
STACK_SHOWN = 8
FRAME_NOTES = ("RIP", "CS", "RFLAGS", "RSP", "SS")

Value: TypeAlias = int | str | None
StackLine: TypeAlias = tuple[int, int, str | None]
AnyMachine: TypeAlias = BareMetal | Host | Kvm


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run; ``world``, ``state`` and ``stack`` are as they are after it.

    ``kind`` is "exec" (an instruction retired), "deliver" (a handler was entered), "vmrun", "vmexit", "host" (a line
    of the host's script, a call of user space), "kvm" (KVM handles an exit), "stimulus" (the outside world), or "stop".
    ``rip`` is where the step started. Under KVM "vmrun" is all of KVM's way into the guest.
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

    @property
    def calls(self) -> tuple[tuple[int, str, str], ...]:
        """The KVM functions that ran in this step, in order: how deep, its name, its source file."""
        return tuple([(e.depth, e.function, e.file) for e in self.events if type(e) is KvmCalled])


class Trace:
    """A finished run that can be read at any step, in any order: ``trace[i]``, ``len(trace)``, iteration."""

    def __init__(self, machine: AnyMachine, title: str = "", limit: int = BUDGET) -> None:
        """Run ``machine`` from where it stands until nothing more happens, at most ``limit`` steps."""
        self.title = title
        self.code: tuple[CodeLine, ...] = machine.guest.listing()
        self.rules: dict[str, Rule] = {**RULES, **FUNCTIONS} if isinstance(machine, Kvm) else RULES
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
            follows = self._last is not None and self._last[0] == at - 1 and self._position == at
            before = self._last[1].state if follows and self._last is not None else None
            self.goto(at)
            self._last = (at, _record(self._machine, at, before))
            self._position = at + 1
        return self._last[1]

    def __iter__(self) -> Iterator[Step]:
        """Yield every step in order."""
        return (self[i] for i in range(self._length))

    def goto(self, position: int) -> AnyMachine:
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

    def when(self, position: int) -> int | str:
        """Return how a ``Stimulus`` says the moment before step ``position``.

        That is the label of the instruction to come, if RIP is there for the first time, so that it means the same
        under another policy; else the number of steps made, arrivals not counted.
        """
        machine = self.goto(position)
        rip, made = _comes_to(machine)
        names = [name for name, at in machine.guest.labels().items() if at == rip and LABEL.fullmatch(name)]
        if names and all(_comes_to(self.goto(earlier))[0] != rip for earlier in range(position)):
            return names[0]
        return made

    def find(self, wanted: Callable[[Step], bool], start: int = 0, *, backward: bool = False) -> int | None:
        """Return the first step from ``start`` on (or back) that ``wanted`` accepts, or None; nothing moves."""
        steps = range(start, -1, -1) if backward else range(start, self._length)
        return next((i for i in steps if wanted(self[i])), None)


def visible(step: Step) -> tuple[str, int, str] | None:
    """Return what a guest can see of a step (kind, where it started, label), or None for what it cannot."""
    return (step.kind, step.rip, step.text) if step.kind in ("exec", "deliver") else None


def first_divergence(ours: Trace, other: Trace) -> tuple[Step, Step] | None:
    """Return the first step of ``ours`` that the guest sees otherwise than in ``other``, with what it sees there.

    Steps of the host and arrivals are left out, so two policies are aligned by the guest's own steps. None when one run
    is the beginning of the other.
    """
    theirs = (step for step in other if visible(step) is not None)
    for step in ours:
        if visible(step) is None:
            continue
        match = next(theirs, None)
        if match is None:
            return None
        if visible(match) != visible(step):
            return step, match
    return None


def _comes_to(machine: AnyMachine) -> tuple[int, int]:
    """Return the guest's RIP, and how many steps a stimulus counts as made."""
    return (machine.rip, machine.ticks) if isinstance(machine, Kvm) else (machine.cpu.rip, machine.cpu.steps)


# --- one step, watched ------------------------------------------------------------------------------------------------


def _record(machine: AnyMachine, index: int, before: dict[str, Value] | None) -> Step:
    """Take one step with everything watched, and say what happened; ``before`` is the state, where it is known."""
    cpu = machine.cpu
    events: list[Event] = []
    before = before or _seen(machine)
    world = _world(machine)
    rip = before["rip"]
    assert isinstance(rip, int)
    cpu.sink, cpu.memory.log = events.append, []
    if isinstance(machine, Kvm):
        machine.vcpu.begin_watch()
    try:
        machine.step()
        if isinstance(machine, Kvm):
            machine.vcpu.flush()
        written = cpu.memory.log
    finally:
        cpu.sink = cpu.memory.log = None
    vmcb = _vmcb(machine)
    page = -1 if vmcb is None else vmcb.pa >> 12
    events.extend(MemoryWritten(*write) for write in written if write[0] >> 12 != page)
    after = _seen(machine)
    kind = _kind(events)
    changes = [_readable(e) for e in events if isinstance(e, Changed) and not _of_host_itself(e, machine)]
    if kind in BY_CODE and (kind == "kvm" or world == _world(machine)):
        changes += _unexplained(kind, before, after, {c.field for c in changes})
    if kind in BY_CODE and kind != "deliver":
        changes += [
            Changed(BY_CODE[kind], f"[{e.address:#x}]", e.old, e.new) for e in events if isinstance(e, MemoryWritten)
        ]
    text, sentence = words(kind, events, changes, machine.guest, after["exit_code"] if vmcb else None)
    if kind == "kvm" and isinstance(machine, Kvm) and machine.phase == USER:
        sentence += f" KVM_RUN returns to user space: {machine.said}."
    return Step(
        index, kind, _world(machine), rip, text, sentence, tuple(events), tuple(changes), after, _stack(cpu, after)
    )


BY_CODE = {"exec": "R-EXEC", "deliver": "R-EXEC", "kvm": "K-x86_emulate_instruction"}
"""By which rule an instruction changes registers and memory in a step of this kind: KVM emulates some."""


def _readable(change: Changed) -> Changed:
    """Give the interrupts that wait, one bit a vector, by the highest of them, which is the next to be taken."""
    if change.field != "irr":
        return change
    old, new = (max(bits.bit_length() - 1, 0) for bits in (change.old, change.new))
    return Changed(change.rule, "intr_pending", old, new)


def _of_host_itself(change: Changed, machine: AnyMachine) -> bool:
    """Say whether a change only swaps the registers of a host, which has none worth showing."""
    swaps = change.rule in ("R-VMRUN", "R-VMEXIT-HOST") and change.field in HOST_SAVED
    return swaps and not isinstance(machine, BareMetal)


def _world(machine: AnyMachine) -> str:
    if machine.cpu.guest_mode:
        return "guest"
    return "bare" if isinstance(machine, BareMetal) else "host"


def _vmcb(machine: AnyMachine) -> Vmcb | None:
    """Return the VMCB through which the machine's guest runs, None on bare metal."""
    if isinstance(machine, Host):
        return machine.view
    return machine.vcpu.vmcb if isinstance(machine, Kvm) else None


_FIRST_MATCH: tuple[tuple[type, str], ...] = (
    (Stopped, "stop"),
    (VmExit, "vmexit"),
    (Vmrun, "vmrun"),
    (HostDid, "host"),
    (Executed, "exec"),
    (Taken, "deliver"),
    (Delivered, "deliver"),
    (KvmCalled, "kvm"),
    (Arrived, "stimulus"),
)


def _kind(events: list[Event]) -> str:
    types = {type(event) for event in events}
    if Arrived in types and any(isinstance(e, Arrived) and e.rule == WORLD for e in events):
        return "stimulus"  # KVM is told of it at once
    return next(kind for cls, kind in _FIRST_MATCH if cls in types)


def _unexplained(kind: str, before: dict[str, Value], after: dict[str, Value], told: set[str]) -> Iterator[Changed]:
    """Yield what an instruction changed by doing what it does; a guest's RIP, RAX and so on are KVM's in the VMCB."""
    for field in OWN_REGISTERS if kind == "kvm" else ("rip", "rflags", *REGISTERS):
        old, new = before[field], after[field]
        if old != new and field not in told:
            assert isinstance(old, int)
            assert isinstance(new, int)
            yield Changed(BY_CODE[kind], field, old, new)


def _seen(machine: AnyMachine) -> dict[str, Value]:
    """Return the state to show: the guest's, from the processor while it runs and from the VMCB while it does not."""
    cpu = machine.cpu
    state: dict[str, Value] = {"rip": cpu.rip, "rflags": cpu.rflags, "shadow": cpu.shadow}
    state.update(zip(REGISTERS, cpu.r, strict=True))
    vmcb = _vmcb(machine)
    intercepts = 0 if vmcb is None else _see_vmcb(state, vmcb.to_bytes(), cpu)
    flags = state["rflags"]
    assert isinstance(flags, int)
    state.update(zip(CPU_SHOWN, _of_cpu(cpu), strict=True))
    if isinstance(machine, Host):
        state["host_nmi"] = machine.nmis
    if isinstance(machine, Kvm):
        state.update(zip(KVM_SHOWN, map(as_int, _of_kvm(machine.vcpu)), strict=True))
        state["iret_intercept"] = _IRET.get(intercepts)
    state["IF"], state["TF"] = int(flags & IF > 0), int(flags & TF > 0)
    state["handler_depth"] = sum(vector == vector_of(NMI_WORD) for vector, _frame in cpu.frames) if cpu.frames else 0
    return state


def _see_vmcb(state: dict[str, Value], vmcb: bytes, cpu: Cpu) -> int:
    """Put in the VMCB's fields, the guest's registers in it while it does not run, and the copies of live bits.

    The word of intercepts that has IRET's is returned.
    """
    intercepts, *values = _of_vmcb(vmcb)
    if not cpu.guest_mode:
        state.update(zip(("rip", "rflags", "rsp", "rax"), values, strict=False))
        state["shadow"] = IntState(values[4 + VMCB_SHOWN.index("int_state")]).interrupt_shadow
    state.update(zip(VMCB_SHOWN, values[4:], strict=True))
    int_ctl = values[4 + VMCB_SHOWN.index("int_ctl")]
    for name, bits in _BITS_SHOWN:
        state[name] = bits.get(int_ctl)
    live = bool(cpu.guest_mode and cpu.v_nmi_enable)
    state["live_v_nmi_pending"] = cpu.v_nmi_pending if live else None
    state["live_v_nmi_blocking"] = cpu.v_nmi_blocking if live else None
    return intercepts


CPU_SHOWN = ("gif", "nmi_mask", "nmi_latch", "halted", "guest_mode", "cr2")
VMCB_SHOWN = ("int_ctl", "event_inj", "exit_code", "exit_int_info", "int_state", "exit_info_1", "exit_info_2", "clean")
BITS_SHOWN = ("v_nmi_enable", "v_nmi_pending", "v_nmi_blocking", "v_irq", "v_gif")
KVM_SHOWN = (
    "nmi_queued", "nmi_pending", "nmi_injected", "nmi_masked", "awaiting_iret_completion", "nmi_iret_rip",
    "nmi_singlestep", "requests", "halted", "kicks", "host_nmi",
)  # fmt: skip
"""What KVM keeps of a vCPU that is worth seeing; here ``halted`` is KVM's own: the guest's HLT exits."""
_of_cpu, _of_kvm = attrgetter(*CPU_SHOWN), attrgetter(*KVM_SHOWN)
_of_vmcb = reader("intercept_3", "rip", "rflags", "rsp", "rax", *VMCB_SHOWN)
_BITS_SHOWN = tuple((name, IntCtl.FIELDS[name]) for name in BITS_SHOWN)
_IRET = FIELDS["intercept_3"].register.FIELDS["iret"]
OWN_REGISTERS = tuple(name for name in REGISTERS if name not in ("rax", "rsp"))
"""Registers of the guest that no VMCB holds."""


def _stack(cpu: Cpu, state: dict[str, Value]) -> tuple[StackLine, ...]:
    """Return the quadwords at RSP, with names on those that belong to an interrupt frame."""
    rsp = state["rsp"]
    assert isinstance(rsp, int)
    notes = {frame + 8 * i: note for _vector, frame in cpu.frames for i, note in enumerate(FRAME_NOTES)}
    words = _QUADWORDS.unpack(cpu.memory.read_bytes(rsp, 8 * STACK_SHOWN))
    if not notes and rsp < LAST_STACK:
        return tuple([(rsp + 8 * i, word, None) for i, word in enumerate(words)])
    addresses = [(rsp + 8 * i) % (1 << 64) for i in range(STACK_SHOWN)]
    return tuple([(at, word, notes.get(at)) for at, word in zip(addresses, words, strict=True)])


_QUADWORDS = Struct(f"<{STACK_SHOWN}Q")
LAST_STACK = (1 << 64) - 8 * STACK_SHOWN
"""From here on addresses wrap."""
