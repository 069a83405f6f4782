"""Says in words what one step of a trace did: a short label and one full sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

from vnmi_lab.hv.calls import FUNCTIONS, rule_of
from vnmi_lab.hw.delivery import CF, DF, IF, NMI_WORD, NT, OF, PF, RF, SF, TF, ZF, vector_of
from vnmi_lab.hw.events import (
    Arrived,
    Changed,
    Delivered,
    Event,
    Executed,
    HostDid,
    IretRetired,
    KvmCalled,
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

Value: TypeAlias = int | str | None
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
EXCEPTIONS = 32
"""How many vectors, from 0, are those of exceptions."""
WORLD = "R-WORLD"
"""The rule of what arrives at a virtual machine from outside."""
NO_NEWS = (
    "requests", "immediate_exit", "nmi_iret_rip", "nmi_singlestep_guest_rflags", "kicks", "event_inj.type",
    "vmcb.next_rip",
)  # fmt: skip
"""What KVM writes down for itself: worth a line in the list of changes, not a place in the sentence."""
IOCTL = "KVM_"
"""What user space asks of KVM begins so."""
FLOW = ("vcpu_enter_guest", "kvm_check_and_inject_events", "svm_vcpu_run", "after_exit", "svm_handle_exit")
"""Functions of KVM that call the others: what they do themselves, the others' changes tell."""


def words(
    kind: str, events: Sequence[Event], changes: Sequence[Changed], guest: Guest, exit_code: Value = None
) -> tuple[str, str]:
    """Return a short label and one full sentence for a step of this kind; KVM says which exit it handles."""
    if kind == "kvm":
        return _kvm(events, changes, exit_code)
    return SAY[kind](events, changes, guest)


def place(address: int, guest: Guest) -> str:
    """Name an address by the nearest label at or before it in the same program, in quotes, or in hex."""
    if address not in guest.places:
        guest.places[address] = _place(address, guest)
    return guest.places[address]


def _place(address: int, guest: Guest) -> str:
    labels = {at: name for name, at in reversed(list(guest.labels().items()))}
    programs = [("main", guest.main), *((f"h{vector}", program) for vector, program in guest.handlers.items())]
    for name, program in programs:
        if program.origin <= address <= program.origin + len(program.code):
            best = max((at for at in labels if program.origin <= at <= address), default=None)
            base, label = (program.origin, name) if best is None else (best, labels[best])
            return f"'{label}'" if base == address else f"'{label}+{address - base:#x}'"
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
        name = "interrupt" if event.source == "intr" else event.source.upper()
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


def _stimulus(events: Sequence[Event], changes: Sequence[Changed], _guest: Guest) -> tuple[str, str]:
    posted = [e for e in _all(events, Arrived) if e.rule == WORLD]
    arrivals = posted or _all(events, Arrived)
    times = f" x{len(arrivals)}" if len(arrivals) > 1 else ""
    label = f"{arrivals[0].source.upper()} arrives{times}"
    return label, _posted(posted, events, changes) if posted else _arrivals(events)


def _posted(posted: Sequence[Arrived], events: Sequence[Event], changes: Sequence[Changed]) -> str:
    """Say what arrived at a virtual machine, where KVM keeps it, and whether the guest was running."""
    name = posted[0].source.upper()
    what = f"An {name}" if len(posted) == 1 else f"{len(posted)} {name}s at once"
    kicked = len(posted) < len(_all(events, Arrived))
    kick = " The guest is running, so KVM kicks it: an interrupt to its processor will make it exit." if kicked else ""
    return " ".join([f"{what} arrive{'s' if len(posted) == 1 else ''} for the guest.", *_jobs(events, changes)]) + kick


def _deliver(events: Sequence[Event], changes: Sequence[Changed], guest: Guest) -> tuple[str, str]:
    taken, delivered = _all(events, Taken), _all(events, Delivered)
    what = SOURCES[taken[0].source] if taken else "an exception"
    if not delivered:
        return what, f"The processor takes {what}."
    entry = delivered[-1]
    nmi = bool(taken) and entry.vector == vector_of(NMI_WORD)  # INT 2 enters the same handler, and is none
    label = "NMI taken" if nmi else f"vector {_number(entry.vector)} taken"
    noted = _listed([c for c in changes if c.field in NOTED])
    return label, (
        f"The processor takes {what} and enters the handler of vector {_number(entry.vector)};"
        f" it will return to {place(entry.return_rip, guest)}.{f' Now {noted}.' if noted else ''}"
    )


def _number(vector: int) -> str:
    """Return a vector as one speaks of it: exceptions in decimal, interrupts in hex."""
    return str(vector) if vector < EXCEPTIONS else f"{vector:X}h"


def _jobs(events: Sequence[Event], changes: Sequence[Changed]) -> list[str]:
    """Return a sentence for each KVM function that did something, with what those did that it called in turn."""
    calls = _all(events, KvmCalled)
    wanted = acted(events, changes)
    told: dict[str, list[str]] = {}
    depth = len(calls)  # of the function being told
    job = ""
    for call in calls:
        if call.depth <= depth:
            depth, job = len(calls), ""
        if not job and call in wanted:
            depth, job = call.depth, call.rule
        if job:
            told.setdefault(job, []).append(call.rule)
    return [_job(rule, [c for c in changes if c.rule in rules and _news(c)]) for rule, rules in told.items()]


def _job(rule: str, changes: Sequence[Changed]) -> str:
    effects = f" ({_listed(_net(changes))})" if changes else ""
    job = FUNCTIONS[rule].sentence.rstrip(".") if rule in FUNCTIONS else "a function that is not KVM's"
    return f"{rule.removeprefix('K-')}: {job[:1].lower()}{job[1:]}{effects}."


def acted(events: Sequence[Event], changes: Sequence[Changed]) -> list[KvmCalled]:
    """Return the KVM functions that changed something worth telling, each once, and the handler of the exit."""
    telling = {c.rule for c in changes if _news(c)} - {rule_of(function) for function in FLOW}
    handled = handler(events)
    calls = {e.rule: e for e in reversed(_all(events, KvmCalled))}
    return [call for rule, call in reversed(calls.items()) if rule in telling or call == handled]


def handler(events: Sequence[Event]) -> KvmCalled | None:
    """Return the function that handled the exit: the one that svm_handle_exit called; None when no exit is handled."""
    calls = _all(events, KvmCalled)
    at = next((i for i, call in enumerate(calls) if call.function == "svm_handle_exit"), None)
    if at is None:
        return None
    return next((call for call in calls[at + 1 :] if call.depth == calls[at].depth + 1), calls[at])


def _news(change: Changed) -> bool:
    return change.field not in NO_NEWS and not change.field.startswith("clean")


def _net(changes: Sequence[Changed]) -> list[Changed]:
    """Return changes with those of one field joined: what it was before them and is after them."""
    fields = dict.fromkeys(c.field for c in changes)
    each = [[c for c in changes if c.field == field] for field in fields]
    return [own[0]._replace(new=own[-1].new) for own in each]


def _kvm(events: Sequence[Event], changes: Sequence[Changed], exit_code: Value) -> tuple[str, str]:
    handled = handler(events)
    if handled is None:
        first = _all(events, KvmCalled)[0]
        return f"KVM: {first.function}", " ".join(["KVM does not enter the guest.", *_jobs(events, changes)])
    assert isinstance(exit_code, int)
    name = f"{exit_name(exit_code)} ({exit_code:X}h)" if exit_code != INVALID else "INVALID (-1)"
    return f"KVM: {handled.function}", " ".join([f"KVM handles #VMEXIT {name}.", *_jobs(events, changes)])


def _vmrun(events: Sequence[Event], changes: Sequence[Changed], guest: Guest) -> tuple[str, str]:
    entry = _all(events, Vmrun)[0]
    injects = (
        f" EVENTINJ holds {vector_name(entry.event_inj)}, to be delivered first." if entry.event_inj >> 31 & 1 else ""
    )
    way_in = [f"VMRUN enters the guest at {place(entry.rip, guest)}.{injects}"]
    return "VMRUN", " ".join(_jobs(events, changes) + way_in)


def _vmexit(events: Sequence[Event], changes: Sequence[Changed], guest: Guest) -> tuple[str, str]:
    left = _all(events, VmExit)[0]
    if left.code == INVALID:
        return "#VMEXIT INVALID", f"VMRUN is refused with #VMEXIT INVALID (-1): {RULES[left.rule].sentence}"
    label = f"#VMEXIT {exit_name(left.code)} ({left.code:X}h)"
    during = f" It interrupts the delivery of {vector_name(left.int_info)}." if left.int_info else ""
    skips = any(change.rule == "R-HOST" and change.field == "vmcb.rip" for change in changes)
    host = "the host continues, and moves RIP over the instruction" if skips else "the host continues"
    return label, f"{label} at {place(left.rip, guest)}: {host}.{during}"


def _host(events: Sequence[Event], changes: Sequence[Changed], _guest: Guest) -> tuple[str, str]:
    did = _all(events, HostDid)[0]
    ioctl = did.text.startswith(IOCTL)
    effects = _listed(_net([c for c in changes if c.rule == "R-HOST" and _news(c)]) if ioctl else changes)
    who = "User space calls" if ioctl else "The host does:"
    sentence = " ".join([f"{who} {did.text}{f' ({effects})' if effects else ''}.", *_jobs(events, changes)])
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
