"""Lab 07, write it yourself: its exercises, and by name its predictions and its hypervisors on the way."""

from __future__ import annotations

from vnmi_lab.checks import lab04
from vnmi_lab.checks.answers import bare_metal, nmis, under_kvm
from vnmi_lab.checks.costs import Costs, costs
from vnmi_lab.checks.exercise import Exercise, Wrong, variant
from vnmi_lab.checks.hooks import AT_AN_OPEN_DOOR, AT_ONCE, BOTH, NO_NEEDLESS_STEP, Hook
from vnmi_lab.checks.lab03 import GUEST, HANDLER, IN_HANDLER, PROGRAM
from vnmi_lab.checks.lab07_predictions import (
    PREDICTIONS,
    nobody_asks,
    nothing_exits,
    round_and_round,
    too_late,
)
from vnmi_lab.checks.lab07_stages import OVERFULL, STAGES, Found, breaks
from vnmi_lab.checks.lab07_whole import Whole, put_together
from vnmi_lab.checks.measure import counted, entries
from vnmi_lab.checks.prediction import LONGEST
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.checks.standing import Left
from vnmi_lab.guest import IDT
from vnmi_lab.hv.calls import rule_of
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.judge import CHEAP, GIF, Case
from vnmi_lab.laws import LAWS, NO_EXITS
from vnmi_lab.rules import Switches
from vnmi_lab.scenario import at_once
from vnmi_lab.trace import Trace

__all__ = [
    "EXERCISES",
    "PREDICTIONS",
    "STAGES",
    "Found",
    "Whole",
    "break_it",
    "breaks",
    "complete_interrupts",
    "enable_nmi_window",
    "hypervisor",
    "left",
    "nmi_allowed",
    "nobody_asks",
    "nothing_exits",
    "price",
    "process_nmi",
    "round_and_round",
    "set_vnmi_pending",
    "too_late",
]

# Two NMIs tell these hooks apart, and a search with two is over before one notices.
AT_WORK = Case("idle", 2, {"laws": (*LAWS, AT_ONCE)})
CLOSED = Case("idle-gif", 2)
SHADOWED = Case("idle-shadow", 2, {"absent": (0,)})
NO_IDT = Case("idle", 2, {"absent": (IDT,)})
SPARING = Case("idle", 2, {"laws": (*LAWS, *NO_EXITS)})
KEPT = Case("idle", 2, {"switches": Switches(caching=True)})
OLD = Case("idle", 2, {"features": Features(vnmi_cpuid=False)})
DOORS = (AT_AN_OPEN_DOOR, BOTH)


def _variants(good: str, *rows: tuple[str, tuple[tuple[str, str], ...], str]) -> tuple[Wrong, ...]:
    """Return wrong answers: each is the good one with changes, all of which must apply."""
    return tuple(Wrong(name, variant(good, *changes), message) for name, changes, message in rows)


# --- exercise 1 -----------------------------------------------------------------------------------------------------

_ALLOWED = """def nmi_allowed(vcpu, for_injection):
    gif = vcpu.vmcb.int_ctl.v_gif
    shadow = vcpu.vmcb.int_state.interrupt_shadow
    masked = vcpu.ops.get_nmi_mask(vcpu)
    return {}
"""

nmi_allowed = Exercise(
    id="lab07.nmi_allowed",
    task="Write nmi_allowed: 1 when an NMI may be injected now, 0 when it may not.",
    variable="nmi_allowed",
    judge=Hook(
        "nmi_allowed",
        LEGACY,
        (AT_WORK, CLOSED, SHADOWED),
        "In the handler, with GIF 0 and in the shadow of an STI: nothing was injected where it would have had to wait.",
        DOORS,
    ),
    hints=(
        "EVENTINJ looks at nothing. Whatever would hold an NMI back on bare metal, you have to ask for here.",
        "Three things hold it back, and each of them is enough: the mask, a shadow, and GIF if it is 0.",
        "`return int(gif and not shadow and not masked)`.",
    ),
    start=_ALLOWED.format("...  # 1 or 0") + "\n",
    good=_ALLOWED.format("int(gif and not shadow and not masked)"),
    why="The mask, a shadow or a GIF of 0 hold an NMI back on bare metal; injection would walk through all three.",
    wrong=(
        Wrong(
            "the mask is not asked", _ALLOWED.format("int(gif and not shadow)"), "Two NMIs nest: the second is taken"
        ),
        Wrong(
            "the shadow is not asked", _ALLOWED.format("int(gif and not masked)"), "An NMI is injected where bare metal"
        ),
        Wrong("GIF is not asked", _ALLOWED.format("int(not shadow and not masked)"), "An NMI is injected where bare"),
        Wrong("only the mask counts", _ALLOWED.format("int(masked)"), "An NMI waits in `nmi_pending`, no other"),
        Wrong("never", _ALLOWED.format("0"), "An NMI waits in `nmi_pending`, no other"),
    ),
)

# --- exercise 2 -----------------------------------------------------------------------------------------------------

_COMPLETE = """def complete_interrupts(vcpu):
    if vcpu.awaiting_iret_completion and vcpu.vmcb.rip != vcpu.nmi_iret_rip:
        vcpu.awaiting_iret_completion = False
        vcpu.nmi_masked = False
        vcpu.make_request(REQ_EVENT)
    vcpu.nmi_injected = bool(vcpu.vmcb.exit_int_info.valid)
    if vcpu.nmi_injected:
        vcpu.make_request(REQ_EVENT)
"""
_AGAIN = "    if vcpu.nmi_injected:\n        vcpu.make_request(REQ_EVENT)\n"

complete_interrupts = Exercise(
    id="lab07.complete_interrupts",
    task="Write complete_interrupts: unmask when the IRET is over, and keep an NMI that was not delivered.",
    variable="complete_interrupts",
    judge=Hook(
        "complete_interrupts",
        LEGACY,
        (AT_WORK, NO_IDT),
        "NMIs came between the IRET's exit and the IRET, and deliveries broke off because a page was not there.",
        (BOTH,),
    ),
    hints=(
        "Two questions, at every exit. Has the IRET that exited been executed? Has the NMI that was injected arrived?",
        (
            "The first: `awaiting_iret_completion`, and RIP is another than `nmi_iret_rip`. The second: "
            "`exit_int_info.valid` is 1 when it has *not* arrived, and then it stays `nmi_injected`."
        ),
        (
            "When the IRET is over: `awaiting_iret_completion` and `nmi_masked` to False. Then `vcpu.nmi_injected = "
            "bool(vcpu.vmcb.exit_int_info.valid)`. In both cases somebody must look: `vcpu.make_request(REQ_EVENT)`."
        ),
    ),
    start=(
        "def complete_interrupts(vcpu):\n"
        "    ...  # is the IRET over? Then no NMI is in service\n"
        "    vcpu.nmi_injected = False  # what was injected has arrived\n"
        "    ...  # or has it not?\n\n"
    ),
    good=_COMPLETE,
    why="RIP tells that the IRET has been executed, EXITINTINFO that an injected NMI has not arrived. Both ask for "
    "a look.",
    wrong=_variants(
        _COMPLETE,
        ("RIP is not compared", ((" and vcpu.vmcb.rip != vcpu.nmi_iret_rip", ""),), "Two NMIs nest"),
        ("the mask stays", (("        vcpu.nmi_masked = False\n", ""),), "An NMI waits in `nmi_pending`, no other"),
        (
            "what has not arrived is forgotten",
            ((_AGAIN, ""), ("bool(vcpu.vmcb.exit_int_info.valid)", "False")),
            "An NMI is lost",
        ),
        ("nobody looks", ((_AGAIN, ""),), "An NMI is lost"),
    ),
)

# --- exercise 3 -----------------------------------------------------------------------------------------------------

_WINDOW = """def enable_nmi_window(vcpu):
    masked = vcpu.ops.get_nmi_mask(vcpu)
    if masked and not vcpu.awaiting_iret_completion:
        return
    if vcpu.vmcb.int_ctl.v_gif:
        borrow_step(vcpu)
    else:
        vcpu.vmcb.intercept("stgi")
"""

_EXITS_BY_ITSELF = "    if masked and not vcpu.awaiting_iret_completion:\n        return\n"

enable_nmi_window = Exercise(
    id="lab07.enable_nmi_window",
    task="Write enable_nmi_window: see to it that the guest exits as soon as the NMI that waits may be injected.",
    variable="enable_nmi_window",
    judge=Hook(
        "enable_nmi_window",
        LEGACY,
        (AT_WORK, CLOSED, SHADOWED),
        "Whatever an NMI had to wait for, it was taken at the first moment at which it could be.",
        (*DOORS, NO_NEEDLESS_STEP),
    ),
    hints=(
        (
            "What does the NMI wait for? For an IRET that will exit, for an IRET that has exited, for the end of a "
            "shadow, or for GIF. Which of these bring an exit by themselves?"
        ),
        (
            "Only the first: masked, and not yet `awaiting_iret_completion`. There is nothing to do. For GIF the "
            "instruction to wait for is `stgi`, and it can be intercepted. For the others one step is enough."
        ),
        (
            "`if masked and not vcpu.awaiting_iret_completion: return`; then `borrow_step(vcpu)` when "
            '`vcpu.vmcb.int_ctl.v_gif` is 1, else `vcpu.vmcb.intercept("stgi")`.'
        ),
    ),
    start=("def enable_nmi_window(vcpu):\n    masked = vcpu.ops.get_nmi_mask(vcpu)\n    ...\n\n"),
    good=_WINDOW,
    why="The IRET's exit comes by itself. For GIF there is the STGI intercept, for all else one borrowed step.",
    wrong=_variants(
        _WINDOW,
        ("it always waits for the IRET", ((" and not vcpu.awaiting_iret_completion", ""),), "An NMI waits in"),
        ("GIF brings no exit", (('vcpu.vmcb.intercept("stgi")', "return"),), "An NMI waits in `nmi_pending`, it may"),
        ("each instruction is stepped", ((_EXITS_BY_ITSELF, ""),), "The guest is single-stepped, and what it waits"),
        ("nothing is stepped", (("borrow_step(vcpu)", "return"),), "An NMI waits in `nmi_pending`, no other"),
    ),
)

# --- exercise 4 -----------------------------------------------------------------------------------------------------

_HAND_OVER = """def set_vnmi_pending(vcpu):
    bits = vcpu.vmcb.int_ctl
    if not bits.v_nmi_enable or bits.v_nmi_pending:
        return False
    vcpu.vmcb.update("int_ctl", v_nmi_pending=1)
    return True
"""

set_vnmi_pending = Exercise(
    id="lab07.set_vnmi_pending",
    task="Write set_vnmi_pending: put one NMI into the processor's slot, and say whether it took it.",
    variable="set_vnmi_pending",
    judge=Hook(
        "set_vnmi_pending",
        VNMI,
        (SPARING, CLOSED, KEPT, OLD),
        "With GIF 0, on a processor that keeps int_ctl from entry to entry, and on one without vNMI: none was lost.",
        (BOTH,),
    ),
    hints=(
        "When is there no room for an NMI? Once when the slot is taken, and once when there is no slot at all.",
        "`v_nmi_enable` is 1 when there is a slot, `v_nmi_pending` when it is taken. Answer False or True.",
        (
            "`if not bits.v_nmi_enable or bits.v_nmi_pending: return False`, then "
            '`vcpu.vmcb.update("int_ctl", v_nmi_pending=1)` and `return True`.'
        ),
    ),
    start=(
        "def set_vnmi_pending(vcpu):\n"
        "    bits = vcpu.vmcb.int_ctl  # bits.v_nmi_enable, bits.v_nmi_pending\n"
        "    ...\n\n"
    ),
    good=_HAND_OVER,
    why="The slot has room for one, and only where there is a slot. `update` also clears the clean bit of int_ctl.",
    wrong=_variants(
        _HAND_OVER,
        ("there is always room", ((" or bits.v_nmi_pending", ""),), "One NMI too few"),
        (
            "there is always a slot",
            (("not bits.v_nmi_enable or ", ""),),
            "The guest is at rest, and an NMI is left over.",
        ),
        ("handed over and kept", (("return True", "return False"),), "One NMI too many"),
        (
            "the processor is not told",
            (('vcpu.vmcb.update("int_ctl", v_nmi_pending=1)', 'vcpu.vmcb.store("int_ctl", bits | 1 << 11)'),),
            "An NMI is lost",
        ),
        ("nothing is put in", (('    vcpu.vmcb.update("int_ctl", v_nmi_pending=1)\n', ""),), "An NMI is lost"),
    ),
)

# --- exercise 5 -----------------------------------------------------------------------------------------------------

process_nmi = Exercise(
    id="lab07.process_nmi",
    task="Write process_nmi, from memory: accept what is queued, hand one over, ask for a look at what is left.",
    variable="process_nmi",
    judge=Hook(
        "process_nmi",
        VNMI,
        (CHEAP, GIF),
        "Three NMIs were let in at every moment there is, with GIF 1 and with GIF 0.",
    ),
    hints=(
        "How many may wait? Two when none is in service or on its way, else one. The slot counts, too.",
        (
            "`min(nmi_pending + nmi_queued, limit)` are accepted, and nothing is left in `nmi_queued`. Then "
            "`set_vnmi_pending` takes one, or says False."
        ),
        "Lab 04, exercise 3, has it: `lab.process_nmi.solution()` shows it again.",
    ),
    start=(
        "def process_nmi(vcpu):\n    ops = vcpu.ops  # get_nmi_mask, is_vnmi_pending, set_vnmi_pending\n    ...\n\n"
    ),
    good=lab04.process_nmi.good,
    why=lab04.process_nmi.why,
    wrong=tuple(w for w in lab04.process_nmi.wrong if w.name != "never handed over"),
)

# --- exercise 6 -----------------------------------------------------------------------------------------------------

MOST = 3
ACCEPTS = rule_of("two_at_any_time")


def _judge_break_it(answer: object) -> Verdict:
    stimuli = nmis(answer, MOST)
    if isinstance(stimuli, Verdict):
        return stimuli
    if not all(isinstance(stimulus.at, str) for stimulus in stimuli):
        return wrong("Say by labels where they arrive: a number of steps is another moment on bare metal.")
    trace = Trace(under_kvm(GUEST, OVERFULL, stimuli), "Your NMIs", LONGEST * 2)
    bare = Trace(bare_metal(GUEST, list(at_once(GUEST, tuple(stimuli), Switches()))), "On bare metal", LONGEST)
    runs, right_ones = entries(trace), len(entries(bare))
    if len(runs) > right_ones:
        return right(f"The guest takes {counted(len(runs), 'NMI')}; on bare metal it would take {right_ones}.", trace)
    sent = sum(stimulus.times for stimulus in stimuli)
    at = runs[-1].index if runs else len(trace) - 1
    found = Divergence.at(trace, at, "handler runs", expected=right_ones + 1, actual=len(runs), rule=ACCEPTS)
    words = f"Of {counted(sent, 'NMI')} the guest takes {len(runs)}, as many as on bare metal: no harm was done."
    return wrong(words, trace, found)


break_it = Exercise(
    id="lab07.break_it",
    task="Place three NMIs so that the guest takes more of them than on bare metal.",
    variable="attack",
    judge=_judge_break_it,
    hints=(
        "On bare metal two NMIs become two and three can become two: when do two of them merge into one?",
        "While one is in service, all that arrive merge into one. This hypervisor lets two of them wait.",
        "One at `work`; two more when its handler is entered, at `handler`.",
    ),
    start='attack = [Stimulus(at="work"), ...]',
    good='attack = [Stimulus(at="work"), Stimulus(at="handler", times=2)]',
    why="While one is in service one more is remembered. Two were, and both came.",
    wrong=(
        Wrong("one in the handler", 'attack = [Stimulus(at="work"), Stimulus(at="handler")]', "Of 2 NMIs the guest"),
        Wrong("three at once", 'attack = [Stimulus(at="work", times=3)]', "Of 3 NMIs the guest takes 2"),
        Wrong(
            "one after the other",
            'attack = [Stimulus(at="work"), Stimulus(at="more"), Stimulus(at="done")]',
            "Of 3 NMIs the guest takes 3",
        ),
        Wrong("by number", "attack = [Stimulus(at=2), Stimulus(at=8, times=2)]", "Say by labels"),
        Wrong("many", 'attack = [Stimulus(at="work", times=9)]', "You send 9 NMIs; the task is to use at most 3."),
    ),
)

EXERCISES = (nmi_allowed, complete_interrupts, enable_nmi_window, set_vnmi_pending, process_nmi, break_it)
left = Left(PREDICTIONS, EXERCISES)


def hypervisor(*functions: object) -> Whole:
    """Put what the learner wrote into one hypervisor, on two processors, and let the judge try it everywhere."""
    return put_together(functions, EXERCISES)


def price() -> Costs:
    """Count what the finished hypervisor spends: two NMIs, the second in the handler of the first."""
    return costs(PROGRAM, HANDLER, IN_HANDLER, ("legacy", "vnmi"))
