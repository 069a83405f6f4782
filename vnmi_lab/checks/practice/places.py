"""Where: the address that an NMI's frame returns to, and a flag on a timeline where it is taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from vnmi_lab.checks.asked import Flag
from vnmi_lab.checks.measure import entries
from vnmi_lab.checks.placing import GUESTS_OWN, PlaceFlag, Spot, moment, same_place
from vnmi_lab.checks.practice.ask import FEWEST, Ask, distinct, under
from vnmi_lab.checks.practice.runs import NEVER, ORDINALS, Run, became, came
from vnmi_lab.checks.prediction import Option, Prediction
from vnmi_lab.kvm import FATAL
from vnmi_lab.trace import Step, Trace

HELD_LONG = 2
"""Own steps of the guest that an NMI must wait for, so that a flag is worth placing."""


def where(ask: Ask) -> Prediction | None:
    """Ask for the RIP that an NMI pushes: of the last one that is taken, or of one that never is."""
    run = ask.run
    taken = run.returns(run.trace)
    number = len(taken) if ask.draw.chance(25) and len(taken) < min(run.row.arrived, len(ORDINALS)) else len(taken) - 1
    if not 1 <= number < len(ORDINALS):
        return None
    so = _nth(taken, number)
    if so != NEVER and so not in run.guest.labels():
        return None
    right = Option(_spoken(run, so), so, _why(run, number))
    wrong = distinct(right, chain(_rivals(ask, number), _others(ask, number)))
    if len(wrong) < FEWEST:
        return None
    listed = [run.name(line.address) for line in run.trace.code]
    options = sorted([right, *wrong], key=lambda o: listed.index(str(o.value)) if o.value in listed else len(listed))
    question = (
        f"{ask.intro()} Each NMI that is taken pushes the RIP at which the guest will go on. Which one does the "
        f"{ORDINALS[number]} NMI push that the guest takes?"
    )

    def measured(trace: Trace) -> str:
        return _nth(run.returns(trace), number)

    return Prediction(ask.id, question, tuple(options), run.scenario.machine, measured, came, ask.title)


def _nth(taken: list[str], number: int) -> str:
    return taken[number] if number < len(taken) else NEVER


def _spoken(run: Run, name: str) -> str:
    return "There is no such NMI: fewer are taken." if name == NEVER else f"{run.spoken(name)}."


def _why(run: Run, number: int) -> str:
    """Say where it was taken, and what had held it back."""
    if number >= len(run.entered):
        return became(run.row, run.entered)
    step = run.entered[number]
    held = _held_before(run, step.index)
    return f"It is taken at step {step.index}.{f' Before that: {held}' if held else ''}"


def _held_before(run: Run, index: int) -> str:
    """Return what held the NMI at the last step of the guest's before it was taken, that it was held at."""
    own = [step.index for step in run.trace if step.kind in GUESTS_OWN and step.index < index]
    return next((said for at in reversed(own) if (said := run.held(at))), "")


def _rivals(ask: Ask, number: int) -> Iterator[Option]:
    run = ask.run
    for policy in ask.rivals():
        other = run.under(policy)
        name = _nth(run.returns_in(other), number)
        if other.ended in FATAL or (name != NEVER and name not in run.guest.labels()):
            continue
        mine = _why(run, number) if name == NEVER else _why_not(run, name, number)
        yield Option(_spoken(run, name), name, f"{under(policy)} Here: {mine}")


def _others(ask: Ask, number: int) -> Iterator[Option]:
    """Yield places that people have a reason for: where something arrives, the handler's IRET, behind it, at rest."""
    run = ask.run
    came_at = [str(s.at) for s in reversed(run.scenario.stimuli) if isinstance(s.at, str)]
    first = run.returns(run.trace)[:1]
    inner = [run.name(line.address) for line in run.trace.code if line.where == "h2"]
    for name in dict.fromkeys([*came_at, *first, "leave", "rest", *ask.draw.mixed(inner)]):
        if name in run.guest.labels():
            yield Option(_spoken(run, name), name, _why_not(run, name, number))


def _why_not(run: Run, name: str, number: int) -> str:
    """Say why the NMI is not taken before the instruction at ``name``."""
    taken = run.entered[number].index if number < len(run.entered) else len(run.trace)
    begun = run.entered[number - 1].index
    there = [step for step in run.trace if _is_about(step) and run.name(step.rip) == name]
    between = [step for step in there if begun < step.index < taken]
    held = next((said for step in between if (said := run.held(step.index))), "")
    if held:
        return f"There it is held back: {held}"
    if between:
        return f"When the guest is there, at step {between[0].index}, no NMI waits to be taken."
    if any(step.index >= taken for step in there):
        return f"By then it has been taken, at step {taken}."
    if there:
        return f"The guest was there at step {there[-1].index}, before the NMI that came before it was taken."
    return "The guest does not come there."


def _is_about(step: Step) -> bool:
    """Whether the guest stands before an instruction of its own: it executes it, or exits."""
    return step.kind in ("exec", "vmexit") or (step.kind == "deliver" and step.text != "NMI taken")


# --- a flag ----------------------------------------------------------------------------------------------------------


def flag(ask: Ask) -> PlaceFlag | None:
    """Let a flag be placed where the NMI is taken that comes last; the run seen is the one without it."""
    run, stimuli = ask.run, ask.run.scenario.stimuli
    if len(stimuli) != FEWEST or stimuli[-1].times != 1 or not isinstance(stimuli[-1].at, str):
        return None
    seen = Run(replace(run.scenario, stimuli=stimuli[:-1]))
    came_at, number = run.stimuli[-1], max(1, len(run.entered) - 1)
    if seen.stimuli != run.stimuli[:1] or len(seen.entered) != number or _waits(run, came_at) < HELD_LONG:
        return None
    arrives = same_place(seen.trace, moment(run.trace, came_at))
    spots = _spots(run, seen, number)
    what = f"the {ORDINALS[number]} NMI is taken"
    question = (
        f"{ask.intro()} The run below is the one without the NMI at `{stimuli[-1].at}`, which arrives where the flag "
        f"stands. Before which step of the guest is the {ORDINALS[number]} NMI taken?"
    )
    return PlaceFlag(
        ask.id,
        question,
        what,
        run.scenario.machine,
        seen.scenario.machine,
        lambda trace: entries(trace)[-1].index,
        _why(run, number),
        f"There it still waits. {_held_before(run, run.entered[-1].index)}",
        f"Nothing holds it back any more at step {run.entered[-1].index}, where it is taken.",
        spots,
        lambda _trace: (Flag(arrives, "given", "the last NMI arrives"),),
        ask.title,
        f"{ask.title}: the run without the last NMI",
    )


def _waits(run: Run, came_at: int) -> int:
    """Return how many steps of the guest's own lie between the arrival and the entry of the last NMI."""
    return moment(run.trace, run.entered[-1].index) - moment(run.trace, came_at) if run.entered else 0


def _spots(run: Run, seen: Run, number: int) -> tuple[Spot, ...]:
    """Return two wrong places with a name: the handler's IRET, and the guest's next exit or its end."""
    right = moment(run.trace, run.entered[-1].index)
    named = {"leave": "Before the handler's `iretq`.", "rest": "When the guest comes to rest."}
    spots = []
    for name, text in named.items():
        at = next((step.index for step in seen.trace if _is_at(seen, step, name)), None)
        if at is not None and moment(seen.trace, at) != right:
            spots.append(Spot(text, _Place(at), _why_not(run, name, number)))
    return tuple(spots)


def _is_at(run: Run, step: Step, name: str) -> bool:
    return step.kind in GUESTS_OWN and run.name(step.rip) == name


class _Place:
    """A step that is the same in every trace."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, _trace: Trace) -> int:
        return self.step
