"""Lab 08, bug hunt: the exercises in which arrivals are placed so that a bug shows, and the step is found."""

from __future__ import annotations

from reprlib import repr as short

from vnmi_lab.checks.answers import nmis, under_kvm
from vnmi_lab.checks.exercise import Exercise, Wrong
from vnmi_lab.checks.lab08_cases import ALARMED, CASES, LONG, SHUTS, SPINS, WORKS, on_bare_metal, run, warned
from vnmi_lab.checks.measure import counted, entries, number
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.guest import Guest
from vnmi_lab.hv.calls import rule_of
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hv.profiles import PATCH_V4, VNMI, VNMI_6_4_RC
from vnmi_lab.hv.vcpu import Vcpu
from vnmi_lab.machine import Stimulus
from vnmi_lab.trace import Step, Trace

WINDOW_V4 = "svm_enable_nmi_window_v4"
WINDOW_RC = "svm_enable_nmi_window_rc"
WRONG_BIT = rule_of("svm_is_vnmi_pending_rc")


def played(guest: Guest, ops: NmiOps, stimuli: list[Stimulus]) -> Trace:
    """Return the run of the learner's arrivals."""
    return Trace(under_kvm(guest, ops, stimuli), "Your NMIs", LONG)


def labelled(answer: object, most: int) -> list[Stimulus] | Verdict:
    """Return the learner's NMIs, each at a label: two machines take other numbers of steps to the same moment."""
    stimuli = nmis(answer, most)
    if isinstance(stimuli, Verdict) or all(isinstance(stimulus.at, str) for stimulus in stimuli):
        return stimuli
    return wrong("Say by labels where they arrive: the same number of steps is another moment on another machine.")


def first_call(trace: Trace, function: str) -> Step | None:
    """Return the first step in which a function of KVM ran."""
    return next((step for step in trace if any(name == function for _depth, name, _file in step.calls)), None)


# --- case 1: break it with the fewest -------------------------------------------------------------------------------

FEWEST = 2


def _judge_stuck(answer: object) -> Verdict:
    stimuli = labelled(answer, FEWEST)
    if isinstance(stimuli, Verdict):
        return stimuli
    trace = played(SPINS, PATCH_V4, stimuli)
    owed, came = len(entries(on_bare_metal(SPINS, stimuli))), len(entries(trace))
    last, before = trace[-1], trace[-2]
    if came < owed and last.state == before.state:
        return right(
            f"Bare metal takes {owed}, this guest takes {came}. One NMI waits in `nmi_pending`, the guest goes round "
            "and round without an exit, and its state is the same each time: so it stays, for ever.",
            trace,
        )
    found = Divergence.at(
        trace, len(trace) - 1, "nmi_pending", expected=1, actual=number(last, "nmi_pending"), rule=rule_of(WINDOW_V4)
    )
    return wrong(f"The guest takes {counted(came, 'NMI')}, as many as on bare metal. None is stuck.", trace, found)


stuck = Exercise(
    id="lab08.stuck",
    task="Break it with the fewest NMIs: place at most two, so that one of them is never taken.",
    variable="attack",
    judge=_judge_stuck,
    hints=(
        "One NMI goes into V_NMI and all is well. When does KVM have one that it cannot put there?",
        "When V_NMI is taken at that moment. So both must be there on the same way into the guest.",
        'Both at one moment, anywhere: `Stimulus(at="done", times=2)`.',
    ),
    start="attack = [...]",
    good='attack = [Stimulus(at="done", times=2)]',
    why="The first fills V_NMI, the second stays with KVM, and nothing makes this guest exit again.",
    wrong=(
        Wrong("one", 'attack = [Stimulus(at="work")]', "The guest takes 1 NMI, as many as on bare metal."),
        Wrong("one after the other", 'attack = [Stimulus(at="work"), Stimulus(at="done")]', "The guest takes 2 NMIs"),
        Wrong("in the handler", 'attack = [Stimulus(at="work"), Stimulus(at="handler")]', "The guest takes 2 NMIs"),
        Wrong("many", 'attack = [Stimulus(at="work", times=9)]', "You send 9 NMIs; the task is to use at most 2."),
    ),
)

# --- case 1: the step -----------------------------------------------------------------------------------------------

# What a learner may point at, by the kind of the step, and why the mistake is not made there.
NOT_THERE = {
    "stimulus": "There they arrive, and both are counted in `nmi_queued`. So far all is well.",
    "vmexit": "That exit is the kick, and it does what it should.",
    "kvm": "There KVM handles the kick. It looks at the NMIs on the way back in.",
    "deliver": "There the guest takes the first NMI, as it should. The second one is given up already.",
    "vmrun": "On that way into the guest there was no NMI yet.",
    "host": "Nothing has happened yet.",
    "exec": "There the guest executes its own code. KVM sleeps, and it cannot make a mistake any more.",
}


def _judge_where(answer: object) -> Verdict:
    trace = run("late")
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(trace):
        return wrong(f"`step` must be the number of a step, 0 to {len(trace) - 1}, not {short(answer)}.")
    so = first_call(trace, WINDOW_V4)
    assert so is not None
    if answer == so.index:
        return right(
            "On this way in KVM puts one NMI into V_NMI and keeps the other. It calls `svm_enable_nmi_window`, which "
            "is to see to an exit for the one it keeps, and that returns at once, because V_NMI is taken.",
            trace,
        )
    step = trace[answer]
    found = Divergence.at(trace, answer, "calls of svm_enable_nmi_window", expected=1, actual=0,
                          rule=rule_of(WINDOW_V4))  # fmt: skip
    return wrong(NOT_THERE[step.kind], trace, found)


where = Exercise(
    id="lab08.where",
    task="In which step does KVM give up the second NMI? Write its number.",
    variable="step",
    judge=_judge_where,
    hints=(
        "Not where it should have come: there KVM sleeps. Somewhere before, KVM had it in hand for the last time.",
        "Follow `nmi_pending`. In which step does it go to 1? And the panel names the functions that ran there.",
        "It is the second VMRUN, in step 6: KVM's whole way into the guest is one step.",
    ),
    start="step = ...",
    good="step = 6",
    why="There `svm_enable_nmi_window` promised an exit for the NMI that KVM keeps, and did not see to it.",
    wrong=(
        Wrong("the arrival", "step = 3", "There they arrive, and both are counted"),
        Wrong("the delivery", "step = 7", "There the guest takes the first NMI"),
        Wrong("behind the IRET", "step = 11", "There the guest executes its own code."),
        Wrong("the kick", "step = 4", "That exit is the kick"),
        Wrong("no step", "step = 99", "`step` must be the number of a step, 0 to 29, not 99."),
    ),
)

# --- case 2: lose one -----------------------------------------------------------------------------------------------


def _judge_lose(answer: object) -> Verdict:
    stimuli = labelled(answer, FEWEST)
    if isinstance(stimuli, Verdict):
        return stimuli
    trace = played(WORKS, VNMI_6_4_RC, stimuli)
    owed, came = len(entries(on_bare_metal(WORKS, stimuli))), len(entries(trace))
    if came < owed:
        return right(f"Bare metal takes {owed} of them, this guest {came}, and nothing is left anywhere.", trace)
    last = len(trace) - 1
    found = Divergence.at(trace, last, "NMIs lost", expected=1, actual=0, rule="K-process_nmi")
    return wrong(f"The guest takes {counted(came, 'NMI')}, as many as on bare metal. None is lost.", trace, found)


lose = Exercise(
    id="lab08.lose",
    task="Place two NMIs so that one of them is lost.",
    variable="attack",
    judge=_judge_lose,
    hints=(
        "Two that come together are both taken. So let the second one come later. How much later?",
        "When the first has been handled all is over. While it is being handled, the second one has to wait.",
        'One at `work`, and one in its handler: `Stimulus(at="leave")`.',
    ),
    start='attack = [Stimulus(at="work"), ...]',
    good='attack = [Stimulus(at="work"), Stimulus(at="leave")]',
    why="While one NMI is in service no other is accepted, although the slot is free.",
    wrong=(
        Wrong("both at once", 'attack = [Stimulus(at="work", times=2)]', "The guest takes 2 NMIs, as many as"),
        Wrong("one after the other", 'attack = [Stimulus(at="work"), Stimulus(at="done")]', "The guest takes 2 NMIs"),
        Wrong("by number", 'attack = [Stimulus(at="work"), Stimulus(at=9)]', "Say by labels"),
        Wrong("many", 'attack = [Stimulus(at="work", times=9)]', "You send 9 NMIs; the task is to use at most 2."),
    ),
)

# --- case 2: which bit? ---------------------------------------------------------------------------------------------

LAST_BIT = 31
MEANT = "svm_is_vnmi_pending"


def tests_bit(bit: int) -> NmiOps:
    """Return the kernel of case 2 if its `is_vnmi_pending` tested this bit of int_ctl."""

    def is_vnmi_pending(vcpu: Vcpu) -> bool:
        """Test one bit of int_ctl."""
        return bool(int(vcpu.vmcb.int_ctl) >> bit & 1)

    return VNMI_6_4_RC.but(is_vnmi_pending=is_vnmi_pending)


def _judge_which_bit(answer: object) -> Verdict:
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer <= LAST_BIT:
        return wrong(f"`bit` must be the number of a bit of int_ctl, 0 to {LAST_BIT}, not {short(answer)}.")
    for name, words in (("pair", "two that come together"), ("lost", "one in service and one more")):
        hunt = CASES[name]
        trace = Trace(under_kvm(hunt.guest, tests_bit(answer), hunt.stimuli), f"If it tested bit {answer}", LONG)
        saw, would = len(entries(run(name))), len(entries(trace))
        if saw != would:
            end = entries(trace)[-1].index
            found = Divergence.at(trace, end, "handler runs", expected=saw, actual=would, rule=rule_of(MEANT))
            return wrong(
                f"If it tested bit {answer}, then of {words} the guest would take {would}; it took {saw}.", trace, found
            )
    return right(
        "Bit 12, V_NMI_MASK: of all bits it is the only one with which everything comes out as it was seen. Bit 11, "
        "V_NMI, was meant.",
        run("lost"),
    )


which_bit = Exercise(
    id="lab08.which_bit",
    task="Which bit of int_ctl does this kernel's is_vnmi_pending test? Write its number.",
    variable="bit",
    judge=_judge_which_bit,
    hints=(
        (
            "The limit is 2, or 1 while V_NMI_MASK is 1, and one fewer if `is_vnmi_pending` says True. For each line: "
            "what must it have said, so that so many were accepted?"
        ),
        "False, False, True. Which bit was 0 in the first two lines, and 1 in the third?",
        "V_NMI_MASK is the only one. It is bit 12.",
    ),
    start="bit = ...",
    good="bit = 12",
    why="It said True when V_NMI_MASK was 1, and False when it was 0. The mask was taken for the slot.",
    wrong=(
        Wrong("the right bit", "bit = 11", "If it tested bit 11, then of one in service and one more the guest would"),
        Wrong("enable", "bit = 26", "If it tested bit 26, then of two that come together the guest would take 1;"),
        Wrong("GIF", "bit = 9", "If it tested bit 9, then of two that come together the guest would take 1;"),
        Wrong("no bit", "bit = 64", "`bit` must be the number of a bit of int_ctl, 0 to 31, not 64."),
    ),
)

# --- case 2: one too many -------------------------------------------------------------------------------------------

MOST = 3


def _judge_one_more(answer: object) -> Verdict:
    stimuli = labelled(answer, MOST)
    if isinstance(stimuli, Verdict):
        return stimuli
    trace = played(SHUTS, VNMI_6_4_RC, stimuli)
    came, ought = len(entries(trace)), len(entries(played(SHUTS, VNMI, stimuli)))
    if came > ought:
        return right(f"The guest takes {came} NMIs. With the right bit it takes {ought}.", trace)
    at = entries(trace)[-1].index if came else len(trace) - 1
    found = Divergence.at(trace, at, "handler runs", expected=ought + 1, actual=came, rule=WRONG_BIT)
    return wrong(f"The guest takes {counted(came, 'NMI')}. With the right bit it takes {ought}.", trace, found)


one_more = Exercise(
    id="lab08.one_more",
    task="Place three NMIs so that the guest takes more of them than with the right bit.",
    variable="attack",
    judge=_judge_one_more,
    hints=(
        "Now the other way round: V_NMI is 1 and V_NMI_MASK is 0. The slot is taken, and the wrong bit says it is not.",
        (
            "That lasts only while something else holds the NMI back, here GIF. One NMI must sit in V_NMI when the "
            "others are accepted, so they must arrive later than the first."
        ),
        'One at `closed`, two at `opening`: `Stimulus(at="opening", times=2)`.',
    ),
    start='attack = [Stimulus(at="closed"), ...]',
    good='attack = [Stimulus(at="closed"), Stimulus(at="opening", times=2)]',
    why="One sits in V_NMI behind the closed GIF, and the limit is 2 instead of 1: three wait for one guest.",
    wrong=(
        Wrong("all at once", 'attack = [Stimulus(at="closed", times=3)]', "The guest takes 2 NMIs. With the right bit"),
        Wrong("one later", 'attack = [Stimulus(at="closed"), Stimulus(at="opening")]', "The guest takes 2 NMIs."),
        Wrong(
            "GIF is open", 'attack = [Stimulus(at="open"), Stimulus(at="handler", times=2)]', "The guest takes 1 NMI."
        ),
        Wrong("many", 'attack = [Stimulus(at="closed", times=9)]', "You send 9 NMIs; the task is to use at most 3."),
    ),
)

# --- case 3: the assertion ------------------------------------------------------------------------------------------


def _judge_alarm(answer: object) -> Verdict:
    stimuli = labelled(answer, FEWEST)
    if isinstance(stimuli, Verdict):
        return stimuli
    trace = played(SHUTS, ALARMED, stimuli)
    at = first_call(trace, WINDOW_RC)
    if at is None or not warned(trace):
        end = len(trace) - 1
        found = Divergence.at(trace, end, "calls of svm_enable_nmi_window", expected=1, actual=0,
                              rule=rule_of(WINDOW_RC))  # fmt: skip
        return wrong("No window was asked for, so the assertion was not even reached.", trace, found)
    return right(
        f"In step {at.index} KVM asks for a window with vNMI, and V_NMI_MASK is {number(at, 'live_v_nmi_blocking')}: "
        f"no NMI is in service. The warning is in the log, and the guest takes {counted(len(entries(trace)), 'NMI')}, "
        "as it should.",
        trace,
    )


alarm = Exercise(
    id="lab08.alarm",
    task="Find the counterexample of the assertion: place two NMIs so that it fires.",
    variable="attack",
    judge=_judge_alarm,
    hints=(
        "A window is asked for when an NMI is left that may not be injected now. What else than the mask forbids it?",
        "GIF. Two NMIs must meet a closed GIF: one goes into V_NMI, and one is left.",
        'Two while GIF is closed: `Stimulus(at="closed", times=2)`.',
    ),
    start="attack = [...]",
    good='attack = [Stimulus(at="closed"), Stimulus(at="opening")]',
    why="Behind a closed GIF one NMI fits into V_NMI; for the other KVM must ask for an exit at the STGI.",
    wrong=(
        Wrong("GIF is open", 'attack = [Stimulus(at="open", times=2)]', "No window was asked for"),
        Wrong("one fits into V_NMI", 'attack = [Stimulus(at="closed")]', "No window was asked for"),
        Wrong("in the handler", 'attack = [Stimulus(at="open"), Stimulus(at="handler")]', "No window was asked for"),
        Wrong("many", 'attack = [Stimulus(at="closed", times=9)]', "You send 9 NMIs; the task is to use at most 2."),
    ),
)
