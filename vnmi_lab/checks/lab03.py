"""Lab 03, IRET interception: its guests, its predictions and its exercises."""

from __future__ import annotations

from reprlib import repr as short

from vnmi_lab.checks.answers import listed, nmis, under_kvm
from vnmi_lab.checks.costs import Costs, costs
from vnmi_lab.checks.exercise import Exercise, Wrong
from vnmi_lab.checks.hooks import Hook, in_the_call_path
from vnmi_lab.checks.measure import arrived, counted, depth, entries, exits, number
from vnmi_lab.checks.prediction import LONGEST, Option, Prediction
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.checks.standing import Left
from vnmi_lab.guest import Guest
from vnmi_lab.hv.calls import rule_of
from vnmi_lab.hv.profiles import BLIND, LEGACY, POLICIES
from vnmi_lab.hv.svm import requeue
from vnmi_lab.hv.vcpu import REQ_EVENT, Vcpu
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.judge import PLAIN
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Stimulus
from vnmi_lab.trace import Step, Trace

# --- guests ---------------------------------------------------------------------------------------------------------

PROGRAM = """
start:   inc rax               ; the program's own work:
work:    inc rax               ; it counts to four in the register RAX
more:    inc rax
done:    inc rax
rest:    hlt                   ; and then it waits, for ever
         jmp rest
"""
HANDLER = """
handler: inc qword [rbx+16]    ; keep count of the visits, in memory
         nop
leave:   iretq                 ; return to what was interrupted
"""
BEHIND = """
other:   inc qword [rbx+24]    ; the next piece of code in memory:
         iretq                 ; a handler for something else
"""
BRIEF = """
start:   inc rax
work:    inc rax
rest:    hlt
         jmp rest
"""
GUEST = Guest.of(PROGRAM, {2: HANDLER}, tail="hlt")
CROWDED = Guest.of(BRIEF, {2: HANDLER + BEHIND}, tail="hlt")

IN_HANDLER = (Stimulus(at="work"), Stimulus(at="handler"))
AT_THE_IRET = 12
"""Steps, arrivals not counted, after which a guest with one NMI is entered at its IRET, which no longer exits."""


def complete_at_any_exit(vcpu: Vcpu) -> None:
    """Take the first exit after the IRET's for a sign that the IRET is over, and do not look at RIP."""
    if vcpu.awaiting_iret_completion:
        vcpu.awaiting_iret_completion = vcpu.nmi_masked = False
        vcpu.make_request(REQ_EVENT)
    requeue(vcpu)


FORGETFUL = LEGACY.but(
    name="forgetful",
    follows="the RIP compare left out",
    complete_interrupts=in_the_call_path(complete_at_any_exit, "lab 03, exercise 3"),
)
"""A policy for exercise 3."""


def one_nmi() -> Kvm:
    """Let one NMI arrive for a guest under KVM as it was up to Linux 6.3."""
    return under_kvm(GUEST, LEGACY, [Stimulus(at="work")])


def price(*stimuli: Stimulus) -> Costs:
    """Count what NMIs cost: bare metal, blind injection, and IRET interception."""
    return costs(PROGRAM, HANDLER, stimuli, ("blind", "legacy"))


def forgetful() -> Kvm:
    """Let one NMI arrive under the policy of exercise 3."""
    return under_kvm(GUEST, FORGETFUL, [Stimulus(at="work")])


# --- predictions ----------------------------------------------------------------------------------------------------


def label_at(trace: Trace, address: int) -> str | None:
    """Return the label of the line at an address."""
    return next((line.label for line in trace.code if line.address == address), None)


def exit_of(trace: Trace, name: str, number: int = 0) -> Step:
    """Return the step of the exit with a name: the first one, or the one with that number from 0."""
    return [step for step, event in exits(trace) if exit_name(event.code) == name][number]


def next_step(trace: Trace, kind: str, after: Step) -> Step:
    """Return the first step of a kind behind another step."""
    return next(step for step in trace if step.index > after.index and step.kind == kind)


def second_arrival(trace: Trace) -> int:
    """Return the step at which the second NMI arrives."""
    return arrived(trace)[1].index


def _second_handler(trace: Trace) -> str:
    runs = entries(trace)
    if len(runs) == 1:
        return "lost"
    return "nested" if depth(runs[1]) > 1 else "after"


def _returns_to(trace: Trace) -> str | None:
    """Return the label to which the second NMI handler will return."""
    return label_at(trace, entries(trace)[1].rip)


def _next_executed(trace: Trace) -> str | None:
    return label_at(trace, next_step(trace, "exec", exit_of(trace, "IRET")).rip)


def _masked_after_kick(trace: Trace) -> int:
    return number(next_step(trace, "kvm", exit_of(trace, "INTR", 1)), "nmi_masked")


def _where_trapped(trace: Trace) -> str | None:
    trapped = [event.rip for _step, event in exits(trace) if exit_name(event.code) == "EXC_DB"]
    return label_at(trace, trapped[0]) if trapped else "never"


def _unmasked_by(trace: Trace) -> str:
    """Return the exit at which KVM took its mask down."""
    down = next(step for step in trace if any(c.field == "nmi_masked" and not c.new for c in step.changes))
    return exit_name([event.code for step, event in exits(trace) if step.index < down.index][-1])


def _window(trace: Trace) -> int:
    return next_step(trace, "vmrun", exit_of(trace, "IRET")).index


blind_nests = Prediction(
    "lab03.blind_nests",
    "This KVM injects and remembers nothing. The guest is in its NMI handler, and a second NMI arrives. "
    "KVM kicks the guest out and enters it again. What becomes of the second NMI?",
    (
        Option("It is lost.", "lost", "Nothing is lost. KVM has it, and sees no reason to wait."),
        Option("It waits for the handler's IRET.", "after", "Who should make it wait? Injection sets no mask."),
        Option("It is taken in the handler.", "nested", "Injection asks no mask and sets none: the handlers nest."),
    ),
    lambda: under_kvm(GUEST, BLIND, IN_HANDLER),
    _second_handler,
    second_arrival,
    "KVM injects blindly",
)

unmask_now = Prediction(
    "lab03.unmask_now",
    "The guest is about to execute its IRET and has exited. Suppose that KVM now says: the handler is over. It takes "
    "the mask down and injects the second NMI at once. To which instruction will the second handler return?",
    (
        Option("To `leave`, the `iretq` of the first.", "leave", "RIP is still there: the exit came before the IRET."),
        Option("To `work`, where the program was.", "work", "It would be so on bare metal, where the IRET is over."),
        Option("To `handler`: the first begins anew.", "handler", "RIP is saved at an exit, and it stands at `leave`."),
    ),
    lambda: under_kvm(GUEST, POLICIES["m2"], IN_HANDLER),
    _returns_to,
    lambda trace: exit_of(trace, "IRET").index,
    "Unmask at the exit",
)

skip_it = Prediction(
    "lab03.skip_it",
    "Then let KVM do what it does for `vmmcall`: move RIP over the instruction. `other` stands behind the `iretq` in "
    "memory. There is only one NMI this time. What does the guest execute next?",
    (
        Option(
            "`work`: the handler has returned.",
            "work",
            "It would take an IRET to load that address from the stack, and there was none.",
        ),
        Option(
            "`leave`: the `iretq`, a little later.", "leave", "RIP is past it. Nobody goes back there for this NMI."
        ),
        Option("`other`: whatever is next in memory.", "other", "The IRET was skipped, and the frame is still there."),
    ),
    lambda: under_kvm(CROWDED, POLICIES["m4"], [Stimulus(at="work")]),
    _next_executed,
    lambda trace: exit_of(trace, "IRET").index,
    "Move RIP over the IRET",
)

still_there = Prediction(
    "lab03.still_there",
    "KVM has noted the IRET and enters the guest again. Before the `iretq` executes, another NMI arrives: a kick, and "
    "an exit. This is the next exit after the IRET's. Does KVM take its mask down here?",
    (
        Option("No: RIP has not moved.", 1, "KVM compares RIP with the one that it noted, and they are equal."),
        Option("Yes: the IRET's exit is past.", 0, "Exits come for many reasons. This one says nothing of the IRET."),
    ),
    lambda: under_kvm(GUEST, LEGACY, [Stimulus(at="work"), Stimulus(at=AT_THE_IRET)]),
    _masked_after_kick,
    lambda trace: exit_of(trace, "INTR", 1).index,
    "An exit between the IRET's exit and the IRET",
)

one_step = Prediction(
    "lab03.one_step",
    "An NMI waits. KVM enters the guest at its `iretq` with TF set: trap after one instruction. But the `iretq` "
    "itself loads RFLAGS from the stack, and there TF is 0. Where does the guest exit?",
    (
        Option("At `leave`: TF traps at once.", "leave", "The trap comes behind an instruction, and none has run yet."),
        Option("At `work`: directly behind the `iretq`.", "work", "TF was 1 when the `iretq` began, and that counts."),
        Option("At `more`: one instruction later.", "more", "The trap belongs to the instruction that began with TF."),
        Option("Nowhere: the `iretq` loads TF = 0.", "never", "The new TF is for the instructions after it."),
    ),
    lambda: under_kvm(GUEST, LEGACY, IN_HANDLER),
    _where_trapped,
    _window,
    "TF, and an IRET that loads RFLAGS",
)

no_hurry = Prediction(
    "lab03.no_hurry",
    "Only one NMI this time. KVM has handled the IRET's exit, and no other NMI waits, so it borrows no TF. "
    "At which exit does KVM take its mask down?",
    (
        Option("There is none: the mask stays.", "never", "At every exit KVM looks whether RIP has moved."),
        Option("At the IRET's own.", "IRET", "There RIP stands at the IRET. Nothing is over yet."),
        Option("At a #DB behind the IRET.", "EXC_DB", "KVM steps only when an NMI waits. Here nobody is in a hurry."),
        Option("At the next one, here HLT's.", "HLT", "Any exit will do: KVM sees then that RIP has moved."),
    ),
    one_nmi,
    _unmasked_by,
    lambda trace: next_step(trace, "kvm", exit_of(trace, "IRET")).index,
    "One NMI, and nobody waits",
)

# --- exercise 1 -----------------------------------------------------------------------------------------------------

SHORT = {"EXC_DB": "#DB"}
"""What the labs call an exit, where that is not its name."""
BOTH_AT_ONCE = (Stimulus(at="work", times=2),)


def name_of(code: int) -> str:
    """Return what the labs call an exit."""
    return SHORT.get(exit_name(code), exit_name(code))


def _judge_in_order(answer: object) -> Verdict:
    said = listed(answer, 'The answer must be a list of exits, such as `["INTR", "HLT"]`')
    if isinstance(said, Verdict):
        return said
    trace = Trace(under_kvm(GUEST, LEGACY, BOTH_AT_ONCE), "Two NMIs at once", LONGEST)
    found = exits(trace)
    for place, (step, event) in enumerate(found):
        yours = said[place] if place < len(said) else "nothing"
        name = name_of(event.code)
        if yours != name:
            text = yours if isinstance(yours, str) else short(yours)
            where = Divergence.at(trace, step.index, f"exit {place + 1}", expected=text, actual=name, rule=event.rule)
            return wrong(f"Exit {place + 1} is another one than you say.", trace, where)
    if len(said) > len(found):
        return wrong(f"All {len(found)} exits are right, but then the guest is at rest: no more of them.", trace)
    return right("Two NMIs were delivered, and that took an IRET exit for each and a #DB exit for the wait.", trace)


in_order = Exercise(
    id="lab03.in_order",
    task="Write down every exit of the run, in order, until the guest is at rest.",
    variable="order",
    judge=_judge_in_order,
    hints=(
        "Both arrive at the same moment: how many times must the guest be kicked? And every NMI ends with an IRET.",
        (
            "While the first is in service the second waits in `nmi_pending`. So KVM steps over the first IRET. "
            "Does it have to step over the second one?"
        ),
        "A kick, the first IRET, the step behind it, the second IRET, and the `hlt`.",
    ),
    start='order = ["INTR", ..., "HLT"]',
    good='order = ["INTR", "IRET", "#DB", "IRET", "HLT"]',
    why="One kick brings both. Each NMI costs an IRET exit; the one that waited costs a #DB exit too.",
    wrong=(
        Wrong("two kicks", 'order = ["INTR", "INTR", "IRET", "#DB", "IRET", "HLT"]', "Exit 2 is"),
        Wrong("no window", 'order = ["INTR", "IRET", "IRET", "HLT"]', "Exit 3 is"),
        Wrong("a step each", 'order = ["INTR", "IRET", "#DB", "IRET", "#DB", "HLT"]', "Exit 5 is"),
        Wrong("one IRET", 'order = ["INTR", "IRET", "#DB", "HLT"]', "Exit 4 is"),
    ),
)

# --- exercise 2 -----------------------------------------------------------------------------------------------------

write_it = Exercise(
    id="lab03.write_it",
    task="Write KVM's handler of the IRET exit.",
    variable="iret_interception",
    judge=Hook(
        "iret_interception",
        LEGACY,
        (PLAIN,),
        "Three NMIs were let in at every moment there is, the one between exit and IRET included.",
    ),
    hints=(
        "The IRET must be able to run, so it must not exit again. And nothing is over yet: the mask stays, RIP stays.",
        (
            "Four lines. One for the intercept; two for what `svm_complete_interrupts` compares later, that KVM waits "
            "and at which RIP; and one that makes KVM look at the NMI that may wait."
        ),
        (
            '`vcpu.vmcb.intercept("iret", on=False)`, then `vcpu.nmi_iret_rip = vcpu.vmcb.rip`, then '
            "`vcpu.awaiting_iret_completion = True`, then `vcpu.make_request(REQ_EVENT)`."
        ),
    ),
    start="def iret_interception(vcpu):\n    vcpu.nmi_window_exits += 1  # KVM counts these exits\n    ...\n\n",
    good=(
        "def iret_interception(vcpu):\n"
        "    vcpu.nmi_window_exits += 1\n"
        '    vcpu.vmcb.intercept("iret", on=False)\n'
        "    vcpu.nmi_iret_rip = vcpu.vmcb.rip\n"
        "    vcpu.awaiting_iret_completion = True\n"
        "    vcpu.make_request(REQ_EVENT)\n"
    ),
    why="It lets the IRET run, writes down what to compare, and asks for a look at what waits. It unmasks nothing.",
    wrong=(
        Wrong(
            "unmask at the exit",
            "def iret_interception(vcpu):\n"
            '    vcpu.vmcb.intercept("iret", on=False)\n'
            "    vcpu.nmi_masked = False\n"
            "    vcpu.make_request(REQ_EVENT)\n",
            "Two NMIs nest: the second is taken, and no IRET has completed since the first. It will return to the "
            "`iretq` of the first handler, which has not been executed.",
        ),
        Wrong(
            "skip the IRET",
            "def iret_interception(vcpu):\n"
            '    vcpu.vmcb.intercept("iret", on=False)\n'
            "    vcpu.nmi_iret_rip = vcpu.vmcb.rip\n"
            "    vcpu.awaiting_iret_completion = True\n"
            "    vcpu.vmcb.rip = vcpu.vmcb.next_rip\n"
            "    vcpu.make_request(REQ_EVENT)\n",
            "Two NMIs nest: the second is taken, and no IRET has completed since the first. The first handler's IRET "
            "was never executed.",
        ),
        Wrong(
            "RIP not noted",
            "def iret_interception(vcpu):\n"
            '    vcpu.vmcb.intercept("iret", on=False)\n'
            "    vcpu.awaiting_iret_completion = True\n"
            "    vcpu.make_request(REQ_EVENT)\n",
            "Two NMIs nest: the second is taken, and no IRET has completed since the first. It will return to the "
            "`iretq`",
        ),
        Wrong(
            "nobody looks",
            "def iret_interception(vcpu):\n"
            '    vcpu.vmcb.intercept("iret", on=False)\n'
            "    vcpu.nmi_iret_rip = vcpu.vmcb.rip\n"
            "    vcpu.awaiting_iret_completion = True\n",
            "An NMI waits in `nmi_pending`, no other is in service, and the guest goes on",
        ),
        Wrong(
            "intercept left on",
            "def iret_interception(vcpu):\n"
            "    vcpu.nmi_iret_rip = vcpu.vmcb.rip\n"
            "    vcpu.awaiting_iret_completion = True\n"
            "    vcpu.make_request(REQ_EVENT)\n",
            "The run never comes to its end",
        ),
    ),
)

# --- exercise 3 -----------------------------------------------------------------------------------------------------

FEWEST = 2
COMPLETES = rule_of("complete_at_any_exit")


def _judge_break_it(answer: object) -> Verdict:
    stimuli = nmis(answer, FEWEST)
    if isinstance(stimuli, Verdict):
        return stimuli
    trace = Trace(under_kvm(GUEST, FORGETFUL, stimuli), "Your NMIs", LONGEST * 2)
    runs = entries(trace)
    if len(runs) < FEWEST:
        message = f"The guest took {counted(len(runs), 'NMI')}, and it takes two to nest."
        found = Divergence.at(trace, len(trace) - 1, "handler runs", expected=FEWEST, actual=len(runs), rule=COMPLETES)
        return wrong(message, trace, found)
    if depth(runs[1]) > 1:
        return right(
            "An exit came between the IRET's exit and the IRET, KVM unmasked, and the second NMI nested.", trace
        )
    message = "Both were taken, one after the other: this policy came through."
    step = runs[1].index
    found = Divergence.at(trace, step, "handler_depth", expected=2, actual=1, rule=COMPLETES)
    return wrong(message, trace, found)


break_it = Exercise(
    id="lab03.break_it",
    task="Let two NMIs arrive so that the second nests in the first.",
    variable="attack",
    judge=_judge_break_it,
    hints=(
        (
            "This KVM takes any exit after the IRET's for the end of the handler. So make one happen while the `iretq` "
            "has not yet run. What makes a running guest exit?"
        ),
        (
            "A second NMI does: it is a kick. It must arrive when the guest has been entered again, at its IRET. No "
            "label says that: an NMI at `leave` arrives when RIP gets there first, before the exit. Use a step number."
        ),
        (
            "In the picture above, VMRUN enters the guest at its IRET in step 12. One of the steps before it is an "
            "arrival, so 12 steps have been made when it is done: `Stimulus(at=12)`."
        ),
    ),
    start='attack = [Stimulus(at="work"), ...]',
    good='attack = [Stimulus(at="work"), Stimulus(at=12)]',
    why="The kick's exit finds RIP at the IRET. Only who compares RIP can tell that the IRET has not been executed.",
    wrong=(
        Wrong("in the handler", 'attack = [Stimulus(at="work"), Stimulus(at="handler")]', "Both were taken, one after"),
        Wrong("at leave", 'attack = [Stimulus(at="work"), Stimulus(at="leave")]', "Both were taken, one after"),
        Wrong("behind the IRET", 'attack = [Stimulus(at="work"), Stimulus(at=13)]', "Both were taken, one after"),
        Wrong("one is enough?", 'attack = [Stimulus(at="leave")]', "The guest took 0 NMIs"),
        Wrong("many", 'attack = [Stimulus(at="work", times=3)]', "You send 3 NMIs; the task is to use at most 2."),
    ),
)

PREDICTIONS = (blind_nests, unmask_now, skip_it, still_there, one_step, no_hurry)
EXERCISES = (in_order, write_it, break_it)
left = Left(PREDICTIONS, EXERCISES)
