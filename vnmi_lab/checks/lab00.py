"""Lab 00, start here: the first run, a prediction, and three exercises that show the bench."""

from __future__ import annotations

from reprlib import repr as short

from vnmi_lab.checks.exercise import Exercise, Wrong
from vnmi_lab.checks.measure import arrived, entries, irets, number, times
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.checks.standing import Left
from vnmi_lab.scenario import Scenario, ScenarioError
from vnmi_lab.trace import AnyMachine, Step, Trace

FIRST = "v1~plain~bare~nmi@work"
"""The lab's first run: one NMI, no hypervisor."""
ASLEEP = "v1~plain~bare~nmi@99"
"""An NMI that arrives long after the program has executed its last instruction, HLT."""
GUEST, PLACES = "plain", ("work", "later")
STEPS = 200


def _machine(text: str) -> AnyMachine:
    return Scenario.parse(text).machine()


def first() -> Trace:
    """Return the lab's first run."""
    return Trace(_machine(FIRST), "One NMI")


# --- prediction -----------------------------------------------------------------------------------------------------


def _after_sleep(trace: Trace) -> str:
    """Return what an NMI does to a processor in HLT: "sleeps", "same" HLT again, or "behind" it."""
    runs = entries(trace)
    if not runs:
        return "sleeps"
    return "same" if returns_to(trace, runs[0]) == "rest" else "behind"


def returns_to(trace: Trace, entry: Step) -> str:
    """Return the label of the instruction that a handler will return to, empty where that has none."""
    address = number(trace[entry.index - 1], "rip")
    return next((line.label or "" for line in trace.code if line.address == address), "")


asleep = Prediction(
    "lab00.asleep",
    "The program has done its work and executed `hlt`: the processor sleeps until something happens. Now an NMI "
    "arrives. What does the processor do?",
    (
        Option("Nothing. It sleeps.", "sleeps", "An NMI wakes it, whatever else is switched off."),
        Option(
            "It runs the handler, and sleeps on in the same `hlt`.", "same", "The `hlt` is over once it has woken up."
        ),
        Option(
            "It runs the handler, and goes on behind the `hlt`.",
            "behind",
            "An NMI ends the sleep. Here a jump stands behind the `hlt`, so the program goes to sleep anew.",
        ),
    ),
    lambda: _machine(ASLEEP),
    _after_sleep,
    lambda trace: arrived(trace)[0].index,
    "An NMI while the processor sleeps",
)

# --- exercises ------------------------------------------------------------------------------------------------------


def _a_step(answer: object, last: int, what: str) -> int | Verdict:
    """Return a number that can be one of steps, or what is wrong with it."""
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer <= last:
        return wrong(f"{what} must be a number from 0 to {last}, not {short(answer)}.")
    return answer


def _judge_taken(answer: object) -> Verdict:
    trace = first()
    step = _a_step(answer, len(trace) - 1, "The step")
    if isinstance(step, Verdict):
        return step
    entry, exit_ = entries(trace)[0].index, irets(trace)[0].index
    if step == entry:
        return right(f"Step {entry}: the mask goes to 1, and the handler is next.", trace)
    found = Divergence.at(trace, step, "NMI taken", expected="yes", actual="no", rule="R-NMI-TAKE")
    if step == arrived(trace)[0].index:
        return wrong("At this step the NMI arrives: it is outside, waiting. Taken is what comes of it.", trace, found)
    if entry < step <= exit_:
        return wrong("At this step the handler is already at work.", trace, found)
    return wrong("At this step the processor executes the program, not the handler.", trace, found)


taken = Exercise(
    id="lab00.taken",
    task="At which step is the NMI taken?",
    variable="step",
    judge=_judge_taken,
    hints=(
        "Play the first run again, and watch the line `handler` in the picture.",
        "*Run until*, *a delivery* goes to the step at which the processor enters a handler. Its number stands on top.",
        "The NMI arrives at step 2, and it is taken at the very next step.",
    ),
    start="step = ...",
    good="step = 3",
    why="The NMI arrives at step 2. Between two instructions the processor takes it: step 3, *NMI taken*.",
    wrong=(
        Wrong("where it arrives", "step = 2", "At this step the NMI arrives"),
        Wrong("in the handler", "step = 4", "At this step the handler is already at work"),
        Wrong("the program", "step = 1", "At this step the processor executes the program"),
        Wrong("no such step", "step = 12", "The step must be a number from 0 to 11, not 12."),
        Wrong("a word", "step = 'NMI taken'", "The step must be a number from 0 to 11"),
    ),
)


def _judge_between(answer: object) -> Verdict:
    trace = first()
    come, gone = arrived(trace)[0].index, irets(trace)[0].index
    steps = _a_step(answer, len(trace) - 1 - come, "The number of steps")
    if isinstance(steps, Verdict):
        return steps
    if steps == gone - come:
        return right(f"From step {come} to step {gone}: {steps} steps, and the mask is down again.", trace)
    found = Divergence.at(trace, come + steps, "steps from A to B", expected=gone - come, actual=steps, rule="R-FRAME")
    return wrong(f"B would stand at step {come + steps}: `{trace[come + steps].text}`.", trace, found)


between = Exercise(
    id="lab00.between",
    task="How many steps are there from the NMI's arrival to the handler's `iretq`?",
    variable="steps",
    judge=_judge_between,
    hints=(
        "Go to the step at which the NMI arrives and press A. Go to the step `iretq` and press B.",
        "Beside the markers stands how far they are apart. *Run until*, *an IRET* finds the second place.",
        "A stands at step 2 and B at step 6.",
    ),
    start="steps = ...",
    good="steps = 4",
    why="The NMI arrives at step 2 and the handler's `iretq` completes at step 6.",
    wrong=(
        Wrong("from where it is taken", "steps = 3", "B would stand at step 5: `nop`."),
        Wrong("both ends counted", "steps = 5", "B would stand at step 7: `nop`."),
        Wrong("the step itself", "steps = 6", "B would stand at step 8: `nop`."),
        Wrong("too far", "steps = 40", "The number of steps must be a number from 0 to 9, not 40."),
    ),
)


def _judge_two_places(answer: object) -> Verdict:
    if not isinstance(answer, str):
        return wrong(f"A scenario is a text in quotes, not {short(answer)}.")
    try:
        scenario = Scenario.parse(answer.strip())
    except ScenarioError as error:
        return wrong(f"The bench cannot read this: {error}.")
    if scenario.guest != GUEST:
        return wrong(f"This is another guest; the task is for `{GUEST}`.")
    trace = Trace(scenario.machine(), "Your scenario", STEPS)
    places = [returns_to(trace, run) for run in entries(trace)]
    if sorted(places) == sorted(PLACES):
        return right("The handler runs twice, once before `work` and once before `later`.", trace)
    return _elsewhere(trace, places)


def _elsewhere(trace: Trace, places: list[str]) -> Verdict:
    runs = entries(trace)
    if len(runs) != len(PLACES):
        at = runs[-1].index if runs else len(trace) - 1
        found = Divergence.at(
            trace, at, "runs of the handler", expected=len(PLACES), actual=len(runs), rule="R-NMI-TAKE"
        )
        return wrong(f"The handler runs {times(len(runs))}, and the task is twice.", trace, found)
    run, place = next((run, place) for run, place in zip(runs, places, strict=True) if _is_other(place, places))
    wanted = next(one for one in PLACES if one not in places)
    found = Divergence.at(trace, run.index, "taken before", expected=wanted, actual=place or "?", rule="R-NMI-TAKE")
    before = f"`{place}`" if place else "an instruction without a name"
    return wrong(f"The handler runs twice, and this run is before {before}.", trace, found)


def _is_other(place: str, places: list[str]) -> bool:
    """Whether a place is none of those asked for, or one of them a second time."""
    return place not in PLACES or places.count(place) > 1


two_places = Exercise(
    id="lab00.two_places",
    task="Let two NMIs arrive, one at `work` and one at `later`, and paste the bench's scenario here.",
    variable="scenario",
    judge=_judge_two_places,
    hints=(
        "On the bench press *Place an NMI*, then click into the picture, at the program's step `later`.",
        "Beside *Scenario* stands what arrives: it must be *NMI at work* and *NMI at later*. Then press *Copy*.",
        "The text reads `v1~plain~bare~nmi@work~nmi@` and ends with the name of the second place.",
    ),
    start='scenario = "____"',
    good='scenario = "v1~plain~bare~nmi@work~nmi@later"',
    why="Guest, machine, and an item for each arrival, with `~` between them. You can also type it.",
    wrong=(
        Wrong("only one", f'scenario = "{FIRST}"', "The handler runs once, and the task is twice."),
        Wrong("both at one place", 'scenario = "v1~plain~bare~nmix2@work"', "The handler runs twice, and this run is"),
        Wrong("elsewhere", 'scenario = "v1~plain~bare~nmi@work~nmi@3"', "The handler runs twice, and this run is"),
        Wrong("misspelt", 'scenario = "v1~plain~bare~nmi@wrok"', "The bench cannot read this: character 15"),
        Wrong("another guest", 'scenario = "v1~stops~bare~nmi@work~nmi@later"', "The bench cannot read this"),
        Wrong("a name", 'scenario = "v1~shadow~bare~nmi@work~nmi@later"', "This is another guest"),
        Wrong("a number", "scenario = 2", "A scenario is a text in quotes, not 2."),
    ),
)

PREDICTIONS = (asleep,)
EXERCISES = (taken, between, two_places)
left = Left(PREDICTIONS, EXERCISES)
