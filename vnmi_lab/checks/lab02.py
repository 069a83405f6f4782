"""Lab 02, event injection: its programs, its predictions and its exercises."""

from __future__ import annotations

from reprlib import repr as short

from vnmi_lab.checks.answers import STEPS, listed, scripted
from vnmi_lab.checks.exercise import Exercise, Wrong
from vnmi_lab.checks.measure import NMI, counted, deepest, depth, entries, exits, irets, number, taken
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.checks.standing import Left
from vnmi_lab.guest import Guest
from vnmi_lab.hw.events import Delivered
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.hw.vmcb import EventInj
from vnmi_lab.machine import Host
from vnmi_lab.trace import Step, Trace

# --- programs -------------------------------------------------------------------------------------------------------

PROGRAM = """
start:   inc rax               ; the guest's own work:
work:    inc rax               ; it counts in the register RAX
done:    vmmcall               ; "host, I am done"
"""
HANDLER = """
handler: inc qword [rbx+16]    ; keep count of the visits, in memory
leave:   iretq                 ; return to what was interrupted
"""
TALKS = """
handler: inc qword [rbx+16]
call:    vmmcall               ; "host, I am in my NMI handler"
leave:   iretq
"""
ASKS = """
start:   inc rax
ask:     cpuid                 ; which processor is this?
after:   inc rax
done:    vmmcall
"""
TIMER = """
timer:   inc qword [rbx+512]   ; the handler of an ordinary interrupt, number 40h
         iretq
"""
INTERRUPT = 0x40
NMI_WORD = 0x80000200
INTERRUPT_WORD = 0x80000040
EXCEPTION_TWO = 0x80000302


def visitor() -> Host:
    """Return a host whose guest counts and calls; nothing has run yet."""
    return Host(Guest.of(PROGRAM, {2: HANDLER}))


def talker() -> Host:
    """Return a host whose guest calls it from inside the NMI handler; nothing has run yet."""
    return Host(Guest.of(PROGRAM, {2: TALKS}))


def one_round() -> Host:
    """Let a host enter its guest once; the guest calls back."""
    return _played(visitor(), "run")


def _played(host: Host, *script: str | tuple[object, ...]) -> Host:
    """Return the host with a script that has been carried out."""
    for line in script:
        name, *operands = (line,) if isinstance(line, str) else line
        host.do(str(name), *operands)
    return host


def _asked() -> Host:
    return _played(Host(Guest.of(ASKS)), ("icpt", "cpuid"), "run")


def _closed_ears() -> Host:
    return _played(Host(Guest.of(PROGRAM, {INTERRUPT: TIMER})), ("inj", INTERRUPT_WORD), "run")


def _refused() -> Host:
    return _played(visitor(), ("inj", EXCEPTION_TWO), "run")


def two_by_injection() -> Host:
    """Inject an NMI, and a second one when the guest says that it handles the first."""
    return _played(talker(), "inj", "run", "inj", "run", "run")


def at_the_iret() -> Host:
    """Intercept IRET, and inject a second NMI at that exit."""
    return _played(visitor(), ("icpt", "iret"), "inj", "run", ("noicpt", "iret"), "inj", "run")


# --- predictions ----------------------------------------------------------------------------------------------------


def _first_step(_trace: Trace) -> int:
    return 0


def _second_vmrun(trace: Trace) -> int:
    return [step.index for step in trace if step.kind == "vmrun"][1] - 1


def _first_vmrun(trace: Trace) -> int:
    return next(step.index for step in trace if step.kind == "vmrun")


def _exit_place(trace: Trace) -> str | None:
    """Return the label at which the first #VMEXIT left the guest."""
    _step, event = exits(trace)[0]
    return next(line.label for line in trace.code if line.address == event.rip)


def _fate(trace: Trace) -> str:
    """Return what became of an injected event: "at once", "later", "never" or "refused"."""
    if exit_name(exits(trace)[0][1].code) == "INVALID":
        return "refused"
    injected = taken(trace, "injection")
    if not injected:
        return "never"
    before = trace[injected[0].index - 1]
    return "at once" if before.kind == "vmrun" else "later"


def _nested(trace: Trace) -> int:
    return depth(deepest(trace))


before_or_after = Prediction(
    "lab02.before_or_after",
    "The host intercepts CPUID. The guest comes to its `cpuid`, and there is a #VMEXIT. "
    "Where does the guest's RIP stand in the VMCB?",
    (
        Option("Behind the `cpuid`: it is done.", "after", "An intercept fires before the instruction does anything."),
        Option("At the `cpuid`: nothing of it has happened.", "ask", "The host decides what the guest will see."),
        Option(
            "At the start: the guest begins anew.", "start", "#VMEXIT saves where the guest stood. It goes on there."
        ),
    ),
    _asked,
    _exit_place,
    _first_vmrun,
    "An intercepted instruction",
)

closed_ears = Prediction(
    "lab02.closed_ears",
    "The guest runs with interrupts off: IF is 0. The host writes EVENTINJ = 80000040h, an ordinary interrupt "
    "with vector 40h, and executes VMRUN. When does the guest take it?",
    (
        Option("When it sets IF.", "later", "IF holds interrupts that arrive. This one does not arrive, it is placed."),
        Option("Never: it is dropped.", "never", "Nothing is dropped. What EVENTINJ holds is delivered, always."),
        Option("Not at all: VMRUN refuses.", "refused", "VMRUN refuses what is malformed, and IF has no part in that."),
        Option("At once, before its first instruction.", "at once", "Injection asks neither IF nor any mask."),
    ),
    _closed_ears,
    _fate,
    _first_step,
    "An interrupt injected while IF is 0",
)

type_three = Prediction(
    "lab02.type_three",
    "NMI is vector 2, so somebody writes EVENTINJ = 80000302h: an exception (type 3) with vector 2. What happens?",
    (
        Option(
            "The NMI handler runs: it is vector 2.", "at once", "It would be so if VMRUN looked at the vector alone."
        ),
        Option(
            "VMRUN refuses to enter the guest.", "refused", "No exception has vector 2. An NMI is a type of its own."
        ),
        Option(
            "The guest runs and nothing is injected.", "never", "VMRUN checks the event before it enters the guest."
        ),
    ),
    _refused,
    _fate,
    _first_step,
    "An exception with vector 2",
)

nested_injection = Prediction(
    "lab02.nested_injection",
    "The host has injected an NMI, and the guest has called back from inside its handler. Now the host injects a "
    "second NMI and enters the guest. How many NMI handlers are entered and not left, at most?",
    (
        Option("One: the second waits for the IRET.", 1, "So it was on bare metal, where taking an NMI set the mask."),
        Option("None: the second cancels the first.", 0, "A handler that was entered stays entered until its IRET."),
        Option("Two: the second nests in the first.", 2, "An injected NMI sets no mask, and asks none."),
    ),
    two_by_injection,
    _nested,
    _second_vmrun,
    "Two NMIs by injection",
)

too_early = Prediction(
    "lab02.too_early",
    "The host intercepts IRET, so that it hears when the handler ends. At that #VMEXIT it injects the second NMI. "
    "How many NMI handlers are entered and not left now, at most?",
    (
        Option("One: the first handler has returned.", 1, "Not yet! The exit comes before the IRET does anything."),
        Option(
            "Two: the first handler has not returned.", 2, "It still has its IRET before it: one instruction too early."
        ),
        Option(
            "None: VMRUN refuses, in the middle of an IRET.",
            0,
            "The guest is not in the middle: the IRET has not begun.",
        ),
    ),
    at_the_iret,
    _nested,
    _second_vmrun,
    "A second NMI at the IRET's exit",
)

# --- exercises ------------------------------------------------------------------------------------------------------

WIDTH = 64
V_NMI_ENABLE = 1 << 26


def _judge_nmi_word(answer: object) -> Verdict:
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < 1 << WIDTH:
        return wrong(f"`nmi_word` must be a number of at most 64 bits, not {short(answer)}.")
    trace = Trace(_played(visitor(), ("inj", answer), "run").fresh(), f"EVENTINJ = {answer:X}h", STEPS)
    if exit_name(exits(trace)[0][1].code) == "INVALID":
        return _refuses(trace, answer)
    delivered = [step for step in trace if any(isinstance(event, Delivered) for event in step.events)]
    if not delivered:
        return _not_valid(trace)
    step, vector = delivered[0], _vector(delivered[0])
    if vector != NMI:
        found = Divergence.at(trace, step.index, "vector", expected=NMI, actual=vector, rule="R-EVENTINJ")
        return wrong(f"The guest entered the handler of vector {vector}; an NMI enters that of vector 2.", trace, found)
    return _is_nmi(trace, answer)


def _vector(step: Step) -> int:
    return next(event.vector for event in step.events if isinstance(event, Delivered))


def _refuses(trace: Trace, word: int) -> Verdict:
    step, event = exits(trace)[0]
    kind = EventInj(word).named()["type"]
    found = Divergence.at(trace, step.index, "EVENTINJ.TYPE", expected=2, actual=kind, rule=event.rule)
    return wrong("VMRUN refused this word: the guest did not run at all.", trace, found)


def _not_valid(trace: Trace) -> Verdict:
    found = Divergence.at(trace, _first_vmrun(trace), "EVENTINJ.V", expected=1, actual=0, rule="R-EVENTINJ")
    return wrong("Nothing was injected: VMRUN found no valid event in this word.", trace, found)


def _is_nmi(trace: Trace, word: int) -> Verdict:
    """Ask the processor what it takes the word for: with V_NMI_ENABLE an NMI sets V_NMI_MASK (APM 15.21.10)."""
    host = _played(visitor(), ("icpt", "nmi"), ("ctl+", V_NMI_ENABLE), ("inj", word), "run")
    asked = Trace(host.fresh(), f"EVENTINJ = {word:X}h with V_NMI_ENABLE", STEPS)
    step = entries(asked)[0]
    if number(step, "live_v_nmi_blocking"):
        return right(f"The guest takes an NMI before its first instruction. KVM writes {NMI_WORD:X}h.", trace)
    found = Divergence.at(asked, step.index, "V_NMI_MASK", expected=1, actual=0, rule="R-EVENTINJ-VNMI")
    return wrong("The handler of vector 2 ran, but not for an NMI: TYPE says something else.", asked, found)


GOAL = 2
"""What RAX holds when the guest's own work is done."""

nmi_word = Exercise(
    id="lab02.nmi_word",
    task="Write the word that injects an NMI.",
    variable="nmi_word",
    judge=_judge_nmi_word,
    hints=(
        "Two fields must not be 0: V, which says that there is an event at all, and TYPE.",
        "V is bit 31: `1 << 31`. TYPE begins at bit 8, and an NMI is type 2. Join them with `|`.",
        "`1 << 31 | 2 << 8`, which is 80000200h.",
    ),
    start="nmi_word = ...",
    good="nmi_word = 1 << 31 | 2 << 8",
    why="V is 1 and TYPE is 2, NMI. The vector is ignored then, so 0 will do: 80000200h, as KVM writes it.",
    wrong=(
        Wrong("V forgotten", "nmi_word = 2 << 8", "Nothing was injected"),
        Wrong("exception 2", "nmi_word = 0x80000302", "VMRUN refused this word"),
        Wrong("interrupt 2", "nmi_word = 0x80000002", "The handler of vector 2 ran, but not for an NMI"),
        Wrong("a page fault", "nmi_word = 0x80000B0E", "The guest entered the handler of vector 14"),
    ),
)


def _judge_nest(answer: object) -> Verdict:
    return _judge_script(answer, 2)


def _judge_one_at_a_time(answer: object) -> Verdict:
    return _judge_script(answer, 1)


def _judge_script(answer: object, wanted: int) -> Verdict:
    """Judge a script that must inject two NMIs, nest them to depth ``wanted``, and bring the guest to its end."""
    script = listed(answer, 'The script must be a list of lines such as `"inj"` and `"run"`')
    if isinstance(script, Verdict):
        return script
    if not script:
        return wrong('The script is empty: the host does nothing. `"run"` enters the guest.')
    host = scripted(Guest.of(PROGRAM, {2: TALKS}), script)
    trace = Trace(host.fresh(), "Your script", STEPS * 4)
    injected = taken(trace, "injection")
    if len(injected) != INJECTED:
        return _miscounted(trace, injected)
    if depth(deepest(trace)) != wanted:
        return _wrong_depth(trace, wanted, injected[1])
    if depth(trace[-1]) or number(trace[-1], "rax") != GOAL:
        return _unfinished(trace)
    how = "the second inside the handler of the first" if wanted > 1 else "one after the other"
    return right(f"Two NMIs were taken, {how}, and the guest finished its work.", trace)


INJECTED = 2


def _miscounted(trace: Trace, injected: list[Step]) -> Verdict:
    count = len(injected)
    message = f"The guest took {counted(count, 'injected NMI')}; the task is {INJECTED}."
    lost = [step for step in trace if step.kind == "host" and _overwrites(trace, step)]
    if lost:
        message += " EVENTINJ holds one event: the second was written over the first."
    step = next(iter([*lost, *injected[INJECTED:], trace[-1]]))
    found = Divergence.at(trace, step.index, "injected NMIs", expected=INJECTED, actual=count, rule="R-EVENTINJ")
    return wrong(message, trace, found)


def _overwrites(trace: Trace, step: Step) -> bool:
    """Whether a line of script writes EVENTINJ while it still holds an event."""
    waiting = step.index > 0 and EventInj(number(trace[step.index - 1], "event_inj")).named()["valid"]
    return bool(waiting) and "EVENTINJ" in step.text


def _wrong_depth(trace: Trace, wanted: int, second: Step) -> Verdict:
    actual = depth(deepest(trace))
    if actual > wanted:
        message = "The second NMI was taken inside the handler of the first. Nothing held it back."
        step = second
    else:
        message = "The second NMI came when the first handler had already returned, so it did not nest."
        step = irets(trace)[0]
    found = Divergence.at(trace, step.index, "handler_depth", expected=1, actual=depth(step), rule="R-EVENTINJ-NMI")
    return wrong(message, trace, found)


def _unfinished(trace: Trace) -> Verdict:
    step = trace[-1]
    field, goal = ("handler_depth", 0) if depth(step) else ("rax", GOAL)
    found = Divergence.at(trace, step.index, field, expected=goal, actual=number(step, field), rule="R-VMEXIT")
    inside = f"{counted(depth(step), 'NMI handler')} entered and not left"
    return wrong(f"The script ends too early: {inside}, and RAX is {number(step, 'rax')}.", trace, found)


nest = Exercise(
    id="lab02.nest",
    task="Write the script of a host that nests two NMIs in this guest, and then lets it finish its work.",
    variable="script",
    judge=_judge_nest,
    hints=(
        "The guest calls from inside its handler. That #VMEXIT is the moment for the second NMI.",
        'After `"inj", "run"` the guest stands in its handler. Inject again; then run until both have returned.',
        "Each `run` ends at the next `vmmcall`: in the first handler, in the second, and at `done`.",
    ),
    start='script = ["inj", "run", ...]',
    good='script = ["inj", "run", "inj", "run", "run"]',
    why="The second `inj` finds the guest in its handler: it nests. The last `run` sees two IRETs and the end.",
    wrong=(
        Wrong(
            "both before the run",
            'script = ["inj", "inj", "run", "run"]',
            "The guest took 1 injected NMI; the task is 2.",
        ),
        Wrong(
            "after the return",
            'script = ["inj", "run", "run", "inj", "run", "run"]',
            "The second NMI came when the first",
        ),
        Wrong("left inside", 'script = ["inj", "run", "inj", "run"]', "The script ends too early"),
        Wrong("three", 'script = ["inj", "run"] * 3 + ["run"]', "The guest took 3 injected NMIs; the task is 2."),
    ),
)

one_at_a_time = Exercise(
    id="lab02.one_at_a_time",
    task="Write a script that injects two NMIs into the same guest without nesting, and lets it finish its work.",
    variable="script",
    judge=_judge_one_at_a_time,
    hints=(
        "The host must keep the second NMI to itself until the first handler has returned. How can it know?",
        "The guest calls twice: from its handler, and at `done`. At `done` no handler is entered.",
        "A call moves RIP on, so after `done` the guest can be entered again: there are more calls behind it.",
    ),
    start='script = ["inj", "run", ...]',
    good='script = ["inj", "run", "run", "inj", "run", "run"]',
    why="The second `run` ends at `done`, after the handler's IRET. Only then is it safe to inject.",
    wrong=(
        Wrong(
            "at the first call",
            'script = ["inj", "run", "inj", "run", "run"]',
            "The second NMI was taken inside the handler",
        ),
        Wrong("one only", 'script = ["inj", "run", "run"]', "The guest took 1 injected NMI; the task is 2."),
        Wrong("both at once", 'script = ["inj", "inj", "run", "run"]', "The guest took 1 injected NMI; the task is 2."),
        Wrong("left inside", 'script = ["inj", "run", "run", "inj", "run"]', "The script ends too early"),
    ),
)

PREDICTIONS = (before_or_after, type_three, closed_ears, nested_injection, too_early)
EXERCISES = (nmi_word, nest, one_at_a_time)
left = Left(PREDICTIONS, EXERCISES)
