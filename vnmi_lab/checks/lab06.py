"""Lab 06, when delivery fails: its exercises, and by name its predictions."""

from __future__ import annotations

from reprlib import repr as short

from vnmi_lab.checks.answers import listed, tabled, under_kvm
from vnmi_lab.checks.exercise import Exercise, Wrong, variant
from vnmi_lab.checks.hooks import Hook
from vnmi_lab.checks.lab03 import exit_of, next_step
from vnmi_lab.checks.lab06_predictions import (
    FAR_HANDLER,
    PREDICTIONS,
    STOPPING,
    STOPS,
    WORKS,
    delivered_late,
    forgotten,
    half_way,
    left_behind,
    moved,
    reported,
    returns_late,
    token,
    token_legacy,
    token_moved,
    twice,
    where_now,
)
from vnmi_lab.checks.measure import counted, depth, entries, number
from vnmi_lab.checks.places import PLACES, follow
from vnmi_lab.checks.prediction import LONGEST
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.checks.standing import Left
from vnmi_lab.guest import IDT, STACK
from vnmi_lab.hv.profiles import PATCH_V4, VNMI
from vnmi_lab.judge import NPF, Case
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Stimulus
from vnmi_lab.trace import Trace

__all__ = [
    "EXERCISES",
    "FAR_HANDLER",
    "PREDICTIONS",
    "STOPS",
    "WORKS",
    "complete_interrupts",
    "delivered_late",
    "forgotten",
    "half_way",
    "left",
    "left_behind",
    "move",
    "moved",
    "reported",
    "returns_late",
    "token",
    "token_legacy",
    "token_moved",
    "twice",
    "visited",
    "where_now",
    "words",
]

# --- exercise 1 -----------------------------------------------------------------------------------------------------

FIELDS = {
    "EXITINTINFO": ("exit_int_info", "R-EXITINTINFO"),
    "V_NMI": ("v_nmi_pending", "R-VNMI-TAKE"),
    "V_NMI_MASK": ("v_nmi_blocking", "R-VNMI-EXIT"),
    "EVENTINJ": ("event_inj", "K-svm_inject_nmi"),
}
"""By name the field of the state, and the rule that makes it so."""
BOTH_SIDES = {"EVENTINJ": "At the next VMRUN"}


def _judge_words(answer: object) -> Verdict:
    said = tabled(answer, FIELDS)
    if isinstance(said, Verdict):
        return said
    trace = Trace(delivered_late().fresh(), "One NMI, and a page that is missing", LONGEST)
    gone = exit_of(trace, "NPF")
    steps = dict.fromkeys(FIELDS, gone) | {"EVENTINJ": next_step(trace, "vmrun", gone)}
    for name, (field, rule) in FIELDS.items():
        yours, is_so = said[name], number(steps[name], field)
        if yours != is_so:
            when = BOTH_SIDES.get(name, "At the exit")
            found = Divergence.at(
                trace, steps[name].index, name, expected=_written(yours), actual=_written(is_so), rule=rule
            )
            return wrong(f"{when} {name} is something else.", trace, found)
    return right("The event is in EXITINTINFO and nowhere else, until KVM has written it to EVENTINJ.", trace)


def _written(value: object) -> str:
    """Return a number as the manuals write it, anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        return short(value)
    return str(value) if value < 2 else f"{value:08X}h"  # noqa: PLR2004 - a bit is written as it is


def _table(*values: str) -> str:
    lines = [f'    "{name}": {value},\n' for name, value in zip(FIELDS, values, strict=True)]
    return f"words = {{\n{''.join(lines)}}}"


words = Exercise(
    id="lab06.words",
    task="Write down four values: the first three as the exit leaves them, EVENTINJ as the next VMRUN finds it.",
    variable="words",
    judge=_judge_words,
    hints=(
        "At the exit the NMI is in one of the three, and the other two are bits that no longer know of it.",
        (
            "An event word: bit 31 says valid, bits 10 to 8 are the type, 2 for an NMI, bits 7 to 0 the vector. The "
            "processor fills in the vector of an NMI it took by itself. KVM writes an NMI with the vector 0."
        ),
        "`0x80000202` with a vector, `0x80000200` without one, and 0 for both bits.",
    ),
    start=_table("...", "...", "...", "..."),
    good=_table("0x80000202", "0", "0", "0x80000200"),
    why="V_NMI went when the NMI was recognized, and V_NMI_MASK is saved as 0, for no handler has begun.",
    wrong=(
        Wrong(
            "no vector",
            _table("0x80000200", "0", "0", "0x80000200"),
            "At the exit EXITINTINFO is something else.",
        ),
        Wrong("put back", _table("0x80000202", "1", "0", "0x80000200"), "At the exit V_NMI is something else."),
        Wrong("in service", _table("0x80000202", "0", "1", "0x80000200"), "At the exit V_NMI_MASK is something else."),
        Wrong("copied", _table("0x80000202", "0", "0", "0x80000202"), "At the next VMRUN EVENTINJ is something else."),
    ),
)

# --- exercise 2 -----------------------------------------------------------------------------------------------------

_GOOD = """def complete_interrupts(vcpu):
    event = vcpu.vmcb.exit_int_info
    vcpu.nmi_injected = False
    if event.valid and event.type == 2:
        vcpu.nmi_injected = True
        vcpu.make_request(REQ_EVENT)
"""
_CLEAR = "    vcpu.nmi_injected = False\n"
_AGAIN = "        vcpu.nmi_injected = True\n"
_LOOK = "        vcpu.make_request(REQ_EVENT)\n"
_IF = "    if event.valid and event.type == 2:\n"


complete_interrupts = Exercise(
    id="lab06.complete_interrupts",
    task="Write the part of svm_complete_interrupts that puts an interrupted NMI back.",
    variable="complete_interrupts",
    judge=Hook(
        "complete_interrupts",
        VNMI,
        (NPF._replace(nmis=1), NPF, Case("idle", 3, {"absent": (IDT, STACK - 8)})),
        "Deliveries failed at the IDT, at the stack and at both, and every NMI arrived once.",
    ),
    hints=(
        "At every exit, what was on its way has been delivered, or EXITINTINFO says that it has not. Look there.",
        (
            "If the word is valid and its type is 2, an NMI is still on its way: `nmi_injected` must be True again. "
            "And KVM injects only when it looks."
        ),
        (
            "`if event.valid and event.type == 2:`, and in it `vcpu.nmi_injected = True` and "
            "`vcpu.make_request(REQ_EVENT)`."
        ),
    ),
    start=(
        "def complete_interrupts(vcpu):\n"
        "    event = vcpu.vmcb.exit_int_info\n"
        "    vcpu.nmi_injected = False  # it has arrived\n"
        "    ...  # or has it?\n\n"
    ),
    good=_GOOD,
    why="What EXITINTINFO names right after the exit goes back to nmi_injected, and KVM is made to look.",
    wrong=(
        Wrong(
            "nobody looks at it", variant(_GOOD, (_IF + _AGAIN + _LOOK, "    return event.valid\n")), "An NMI is lost"
        ),
        Wrong("no request", variant(_GOOD, (_LOOK, "")), "An NMI is lost"),
        Wrong("it never arrives", variant(_GOOD, (_CLEAR, "")), "The guest is at rest, and an NMI is left"),
        Wrong(
            "back into the slot",
            variant(_GOOD, (_AGAIN, "        vcpu.ops.set_vnmi_pending(vcpu)\n")),
            "One NMI too few",
        ),
    ),
)

# --- exercise 3 -----------------------------------------------------------------------------------------------------


def _judge_visited(answer: object) -> Verdict:
    said = listed(answer, 'The answer must be a list of places, such as `["nmi_queued", "V_NMI"]`')
    if isinstance(said, Verdict):
        return said
    strange = next((name for name in said if name not in PLACES), None)
    if strange is not None:
        return wrong(f"There is no place {short(strange)}; the places are {', '.join(PLACES)}.")
    trace = Trace(moved_late().fresh(), "One NMI, two pages, and a way", LONGEST)
    found = follow(trace).visited()
    for place, (name, step) in enumerate(found):
        yours = said[place] if place < len(said) else "nothing"
        if yours != name:
            where = Divergence.at(trace, step, f"place {place + 1}", expected=yours, actual=name, rule=MOVED_BY[name])
            return wrong(f"Place {place + 1} is another one than you say.", trace, where)
    if len(said) > len(found):
        return wrong(f"All {len(found)} places are right, but then it is delivered.", trace)
    return right("Posted, accepted, in the slot; twice on its way in vain, and then it arrived.", trace)


def moved_late() -> Kvm:
    """Let one NMI arrive whose delivery fails twice."""
    return delivered_late(absent=(IDT, STACK - 8))


MOVED_BY = {
    "nmi_queued": "K-kvm_inject_nmi",
    "nmi_pending": "K-process_nmi",
    "V_NMI": "K-svm_set_vnmi_pending",
    "EVENTINJ": "K-svm_inject_nmi",
    "EXITINTINFO": "R-EXITINTINFO",
}
"""By place who brings an NMI there."""
assert MOVED_BY.keys() == set(PLACES)
_WAY = ("nmi_queued", "nmi_pending", "V_NMI", "EXITINTINFO", "EVENTINJ", "EXITINTINFO", "EVENTINJ")


def _way(*places: str) -> str:
    names = ", ".join(f'"{place}"' for place in places)
    return f"visited = [{names}]"


visited = Exercise(
    id="lab06.visited",
    task="Write down every place to which the NMI comes, in order, until it is delivered.",
    variable="visited",
    judge=_judge_visited,
    hints=(
        "Its beginning is that of the table above: it is posted, accepted, and put into the slot.",
        "Each exit in the middle of its delivery brings it to EXITINTINFO, and from there KVM brings it to EVENTINJ.",
        "There are seven. The last two are the two before them once more.",
    ),
    start='visited = ["nmi_queued", ...]',
    good=_way(*_WAY),
    why="Only the first time it came from the slot. After that it went round by EXITINTINFO and EVENTINJ.",
    wrong=(
        Wrong("one page", _way(*_WAY[:5]), "Place 6 is another one than you say."),
        Wrong("back to the slot", _way(*_WAY[:4], "V_NMI", "EXITINTINFO", "EVENTINJ"), "Place 5 is another one"),
        Wrong("straight on", _way("nmi_queued", "V_NMI", *_WAY[3:]), "Place 2 is another one than you say."),
        Wrong("once more", _way(*_WAY, "EXITINTINFO"), "All 7 places are right, but then it is delivered."),
        Wrong("the kernel's name", _way("nmi_queud"), "There is no place 'nmi_queud'"),
    ),
)

# --- exercise 4 -----------------------------------------------------------------------------------------------------

MOST_NMIS, MOST_MOVES = 2, 1


def _judge_move(answer: object) -> Verdict:
    parts = listed(answer, "The answer must be a list of `Stimulus(...)`")
    if isinstance(parts, Verdict):
        return parts
    stimuli: list[Stimulus] = []
    for part in parts:
        if not isinstance(part, Stimulus) or part.what not in ("nmi", "migrate"):
            return wrong(f'Everything must be a `Stimulus(...)`: an NMI, or with what="migrate"; not {short(part)}.')
        stimuli.append(part)
    sent = {what: sum(s.times for s in stimuli if s.what == what) for what in ("nmi", "migrate")}
    if sent["nmi"] > MOST_NMIS or sent["migrate"] > MOST_MOVES:
        found = f"{sent['nmi']:,} NMIs and {sent['migrate']:,} moves"
        return wrong(f"You have {found}; the task is to use at most {MOST_NMIS} NMIs and {MOST_MOVES} move.")
    machines = {name: under_kvm(STOPPING, ops, stimuli) for name, ops in SIDES.items()}
    runs = {name: Trace(machine, f"Your schedule: {name}", LONGEST * 2) for name, machine in machines.items()}
    trace = runs["patch v4"]
    handlers = entries(trace)
    nested = next((step for step in handlers if depth(step) > 1), None)
    if nested is not None:
        calm = max((depth(step) for step in entries(runs["today"])), default=0)
        return right(f"Under v4 they nest {depth(nested)} deep. Under today's KVM the same gives {calm}.", trace)
    message = f"The guest took {counted(len(handlers), 'NMI')}, and never one inside another."
    deepest = max((depth(step) for step in handlers), default=0)
    at = handlers[-1].index if handlers else len(trace) - 1
    rule = "K-svm_set_nmi_mask_v4"
    return wrong(message, trace, Divergence.at(trace, at, "handler_depth", expected=2, actual=deepest, rule=rule))


SIDES = {"patch v4": PATCH_V4, "today": VNMI}
_MOVE = 'Stimulus(at="saved", what="migrate")'

move = Exercise(
    id="lab06.move",
    task="Use at most two NMIs and one move so that under v4 the second NMI nests in the first.",
    variable="schedule",
    judge=_judge_move,
    hints=(
        "v4's new home ignores that NMIs were masked. Who must be in service when the vCPU moves?",
        "The first one: the guest is in its handler, at `saved`, and moves. Then nothing holds a second one back.",
        f"One at `work`, then `{_MOVE}`, then one at `leave`.",
    ),
    start='schedule = [Stimulus(at="work"), ...]',
    good=f'schedule = [Stimulus(at="work"), {_MOVE}, Stimulus(at="leave")]',
    why="The mask did not move with the guest: its new home takes an NMI in the middle of the handler.",
    wrong=(
        Wrong(
            "no move",
            'schedule = [Stimulus(at="work"), Stimulus(at="leave")]',
            "The guest took 2 NMIs, and never one inside another.",
        ),
        Wrong(
            "the second one first",
            f'schedule = [Stimulus(at="work"), Stimulus(at="handler"), {_MOVE}]',
            "The guest took 1 NMI, and never one inside another.",
        ),
        Wrong(
            "too late",
            f'schedule = [Stimulus(at="work"), {_MOVE}, Stimulus(at="more")]',
            "The guest took 2 NMIs, and never one inside another.",
        ),
        Wrong("many", 'schedule = [Stimulus(at="work", times=3)]', "You have 3 NMIs and 0 moves; the task is"),
    ),
)

EXERCISES = (words, visited, complete_interrupts, move)
left = Left(PREDICTIONS, EXERCISES)
