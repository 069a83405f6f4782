"""Lab 08: the four cases as their guests saw them, and what the exercises that mend them let through."""

from __future__ import annotations

from typing import Any

import pytest

from vnmi_lab.checks import lab08
from vnmi_lab.checks.lab08_cases import ALARMED, CASES, MASKED, SHUTS, lineup, observed, symptom, warned
from vnmi_lab.checks.lab08_fixes import QUIET
from vnmi_lab.checks.lab08_schedules import NOT_THERE, played
from vnmi_lab.checks.measure import depth, entries
from vnmi_lab.explore import explore
from vnmi_lab.hv.profiles import VNMI, VNMI_6_4_RC
from vnmi_lab.hv.svm import open_window
from vnmi_lab.hv.vcpu import REQ_EVENT
from vnmi_lab.judge import GIF
from vnmi_lab.laws import LAWS
from vnmi_lab.machine import Stimulus

WORK, DONE, OPEN, NEVER = "before `work`", "before `done`", "before `open`", "never"
# case, what bare metal shows, what the guest saw
SAW = [
    ("pair", (WORK, WORK), (WORK, WORK)),
    ("late", (WORK, WORK), (WORK, NEVER)),
    ("ghost", (WORK, WORK, NEVER), (WORK, WORK, DONE)),
    ("lost", (WORK, WORK), (WORK, NEVER)),
    ("xen", (WORK, WORK), (WORK, NEVER)),
]


def written(code: str) -> Any:  # noqa: ANN401 - whatever a learner's cell defines
    names: dict[str, object] = {"REQ_EVENT": REQ_EVENT, "open_window": open_window}
    exec(code, names)  # noqa: S102 - what a learner's cell does
    return next(value for name, value in names.items() if name not in {"REQ_EVENT", "open_window", "__builtins__"})


@pytest.mark.parametrize(("case", "bare", "ours"), SAW)
def test_what_each_guest_saw(case: str, bare: tuple[str, ...], ours: tuple[str, ...]) -> None:
    shown = symptom(case)
    assert [line[1:] for line in shown.lines] == [bare, ours]
    assert repr(shown).count("before") == sum(place != NEVER for place in (*bare, *ours))
    assert "`" not in shown._repr_html_()


def test_in_case_three_the_guests_see_the_same_and_one_log_has_a_warning() -> None:
    new, old = symptom("alarm").lines
    assert new[1:-1] == old[1:-1] == (OPEN, OPEN)
    assert (new[-1], old[-1]) == ("0", "1")


def test_the_wrong_bit_errs_in_both_directions() -> None:
    stimuli = [Stimulus(at="closed"), Stimulus(at="opening", times=2)]
    runs = [entries(played(SHUTS, ops, stimuli)) for ops in (VNMI_6_4_RC, VNMI)]
    assert [len(steps) for steps in runs] == [3, 2]
    assert max(map(depth, runs[0])) == 1
    lost = CASES["lost"]
    assert [len(entries(played(lost.guest, ops, list(lost.stimuli)))) for ops in (VNMI_6_4_RC, VNMI)] == [1, 2]


def test_the_evidence_of_case_two_allows_one_bit_and_no_other() -> None:
    lines = [line[1:] for line in observed().lines]
    assert lines == [("2", "0", "0", "1", "2"), ("1", "0", "0", "1", "1"), ("1", "0", "1", "1", "0")]
    assert [bit for bit in (0, 8, *range(9, 13), *range(24, 28)) if lab08.which_bit.check(bit).ok] == [12]


def test_the_line_up_catches_all_but_the_one_that_only_warns() -> None:
    shown = lineup()
    found = {line[0]: line[1] for line in shown.lines}
    assert [name for name, words in found.items() if words.startswith("nothing")] == [ALARMED.name]
    assert MASKED.name in found
    assert "nothing, in 2,149 states" in repr(shown)
    assert shown._repr_html_().count("<tr>") == 5


def test_a_right_hypervisor_never_warns_and_the_old_assertion_does() -> None:
    assert all(explore(case.search(VNMI)).holds for case in QUIET)
    verdict = explore(QUIET[0].search(ALARMED))
    assert verdict.broken is not None
    assert verdict.broken.slug == "no_false_alarm"
    assert not warned(played(SHUTS, ALARMED, [Stimulus(at="closed")]))


def test_every_kind_of_step_that_can_be_pointed_at_has_its_answer() -> None:
    trace = lab08.run("late")
    assert {step.kind for step in trace} <= set(NOT_THERE)
    right = [number for number in range(len(trace)) if lab08.where.check(number).ok]
    assert right == [6]
    for number in set(range(len(trace))) - set(right):
        result = lab08.where.check(number)
        assert result.divergence is not None
        assert result.divergence.step == number


def test_an_assertion_that_is_deleted_or_fires_always_is_wrong() -> None:
    gone = "def enable_nmi_window(vcpu):\n    open_window(vcpu, masked=vcpu.ops.get_nmi_mask(vcpu))\n"
    assert lab08.enable_nmi_window.check(written(gone)).message.startswith("Now it never fires")
    assert not lab08.enable_nmi_window.check(5).ok


def test_the_mended_patch_still_leaves_an_nmi_stuck() -> None:
    mended = CASES["late"].ops.but(process_nmi=written(lab08.process_nmi.good))
    verdict = explore(GIF.search(mended))
    assert verdict.broken is not None
    assert verdict.broken.slug == "looked_at"
    assert verdict.broken in LAWS


def test_dropping_all_is_no_cure_for_a_ghost() -> None:
    code = lab08.process_nmi.good.replace("limit -= vcpu.vmcb.int_ctl.v_nmi_pending", "limit = 0")
    assert lab08.process_nmi.check(written(code)).message.startswith("An NMI is lost")
