"""Sweeps: what a policy costs as a function of how often NMIs arrive, from the machine's own transition table.

The table is compiled by running the machine: every state that a looping guest reaches, and what one step leads to with
and without an NMI arriving before it, and what that cost. Then a million arrivals are a matter of looking up arrays,
for thousands of vCPUs at once. There is one semantics, and it is the machine's.

Costs in cycles are a model, labelled as one: see ``costs.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.costs import COSTS
from vnmi_lab.explore import Node
from vnmi_lab.guest import Guest
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.kvm import EXITED, Kvm
from vnmi_lab.laws import NMI_VECTOR, Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from vnmi_lab.hv.ops import NmiOps

LOOP = Guest.of(
    "again: nop\n nop\n nop\n nop\n nop\n nop\n jmp again", {NMI_VECTOR: "nop\n nop\n nop\n iretq"}, tail="hlt"
)
"""Works for ever; its handler counts nothing, so that its states are finite."""
GAINS = ("steps", "delivered", "merged", "intr_exits", "iret_exits", "db_exits", "other_exits")
KINDS = {0x60: "intr_exits", 0x74: "iret_exits", 0x41: "db_exits"}
MOST_STATES = 20_000
MOST_VCPUS, FEWEST_VCPUS, LEAST_STEPS = 4096, 16, 500
"""Of a sweep: how many vCPUs run at once, and how many steps each makes at least, so that its start does not count."""


@dataclass(frozen=True, slots=True)
class Table:
    """What the machine does in each state: the next state and what was gained.

    ``after[a][s]``: next state, with a = 1 when an NMI arrives before the step. ``gains[a][s]``: one count for each of
    ``GAINS``.
    """

    policy: str
    after: tuple[tuple[int, ...], tuple[int, ...]]
    gains: tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]


def compile_table(ops: NmiOps, guest: Guest = LOOP, features: Features | None = None) -> Table:
    """Run the machine through every state that steps and arrivals reach; ``ValueError`` when there are too many."""
    kvm = Kvm(guest, ops, features or Features(vnmi_cpuid=ops.uses_vnmi))
    nodes = [_node(kvm)]
    numbers = {nodes[0].key: 0}
    after: tuple[list[int], list[int]] = ([], [])
    gains: tuple[list[tuple[int, ...]], list[tuple[int, ...]]] = ([], [])
    for node in nodes:  # grows while it is walked
        for action in (0, 1):
            kvm.restore(node.machine)
            before = _counts(kvm)
            kvm.nmi(action)
            kvm.step()
            reached = _node(kvm)
            if reached.key not in numbers:
                numbers[reached.key] = len(nodes)
                nodes.append(reached)
            after[action].append(numbers[reached.key])
            gains[action].append(_gained(kvm, before))
        if len(nodes) > MOST_STATES:
            msg = f"the guest has more than {MOST_STATES:,} states; a sweep needs one that goes round"
            raise ValueError(msg)
    return Table(ops.name, (tuple(after[0]), tuple(after[1])), (tuple(gains[0]), tuple(gains[1])))


def _node(kvm: Kvm) -> Node:
    return Node(kvm.snapshot(), Watch(0))


def _counts(kvm: Kvm) -> tuple[int, int]:
    frames = sum(vector == NMI_VECTOR for vector, _frame in kvm.cpu.frames)
    return frames, kvm.vcpu.dropped


def _gained(kvm: Kvm, before: tuple[int, int]) -> tuple[int, ...]:
    frames, dropped = _counts(kvm)
    gained = dict.fromkeys(GAINS, 0)
    gained["steps"] = 1
    gained["delivered"] = int(frames > before[0])
    gained["merged"] = dropped - before[1]
    if kvm.phase == EXITED:
        gained[KINDS.get(int(kvm.vcpu.vmcb.exit_code), "other_exits")] = 1
    return tuple(gained.values())


class Point(NamedTuple):
    """What one arrival rate gave: NMIs for each 1,000 steps of the machine, and what they cost."""

    policy: str
    rate: float
    arrivals: int
    totals: dict[str, int]

    @property
    def delivered(self) -> float:
        """The share of NMIs that became a handler entry of their own."""
        return self.totals["delivered"] / self.arrivals

    @property
    def exits(self) -> float:
        """#VMEXITs for each NMI that arrived, kicks included."""
        return sum(self.totals[name] for name in GAINS if name.endswith("exits")) / self.arrivals

    @property
    def extra_exits(self) -> float:
        """#VMEXITs for each NMI, the kicks left out: what tracking the IRET costs."""
        return sum(self.totals[name] for name in ("iret_exits", "db_exits", "other_exits")) / self.arrivals

    @property
    def cycles(self) -> float:
        """Cycles lost to exits for each NMI, by the cost model."""
        return self.exits * (COSTS["exit"].cycles + COSTS["handling"].cycles)


def simulate(table: Table, rate: float, *, arrivals: int = 1_000_000, vcpus: int = 4096, seed: int = 0) -> Point:
    """Let about ``arrivals`` NMIs arrive, ``rate`` for each 1,000 steps, at many vCPUs at once.

    The same seed gives the same result. ``ValueError`` for a rate that cannot be.
    """
    if not 0 < rate <= 1000:  # noqa: PLR2004 - at most one an every step
        msg = f"a rate is in NMIs for each 1,000 steps, above 0 and at most 1000, not {rate!r}"
        raise ValueError(msg)
    import numpy as np  # noqa: PLC0415 - only a sweep needs it

    random = np.random.default_rng(seed)
    after = np.array(table.after, dtype=np.int32)
    gains = np.array(table.gains, dtype=np.int64)
    state = np.zeros(vcpus, dtype=np.int32)
    visits = np.zeros(after.size, dtype=np.int64)
    flat, states = after.ravel(), after.shape[1]
    came = 0
    while came < arrivals:
        arrives = random.random(vcpus) < rate / 1000
        came += int(arrives.sum())
        chosen = state + states * arrives
        visits += np.bincount(chosen, minlength=flat.size)
        state = flat[chosen]
    totals = (visits.reshape(2, states, 1) * gains).sum(axis=(0, 1))
    return Point(table.policy, rate, came, dict(zip(GAINS, map(int, totals), strict=True)))


def sweep(policies: Sequence[NmiOps], rates: Sequence[float], *, arrivals: int = 100_000) -> list[Point]:
    """Return a point for each policy and rate."""
    tables = [compile_table(ops) for ops in policies]
    return [point(table, rate, arrivals) for table in tables for rate in rates]


def point(table: Table, rate: float, arrivals: int) -> Point:
    """Simulate one rate with as many vCPUs as leave each of them enough steps."""
    vcpus = int(arrivals * 1000 / (max(rate, 1.0) * LEAST_STEPS))
    return simulate(table, rate, arrivals=arrivals, vcpus=max(FEWEST_VCPUS, min(MOST_VCPUS, vcpus)))


def plot(points: Sequence[Point]) -> Figure:
    """Draw exits for each NMI, the share delivered, and cycles lost, over the arrival rate, a line for each policy."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only a plot needs it

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = (
        ("extra exits for each NMI, kicks left out", "extra_exits"),
        ("share of NMIs delivered on their own", "delivered"),
        ("cycles lost for each NMI (assumed costs)", "cycles"),
    )
    policies = list(dict.fromkeys(point.policy for point in points))
    for axes, (title, field) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for policy, marker in zip(policies, MARKERS, strict=False):
            line = [(point.rate, getattr(point, field)) for point in points if point.policy == policy]
            axes.plot(*zip(*line, strict=True), marker=marker, markersize=4, label=policy, clip_on=False)
        axes.set(title=title, xlabel="NMIs for each 1,000 steps", xscale="log", ylim=(0, None))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.title.set_fontsize(10)
        axes.grid(visible=True, alpha=0.3)
    figure.axes[0].legend(frameon=False, fontsize=9)
    return figure


MARKERS = ("o", "s", "^", "D", "v", "P")
"""A marker for each line: colour is never the only sign."""
