"""Lab 04, vNMI: its exercises, and by name its predictions."""

from __future__ import annotations

from reprlib import repr as short

from vnmi_lab.checks.answers import STEPS, nmis
from vnmi_lab.checks.costs import NAMES
from vnmi_lab.checks.exercise import Exercise, Wrong, variant
from vnmi_lab.checks.hooks import Hook
from vnmi_lab.checks.lab03 import name_of
from vnmi_lab.checks.lab04_predictions import (
    CALLS,
    NMI_WORD,
    PREDICTIONS,
    TALKS,
    V_NMI,
    V_NMI_ENABLE,
    V_NMI_MASK,
    behind_the_iret,
    both,
    extra,
    mailbox,
    no_exit,
    no_intercept,
    old_way,
    one_nmi,
    side_by_side,
    two_doors,
    written_back,
)
from vnmi_lab.checks.lab04_way import exercise as way
from vnmi_lab.checks.measure import counted, depth, entries, exits
from vnmi_lab.checks.prediction import LONGEST
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.checks.standing import Left
from vnmi_lab.guest import Guest
from vnmi_lab.hv.profiles import VNMI
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.hw.vmcb import IntCtl
from vnmi_lab.judge import CHEAP, MOVED
from vnmi_lab.machine import Host
from vnmi_lab.trace import Step, Trace

__all__ = [
    "CALLS",
    "EXERCISES",
    "NMI_WORD",
    "PREDICTIONS",
    "TALKS",
    "V_NMI",
    "V_NMI_ENABLE",
    "V_NMI_MASK",
    "behind_the_iret",
    "both",
    "extra",
    "four_more",
    "in_service",
    "int_ctl",
    "mailbox",
    "no_exit",
    "no_intercept",
    "old_way",
    "one_nmi",
    "process_nmi",
    "side_by_side",
    "two_doors",
    "way",
    "written_back",
]

# --- exercise 1 -----------------------------------------------------------------------------------------------------

WIDTH = 64


def _talking(word: int | None, *, intercept: bool = True) -> Host:
    """Let a host put an NMI in service, and then, when the guest calls from its handler, write int_ctl and go on."""
    host = Host(Guest.of(CALLS, {2: TALKS}))
    host.do("icpt", "nmi")
    host.do("ctl+", V_NMI_ENABLE)
    host.do("inj", NMI_WORD)
    host.do("run")
    if word is not None:
        host.do("set", "int_ctl", word)
        if not intercept:
            host.do("noicpt", "nmi")
        host.do("run", budget=STEPS)
        host.do("run", budget=STEPS)
    return host


def in_service() -> Host:
    """Return a host whose guest calls from its NMI handler, entered with virtual NMIs enabled."""
    return _talking(None)


def _judge_int_ctl(answer: object) -> Verdict:
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < 1 << WIDTH:
        return wrong(f"`int_ctl` must be a number of at most 64 bits, not {short(answer)}.")
    trace = Trace(_talking(answer).fresh(), f"int_ctl = {answer:08X}h", STEPS)
    mistake = _strange(answer) or _not_so(trace, entries(trace), answer)
    if mistake is not None:
        return mistake
    without = exit_name(exits(Trace(_talking(answer, intercept=False).fresh(), "", STEPS))[-1][1].code)
    return right(
        f"The second NMI waits, and is taken directly behind the first one's IRET. int_ctl = {answer:08X}h. "
        f"With the NMI intercept off, the same word gives {without}: the machine tried that too.",
        trace,
    )


def _not_so(trace: Trace, runs: list[Step], word: int) -> Verdict | None:
    """Say what is wrong with what the guest did, if anything."""
    entered = [step.index for step in trace if step.kind == "vmrun"][1]
    if not word & V_NMI_ENABLE:
        found = Divergence.at(trace, entered, "V_NMI_ENABLE", expected=1, actual=0, rule="R-VMRUN-VNMI")
        return wrong("The processor does not look at the other two bits: virtual NMIs are not enabled.", trace, found)
    if len(runs) == 1:
        found = Divergence.at(trace, entered, "V_NMI", expected=1, actual=0, rule="R-VMRUN-VNMI")
        return wrong("No second NMI was taken: none is queued.", trace, found)
    if depth(runs[1]) > 1:
        found = Divergence.at(trace, runs[1].index, "handler_depth", expected=1, actual=2, rule="R-MASK-VNMI")
        return wrong("The second NMI nested: the processor did not know that one is in service.", trace, found)
    return None


def _strange(word: int) -> Verdict | None:
    """Refuse bits that have nothing to do with virtual NMIs."""
    more = word & ~(V_NMI | V_NMI_MASK | V_NMI_ENABLE)
    if not more:
        return None
    bits = ", ".join(str(bit) for bit in range(WIDTH) if more >> bit & 1)
    known = [name for name, value in IntCtl(more).named().items() if value]
    names = f" ({', '.join(known)})" if known else ""
    return wrong(f"Bits {bits}{names} have nothing to do with this task; leave them 0.")


int_ctl = Exercise(
    id="lab04.int_ctl",
    task="Write the int_ctl of a guest with one NMI in service and one queued.",
    variable="int_ctl",
    judge=_judge_int_ctl,
    hints=(
        (
            "Three bits: one that says that an NMI is queued, one that says that one is in service, and one without "
            "which the processor looks at neither."
        ),
        "Bits 11, 12 and 26. `1 << 11` is a number with bit 11 set; join them with `|`.",
        "`1 << 11 | 1 << 12 | 1 << 26`, which is 04001800h.",
    ),
    start="int_ctl = ...",
    good="int_ctl = 1 << 11 | 1 << 12 | 1 << 26",
    why="V_NMI for the one that is queued, V_NMI_MASK for the one in service, V_NMI_ENABLE for both: 04001800h.",
    wrong=(
        Wrong("not enabled", "int_ctl = 1 << 11 | 1 << 12", "The processor does not look at the other two bits"),
        Wrong("nothing queued", "int_ctl = 1 << 12 | 1 << 26", "No second NMI was taken"),
        Wrong("nothing in service", "int_ctl = 1 << 11 | 1 << 26", "The second NMI nested"),
        Wrong("one bit too many", "int_ctl = 0x06001800", "Bits 25 (v_gif_enable) have nothing to do with this task"),
    ),
)

# --- exercise 2 -----------------------------------------------------------------------------------------------------

_GOOD = """def process_nmi(vcpu):
    busy = vcpu.ops.get_nmi_mask(vcpu) or vcpu.nmi_injected
    limit = 1 if busy else 2
    if vcpu.ops.is_vnmi_pending(vcpu):
        limit -= 1
    vcpu.nmi_pending = min(vcpu.nmi_pending + vcpu.nmi_queued, limit)
    vcpu.nmi_queued = 0
    if vcpu.nmi_pending and vcpu.ops.set_vnmi_pending(vcpu):
        vcpu.nmi_pending -= 1
    if vcpu.nmi_pending:
        vcpu.make_request(REQ_EVENT)
"""


_SLOT = "    if vcpu.ops.is_vnmi_pending(vcpu):\n        limit -= 1\n"
_LOOK = "    if vcpu.nmi_pending:\n        vcpu.make_request(REQ_EVENT)\n"
_KEEP = " and vcpu.ops.set_vnmi_pending(vcpu):\n        vcpu.nmi_pending -= 1"
_KEPT = ":\n        vcpu.ops.set_vnmi_pending(vcpu)"
_HAND_OVER = "    if vcpu.nmi_pending and vcpu.ops.set_vnmi_pending(vcpu):\n        vcpu.nmi_pending -= 1\n"

process_nmi = Exercise(
    id="lab04.process_nmi",
    task="Write process_nmi: how many NMIs are accepted, and which of them goes into the processor's slot.",
    variable="process_nmi",
    judge=Hook(
        "process_nmi",
        VNMI,
        (CHEAP, MOVED),
        "Three before an entry give two, any number in a handler give one more, no IRET or #DB exit is spent, and a "
        "vCPU may be saved and restored at any stop.",
    ),
    hints=(
        (
            "First the limit. Two may wait when none is in service, one when one is. And if one sits in the "
            "processor's slot already, that is one fewer."
        ),
        (
            "Accept with `min(vcpu.nmi_pending + vcpu.nmi_queued, limit)`. Then hand one over: `set_vnmi_pending` says "
            "True when it took it, and then it does not wait in `nmi_pending` any more."
        ),
        "If one is left in `nmi_pending` after that, it must go by EVENTINJ: `vcpu.make_request(REQ_EVENT)`.",
    ),
    start=(
        "def process_nmi(vcpu):\n"
        "    limit = ...  # how many may wait\n"
        "    vcpu.nmi_pending = min(vcpu.nmi_pending + vcpu.nmi_queued, limit)\n"
        "    vcpu.nmi_queued = 0\n"
        "    ...  # hand one over; ask for a look if one is left\n\n"
    ),
    good=_GOOD,
    why="Slot and queue share one limit, so no more wait than bare metal remembers. What is left goes by EVENTINJ.",
    wrong=(
        Wrong("the slot is not counted", variant(_GOOD, (_SLOT, "")), "An NMI waits in `nmi_pending`"),
        Wrong("always two", variant(_GOOD, ("1 if busy else 2", "2")), "An NMI waits in `nmi_pending`"),
        Wrong("always one", variant(_GOOD, ("1 if busy else 2", "1")), "One NMI too few"),
        Wrong("never handed over", variant(_GOOD, (_HAND_OVER, "")), "An NMI waits in `nmi_pending`"),
        Wrong("handed over and kept", variant(_GOOD, (_KEEP, _KEPT)), "One NMI too many"),
        Wrong("nobody looks", variant(_GOOD, (_LOOK, "")), "An NMI waits in `nmi_pending`"),
        Wrong("the queue is kept", variant(_GOOD, ("    vcpu.nmi_queued = 0\n", "")), "One NMI too many"),
    ),
)

# --- exercise 3 -----------------------------------------------------------------------------------------------------

MOST, DELIVERED, DEAR = 6, 3, 4


def _judge_dear(answer: object) -> Verdict:
    stimuli = nmis(answer, MOST)
    if isinstance(stimuli, Verdict):
        return stimuli
    machines = both(stimuli)
    legacy, vnmi = (Trace(machine, f"Your NMIs: {NAMES[machine.ops.name]}", LONGEST * 3) for machine in machines)
    taken = len(entries(legacy)), len(entries(vnmi))
    if taken != (DELIVERED, DELIVERED):
        message = (
            f"IRET interception delivers {counted(taken[0], 'NMI')}, vNMI {taken[1]}; the task is {DELIVERED} each."
        )
        step = entries(legacy)[DELIVERED] if taken[0] > DELIVERED else legacy[-1]
        found = Divergence.at(
            legacy, step.index, "handler runs", expected=DELIVERED, actual=taken[0], rule="K-process_nmi"
        )
        return wrong(message, legacy, found if taken[0] != DELIVERED else None)
    spent = extra(legacy)
    names = ", ".join(name_of(int(step.state["exit_code"] or 0)) for step in spent)
    more = len(spent) - len(extra(vnmi))
    if more == DEAR:
        return right(
            f"IRET interception spends {names}; vNMI spends none of them, and delivers the same three.", legacy
        )
    found = Divergence.at(
        legacy, spent[-1].index, "extra exits", expected=DEAR, actual=more, rule="K-iret_interception"
    )
    return wrong(f"IRET interception spends {more} exits more: {names}. The task is {DEAR}.", legacy, found)


four_more = Exercise(
    id="lab04.four_more",
    task="Place NMIs so that three are delivered, and IRET interception spends exactly four exits more than vNMI.",
    variable="stimuli",
    judge=_judge_dear,
    hints=(
        "Every NMI that is delivered costs IRET interception an exit: three. Where does a fourth exit come from?",
        "A #DB exit is spent for an NMI that had to wait for the IRET of another. Exactly one of the three must wait.",
        "One at `work`, one at `handler`, which waits; and one at `done`, when all is over.",
    ),
    start='stimuli = [Stimulus(at="work"), ...]',
    good='stimuli = [Stimulus(at="work"), Stimulus(at="handler"), Stimulus(at="done")]',
    why="Three IRET exits, and one #DB for the NMI that had to wait: D + W = 3 + 1.",
    wrong=(
        Wrong(
            "nobody waits",
            'stimuli = [Stimulus(at="work"), Stimulus(at="more"), Stimulus(at="done")]',
            "IRET interception spends 3 exits more: IRET, IRET, IRET.",
        ),
        Wrong("all at once", 'stimuli = [Stimulus(at="work", times=3)]', "IRET interception delivers 2 NMIs, vNMI 2;"),
        Wrong(
            "four are delivered",
            'stimuli = [Stimulus(at=place) for place in ("start", "work", "more", "done")]',
            "IRET interception delivers 4 NMIs, vNMI 4;",
        ),
        Wrong("many", 'stimuli = [Stimulus(at="work", times=9)]', "You send 9 NMIs; the task is to use at most 6."),
    ),
)

EXERCISES = (int_ctl, way, four_more, process_nmi)
left = Left(PREDICTIONS, EXERCISES)
