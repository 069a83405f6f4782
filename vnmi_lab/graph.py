"""What the judge explored, as a graph that one can look at: its states merged by what a learner can see of them.

The payload of version 1: ``version``, ``title``; ``verdict``, ``note`` and ``scenario`` as texts (or None);
``nodes`` as ``{name, lines, states, nmis, steps}``, the first one the start; ``edges`` as ``[from, to, [labels],
transitions, on the way]``; ``walk``, the counterexample, as ``[node, text, sentence]``, empty where no law broke; and
``drawing``: ``columns``, ``height``, the size of a ``node`` in pixels, ``places`` of the nodes' middles, ``shapes``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from vnmi_lab.explore import MIGRATE, MOST_STATES, STEP, Search, Verdict, explore
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.judge import Case, cases, scenario
from vnmi_lab.kvm import EXITED, GUEST, KERNEL, USER, Kvm
from vnmi_lab.laws import COMES_TO_REST, NMI_VECTOR
from vnmi_lab.timeline.graphs import drawing
from vnmi_lab.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.explore import Node
    from vnmi_lab.hv.ops import NmiOps

Payload: TypeAlias = dict[str, Any]
VERSION = 1
MOST_NODES = 60
"""Nodes that a picture holds; of a graph with more, fewer of the fields below tell states apart."""


class Look(NamedTuple):
    """What a learner can see of a state."""

    world: str
    depth: int
    waiting: int
    v_nmi: int
    v_mask: int
    masked: int
    window: int
    broken: bool = False
    """The state in which a law breaks is a node of its own."""


SEEN = {
    "world": "who runs",
    "depth": "how many NMI handlers are entered",
    "waiting": "how many NMIs wait in KVM",
    "v_nmi": "V_NMI",
    "v_mask": "V_NMI_MASK",
    "masked": "KVM's own mask",
    "window": "whether KVM waits for an IRET to complete",
}
COARSER = ((), ("window",), ("window", "depth"), ("window", "depth", "masked", "v_mask"))
"""Fields to leave out, until the graph is small enough."""


def look(kvm: Kvm) -> Look:
    """Look at a machine: the bits of virtual NMIs where they are now, in the processor or in the VMCB."""
    vcpu, cpu = kvm.vcpu, kvm.cpu
    inside = kvm.phase == GUEST
    live = inside and cpu.v_nmi_enable
    bits = vcpu.vmcb.int_ctl
    return Look(
        "guest" if inside else "KVM",
        sum(vector == NMI_VECTOR for vector, _frame in cpu.frames),
        vcpu.nmi_queued + vcpu.nmi_pending,
        int(cpu.v_nmi_pending if live else bits.v_nmi_pending),
        int(cpu.v_nmi_blocking if live else bits.v_nmi_blocking),
        int(vcpu.nmi_masked),
        int(vcpu.awaiting_iret_completion),
    )


class _State(NamedTuple):
    """A state of the search: what is seen of it, and what names the step that leaves it."""

    seen: Look
    phase: str
    frames: int
    exit_code: int
    arrivals: int
    steps: int


TOLD = 10_000
"""States after which a search says how far it is, and after as many again."""


@dataclass
class _Recorder:
    """Hears of every transition of a search, and keeps of each state what can be seen."""

    tell: Callable[[int], None] | None = None
    """Called with the number of states each time there are ``TOLD`` more."""
    states: dict[object, _State] = field(default_factory=dict)
    moves: dict[tuple[object, object], str] = field(default_factory=dict)
    """By state before and after: what happened."""
    last: object = None
    """The state that was reached last."""

    def __call__(self, start: Node | None, action: str, end: Node, kvm: Kvm) -> None:
        """Take a transition."""
        before, after = start and start.key, end.key
        old = self.states.get(before)
        if after not in self.states:
            arrivals = (old.arrivals if old else 0) + (action not in ("", STEP))
            steps = (old.steps if old else 0) + (action == STEP)
            code = int(kvm.vcpu.vmcb.exit_code)
            self.states[after] = _State(look(kvm), kvm.phase, len(kvm.cpu.frames), code, arrivals, steps)
            if self.tell is not None and len(self.states) % TOLD == 0:
                self.tell(len(self.states))
        if old is not None:
            self.moves.setdefault((before, after), _label(action, old, self.states[after]))
        self.last = after

    def mark(self) -> None:
        """Note that the state reached last is the one that breaks a law."""
        state = self.states[self.last]
        self.states[self.last] = state._replace(seen=state.seen._replace(broken=True))


def _label(action: str, old: _State, new: _State) -> str:
    """Name a transition as one speaks of it."""
    if action != STEP:
        return "migration" if action == MIGRATE else action
    if old.phase == GUEST:
        return f"{_exit(new.exit_code)} exit" if new.phase == EXITED else _inside(old, new)
    if new.phase == GUEST:
        return "VMRUN"
    if old.phase == EXITED:
        return f"{_exit(old.exit_code)} handled"
    return {(USER, KERNEL): "KVM_RUN", (KERNEL, USER): "to user space"}.get((old.phase, new.phase), "KVM")


def _inside(old: _State, new: _State) -> str:
    """Name what a guest did that goes on running."""
    if new.frames > old.frames:
        return "NMI taken" if new.seen.depth > old.seen.depth else "event taken"
    return "IRET" if new.frames < old.frames else "instruction"


def _exit(code: int) -> str:
    return exit_name(code).replace("EXC_", "#")


def graph(
    ops: NmiOps,
    guest: str | None = None,
    nmis: int | None = None,
    *,
    most: int = MOST_STATES,
    nodes: int = MOST_NODES,
    tell: Callable[[int], None] | None = None,
) -> Payload:
    """Search as the judge does, and give the graph of what was explored.

    ``guest`` and ``nmis`` are what the judge would ask about this policy unless given. ``most``: states after which the
    search stops; ``nodes``: those that a picture may hold; ``tell`` hears now and then how many states there are.
    """
    case = next(case for case in cases(ops) if not case.transparent) if guest is None else Case(guest, 3)
    search = replace(case.search(ops), most=most)
    search = search if nmis is None else replace(search, nmis=nmis)
    recorder = _Recorder(tell)
    verdict = explore(search, recorder)
    verdict = replace(verdict, scenario=scenario(verdict, case))
    if verdict.broken not in (None, COMES_TO_REST):
        recorder.mark()
    return _Graph(case.guest, search, verdict, recorder, nodes).written()


class _Graph:
    """The merged graph in the making."""

    def __init__(self, guest: str, search: Search, verdict: Verdict, recorder: _Recorder, most: int) -> None:
        self.guest, self.search, self.verdict, self.recorder = guest, search, verdict, recorder
        for left_out in COARSER:
            self.left_out = left_out
            self.number: dict[Look, int] = {}
            for state in recorder.states.values():
                self.number.setdefault(self.merged(state.seen), len(self.number))
            if len(self.number) <= most:
                break
        self.walk = self._walk()
        self.kept = self._kept(most)

    def merged(self, seen: Look) -> Look:
        """Give what is seen without what is left out."""
        gone: dict[str, Any] = dict.fromkeys(self.left_out, 0)
        return seen._replace(**gone)

    def _walk(self) -> list[tuple[int, str, str]]:
        """Follow the counterexample, with the sentence of each of its steps."""
        if self.verdict.broken is None:
            return []
        count = len(self.verdict.schedule)
        trace = Trace(self.verdict.replay(), limit=count)
        walk = [(0, "start", "The guest is about to be started.")]
        for place in range(count):
            step = trace[place]
            seen = look(_kvm(trace, place + 1))
            if place == count - 1 and self.verdict.broken is not COMES_TO_REST:
                seen = seen._replace(broken=True)
            walk.append((self.number[self.merged(seen)], step.text, step.sentence))
        return walk

    def _kept(self, most: int) -> list[int]:
        """Give the nodes to draw: those of the walk, and of the others those that are reached first."""
        if len(self.number) <= most:
            return list(range(len(self.number)))
        walked = list(dict.fromkeys([0, *(node for node, *_ in self.walk)]))
        others = [node for node in range(len(self.number)) if node not in walked]
        return sorted(walked + others[: max(0, most - len(walked))])

    def written(self) -> Payload:
        """Give the payload."""
        place = {node: at for at, node in enumerate(self.kept)}
        nodes = self._nodes()
        walk: list[list[Any]] = [[place[node], text, sentence] for node, text, sentence in self.walk]
        way = {(a[0], b[0]): b[1] for a, b in pairwise(walk) if a[0] != b[0]}
        edges = [
            [*(ends := (place[a], place[b])), _first(labels, way.get(ends, "")), count, int(ends in way)]
            for (a, b), (labels, count) in self._edges().items()
            if a in place and b in place
        ]
        shown = [nodes[node] for node in self.kept]
        broken = walk[-1][0] if walk else None
        return {
            "version": VERSION,
            "title": f"What the judge explored: {self.verdict.policy}, guest {self.guest}, {_nmis(self.search.nmis)}",
            "verdict": self._verdict(),
            "note": self._note(),
            "scenario": self.verdict.scenario,
            "nodes": shown,
            "edges": edges,
            "walk": walk,
            "drawing": drawing(shown, edges, [node for node, *_ in walk], broken),
        }

    def _nodes(self) -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for state in self.recorder.states.values():
            seen = self.merged(state.seen)
            node = found.setdefault(
                self.number[seen],
                {**self._said(seen), "states": 0, "nmis": state.arrivals, "steps": state.steps},
            )
            node["states"] += 1
        return [found[number] for number in range(len(found))]

    def _said(self, seen: Look) -> dict[str, Any]:
        """Say in a name and two lines what is seen."""
        inside = "" if not seen.depth else ", in handler" if seen.depth == 1 else f", {seen.depth} handlers deep"
        waits = [f"{seen.waiting} in KVM"] * bool(seen.waiting) + ["V_NMI"] * bool(seen.v_nmi)
        masks = ["V_NMI_MASK"] * bool(seen.v_mask) + ["by KVM"] * bool(seen.masked)
        held = f"masked: {', '.join(masks)}" if masks else "not masked" if "masked" not in self.left_out else ""
        lines = [f"waits: {', '.join(waits)}" if waits else "none waits", held]
        lines.append("a law breaks here" if seen.broken else "IRET awaited" if seen.window else "")
        return {"name": f"{seen.world}{inside}", "lines": [line for line in lines if line]}

    def _edges(self) -> dict[tuple[int, int], tuple[list[str], int]]:
        """Merge the transitions between nodes; those that stay in one are not drawn."""
        found: dict[tuple[int, int], tuple[list[str], int]] = {}
        states = self.recorder.states
        for (before, after), label in self.recorder.moves.items():
            a, b = (self.number[self.merged(states[key].seen)] for key in (before, after))
            if a == b:
                continue
            labels, count = found.get((a, b), ([], 0))
            found[a, b] = (labels if label in labels else [*labels, label], count + 1)
        return found

    def _verdict(self) -> str:
        verdict = self.verdict
        if verdict.broken is None:
            return f"{verdict}."
        return (
            f"{verdict.policy} breaks a law after {len(verdict.schedule)} steps: {verdict.broken.sentence} "
            f"({verdict.broken.source})"
        )

    def _note(self) -> str:
        """Say honestly what a node stands for, and what is not drawn."""
        told = [words for name, words in SEEN.items() if name not in self.left_out]
        states, count = len(self.recorder.states), len(self.number)
        note = f"{states:,} states are merged into {count}, told apart by {', '.join(told[:-1])} and {told[-1]}."
        if self.verdict.broken is not None:
            note += " The search stopped at the first state that breaks a law."
        elif not self.verdict.complete:
            note += " The search was stopped; there are more states."
        if len(self.kept) < count:
            note += f" Drawn are {len(self.kept)} of them, those that are reached first."
        return note


def _first(labels: list[str], text: str) -> list[str]:
    """Put the label in front that names a step of the counterexample."""
    said = text.replace("#VMEXIT ", "").replace("EXC_", "#")
    return sorted(labels, key=lambda label: not said.startswith(label.split(" ")[0]))


def _kvm(trace: Trace, position: int) -> Kvm:
    machine = trace.goto(position)
    assert isinstance(machine, Kvm)
    return machine


def _nmis(count: int) -> str:
    return f"{count} NMI{'' if count == 1 else 's'}"
