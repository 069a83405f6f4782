"""The judge: every schedule of a few NMIs, and the shortest one that breaks a law.

A search state is a machine, frozen, with what a bystander remembers of it (``Watch``): whether an NMI is owed, how many
may still come. From each state either the machine takes one step or something arrives. States are visited with the
fewest arrivals first and then the fewest steps, so the first one that breaks a law is reached by a shortest schedule.

A law says what no schedule may do. ``sometimes`` are the opposite: something that must happen in some schedule, so that
a law is not true merely because nothing happens.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.guest import Guest
from vnmi_lab.hv.vcpu import REQ_EVENT, REQ_NMI, Features
from vnmi_lab.hw.delivery import NMI_WORD, RF, TF, vector_of
from vnmi_lab.kvm import FATAL, KERNEL, USER, Kvm, KvmSnapshot
from vnmi_lab.rules import Switches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vnmi_lab.hv.ops import NmiOps

NMI_VECTOR = vector_of(NMI_WORD)
STEP, NMI, MIGRATE = "step", "NMI", "migrate"
LONGEST = 400
"""Steps after the last arrival within which every guest of the lab is done."""
MOST_STATES = 200_000
REMEMBERED_IDLE, REMEMBERED_BUSY = 2, 1
"""NMIs that may wait: two while none is in service, as a vCPU may not be running; one while one is."""


class Watch(NamedTuple):
    """What a bystander remembers: arrivals left, steps since the last, NMIs that may come, whether one is owed."""

    left: int
    idle: int
    waiting: int
    owed: bool
    depth: int
    over: bool
    flags: int


class Moment(NamedTuple):
    """A state of the search as a law sees it."""

    kvm: Kvm
    watch: Watch
    done: bool
    """Nothing more will happen by itself."""


@dataclass(frozen=True, slots=True)
class Law:
    """A sentence that no schedule may make false, with its source."""

    slug: str
    sentence: str
    source: str
    holds: Callable[[Moment], bool]


def _quiet(moment: Moment) -> bool:
    vcpu = moment.kvm.vcpu
    waits = vcpu.nmi_queued or vcpu.nmi_pending or vcpu.nmi_injected or vcpu.vmcb.int_ctl.v_nmi_pending
    return not (moment.done and waits)


def _looked_at(moment: Moment) -> bool:
    """Say whether an NMI that waits and may be injected will be looked at before the guest goes on."""
    kvm = moment.kvm
    if kvm.phase != KERNEL or not kvm.vcpu.nmi_pending or kvm.vcpu.requests & (REQ_EVENT | REQ_NMI):
        return True
    return kvm.ops.nmi_allowed(kvm.vcpu, False) <= 0  # noqa: FBT003 - for_injection, as in KVM


LAWS: tuple[Law, ...] = (
    Law(
        "no_nesting",
        "An NMI is never taken inside an NMI handler before that handler's IRET completes.",
        "APM ch. 8; KVM process_nmi",
        lambda m: m.watch.depth <= 1,
    ),
    Law(
        "not_lost",
        "After an NMI arrives, the handler is entered at least once more.",
        "APM ch. 8; kvm-unit-tests pending nmi",
        lambda m: not (m.done and m.watch.owed),
    ),
    Law(
        "nothing_left",
        "When nothing more happens, no NMI is left in any of its four places.",
        "KVM process_nmi; the review of patch v4",
        _quiet,
    ),
    Law(
        "looked_at",
        "An NMI that waits in software and may be injected is looked at before the guest goes on.",
        "the review of patch v2 and v4, 2022: the stuck second NMI",
        _looked_at,
    ),
    Law(
        "not_over_delivered",
        "While one NMI is in service one more is remembered, and no more than that one is delivered after it.",
        "kvm-unit-tests pending nmi",
        lambda m: not m.watch.over,
    ),
    Law(
        "no_borrowed_flags",
        "The interrupt frame shows no TF or RF that the hypervisor borrowed.",
        "KVM svm_vcpu_run",
        lambda m: not m.watch.flags,
    ),
    Law(
        "enters",
        "The guest can always be entered, and does not shut down.",
        "APM 15.5.1, 15.21.10",
        lambda m: m.kvm.said not in FATAL,
    ),
    Law(
        "finishes",
        f"The guest is done within {LONGEST} steps of the last arrival.",
        "the guests of this lab",
        lambda m: m.watch.idle <= LONGEST,
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a search found: states and transitions seen, and the law that broke with its shortest schedule, if any."""

    policy: str
    states: int
    transitions: int
    seconds: float
    broken: Law | None
    schedule: tuple[str, ...]
    delivered: int
    """The most handler entries in any schedule: 0 would make every law empty."""

    @property
    def holds(self) -> bool:
        """Whether every law held in every state, and something was delivered."""
        return self.broken is None and self.delivered > 0

    def __str__(self) -> str:
        """Return the verdict in a sentence, with the schedule of a counterexample in short."""
        if self.broken is None:
            return f"{self.policy} holds in all {self.states:,} reachable states"
        return (
            f"{self.policy} is broken after {len(self.schedule)} steps: {self.broken.sentence} {brief(self.schedule)}"
        )


def brief(schedule: tuple[str, ...]) -> str:
    """Return a schedule with its runs of steps counted: "step*12 NMI step*3"."""
    out: list[list[object]] = []
    for action in schedule:
        if out and out[-1][0] == action:
            out[-1][1] = int(str(out[-1][1])) + 1
        else:
            out.append([action, 1])
    return " ".join(f"{name}*{count}" if count != 1 else str(name) for name, count in out)


HANDLER = "inc qword [rbx+16]\nbody: nop\n iretq"
IDLE = Guest.of("start: nop\n nop\nwork: nop\n hlt\nagain: hlt\n jmp again", {NMI_VECTOR: HANDLER}, tail="hlt")
"""A guest that works a little and then only waits: any NMI that is not lost is delivered at the latest there."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to search: a policy, a guest, how many NMIs, and what else may happen."""

    ops: NmiOps
    guest: Guest = IDLE
    nmis: int = 2
    features: Features | None = None
    switches: Switches | None = None
    absent: tuple[int, ...] = ()
    """Guest-physical addresses whose pages the nested page table does not map at the start."""
    migrate: bool = False
    """At every stop in user space the vCPU may be saved and restored into a new one."""
    laws: tuple[Law, ...] = LAWS

    def machine(self) -> Kvm:
        """Return the machine at its start, about to run."""
        features = self.features or Features(vnmi_cpuid=self.ops.uses_vnmi)
        kvm = Kvm(self.guest, self.ops, features, self.switches)
        kvm.cpu.set_absent(kvm.cpu.absent | {address >> 12 for address in self.absent})
        kvm.start()
        return kvm


def explore(search: Search) -> Verdict:
    """Visit every state that some schedule reaches; stop at the first that breaks a law."""
    began = time.perf_counter()
    kvm = search.machine()
    start = Node(kvm.snapshot(), Watch(search.nmis, 0, 0, owed=False, depth=0, over=False, flags=0))
    came: dict[object, tuple[object, str] | None] = {start.key: None}
    queue: list[tuple[int, int, int, Node]] = [(0, 0, 0, start)]
    transitions = delivered = 0
    while queue:
        arrivals, steps, _order, node = heappop(queue)
        for action, after, moment in _successors(search, kvm, node):
            transitions += 1
            if after.key in came:
                continue
            came[after.key] = (node.key, action)
            delivered = max(delivered, kvm.cpu.memory.read(COUNTER, 8))
            broken = next((law for law in search.laws if not law.holds(moment)), None)
            if broken is not None or len(came) > MOST_STATES:
                path = _path(came, after.key)
                seconds = time.perf_counter() - began
                return Verdict(search.ops.name, len(came), transitions, seconds, broken, path, delivered)
            cost = (arrivals + (action == NMI), steps + 1)
            heappush(queue, (*cost, len(came), after))
    return Verdict(search.ops.name, len(came), transitions, time.perf_counter() - began, None, (), delivered)


COUNTER = 0x340000 + 8 * NMI_VECTOR


class Node(NamedTuple):
    """A frozen machine and what the bystander remembers."""

    machine: KvmSnapshot
    watch: Watch

    @property
    def key(self) -> object:
        """What makes two states the same: not the time, and not what was only counted."""
        cpu = self.machine.cpu
        return (cpu.regs, cpu.state, cpu.pages, self.machine[1:4], self.watch)


def _successors(search: Search, kvm: Kvm, node: Node) -> Iterator[tuple[str, Node, Moment]]:
    if node.watch.left:
        kvm.restore(node.machine)
        kvm.nmi()
        yield _after(NMI, kvm, node.watch)
    kvm.restore(node.machine)
    if kvm.phase == USER and search.migrate:
        events = kvm.events()
        kvm.vcpu.forget()
        kvm.ops.set_vcpu_events(kvm.vcpu, events)
        kvm.start()
        yield _after(MIGRATE, kvm, node.watch)
        kvm.restore(node.machine)
    if kvm.step():
        yield _after(STEP, kvm, node.watch)


def _after(action: str, kvm: Kvm, before: Watch) -> tuple[str, Node, Moment]:
    """Return the node behind an action, and the moment as laws see it."""
    depth = sum(vector == NMI_VECTOR for vector, _frame in kvm.cpu.frames)
    left, idle, waiting, owed, over, flags = before.left, before.idle + 1, before.waiting, before.owed, False, 0
    if action == NMI:
        waiting = max(waiting, min(waiting + 1, REMEMBERED_BUSY if before.depth else REMEMBERED_IDLE))
        left, idle, owed = left - 1, 0, True
    if depth > before.depth:
        over = waiting == 0
        waiting, owed = max(0, waiting - 1), False
        flags = kvm.cpu.memory.read(kvm.cpu.frames[-1][1] + 16, 8) & (TF | RF)
    watch = Watch(left, idle, waiting, owed, depth, over, flags)
    node = Node(kvm.snapshot(), watch)
    return action, node, Moment(kvm, watch, done=not left and kvm.is_waiting)


def _path(came: dict[object, tuple[object, str] | None], key: object) -> tuple[str, ...]:
    actions: list[str] = []
    at = came[key]
    while at is not None:
        actions.append(at[1])
        at = came[at[0]]
    return tuple(reversed(actions))
