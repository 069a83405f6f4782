"""The judge: every schedule of a few NMIs, and the shortest one that breaks a law.

A search state is a machine, frozen, with what a bystander remembers of it. From each state either the machine takes one
step or something arrives. States are visited with the fewest arrivals first and then the fewest steps, so the first
that breaks a law is reached by a shortest schedule. A schedule is data: it replays (``Verdict.replay``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.guest import COUNTERS
from vnmi_lab.guests import GUESTS
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.kvm import USER, Kvm, KvmSnapshot
from vnmi_lab.laws import COMES_TO_REST, LAWS, NMI_VECTOR, Law, Moment, Watch
from vnmi_lab.machine import Stimulus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vnmi_lab.guest import Guest
    from vnmi_lab.hv.ops import NmiOps
    from vnmi_lab.rules import Switches

STEP, NMI, IRQ, MIGRATE = "step", "NMI", "IRQ", "migrate"
STIMULI = {NMI: "nmi", IRQ: "intr", MIGRATE: "migrate"}
"""What an action is as a stimulus."""
ARRIVALS = (NMI, IRQ)
VECTOR = Stimulus(0).vector
MOST_STATES = 200_000
COUNTER = COUNTERS + 8 * NMI_VECTOR
IDLE = GUESTS["idle"].source.guest()
"""Works a little and then only waits: an NMI that is not lost is delivered at the latest there."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to search: a policy, a guest, how many NMIs, and what else may happen.

    ``irqs``: interrupts that may arrive, too. ``absent``: guest-physical addresses whose pages the nested page table
    does not map at first. ``migrate``: at every stop in user space the vCPU may be saved and restored into a new one.
    ``most``: states after which to give up. ``history``: remember the return address of every NMI, which
    ``transparency`` asks for.
    """

    ops: NmiOps
    guest: Guest = IDLE
    nmis: int = 3
    features: Features | None = None
    switches: Switches | None = None
    absent: tuple[int, ...] = ()
    irqs: int = 0
    migrate: bool = False
    laws: tuple[Law, ...] = LAWS
    most: int = MOST_STATES
    history: bool = False

    def machine(self, stimuli: tuple[Stimulus, ...] = ()) -> Kvm:
        """Return the machine at its start."""
        features = self.features or Features(vnmi_cpuid=self.ops.uses_vnmi)
        return Kvm(self.guest, self.ops, features, self.switches, stimuli, absent=self.absent)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a search found: states and transitions seen, and the law that broke with its shortest schedule, if any.

    ``delivered``: the most handler entries in any schedule; 0 would make every law empty. ``complete``: no state was
    left out.
    """

    policy: str
    states: int
    transitions: int
    seconds: float
    delivered: int
    complete: bool = True
    broken: Law | None = None
    schedule: tuple[str, ...] = ()
    search: Search | None = field(default=None, repr=False, compare=False)
    depends: tuple[str, ...] | None = None
    """The open switches under whose other setting the verdict would be another; None: not asked."""
    scenario: str | None = None
    """The counterexample as text that ``vnmi-lab run`` plays, where the policy has a name."""

    @property
    def holds(self) -> bool:
        """Whether every law held in every state, and some schedule delivered an NMI."""
        return self.broken is None and self.complete and self.delivered > 0

    @property
    def stimuli(self) -> tuple[Stimulus, ...]:
        """The counterexample as stimuli at steps of the machine: what replays it."""
        steps, found = 0, []
        for action in self.schedule:
            if action == STEP:
                steps += 1
            else:
                found.append(Stimulus(steps, STIMULI[action]))
        return tuple(found)

    def replay(self) -> Kvm:
        """Return the machine that the counterexample breaks, at its start."""
        assert self.search is not None
        return self.search.machine(self.stimuli)

    def __str__(self) -> str:
        """Return the verdict in a sentence, a counterexample with its runs of steps counted."""
        if self.depends is None:
            return self._sentence()
        return f"{self._sentence()} (depends on {', '.join(self.depends) or 'no open switch'})"

    def _sentence(self) -> str:
        if self.broken is not None:
            return (
                f"{self.policy}: broken after {len(self.schedule)} steps. {self.broken.sentence} {brief(self.schedule)}"
            )
        if not self.complete:
            return f"{self.policy}: no law broken in the first {self.states:,} states; there are more"
        if not self.delivered:
            return f"{self.policy}: no schedule delivers an NMI, so the laws say nothing"
        return f"{self.policy}: holds in all {self.states:,} reachable states"


def brief(schedule: tuple[str, ...]) -> str:
    """Return a schedule with its repetitions counted: "step*12 NMI step*3"."""
    counted = [(name, len(list(group))) for name, group in groupby(schedule)]
    return " ".join(name if count == 1 else f"{name}*{count}" for name, count in counted)


class Node(NamedTuple):
    """A frozen machine and what the bystander remembers."""

    machine: KvmSnapshot
    watch: Watch

    @property
    def key(self) -> object:
        """What makes two states the same: not the time, and not what was only counted."""
        cpu = self.machine.cpu
        return (cpu.regs, cpu.state, cpu.pages, self.machine.vcpu, self.machine.phase, self.machine.said, self.watch)


Came = dict[object, "tuple[object, str] | None"]
Record = Callable[["Node | None", str, Node, Kvm], None]
"""Hears of every transition: where it starts (None for the first state), the action, where it leads to, and the machine
there, to be looked at."""


def _ignore(_before: Node | None, _action: str, _after: Node, _kvm: Kvm) -> None:
    """Hear of a transition without taking note."""


def explore(search: Search, record: Record | None = None) -> Verdict:
    """Visit every state that some schedule reaches; stop at the first that breaks a law."""
    began = time.perf_counter()
    kvm = search.machine()
    start = Node(kvm.snapshot(), Watch(search.nmis, search.irqs, history=() if search.history else None))
    hear = record or _ignore
    hear(None, "", start, kvm)
    came: Came = {start.key: None}
    then: dict[object, object] = {}
    queue: list[tuple[int, int, int, Node]] = [(0, 0, 0, start)]
    transitions = delivered = 0

    def verdict(broken: Law | None = None, key: object = None, *, complete: bool = True) -> Verdict:
        seconds, path = time.perf_counter() - began, _path(came, key) if broken else ()
        counts = (search.ops.name, len(came), transitions, seconds, delivered)
        return Verdict(*counts, complete, broken, path, search)

    while queue:
        arrivals, steps, _order, node = heappop(queue)
        for action, after, moment in _successors(search, kvm, node):
            transitions += 1
            hear(node, action, after, kvm)
            if action == STEP and not (after.watch.left or after.watch.irqs):
                then[node.key] = after.key
            if after.key in came:
                continue
            came[after.key] = (node.key, action)
            delivered = max(delivered, kvm.cpu.memory.read(COUNTER, 8))
            broken = next((law for law in search.laws if not law.holds(moment)), None)
            if broken is not None:
                return verdict(broken, after.key)
            if len(came) >= search.most:
                return verdict(complete=False)
            heappush(queue, (arrivals + (action in ARRIVALS), steps + 1, len(came), after))
    restless = _restless(then)
    if not restless:
        return verdict()
    first = min(restless, key=lambda key: _cost(_path(came, key)))
    return verdict(COMES_TO_REST, first)


def _cost(path: tuple[str, ...]) -> tuple[int, int]:
    return sum(action in ARRIVALS for action in path), len(path)


def _restless(then: dict[object, object]) -> set[object]:
    """Return the states from which steps alone go round for ever; ``then`` is what one step leads to."""
    known: dict[object, bool] = {}
    for start in then:
        chain: list[object] = []
        at: object = start
        while at in then and at not in known:
            known[at] = True  # until it is seen to end
            chain.append(at)
            at = then[at]
        ends = at not in then or not known[at]
        for key in chain:
            known[key] = not ends
    return {key for key, goes_round in known.items() if goes_round}


def _successors(search: Search, kvm: Kvm, node: Node) -> Iterator[tuple[str, Node, Moment]]:
    if node.watch.left:
        kvm.restore(node.machine)
        kvm.nmi()
        yield _reached(NMI, kvm, node.watch.arrived())
    if node.watch.irqs:
        kvm.restore(node.machine)
        kvm.irq(VECTOR)
        yield _reached(IRQ, kvm, node.watch.interrupted())
    if search.migrate and node.machine.phase == USER and node.machine.said:
        kvm.restore(node.machine)
        kvm.migrate()
        yield _reached(MIGRATE, kvm, node.watch.stepped(kvm))
    kvm.restore(node.machine)
    if kvm.step():
        yield _reached(STEP, kvm, node.watch.stepped(kvm))


def _reached(action: str, kvm: Kvm, watch: Watch) -> tuple[str, Node, Moment]:
    return (
        action,
        Node(kvm.snapshot(), watch),
        Moment(kvm, watch, done=not (watch.left or watch.irqs) and kvm.is_waiting),
    )


def _path(came: Came, key: object) -> tuple[str, ...]:
    actions: list[str] = []
    at = came[key]
    while at is not None:
        actions.append(at[1])
        at = came[at[0]]
    return tuple(reversed(actions))
