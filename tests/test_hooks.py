"""Exercises whose answer is a function of KVM: what the judge says of it, whatever it does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vnmi_lab.checks import Exercise, Result, lab03, lab04, lab06, lab07, lab08
from vnmi_lab.checks.costs import costs
from vnmi_lab.checks.hooks import AT_ONCE, BOTH, SEEN, YOURS, told
from vnmi_lab.hv.calls import FUNCTIONS
from vnmi_lab.hv.svm import borrow_step, open_window
from vnmi_lab.hv.vcpu import REQ_EVENT
from vnmi_lab.judge import CHEAP
from vnmi_lab.laws import COMES_TO_REST, LAWS, NO_EXITS
from vnmi_lab.machine import Stimulus
from vnmi_lab.rules import GRADES

MENDED = (lab08.process_nmi, lab08.is_vnmi_pending, lab08.set_vnmi_pending)
HOOKS = (lab03.write_it, lab04.process_nmi, lab06.complete_interrupts, *lab07.EXERCISES[1:4], *MENDED)

WRITTEN = (*HOOKS, lab08.enable_nmi_window)
"""That one is judged by more than a search."""


def written(exercise: Exercise, body: str, *, name: str = "", argument: str = "vcpu") -> Result:
    """Check a function with this body."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    names: dict[str, object] = {"REQ_EVENT": REQ_EVENT, "borrow_step": borrow_step, "open_window": open_window}
    exec(f"def {name or exercise.variable}({argument}):\n{lines}", names)  # noqa: S102 - what a learner's cell does
    return exercise.check(names[name or exercise.variable])


# body, what is said of it, where
RAISES = [
    ("x = 1\nvcpu.nmi_maskd = False", "AttributeError", "line 3"),
    ("while True:\n    pass", "is still running after 20,000 lines", "line 2"),
    ("vcpu.vmcb.intercept('irte', on=False)", "did you mean 'iret'?", "line 2"),
    ("raise ValueError(vcpu.kicks)", "ValueError", "line 2"),
    ("vcpu.requests = 'NMI'", "KVM cannot go on after your function: TypeError", "(vcpu):"),
]


@pytest.mark.parametrize("exercise", WRITTEN, ids=lambda exercise: exercise.id)
@pytest.mark.parametrize(("body", "said", "line"), RAISES)
def test_what_cannot_run_is_shown_in_the_learners_own_line(exercise: Exercise, body: str, said: str, line: str) -> None:
    result = written(exercise, body)
    assert result.outcome == "raised", result
    assert said in result.message
    assert line in result.line


@pytest.mark.parametrize("exercise", WRITTEN, ids=lambda exercise: exercise.id)
def test_a_function_without_its_argument_is_answered(exercise: Exercise) -> None:
    result = written(exercise, "return", argument="")
    assert result.outcome == "raised"
    assert "takes 0 positional arguments" in result.message


@pytest.mark.parametrize("exercise", WRITTEN, ids=lambda exercise: exercise.id)
def test_a_function_of_another_name_is_answered(exercise: Exercise) -> None:
    result = written(exercise, "vcpu.kicks", name="mine")
    assert result.message == f"The function must be called `{exercise.variable}`, as in KVM, not `mine`."


@pytest.mark.parametrize(
    "body", ["...", "vcpu.nmi_window_exits += 1", "vcpu.nmi_window_exits += 1  # still to do\n..."]
)
def test_what_does_no_more_than_the_given_function_is_not_attempted(body: str) -> None:
    result = written(lab03.write_it, body)
    assert result.outcome == ("incorrect" if body == "..." else "not attempted")


def test_a_place_left_open_is_not_attempted() -> None:
    assert written(lab03.write_it, "vcpu.nmi_iret_rip = ...\nvcpu.make_request(REQ_EVENT)").outcome == "not attempted"


def test_a_function_that_never_repeats_a_state_is_answered() -> None:
    result = written(lab03.write_it, "vcpu.nmi_iret_rip += 1\nvcpu.vmcb.intercept('iret', on=True)")
    assert result.outcome == "incorrect"


@pytest.mark.parametrize("exercise", HOOKS, ids=lambda exercise: exercise.id)
def test_a_counterexample_opens_at_the_step_that_breaks_the_law(exercise: Exercise) -> None:
    for wrong in exercise.wrong:
        names: dict[str, object] = {"REQ_EVENT": REQ_EVENT, "borrow_step": borrow_step, "open_window": open_window}
        exec(wrong.code, names)  # noqa: S102 - what a learner's cell does
        result = exercise.check(names[exercise.variable])
        assert "The shortest schedule: " in result.message
        assert result.divergence is not None
        assert result.divergence.rule.id in SEEN
        assert result.divergence.rule.grade in GRADES
        assert result.trace is not None
        arrived = result.message.count("NMI,") + result.message.endswith("NMI.")
        assert arrived <= 3


def test_a_trace_shows_the_learners_function_and_what_it_changed() -> None:
    names: dict[str, object] = {"REQ_EVENT": REQ_EVENT, "borrow_step": borrow_step, "open_window": open_window}
    exec(lab03.write_it.wrong[0].code, names)  # noqa: S102 - what a learner's cell does
    result = lab03.write_it.check(names["iret_interception"])
    assert result.trace is not None
    steps = [step for step in result.trace if any(file == YOURS for _depth, _name, file in step.calls)]
    changed = [change for change in steps[0].changes if change.field == "nmi_masked"]
    assert [(change.rule, change.new) for change in changed] == [("K-iret_interception", 0)]
    assert "Linux" in FUNCTIONS["K-iret_interception"].source, "KVM's own rule stays"


def test_every_law_has_words_of_its_own() -> None:
    asked = {law.slug for law in (*LAWS, *NO_EXITS, COMES_TO_REST, AT_ONCE, BOTH)}
    assert asked <= set(SEEN)
    assert all(CHEAP.actions["laws"])


def test_a_schedule_reads_as_a_list() -> None:
    assert told(("step", "NMI", "step", "step", "NMI", "NMI")) == "1 step, NMI, 2 steps, 2 NMIs"


# --- costs ------------------------------------------------------------------------------------------------------------

SECOND = [Stimulus(at="work"), Stimulus(at="handler")]
Priced = tuple[list[Stimulus], str, int, int, int]

# arrivals, policy, kicks, IRET exits, #DB exits: section "what it costs" of labs 03 and 04
PRICES: list[Priced] = [
    ([Stimulus(at="work")], "legacy", 1, 1, 0),
    ([Stimulus(at="work")], "vnmi", 1, 0, 0),
    (SECOND, "legacy", 2, 2, 1),
    (SECOND, "vnmi", 2, 0, 0),
    (SECOND, "blind", 2, 0, 0),
]


@pytest.mark.parametrize(("stimuli", "policy", "kicks", "iret", "db"), PRICES)
def test_what_nmis_cost_is_counted(stimuli: list[Stimulus], policy: str, kicks: int, iret: int, db: int) -> None:
    row = costs(lab03.PROGRAM, lab03.HANDLER, stimuli, [policy])[policy]
    assert (row.kicks, row.iret, row.db) == (kicks, iret, db)
    assert row.delivered == len(stimuli)
    assert row.deepest == (2 if policy == "blind" and len(stimuli) > 1 else 1)


@pytest.mark.parametrize("table", [lambda: lab03.price(*SECOND), lambda: lab04.side_by_side(SECOND)])
def test_a_table_of_costs_reads_in_a_terminal_and_in_a_notebook(table: Callable[[], object]) -> None:
    shown = table()
    lines = repr(shown).splitlines()
    assert len(lines) == 4
    assert "IRET interception" in repr(shown)
    html = shown._repr_html_()  # type: ignore[attr-defined]  # Jupyter's name
    assert html.count("<tr>") == 4
    assert html.count('scope="row"') == 3


def test_a_function_is_named_by_the_docstring_it_has_now() -> None:
    id_ = "K-nmi_allowed"
    written(lab07.nmi_allowed, '"""No full stop"""\nreturn True')
    assert FUNCTIONS[id_].sentence == "No full stop."
    written(lab07.nmi_allowed, "return True")
    assert FUNCTIONS[id_] == (id_, "It has no docstring that says more.", YOURS, "model")
