"""Why is it blocked? The answer agrees with KVM and with the processor in every state the judge reaches."""

from __future__ import annotations

from itertools import product

import pytest

from vnmi_lab.explore import Search, explore
from vnmi_lab.guest import Guest
from vnmi_lab.guests import GUESTS
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.hw.cpu import Cpu
from vnmi_lab.kvm import GUEST, Kvm
from vnmi_lab.laws import Law, Moment
from vnmi_lab.machine import Stimulus
from vnmi_lab.trace import Trace
from vnmi_lab.why import may_inject, may_take, unblocked_at


def agrees(moment: Moment) -> bool:
    """Say whether the explanation gives what the policy's own function gives."""
    kvm = moment.kvm
    if kvm.phase == GUEST:
        return True  # the VMCB is not the guest's state now, and KVM does not ask
    answer = may_inject(kvm)
    return answer.allowed == kvm.ops.nmi_allowed(kvm.vcpu, True)  # noqa: FBT003 - for_injection


SEARCHED = ("idle", "idle-gif", "idle-shadow", "idle-stops")
AGREES = Law("agrees", "The explanation agrees with nmi_allowed.", "this project", agrees)


@pytest.mark.parametrize(("ops", "guest"), [*product((LEGACY, VNMI), SEARCHED)])
def test_it_agrees_with_kvm_in_every_state(ops: object, guest: str) -> None:
    search = Search(ops, GUESTS[guest].source.guest(), 2, absent=(0,), laws=(AGREES,))  # type: ignore[arg-type]  # a policy
    assert explore(search).holds


@pytest.mark.parametrize(("guest_mode", "exits", "pending"), [*product((False, True), repeat=3)])
def test_it_agrees_on_the_nested_branches(*, guest_mode: bool, exits: bool, pending: bool) -> None:
    features = Features(vnmi_cpuid=False, guest_mode=guest_mode, exit_on_nmi=exits, nested_run_pending=pending)
    kvm = Kvm(Guest.of("hlt"), LEGACY, features)
    answer = may_inject(kvm)
    assert answer.allowed == LEGACY.nmi_allowed(kvm.vcpu, True)  # noqa: FBT003 - for_injection
    assert (answer.decides is None) == (answer.allowed == 1)


HELD = [  # what is set in the processor, what decides
    ({}, None),
    ({"gif": 0}, "gif"),
    ({"v_gif_enable": 1, "v_gif": 0}, "v_gif"),
    ({"shadow": 1}, "shadow"),
    ({"v_nmi_blocking": 1}, "v_nmi_blocking"),
    ({"gif": 0, "shadow": 1, "v_nmi_blocking": 1}, "gif"),
]


@pytest.mark.parametrize(("fields", "decides"), HELD)
def test_what_keeps_a_virtual_nmi_out_of_the_processor(fields: dict[str, int], decides: str | None) -> None:
    cpu = Cpu()
    for name, value in fields.items():
        setattr(cpu, name, value)
    answer = may_take(cpu)
    assert (answer.decides.name if answer.decides else None) == decides
    assert {c.name for c in answer.conditions if c.holds} == {n.replace("v_gif_enable", "v_gif") for n in fields}


def test_it_says_in_words_what_decides_and_until_when() -> None:
    guest = GUESTS["idle"].source.guest()
    kvm = Kvm(guest, LEGACY, Features(vnmi_cpuid=False), stimuli=[Stimulus("work"), Stimulus("body")])
    trace = Trace(kvm.fresh())
    blocked = next(i for i in range(len(trace)) if trace.goto(i).vcpu.nmi_masked and trace.goto(i).phase != GUEST)  # type: ignore[union-attr]  # a Kvm
    said = str(may_inject(trace.goto(blocked)))  # type: ignore[arg-type]  # a Kvm
    assert "-> mask" in said
    assert "An NMI is in service. Until the IRET that ends it." in said
    free = unblocked_at(trace, blocked)
    assert free is not None
    assert free > blocked
    assert not trace.goto(free).vcpu.nmi_masked  # type: ignore[union-attr]  # a Kvm
