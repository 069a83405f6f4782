"""The states that the judge explored, as a graph in a notebook, with the counterexample to walk along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, cast

import anywidget
import traitlets

from vnmi_lab import timeline
from vnmi_lab.graph import graph
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hw.bits import expect
from vnmi_lab.judge import checked, learned, named
from vnmi_lab.timeline import graphs
from vnmi_lab.widgets.timeline import MimeBundle


class StateGraph(anywidget.AnyWidget):
    """Look at the states of a search, and walk along the counterexample if there is one.

    ``cursor`` is the step of the walk (without a counterexample, the node), both ways; ``payload`` is what
    ``vnmi_lab.graph.graph`` gives.
    """

    _esm = timeline.script("graph")
    _css = timeline.asset("player.css") + timeline.asset("views.css")
    payload = traitlets.Dict(read_only=True).tag(sync=True)
    cursor = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(self, payload: Mapping[str, Any], *, cursor: int = 0) -> None:
        super().__init__(cursor=cursor)
        self.set_trait("payload", dict(payload))

    def _repr_mimebundle_(self, **kwargs: Any) -> MimeBundle | None:  # noqa: ANN401 - IPython's own
        """Give the widget, and for pages that run none: a sentence, pictures, and picture with tables as HTML."""
        bundle = cast("MimeBundle | None", super()._repr_mimebundle_(**kwargs))
        return bundle and ({**bundle[0], **graphs.bundle(self.payload)}, bundle[1])


def state_graph(
    policy: str | NmiOps | Callable[..., Any], guest: str | None = None, nmis: int | None = None
) -> StateGraph:
    """Show what the judge explores: of a policy by name, of a record, or of your own hook in its place.

    ``guest`` and ``nmis`` as in ``vnmi-lab explore``. ``ValueError`` in one line for names that are none.
    """
    taken = (str, NmiOps, FunctionType)
    expect(policy, taken, "state_graph takes a policy's name, a record of NmiOps or your own function")
    checked(guest, nmis)
    ops = named(policy) if isinstance(policy, str) else policy if isinstance(policy, NmiOps) else learned(policy)
    return StateGraph(graph(ops, guest, nmis))
