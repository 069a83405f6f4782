"""Lab 05, blocking rules: its exercises, and by name its predictions."""

from __future__ import annotations

from reprlib import repr as short

from vnmi_lab.checks.answers import STEPS, tabled, text_guest, under_kvm
from vnmi_lab.checks.exercise import Exercise, Wrong
from vnmi_lab.checks.lab03 import GUEST, IN_HANDLER, label_at
from vnmi_lab.checks.lab05_allowed import nmi_allowed
from vnmi_lab.checks.lab05_predictions import (
    GATE_ALONE,
    GATED,
    PREDICTIONS,
    SHADED,
    behind_the_gate,
    gated,
    in_the_shade,
    nested,
    not_for_l2,
    not_in_this_entry,
    shaded,
    the_gate_opens,
    two_in_the_shade,
)
from vnmi_lab.checks.measure import counted, entries, number
from vnmi_lab.checks.prediction import LONGEST
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.checks.standing import Left
from vnmi_lab.hv.profiles import LEGACY, PATCH_V4, POLICIES, VNMI
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import BareMetal, Stimulus
from vnmi_lab.trace import Step, Trace

__all__ = [
    "EXERCISES",
    "GATED",
    "PREDICTIONS",
    "SHADED",
    "behind_the_gate",
    "gated",
    "in_the_shade",
    "nested",
    "nmi_allowed",
    "not_for_l2",
    "not_in_this_entry",
    "returns",
    "shaded",
    "spy",
    "table",
    "the_gate_opens",
    "two_in_the_shade",
    "two_questions",
]

# --- exercise 1 -----------------------------------------------------------------------------------------------------

FOUR = ("blind", "m2", "legacy", "vnmi")
"""Policies that mask NMIs not at all, too briefly, in software, and in the processor."""


def _judge_returns(answer: object) -> Verdict:
    said = tabled(answer, FOUR)
    if isinstance(said, Verdict):
        return said
    places = []
    for policy in FOUR:
        trace = Trace(under_kvm(GUEST, POLICIES[policy], IN_HANDLER), f"Two NMIs under {policy}", LONGEST)
        second = entries(trace)[1]
        label = label_at(trace, second.rip)
        places.append(f"`{label}`")
        if said[policy] != label:
            yours = said[policy] if isinstance(said[policy], str) else short(said[policy])
            found = Divergence.at(
                trace, second.index, "RIP in the frame", expected=yours, actual=label, rule=_MASKED_BY[policy]
            )
            return wrong(f"Under `{policy}` the second handler returns somewhere else.", trace, found)
    return right(f"From {' and '.join(places[:2])} to {' and '.join(places[2:])}: that is what a mask is for.", trace)


_MASKED_BY = {
    "blind": "K-inject_and_forget",
    "m2": "K-unmask_at_iret_exit",
    "legacy": "K-svm_complete_interrupts",
    "vnmi": "R-MASK-VNMI",
}
"""By policy the rule that decides it."""

_RETURNS = 'returns = {{\n    "blind": {},\n    "m2": {},\n    "legacy": {},\n    "vnmi": {},\n}}'

returns = Exercise(
    id="lab05.returns",
    task="Say for each policy to which label the handler of the second NMI returns.",
    variable="returns",
    judge=_judge_returns,
    hints=(
        "RIP in the frame is where the guest was interrupted. Who masks, and until when?",
        (
            "`blind` masks nothing: the second NMI is taken where the kick found the guest. `m2` waits for the exit of "
            "the IRET, and there RIP stands at the IRET. The other two wait until it has completed."
        ),
        'The labels are `"handler"`, `"leave"`, and for both others the place to which the first handler returns.',
    ),
    start=_RETURNS.format("...", "...", "...", "..."),
    good=_RETURNS.format('"handler"', '"leave"', '"work"', '"work"'),
    why="The earlier the mask falls, the deeper the second NMI nests. Only a completed IRET leaves nothing behind.",
    wrong=(
        Wrong(
            "all are right",
            _RETURNS.format('"work"', '"work"', '"work"', '"work"'),
            "Under `blind` the second handler returns somewhere else.",
        ),
        Wrong(
            "m2 is in time",
            _RETURNS.format('"handler"', '"work"', '"work"', '"work"'),
            "Under `m2` the second handler returns somewhere else.",
        ),
        Wrong(
            "one instruction later",
            _RETURNS.format('"handler"', '"leave"', '"more"', '"work"'),
            "Under `legacy` the second handler returns somewhere else.",
        ),
        Wrong(
            "vnmi at an exit",
            _RETURNS.format('"handler"', '"leave"', '"work"', '"rest"'),
            "Under `vnmi` the second handler returns somewhere else.",
        ),
    ),
)

# --- exercise 2 -----------------------------------------------------------------------------------------------------

MACHINES = {"legacy": LEGACY, "vnmi": VNMI}


def _judge_spy(answer: object) -> Verdict:
    guest = text_guest(answer)
    if isinstance(guest, Verdict):
        return guest
    bare = Trace(BareMetal(guest), "Your guest on bare metal", STEPS)
    runs = {name: Trace(under_kvm(guest, ops), f"Your guest under {name}", STEPS * 2) for name, ops in MACHINES.items()}
    endless = next((trace for trace in (bare, *runs.values()) if trace.cut), None)
    if endless is not None:
        found = Divergence.at(endless, len(endless) - 1, "the guest rests", expected="yes", actual="no", rule="R-EXEC")
        return wrong("Your guest never comes to rest. Let it end in `hlt`.", endless, found)
    there = len(entries(bare))
    for name, trace in runs.items():
        here = len(entries(trace))
        if here <= there:
            message = f"On bare metal the handler runs {_often(there)}, under `{name}` {here}: your guest cannot tell."
            expected = f"more than {there}"
            found = Divergence.at(
                trace, len(trace) - 1, "handler runs", expected=expected, actual=here, rule="K-process_nmi"
            )
            return wrong(message, trace, found)
    said = " or ".join(dict.fromkeys(str(len(entries(trace))) for trace in runs.values()))
    return right(f"On bare metal the handler runs {_often(there)}, under KVM {said}: your guest tells.", runs["vnmi"])


def _often(count: int) -> str:
    return counted(count, "time")


_SPY = 'spy = """\nstart:   clgi\n{}         stgi\nrest:    hlt\n"""'
_SELF = "         mov dword [r15], 0x4400\n"

spy = Exercise(
    id="lab05.spy",
    task="Write a guest whose NMI handler runs more often under KVM than on bare metal.",
    variable="spy",
    judge=_judge_spy,
    hints=(
        "The latch of a processor is one deep. KVM lets two wait, if none is in service. When does that show?",
        "When both come while neither can be taken. A closed gate keeps them out, and the mask is not involved.",
        "The instruction that sends an NMI to oneself is `mov dword [r15], 0x4400`. Two of them, in the place of ____.",
    ),
    start=_SPY.format("         ____\n"),
    good=_SPY.format(_SELF * 2),
    why="Behind the closed gate the processor's latch keeps one of the two. KVM's process_nmi does not look at GIF, "
    "counts to two, and delivers both.",
    wrong=(
        Wrong("only one", _SPY.format(_SELF), "On bare metal the handler runs 1 time, under `legacy`"),
        Wrong(
            "the wrong gate",
            _SPY.format(_SELF * 2).replace("clgi", "cli").replace("stgi", "sti"),
            "On bare metal the handler runs 2 times, under `legacy`",
        ),
        Wrong(
            "the gate stays closed",
            _SPY.format(_SELF * 2).replace("         stgi\n", ""),
            "On bare metal the handler runs 0 times, under `legacy`",
        ),
        Wrong(
            "opened in between",
            _SPY.format(f"{_SELF}         stgi\n         clgi\n{_SELF}"),
            "On bare metal the handler runs 2 times, under `legacy`",
        ),
        Wrong("no end", 'spy = "start: jmp start"', "Your guest never comes to rest."),
    ),
)

# --- exercise 3 -----------------------------------------------------------------------------------------------------

BITS: tuple[tuple[int, int], ...] = ((0, 0), (0, 1), (1, 0), (1, 1))
"""V_NMI and V_NMI_MASK."""
ASKED = ("v4", "today")
FUNCTIONS = {"v4": ("K-svm_nmi_blocked_v4", PATCH_V4), "today": ("K-svm_nmi_blocked", VNMI)}
SECOND_HANDLER = 19
"""Steps, arrivals not counted, after which the second handler of ``two_questions`` runs."""


def two_questions() -> Kvm:
    """Let five NMIs come so that KVM has one to look at in each state of V_NMI and V_NMI_MASK, with the gate open."""
    later = [Stimulus(at=at) for at in ("handler", SECOND_HANDLER, "work")]
    return under_kvm(GATE_ALONE, VNMI, [Stimulus(at="closed", times=2), *later])


def moments(trace: Trace) -> dict[tuple[int, int], Step]:
    """Return for each state the first step after which KVM, with an NMI that waits and an open gate, is in it."""
    found: dict[tuple[int, int], Step] = {}
    for step in trace:
        waits = number(step, "nmi_queued") + number(step, "nmi_pending")
        if step.kind == "kvm" and waits and step.state["v_gif"]:
            found.setdefault((number(step, "v_nmi_pending"), number(step, "v_nmi_blocking")), step)
    return found


def answers(trace: Trace, step: Step) -> tuple[int, int]:
    """Ask ``svm_nmi_allowed`` of patch v4 and of today after a step."""
    kvm = trace.goto(step.index + 1)
    assert isinstance(kvm, Kvm)
    return (
        PATCH_V4.nmi_allowed(kvm.vcpu, True),  # noqa: FBT003 - for_injection, as in KVM
        VNMI.nmi_allowed(kvm.vcpu, True),  # noqa: FBT003 - as above
    )


def _judge_table(answer: object) -> Verdict:
    said = tabled(answer, BITS)
    if isinstance(said, Verdict):
        return said
    trace = Trace(two_questions(), "Four states, two questions", LONGEST * 2)
    found = moments(trace)
    for bits in BITS:
        yours, step = said[bits], found[bits]
        if not isinstance(yours, tuple) or len(yours) != len(ASKED):
            return wrong(f"The row {bits} needs two answers, v4's and today's, such as `(1, 0)`, not {short(yours)}.")
        for who, you, is_so in zip(ASKED, yours, answers(trace, step), strict=True):
            if you != is_so:
                rule = FUNCTIONS[who][0]
                field = f"svm_nmi_allowed, {who}"
                where = Divergence.at(trace, step.index, field, expected=short(you), actual=is_so, rule=rule)
                state = f"With V_NMI = {bits[0]} and V_NMI_MASK = {bits[1]}"
                return wrong(f"{state} {_NAMED[who]} answers {is_so}.", trace, where)
    return right(
        "v4 says whether the slot is free. Today's says whether EVENTINJ may be used. One word, two questions.", trace
    )


_NAMED = {"v4": "v4's function", "today": "today's function"}


def _rows(*rows: object) -> str:
    lines = [f"    {bits}: {row},\n" for bits, row in zip(BITS, rows, strict=True)]
    return f"table = {{  # (V_NMI, V_NMI_MASK): (v4, today)\n{''.join(lines)}}}"


table = Exercise(
    id="lab05.table",
    task="Fill in what svm_nmi_allowed of v4 and of today answers in each state: 1 or 0.",
    variable="table",
    judge=_judge_table,
    hints=(
        "Read in the table above which bit each of the two looks at. Neither looks at both.",
        "v4 is blocked while V_NMI is 1, and does not look at V_NMI_MASK. Today's is blocked while V_NMI_MASK is 1.",
        "v4: `1, 1, 0, 0` down its column. Today: `1, 0, 1, 0`.",
    ),
    start=_rows("(..., ...)", "(..., ...)", "(..., ...)", "(..., ...)"),
    good=_rows((1, 1), (1, 0), (0, 1), (0, 0)),
    why="v4 gives NMIs to the slot, so it asks whether the slot is free. Today's gives them to EVENTINJ, which no mask "
    "stops: so it must ask whether one is in service.",
    wrong=(
        Wrong("the same", _rows((1, 1), (0, 0), (1, 1), (0, 0)), "With V_NMI = 0 and V_NMI_MASK = 1 v4's function"),
        Wrong("either bit", _rows((1, 1), (1, 0), (0, 0), (0, 0)), "With V_NMI = 1 and V_NMI_MASK = 0 today's"),
        Wrong("exchanged", _rows((1, 1), (0, 1), (1, 0), (0, 0)), "With V_NMI = 0 and V_NMI_MASK = 1 v4's function"),
        Wrong("never both", _rows((1, 1), (1, 0), (0, 1), (0, 1)), "With V_NMI = 1 and V_NMI_MASK = 1 today's"),
    ),
)

EXERCISES = (returns, spy, table, nmi_allowed)
left = Left(PREDICTIONS, EXERCISES)
