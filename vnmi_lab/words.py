"""Says in words what one step of a trace did: a short label and one full sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vnmi_lab.hw.delivery import CF, DF, IF, NMI_WORD, NT, OF, PF, RF, SF, TF, ZF, vector_of
from vnmi_lab.hw.events import (
    Arrived,
    Changed,
    Delivered,
    Event,
    Executed,
    HostDid,
    IretRetired,
    Stopped,
    Taken,
    VmExit,
    Vmrun,
)
from vnmi_lab.hw.svm import INVALID, exit_name, vector_name
from vnmi_lab.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vnmi_lab.guest import Guest

T = TypeVar("T")

FLAG_NAMES = {CF: "CF", PF: "PF", ZF: "ZF", SF: "SF", TF: "TF", IF: "IF", DF: "DF", OF: "OF", NT: "NT", RF: "RF"}
ARITHMETIC = CF | PF | ZF | SF | OF
"""Flags that nearly every instruction changes: worth a line in the list of changes, not a place in the sentence."""
SOURCES = {
    "injection": "the event injected through EVENTINJ",
    "smi": "an SMI",
    "init": "an INIT",
    "trap": "the single-step trap",
    "nmi": "the physical NMI",
    "vnmi": "the virtual NMI",
    "intr": "a physical interrupt",
    "virq": "the virtual interrupt",
}
NOTED = ("nmi_mask", "nmi_latch", "v_nmi_pending", "v_nmi_blocking")
"""Fields whose change is part of what taking an event means."""


def words(kind: str, events: Sequence[Event], changes: Sequence[Changed], guest: Guest) -> tuple[str, str]:
    """Return a short label and one full sentence for a step of this kind."""
    return SAY[kind](events, changes, guest)


def place(address: int, guest: Guest) -> str:
    """Name an address by the nearest label at or before it in the same program, or in hex."""
    labels = {at: name for name, at in reversed(list(guest.labels().items()))}
    programs = [("main", guest.main), *((f"h{vector}", program) for vector, program in guest.handlers.items())]
    for name, program in programs:
        if program.origin <= address <= program.origin + len(program.code):
            best = max((at for at in labels if program.origin <= at <= address), default=None)
            base, label = (program.origin, name) if best is None else (best, labels[best])
            return label if base == address else f"{label}+{address - base:#x}"
    return f"{address:#x}"


def change_words(change: Changed) -> str:
    """Return "nmi_mask 0 to 1", "TF 1 to 0", or nothing for flags that are no news."""
    old, new = change.old, change.new
    if change.field == "rflags":
        news = (old ^ new) & ~ARITHMETIC
        return ", ".join(
            f"{name} {int(old & bit > 0)} to {int(new & bit > 0)}" for bit, name in FLAG_NAMES.items() if news & bit
        )
    style = "d" if max(old, new) < 0x10 else "#x"  # noqa: PLR2004 - one hex digit reads the same in decimal mostly
    return f"{change.field} {old:{style}} to {new:{style}}"


def _all(events: Sequence[Event], cls: type[T]) -> list[T]:
    return [e for e in events if isinstance(e, cls)]


def _listed(changes: Sequence[Changed]) -> str:
    return ", ".join(filter(None, map(change_words, changes)))


def _arrivals(events: Sequence[Event]) -> str:
    said = []
    for event in _all(events, Arrived):
        name = event.source.upper()
        end = "merges into the one already pending" if event.coalesced else "is now pending"
        said.append(f"An {name} arrives and {end}.")
    return " ".join(dict.fromkeys(said))


def _exec(events: Sequence[Event], changes: Sequence[Changed], guest: Guest) -> tuple[str, str]:
    done = _all(events, Executed)[0]
    text = done.text or "an instruction"
    effects = _listed([c for c in changes if c.field != "rip"])
    sentence = f"{text} at {place(done.address, guest)} completes{f': {effects}' if effects else ''}."
    returns = [f"It returns to {place(iret.target, guest)}." for iret in _all(events, IretRetired)]
    return text, " ".join(filter(None, [sentence, *returns, _arrivals(events)]))


def _stimulus(events: Sequence[Event], _changes: Sequence[Changed], _guest: Guest) -> tuple[str, str]:
    arrivals = _all(events, Arrived)
    times = f" x{len(arrivals)}" if len(arrivals) > 1 else ""
    return f"{arrivals[0].source.upper()} arrives{times}", _arrivals(events)


def _deliver(events: Sequence[Event], changes: Sequence[Changed], guest: Guest) -> tuple[str, str]:
    taken, delivered = _all(events, Taken), _all(events, Delivered)
    what = SOURCES[taken[0].source] if taken else "an exception"
    if not delivered:
        return what, f"The processor takes {what}."
    entry = delivered[-1]
    nmi = bool(taken) and entry.vector == vector_of(NMI_WORD)  # INT 2 enters the same handler, and is none
    label = "NMI taken" if nmi else f"vector {entry.vector} taken"
    noted = _listed([c for c in changes if c.field in NOTED])
    return label, (
        f"The processor takes {what} and enters the handler of vector {entry.vector};"
        f" it will return to {place(entry.return_rip, guest)}.{f' Now {noted}.' if noted else ''}"
    )


def _vmrun(events: Sequence[Event], _changes: Sequence[Changed], guest: Guest) -> tuple[str, str]:
    entry = _all(events, Vmrun)[0]
    injects = (
        f" EVENTINJ holds {vector_name(entry.event_inj)}, to be delivered first." if entry.event_inj >> 31 & 1 else ""
    )
    return "VMRUN", f"VMRUN enters the guest at {place(entry.rip, guest)}.{injects}"


def _vmexit(events: Sequence[Event], _changes: Sequence[Changed], guest: Guest) -> tuple[str, str]:
    left = _all(events, VmExit)[0]
    if left.code == INVALID:
        return "#VMEXIT INVALID", f"VMRUN is refused with #VMEXIT INVALID (-1): {RULES[left.rule].sentence}"
    label = f"#VMEXIT {exit_name(left.code)} ({left.code:X}h)"
    during = f" It interrupts the delivery of {vector_name(left.int_info)}." if left.int_info else ""
    return label, f"{label} at {place(left.rip, guest)}: the host continues.{during}"


def _host(events: Sequence[Event], changes: Sequence[Changed], _guest: Guest) -> tuple[str, str]:
    did = _all(events, HostDid)[0]
    effects = _listed(changes)
    sentence = f"The host does: {did.text}{f' ({effects})' if effects else ''}."
    return f"host: {did.text}", " ".join(filter(None, [sentence, _arrivals(events)]))


def _stop(events: Sequence[Event], _changes: Sequence[Changed], _guest: Guest) -> tuple[str, str]:
    stopped = _all(events, Stopped)[0]
    return stopped.why, f"The processor stops: {stopped.why}. {RULES[stopped.rule].sentence}"


SAY: dict[str, Callable[[Sequence[Event], Sequence[Changed], Guest], tuple[str, str]]] = {
    "exec": _exec,
    "stimulus": _stimulus,
    "deliver": _deliver,
    "vmrun": _vmrun,
    "vmexit": _vmexit,
    "host": _host,
    "stop": _stop,
}
