"""Transparency: what a guest sees under a hypervisor must be something that bare metal could have shown it.

What it sees is the order of its NMIs, each by the address it will return to, and at the end its registers and counters.
External NMIs may arrive at any time, so bare metal allows a set of histories; those that the guest sends to itself are
ordered by its own code. Every history under a policy must be in that set.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.explore import COUNTER, Search, Verdict, explore
from vnmi_lab.guest import COUNTERS
from vnmi_lab.laws import NMI_VECTOR, Law, Moment, return_rips
from vnmi_lab.machine import BareMetal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vnmi_lab.guest import Guest
    from vnmi_lab.hw.cpu import Cpu
    from vnmi_lab.rules import Switches

History = tuple[int, ...]
Node = tuple[object, int, History, int]
"""A frozen machine, arrivals left, the history so far, NMI frames on the stack."""
SOURCE = "the definition of transparency: the same guest on bare metal"


class Seen(NamedTuple):
    """What bare metal can show a guest: every beginning of a history, and every history with its end."""

    beginnings: frozenset[History]
    ends: frozenset[tuple[History, tuple[int, ...]]]
    states: int


def end_of(cpu: Cpu, rip: int, rsp: int, rax: int) -> tuple[int, ...]:
    """Return what a guest can look at when it has come to rest: registers, RIP, and the count of its NMIs."""
    return (rax, *cpu.r[1:4], rsp, *cpu.r[5:], rip, cpu.memory.read(COUNTER, 8))


def bare_metal(guest: Guest, nmis: int, switches: Switches | None = None) -> Seen:
    """Return all that a guest can see on bare metal when up to ``nmis`` NMIs arrive, at any time."""
    machine = BareMetal(guest, switches=switches)
    start: Node = (machine.snapshot(), nmis, (), 0)
    seen, queue = {start}, [start]
    beginnings: set[History] = {()}
    ends: set[tuple[History, tuple[int, ...]]] = set()
    while queue:
        node = queue.pop()
        for after in _successors(machine, *node, ends):
            if after not in seen:
                seen.add(after)
                beginnings.add(after[2])
                queue.append(after)
    return Seen(frozenset(beginnings), frozenset(ends), len(seen))


def _successors(
    machine: BareMetal,
    frozen: object,
    left: int,
    history: History,
    frames: int,
    ends: set[tuple[History, tuple[int, ...]]],
) -> Iterator[Node]:
    cpu = machine.cpu
    if left:
        machine.restore(frozen)  # type: ignore[arg-type]  # it is this machine's own
        cpu.arrive("nmi")
        yield _frozen(machine), left - 1, history, frames
    machine.restore(frozen)  # type: ignore[arg-type]  # as above
    if not machine.step():
        ends.add((history, end_of(cpu, cpu.rip, cpu.rsp, cpu.rax)))
        return
    rips = return_rips(cpu)
    yield _frozen(machine), left, (*history, rips[-1]) if len(rips) > frames else history, len(rips)


def _frozen(machine: BareMetal) -> object:
    """Freeze a machine without its clock, so that the same state at two times is one."""
    machine.cpu.steps = 0
    return machine.snapshot()


def transparent(search: Search) -> Verdict:
    """Search for a history under a policy that bare metal could not show; the verdict's law says which it was."""
    seen = bare_metal(search.guest, search.nmis, search.switches)

    def possible(moment: Moment) -> bool:
        history = moment.watch.history
        if history not in seen.beginnings:
            return False
        if not moment.done:
            return True
        vmcb = moment.kvm.vcpu.vmcb
        return (history, end_of(moment.kvm.cpu, int(vmcb.rip), int(vmcb.rsp), int(vmcb.rax))) in seen.ends

    law = Law("transparent", "What the guest sees is something that bare metal could have shown it.", SOURCE, possible)
    return explore(replace(search, laws=(law,), history=True))


assert COUNTER == COUNTERS + 8 * NMI_VECTOR
