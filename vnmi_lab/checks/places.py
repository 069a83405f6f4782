"""Where the NMIs of a run are: a table with a line for every move of one, from its arrival to its handler.

An NMI that has arrived and is not delivered sits in one of four places: posted, accepted, on its way, or in the
processor's slot. "On its way" has two faces, EVENTINJ before the entry and EXITINTINFO after an entry that failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from vnmi_lab.checks.measure import number
from vnmi_lab.hw.delivery import NMI, VALID, kind_of
from vnmi_lab.hw.events import Changed, Taken
from vnmi_lab.kvm import Kvm
from vnmi_lab.trace import Step, Trace

PLACES = ("nmi_queued", "nmi_pending", "V_NMI", "EVENTINJ", "EXITINTINFO")
"""Where an NMI may sit."""
MASKS = {"nmi_masked": "nmi_masked", "V_NMI_MASK": "v_nmi_blocking"}
"""Where the mask of a guest under KVM may be, and its field in the VMCB or in the vCPU."""
TOKEN, NONE = "\N{BLACK CIRCLE}", "\N{MIDDLE DOT}"
CELL = "padding:.2em .7em;text-align:center"
KVMS = "K-"

Spots = tuple[int, ...]
"""How many NMIs are in each of ``PLACES``."""


class Move(NamedTuple):
    """A line of the table: the step, who moved an NMI, where all of them are then, and which masks are up."""

    step: int
    who: str
    spots: Spots
    masks: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Way:
    """The moves of all NMIs in a run."""

    title: str
    moves: tuple[Move, ...]

    def visited(self) -> list[tuple[str, int]]:
        """Return the places in the order in which an NMI came to them, and the step; what sits still is not named."""
        names: list[tuple[str, int]] = []
        before: Spots = (0,) * len(PLACES)
        for move in self.moves:
            came = [name for name, old, new in zip(PLACES, before, move.spots, strict=True) if new > old]
            names += [(name, move.step) for name in came]
            before = move.spots
        return names

    def _lines(self) -> list[list[str]]:
        head = ["step", "by", *PLACES, "masked in"]
        body = [
            [str(m.step), m.who, *(TOKEN * count or NONE for count in m.spots), ", ".join(m.masks)] for m in self.moves
        ]
        return [head, *body]

    def __repr__(self) -> str:
        """Return the table for a terminal."""
        lines = self._lines()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head, *body = self._lines()
        top = "".join(f'<th scope="col" style="{CELL}">{escape(text)}</th>' for text in head)
        rows = "".join(_row(line) for line in body)
        caption = f"<caption>{escape(self.title)}: {TOKEN} is an NMI that is not delivered yet</caption>"
        return f'<table class="vnmi-places">{caption}<thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>'


def _row(line: list[str]) -> str:
    step, who, *rest = line
    cells = "".join(f'<td style="{CELL}">{escape(text)}</td>' for text in rest)
    return (
        f'<tr><td style="{CELL}">{escape(step)}</td>'
        f'<th scope="row" style="padding:.2em .7em;text-align:left">{escape(who)}</th>{cells}</tr>'
    )


def way(kvm: Kvm, title: str, limit: int) -> Way:
    """Run a machine from its start and follow its NMIs."""
    return follow(Trace(kvm.fresh(), title, limit))


def follow(trace: Trace) -> Way:
    """Follow the NMIs of a run under KVM."""
    return Way(trace.title, tuple(_moves(trace)))


def _moves(trace: Trace) -> Iterator[Move]:
    """Yield every state after a step that differs from the one before, and on KVM's way each in which none is missing.

    Between two lines of a function an NMI may be in two places or in none: that is no move.
    """
    last: tuple[Spots, tuple[str, ...]] = ((0,) * len(PLACES), ())
    injected = False
    for step in trace:
        fields = _software(trace[step.index - 1]) if step.index else {}
        for change in step.changes:
            if not change.rule.startswith(KVMS):
                continue
            _apply(fields, change)
            spots = _outside(fields)
            if spots != last[0] and sum(spots) == sum(last[0]):
                last = (spots, last[1])
                yield Move(step.index, _function(trace, change.rule), *last)
        injected = _injected(step, was=injected)
        now = (_after(step, injected=injected), _masks(step))
        if now != last:
            last = now
            yield Move(step.index, step.text, *last)


def _function(trace: Trace, rule: str) -> str:
    """Return the kernel's name of a function, which that of an older version or of a patch shares."""
    _file, colon, name = trace.rules[rule].source.rpartition(": ")
    return name.removesuffix("()") if colon and name.endswith("()") else rule.removeprefix(KVMS)


def _injected(step: Step, *, was: bool) -> bool:
    """Say whether an NMI that VMRUN loaded from EVENTINJ is still to be delivered after a step."""
    if step.kind == "vmrun":
        return _is_nmi(number(step, "event_inj"))
    if step.kind == "vmexit" or any(isinstance(event, Taken) and event.source == "injection" for event in step.events):
        return False
    return was


def _is_nmi(word: int) -> bool:
    return bool(word & VALID) and kind_of(word) == NMI


def _software(step: Step) -> dict[str, int]:
    """Return the fields of KVM and of the VMCB after a step, under the names that changes have."""
    names = ("nmi_queued", "nmi_pending", "exit_int_info")
    fields = {name: number(step, name) for name in names}
    fields["event_inj.valid"] = number(step, "event_inj") >> 31 & 1
    fields["int_ctl.v_nmi_pending"] = number(step, "v_nmi_pending")
    return fields


def _apply(fields: dict[str, int], change: Changed) -> None:
    if change.field in fields:
        fields[change.field] = change.new


def _outside(fields: dict[str, int]) -> Spots:
    """Return where NMIs are while KVM runs."""
    injected = fields.get("event_inj.valid", 0)
    failed = int(_is_nmi(fields.get("exit_int_info", 0)) and not injected)
    software = (fields.get(name, 0) for name in ("nmi_queued", "nmi_pending", "int_ctl.v_nmi_pending"))
    return (*software, injected, failed)


def _after(step: Step, *, injected: bool) -> Spots:
    """Return where NMIs are after a step: what the processor has while the guest runs, else what is in the VMCB."""
    if not step.state["guest_mode"]:
        return _outside(_software(step))
    live = number(step, "live_v_nmi_pending")
    return (number(step, "nmi_queued"), number(step, "nmi_pending"), live, int(injected), 0)


def _masks(step: Step) -> tuple[str, ...]:
    prefix = "live_" if step.state["live_v_nmi_blocking"] is not None else ""
    fields = {name: f"{prefix}{field}" if field.startswith("v_") else field for name, field in MASKS.items()}
    return tuple(name for name, field in fields.items() if number(step, field))
