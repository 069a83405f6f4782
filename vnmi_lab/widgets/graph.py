"""The states that the judge explored, as a graph in a notebook, with the counterexample to walk along."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from vnmi_lab import timeline
from vnmi_lab.graph import graph
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hw.bits import expect
from vnmi_lab.judge import checked, learned, named
from vnmi_lab.timeline import graphs
from vnmi_lab.widgets.view import View


class StateGraph(View):
    """Look at the states of a search, and walk along the counterexample if there is one.

    ``cursor`` is the step of the walk (without a counterexample, the node), both ways; ``payload`` is what
    ``vnmi_lab.graph.graph`` gives.
    """

    _esm = timeline.script("graph")

    def fallback(self) -> dict[str, str]:
        """Give a sentence, pictures, and picture with tables as HTML."""
        return graphs.bundle(self.payload)


def state_graph(
    policy: str | NmiOps | Callable[..., Any], guest: str | None = None, nmis: int | None = None
) -> StateGraph:
    """Show what the judge explores: of a policy by name, of a record, or of your own hook in its place.

    ``guest`` and ``nmis`` as in ``vnmi-lab explore``. A long search says how far it is. ``ValueError`` in one line for
    names that are none.
    """
    taken = (str, NmiOps, FunctionType)
    expect(policy, taken, "state_graph takes a policy's name, a record of NmiOps or your own function")
    checked(guest, nmis)
    ops = named(policy) if isinstance(policy, str) else policy if isinstance(policy, NmiOps) else learned(policy)
    return StateGraph(graph(ops, guest, nmis, tell=_tell))


def _tell(states: int) -> None:
    """Say below the cell how far a search is that takes its time; each line takes the place of the one before."""
    print(f"Exploring: {states:,} states so far.", end="\r", flush=True)  # noqa: T201 - that is what it is for
