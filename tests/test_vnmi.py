"""Virtual NMIs, rule by rule (APM 15.21.10), every open corner under both settings of its switch, and every state.

All of it is from the specification; nothing here is verified on hardware.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.cases import (
    INJ_NMI,
    SELF_NMI,
    V_GIF,
    V_GIF_ENABLE,
    V_INTR_MASKING,
    V_NMI,
    V_NMI_ENABLE,
    V_NMI_MASK,
    Bare,
    Case,
    Check,
    judge,
    product,
    table,
)  # fmt: skip
from vnmi_lab.guest import IDT, MAIN, Guest, handler_address
from vnmi_lab.hw.events import Changed, Delivered, Event
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.machine import Host
from vnmi_lab.rules import Switches

ON = (("icpt", "nmi"), ("ctl+", V_NMI_ENABLE))
REPORTING = "inc qword [rbx+0x10]\nvmmcall\nending: iretq"
BAD_CS = "inc qword [rbx+0x10]\nmov qword [rsp+8], 0x1234\nreturning: iretq"
REPORT_GP = "inc qword [rbx+0x68]\nvmmcall\nadd rsp, 8\nmov qword [rsp+8], 8\niretq"
CPUID_FEATURES = "mov eax, 0x8000000a\ncpuid\nmov r8, rdx\nmov rbx, 0x340000\nvmmcall"
VNMI_FEATURES = 1 << 25 | 1 << 16 | 1 << 5 | 1 << 3


def posted_while_running(switches: Switches) -> str | None:
    """Rule 3: what is written to the VMCB while the guest runs is not seen, and #VMEXIT overwrites it."""
    host = Host(Guest.of("nop\nnop\nnop\nvmmcall"), switches)
    host.load([*ON, "run"])
    for _ in range(4):  # the intercept, V_NMI_ENABLE, VMRUN and one instruction
        host.step()
    host.view.update("int_ctl", v_nmi_pending=1)
    host.finish()
    if host.reports[-1].counters[2] or host.view.int_ctl.v_nmi_pending:
        return "a V_NMI written while the guest ran was seen"
    return None


def before_the_idt(switches: Switches) -> str | None:
    """Rule 5: V_NMI is cleared and V_NMI_MASK set before the handler is entered."""
    host = Host(Guest.of("nop\nvmmcall"), switches)
    events: list[Event] = []
    host.load([*ON, ("ctl+", V_NMI), "run"])
    for _ in range(4):
        host.step()
    host.cpu.sink = events.append
    host.step()
    entered = next((i for i, e in enumerate(events) if isinstance(e, Delivered)), 0)
    changed = [e.field for e in events[:entered] if isinstance(e, Changed)]
    wanted = ["v_nmi_pending", "v_nmi_blocking"]
    return None if [name for name in changed if name in wanted] == wanted else f"changed before the entry: {changed}"


RULES: tuple[Case | Check, ...] = (
    Case("1: CPUID names VNMI, VGIF, clean bits and nRIP", CPUID_FEATURES, ("run", {"r8": VNMI_FEATURES})),
    Case(
        "2: V_NMI_ENABLE needs the NMI intercept",
        "nop\nvmmcall",
        (("ctl+", V_NMI_ENABLE), "run", {"exit": "INVALID"}, ("icpt", "nmi"), "run", {"exit": "VMMCALL"}),
    ),
    Case("2: taking a virtual NMI never exits", "nop\nvmmcall", (*ON, ("ctl+", V_NMI), "run", {"exit": "VMMCALL",
    "nmi": 1})),
    Case(
        "2: without V_NMI_ENABLE the bits mean nothing and stay",
        "nop\nvmmcall",
        (("ctl+", V_NMI | V_NMI_MASK), "run", {"exit": "VMMCALL", "nmi": 0, "v_nmi_pending": 1, "v_nmi_blocking": 1}),
    ),
    Check("3: a V_NMI written while the guest runs is not seen and overwritten", posted_while_running),
    Case(
        "3: #VMEXIT writes both bits back",
        "nop\nvmmcall",
        (*ON, ("ctl+", V_NMI), "run", {"v_nmi_pending": 0, "v_nmi_blocking": 1}, ("ctl+", V_NMI), "mark",
         {"v_nmi_pending": 1}, ("gate", 13, 0), "run", {"v_nmi_pending": 0, "v_nmi_blocking": 1, "nmi": 2}),
        {2: REPORTING},
    ),
    Case("4: IF and V_TPR do not matter", "nop\nvmmcall", (*ON, ("ctl+", V_NMI | 0xF), ("if", 0), "run", {"nmi": 1})),
    Case(
        "4: a shadow holds it for one instruction",
        "nop\nsecond: nop\nvmmcall",
        (*ON, ("ctl+", V_NMI), ("ist", 1), "run", {"entered": [(2, "second")]}),
    ),
    Check("5: both bits change before the IDT is read", before_the_idt),
    Case(
        "5: when the NMI's gate is not present, the handler of #NP runs with V_NMI_MASK 1",
        "start: nop\nvmmcall",
        (
            *ON, ("ctl+", V_NMI), ("gate", 2, 0), "run",
            {"exit": "VMMCALL", "entered": [(11, "start")], "v_nmi_pending": 0, "v_nmi_blocking": 1},
        ),
        {11: "vmmcall\nadd rsp, 8\niretq"},
    ),
    Case(
        "6: a completed IRET clears V_NMI_MASK",
        "nop\nvmmcall",
        (*ON, ("ctl+", V_NMI), "run", {"v_nmi_blocking": 1}, "run", {"exit": "VMMCALL", "v_nmi_blocking": 0}),
        {2: REPORTING},
    ),
    Case(
        "6: an IRET that faults does not",
        "nop\nvmmcall",
        (*ON, ("ctl+", V_NMI), "run", {"exit": "VMMCALL", "gp": 1, "v_nmi_blocking": 1}, "run", {"v_nmi_blocking": 0}),
        {2: BAD_CS, 13: REPORT_GP},
    ),
    Case(
        "6: nor does it where a faulting IRET unmasks physical NMIs",
        "nop\nvmmcall",
        (*ON, ("ctl+", V_NMI), "run", {"exit": "VMMCALL", "gp": 1, "v_nmi_blocking": 1}),
        {2: BAD_CS, 13: REPORT_GP},
        switches={"faulting_iret_unmasks": True},
    ),
    Case(
        "6: nor does an intercepted IRET",
        "nop\nvmmcall",
        (*ON, ("icpt", "iret"), ("ctl+", V_NMI), "run", {"exit": "IRET", "at": "ending", "v_nmi_blocking": 1}),
        {2: "inc qword [rbx+0x10]\nending: iretq"},
    ),
    Case(
        "6: it leaves the physical mask alone",
        "nop\nvmmcall",
        (*ON, ("ctl+", V_NMI), ("cpu", "nmi_mask", 1), "run", {"exit": "VMMCALL", "v_nmi_blocking": 0, "nmi_mask": 1}),
    ),
    Case(
        "7: an exit during the delivery saves V_NMI_MASK 0, V_NMI is 0 already",
        "start: nop\nvmmcall",
        (
            *ON, ("ctl+", V_NMI), ("absent", IDT), "run",
            {"exit": "NPF", "info": 0x80000202, "v_nmi_pending": 0, "v_nmi_blocking": 0, "at": "start", "rsp": 0},
        ),
    ),
    Case(
        "7: the same when a #PF is intercepted",
        "nop\nvmmcall",
        (
            *ON, ("ctl+", V_NMI), ("set", "rsp", 1 << 33), ("icpt_exc", 14), "run",
            {"exit": "EXC_PF", "info": 0x80000202, "v_nmi_pending": 0, "v_nmi_blocking": 0},
        ),
    ),
    Case(
        "7: an exit during the delivery of something else leaves V_NMI_MASK",
        "nop\nvmmcall",
        (
            *ON, ("ctl+", V_NMI_MASK), ("inj", 0x80000300), ("absent", IDT), "run",
            {"exit": "NPF", "info": 0x80000300, "v_nmi_blocking": 1},
        ),
    ),
    Case(
        "8: EVENTINJ of an NMI sets V_NMI_MASK and does not touch V_NMI",
        "nop\nvmmcall",
        (*ON, "inj", ("ctl+", V_NMI), "run", {"exit": "VMMCALL", "v_nmi_blocking": 1, "v_nmi_pending": 1, "nmi": 1}),
        {2: REPORTING},
    ),
    Case(
        "8: EVENTINJ of something else does not set it",
        "nop\nvmmcall",
        (*ON, ("inj", 0x80000300), "run", {"exit": "VMMCALL", "v_nmi_blocking": 0, "de": 1}),
        {0: "inc qword [rbx]\nvmmcall\niretq"},
    ),
    Case("8: EVENTINJ ignores V_NMI_MASK", "nop\nvmmcall", (*ON, ("ctl+", V_NMI_MASK), "inj", "run", {"nmi": 1})),
    Case(
        "9: a physical NMI comes before a virtual one",
        "nop\nvmmcall",
        (*ON, ("ctl+", V_NMI), "clgi", "hostnmi", "run", {"exit": "NMI", "v_nmi_pending": 1, "nmi": 0}),
    ),
    Case(
        "9: one that is masked does not",
        "nop\nvmmcall",
        (*ON, ("ctl+", V_NMI), "clgi", "hostnmi", ("cpu", "nmi_mask", 1), "run", {"exit": "VMMCALL", "nmi": 1,
        "nmi_latch": 1}),
    ),
    Case(
        "10: V_NMI is one bit",
        "nop\nvmmcall",
        (*ON, ("ctl+", V_NMI), ("ctl+", V_NMI), "run", {"nmi": 1}, "run", {"nmi": 1}),
    ),
    Case(
        "11: CLGI under virtual GIF does not set V_NMI_MASK",
        "clgi\nvmmcall",
        (*ON, ("ctl+", V_GIF_ENABLE | V_GIF), "run", {"v_gif": 0, "v_nmi_blocking": 0}),
    ),
    Case(
        "11: STGI does not clear it",
        "stgi\nvmmcall",
        (*ON, ("ctl+", V_GIF_ENABLE | V_NMI_MASK | V_NMI), "run", {"v_gif": 1, "v_nmi_blocking": 1, "nmi": 0}),
    ),
    Case(
        "11: CLGI without virtual GIF clears GIF, and that holds it too",
        "clgi\nnop\nvmmcall",
        (*ON, ("ctl+", V_NMI), ("ist", 1), "run", {"nmi": 0, "v_nmi_pending": 1, "v_nmi_blocking": 0}),
    ),
    Case(
        "12: nothing exits when V_NMI_MASK clears",
        "nop\nvmmcall",
        (*ON, "inj", "run", {"exits": ["VMMCALL"], "nmi": 1, "v_nmi_blocking": 0}),
    ),
)  # fmt: skip

FAULTING_IRET = f"""
    inc qword [rbx+0x10]
    cmp qword [rbx+0x10], 1
    jne returning
    {SELF_NMI}
    mov qword [rsp+8], 0x1234
returning:
    iretq
"""
REPAIR_CS = "inc qword [rbx+0x68]\nmov rax, [rsp+0x20]\nmov qword [rax+8], 8\nadd rsp, 8\niretq"
INTR_AND_VNMI = (
    *ON, ("icpt", "intr"), ("hostif", 1), "clgi", ("hostintr", 0x40), ("ctl+", V_INTR_MASKING | V_NMI),
)  # fmt: skip
OPEN: tuple[Case | Bare, ...] = (
    Case(
        "vnmi_before_intr: the virtual NMI first",
        "start: nop\nvmmcall",
        (*INTR_AND_VNMI, "run", {"exit": "INTR", "at": "h2", "v_nmi_pending": 0, "v_nmi_blocking": 1, "info": None}),
    ),
    Case(
        "vnmi_before_intr off: INTR exits first",
        "start: nop\nvmmcall",
        (*INTR_AND_VNMI, "run", {"exit": "INTR", "at": "start", "v_nmi_pending": 1, "v_nmi_blocking": 0, "nmi": 0}),
        switches={"vnmi_before_intr": False},
    ),
    Case(
        "injected_nmi_exit_keeps_mask off: saved as 0",
        "nop\nvmmcall",
        (*ON, "inj", ("absent", IDT), "run", {"exit": "NPF", "info": INJ_NMI, "v_nmi_blocking": 0}),
    ),
    Case(
        "injected_nmi_exit_keeps_mask: saved as 1",
        "nop\nvmmcall",
        (*ON, "inj", ("absent", IDT), "run", {"exit": "NPF", "info": INJ_NMI, "v_nmi_blocking": 1}),
        switches={"injected_nmi_exit_keeps_mask": True},
    ),
    Case(
        "injected_nmi_exit_keeps_mask: an NMI the processor took itself is saved as 0 all the same",
        "nop\nvmmcall",
        (*ON, ("ctl+", V_NMI), ("absent", IDT), "run", {"exit": "NPF", "info": 0x80000202, "v_nmi_blocking": 0}),
        switches={"injected_nmi_exit_keeps_mask": True},
    ),
    Case(
        "eventinj_ends_shadow: the handler starts without",
        "nop\nvmmcall",
        (("ist", 1), "inj", "run", {"exit": "VMMCALL", "shadow": 0}),
        {2: "vmmcall\niretq"},
    ),
    Case(
        "eventinj_ends_shadow off: the handler's first instruction stands in it",
        "nop\nvmmcall",
        (("ist", 1), "inj", "run", {"exit": "VMMCALL", "shadow": 1}),
        {2: "vmmcall\niretq"},
        switches={"eventinj_ends_shadow": False},
    ),
    Bare(
        "faulting_iret_unmasks off: the latched NMI waits for the IRET of the #GP handler",
        SELF_NMI + "sent: nop\nhlt",
        (),
        {"entered": [(2, "sent"), (13, "returning"), (2, "returning")], "nmi": 2, "gp": 1},
        {2: FAULTING_IRET, 13: REPAIR_CS},
    ),
    Bare(
        "faulting_iret_unmasks: the latched NMI comes on top of the #GP",
        SELF_NMI + "sent: nop\nhlt",
        (),
        {"entered": [(2, "sent"), (13, "returning"), (2, "h13")], "nmi": 2, "gp": 1},
        {2: FAULTING_IRET, 13: REPAIR_CS},
        switches={"faulting_iret_unmasks": True},
    ),
)  # fmt: skip

# --- every state


@dataclass(frozen=True)
class State:
    """What the first boundary of a guest may find."""

    v_nmi_enable: bool
    v_nmi_pending: bool
    v_nmi_blocking: bool
    gif: bool
    vgif_enable: bool
    v_gif: bool
    shadow: bool
    nmi: bool
    nmi_mask: bool
    eventinj: bool


BIT = (False, True)
STATES = tuple(State(**row) for row in product(**dict.fromkeys(State.__dataclass_fields__, BIT)))  # type: ignore[arg-type]  # all are bool


def oracle(s: State) -> tuple[str, bool, bool]:
    """Say what happens first and what both bits are then, from the sentences of APM 15.20, 15.13.2 and 15.21.10."""
    pending, blocking = s.v_nmi_pending and s.v_nmi_enable, s.v_nmi_blocking and s.v_nmi_enable
    if s.eventinj:  # unconditionally; with vNMI, VMRUN set V_NMI_MASK
        return "handler", pending, s.v_nmi_enable
    if s.nmi and s.gif and not s.shadow and not s.nmi_mask:
        return "NMI", pending, blocking
    if pending and not blocking and s.gif and (s.v_gif or not s.vgif_enable) and not s.shadow:
        return "handler", False, True
    return "instruction", pending, blocking


_ONE_STEP = Guest.of("nop\nvmmcall")


def first_boundary(s: State, switches: Switches) -> tuple[str, bool, bool]:
    """Let the processor do it."""
    host = Host(_ONE_STEP, switches)
    view, cpu = host.view, host.cpu
    view.intercept("nmi")
    view.update("int_ctl", v_nmi_enable=s.v_nmi_enable, v_nmi_pending=s.v_nmi_pending, v_nmi_blocking=s.v_nmi_blocking)
    view.update("int_ctl", v_gif_enable=s.vgif_enable, v_gif=s.v_gif)
    view.int_state, view.event_inj = int(s.shadow), INJ_NMI if s.eventinj else 0
    cpu.gif, cpu.nmi_latch, cpu.nmi_mask = 0, int(s.nmi), int(s.nmi_mask)
    host.load(["run"])
    host.step()
    cpu.gif = int(s.gif)
    host.step()
    if not cpu.guest_mode:
        ctl = view.int_ctl
        on = s.v_nmi_enable
        return exit_name(view.exit_code), bool(ctl.v_nmi_pending and on), bool(ctl.v_nmi_blocking and on)
    where = {handler_address(2): "handler", MAIN + 1: "instruction"}.get(cpu.rip, f"{cpu.rip:#x}")
    return where, bool(cpu.v_nmi_pending), bool(cpu.v_nmi_blocking)


def every_state(switches: Switches) -> str | None:
    """Compare all states with the oracle."""
    for state in STATES:
        got, wanted = first_boundary(state, switches), oracle(state)
        if got != wanted:
            return f"{state}: {got}, not {wanted}"
    return None


EXHAUSTIVE = (Check(f"all {len(STATES)} states of the first boundary", every_state),)
CASES = (*RULES, *OPEN, *EXHAUSTIVE)


@table(RULES)
def test_rule(case: Case | Check) -> None:
    judge(case)


@table(OPEN)
def test_open_corner(case: Case | Bare) -> None:
    judge(case)


@table(EXHAUSTIVE)
def test_every_state(case: Check) -> None:
    judge(case)


def test_every_open_switch_is_tried_both_ways() -> None:
    from tests.test_kvm_unit_tests import EVENTINJ
    from tests.test_puzzles import PUZZLES

    tried = {name for case in (*OPEN, *EVENTINJ, *PUZZLES) for name in case.switches}
    assert tried == set(Switches().names())
