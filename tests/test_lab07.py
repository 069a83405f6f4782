"""Lab 07: the hypervisors on the way, the worked hook, and a learner's functions together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from vnmi_lab.checks import lab07, lab07_whole
from vnmi_lab.checks.hooks import AT_AN_OPEN_DOOR, BOTH, Hook
from vnmi_lab.checks.lab07_stages import LATE, STAGES, breaks
from vnmi_lab.explore import Search, explore
from vnmi_lab.hv.profiles import LEGACY
from vnmi_lab.hv.svm import borrow_step
from vnmi_lab.hv.vcpu import REQ_EVENT
from vnmi_lab.judge import NPF, PLAIN, Case

LAB = Path(__file__).parent.parent / "labs" / "07_write_it_yourself.py"

# the hook put in last, the law that is broken then
BREAKS = [
    ("nothing", "not_before_iret"),
    ("inject_nmi", "not_before_iret"),
    ("nmi_allowed", "comes_to_rest"),
    ("iret_interception", "not_lost"),
    ("complete_interrupts", "taken_at_once"),
    ("the new processor", "taken_at_once"),
    ("set_vnmi_pending", "taken_at_once"),
]
FINISHED = ("enable_nmi_window", "process_nmi")


def written(code: str) -> Any:  # noqa: ANN401 - whatever a learner's cell defines
    names: dict[str, object] = {"REQ_EVENT": REQ_EVENT, "borrow_step": borrow_step}
    exec(code, names)  # noqa: S102 - what a learner's cell does
    return next(value for name, value in names.items() if name not in {"REQ_EVENT", "borrow_step", "__builtins__"})


@pytest.mark.parametrize(("stage", "law"), BREAKS)
def test_each_hypervisor_on_the_way_breaks_the_law_that_the_next_hook_mends(stage: str, law: str) -> None:
    found = breaks(stage)
    assert f"The shortest schedule: {'' if law == 'comes_to_rest' else '1 step, '}" in found.words
    ops, nmis, laws = STAGES[stage]
    verdict = explore(Search(ops, nmis=nmis, laws=laws))
    assert verdict.broken is not None
    assert verdict.broken.slug == law
    assert 0 < found.step < len(found.run)
    assert "What breaks it" in repr(found)
    assert "What breaks it" in found._repr_html_()


def test_only_the_finished_hypervisors_hold() -> None:
    assert set(STAGES) == {stage for stage, _law in BREAKS} | set(FINISHED)
    for stage in FINISHED:
        ops, nmis, _laws = STAGES[stage]
        assert explore(Search(ops, nmis=nmis, laws=(*LATE, BOTH, AT_AN_OPEN_DOOR))).holds


def test_the_worked_hook_is_right() -> None:
    cell = re.search(r"^def inject_nmi.*?(?=^# %%)", LAB.read_text(), re.MULTILINE | re.DOTALL)
    assert cell is not None
    assert Hook("inject_nmi", LEGACY, (PLAIN, NPF), "")(written(cell[0])).ok


def test_what_a_learner_wrote_is_judged_together() -> None:
    good = [written(exercise.good) for exercise in lab07.EXERCISES[:5]]
    whole = lab07.hypervisor(*good)
    assert whole.words.startswith("Yours: `nmi_allowed`, ")
    assert "stands in" not in whole.words
    assert [cell[:12] for line in whole.lines for cell in line[1:]] == ["holds in all"] * 8
    assert repr(whole).count("holds in all") == whole._repr_html_().count("holds in all") == 8


@pytest.fixture
def one_situation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab07_whole, "SITUATIONS", {"works, and halts": Case("idle", 2)})


@pytest.mark.usefixtures("one_situation")
def test_a_hook_not_yet_written_is_kvms_and_a_wrong_one_is_seen() -> None:
    bad = written(lab07.nmi_allowed.wrong[0].code)
    whole = lab07.hypervisor(bad, written(lab07.process_nmi.start), 5)
    assert whole.words == "Yours: `nmi_allowed`. KVM's stands in for `process_nmi`."
    assert whole.lines[0][1].startswith("broken: After an NMI is delivered")
    assert lab07.hypervisor().words == "Nothing of it is yours yet."


@pytest.mark.usefixtures("one_situation")
def test_a_hook_that_raises_is_told_in_the_table() -> None:
    whole = lab07.hypervisor(written("def process_nmi(vcpu):\n    1 / 0\n"))
    assert whole.lines[0][1].startswith("LearnerError: process_nmi raised ZeroDivisionError")


def test_nmi_allowed_without_its_second_argument_is_answered() -> None:
    result = lab07.nmi_allowed.check(written("def nmi_allowed(vcpu):\n    return 1\n"))
    assert result.outcome == "raised"
    assert "takes 1 positional argument but 2 were given" in result.message


def test_a_step_into_an_iret_that_exits_by_itself_is_needless() -> None:
    exercise = lab07.enable_nmi_window
    wrong = next(wrong for wrong in exercise.wrong if wrong.name == "each instruction is stepped")
    result = exercise.check(written(wrong.code))
    assert result.divergence is not None
    assert result.divergence.rule.id == "no_needless_step"
