"""VMRUN, #VMEXIT, delivery and IRET, opened: the sub-steps of one step in their order, and what each of them sets.

A sub-step is a rule at work. The state after sub-step k is the state before the step with the sets of sub-steps 0 to k;
after the last one it is exactly the state after the step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

from vnmi_lab.hw.delivery import IF, NMI_WORD, TF, vector_of
from vnmi_lab.hw.events import Changed, Delivered, Event, IretRetired, Taken, VmExit, Vmrun
from vnmi_lab.hw.svm import CHECKS, HOST_SAVED
from vnmi_lab.hw.vmcb import Clean, EventInj, IntCtl, IntState
from vnmi_lab.timeline.columns import number, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vnmi_lab.rules import Rule
    from vnmi_lab.trace import Step

State: TypeAlias = dict[str, int | str | None]

KINDS = {"vmrun": "R-VMRUN", "vmexit": "R-VMEXIT", "deliver": "R-ENTER"}
"""Steps that are opened, and the rule behind what no event tells; of instructions, IRET is opened too."""
IRET_RULE = "R-EXEC"
NMI_VECTOR = vector_of(NMI_WORD)
HARDWARE, KVM_OWN = "R-", "K-"
REGISTERS = {"int_ctl": IntCtl, "event_inj": EventInj, "clean": Clean, "int_state": IntState}
"""Fields of the VMCB whose bits change one by one."""
LIVE = {"v_nmi_pending": "live_v_nmi_pending", "v_nmi_blocking": "live_v_nmi_blocking"}
"""What the processor's own bits are called in a state."""

LABELS = {
    "R-CLGI": "close GIF",
    "R-STGI": "open GIF",
    "R-HOST": "the host's own work",
    "R-VMRUN": "load the guest",
    "R-VMRUN-SHADOW": "load the shadow",
    "R-VMRUN-VIRQ": "load V_IRQ, V_TPR, V_GIF",
    "R-VMRUN-VNMI": "load V_NMI, V_NMI_MASK",
    "R-VMRUN-GIF": "open GIF",
    "R-EVENTINJ": "load EVENTINJ",
    "R-EVENTINJ-VNMI": "mask virtual NMIs",
    "R-NMI-TAKE": "empty the latch",
    "R-NMI-MASK": "mask NMIs",
    "R-VNMI-TAKE": "clear V_NMI",
    "R-VNMI-MASK": "set V_NMI_MASK",
    "R-INTR-ARRIVE": "kick itself",
    "R-INTR-ACK": "acknowledge the interrupt",
    "R-VIRQ-ACK": "clear V_IRQ",
    "R-TF-TRAP": "single-step trap",
    "R-TF-EVENT": "clear TF",
    "R-CR2": "write CR2",
    "R-FRAME": "push the frame",
    "R-IST": "push the frame on the IST's stack",
    "R-GATE-IF": "clear IF",
    "R-SHADOW-DELIVERY": "end the shadow",
    "R-HLT-WAKE": "end HLT",
    "R-ENTER": "enter the handler",
    "R-VMEXIT": "write the guest's state and the reason",
    "R-VMEXIT-SHADOW": "write the shadow",
    "R-VMEXIT-VIRQ": "write V_IRQ, V_TPR, V_GIF",
    "R-VMEXIT-VNMI": "write V_NMI, V_NMI_MASK",
    "R-VNMI-EXIT": "take the mask back",
    "R-EVENTINJ-EXIT": "take the mask back",
    "R-EXITINTINFO": "write EXITINTINFO",
    "R-NRIP": "write nRIP",
    "R-EVENTINJ-V": "clear EVENTINJ.V",
    "R-VMEXIT-HOST": "put the host back",
    "R-VMEXIT-GIF": "close GIF",
    "R-EXEC": "pop the frame",
    "R-IRET-UNMASK": "unmask NMIs",
    "R-VNMI-IRET": "clear V_NMI_MASK",
    "R-RF-CLEAR": "clear RF",
    "R-SHADOW-END": "end the shadow",
    "R-SMI-TAKE": "take the SMI",
    "R-INVALID": "write EXITCODE",
    **{rule: "refuse VMRUN" for rule, _wrong in CHECKS},
}
"""What a rule does, in a few words; of a KVM function, its name says it."""
TAKING = {"R-EVENTINJ": "take the injected event"}
"""The same, where an event is delivered."""


@dataclass
class _Sub:
    """A sub-step: its rule, and the fields it sets."""

    rule: str
    sets: State = field(default_factory=dict)


def micro(steps: Sequence[Step], rules: Mapping[str, Rule]) -> dict[str, list[Any]]:
    """Give the sub-steps of a run, each distinct one once.

    ``at`` lists ``[step, [sub, ...]]`` in the order of the machine, ``subs`` what each sets as
    ``[rule, [[key, value], ...]]``, ``rules`` the rules at work as ``[label, id, sentence]``.
    """
    used: dict[tuple[str, str], int] = {}
    subs: dict[tuple[int, tuple[tuple[str, Any], ...]], int] = {}
    found: list[list[Any]] = []
    for step, said in enumerate(steps):
        if not (step and opens(said)):
            continue
        labels = LABELS if said.kind == "vmrun" else LABELS | TAKING
        mine: list[int] = []
        for sub in _substeps(said, steps[step - 1].state):
            label = labels.get(sub.rule, sub.rule.removeprefix(KVM_OWN))
            rule = used.setdefault((label, sub.rule), len(used))
            mine.append(
                subs.setdefault((rule, tuple((key, plain(value)) for key, value in sub.sets.items())), len(subs))
            )
        found.append([step, mine])
    sentences = {name: rules[name].sentence if name in rules else "" for _, name in used}
    return {
        "at": found,
        "subs": [[rule, [list(pair) for pair in sets]] for rule, sets in subs],
        "rules": [[label, name, sentences[name]] for label, name in used],
    }


def substeps(data: Mapping[str, list[Any]], step: int) -> list[list[Any]]:
    """Give a step's sub-steps out of ``micro``, each as ``[label, rule, sentence, [[key, value], ...]]``."""
    mine: list[int] = next((subs for at, subs in data["at"] if at == step), [])
    return [[*data["rules"][rule], sets] for rule, sets in (data["subs"][sub] for sub in mine)]


def opens(step: Step) -> bool:
    """Say whether a step has sub-steps worth seeing: events tell them."""
    return bool(step.events) and (step.kind in KINDS or any(isinstance(e, IretRetired) for e in step.events))


def _substeps(step: Step, before: State) -> list[_Sub]:
    view = dict(before)
    subs: list[_Sub] = []
    for rule, group in groupby(step.events, _rule):
        sub, acts = _Sub(rule), False
        for event in group:
            acts = acts or isinstance(event, ACTS)
            for key, value in _sets(event, view, step):
                if key in view and view[key] != value:
                    view[key] = sub.sets[key] = value
        if sub.sets or (acts and rule.startswith(HARDWARE)):
            _append(subs, sub)
    return _exact(subs, step, before)


def _rule(event: Event) -> str:
    """Give the rule of an event, that of the way back for what leaves the guest."""
    if isinstance(event, Changed) and event.field == "guest_mode" and not event.new:
        return "R-VMEXIT-HOST"
    return getattr(event, "rule", "")


ACTS = (Changed, Taken, Delivered, IretRetired, Vmrun, VmExit)
"""Events that are something done; the others say who did it."""


def _append(subs: list[_Sub], sub: _Sub) -> None:
    """Append a sub-step; the processor's work by one rule is one, where nothing between touches the same field."""
    if sub.rule.startswith(HARDWARE):
        for at in range(len(subs) - 1, -1, -1):
            if subs[at].rule == sub.rule:
                subs[at].sets |= sub.sets
                return
            if subs[at].sets.keys() & sub.sets.keys() or not subs[at].rule.startswith(HARDWARE):
                break
    subs.append(sub)


def _exact(subs: list[_Sub], step: Step, before: State) -> list[_Sub]:
    """See to it that the sub-steps end in the state after the step: what no event told right is the step's own."""
    view = dict(before)
    for sub in subs:
        view |= sub.sets
    wrong = {key: value for key, value in step.state.items() if view.get(key) != value or key not in view}
    for sub in subs:
        sub.sets = {key: value for key, value in sub.sets.items() if key not in wrong}
    rest = {key: value for key, value in wrong.items() if key not in before or before[key] != value}
    if rest and step.kind == "exec":
        return [_Sub(IRET_RULE, rest), *subs]
    if rest:
        own = KINDS[step.kind]
        mine = next((sub for sub in subs if sub.rule == own), None)
        if mine is None:
            return [*subs, _Sub(own, rest)]
        mine.sets |= rest
    return subs


def _sets(event: Event, view: State, step: Step) -> Iterator[tuple[str, int | str | None]]:
    """Yield the fields of a state that an event sets, with their values."""
    if isinstance(event, Delivered) and event.vector == NMI_VECTOR:
        yield "handler_depth", number(view["handler_depth"]) + 1
    elif isinstance(event, IretRetired):
        yield "handler_depth", step.state["handler_depth"]
    elif isinstance(event, Changed) and not (event.rule == "R-VMEXIT-HOST" and event.field in HOST_SAVED):
        yield from _changed(event, view)


def _changed(change: Changed, view: State) -> Iterator[tuple[str, int | str | None]]:
    """Yield the fields that a change means: a bit is part of its register, and the processor's own bits are live."""
    name, new = change.field.removeprefix("vmcb."), int(change.new)
    register, _, bit = name.partition(".")
    if bit:
        yield from _bit(register, bit, new, view)
    elif change.rule.startswith(HARDWARE) and name in LIVE and change.field == name:
        yield LIVE[name], new
    elif name in ("v_nmi_enable", "guest_mode") and change.field == name:
        yield from _world(name, new, view)
    elif name not in ("v_irq", "v_gif"):
        yield name, new
    if name == "rflags":
        yield from (("IF", int(new & IF > 0)), ("TF", int(new & TF > 0)))


def _bit(register: str, bit: str, new: int, view: State) -> Iterator[tuple[str, int | str | None]]:
    if register in REGISTERS and register in view:
        kind = REGISTERS[register]
        yield register, int(kind(number(view[register])).replace(**{bit: new}))
    if register == "intercept_3" and bit == "iret":
        yield "iret_intercept", new
    elif register == "int_ctl":
        yield bit, new
    elif bit == "interrupt_shadow":
        yield "shadow", new


def _world(name: str, new: int, view: State) -> Iterator[tuple[str, int | str | None]]:
    """Yield what entering or leaving a guest sets: its own copies of the virtual bits come and go with it."""
    if name == "guest_mode":
        yield name, new
    if bool(new) == (name == "v_nmi_enable"):
        yield from ((key, 0 if new else None) for key in LIVE.values() if key in view)
