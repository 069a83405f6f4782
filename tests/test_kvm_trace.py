"""A guest under KVM, step by step: which functions ran, what each changed, and what the step is said to have done."""

from __future__ import annotations

import pytest

from tests.kvm_runs import HANDLER, two_at_once
from vnmi_lab.guest import Guest
from vnmi_lab.hv.calls import FUNCTIONS
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hv.profiles import LEGACY, POLICIES, VNMI
from vnmi_lab.hw.events import Arrived, KvmCalled
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Host, Stimulus
from vnmi_lab.rules import RULES
from vnmi_lab.trace import Step, Trace

KVM_KEYS = (
    "nmi_queued", "nmi_pending", "nmi_injected", "nmi_masked", "awaiting_iret_completion", "nmi_singlestep",
    "requests", "iret_intercept", "kicks",
)  # fmt: skip


def traced(ops: NmiOps) -> Trace:
    return Trace(two_at_once(ops), ops.name)


def said(trace: Trace) -> list[tuple[str, str]]:
    """Return kind and label of every step that is no instruction."""
    return [(step.kind, step.text) for step in trace if step.kind != "exec"]


def only(trace: Trace, text: str) -> Step:
    """Return the first step with a label."""
    index = trace.find(lambda step: step.text == text)
    assert index is not None, text
    return trace[index]


START = [
    ("host", "host: KVM_RUN"),
    ("vmrun", "VMRUN"),
    ("stimulus", "NMI arrives x2"),
    ("vmexit", "#VMEXIT INTR (60h)"),
]
START += [("kvm", "KVM: nop_on_interception"), ("vmrun", "VMRUN"), ("deliver", "NMI taken")]
AT_IRET = [("vmexit", "#VMEXIT IRET (74h)"), ("kvm", "KVM: iret_interception"), ("vmrun", "VMRUN")]
STEPPED = [("vmexit", "#VMEXIT EXC_DB (41h)"), ("kvm", "KVM: db_interception"), ("vmrun", "VMRUN")]
END = [("vmexit", "#VMEXIT HLT (78h)"), ("kvm", "KVM: kvm_emulate_halt")]


def test_legacy_steps_over_the_first_iret_to_inject_the_second_nmi() -> None:
    taken = ("deliver", "NMI taken")
    assert said(traced(LEGACY)) == [*START, *AT_IRET, *STEPPED, taken, *AT_IRET, *END]


def test_vnmi_takes_the_second_nmi_without_an_exit() -> None:
    assert said(traced(VNMI)) == [*START, ("deliver", "NMI taken"), *END]


@pytest.mark.parametrize("name", POLICIES)
def test_every_step_has_kvms_fields_and_its_functions_are_rules(name: str) -> None:
    trace = Trace(two_at_once(POLICIES[name]), limit=60)
    for step in trace:
        assert step.state.keys() >= set(KVM_KEYS)
        assert all(isinstance(step.state[key], int) for key in KVM_KEYS)
        for depth, function, file in step.calls:
            assert depth >= 0
            rule = trace.rules[f"K-{function}"]
            assert rule.grade not in {"KVM", "vendor"} or f"{file}: " in rule.source


def test_the_fields_are_those_of_the_vcpu() -> None:
    trace = traced(LEGACY)
    for index, step in enumerate(trace):
        machine = trace.goto(index + 1)
        assert isinstance(machine, Kvm)
        assert [step.state[key] for key in KVM_KEYS if key != "iret_intercept"] == [
            int(getattr(machine.vcpu, key)) for key in KVM_KEYS if key != "iret_intercept"
        ]
        assert step.state["iret_intercept"] == int(machine.vcpu.vmcb.intercept_3.iret)


def test_an_nmi_from_outside_is_posted_and_kicks_the_running_guest() -> None:
    step = only(traced(VNMI), "NMI arrives x2")
    assert isinstance(step.events[0], Arrived)
    assert step.events[0].rule == "R-WORLD"
    assert step.calls == ((0, "kvm_inject_nmi", "x86.c"),) * 2
    assert [(c.rule, c.old, c.new) for c in step.changes if c.field == "nmi_queued"] == [
        ("K-kvm_inject_nmi", 0, 1),
        ("K-kvm_inject_nmi", 1, 2),
    ]
    assert "2 NMIs at once arrive" in step.sentence
    assert "kicks" in step.sentence


def test_the_call_path_of_an_exit_is_in_order_and_nested() -> None:
    step = only(traced(LEGACY), "KVM: iret_interception")
    path = [(depth, name) for depth, name, _ in step.calls]
    assert path[path.index((1, "svm_handle_exit")) :] == [
        (1, "svm_handle_exit"),
        (2, "iret_interception"),
        (3, "svm_clr_iret_intercept"),
    ]
    assert {name: file for _, name, file in step.calls}["iret_interception"] == "svm/svm.c"


def test_a_change_belongs_to_the_function_that_made_it() -> None:
    step = only(traced(LEGACY), "KVM: db_interception")
    owners = {change.field: change.rule for change in step.changes}
    assert owners["nmi_masked"] == owners["awaiting_iret_completion"] == "K-svm_complete_interrupts"
    assert owners["nmi_singlestep"] == "K-disable_nmi_singlestep"


def test_the_sentence_of_a_handled_exit_uses_the_functions_own() -> None:
    step = only(traced(LEGACY), "KVM: iret_interception")
    assert step.sentence.startswith("KVM handles #VMEXIT IRET (74h). ")
    own = FUNCTIONS["K-iret_interception"].sentence
    assert f"iret_interception: {own[0].lower()}{own[1:-1]} (awaiting_iret_completion 0 to 1" in step.sentence


def test_the_way_in_says_what_was_accepted_and_injected() -> None:
    step = next(step for step in traced(VNMI) if step.kind == "vmrun" and len(step.calls) > 2)
    assert "process_nmi: " in step.sentence
    assert "int_ctl.v_nmi_pending 0 to 1" in step.sentence
    assert step.sentence.endswith("VMRUN enters the guest at 'again'. EVENTINJ holds NMI, to be delivered first.")


def test_a_stop_says_what_user_space_is_told() -> None:
    told = [step.sentence for step in Trace(Kvm(Guest.of("out 0x80, al")), limit=4) if step.kind == "kvm"]
    assert told[0].endswith("KVM_RUN returns to user space: OUT 0x80.")


def test_a_migration_says_what_the_new_vcpu_lacked_and_what_it_was_told() -> None:
    guest = Guest.of("nop\nhlt", {2: "nop\nout 0x80, al\niretq"}, tail="hlt")
    trace = Trace(Kvm(guest, VNMI, stimuli=[Stimulus(2), Stimulus(4, "migrate")]))
    step = next(step for step in trace if "KVM_GET_VCPU_EVENTS" in step.text)
    assert step.kind == "host"
    assert step.sentence.startswith("User space calls KVM_GET_VCPU_EVENTS, then KVM_SET_VCPU_EVENTS on a new vCPU (")
    assert "int_ctl.v_nmi_blocking 1 to 0" in step.sentence
    told = [(c.rule, c.new) for c in step.changes if c.field == "int_ctl.v_nmi_blocking"]
    assert told == [("R-HOST", 0), ("K-svm_set_nmi_mask", 1)]


def test_a_refused_entry_is_kvms_to_handle() -> None:
    trace = Trace(Kvm(Guest.of("hlt"), POLICIES["m10"]))
    assert said(trace)[1:] == [("vmexit", "#VMEXIT INVALID"), ("kvm", "KVM: svm_handle_exit")]
    assert trace[-1].sentence.endswith("KVM_RUN returns to user space: FAIL_ENTRY.")


def test_a_register_that_kvm_emulated_is_its_change() -> None:
    code = "mov rbx, 0xfee00300\nmov dword [rbx], 0x400\nmov ecx, 5\nmov ecx, [rbx]\nhlt"
    trace = Trace(Kvm(Guest.of(code, {2: HANDLER}, tail="hlt")))
    emulated = [step for step in trace if any(name == "x86_emulate_instruction" for _, name, _ in step.calls)]
    assert "kvm_lapic_reg_write" in {name for _, name, _ in emulated[0].calls}
    assert ("K-x86_emulate_instruction", "rcx", 5, 0) in emulated[1].changes


def test_other_machines_are_traced_as_before() -> None:
    trace = Trace(Host(Guest.of("vmmcall")))
    assert trace.rules is RULES
    assert not any(isinstance(event, KvmCalled) for step in trace for event in step.events)


def test_any_order_of_reading_gives_the_same_steps() -> None:
    forward, backward = list(traced(LEGACY)), traced(LEGACY)
    assert [backward[i] for i in reversed(range(len(backward)))] == forward[::-1]
