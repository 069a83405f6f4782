"""Why an NMI is blocked, step by step: the answers are the machine's own, and each block ends where it is said to."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from tests.timeline_runs import latched
from vnmi_lab.guest import Guest
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hv.profiles import LEGACY, POLICIES, VNMI
from vnmi_lab.hv.vcpu import Vcpu
from vnmi_lab.hw.delivery import BY_NAME, held_by
from vnmi_lab.kvm import GUEST, Kvm
from vnmi_lab.library import LIBRARY, find
from vnmi_lab.machine import Host, Stimulus
from vnmi_lab.scenario import BARE
from vnmi_lab.timeline import build
from vnmi_lab.timeline.blocked import blocked
from vnmi_lab.timeline.columns import at
from vnmi_lab.trace import Trace
from vnmi_lab.why import FREE, TAKERS, asked

SHIPPED = (BARE, *POLICIES)
LONGEST = 120


def run(name: str, policy: str) -> tuple[Trace, dict[str, Any]]:
    trace = Trace(find(name).on(policy).machine(), name, LONGEST)
    found = blocked(trace)
    assert found is not None
    return trace, found


def parties(found: dict[str, Any], step: int) -> dict[str, dict[str, Any]]:
    return {party["who"]: party for party in found["answers"][at(found["at"], step)]}


@pytest.mark.parametrize("name", LIBRARY)
def test_every_answer_is_the_machines_own(name: str) -> None:
    for policy in SHIPPED:
        trace, found = run(name, policy)
        for step in range(len(trace)):
            machine = trace.goto(step + 1)
            said = parties(found, step)
            if isinstance(machine, Kvm):
                kvm = said.pop("KVM")
                running = machine.phase == GUEST
                own = None if running else machine.ops.nmi_allowed(machine.vcpu, True)  # noqa: FBT003 - for_injection
                assert kvm["verdict"] == own, (policy, step)
                assert (kvm["decides"] is None) == (kvm["verdict"] == 1)
                assert kvm["waits"] == machine.vcpu.nmi_queued + machine.vcpu.nmi_pending
            for source, who in TAKERS.items():
                if who in said:
                    held = held_by(machine.cpu, source)
                    names = [found["conditions"][place][0] for place, holds in said[who]["held"] if holds]
                    assert names == list(held)
                    assert said[who]["verdict"] == int(not held)
                    assert said[who]["waits"] == getattr(machine.cpu, BY_NAME[source].pending)


@pytest.mark.parametrize(("name", "policy"), [*product(("in-handler", "shadow-two", "gif-two", "smi"), SHIPPED)])
def test_a_block_ends_at_the_first_step_that_denies_it(name: str, policy: str) -> None:
    trace, found = run(name, policy)
    for step in range(len(trace)):
        for who, party in parties(found, step).items():
            end = at(found["ends"][who], step)
            if party["decides"] is None:
                assert end is None
                continue
            later = [parties(found, n).get(who) for n in range(step + 1, len(trace))]
            denied = [
                n
                for n, said in enumerate(later, step + 1)
                if said is not None and dict(said["held"]).get(party["decides"], int(said["verdict"] is None)) == 0
            ]
            assert end == (denied[0] if denied else None)


def test_a_run_that_somebody_wrote_down_has_no_machine_to_ask() -> None:
    assert blocked(latched()) is None
    assert build(latched())["blocked"] is None


def test_it_is_small_and_each_answer_is_written_once() -> None:
    trace = Trace(
        Kvm(Guest.of("again: nop\njmp again", {2: "nop\niretq"}), stimuli=[Stimulus(50 * n) for n in range(30)]),
        limit=2000,
    )
    found = blocked(trace)
    assert found is not None
    assert len(found["answers"]) == len({json.dumps(answer) for answer in found["answers"]}) <= 12
    assert len(json.dumps(found)) < 12_000


def test_with_virtual_nmis_a_mask_does_not_keep_the_next_one_from_the_processor() -> None:
    trace, found = run("in-handler", "vnmi")
    step = trace.find(
        lambda s: s.kind == "vmexit" and s.state["nmi_queued"] == 1, trace.find(lambda s: s.kind == "deliver") or 0
    )
    assert step is not None
    assert parties(found, step)["KVM"]["note"] == FREE
    assert "note" not in parties(run("in-handler", "legacy")[1], step)["KVM"]


def test_a_scripted_host_has_the_processors_answer_only() -> None:
    host = Host(Guest.of("nop\nvmmcall"))
    host.do("run")
    found = blocked(Trace(host.fresh()))
    assert found is not None
    assert {party["who"] for answer in found["answers"] for party in answer} == {TAKERS["nmi"]}


def changes_the_vcpu(vcpu: Vcpu, for_injection: bool) -> int:  # noqa: ARG001, FBT001 - KVM's signature
    vcpu.nmi_masked = True
    return 0


@pytest.mark.parametrize("ops", [LEGACY.but(nmi_allowed=changes_the_vcpu), VNMI.but(nmi_allowed=changes_the_vcpu)])
def test_asking_a_learners_own_rule_changes_nothing(ops: NmiOps) -> None:
    kvm = Kvm(Guest.of("hlt"), ops)
    before = kvm.snapshot()
    (answer,) = asked(kvm)
    assert answer.blocked.decides is not None
    assert answer.blocked.decides.name == "its own rule"
    assert kvm.snapshot() == before
