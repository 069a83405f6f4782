"""A trace read in any order says the same: exact travel in time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.kvm_runs import two_at_once
from vnmi_lab.guest import Guest
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.machine import BareMetal, Host, Stimulus
from vnmi_lab.scenario import Scenario
from vnmi_lab.trace import SPACING, AnyMachine, Trace

LOOP = Guest.of(
    "mov ecx, 90\ntop: xor byte [rel here], 0xc8\nhere: nop\nloop top\nhlt", {2: "push rax\npop rax\niretq"}, tail="hlt"
)
"""It writes to its own code, NOP and POP RAX in turn: what was decoded once does not stay so."""


def scripted() -> Host:
    host = Host(Guest.of("nop\npush rax\npop rax", {2: "iretq"}))
    host.load([("set", "event_inj", 0x80000200), "run", "run"])
    return host


RUNS: dict[str, Callable[[], AnyMachine]] = {
    "bare metal": lambda: BareMetal(LOOP, [Stimulus(20), Stimulus(21), Stimulus(200)]),
    "a host": scripted,
    "legacy": lambda: two_at_once(LEGACY),
    "vnmi": lambda: two_at_once(VNMI),
}


@pytest.mark.parametrize("name", RUNS)
def test_steps_are_the_same_in_any_order(name: str) -> None:
    ordered = list(Trace(RUNS[name]()))
    assert len({step.text for step in ordered}) > 4
    shuffled = [*range(len(ordered)), *range(0, len(ordered), 3)]
    Random(4).shuffle(shuffled)  # noqa: S311 - the same order every time
    trace = Trace(RUNS[name]())
    for index in shuffled:
        assert trace[index] == ordered[index]


def test_a_look_at_the_machine_between_two_steps_changes_neither() -> None:
    trace, other = (Trace(BareMetal(LOOP, [Stimulus(20)])) for _ in range(2))
    for index in range(SPACING - 2, SPACING + 2):
        trace.goto(index - 1)
        trace.goto(index)
        assert trace[index] == other[index]


def test_an_entry_that_ends_a_nested_guest_instead_is_a_step_with_words() -> None:
    trace = Trace(Scenario.parse("v1~plain~vnmi~nmi@work~guest_mode~exit_on_nmi").machine())
    assert trace[-1].text == "KVM: vcpu_enter_guest"
    assert trace[-1].sentence.startswith("KVM does not enter the guest.")
    assert trace[-1].sentence.endswith("KVM_RUN returns to user space: NESTED_VMEXIT NMI.")
