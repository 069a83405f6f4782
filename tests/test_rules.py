"""Every rule is needed: switched off, at least one case of the tables turns red."""

from __future__ import annotations

import pytest

from tests import test_delivery, test_idt, test_kvm_unit_tests, test_puzzles, test_reference, test_svm, test_vnmi
from tests.cases import SELF_NMI, V_GIF_ENABLE, V_NMI, V_NMI_ENABLE, Runnable
from vnmi_lab.guest import IDT, MAIN, Guest
from vnmi_lab.hw.events import Changed
from vnmi_lab.machine import BareMetal, Host
from vnmi_lab.rules import GRADES, LABELS, RULES, SWITCHABLE, Switches
from vnmi_lab.trace import Trace

TABLES: tuple[Runnable, ...] = (
    *test_vnmi.RULES,
    *test_puzzles.CASES,
    *test_kvm_unit_tests.CASES,
    *test_idt.CASES,
    *test_svm.CASES,
    *test_delivery.CASES,
    *test_vnmi.OPEN,
    *test_reference.CASES,
    *test_vnmi.EXHAUSTIVE,
)


def test_every_rule_has_a_sentence_a_source_and_a_grade() -> None:
    for key, rule in RULES.items():
        assert rule.id == key
        assert rule.grade in GRADES
        assert rule.source
        assert rule.sentence.endswith(".")
        assert len(rule.sentence) > 10


def test_what_cannot_be_switched_off_only_labels() -> None:
    assert set(RULES) - set(SWITCHABLE) == set(LABELS)
    with pytest.raises(ValueError, match="R-EXEC"):
        Switches(off=frozenset({"R-EXEC"}))


def test_on_bare_metal_an_instruction_that_sends_an_nmi_is_an_instruction() -> None:
    first = Trace(BareMetal(Guest.of(SELF_NMI + "hlt", tail="hlt")))[0]
    assert (first.kind, first.text) == ("exec", "mov dword [r15], 0x4400")
    assert Changed("R-EXEC", "rip", MAIN, MAIN + 7) in first.changes


def first_red(rule: str) -> str | None:
    """Return the first case that fails without ``rule``."""
    without = Switches(off=frozenset({rule}))
    return next((case.name for case in TABLES if case.run(without) is not None), None)


VNMI = (("icpt", "nmi"), ("ctl+", V_NMI_ENABLE))
BAD_IRET = {2: "mov qword [rsp+8], 0x1234\niretq", 13: "hlt"}
NAMED: list[tuple[str, str, tuple[object, ...], dict[int, str], str, int, int]] = [
    # rule that must be named, guest, script, handlers, field, from, to
    ("R-STI-SHADOW", "sti\nnop\nvmmcall", ("run",), {}, "shadow", 0, 1),
    ("R-MOVSS-SHADOW", "mov ss, r12d\nnop\nvmmcall", ("run",), {}, "shadow", 0, 2),
    ("R-SHADOW-END", "sti\nnop\nvmmcall", ("run",), {}, "shadow", 1, 0),
    ("R-SHADOW-DELIVERY", "sti\nud2\nvmmcall", ("run",), {6: "vmmcall"}, "shadow", 1, 0),
    ("R-HLT", "hlt", (("noicpt", "hlt"), "run"), {}, "halted", 0, 1),
    ("R-NMI-LATCH", SELF_NMI + "vmmcall", ("run",), {}, "nmi_latch", 0, 1),
    ("R-NMI-TAKE", SELF_NMI + "vmmcall", ("run",), {}, "nmi_latch", 1, 0),
    ("R-NMI-MASK", SELF_NMI + "vmmcall", ("run",), {}, "nmi_mask", 0, 1),
    ("R-IRET-UNMASK", SELF_NMI + "vmmcall", ("run",), {}, "nmi_mask", 1, 0),
    ("R-VMRUN-VNMI", "vmmcall", (*VNMI, ("ctl+", V_NMI), "run"), {}, "v_nmi_pending", 0, 1),
    ("R-VNMI-TAKE", "vmmcall", (*VNMI, ("ctl+", V_NMI), "run"), {}, "v_nmi_pending", 1, 0),
    ("R-VNMI-MASK", "vmmcall", (*VNMI, ("ctl+", V_NMI), "run"), {}, "v_nmi_blocking", 0, 1),
    ("R-VNMI-IRET", "vmmcall", (*VNMI, ("ctl+", V_NMI), "run"), {}, "v_nmi_blocking", 1, 0),
    ("R-EVENTINJ-VNMI", "vmmcall", (*VNMI, "inj", "run"), {}, "v_nmi_blocking", 0, 1),
    ("R-VMEXIT-VNMI", "vmmcall", (*VNMI, ("ctl+", V_NMI), "run"), {}, "int_ctl.v_nmi_pending", 1, 0),
    ("R-VMRUN-GIF", "vmmcall", ("clgi", "run"), {}, "gif", 0, 1),
    ("R-VMEXIT-GIF", "vmmcall", ("run",), {}, "gif", 1, 0),
    ("R-CLGI", "vmmcall", ("clgi",), {}, "gif", 1, 0),
    ("R-VGIF", "stgi\nvmmcall", (("ctl+", V_GIF_ENABLE), "run"), {}, "v_gif", 0, 1),
    ("R-EXITINTINFO", "vmmcall", (("absent", IDT), "inj", "run"), {}, "vmcb.exit_int_info", 0, 0x80000200),
    ("R-NRIP", "vmmcall", ("run",), {}, "vmcb.next_rip", 0, MAIN + 3),
    ("R-HOST", "vmmcall", (("ctl+", V_NMI),), {}, "int_ctl.v_nmi_pending", 0, 1),
    ("R-EXEC", "inc rcx\nvmmcall", ("run",), {}, "rcx", 0, 1),
]


@pytest.mark.parametrize("row", NAMED, ids=[f"{row[0]} {row[4]}" for row in NAMED])
def test_the_trace_names_the_rule(
    row: tuple[str, str, tuple[object, ...], dict[int, str], str, int, int],
) -> None:
    rule, main, script, handlers, field, old, new = row
    host = Host(Guest.of(main, handlers))
    host.load(script)  # type: ignore[arg-type]  # lines of script
    changes = [change for step in Trace(host, limit=60) for change in step.changes]
    assert rule in [change.rule for change in changes if (change.field, change.old, change.new) == (field, old, new)]


def test_a_faulting_iret_that_unmasks_names_the_open_rule() -> None:
    machine = BareMetal(Guest.of(SELF_NMI + "hlt", BAD_IRET, tail="hlt"), switches=Switches(faulting_iret_unmasks=True))
    changes = [change for step in Trace(machine) for change in step.changes]
    assert [c.rule for c in changes if c.field == "nmi_mask"] == ["R-NMI-MASK", "R-IRET-FAULT"]
    assert RULES["R-IRET-FAULT"].grade == "open"


@pytest.mark.slow
@pytest.mark.parametrize("rule", SWITCHABLE)
def test_without_this_rule_a_case_turns_red(rule: str) -> None:
    assert first_red(rule) is not None, f"{rule} survives: {SWITCHABLE[rule].sentence}"
