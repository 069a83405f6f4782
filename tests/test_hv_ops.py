"""Each function of the hypervisor against its contract, alone: tables and independent oracles.

The oracles are written from the project's fact sheet, not from the functions: who reads both reads the rule twice.
"""

# ruff: noqa: FBT001, FBT003 - the columns of a table are positional, and so are KVM's booleans
from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from tests.cases import product
from tests.kvm_cases import HANDLER, Played
from vnmi_lab.guest import Guest
from vnmi_lab.hv import exits, smm, svm, x86
from vnmi_lab.hv.calls import FUNCTIONS
from vnmi_lab.hv.ops import EBUSY, ROWS, Events, NmiOps
from vnmi_lab.hv.profiles import (
    BLIND,
    LEGACY,
    PATCH_V4,
    POLICIES,
    VNMI,
    VNMI_6_4_RC,
    XEN_LIKE,
    clear_vnmi_mask,
    set_vnmi_mask,
)
from vnmi_lab.hv.vcpu import REQ_EVENT, REQ_NMI, STATE, Features, Vcpu
from vnmi_lab.hw.delivery import EXCEPTION, IF, INTR, NMI, RF, SOFT, TF, event_word
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Stimulus
from vnmi_lab.rules import Switches

GUEST = Guest.of("nop\nint 0x33\nint3\nhlt", {2: HANDLER}, tail="hlt")
NMI_INJ = 0x80000200
NO_VNMI = Features(vnmi_cpuid=False)
KINDS = [True, False]


def vcpu_of(
    ops: NmiOps,
    features: Features | None = None,
    switches: Switches | None = None,
    **fields: Any,  # noqa: ANN401 - whatever the field holds
) -> Vcpu:
    """Return a fresh vCPU with fields, bits of int_ctl and the shadow set by name."""
    vcpu = Kvm(GUEST, ops, features or Features(vnmi_cpuid=ops.uses_vnmi), switches).vcpu
    for name, value in fields.items():
        if name in vcpu.vmcb.int_ctl.FIELDS:
            vcpu.vmcb.update("int_ctl", **{name: int(bool(value))})
        elif name == "shadow":
            vcpu.vmcb.update("int_state", interrupt_shadow=int(bool(value)))
        elif name in STATE:
            setattr(vcpu, name, value)
        else:
            setattr(vcpu.vmcb, name, value)
    return vcpu


# --- the record ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ROWS)
@pytest.mark.parametrize("ops", POLICIES.values(), ids=POLICIES)
def test_every_policy_has_every_function_and_it_says_what_it_does(ops: NmiOps, hook: str) -> None:
    function = getattr(ops, hook)
    assert callable(function)
    assert inspect.getdoc(function)
    promised = len(inspect.signature(getattr(LEGACY, hook)).parameters)
    assert len(inspect.signature(function).parameters) == promised


@pytest.mark.parametrize("hook", ROWS)
def test_every_row_is_documented(hook: str) -> None:
    row = ROWS[hook]
    assert row.kind in ("op", "seam")
    assert row.promise.endswith(".")
    assert row.file in ("x86.c", "svm/svm.c", "svm/svm.h", "svm/nested.c", "svm/sev.c")
    assert row.when


def test_the_record_is_the_table() -> None:
    assert {f.name for f in fields(NmiOps)} - {"name", "follows", "uses_vnmi"} == set(ROWS)


def test_every_marked_function_has_a_sentence_and_a_source() -> None:
    assert len(FUNCTIONS) > 50
    for name, rule in FUNCTIONS.items():
        assert rule.sentence.endswith((".", ":")), name
        assert ("arch/x86/kvm/" in rule.source) == (rule.grade in {"KVM", "vendor"}), "what no kernel has says so"
    assert FUNCTIONS["K-process_nmi"].source == "Linux 6.12, arch/x86/kvm/x86.c: process_nmi()"
    assert FUNCTIONS["K-svm_inject_nmi_v4"].source.endswith(
        "posted 2022-08-29, arch/x86/kvm/svm/svm.c: svm_inject_nmi()"
    )
    assert FUNCTIONS["K-skip_the_iret"].source == "this project, and no kernel"


def test_names_and_what_they_follow() -> None:
    assert list(POLICIES)[:6] == ["blind", "legacy", "patch-v4", "vnmi-6.4-rc", "vnmi", "xen-like"]
    assert list(POLICIES)[6:] == [f"m{i}" for i in range(1, 13)]
    assert all(ops.follows and ops.name == name for name, ops in POLICIES.items())


def test_a_variant_says_what_differs() -> None:
    def mine(_vcpu: Vcpu) -> None:
        """Do nothing."""

    variant = LEGACY.but(iret_interception=mine)
    assert variant.name == "legacy but iret_interception=mine"
    assert variant.follows == LEGACY.follows
    assert variant.iret_interception is mine
    assert variant.inject_nmi is LEGACY.inject_nmi
    assert LEGACY.iret_interception is not mine
    assert LEGACY.but("other", process_nmi=mine).name == "other"


def test_a_hook_that_does_not_exist_is_refused_with_a_hint() -> None:
    with pytest.raises(AttributeError, match=r"no hook 'iret_intercept'; did you mean 'iret_interception'\?"):
        LEGACY.but(iret_intercept=svm.svm_inject_nmi)


@pytest.mark.parametrize("hook", ["name", "follows"])
def test_name_and_follows_are_no_hooks(hook: str) -> None:
    assert hook not in ROWS


def test_a_hook_must_be_a_function() -> None:
    with pytest.raises(TypeError, match="inject_nmi must be a function, not 5"):
        LEGACY.but(inject_nmi=5)


# --- process_nmi -----------------------------------------------------------------------------------------------------


def rule_3_5(mask: bool, v_nmi: bool, injected: bool, pending: int, k: int) -> tuple[int, int]:
    """The fact sheet's table for the merged process_nmi: V_NMI and nmi_pending afterwards."""
    room = (1 if mask or injected else 2) - v_nmi
    left = min(pending + k, room)
    if left and not v_nmi:
        return 1, left - 1
    return int(v_nmi), left


EVERY = list(product(v_nmi_blocking=KINDS, v_nmi_pending=KINDS, nmi_injected=KINDS, nmi_pending=(0, 1), k=range(4)))


@pytest.mark.parametrize("row", EVERY, ids=lambda row: " ".join(str(int(value)) for value in row.values()))
def test_process_nmi_with_virtual_nmis(row: dict[str, int]) -> None:
    vcpu = vcpu_of(VNMI, **row_without_k(row), nmi_queued=row["k"])
    VNMI.process_nmi(vcpu)
    wanted = rule_3_5(
        bool(row["v_nmi_blocking"]),
        bool(row["v_nmi_pending"]),
        bool(row["nmi_injected"]),
        row["nmi_pending"],
        row["k"],
    )
    assert (vcpu.vmcb.int_ctl.v_nmi_pending, vcpu.nmi_pending) == wanted
    assert vcpu.nmi_queued == 0
    assert bool(vcpu.requests & REQ_EVENT) == (wanted[1] > 0)  # 2cb9317377ca: only if one is left
    kept = wanted[0] - row["v_nmi_pending"] + wanted[1]
    assert vcpu.dropped == row["nmi_pending"] + row["k"] - kept
    assert vcpu.nmi_injections == wanted[0] - row["v_nmi_pending"]  # counted at the hand-over


def row_without_k(row: dict[str, int]) -> dict[str, Any]:
    """The row's fields of the vCPU."""
    return {name: value for name, value in row.items() if name != "k"}


TABLE_3_5 = [  # V_NMI_MASK, V_NMI, nmi_injected, k: V_NMI and nmi_pending afterwards, as the fact sheet prints them
    ((0, 0, 0, 1), (1, 0)),
    ((0, 0, 0, 2), (1, 1)),
    ((0, 0, 0, 3), (1, 1)),
    ((1, 0, 0, 1), (1, 0)),
    ((1, 0, 0, 3), (1, 0)),
    ((1, 1, 0, 1), (1, 0)),
    ((1, 1, 0, 3), (1, 0)),
    ((0, 1, 0, 1), (1, 1)),
    ((0, 1, 0, 3), (1, 1)),
    ((0, 0, 1, 1), (1, 0)),
    ((0, 0, 1, 3), (1, 0)),
    ((0, 1, 1, 1), (1, 0)),
]


@pytest.mark.parametrize(("before", "after"), TABLE_3_5)
def test_the_printed_table_of_process_nmi(before: tuple[int, ...], after: tuple[int, int]) -> None:
    mask, v_nmi, injected, k = before
    vcpu = vcpu_of(VNMI, v_nmi_blocking=mask, v_nmi_pending=v_nmi, nmi_injected=bool(injected), nmi_queued=k)
    VNMI.process_nmi(vcpu)
    assert (vcpu.vmcb.int_ctl.v_nmi_pending, vcpu.nmi_pending) == after


LEGACY_LIMITS = list(product(nmi_masked=KINDS, nmi_injected=KINDS, nmi_pending=(0, 1, 2), k=range(4)))


@pytest.mark.parametrize("row", LEGACY_LIMITS, ids=lambda row: " ".join(str(int(v)) for v in row.values()))
def test_process_nmi_without_virtual_nmis(row: dict[str, int]) -> None:
    vcpu = vcpu_of(LEGACY, **row_without_k(row), nmi_queued=row["k"])
    LEGACY.process_nmi(vcpu)
    limit = 1 if row["nmi_masked"] or row["nmi_injected"] else 2
    assert vcpu.nmi_pending == min(row["nmi_pending"] + row["k"], limit)
    assert vcpu.requests & REQ_EVENT  # up to v6.3: always
    assert vcpu.dropped == row["nmi_pending"] + row["k"] - vcpu.nmi_pending


WRONG_LIMITS = [  # policy, V_NMI_MASK, V_NMI, k: V_NMI and nmi_pending afterwards; what is wrong
    (VNMI_6_4_RC, (1, 0, 1), (0, 0)),  # limit 0: dropped while one is in service
    (VNMI_6_4_RC, (0, 1, 1), (1, 1)),
    (VNMI_6_4_RC, (0, 1, 2), (1, 2)),  # V_NMI not counted: three will come
    (PATCH_V4, (1, 1, 1), (1, 1)),  # V_NMI not counted: the ghost
    (PATCH_V4, (0, 0, 2), (0, 2)),  # handed over one at a time, and not here
    (POLICIES["m7"], (1, 1, 1), (1, 1)),
    (POLICIES["m8"], (1, 0, 1), (0, 0)),
    (BLIND, (0, 0, 3), (0, 2)),
    (XEN_LIKE, (0, 0, 3), (0, 1)),  # a flag, not a count
]


@pytest.mark.parametrize(("ops", "before", "after"), WRONG_LIMITS)
def test_wrong_limits(ops: NmiOps, before: tuple[int, int, int], after: tuple[int, int]) -> None:
    mask, v_nmi, k = before
    vcpu = vcpu_of(ops, v_nmi_blocking=mask, v_nmi_pending=v_nmi, nmi_queued=k)
    ops.process_nmi(vcpu)
    assert (vcpu.vmcb.int_ctl.v_nmi_pending, vcpu.nmi_pending) == after


# --- svm_nmi_allowed -------------------------------------------------------------------------------------------------

CONDITIONS = list(
    product(
        gif=KINDS, guest_mode=KINDS, exit_on_nmi=KINDS, shadow=KINDS, mask=KINDS, nested_run=KINDS, for_injection=KINDS
    )
)


def may(row: dict[str, bool]) -> int:
    """What svm_nmi_allowed answers, from the fact sheet's prose (2.2.5)."""
    if row["nested_run"]:
        return EBUSY
    becomes_exit = row["guest_mode"] and row["exit_on_nmi"]
    if not row["gif"] or (not becomes_exit and (row["shadow"] or row["mask"])):
        return 0
    return EBUSY if becomes_exit and row["for_injection"] else 1


@pytest.mark.parametrize("ops", [LEGACY, VNMI, VNMI_6_4_RC], ids=lambda ops: ops.name)
@pytest.mark.parametrize("vgif", KINDS, ids=["vgif", "no vgif"])
def test_nmi_allowed_in_every_combination(ops: NmiOps, vgif: bool) -> None:
    for row in CONDITIONS:
        case = {name: bool(value) for name, value in row.items()}
        features = Features(
            vnmi_cpuid=ops.uses_vnmi,
            vgif=vgif,
            guest_mode=case["guest_mode"],
            exit_on_nmi=case["exit_on_nmi"],
            nested_run_pending=case["nested_run"],
        )
        vcpu = vcpu_of(ops, features, shadow=case["shadow"])
        ops.set_nmi_mask(vcpu, case["mask"])
        svm.svm_set_gif(vcpu, case["gif"])
        assert ops.nmi_allowed(vcpu, case["for_injection"]) == may(case), case


V4_BLOCKED = [  # V_NMI, V_NMI_MASK, shadow: blocked
    ((0, 0, 0), False),
    ((0, 1, 0), False),  # the slot is free: another may be put into it while one is in service
    ((1, 0, 0), True),
    ((1, 1, 0), True),
    ((0, 0, 1), True),
]


@pytest.mark.parametrize(("bits", "blocked"), V4_BLOCKED)
def test_patch_v4_asks_whether_the_slot_is_free(bits: tuple[int, int, int], blocked: bool) -> None:
    pending, mask, shadow = bits
    vcpu = vcpu_of(PATCH_V4, v_nmi_pending=pending, v_nmi_blocking=mask, shadow=shadow)
    assert PATCH_V4.nmi_allowed(vcpu, True) == int(not blocked)


# --- injecting -------------------------------------------------------------------------------------------------------

INJECTED = [  # policy, features, from L1: EVENTINJ, V_NMI, nmi_masked, IRET intercept, counted
    (LEGACY, {}, False, (NMI_INJ, 0, True, 1, 1)),
    (LEGACY, {"sev_es_guest": True}, False, (NMI_INJ, 0, True, 0, 1)),
    (LEGACY, {}, True, (NMI_INJ, 0, False, 0, 0)),
    (VNMI, {}, False, (NMI_INJ, 0, False, 0, 1)),
    (VNMI, {}, True, (NMI_INJ, 0, False, 0, 0)),
    (VNMI, {"guest_mode": True}, False, (NMI_INJ, 0, True, 1, 1)),
    (VNMI, {"vgif": False}, False, (NMI_INJ, 0, True, 1, 1)),
    (VNMI_6_4_RC, {}, False, (NMI_INJ, 0, True, 1, 1)),
    (PATCH_V4, {}, False, (0, 1, False, 0, 1)),
    (PATCH_V4, {"guest_mode": True}, False, (0, 1, False, 0, 1)),
    (PATCH_V4, {"guest_mode": True}, True, (NMI_INJ, 0, False, 0, 0)),
    (PATCH_V4, {"vnmi": False}, False, (NMI_INJ, 0, True, 1, 1)),
    (BLIND, {}, False, (NMI_INJ, 0, False, 0, 1)),
]


@pytest.mark.parametrize(("ops", "features", "from_l1", "wanted"), INJECTED)
def test_inject_nmi(ops: NmiOps, features: dict[str, bool], from_l1: bool, wanted: tuple[object, ...]) -> None:
    vcpu = vcpu_of(ops, Features(**{"vnmi_cpuid": ops.uses_vnmi, **features}), nmi_l1_to_l2=from_l1)
    ops.inject_nmi(vcpu)
    event = int(vcpu.vmcb.event_inj)
    got = (event, vcpu.vmcb.int_ctl.v_nmi_pending, vcpu.nmi_masked, vcpu.vmcb.intercept_3.iret, vcpu.nmi_injections)
    assert got == wanted


HAND_OVER = [  # policy, features, V_NMI before: returned, V_NMI after
    (VNMI, {}, 0, (True, 1)),
    (VNMI, {}, 1, (False, 1)),
    (VNMI, {"vgif": False}, 0, (False, 0)),
    (VNMI, {"vnmi_cpuid": False}, 0, (False, 0)),
    (VNMI, {"guest_mode": True}, 0, (False, 0)),
    (LEGACY, {}, 0, (False, 0)),
]


@pytest.mark.parametrize(("ops", "features", "before", "wanted"), HAND_OVER)
def test_set_vnmi_pending(ops: NmiOps, features: dict[str, bool], before: int, wanted: tuple[bool, int]) -> None:
    vcpu = vcpu_of(ops, Features(**features), v_nmi_pending=before)
    vcpu.vmcb.store("clean", svm.CLEAN_ALL)
    done = ops.set_vnmi_pending(vcpu)
    assert (done, vcpu.vmcb.int_ctl.v_nmi_pending) == wanted
    assert vcpu.nmi_injections == int(done)
    assert vcpu.vmcb.clean.intr == int(not done)  # marked dirty when, and only when, it changed


# --- the mask --------------------------------------------------------------------------------------------------------

MASKS = [  # policy, features, in SMM: V_NMI_MASK, nmi_masked, IRET intercept after set_nmi_mask(True)
    (LEGACY, {}, False, (0, True, 1)),
    (LEGACY, {"sev_es_guest": True}, False, (0, True, 0)),
    (VNMI, {}, False, (1, False, 0)),
    (VNMI, {"vgif": False}, False, (0, True, 1)),
    (VNMI, {"guest_mode": True}, False, (0, True, 1)),
    (PATCH_V4, {}, False, (0, False, 0)),  # what user space restores is lost
    (PATCH_V4, {}, True, (1, False, 0)),
    (PATCH_V4, {"vnmi": False}, False, (0, True, 1)),
    (BLIND, {}, False, (0, False, 0)),
]


@pytest.mark.parametrize(("ops", "features", "in_smm", "wanted"), MASKS)
def test_set_nmi_mask(ops: NmiOps, features: dict[str, bool], in_smm: bool, wanted: tuple[object, ...]) -> None:
    vcpu = vcpu_of(ops, Features(**{"vnmi_cpuid": ops.uses_vnmi, **features}), in_smm=in_smm)
    ops.set_nmi_mask(vcpu, True)
    assert (vcpu.vmcb.int_ctl.v_nmi_blocking, vcpu.nmi_masked, vcpu.vmcb.intercept_3.iret) == wanted
    assert ops.get_nmi_mask(vcpu) == bool(wanted[0] or wanted[1])
    assert not vcpu.requests & REQ_EVENT  # it is its caller who looks again
    ops.set_nmi_mask(vcpu, False)
    assert (vcpu.vmcb.int_ctl.v_nmi_blocking, vcpu.nmi_masked, vcpu.vmcb.intercept_3.iret) == (0, False, 0)
    assert not ops.get_nmi_mask(vcpu)


def test_patch_v4s_helpers_touch_the_wrong_flag_without_virtual_nmis() -> None:
    vcpu = vcpu_of(PATCH_V4, Features(vnmi=False, vgif=False))
    clear_vnmi_mask(vcpu)
    assert (vcpu.soft_gif, vcpu.nmi_masked) == (False, False)  # HF_GIF_MASK where HF_NMI_MASK was meant
    set_vnmi_mask(vcpu)
    assert (vcpu.soft_gif, vcpu.nmi_masked) == (True, False)


def test_that_flaw_is_latent() -> None:
    vcpu = vcpu_of(PATCH_V4, Features(vnmi=False, vgif=False), in_smm=True)
    PATCH_V4.set_nmi_mask(vcpu, True)
    assert (vcpu.soft_gif, vcpu.nmi_masked) == (True, True)


# --- the window ------------------------------------------------------------------------------------------------------

WINDOWS = [  # policy, features, fields: STGI intercepted, single-stepping, warnings
    (LEGACY, {}, {"nmi_masked": True}, (0, False, 0)),
    (LEGACY, {}, {"nmi_masked": True, "awaiting_iret_completion": True}, (0, True, 0)),
    (LEGACY, {}, {"shadow": 1}, (0, True, 0)),
    (LEGACY, {}, {}, (0, True, 0)),
    (LEGACY, {}, {"v_gif": 0}, (1, False, 0)),
    (LEGACY, {"vgif": False}, {"soft_gif": False}, (1, False, 0)),  # intercepted from the start
    (LEGACY, {"sev_es_guest": True}, {"shadow": 1}, (0, False, 0)),
    (LEGACY, {"sev_es_guest": True}, {"nmi_masked": True, "awaiting_iret_completion": True}, (0, False, 0)),
    (VNMI, {}, {"shadow": 1}, (0, True, 0)),
    (VNMI, {}, {"v_gif": 0}, (1, False, 0)),
    (VNMI, {}, {"v_nmi_blocking": 1}, (0, False, 1)),  # cannot happen; nothing would exit
    (VNMI, {"guest_mode": True}, {"nmi_masked": True}, (0, False, 0)),
    (VNMI_6_4_RC, {}, {"shadow": 1}, (0, True, 1)),  # warned although it is legitimate: CVE-2024-39483
    (VNMI_6_4_RC, {}, {"v_gif": 0}, (1, False, 1)),
    (PATCH_V4, {}, {"v_nmi_pending": 1}, (0, False, 0)),  # returns early: nothing will exit
    (PATCH_V4, {}, {"v_nmi_blocking": 1, "shadow": 1}, (0, True, 0)),
    (PATCH_V4, {"vnmi": False}, {"nmi_masked": True}, (0, False, 0)),
]


@pytest.mark.parametrize(("ops", "features", "state", "wanted"), WINDOWS)
def test_enable_nmi_window(
    ops: NmiOps, features: dict[str, bool], state: dict[str, Any], wanted: tuple[int, bool, int]
) -> None:
    vcpu = vcpu_of(ops, Features(**{"vnmi_cpuid": ops.uses_vnmi, **features}), **state)
    ops.enable_nmi_window(vcpu)
    assert (vcpu.vmcb.intercept_4.stgi, vcpu.nmi_singlestep, vcpu.warnings) == wanted
    assert (int(vcpu.vmcb.rflags) & (TF | RF) == TF | RF) == wanted[1]


@pytest.mark.parametrize("own", [0, TF, RF, TF | RF, IF], ids=["none", "TF", "RF", "TF RF", "IF"])
def test_borrowed_flags_are_hidden_and_given_back(own: int) -> None:
    vcpu = vcpu_of(LEGACY, rflags=2 | own)
    LEGACY.enable_nmi_window(vcpu)
    assert vcpu.guest_rflags == 2 | own
    LEGACY.enable_nmi_window(vcpu)  # asked again before the step came: what is saved is still the guest's
    svm.disable_nmi_singlestep(vcpu)
    assert int(vcpu.vmcb.rflags) == vcpu.guest_rflags == 2 | own


def test_a_guests_tf_that_came_during_the_step_is_lost() -> None:
    """Derived from the code (puzzle 9): only the flags at arming time count."""
    vcpu = vcpu_of(LEGACY, rflags=2)
    LEGACY.enable_nmi_window(vcpu)
    vcpu.vmcb.rflags |= TF  # what the stepped IRET popped
    svm.disable_nmi_singlestep(vcpu)
    assert int(vcpu.vmcb.rflags) == 2


# --- exits -----------------------------------------------------------------------------------------------------------


def test_iret_interception_waits_for_the_iret() -> None:
    vcpu = vcpu_of(LEGACY, rip=0x312345)
    LEGACY.inject_nmi(vcpu)
    LEGACY.iret_interception(vcpu)
    assert (vcpu.awaiting_iret_completion, vcpu.nmi_masked, vcpu.nmi_iret_rip) == (True, True, 0x312345)
    assert (int(vcpu.vmcb.rip), vcpu.vmcb.intercept_3.iret, vcpu.nmi_window_exits) == (0x312345, 0, 1)
    assert vcpu.requests & REQ_EVENT


COMPLETED = [  # awaiting, RIP still at the IRET, SEV-ES: masked afterwards
    ((True, True, False), True),
    ((True, False, False), False),
    ((False, False, False), True),
    ((True, True, True), False),
]


@pytest.mark.parametrize(("case", "masked"), COMPLETED)
def test_complete_interrupts_unmasks_once_rip_has_moved(case: tuple[bool, bool, bool], masked: bool) -> None:
    awaiting, same, sev_es = case
    vcpu = vcpu_of(LEGACY, Features(vnmi_cpuid=False, sev_es_guest=sev_es), nmi_masked=True)
    vcpu.awaiting_iret_completion = awaiting
    vcpu.nmi_iret_rip = int(vcpu.vmcb.rip) + (0 if same else 2)
    LEGACY.complete_interrupts(vcpu)
    assert vcpu.nmi_masked == masked
    assert bool(vcpu.requests & REQ_EVENT) == (not masked)


REQUEUED = [  # EXITINTINFO: nmi_injected, exception, interrupt_injected, interrupt_soft
    (event_word(NMI, 2), (True, None, None, False)),
    (NMI_INJ, (True, None, None, False)),
    (event_word(EXCEPTION, 13, 0x18), (False, ("injected", 13, 0x18), None, False)),
    (event_word(EXCEPTION, 6), (False, ("injected", 6, None), None, False)),
    (event_word(EXCEPTION, 29), (False, None, None, False)),  # #VC comes again by itself
    (event_word(INTR, 0x40), (False, None, 0x40, False)),
    (event_word(SOFT, 0x33), (False, None, 0x33, True)),
    (0, (False, None, None, False)),
    (event_word(NMI, 2) & ~(1 << 31), (False, None, None, False)),
]


@pytest.mark.parametrize(("word", "wanted"), REQUEUED, ids=[f"{word:#x}" for word, _wanted in REQUEUED])
def test_complete_interrupts_queues_again_what_was_not_delivered(word: int, wanted: tuple[object, ...]) -> None:
    vcpu = vcpu_of(VNMI, nmi_injected=True, exception=("injected", 0, None), interrupt_injected=0x20)
    vcpu.vmcb.exit_int_info = word
    VNMI.complete_interrupts(vcpu)
    assert (vcpu.nmi_injected, vcpu.exception, vcpu.interrupt_injected, vcpu.interrupt_soft) == wanted
    assert bool(vcpu.requests & REQ_EVENT) == bool(word >> 31 & 1)


@pytest.mark.parametrize(("word", "still"), [(NMI_INJ, True), (0, False), (event_word(INTR, 0x40), False)])
def test_an_nmi_from_l1_stays_l1s_only_while_it_is_on_its_way(word: int, still: bool) -> None:
    vcpu = vcpu_of(LEGACY, NO_VNMI, nmi_l1_to_l2=True)
    vcpu.vmcb.exit_int_info = word
    LEGACY.complete_interrupts(vcpu)
    assert vcpu.nmi_l1_to_l2 == still


INJECTIONS: list[tuple[str, dict[str, Any], int]] = [  # what is queued, EVENTINJ
    ("an exception", {"exception": ("injected", 14, 2)}, event_word(EXCEPTION, 14, 2)),
    ("a pending exception", {"exception": ("pending", 1, None)}, event_word(EXCEPTION, 1)),
    ("an NMI", {"nmi_injected": True}, NMI_INJ),
    ("an interrupt", {"interrupt_injected": 0x40}, event_word(INTR, 0x40)),
    (
        "an exception before an NMI",
        {"exception": ("injected", 6, None), "nmi_injected": True},
        event_word(EXCEPTION, 6),
    ),
    ("an NMI before an interrupt", {"nmi_injected": True, "interrupt_injected": 0x40}, NMI_INJ),
    (
        "a pending exception before what was interrupted",
        {"exception": ("pending", 6, None), "nmi_injected": True},
        event_word(EXCEPTION, 6),
    ),
    ("what was interrupted before a new NMI", {"interrupt_injected": 0x40, "nmi_pending": 1}, event_word(INTR, 0x40)),
    ("an NMI before a new interrupt", {"nmi_pending": 1, "irr": 1 << 0x40}, NMI_INJ),
    ("the higher of two interrupts", {"irr": 1 << 0x20 | 1 << 0x21, "rflags": 2 | IF}, event_word(INTR, 0x21)),
    ("no interrupt with IF 0", {"irr": 1 << 0x20}, 0),
]


@pytest.mark.parametrize(("queued", "word"), [row[1:] for row in INJECTIONS], ids=[row[0] for row in INJECTIONS])
def test_one_event_an_entry(queued: dict[str, Any], word: int) -> None:
    vcpu = vcpu_of(LEGACY, **queued)
    x86.kvm_check_and_inject_events(vcpu)
    assert int(vcpu.vmcb.event_inj) == word


IMMEDIATE = [  # what is queued: come back at once
    ({"nmi_injected": True, "nmi_pending": 1}, True),
    ({"interrupt_injected": 0x40, "nmi_pending": 1}, True),
    ({"exception": ("pending", 1, None), "nmi_pending": 1}, True),
    ({"nmi_pending": 1, "irr": 1 << 0x40, "rflags": 2 | IF}, True),
    ({"nmi_pending": 1}, False),
    ({"nmi_pending": 2}, False),  # the window will tell
    ({"nmi_pending": 1, "nmi_masked": True}, False),
    ({"nmi_pending": 1, "nested_run_pending": True}, True),
    ({"smi_pending": True, "nmi_pending": 1}, True),  # SMM was entered: that was this entry's event
]


@pytest.mark.parametrize(("queued", "busy"), IMMEDIATE)
def test_what_does_not_fit_comes_back_at_once(queued: dict[str, Any], busy: bool) -> None:
    vcpu = vcpu_of(LEGACY, **queued)
    x86.kvm_check_and_inject_events(vcpu)
    assert vcpu.immediate_exit == busy


def test_injecting_gives_borrowed_flags_back_first() -> None:
    vcpu = vcpu_of(LEGACY, NO_VNMI, shadow=1, nmi_pending=1)
    LEGACY.enable_nmi_window(vcpu)
    vcpu.vmcb.event_inj = event_word(EXCEPTION, 6)
    requests = vcpu.requests
    svm.svm_vcpu_run(vcpu)
    assert (vcpu.nmi_singlestep, vcpu.immediate_exit) == (False, True)
    assert vcpu.requests == requests  # the exit is forced; nothing is asked
    assert not vcpu.cpu.rflags & TF


SOFT_INTS = [  # switch, address of the instruction, EXITINTINFO, its length
    (False, 1, event_word(SOFT, 0x33), 2),
    (True, 1, event_word(SOFT, 0x33), 2),
    (False, 3, event_word(EXCEPTION, 3), 1),
    (True, 3, event_word(EXCEPTION, 3), 1),
]


@pytest.mark.parametrize(("uses_nrip", "offset", "word", "length"), SOFT_INTS)
def test_a_software_interrupt_goes_on_behind_itself(uses_nrip: bool, offset: int, word: int, length: int) -> None:
    vcpu = vcpu_of(LEGACY, NO_VNMI, Switches(injected_soft_uses_nrip=uses_nrip))
    start = int(vcpu.vmcb.rip) + offset
    vcpu.vmcb.rip = start
    for _attempt in range(2):  # interrupted, put back; and once more
        vcpu.vmcb.exit_int_info = word
        LEGACY.complete_interrupts(vcpu)
        assert int(vcpu.vmcb.rip) == start
        x86.kvm_check_and_inject_events(vcpu)
        assert int(vcpu.vmcb.event_inj) == word
        assert int(vcpu.vmcb.rip) == (start if uses_nrip else start + length)
        assert not uses_nrip or int(vcpu.vmcb.next_rip) == start + length
    vcpu.vmcb.exit_int_info = 0
    LEGACY.complete_interrupts(vcpu)
    assert int(vcpu.vmcb.rip) == (start if uses_nrip else start + length)  # delivered: nothing is undone


CANCELLED = [
    (LEGACY, {"nmi_pending": 1}, {"nmi_injected": True, "nmi_masked": True, "nmi_pending": 0}),
    (VNMI, {"nmi_pending": 1}, {"nmi_injected": True, "nmi_masked": False, "nmi_pending": 0}),
    (LEGACY, {"exception": ("pending", 6, None)}, {"exception": ("injected", 6, None)}),
    (LEGACY, {"irr": 1 << 0x40, "rflags": 2 | IF}, {"interrupt_injected": 0x40, "irr": 0}),
    (LEGACY, {}, {"nmi_injected": False, "exception": None}),
]


@pytest.mark.parametrize(("ops", "queued", "after"), CANCELLED)
def test_a_cancelled_entry_loses_nothing(ops: NmiOps, queued: dict[str, Any], after: dict[str, Any]) -> None:
    vcpu = vcpu_of(ops, **queued)
    x86.kvm_check_and_inject_events(vcpu)
    svm.svm_cancel_injection(vcpu)
    assert int(vcpu.vmcb.event_inj) == 0
    assert {name: getattr(vcpu, name) for name in after} == after


@pytest.mark.parametrize("ops", [LEGACY, VNMI, PATCH_V4], ids=lambda ops: ops.name)
def test_a_signal_calls_off_an_entry_and_the_nmi_still_comes_once(ops: NmiOps) -> None:
    played = Played(ops, "nop\nvmmcall\nrest: hlt\njmp rest")
    played.run()
    played.kvm.nmi()
    played.kvm.signal()
    assert played.run().text == "INTR"
    assert played.run().kind == "waiting"
    assert played.nmis == 1


def test_a_signal_wakes_a_halted_vcpu_for_user_space_only() -> None:
    played = Played(LEGACY, "rest: hlt\njmp rest")
    assert played.run().kind == "waiting"
    played.kvm.signal()
    assert played.run().text == "INTR"
    assert played.run().kind == "waiting"


# --- GIF -------------------------------------------------------------------------------------------------------------

OPENED = [  # what waits: looked at
    ({"nmi_pending": 1}, True),
    ({"smi_pending": True}, True),
    ({"irr": 1 << 0x40}, True),
    ({}, False),
]


@pytest.mark.parametrize("vgif", KINDS, ids=["vgif", "no vgif"])
@pytest.mark.parametrize(("waits", "looked"), OPENED)
def test_stgi_opens_gif_and_looks_at_what_waits(waits: dict[str, Any], looked: bool, vgif: bool) -> None:
    vcpu = vcpu_of(LEGACY, Features(vnmi_cpuid=False, vgif=vgif), **waits)
    svm.svm_set_gif(vcpu, False)
    assert not svm.gif_set(vcpu)
    assert not vcpu.requests & REQ_EVENT
    svm.intercept_stgi(vcpu)
    rip = int(vcpu.vmcb.rip)
    LEGACY.stgi_interception(vcpu)
    assert svm.gif_set(vcpu)
    assert int(vcpu.vmcb.rip) == rip + 3
    assert vcpu.vmcb.intercept_4.stgi == int(not vgif)
    assert bool(vcpu.requests & REQ_EVENT) == looked


IRQ_WINDOWS = [(True, True, 1), (True, False, 1), (False, True, 1), (False, False, 0)]


@pytest.mark.parametrize(("vgif", "gif", "asked"), IRQ_WINDOWS)
def test_the_irq_window_relies_on_virtual_gif(vgif: bool, gif: bool, asked: int) -> None:
    vcpu = vcpu_of(LEGACY, Features(vnmi_cpuid=False, vgif=vgif))
    svm.svm_set_gif(vcpu, gif)
    svm.svm_enable_irq_window(vcpu)
    assert (vcpu.vmcb.int_ctl.v_irq, vcpu.vmcb.intercept_3.vintr) == (asked, asked)
    exits.interrupt_window_interception(vcpu)
    assert (vcpu.vmcb.int_ctl.v_irq, vcpu.vmcb.intercept_3.vintr) == (0, 0)


# --- db, halt, user space --------------------------------------------------------------------------------------------


def test_a_db_that_is_not_borrowed_is_the_guests() -> None:
    vcpu = vcpu_of(LEGACY)
    LEGACY.db_interception(vcpu)
    assert vcpu.exception == ("pending", 1, None)
    assert vcpu.requests & REQ_EVENT


def test_a_borrowed_step_queues_nothing() -> None:
    vcpu = vcpu_of(LEGACY, shadow=1)
    LEGACY.enable_nmi_window(vcpu)
    LEGACY.db_interception(vcpu)
    assert (vcpu.exception, vcpu.nmi_singlestep) == (None, False)
    assert vcpu.requests & REQ_EVENT


WAKES: list[tuple[str, NmiOps, dict[str, Any], bool]] = [
    ("nothing", LEGACY, {}, False),
    ("an NMI that is posted", LEGACY, {"requests": REQ_NMI}, True),
    ("one that waits and may come", LEGACY, {"nmi_pending": 1}, True),
    ("one that waits and may not", LEGACY, {"nmi_pending": 1, "nmi_masked": True}, False),
    ("V_NMI: KVM does not look there", VNMI, {"v_nmi_pending": 1}, False),
    ("an interrupt with IF 1", LEGACY, {"irr": 1 << 0x40, "rflags": 2 | IF}, True),
    ("an interrupt with IF 0", LEGACY, {"irr": 1 << 0x40}, False),
    ("an SMI", LEGACY, {"smi_pending": True}, True),
    ("an SMI with GIF 0", LEGACY, {"smi_pending": True, "v_gif": 0}, False),
    ("an exception", LEGACY, {"exception": ("pending", 1, None)}, True),
]


@pytest.mark.parametrize(("ops", "state", "wakes"), [row[1:] for row in WAKES], ids=[row[0] for row in WAKES])
def test_what_wakes_a_halted_vcpu(ops: NmiOps, state: dict[str, Any], wakes: bool) -> None:
    assert x86.kvm_vcpu_has_events(vcpu_of(ops, **state)) == wakes


REPORTED = [  # policy, features, fields, events
    (VNMI, {}, {"v_nmi_pending": 1, "v_nmi_blocking": 1}, Events(False, 1, True, False)),
    (VNMI, {}, {"v_nmi_pending": 1, "nmi_pending": 1}, Events(False, 2, False, False)),
    (PATCH_V4, {}, {"v_nmi_pending": 1, "v_nmi_blocking": 1}, Events(False, 0, True, False)),  # lost
    (PATCH_V4, {}, {"nmi_pending": 2}, Events(False, 1, False, False)),
    (LEGACY, {}, {"nmi_pending": 2}, Events(False, 2, False, False)),
    (LEGACY, {"boolean_pending": True}, {"nmi_pending": 2}, Events(False, 1, False, False)),
    (LEGACY, {}, {"nmi_injected": True, "nmi_masked": True, "shadow": 1}, Events(True, 0, True, True)),
    (LEGACY, {}, {"nmi_queued": 3}, Events(False, 2, False, False)),  # process_nmi runs first
    (LEGACY, {}, {"nmi_pending": 2, "nmi_masked": True}, Events(False, 1, True, False)),
]


@pytest.mark.parametrize(("ops", "features", "state", "wanted"), REPORTED)
def test_get_vcpu_events(ops: NmiOps, features: dict[str, bool], state: dict[str, Any], wanted: Events) -> None:
    vcpu = vcpu_of(ops, Features(**{"vnmi_cpuid": ops.uses_vnmi, **features}), **state)
    assert ops.get_vcpu_events(vcpu) == wanted


TAKEN = [  # policy, features, events: queued, pending, V_NMI_MASK, nmi_masked
    (LEGACY, {}, Events(False, 5, False, False), (5, 0, 0, False)),
    (LEGACY, {"boolean_pending": True}, Events(False, 5, False, False), (0, 5, 0, False)),
    (LEGACY, {}, Events(False, None, True, False), (0, 1, 0, True)),
    (VNMI, {}, Events(False, 1, True, False), (1, 0, 1, False)),
    (PATCH_V4, {}, Events(False, 1, True, False), (0, 1, 0, False)),  # the mask is lost
]


@pytest.mark.parametrize(("ops", "features", "events", "wanted"), TAKEN)
def test_set_vcpu_events(
    ops: NmiOps, features: dict[str, bool], events: Events, wanted: tuple[int, int, int, bool]
) -> None:
    vcpu = vcpu_of(ops, Features(**{"vnmi_cpuid": ops.uses_vnmi, **features}), nmi_pending=1)
    ops.set_vcpu_events(vcpu, events)
    ctl = vcpu.vmcb.int_ctl
    assert (vcpu.nmi_queued, vcpu.nmi_pending, ctl.v_nmi_blocking, vcpu.nmi_masked) == wanted
    assert bool(vcpu.requests & REQ_NMI) == (vcpu.nmi_queued > 0)
    assert vcpu.requests & REQ_EVENT


def test_a_migrated_vcpu_takes_no_borrowed_flag_and_no_window_along() -> None:
    vcpu = vcpu_of(LEGACY, shadow=1, nmi_pending=1, irr=1 << 0x40, exception=("injected", 6, None), soft_gif=False)
    LEGACY.enable_nmi_window(vcpu)
    svm.intercept_stgi(vcpu)
    svm.svm_enable_irq_window(vcpu)
    vcpu.forget()
    vmcb = vcpu.vmcb
    assert int(vmcb.rflags) == 2
    assert (vmcb.intercept_3.iret, vmcb.intercept_3.vintr, vmcb.intercept_4.stgi, vmcb.int_ctl.v_irq) == (0, 0, 0, 0)
    assert (vcpu.nmi_pending, vcpu.nmi_singlestep) == (0, False)
    assert (vcpu.irr, vcpu.exception, vcpu.soft_gif) == (1 << 0x40, ("injected", 6, None), False)


# --- SMM -------------------------------------------------------------------------------------------------------------

SMM = [  # policy, masked before SMM, in it, after it
    (ops, masked, True, masked) for ops in (LEGACY, VNMI, PATCH_V4) for masked in KINDS
]


@pytest.mark.parametrize(("ops", "before", "inside", "after"), SMM)
def test_smm_masks_nmis_and_gives_back_what_was(ops: NmiOps, before: bool, inside: bool, after: bool) -> None:
    vcpu = vcpu_of(ops, rflags=2 | IF, shadow=1)
    vcpu.nmi_masked = before and not ops.uses_vnmi
    vcpu.vmcb.update("int_ctl", v_nmi_blocking=int(before and ops.uses_vnmi))
    rip = int(vcpu.vmcb.rip)
    smm.enter_smm(vcpu)
    assert (vcpu.in_smm, vcpu.smm_inside_nmi, ops.get_nmi_mask(vcpu)) == (True, before, inside)
    assert (int(vcpu.vmcb.rip), int(vcpu.vmcb.rflags)) == (smm.SMM_ENTRY, 2)
    assert svm.svm_smi_allowed(vcpu) == 0
    smm.emulator_leave_smm(vcpu)
    assert (vcpu.in_smm, vcpu.smm_inside_nmi, ops.get_nmi_mask(vcpu)) == (False, False, after)
    assert (int(vcpu.vmcb.rip), int(vcpu.vmcb.rflags), vcpu.vmcb.int_state.interrupt_shadow) == (rip, 2 | IF, 1)
    assert vcpu.requests & REQ_EVENT


@pytest.mark.parametrize("ops", [LEGACY, VNMI], ids=lambda ops: ops.name)
def test_an_smi_is_handled_and_the_guest_goes_on(ops: NmiOps) -> None:
    played = Played(ops, "nop\nnop\nnop\nrest: hlt\njmp rest", stimuli=[Stimulus(4, "smi"), Stimulus(5, "nmi")])
    assert played.run().kind == "waiting"
    assert (played.nmis, played.kvm.vcpu.in_smm, played.look("masked")) == (1, False, False)


def test_an_smi_waits_for_gif() -> None:
    played = Played(LEGACY, "clgi\nvmmcall\nstgi\nnop\nrest: hlt\njmp rest")
    played.run()
    played.kvm.vcpu.smi_pending = True
    played.kvm.vcpu.make_request(REQ_EVENT)
    assert played.run().kind == "waiting"
    assert (played.exits(), played.kvm.vcpu.smi_pending, played.kvm.vcpu.in_smm) == (["STGI", "EXC_UD"], False, False)


# --- nested and SEV-ES: annotated branches ---------------------------------------------------------------------------


def test_an_nmi_that_l1_intercepts_ends_l2_and_does_not_loop() -> None:
    features = Features(guest_mode=True, exit_on_nmi=True)
    played = Played(VNMI, "nop\nnop\nrest: hlt\njmp rest", stimuli=[Stimulus(3)], features=features)
    assert played.run().text == "NESTED_VMEXIT NMI"
    assert (played.nmis, played.kvm.vcpu.nmi_pending, played.kvm.vcpu.guest_mode) == (0, 1, False)
    assert not played.kvm.step()


def test_an_nmi_that_l1_does_not_intercept_goes_to_l2() -> None:
    features = Features(guest_mode=True)
    played = Played(VNMI, "nop\nnop\nrest: hlt\njmp rest", stimuli=[Stimulus(3)], features=features)
    assert played.run().kind == "waiting"
    assert (played.nmis, played.exits()) == (1, ["IRET"])  # virtual NMIs are off: L1's NMI, L2's processor


@pytest.mark.parametrize("exit_on_nmi", KINDS)
def test_nested_run_pending_holds_an_nmi_for_one_entry(exit_on_nmi: bool) -> None:
    features = Features(guest_mode=True, exit_on_nmi=exit_on_nmi, nested_run_pending=True)
    played = Played(VNMI, "first: nop\nnop\nrest: hlt\njmp rest", features=features)
    played.kvm.nmi()
    played.kvm.start()
    assert played.kvm.step()  # L1's VMRUN goes first ...
    assert played.kvm.vcpu.immediate_exit
    outcome = played.run()
    assert played.kvm.vcpu.exits[0] == 0x60  # ... and exits before L2 has executed anything
    assert outcome.text == "NESTED_VMEXIT NMI" if exit_on_nmi else played.entered() == ["first"]


SEV_ES_HANDLER = "inc qword [rbx+16]\nmov eax, 0x80000003\nsent: vmmcall\nafter: nop\nnop\niretq"
SEV_ES = [  # policy: where the second NMI, that came in the handler of the first, interrupts
    (LEGACY, "back"),  # before 6.6: unmasked at the next exit, which here is the HLT
    (VNMI_6_4_RC, "back"),
    (VNMI, "after"),
]


@pytest.mark.parametrize(("ops", "where"), SEV_ES)
def test_an_sev_es_guest_says_itself_when_it_is_done(ops: NmiOps, where: str) -> None:
    features = Features(vnmi_cpuid=False, sev_es_guest=True)
    played = Played(ops, "nop\nnop\nrest: hlt\nback: jmp rest", {2: SEV_ES_HANDLER}, [Stimulus(3)], features=features)
    played.until("sent")
    played.kvm.nmi()
    assert played.run().kind == "waiting"
    assert played.nmis == 2
    assert "IRET" not in played.exits()
    assert "EXC_DB" not in played.exits()
    assert played.entered()[-1] == where
    assert played.kvm.vcpu.nmi_window_exits == 2


SEAMS: list[tuple[Callable[[Vcpu], None], bool, bool]] = [  # the seam: awaiting, masked right after NMI_COMPLETE
    (exits.sev_es_nmi_complete_before_6_6, True, True),
    (exits.sev_es_nmi_complete, False, False),
]


@pytest.mark.parametrize(("complete", "awaiting", "masked"), SEAMS)
def test_nmi_complete_before_and_after_6_6(complete: Callable[[Vcpu], None], awaiting: bool, masked: bool) -> None:
    vcpu = vcpu_of(LEGACY, Features(vnmi_cpuid=False, sev_es_guest=True), nmi_masked=True)
    complete(vcpu)
    assert (vcpu.awaiting_iret_completion, vcpu.nmi_masked, vcpu.nmi_window_exits) == (awaiting, masked, 1)
    LEGACY.complete_interrupts(vcpu)  # the next exit
    assert not vcpu.nmi_masked
