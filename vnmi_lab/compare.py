"""What a scenario costs and delivers under each policy, counted on the machine while it runs.

Every NMI that arrives is accounted for: it is delivered (its handler was entered), or it coalesced (``process_nmi``
merged it into one that is remembered, correct in any number), or it still waits at the end, or it is lost.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.guests import NMI_VECTOR
from vnmi_lab.hv.profiles import POLICIES
from vnmi_lab.hw.events import Arrived, Delivered, Event
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.kvm import FATAL, GUEST, MOVES, Kvm
from vnmi_lab.scenario import BARE, Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vnmi_lab.hv.ops import NmiOps
    from vnmi_lab.hv.vcpu import Vcpu
    from vnmi_lab.machine import BareMetal

BUDGET = 500
"""Steps within which every scenario of the library ends by itself, unless a policy keeps it busy."""


class Entered(NamedTuple):
    """A handler was entered: its vector, and the address that its frame returns to."""

    vector: int
    returns_to: int


@dataclass(frozen=True, slots=True)
class Row:
    """One machine: what became of the NMIs, and the exits it took.

    ``deepest``: NMI handlers inside one another. ``extra``: deliveries of what never arrived. ``waiting``: NMIs left
    in any of their places at the end. ``ended``: "waiting" (halted, nothing can wake it), "budget" (still busy), or
    the reason why KVM_RUN makes no sense any more. ``entered``: every handler entry, which is what the guest sees.
    """

    machine: str
    arrived: int
    delivered: int
    coalesced: int
    lost: int
    extra: int
    waiting: int
    deepest: int
    kicks: int = 0
    iret: int = 0
    db: int = 0
    stgi: int = 0
    vintr: int = 0
    exits: int = 0
    injections: int = 0
    ended: str = "waiting"
    entered: tuple[Entered, ...] = ()

    @property
    def beyond_kicks(self) -> int:
        """Exits that the policy itself asked for: IRET, #DB, STGI and VINTR."""
        return self.iret + self.db + self.stgi + self.vintr


COLUMNS = {
    "machine": "machine",
    "arrived": "arrived",
    "delivered": "delivered",
    "coalesced": "coalesced",
    "lost": "lost",
    "extra": "extra",
    "waiting": "waiting",
    "deepest": "deepest",
    "kicks": "kicks",
    "iret": "IRET",
    "db": "#DB",
    "stgi": "STGI",
    "vintr": "VINTR",
    "exits": "all exits",
    "injections": "injections",
}
"""Fields of ``Row`` that are printed, and what stands above them."""
ENDINGS = {"budget": f"still busy after {BUDGET:,} steps"}


@dataclass(frozen=True, slots=True)
class Table:
    """A scenario on several machines, bare metal first."""

    scenario: Scenario
    rows: tuple[Row, ...]

    def __getitem__(self, machine: str) -> Row:
        """Return the row of a machine."""
        return next(row for row in self.rows if row.machine == machine)

    def __str__(self) -> str:
        """Return the table, and a line for each run that did not come to rest."""
        lines = [[*COLUMNS.values()], *([str(getattr(row, name)) for name in COLUMNS] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
        text += [f"{row.machine}: {ENDINGS.get(row.ended, row.ended)}" for row in self.rows if row.ended != "waiting"]
        return "\n".join(text)

    def as_dict(self) -> dict[str, object]:
        """Return plain data: the scenario and its rows."""
        return {"scenario": str(self.scenario), "rows": [asdict(row) for row in self.rows]}


def compare(scenario: Scenario, policies: Sequence[str] = ("legacy", "vnmi")) -> Table:
    """Run a scenario on bare metal and under each policy, and count."""
    machines = dict.fromkeys((BARE, *policies))
    return Table(scenario, tuple(measure(scenario.on(machine)) for machine in machines))


def measure(scenario: Scenario, ops: NmiOps | None = None, budget: int = BUDGET) -> Row:
    """Run a scenario to its end and count; ``ops`` stands in for its policy, as in ``Scenario.machine``."""
    tally = _Tally()
    if ops is None and scenario.policy != BARE:
        ops = POLICIES[scenario.policy]
    machine = scenario.machine(ops and tally.watching(ops))
    return tally.kvm(machine, budget) if isinstance(machine, Kvm) else tally.bare(machine, budget)


@dataclass
class _Tally:
    """What a bystander counts."""

    arrived: int = 0
    coalesced: int = 0
    deepest: int = 0
    entered: list[Entered] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        """Take note of an event of the processor."""
        if isinstance(event, Delivered):
            self.entered.append(Entered(event.vector, event.return_rip))

    def hear_bare(self, event: Event) -> None:
        """Take note of an event where there is no hypervisor: the latch coalesces."""
        self.hear(event)
        if isinstance(event, Arrived) and event.source == "nmi":
            self.arrived += 1
            self.coalesced += event.coalesced

    def watching(self, ops: NmiOps) -> NmiOps:
        """Return the policy with somebody who sees what ``process_nmi`` merges.

        What is dropped while nothing waits is merged into nothing: it is lost, and not counted here (``merged``).
        """

        def process_nmi(vcpu: Vcpu) -> None:
            before = _waiting(vcpu)
            ops.process_nmi(vcpu)
            self.coalesced += merged(before, _waiting(vcpu))

        return ops.but(ops.name, ops.follows, process_nmi=process_nmi)

    def bare(self, machine: BareMetal, budget: int) -> Row:
        """Run bare metal."""
        cpu = machine.cpu
        cpu.sink = self.hear_bare
        ended = "budget"
        for _ in range(budget):
            if not machine.step():
                ended = cpu.stopped or "waiting"
                break
            self._look(cpu.frames)
        return self._row(BARE, cpu.nmi_latch, ended)

    def kvm(self, machine: Kvm, budget: int) -> Row:
        """Run a guest under a policy."""
        vcpu, cpu = machine.vcpu, machine.cpu
        cpu.sink = self.hear
        ended = "budget"
        for _ in range(budget):
            queued, due = vcpu.nmi_queued, machine.schedule.due
            if not machine.step():
                ended = machine.said if machine.said in FATAL else cpu.stopped or "waiting"
                break
            came = set(due) - set(machine.schedule.due)
            if not any(machine.stimuli[i].what in MOVES for i in came):  # else what is restored is queued again
                self.arrived += max(0, vcpu.nmi_queued - queued)
            self._look(cpu.frames)
        left = _waiting(vcpu) + (vcpu.nmi_injected and machine.phase != GUEST)
        if cpu.guest_mode and cpu.v_nmi_enable:
            left += cpu.v_nmi_pending - vcpu.vmcb.int_ctl.v_nmi_pending
        names = [exit_name(code) for code in vcpu.exits]
        return replace(
            self._row(machine.ops.name, left, ended),
            kicks=vcpu.kicks,
            iret=names.count("IRET"),
            db=names.count("EXC_DB"),
            stgi=names.count("STGI"),
            vintr=names.count("VINTR"),
            exits=len(names),
            injections=vcpu.nmi_injections,
        )

    def _look(self, frames: Sequence[tuple[int, int]]) -> None:
        self.deepest = max(self.deepest, sum(vector == NMI_VECTOR for vector, _frame in frames))

    def _row(self, name: str, left: int, ended: str) -> Row:
        delivered = sum(vector == NMI_VECTOR for vector, _rip in self.entered)
        over = self.arrived - delivered - self.coalesced - left
        return Row(
            name,
            self.arrived,
            delivered,
            self.coalesced,
            lost=max(0, over),
            extra=max(0, -over),
            waiting=left,
            deepest=self.deepest,
            ended=ended,
            entered=tuple(self.entered),
        )


def merged(before: int, after: int) -> int:
    """Return how many NMIs that waited merged into one that still does; with none left, there was no merging."""
    return max(0, before - after) if after else 0


def _waiting(vcpu: Vcpu) -> int:
    """Count the NMIs that wait: queued, accepted, and in the processor's slot as the VMCB has it."""
    return vcpu.nmi_queued + vcpu.nmi_pending + int(vcpu.vmcb.int_ctl.v_nmi_pending)
