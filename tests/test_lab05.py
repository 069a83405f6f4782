"""Lab 05: what its machine shows, beside what every lab's tests ask."""

from __future__ import annotations

import pytest

from vnmi_lab.checks import lab05
from vnmi_lab.checks.lab05 import BITS, answers, moments
from vnmi_lab.checks.lab05_allowed import put, states
from vnmi_lab.checks.measure import entries
from vnmi_lab.guest_text import source_of
from vnmi_lab.hv.ops import EBUSY
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.hv.svm import gif_set, svm_nmi_allowed
from vnmi_lab.hv.vcpu import Vcpu
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import BareMetal
from vnmi_lab.trace import Trace

TWICE = "mov dword [r15], 0x4400\n" * 2
SPY = source_of(f"clgi\n{TWICE}stgi\nhlt").guest()


def test_two_nmis_behind_a_closed_gate_are_one_on_bare_metal_and_two_under_kvm() -> None:
    assert len(entries(Trace(BareMetal(SPY)))) == 1
    assert [len(entries(Trace(Kvm(SPY, ops)))) for ops in (LEGACY, VNMI)] == [2, 2]


def test_one_run_shows_all_four_states_of_the_two_bits() -> None:
    trace = Trace(lab05.two_questions())
    found = moments(trace)
    assert set(found) == set(BITS)
    for (v_nmi, mask), step in found.items():
        assert answers(trace, step) == (1 - v_nmi, 1 - mask)


def test_every_state_is_asked_about_and_put_as_it_is_told() -> None:
    asked = list(states())
    assert len(asked) == len(set(asked)) == 16 + 64
    for state in asked:
        nested_run, gif, guest_mode, exits, mask, shadow, _for_injection = state
        vcpu = put(state).vcpu
        assert (vcpu.nested_run_pending, gif_set(vcpu), vcpu.guest_mode) == (nested_run, gif, guest_mode)
        assert vcpu.features.exit_on_nmi == exits
        assert (vcpu.ops.get_nmi_mask(vcpu), vcpu.vmcb.int_state.interrupt_shadow) == (mask, shadow)
    assert {svm_nmi_allowed(put(state).vcpu, bool(state[-1])) for state in asked} == {1, 0, EBUSY}


def test_a_function_that_raises_only_for_a_nested_guest_is_shown_in_its_own_line() -> None:
    def nmi_allowed(vcpu: Vcpu, for_injection: bool) -> int:  # noqa: FBT001 - KVM's signature
        return svm_nmi_allowed(vcpu, for_injection) // (1 - vcpu.guest_mode)

    result = lab05.nmi_allowed.check(nmi_allowed)
    assert result.outcome == "raised"
    assert "ZeroDivisionError" in result.message
    assert result.line


@pytest.mark.parametrize(
    ("guest", "message"),
    [
        (source_of(f"clgi\n{TWICE}stgi\nhlt"), "On bare metal the handler runs 1 time, under KVM 2"),
        (f"clgi\n{TWICE * 3}stgi\nhlt\n\nhandler nmi:\ninc qword [rbx+16]\niretq", "On bare metal the handler runs 1"),
    ],
)
def test_a_guest_is_taken_as_text_or_from_a_cell_and_judged_by_what_it_does(guest: object, message: str) -> None:
    result = lab05.spy.check(guest)
    assert result.outcome == "correct", result
    assert result.message.startswith(message)


def test_a_guest_that_does_not_assemble_is_shown_with_its_line() -> None:
    result = lab05.spy.check("start: clgi\n       stig\n       hlt")
    assert (result.outcome, result.line) == ("raised", "stig")
    assert "line 2, column 8" in result.message
