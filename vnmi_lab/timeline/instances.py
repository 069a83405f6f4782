"""Every NMI of a run as one bar: arrived, pending in one place after another, in service, and how it ended.

NMIs carry no names. Which of two that wait is which, nobody can tell; here the oldest is the next to be delivered, and
the newest is the one that merges. What is counted so agrees with ``compare``, which asks the machine itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from vnmi_lab.compare import merged
from vnmi_lab.hw.delivery import NMI_WORD, vector_of
from vnmi_lab.hw.events import Arrived, Changed, Delivered
from vnmi_lab.timeline.columns import number
from vnmi_lab.timeline.fields import is_nmi

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vnmi_lab.trace import Step

ARRIVED, PENDING, SERVICE = "arrived", "pending", "in service"
DONE, COALESCED, LOST, EXTRA = "done", "coalesced", "lost", "extra"
ENDS = (DONE, COALESCED, LOST, PENDING, SERVICE, EXTRA)
NMI_VECTOR = vector_of(NMI_WORD)
QUEUED = "nmi_queued"
SOFTWARE = (QUEUED, "nmi_pending", "int_ctl.v_nmi_pending")
"""The places that ``process_nmi`` moves NMIs between, as a change names them."""
MOST_ROWS = 6
"""Rows of bars; an NMI that finds none free is counted, and not drawn."""
BEHIND = {DONE: 2, COALESCED: 5, LOST: 2, EXTRA: 2}
"""So many steps of a row stay free behind a bar, for the word that says how it ended."""


class Span(NamedTuple):
    """A stretch of an NMI's life, from a step to the one after its last; ``place`` is where it was meanwhile."""

    first: int
    end: int
    phase: str
    place: str


@dataclass
class Instance:
    """One NMI; ``came`` is False when it was there without having arrived, ``over`` when nothing more happens to it."""

    id: int
    came: bool = True
    spans: list[Span] = field(default_factory=list)
    end: str = PENDING
    into: int | None = None
    over: bool = False

    def extend(self, step: int, phase: str, place: str) -> None:
        """Say where it is after a step."""
        last = self.spans[-1] if self.spans else None
        if last and last.phase == phase and last.place == place:
            self.spans[-1] = last._replace(end=step + 1)
            return
        self.spans.append(Span(step, step + 1, phase, place))

    def wait(self, step: int, phase: str, place: str) -> None:
        """Say where it waits after a step: it arrives once, even if user space has it queued again."""
        later = self.spans and self.spans[-1].phase == PENDING
        self.extend(step, PENDING if later else phase if self.spans else ARRIVED, place)

    def close(self, step: int, end: str, into: int | None = None) -> None:
        """Say that it ended in a step; what never came is extra, whatever became of it."""
        if self.spans:
            self.spans[-1] = self.spans[-1]._replace(end=step + 1)
        else:
            self.spans.append(Span(step, step + 1, ARRIVED, ""))
        self.end, self.into = end if self.came or into else EXTRA, into
        self.over = True

    @property
    def was_delivered(self) -> bool:
        """Whether its handler was entered."""
        return self.spans[-1].phase == SERVICE


def count(found: Sequence[Instance]) -> dict[str, int]:
    """Count instances as ``compare`` counts NMIs."""
    return {
        "arrived": sum(one.came for one in found),
        "delivered": sum(one.was_delivered for one in found),
        "coalesced": sum(one.end == COALESCED for one in found),
        "lost": sum(one.end == LOST for one in found),
        "extra": sum(one.end == EXTRA and (one.was_delivered or not one.over) for one in found),
        "waiting": sum(not one.was_delivered and not one.over for one in found),
    }


def instances(steps: Sequence[Step]) -> list[Instance]:
    """Follow every NMI of a run, in the order in which they came."""
    ledger = _Ledger(kvm=bool(steps) and "nmi_pending" in steps[0].state)
    for index, step in enumerate(steps):
        ledger.pass_step(index, step)
    return ledger.all


def as_data(found: Sequence[Instance]) -> list[dict[str, Any]]:
    """Give instances as the payload has them; ``row`` is None for one that is counted only."""
    return [
        {
            "id": one.id,
            "name": f"NMI {one.id}",
            "spans": [list(span) for span in one.spans],
            "end": one.end,
            "into": one.into,
            "over": one.over,
            "row": row,
            "said": said(one),
        }
        for one, row in zip(found, _rows(found), strict=True)
    ]


def said(one: Instance) -> str:
    """Tell an NMI's life in one sentence."""
    parts = [f"{VERBS[span.phase].format(span.place)} step {span.first}" for span in one.spans]
    last = one.spans[-1].end - 1
    into = f"coalesced into NMI {one.into}"
    how = {COALESCED: into, EXTRA: DONE if one.was_delivered else "gone"}.get(one.end, one.end)
    end = f"{how} at step {last}" if one.over else "and so to the end of the run"
    told = f"NMI {one.id}: {', '.join([*parts, end])}."
    return told if one.came else f"{told.replace(' arrived at', ' was there from', 1)} It is extra: nobody sent it."


VERBS = {ARRIVED: "arrived at", PENDING: "pending in {} from", SERVICE: "in service from"}


def _rows(found: Sequence[Instance]) -> Iterator[int | None]:
    """Give each its row: the first that is free, with room for the word behind the bar that stands there."""
    free: list[int] = []
    for one in found:
        first, end = one.spans[0].first, one.spans[-1].end
        row = next((row for row, since in enumerate(free) if since <= first), len(free))
        if row == MOST_ROWS:
            yield None
            continue
        free[row : row + 1] = [end + BEHIND.get(one.end, 0)]
        yield row


class _Ledger:
    """Who waits where, and who is in service, step by step."""

    def __init__(self, *, kvm: bool) -> None:
        self.kvm = kvm
        self.all: list[Instance] = []
        self.waiting: list[Instance] = []
        self.service: list[Instance] = []
        self.old: dict[str, int] = {}
        self.injected = self.exited = False

    def pass_step(self, now: int, step: Step) -> None:
        new = {key: number(step.state.get(key)) for key in WATCHED}
        self._arrive(now, step, new)
        self._merge(now, step)
        before = self.old.get("handler_depth", 0)
        entries = sum(isinstance(e, Delivered) and e.vector == NMI_VECTOR for e in step.events)
        for _ in range(max(entries, new["handler_depth"] - before)):
            self._enter(now)
        places = self._places(step, new)
        self._settle(now, step, len(places), new)
        for one, (phase, place) in zip(self.waiting, places, strict=True):
            one.wait(now, phase, place)
        self._serve(now, before, new["handler_depth"])
        self.old = new

    def _arrive(self, now: int, step: Step, new: dict[str, int]) -> None:
        """Note who came: what KVM queued, and what reached the processor itself, merged into its latch or not."""
        if self.kvm and step.kind != "host":  # what user space restores is queued again, and is no arrival
            for _ in range(new[QUEUED] - self.old.get(QUEUED, 0)):
                self._born()
        for event in step.events if not self.kvm else ():
            if isinstance(event, Arrived) and event.source == "nmi":
                self._born()
                if event.coalesced:
                    self._coalesce(now, 1)

    def _born(self, *, came: bool = True) -> None:
        self.all.append(Instance(len(self.all) + 1, came, end=PENDING if came else EXTRA))
        self.waiting.append(self.all[-1])

    def _merge(self, now: int, step: Step) -> None:
        """Note what KVM merged when it took from the queue, by the changes that one function made at a time."""
        if not any(isinstance(e, Changed) and e.field == QUEUED and e.new < e.old for e in step.events):
            return
        held = {SOFTWARE[0]: "nmi_queued", SOFTWARE[1]: "nmi_pending", SOFTWARE[2]: "v_nmi_pending"}
        values = {name: self.old.get(key, 0) for name, key in held.items()}
        for _, batch in groupby(step.events, lambda e: e.rule if isinstance(e, Changed) else None):
            moves = [e for e in batch if isinstance(e, Changed) and e.field in values]
            before = sum(values.values())
            values |= {e.field: e.new for e in moves}
            after = sum(values.values())
            if any(e.field == QUEUED and e.new < e.old for e in moves) and after < before:
                count = merged(before, after)
                self._coalesce(now, count)
                self._lose(now, before - after - count, newest=True)

    def _coalesce(self, now: int, count: int) -> None:
        gone = [self.waiting.pop() for _ in range(min(count, len(self.waiting) - 1))]
        for one in gone:
            one.close(now, COALESCED, self.waiting[-1].id)

    def _lose(self, now: int, count: int, *, newest: bool = False) -> None:
        for _ in range(min(count, len(self.waiting))):
            self.waiting.pop(-1 if newest else 0).close(now, LOST)

    def _enter(self, now: int) -> None:
        if not self.waiting:
            self._born(came=False)
        one = self.waiting.pop(0)
        one.extend(now, SERVICE, "handler")
        one.end = SERVICE if one.came else EXTRA
        self.service.append(one)

    def _places(self, step: Step, new: dict[str, int]) -> list[tuple[str, str]]:
        """Give the places where NMIs wait after a step, the one nearest to its delivery first."""
        inside = step.world == "guest"
        if step.kind == "vmrun":
            self.injected = inside and is_nmi(new["event_inj"])
        elif step.kind != "stimulus":
            self.injected = False  # the injected event comes before the guest's first instruction
        if step.kind != "stimulus":
            self.exited = self.kvm and step.kind == "vmexit"
        found: list[tuple[str, str]] = []
        if inside:
            found += [(PENDING, "EVENTINJ")] * self.injected
        elif not self.kvm:
            found += [(PENDING, "EVENTINJ")] * is_nmi(new["event_inj"])
            found = found or [(PENDING, "EXITINTINFO")] * is_nmi(new["exit_int_info"])
        elif self.exited:
            found += [(PENDING, "EXITINTINFO")] * is_nmi(new["exit_int_info"])
        else:
            found += [(PENDING, "nmi_injected")] * new["nmi_injected"]
        live = step.state.get("live_v_nmi_pending") if inside else None
        found += [(PENDING, "V_NMI")] * (new["v_nmi_pending"] if live is None else number(live))
        found += [(PENDING, "latch")] * new["nmi_latch"]
        found += [(PENDING, "nmi_pending")] * new["nmi_pending"]
        return found + [(ARRIVED, QUEUED)] * new[QUEUED]

    def _settle(self, now: int, step: Step, there: int, new: dict[str, int]) -> None:
        """Hold who should wait against who is there: what is missing is lost, what is too much came from nowhere."""
        taken = new["host_nmi"] - self.old.get("host_nmi", 0)
        for _ in range(min(taken, len(self.waiting))):
            self.waiting.pop(0).close(now, DONE)  # the host took it itself
        self._lose(now, len(self.waiting) - there)
        from_script = not self.kvm and step.kind in {"stimulus", "host"}
        while len(self.waiting) < there:
            self._born(came=from_script)

    def _serve(self, now: int, before: int, depth: int) -> None:
        for one in self.service:
            one.extend(now, SERVICE, "handler")
        for _ in range(min(before - depth, len(self.service))):
            one = self.service.pop()
            one.close(now, DONE)


WATCHED = (
    QUEUED, "nmi_pending", "nmi_injected", "v_nmi_pending", "event_inj", "exit_int_info", "nmi_latch", "host_nmi",
    "handler_depth",
)  # fmt: skip
