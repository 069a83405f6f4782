"""What things cost in cycles: a model, each figure with its source or the word "assumed"."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Cost(NamedTuple):
    """A parameter of the cost model: cycles, and where the figure comes from."""

    cycles: float
    source: str


COSTS: dict[str, Cost] = {
    "exit": Cost(1500.0, "assumed: one #VMEXIT with its VMRUN on a recent server processor, without its handling"),
    "handling": Cost(1000.0, "assumed: KVM's handling of one exit"),
    "instruction": Cost(1.0, "assumed: one cycle an instruction of the guest"),
}
STEPS = {"exec": "instruction", "vmexit": "exit", "kvm": "handling"}
"""What a step of a kind is charged with; the others are free, VMRUN because its #VMEXIT pays for both."""


def cycles(kinds: Iterable[str]) -> list[int]:
    """Give the modelled cycle count after each step of a run."""
    return [int(spent) for spent in accumulate(COSTS[STEPS[kind]].cycles if kind in STEPS else 0.0 for kind in kinds)]


def note() -> str:
    """Say in one line what ``cycles`` adds up, and that it is a model."""
    return "; ".join(f"{cost.cycles:,.0f} ({cost.source})" for cost in COSTS.values())
