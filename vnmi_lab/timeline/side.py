"""Policies side by side: one scenario under each, on one axis, with what each costs and what its guest sees.

The payload of version 1: ``version``, ``title``, ``scenario`` and ``columns``; ``runs``, one for each policy;
``stops``, the columns worth stopping at; ``counts`` with ``head`` and ``rows``; ``divergences`` and ``verdict``;
``drawing`` (see ``strips.py``).

Of a run: ``name``, ``steps``, ``cut`` short or not; ``where``, the column of each step; ``text`` and ``sentence`` by
step, which point into ``words``. A divergence is ``[column, ours, other, what ours shows, what the other shows, step of
ours, step of the other]``, runs by number; the first run is what the others are held against.
"""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from vnmi_lab.compare import COLUMNS, Row, measure
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hw.bits import expect
from vnmi_lab.hw.insn import decode
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.scenario import BARE, Scenario
from vnmi_lab.timeline import lanes
from vnmi_lab.timeline.align import GUEST, HOST, OUTSIDE, Column, Item, align
from vnmi_lab.timeline.columns import Words, column, number, runs
from vnmi_lab.timeline.instances import as_data, instances
from vnmi_lab.timeline.strips import Strip, strips
from vnmi_lab.trace import Trace, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vnmi_lab.trace import Step

Payload: TypeAlias = dict[str, Any]
VERSION = 1
FEWEST, MOST = 2, 4
LONGEST = 600
"""Steps of a run that are shown; a policy that keeps its guest busy for ever is cut there."""
PASSED = {"svm_skip_emulated_instruction", "x86_emulate_instruction"}
"""Functions with which KVM carries out an instruction of the guest that exited: to the guest it just ran."""


class Lane(NamedTuple):
    """A wave of the comparison: the fields it follows (the first that is known counts), its name, and its looks."""

    keys: tuple[str, ...]
    name: str
    high: str
    style: str
    always: str = ""
    """A field that makes the lane shown even when it stays 0."""


WAVES = (
    Lane(("nmi_latch",), "NMI latch", "pending", "pend", "bare"),
    Lane(("nmi_mask",), "NMI mask", "masked", "mask", "bare"),
    Lane(("nmi_pending",), "nmi_pending", "# pending in KVM", "pend"),
    Lane(("live_v_nmi_pending", "v_nmi_pending"), "V_NMI", "pending", "pend", "v_nmi_enable"),
    Lane(("live_v_nmi_blocking", "v_nmi_blocking"), "V_NMI_MASK", "masked", "mask", "v_nmi_enable"),
    Lane(("nmi_masked",), "nmi_masked", "masked in KVM", "mask"),
    Lane(("iret_intercept",), "IRET exits", "intercepted", "plain"),
)


def side(scenario: Scenario, policies: Sequence[str | NmiOps], title: str = "") -> Payload:
    """Run a scenario under two to four policies, ``bare`` included, and align the runs.

    A policy is a name or a record. ``ValueError`` in one line for too few, too many, or one twice;
    ``TypeError`` for what is neither.
    """
    expect(policies, (list, tuple), "policies are a list")
    for policy in policies:
        expect(policy, (str, NmiOps), "a policy is a name or a record of NmiOps")
    names = [policy if isinstance(policy, str) else policy.name for policy in policies]
    if not FEWEST <= len(names) <= MOST or len(set(names)) < len(names):
        msg = f"{FEWEST} to {MOST} different policies stand side by side, not {', '.join(names) or 'none'}"
        raise ValueError(msg)
    scenarios = [
        scenario.on(name) if isinstance(policy, str) else scenario for name, policy in zip(names, policies, strict=True)
    ]
    given = [None if isinstance(policy, str) else policy for policy in policies]
    traces = [Trace(own.machine(ops), name, LONGEST) for own, ops, name in zip(scenarios, given, names, strict=True)]
    steps = [list(trace) for trace in traces]
    items = [_items(own, trace) for own, trace in zip(steps, traces, strict=True)]
    columns = align(items)
    where = [
        {step: place for place, c in enumerate(columns) for run, step in c.steps.items() if run == n}
        for n in range(len(names))
    ]
    shown = [
        _Run(name, own, [where[n][i] for i in range(len(own))], trace)
        for n, (name, own, trace) in enumerate(zip(names, steps, traces, strict=True))
    ]
    paid = [Counter(_reason(step, "") for step in own if step.kind == "vmexit") for own in steps]
    counted = [measure(own, ops) for own, ops in zip(scenarios, given, strict=True)]
    divergences = list(_divergences(items, columns, [trace.cut for trace in traces]))
    return {
        "version": VERSION,
        "title": title or f"The same NMIs under {_listed(names)}",
        "scenario": str(scenario),
        "columns": len(columns),
        "runs": [run.written() for run in shown],
        "stops": _stops(columns, len(names)),
        "counts": _counts(names, counted),
        "divergences": divergences,
        "verdict": _verdict(names, paid, divergences, items),
        "drawing": strips([run.strip() for run in shown], len(columns), divergences),
    }


# --- what is the same ------------------------------------------------------------------------------------------------


def _items(steps: Sequence[Step], trace: Trace) -> list[Item]:
    return [_item(step, trace) for step in steps]


def _item(step: Step, trace: Trace) -> Item:
    seen = visible(step)
    if seen is not None:
        return Item(GUEST, (seen[0], seen[1], seen[2]))
    if step.kind == "kvm" and not PASSED.isdisjoint(function for _, function, _ in step.calls):
        memory = trace.goto(step.index).cpu.memory
        return Item(GUEST, ("exec", step.rip, decode(lambda offset: memory.read(step.rip + offset, 1), step.rip).text))
    if step.kind == "stimulus":
        return Item(OUTSIDE, step.text.split(" ")[0])
    return Item(HOST, (step.kind, step.text))


def _divergences(
    items: Sequence[Sequence[Item]], columns: Sequence[Column], cut: Sequence[bool]
) -> Iterator[list[Any]]:
    """Find, for each run, where its guest first sees something else than the first run's.

    A run that ends sees nothing more, unless it is not the run that ended but what is shown of it.
    """
    seen = [[(i, item) for i, item in enumerate(run) if item.rank == GUEST] for run in items]
    place = {(run, step): at for at, c in enumerate(columns) for run, step in c.steps.items()}
    for other in range(1, len(items)):
        for ours, theirs in zip_longest(seen[0], seen[other]):
            if ours is not None and theirs is not None and ours[1] == theirs[1]:
                continue
            if (ours is None and cut[0]) or (theirs is None and cut[other]):
                break
            there = [(run, one) for run, one in ((0, ours), (other, theirs)) if one is not None]
            at = min(place[run, step] for run, (step, _) in there)
            yield [at, 0, other, *(_said(one) for one in (ours, theirs)), *(one and one[0] for one in (ours, theirs))]
            break


def _said(one: tuple[int, Item] | None) -> str:
    if one is None:
        return "nothing more"
    key = one[1].key
    assert isinstance(key, tuple)
    return f"{key[2]} at {key[1]:#x}"


def _stops(columns: Sequence[Column], count: int) -> list[int]:
    """Give the columns where something arrives, is taken, or only some policies do anything."""
    stops: list[int] = []
    for place, c in enumerate(columns):
        taken = c.item.rank == GUEST and isinstance(c.item.key, tuple) and c.item.key[0] == "deliver"
        alone = len(c.steps) < count and (not stops or columns[place - 1].steps.keys() != c.steps.keys())
        if c.item.rank == OUTSIDE or taken or alone:
            stops.append(place)
    return stops


# --- one run ---------------------------------------------------------------------------------------------------------


class _Run:
    """Writes the lanes of one run in columns."""

    def __init__(self, name: str, steps: Sequence[Step], where: Sequence[int], trace: Trace) -> None:
        self.name, self.steps, self.where, self.trace = name, steps, where, trace
        self.end = where[-1] + 1 if where else 0
        exits = sum(step.kind == "vmexit" for step in steps)
        self.paid = "no hypervisor" if steps[0].world == "bare" else f"{exits} exit{'s' * (exits != 1)}"

    def written(self) -> dict[str, Any]:
        """Give the run as the payload has it."""
        words = Words()
        return {
            "name": self.name,
            "steps": len(self.steps),
            "cut": self.trace.cut,
            "where": list(self.where),
            "text": [words(step.text) for step in self.steps],
            "sentence": [words(step.sentence) for step in self.steps],
            "words": words.table,
        }

    def strip(self) -> Strip:
        """Give what is drawn of the run, in columns."""
        state = {key: column(step.state.get(key) for step in self.steps) for key in self._keys()}
        row, owner = lanes.rows(self.steps, {line.address: line.where for line in self.trace.code})
        rows = [value for first, end, value in runs(row, len(self.steps)) for _ in range(first, end)]
        owners = [value for first, end, value in runs(owner, len(self.steps)) for _ in range(first, end)]
        return {
            "name": self.name,
            "paid": self.paid,
            "where": list(self.where),
            "cells": list(self._cells(rows, owners)),
            "marks": [
                [self.where[i], style, text.replace(" arrives", "")]
                for i, style, text in lanes.marks(self.steps)
                if style != "host"
            ],
            "crossings": [
                [self.where[i], way, _reason(self.steps[i], text)] for i, way, text in lanes.crossings(self.steps)
            ],
            "worlds": [[self._x(a), self._x(b), name, self._why(a)] for a, b, name in lanes.worlds(self.steps)],
            "waves": list(self._waves(state)),
            "nmis": self._nmis(),
        }

    def _nmis(self) -> list[list[Any]]:
        """Give each NMI as ``[row, name, end, stretches]``, a stretch as ``[from, to, phase, place]``."""
        return [
            [
                one["row"],
                one["name"],
                one["end"],
                self._stretches(one["spans"]),
            ]
            for one in as_data(instances(self.steps))
        ]

    def _stretches(self, spans: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Give the stretches of an NMI's life; the last ends with its last step, and not where the next one is."""
        found = [[self._x(first), self._x(end), *said] for first, end, *said in spans]
        if spans[-1][1] < len(self.where):
            found[-1][1] = self.where[spans[-1][1] - 1] + 1
        return found

    def _keys(self) -> set[str]:
        return {key for lane in WAVES for key in (*lane.keys, lane.always)} - {"", "bare"}

    def _x(self, step: float) -> float:
        """Give the column of an edge between steps, or of the middle of one."""
        whole = int(step)
        return self.end if whole >= len(self.where) else self.where[whole] + (step - whole)

    def _why(self, start: float) -> str:
        """Name the exit that a stretch of a world begins with, if it does."""
        step = self.steps[int(start)]
        return _reason(step, step.text) if step.kind == "vmexit" and start % 1 else ""

    def _cells(self, rows: Sequence[int], owners: Sequence[str]) -> Iterator[list[Any]]:
        for i, step in enumerate(self.steps):
            if step.kind in ("exec", "deliver", "stop"):
                taken = step.kind == "deliver"
                short = step.text.split(" ")[0] if not taken else "NMI" if "NMI" in step.text else "event"
                yield [self.where[i], owners[i], rows[i], int(taken), step.text, short]

    def _waves(self, state: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
        bare = self.steps[0].world == "bare"
        for lane in WAVES:
            if bare != (lane.always == "bare"):
                continue
            values = [
                next((value for key in lane.keys if (value := step.state.get(key)) is not None), 0)
                for step in self.steps
            ]
            if any(map(number, values)) or bare or (lane.always and any(number(v) for v in state[lane.always][1::2])):
                spans = [[self._x(a), self._x(b), v] for a, b, v in runs(column(values), len(values))]
                yield {"name": lane.name, "high": lane.high, "style": lane.style, "runs": spans}


EXIT_WORDS = {"EXC_DB": "#DB", "INTR": "kick"}


def _reason(step: Step, text: str) -> str:
    """Name a crossing as short as one speaks of it."""
    if step.kind == "vmrun":
        return "VMRUN"
    code = step.state.get("exit_code")
    name = exit_name(code) if isinstance(code, int) else text
    return EXIT_WORDS.get(name, name)


# --- what it cost ----------------------------------------------------------------------------------------------------


def _counts(names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
    unheard = {"extra", "waiting", "stgi", "vintr"}  # of these only what happened is worth a column
    fields = [
        name for name in COLUMNS if name != "machine" and (name not in unheard or any(getattr(r, name) for r in rows))
    ]
    return {
        "head": [COLUMNS[name] for name in fields],
        "rows": [[name, *(getattr(row, field) for field in fields)] for name, row in zip(names, rows, strict=True)],
    }


def _verdict(
    names: Sequence[str],
    paid: Sequence[Counter[str]],
    divergences: Sequence[Sequence[Any]],
    items: Sequence[Sequence[Item]],
) -> list[str]:
    """Say in sentences what the guest sees, and which exits each policy took for it."""
    said = []
    for _place, first, other, shows, showed, *_steps in divergences:
        said.append(
            f"The guest sees something else under {names[other]} than under {names[first]}: "
            f"{names[other]} first has {showed}, where {names[first]} has {shows}."
        )
    if not divergences:
        steps = sum(item.rank == GUEST for item in items[0])
        said.append(f"The guest sees the same {steps} steps under {_listed(names)}.")
    for name, exits in zip(names, paid, strict=True):
        if name != BARE:
            counted = ", ".join(f"{count} {word}" for word, count in exits.items())
            said.append(f"{name}: {exits.total()} exits ({counted}).")
    return said


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
