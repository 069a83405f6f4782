"""Exercises whose answer is one of KVM's functions: it is put into a policy, and the judge tries every schedule.

The counterexample is the shortest one there is, and it is replayed up to the step that breaks the law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from reprlib import repr as short
from types import FunctionType
from typing import Any, NamedTuple

from vnmi_lab import judge
from vnmi_lab.checks.exercise import LearnerError
from vnmi_lab.checks.measure import counted, exits, irets
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.explore import STEP, explore
from vnmi_lab.explore import Verdict as Judged
from vnmi_lab.hv.calls import FUNCTIONS, rule_of
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hv.vcpu import Vcpu
from vnmi_lab.hw.cpu import Cpu
from vnmi_lab.hw.delivery import NMI, kind_of
from vnmi_lab.judge import Case
from vnmi_lab.kvm import EXITED, GUEST
from vnmi_lab.laws import COMES_TO_REST, DB_EXIT, Law, Moment
from vnmi_lab.rules import Rule
from vnmi_lab.trace import Step, Trace

MOST_STATES = 20_000
"""States after which a search gives up: right answers to the labs' exercises need a few thousand."""
ROUNDS = 40
"""Steps that are shown of a run that has no end."""
AFTERWARDS = 8
"""Steps that are shown behind the one that breaks a law."""
YOURS = "your cell"
"""The file that a trace gives for a learner's function."""


def _exits_in_time(moment: Moment) -> bool:
    """Say whether the guest, with its way free for an NMI that waits in software, is about to take one or to exit."""
    machine, watch = moment.kvm, moment.watch
    vcpu, cpu = machine.vcpu, machine.cpu
    waits = machine.phase == GUEST and vcpu.nmi_pending and not vcpu.nmi_injected and not watch.in_service
    return not waits or bool(cpu.trap or cpu.irr or cpu.v_nmi_pending)


AT_ONCE = Law(
    "taken_at_once",
    "An NMI that waits is taken as soon as no other is in service, as on bare metal.",
    "kvm-unit-tests eventinj, NMI and NMI IRET",
    _exits_in_time,
)
"""For guests without a shadow and with GIF set: nothing else may hold an NMI back there."""

BOTH = Law(
    "both_delivered",
    "Of NMIs that arrive while none is in service two are delivered, and one of those that arrive while one is.",
    "kvm-unit-tests multiple nmi, pending nmi",
    lambda moment: not (moment.done and moment.watch.waiting),
)

AT_AN_OPEN_DOOR = Law(
    "at_an_open_door",
    "No NMI is injected while the guest's GIF is 0, or in the shadow of an STI.",
    "KVM svm_nmi_blocked",
    lambda moment: not (moment.kvm.phase == GUEST and _injected_behind_a_door(moment.kvm.cpu)),
)
"""EVENTINJ looks at nothing, so it is KVM that must look."""


def _injected_behind_a_door(cpu: Cpu) -> bool:
    """Say whether the processor is about to deliver an injected NMI that would have had to wait on bare metal."""
    closed = cpu.shadow or (cpu.v_gif_enable and not cpu.v_gif)
    return bool(cpu.injection and kind_of(cpu.injection) == NMI and closed)


NO_NEEDLESS_STEP = Law(
    "no_needless_step",
    "The guest is single-stepped only where nothing else would make it exit.",
    "KVM svm_enable_nmi_window",
    lambda moment: not (moment.kvm.phase == EXITED and _steps_in_vain(moment.kvm.vcpu)),
)
"""A step is an exit for one instruction: an IRET that is intercepted, or an STGI, exits by itself."""


def _steps_in_vain(vcpu: Vcpu) -> bool:
    """Say whether a guest has been stepped that waits for an IRET, which will exit, or for its GIF."""
    waits = (vcpu.nmi_masked and not vcpu.awaiting_iret_completion) or not vcpu.vmcb.int_ctl.v_gif
    return vcpu.nmi_singlestep and vcpu.vmcb.exit_code == DB_EXIT and waits


class Seen(NamedTuple):
    """How a broken law shows: in words, and as a value that was expected and one that was found."""

    words: str
    field: str
    expected: str
    actual: str


SEEN: dict[str, Seen] = {
    "not_before_iret": Seen(
        "Two NMIs nest: the second is taken, and no IRET has completed since the first.", "NMIs in service", "1", "2"
    ),
    "not_lost": Seen("An NMI is lost: the guest is at rest and never heard of it.", "NMIs lost", "0", "1"),
    "nothing_left": Seen("The guest is at rest, and an NMI is left over.", "NMIs that wait", "0", "1"),
    "looked_at": Seen(
        "An NMI waits in `nmi_pending`, it may be injected, and nobody will look.", "KVM_REQ_EVENT", "1", "0"
    ),
    "not_over_delivered": Seen(
        "One NMI too many: the guest takes more of them than bare metal would have remembered.",
        "NMIs too many", "0", "1",
    ),
    "no_borrowed_flags": Seen("The TF that KVM borrowed is in the guest's stack frame.", "TF in the frame", "0", "1"),
    "enters": Seen("The guest cannot be entered any more.", "VMRUN enters", "yes", "no"),
    COMES_TO_REST.slug: Seen(
        "The run never comes to its end: the same happens again and again.", "the guest rests", "yes", "no"
    ),
    "no_iret_exit": Seen("There is an IRET exit, and vNMI needs none.", "IRET exits", "0", "1"),
    "no_step_exit": Seen("The guest is single-stepped, and vNMI needs no such exit.", "#DB exits", "0", "1"),
    AT_ONCE.slug: Seen(
        "An NMI waits in `nmi_pending`, no other is in service, and the guest goes on: nothing makes it exit.",
        "an exit for the NMI that waits", "yes", "no",
    ),
    AT_AN_OPEN_DOOR.slug: Seen(
        "An NMI is injected where bare metal would have held it back: EVENTINJ looks at nothing.",
        "injected behind a closed door", "no", "yes",
    ),
    "no_false_alarm": Seen(
        "The host's log has a warning, and nothing is wrong: the window that KVM asks for will open.",
        "warnings", "0", "1",
    ),
    NO_NEEDLESS_STEP.slug: Seen(
        "The guest is single-stepped, and what it waits for would have made it exit by itself.",
        "#DB exits there", "0", "1",
    ),
    BOTH.slug: Seen("One NMI too few: bare metal would have taken one more.", "NMIs too few", "0", "1"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hook:
    """Judges a learner's version of function ``name`` in ``parent``: no case may break a law in any schedule.

    ``done`` says what a right answer shows, ``laws`` are asked beside those of each case. ``rests``: the guest must
    come to rest, too; not where ``parent`` has a flaw of its own by which it never does.
    """

    name: str
    parent: NmiOps
    cases: tuple[Case, ...]
    done: str
    laws: tuple[Law, ...] = (AT_ONCE, BOTH)
    rests: bool = True

    def __call__(self, answer: object) -> Verdict:
        """Put the function in its place and try every schedule; ``LearnerError`` when it cannot be run."""
        if not isinstance(answer, FunctionType):
            return wrong(f"The answer must be your function `{self.name}`, not {short(answer)}.")
        if answer.__name__ != self.name:
            return wrong(f"The function must be called `{self.name}`, as in KVM, not `{answer.__name__}`.")
        ops = self.policy(answer)
        found = []
        for case in self.cases:
            found.append(self._judged(case, ops))
            if found[-1].broken:
                return broken(found[-1])
            if not found[-1].complete:
                return wrong(f"There is no end of states: {MOST_STATES:,}, and each is new. What keeps growing?")
        states = sum(verdict.states for verdict in found)
        assert found[0].search is not None
        run = Trace(found[0].search.machine(), "Your function at work", ROUNDS)
        return right(f"No schedule breaks a law, and {states:,} states were visited. {self.done}", run)

    def policy(self, answer: FunctionType) -> NmiOps:
        """Return ``parent`` with the learner's function in its place; a trace shows it under its own name."""
        watched = getattr(judge.learned(answer, self.parent), self.name)
        hooks: dict[str, Any] = {self.name: in_the_call_path(watched, YOURS)}
        return self.parent.but(**hooks)

    def _judged(self, case: Case, ops: NmiOps) -> Judged:
        search = case.search(ops)
        try:
            verdict = explore(replace(search, laws=search.laws + self.laws, most=MOST_STATES))
        except judge.LearnerError as error:
            raise in_their_line(error) from error
        except Exception as error:  # KVM stumbled over what the function left behind
            said = f"KVM cannot go on after your function: {type(error).__name__}: {error}."
            raise LearnerError(said, f"def {self.name}(vcpu):") from error
        return verdict if self.rests or verdict.broken is not COMES_TO_REST else replace(verdict, broken=None)


def in_their_line(error: judge.LearnerError) -> LearnerError:
    """Return what the judge says of a function that raised, with the learner's line apart."""
    said, _at, line = str(error).partition(" at line ")
    return LearnerError(f"{said.rstrip(',.')}.", f"line {line}" if line else "")


def in_the_call_path(function: Callable[..., object], source: str) -> Callable[..., object]:
    """Let a trace show a function that is not KVM's own, and what it changed, under its name; ``source`` has it.

    A learner's function has the name of the KVM function that it stands for, and that one's rule stays. Of a learner's
    own, the last one counts: cells are changed and run again.
    """
    name = function.__name__
    id_ = rule_of(name)
    if id_ not in FUNCTIONS or FUNCTIONS[id_].source == source:
        FUNCTIONS[id_] = Rule(id_, _sentence(function.__doc__ or ""), source, "model")

    def call(vcpu: Vcpu, *args: object) -> object:
        if vcpu.cpu.sink is None:
            return function(vcpu, *args)
        vcpu.enter(name, source)
        try:
            return function(vcpu, *args)
        finally:
            vcpu.leave()

    return call


def _sentence(docstring: str) -> str:
    """Return the first line of a function's docstring as a sentence, and one that says so where there is none."""
    first = next(
        (line.strip() for line in docstring.splitlines() if line.strip()), "It has no docstring that says more."
    )
    return first if first.endswith((".", ":", "!", "?")) else f"{first}."


def broken(verdict: Judged) -> Verdict:
    """Return what is said of a policy that breaks a law, with the shortest schedule as its run."""
    law = verdict.broken
    assert law is not None
    endless = law.slug == COMES_TO_REST.slug
    trace = _replayed(verdict, ROUNDS if endless else AFTERWARDS)
    step = trace[_again(trace) if endless else len(verdict.schedule) - 1]
    seen = SEEN.get(law.slug, Seen(law.sentence, law.slug, "kept", "broken"))
    grade = "APM" if law.source.startswith("APM") else "model" if endless else "KVM"
    rule = Rule(law.slug, law.sentence, law.source, grade)
    found = Divergence(step.index, step.text, seen.field, seen.expected, seen.actual, rule)
    more = _returns(trace, step) if law.slug == "not_before_iret" else ""
    return wrong(f"{seen.words}{more} The shortest schedule: {told(verdict.schedule)}.", trace, found)


def _replayed(verdict: Judged, more: int) -> Trace:
    """Return the run of a counterexample and ``more`` steps, or none where the function does not survive these."""
    length, title = len(verdict.schedule), "The shortest schedule that breaks it"
    try:
        return Trace(verdict.replay(), title, length + more)
    except Exception:  # noqa: BLE001 - whatever a wrong function leads to behind the step that is shown
        return Trace(verdict.replay(), title, length)


def _again(trace: Trace) -> int:
    """Return the step at which a run without end does something again: the second exit of its last kind."""
    left = exits(trace)
    last = [step.index for step, event in left if (event.code, event.rip) == (left[-1][1].code, left[-1][1].rip)]
    return last[min(1, len(last) - 1)]


def _returns(trace: Trace, step: Step) -> str:
    """Say where the NMI that came too early will return to, if that is at an IRET or behind one that never ran."""
    line = next((line for line in trace.code if line.address == step.rip), None)
    if line is not None and line.text.startswith("iret"):
        return f" It will return to the `{line.text}` of the first handler, which has not been executed."
    returned = any(iret.index < step.index for iret in irets(trace))
    return "" if returned or line is not None else " The first handler's IRET was never executed."


def told(schedule: tuple[str, ...]) -> str:
    """Return a schedule as a list in words: "1 step, NMI, 6 steps"."""
    parts = [(name, len(list(group))) for name, group in groupby(schedule)]
    return ", ".join(counted(count, name) if name == STEP or count > 1 else name for name, count in parts)
