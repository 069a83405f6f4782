"""What happens next: the step that follows a moment at which an NMI waits, or a handler ends."""

from __future__ import annotations

from collections.abc import Iterator

from vnmi_lab.checks.measure import NMI
from vnmi_lab.checks.practice.ask import FEWEST, Ask, distinct
from vnmi_lab.checks.practice.runs import Run
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.hw.delivery import TF
from vnmi_lab.hw.events import Delivered, VmExit
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.kvm import GUEST, Kvm
from vnmi_lab.scenario import BARE
from vnmi_lab.trace import Step

TAKE, EXEC, DROP = "take", "exec", "drop"
EXITS = {
    "IRET": "#VMEXIT IRET (74h).",
    "INTR": "#VMEXIT INTR (60h), for the kick.",
    "NMI": "#VMEXIT NMI (61h).",
    "EXC_DB": "#VMEXIT #DB (41h), for a single step.",
    "STGI": "#VMEXIT STGI (84h).",
    "NPF": "#VMEXIT NPF (400h), a nested page fault.",
}
FIRST = {
    TAKE: "An NMI that nothing holds back is taken at the boundary, before the next instruction.",
    "IRET": "IRET is intercepted, and the exit comes before the instruction has done anything.",
    "INTR": "The kick waits, an interrupt for the host, and it is met before the instruction.",
    "EXC_DB": "The instruction before was single-stepped, and its trap comes first.",
    "STGI": "STGI is intercepted, and the exit comes before the instruction has done anything.",
    "NPF": "A page that it needs is absent, so it exits half-way.",
}
"""Why something else than the next instruction comes."""


def next_step(ask: Ask) -> Prediction | None:
    """Ask what the next step is, at a moment that is worth it."""
    run = ask.run
    at = ask.draw.pick(places) if (places := list(_moments(run))) else None
    if at is None:
        return None
    so = what_is(run.trace[at])
    right = Option(_text(run, at, so), so, FIRST[so] if so in FIRST else _executes(run, at))
    options = [right, *distinct(right, [option for option in _wrong(run, at) if option.value != so])]
    if len(options) <= FEWEST:
        return None
    question = (
        f"{ask.intro()} The picture stops where the guest is about to execute {run.spoken(run.name(_rip(run, at)))}. "
        "What is the very next step?"
    )
    return Prediction(
        ask.id,
        question,
        tuple(ask.draw.mixed(options)),
        run.scenario.machine,
        lambda trace: what_is(trace[at]),
        lambda _trace: at - 1,
        ask.title,
    )


def what_is(step: Step) -> str:
    """Return what kind of step this is: an NMI is taken, an exit of a name, an instruction, or anything else."""
    for event in step.events:
        if isinstance(event, VmExit):
            return exit_name(event.code)
    if step.kind == "deliver":
        return TAKE if any(isinstance(e, Delivered) and e.vector == NMI for e in step.events) else "other"
    return EXEC if step.kind == "exec" else "other"


def _moments(run: Run) -> Iterator[int]:
    """Yield the steps that may be asked for: the guest is about to do something, and an NMI waits or is in service."""
    for step in run.trace:
        if step.index <= run.stimuli[0] or what_is(step) not in (TAKE, EXEC, *EXITS):
            continue
        machine = run.trace.goto(step.index)
        bare = run.scenario.policy == BARE
        if not bare and not (isinstance(machine, Kvm) and machine.phase == GUEST):
            continue
        waits = machine.cpu.nmi_latch if bare else _is_near(run, step.index)
        if waits and run.line(_rip(run, step.index)) is not None:
            yield step.index


def _is_near(run: Run, at: int) -> bool:
    """Whether an NMI waits or an IRET comes, under KVM."""
    state = run.trace[at - 1].state
    pending = ("nmi_queued", "nmi_pending", "v_nmi_pending")
    is_end = _instruction(run, at) in ("iretq", "stgi")
    return is_end or what_is(run.trace[at]) != EXEC or any(state[name] for name in pending)


def _rip(run: Run, at: int) -> int:
    rip = run.trace[at - 1].state["rip"]
    assert isinstance(rip, int)
    return rip


def _instruction(run: Run, at: int) -> str:
    line = run.line(_rip(run, at))
    return line.text if line is not None else ""


def _text(run: Run, at: int, what: str) -> str:
    if what == TAKE:
        return "The NMI is taken: the handler is entered."
    if what == EXEC:
        return f"`{_instruction(run, at)}` executes."
    return EXITS[what]


def _executes(run: Run, at: int) -> str:
    held = run.held(at)
    return f"No exit and no event is due before it.{f' The NMI waits: {held}' if held else ''}"


def _wrong(run: Run, at: int) -> Iterator[Option]:
    """Yield what else it might be, with what speaks against each."""
    so = what_is(run.trace[at])
    machine = run.trace.goto(at)
    text = _instruction(run, at)
    first = FIRST.get(so, "The instruction comes first.")
    held = run.held(at)
    taken = f"It waits still: {held}" if held else f"No NMI is due at this boundary. {first}"
    yield Option(_text(run, at, TAKE), TAKE, taken)
    yield Option(_text(run, at, EXEC), EXEC, first)
    if not isinstance(machine, Kvm):
        dropped = f"`{text}` executes, and the NMI that waits is dropped."
        yield Option(dropped, DROP, "The latch keeps it until it can be taken. Masked is not lost.")
        return
    if text == "iretq":
        on = run.trace[at - 1].state["iret_intercept"]
        yield Option(EXITS["IRET"], "IRET", f"IRET is intercepted, but: {first}" if on else "IRET is not intercepted.")
    if text == "stgi":
        yield Option(EXITS["STGI"], "STGI", "STGI exits only while KVM waits for a window, and it does not wait now.")
    if run.trace[at - 1].state["nmi_singlestep"]:
        trap = "TF is 1, but the trap comes after an instruction." if machine.cpu.rflags & TF else "TF is 0 already."
        yield Option(EXITS["EXC_DB"], "EXC_DB", trap)
    kick = "The kick waits, but something holds it." if machine.cpu.irr else "No kick waits for the guest now."
    yield Option(EXITS["INTR"], "INTR", kick)
    yield Option(EXITS["NMI"], "NMI", "That exit is for physical NMIs, and none came to the host's processor.")
