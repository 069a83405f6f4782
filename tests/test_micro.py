"""Sub-steps: VMRUN, #VMEXIT, delivery and IRET opened, and what they set is exactly what the step set."""

from __future__ import annotations

from typing import Any

import pytest

from vnmi_lab.guest import Guest
from vnmi_lab.hv.profiles import POLICIES
from vnmi_lab.library import LIBRARY, find
from vnmi_lab.machine import Host
from vnmi_lab.rules import RULES
from vnmi_lab.scenario import BARE
from vnmi_lab.timeline import build, state_at
from vnmi_lab.timeline.columns import plain
from vnmi_lab.timeline.micro import LABELS, TAKING, micro, opens, substeps
from vnmi_lab.trace import Step, Trace


def read(name: str, policy: str) -> tuple[list[Step], Trace]:
    trace = Trace(find(name).on(policy).machine(), limit=300)
    return list(trace), trace


def labels(name: str, policy: str, kind: str, which: int = 0) -> list[str]:
    """Give the labels of the sub-steps of a run's n-th step of a kind."""
    steps, trace = read(name, policy)
    at = [n for n, step in enumerate(steps) if step.kind == kind and opens(step)][which]
    return [label for label, *_ in substeps(micro(steps, trace.rules), at)]


# --- the law ----------------------------------------------------------------------------------------------------------


def replay(trace: Trace) -> int:
    """Replay every sub-step of a run; return how many there are."""
    steps = list(trace)
    data = micro(steps, trace.rules)
    for at, _ in data["at"]:
        view: dict[str, Any] = {key: plain(value) for key, value in steps[at - 1].state.items()}
        for *_, sets in substeps(data, at):
            view.update(sets)
        assert view == {key: plain(value) for key, value in steps[at].state.items()}, f"{trace.title}, step {at}"
    assert [at for at, _ in data["at"]] == [n for n, step in enumerate(steps) if n and opens(step)]
    return sum(len(subs) for _, subs in data["at"])


@pytest.mark.parametrize("name", LIBRARY)
def test_the_sub_steps_end_in_the_next_state(name: str) -> None:
    for policy in dict.fromkeys((BARE, LIBRARY[name].scenario.policy, "legacy")):
        assert replay(Trace(LIBRARY[name].scenario.on(policy).machine(), f"{name} under {policy}", 300)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_the_sub_steps_end_in_the_next_state_under_every_policy(policy: str) -> None:
    for name in LIBRARY:
        replay(Trace(LIBRARY[name].scenario.on(policy).machine(), f"{name} under {policy}", 300))


def test_the_sub_steps_of_a_hosts_run_end_in_the_next_state() -> None:
    host = Host(Guest.of("nop\nnop\nvmmcall", {2: "iretq"}))
    host.load([("set", "event_inj", 0x80000200), "run"])
    assert replay(Trace(host, "a host")) > 0


# --- what they say ----------------------------------------------------------------------------------------------------


def test_vmrun_is_what_kvm_did_and_then_what_the_processor_loads() -> None:
    assert labels("two-at-once", "vnmi", "vmrun", 1) == [
        "vcpu_enter_guest",
        "process_nmi",
        "svm_set_vnmi_pending",
        "process_nmi",
        "vcpu_enter_guest",
        "kvm_check_and_inject_events",
        "svm_inject_nmi",
        "close GIF",
        "load the guest",
        "load V_IRQ, V_TPR, V_GIF",
        "load V_NMI, V_NMI_MASK",
        "open GIF",
        "load EVENTINJ",
        "mask virtual NMIs",
    ]


def test_taking_a_virtual_nmi_clears_v_nmi_and_masks_before_the_frame_is_pushed() -> None:
    assert labels("two-at-once", "vnmi", "deliver", 1) == [
        "clear V_NMI",
        "set V_NMI_MASK",
        "push the frame",
        "clear IF",
        "enter the handler",
    ]
    assert labels("two-at-once", "vnmi", "deliver")[0] == "take the injected event"
    assert labels("one", BARE, "deliver")[:2] == ["empty the latch", "mask NMIs"]


def test_an_iret_pops_and_then_unmasks() -> None:
    assert labels("two-at-once", "vnmi", "exec") == ["pop the frame", "clear V_NMI_MASK"]
    assert labels("one", BARE, "exec") == ["pop the frame", "unmask NMIs"]


def test_an_exit_in_the_middle_of_a_delivery_takes_the_mask_back_and_writes_exitintinfo() -> None:
    found = labels("idt-absent", "vnmi", "vmexit", 1)
    assert found[:3] == ["clear V_NMI", "set V_NMI_MASK", "close GIF"]
    assert found.index("take the mask back") < found.index("write EXITINTINFO") < found.index("put the host back")
    assert found[-1] == "put the host back"


def test_an_exit_first_closes_gif_and_last_brings_the_host_back() -> None:
    for name, policy in (("one", "vnmi"), ("in-handler", "legacy"), ("gif", "vnmi")):
        found = labels(name, policy, "vmexit")
        assert found[:2] == ["close GIF", "write the guest's state and the reason"]
        assert found[-1] == "put the host back"


def test_an_iret_takes_its_flags_from_the_frame_also_where_kvm_has_lent_it_rf() -> None:
    steps, trace = read("in-handler", "legacy")
    data = micro(steps, trace.rules)
    at = next(n for n, step in enumerate(steps) if step.kind == "exec" and step.text == "iretq")
    found = {label: dict(pairs) for label, *_, pairs in substeps(data, at)}
    assert found["pop the frame"]["rflags"] == steps[at].state["rflags"]
    assert list(found) == ["pop the frame", "unmask NMIs", "single-step trap"]
    assert not [change for change in steps[at].changes if change.rule == "R-RF-CLEAR"]


@pytest.mark.parametrize("name", LIBRARY)
def test_every_sub_step_has_a_name_in_words(name: str) -> None:
    for policy in dict.fromkeys((BARE, LIBRARY[name].scenario.policy, "legacy", "vnmi")):
        steps, trace = read(name, policy)
        for label, rule, _sentence in micro(steps, trace.rules)["rules"]:
            assert label != rule


def test_a_bit_that_changes_changes_its_register_with_it() -> None:
    steps, trace = read("two-at-once", "vnmi")
    data = micro(steps, trace.rules)
    sets = [dict(pairs) for at, _ in data["at"] for label, *_, pairs in substeps(data, at) if "set_vnmi" in label]
    assert sets
    assert all(one["v_nmi_pending"] == 1 and one["int_ctl"] >> 11 & 1 for one in sets)


def test_every_label_belongs_to_a_rule_and_every_rule_says_its_sentence() -> None:
    assert LABELS.keys() | TAKING.keys() <= RULES.keys()
    for policy in ("legacy", "vnmi"):
        steps, trace = read("in-handler", policy)
        for _label, rule, sentence in micro(steps, trace.rules)["rules"]:
            assert sentence == trace.rules[rule].sentence


def test_a_distinct_sub_step_travels_once() -> None:
    steps, trace = read("storm-spread", "legacy")
    data = micro(steps, trace.rules)
    assert len(data["subs"]) < sum(len(subs) for _, subs in data["at"])
    assert len({str(sub) for sub in data["subs"]}) == len(data["subs"])


def test_the_payload_has_them() -> None:
    trace = Trace(find("in-handler").on("legacy").machine())
    payload = build(trace)
    at = payload["micro"]["at"][0][0]
    view = state_at(payload, at - 1)
    for *_, sets in substeps(payload["micro"], at):
        view.update(sets)
    assert view == state_at(payload, at)
