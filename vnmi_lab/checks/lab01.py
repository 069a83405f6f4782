"""Lab 01, an NMI on bare metal: its programs, its predictions and its exercises."""

from __future__ import annotations

from reprlib import repr as short

from vnmi_lab.checks.answers import MOST, STEPS, bare_metal, guest_of, nmis
from vnmi_lab.checks.exercise import Exercise, Wrong
from vnmi_lab.checks.measure import arrived, counted, depth, entries, irets, merged, number, taken, times
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.checks.standing import Left
from vnmi_lab.guest import Guest
from vnmi_lab.machine import BareMetal, Stimulus
from vnmi_lab.trace import Trace

# --- programs -------------------------------------------------------------------------------------------------------

PROGRAM = """
start:   inc rax               ; the program's own work:
work:    inc rax               ; it counts to four in the register RAX
         inc rax
done:    inc rax
"""
HANDLER = """
handler: inc qword [rbx+16]    ; keep count of the visits, in memory
         nop                   ; (a real handler would do its work here)
leave:   iretq                 ; return to what was interrupted
"""
CAREFUL = """
start:   cli                   ; interrupts off: please do not disturb
work:    inc rax
         inc rax
         sti                   ; interrupts on again
         inc rax
done:    inc rax
"""
TIMER = """
timer:   inc qword [rbx+512]   ; the handler of an ordinary interrupt, number 40h
         iretq
"""
BREAKS = """
handler: inc qword [rbx+16]
         int3                  ; a breakpoint: enters handler 3, and comes back
         nop
leave:   iretq
"""
TRAP = """
trap:    inc qword [rbx+24]    ; the handler of the breakpoint, number 3
         iretq                 ; an IRET like any other
"""
OWN_STACK = {2: (1, 0x34C000)}
"""The NMI has a stack of its own: entry 1 of the interrupt stack table, growing down from 34C000h."""

BREAKPOINT, INTERRUPT = 3, 0x40
GOAL = 4
"""What RAX holds when the program has done its work."""


def one_nmi() -> BareMetal:
    """Let one NMI arrive while the program is at work."""
    return BareMetal(Guest.of(PROGRAM, {2: HANDLER}, tail="hlt"), [Stimulus(at="work")])


def _interrupts_off() -> BareMetal:
    guest = Guest.of(CAREFUL, {2: HANDLER, INTERRUPT: TIMER}, tail="hlt")
    return BareMetal(guest, [Stimulus(at="work", what="intr"), Stimulus(at="work")])


def _in_handler(times: int) -> BareMetal:
    guest = Guest.of(PROGRAM, {2: HANDLER}, tail="hlt")
    return BareMetal(guest, [Stimulus(at="work"), Stimulus(at="handler", times=times)])


def breaking(*, own_stack: bool = False) -> BareMetal:
    """Let a second NMI wait while the handler of the first runs into a breakpoint."""
    return BareMetal(_breaking_guest(own_stack=own_stack), [Stimulus(at="work"), Stimulus(at="handler")])


def _breaking_guest(*, own_stack: bool) -> Guest:
    return Guest.of(PROGRAM, {2: BREAKS, BREAKPOINT: TRAP}, tail="hlt", ist=OWN_STACK if own_stack else None)


# --- predictions ----------------------------------------------------------------------------------------------------


def _first_arrival(trace: Trace) -> int:
    return arrived(trace)[0].index


def _second_arrival(trace: Trace) -> int:
    return arrived(trace)[1].index


def _before_second(trace: Trace) -> int:
    return _second_arrival(trace) - 1


def _second_entry(trace: Trace) -> int:
    return entries(trace)[1].index


def _held_by_if(trace: Trace) -> tuple[int, int]:
    """Return RFLAGS.IF at the boundary where each handler was entered: NMI, interrupt."""
    nmi, interrupt = entries(trace)[0], entries(trace, INTERRUPT)[0]
    return number(trace[nmi.index - 1], "IF"), number(trace[interrupt.index - 1], "IF")


def _when_second(trace: Trace) -> str:
    """Return when the second NMI was taken: "nested", "after", or "lost"."""
    runs = taken(trace, "nmi")
    if len(runs) == 1:
        return "lost"
    return "nested" if depth(runs[1]) > 1 else "after"


def _where_second(trace: Trace) -> str:
    """Return which program the second NMI interrupted."""
    runs = taken(trace, "nmi")
    if len(runs) == 1:
        return "none"
    return next(line.where for line in trace.code if line.address == runs[1].rip)


def _comes_back(trace: Trace) -> str:
    if trace.cut:
        return "endless"
    return "stopped" if trace[-1].kind == "stop" else "back" if len(taken(trace, "nmi")) > 1 else "refused"


interrupts_off = Prediction(
    "lab01.interrupts_off",
    "The program has switched interrupts off with `cli`. At `work` an ordinary interrupt and an NMI arrive together. "
    "Which handlers run before the program comes to its `sti`?",
    (
        Option("Both.", (0, 0), "An ordinary interrupt waits while the flag IF is 0; that is what `cli` is for."),
        Option("The NMI's.", (0, 1), "IF holds back ordinary interrupts and has no say about an NMI: non-maskable."),
        Option("The interrupt's.", (1, 0), "It is the other way round: IF is there to hold back ordinary interrupts."),
        Option("Neither.", (1, 1), "This would be so if IF held NMIs back too. It does not."),
    ),
    _interrupts_off,
    _held_by_if,
    _first_arrival,
    "An interrupt and an NMI, both while IF is 0",
)

second_nmi = Prediction(
    "lab01.second_nmi",
    "The handler is running. A second NMI arrives, before the first has been dealt with. What happens to it?",
    (
        Option("It interrupts the handler at once.", "nested", "Taking the first NMI masked further ones."),
        Option("It is lost.", "lost", "Masked is not lost: the processor remembers it in a latch."),
        Option(
            "It waits until the handler has returned.", "after", "The mask holds it until the IRET. Then it is taken."
        ),
    ),
    lambda: _in_handler(1),
    _when_second,
    _before_second,
    "A second NMI inside the handler of the first",
)

ten_more = Prediction(
    "lab01.ten_more",
    "Again the handler is running. This time ten NMIs arrive, one after the other, before it returns. "
    "How many times does the handler run in all, the first run included?",
    (
        Option("Once.", 1, "Masked NMIs are not all lost: one is remembered."),
        Option("Twice.", 2, "The latch holds one NMI. The first of the ten fills it, the other nine merge into it."),
        Option("Ten times.", 10, "The latch is no counter, and the first run came before the ten."),
        Option("Eleven times.", 11, "It would need a counter that remembers ten. There is a single bit."),
    ),
    lambda: _in_handler(10),
    lambda trace: len(entries(trace)),
    _before_second,
    "Ten NMIs inside the handler of the first",
)

breakpoint_inside = Prediction(
    "lab01.breakpoint_inside",
    "A second NMI waits, masked. The handler of the first now meets a breakpoint, `int3`; "
    "the breakpoint's handler does its work and returns with its own IRET. Where is the second NMI taken?",
    (
        Option("In the program, after the NMI handler.", "main", "The processor does not know whose IRET it executes."),
        Option("In the breakpoint's handler.", "h3", "The mask is still up there: no IRET has completed yet."),
        Option("Nowhere.", "none", "It stays in the latch until the mask goes, and is taken then."),
        Option(
            "In the NMI handler, after the breakpoint.", "h2", "The breakpoint's IRET ended the mask. Any IRET does."
        ),
    ),
    breaking,
    _where_second,
    _second_arrival,
    "A breakpoint inside the NMI handler",
)

one_stack = Prediction(
    "lab01.one_stack",
    "The same run, but now the NMI has a stack of its own, used from its top each time an NMI is taken. "
    "The second NMI nests as before. Does the program get to its end?",
    (
        Option(
            "No: the handler returns into itself, for ever.",
            "endless",
            "Its frame was overwritten by the second one's.",
        ),
        Option("Yes, as before.", "back", "The second frame was written over the first, and with it the way back."),
        Option("No: the processor shuts down.", "stopped", "The frame is well formed, only wrong. Nothing faults."),
        Option(
            "Yes: a stack in use is not used again.", "refused", "The processor does not look. It loads RSP and pushes."
        ),
    ),
    lambda: breaking(own_stack=True),
    _comes_back,
    _second_entry,
    "Two NMIs on one interrupt stack",
)

# --- exercises ------------------------------------------------------------------------------------------------------

ARRIVALS = 5
RUNS = 2


def _judge_two_runs(answer: object) -> Verdict:
    stimuli = _stimuli(answer)
    if isinstance(stimuli, Verdict):
        return stimuli
    sent = sum(stimulus.times for stimulus in stimuli)
    if sent != ARRIVALS:
        return wrong(f"Your list sends {counted(sent, 'NMI')}; the task is to send {ARRIVALS}.")
    trace = Trace(bare_metal(Guest.of(PROGRAM, {2: HANDLER}, tail="hlt"), stimuli), "Your five NMIs", STEPS)
    came, runs, lost = len(arrived(trace)), entries(trace), merged(trace)
    if came != ARRIVALS:
        return wrong(
            f"Only {came} of your {ARRIVALS} NMIs arrived: the run never came to the place of the others.", trace
        )
    if len(runs) == RUNS:
        return right(
            f"Five NMIs arrived, {len(lost)} of them merged into one pending, and the handler ran twice.", trace
        )
    message = f"The handler ran {times(len(runs))}; the task is {times(RUNS)}."
    step, rule = (runs[RUNS].index, "R-NMI-TAKE") if len(runs) > RUNS else (lost[0].index, "R-NMI-COALESCE")
    found = Divergence.at(trace, step, "handler runs", expected=RUNS, actual=len(runs), rule=rule)
    return wrong(message, trace, found)


def _stimuli(answer: object) -> list[Stimulus] | Verdict:
    """Return the learner's stimuli, all of them NMIs, or what is wrong with them."""
    return nmis(answer, MOST, "a few are enough")


two_runs = Exercise(
    id="lab01.two_runs",
    task="Let five NMIs arrive so that the handler runs exactly twice.",
    variable="stimuli",
    judge=_judge_two_runs,
    hints=(
        "An NMI that finds one already pending merges into it. When does one stay pending for a while?",
        "While the handler runs, all that arrives shares one place in the latch. Place some of the five at `handler`.",
        "One at `work`, and the other four at `handler`.",
    ),
    start='stimuli = [\n    Stimulus(at="work"),\n    ...,\n]',
    good='stimuli = [\n    Stimulus(at="work"),\n    Stimulus(at="handler", times=4),\n]',
    why="The first is taken at once and raises the mask. Of the four, one is remembered; three merge into that one.",
    wrong=(
        Wrong(
            "all at once", 'stimuli = [Stimulus(at="work", times=5)]',
            "The handler ran once; the task is twice.",
        ),
        Wrong(
            "well spread", 'stimuli = [Stimulus(at=place) for place in ("start", "handler", "work", "leave", "done")]',
            "The handler ran 4 times; the task is twice.",
        ),
        Wrong(
            "too few", 'stimuli = [Stimulus(at="work"), Stimulus(at="handler")]',
            "Your list sends 2 NMIs; the task is to send 5.",
        ),
        Wrong(
            "never there", 'stimuli = [Stimulus(at="handler", times=5)]',
            "Only 0 of your 5 NMIs arrived: the run never came to the place of the others.",
        ),
    ),
)  # fmt: skip


def _judge_open_the_door(answer: object) -> Verdict:
    if not isinstance(answer, str):
        return wrong(f"`my_handler` must be text, the lines of a handler, not {short(answer)}.")
    guest = guest_of(PROGRAM, {2: answer, BREAKPOINT: TRAP}, answer, tail="hlt")
    trace = Trace(bare_metal(guest, [Stimulus(at="work"), Stimulus(at="h2")]), "Your handler and two NMIs", STEPS)
    runs = taken(trace, "nmi")
    nested = [step for step in runs if depth(step) > 1]
    if not nested:
        return _not_nested(trace)
    if trace.cut or number(trace[-1], "rax") != GOAL or depth(trace[-1]):
        return _lost(trace)
    return right(f"The second NMI was taken at step {nested[0].index}, inside the handler of the first.", trace)


def _not_nested(trace: Trace) -> Verdict:
    returns = irets(trace)
    if not returns:
        last = trace[-1]
        found = Divergence.at(
            trace, last.index, "nmi_mask", expected=0, actual=number(last, "nmi_mask"), rule="R-IRET-UNMASK"
        )
        return wrong("No IRET completed in this run, so the second NMI waited to the end.", trace, found)
    message = "The first IRET to complete was the one that left the NMI handler, so no NMI nested."
    step = returns[0]
    found = Divergence.at(trace, step.index, "handler_depth", expected=1, actual=depth(step), rule="R-IRET-UNMASK")
    return wrong(message, trace, found)


def _lost(trace: Trace) -> Verdict:
    step = trace[-1]
    found = Divergence.at(trace, step.index, "rax", expected=GOAL, actual=number(step, "rax"), rule="R-EXEC")
    return wrong("The second NMI nested, but the program never finished its work: it must count to 4.", trace, found)


open_the_door = Exercise(
    id="lab01.open_the_door",
    task="Write one line that lets the waiting NMI in before the handler is done.",
    variable="my_handler",
    judge=_judge_open_the_door,
    hints=(
        "The mask goes when an IRET completes: any IRET, not only this handler's.",
        "What makes the processor enter another handler, which will return with an IRET of its own?",
        "`int3` does, and so does `int 0x40`.",
    ),
    start='my_handler = """\nhandler: inc qword [rbx+16]\n         ____\n         nop\n         iretq\n"""',
    good='my_handler = """\nhandler: inc qword [rbx+16]\n         int3\n         nop\n         iretq\n"""',
    why="The breakpoint's handler returns with IRET. The processor does not ask whose it is, and takes the mask away.",
    wrong=(
        Wrong(
            "sti", 'my_handler = "handler: inc qword [rbx+16]\\n sti\\n nop\\n iretq"',
            "The first IRET to complete was the one that left the NMI handler",
        ),
        Wrong(
            "iretq", 'my_handler = "handler: inc qword [rbx+16]\\n iretq\\n nop\\n iretq"',
            "The first IRET to complete was the one that left the NMI handler",
        ),
        Wrong(
            "int 2", 'my_handler = "handler: inc qword [rbx+16]\\n int 2\\n nop\\n iretq"',
            "No IRET completed in this run",
        ),
        Wrong(
            "no way back", 'my_handler = "handler: inc qword [rbx+16]\\n int3\\n hlt\\n iretq"',
            "The second NMI nested, but the program never finished its work",
        ),
    ),
)  # fmt: skip

FEWEST = 2


def _judge_no_way_back(answer: object) -> Verdict:
    stimuli = _stimuli(answer)
    if isinstance(stimuli, Verdict):
        return stimuli
    trace = Trace(
        bare_metal(_breaking_guest(own_stack=True), stimuli), "Your NMIs and a handler with its own stack", STEPS
    )
    if not trace.cut:
        return _came_back(trace)
    sent = len(arrived(trace))
    if sent > FEWEST:
        return wrong(f"It never comes back, but you used {counted(sent, 'NMI')}; {FEWEST} are enough.", trace)
    return right("Two NMIs, and the program never finishes: one handler's frame was written over the other's.", trace)


def _came_back(trace: Trace) -> Verdict:
    doors = [step for step in irets(trace) if depth(step)]
    if not doors:
        return wrong("No NMI was taken in this run, and the program finished.", trace)
    message = "The program finished its work: when the breakpoint's IRET opened the door, no NMI was waiting."
    found = Divergence.at(trace, doors[0].index, "nmi_latch", expected=1, actual=0, rule="R-IRET-UNMASK")
    return wrong(message, trace, found)


no_way_back = Exercise(
    id="lab01.no_way_back",
    task="Break this handler with the fewest NMIs: place them so that the program never finishes.",
    variable="attack",
    judge=_judge_no_way_back,
    hints=(
        "One frame must be written over another that is still needed: one NMI taken inside the handler of another.",
        "The handler opens the door itself, with its breakpoint. An NMI must be waiting in front of it.",
        "One NMI at `work`, and one at `handler`.",
    ),
    start="attack = [\n    ...,\n]",
    good='attack = [\n    Stimulus(at="work"),\n    Stimulus(at="handler"),\n]',
    why="The second waits until the breakpoint's IRET and is taken inside the handler. Its frame overwrites the first.",
    wrong=(
        Wrong("one", 'attack = [Stimulus(at="work")]', "The program finished its work"),
        Wrong("together", 'attack = [Stimulus(at="work", times=2)]', "The program finished its work"),
        Wrong("far apart", 'attack = [Stimulus(at="start"), Stimulus(at="done")]', "The program finished its work"),
        Wrong(
            "many",
            'attack = [Stimulus(at="work"), Stimulus(at="handler", times=9)]',
            "It never comes back, but you used 10",
        ),
    ),
)

PREDICTIONS = (interrupts_off, second_nmi, ten_more, breakpoint_inside, one_stack)
EXERCISES = (two_runs, open_the_door, no_way_back)
left = Left(PREDICTIONS, EXERCISES)
