"""Corner cases that need only the processor: what happens, and who says so.

Numbers are those of the project's list of thirty puzzles. ``derived`` marks what was reasoned from text or code and
is stated by no source; nothing about virtual NMIs is verified on hardware.
"""

from __future__ import annotations

from tests.cases import (
    SELF_NMI,
    V_GIF,
    V_GIF_ENABLE,
    V_NMI,
    V_NMI_ENABLE,
    V_NMI_MASK,
    Bare,
    Case,
    judge,
    table,
)  # fmt: skip
from vnmi_lab.guest import IDT
from vnmi_lab.machine import Stimulus

VNMI_ON = (("icpt", "nmi"), ("ctl+", V_NMI_ENABLE))
ABSENT, PRESENT = ("absent", IDT), ("absent",)
REPORTING = "inc qword [rbx+0x10]\nvmmcall\nending: iretq"
RETURN_TO_ITSELF = """
    inc qword [rbx+0x10]
    cmp qword [rbx+0x10], 1
    jne same
    mov rbp, rsp
    lea r14, [same]
    push 0x10
    push rbp
    push 2
    push 8
    push r14
    vmmcall
same:
    iretq
"""
BREAKS_INSIDE = f"""
    inc qword [rbx+0x10]
    cmp qword [rbx+0x10], 1
    jne done
    {SELF_NMI}
    int3
unfinished:
    nop
done:
    iretq
"""
BAD_CS = "inc qword [rbx+0x10]\nmov qword [rsp+8], 0x1234\nreturning: iretq"
FIX_CS = "inc qword [rbx+0x68]\nvmmcall\nadd rsp, 8\nmov qword [rsp+0x30], 8\niretq"

PUZZLES: tuple[Case | Bare, ...] = (
    Case(
        "1: without vNMI a second injected NMI is delivered inside the handler of the first",
        "start: nop\nvmmcall",
        (
            "inj", "run", {"exit": "VMMCALL", "entered": [(2, "start")], "nmi_mask": 0},
            "inj", "run", {"exit": "VMMCALL", "entered": [(2, "ending")], "nmi": 2, "rsp": 88},
        ),
        {2: REPORTING},
    ),
    Case(
        "2: with vNMI a V_NMI waits for the IRET",
        "start: nop\nvmmcall",
        (
            *VNMI_ON, "inj", "run", {"exit": "VMMCALL", "v_nmi_blocking": 1, "v_nmi_pending": 0, "nmi": 1},
            ("ctl+", V_NMI), "run", {"exit": "VMMCALL", "entered": [(2, "start"), (2, "start")], "rsp": 40, "nmi": 2},
        ),
        {2: REPORTING},
    ),
    Case(
        "2: with vNMI a second EVENTINJ does not wait",
        "start: nop\nvmmcall",
        (
            *VNMI_ON, "inj", "run", {"exit": "VMMCALL", "v_nmi_blocking": 1},
            "inj", "run", {"exit": "VMMCALL", "entered": [(2, "start"), (2, "ending")], "rsp": 88, "v_nmi_blocking": 1},
        ),
        {2: REPORTING},
        derived=True,
    ),
    Case(
        "3: V_NMI_ENABLE without the NMI intercept is INVALID, and no instruction runs",
        "start: inc r8\nvmmcall",
        (
            ("ctl+", V_NMI_ENABLE | V_NMI), "run",
            {"exit": "INVALID", "at": "start", "r8": 0, "nmi": 0, "v_nmi_pending": 1, "gif": 0},
        ),
    ),
    Case("4: type 3 vector 2 is INVALID", "nop\nvmmcall", (("inj", 0x80000302), "run", {"exit": "INVALID", "nmi": 0})),
    Case(
        "4: type 2 vector 55h is an NMI",
        "start: nop\nvmmcall",
        (("inj", 0x80000255), "run", {"exit": "VMMCALL", "nmi": 1, "count 0x55": 0, "entered": [(2, "start")]}),
    ),
    Case(
        "5: NPF on the IDT while a virtual NMI is delivered, and who only maps the page loses the NMI",
        "start: nop\nvmmcall",
        (
            *VNMI_ON, ("ctl+", V_NMI), ABSENT, "run",
            {"exit": "NPF", "info": 0x80000202, "v_nmi_pending": 0, "v_nmi_blocking": 0, "at": "start"},
            PRESENT, "run", {"exit": "VMMCALL", "nmi": 0},
        ),
    ),
    Case(
        "5: who copies EXITINTINFO to EVENTINJ delivers it, masked",
        "start: nop\nvmmcall",
        (
            *VNMI_ON, ("ctl+", V_NMI), ABSENT, "run", PRESENT, "requeue",
            "run", {"exit": "VMMCALL", "nmi": 1, "v_nmi_blocking": 1, "entered": [(2, "start")]},
        ),
        {2: REPORTING},
    ),
    Case(
        "6: one in EVENTINJ and one in V_NMI: both, one after the other, with no exit for a window",
        "start: nop\nvmmcall",
        (
            *VNMI_ON, ("ctl+", V_NMI), "inj",
            "run", {"nmi": 2, "entered": [(2, "start"), (2, "start")], "runs": 1, "v_nmi_blocking": 0},
        ),
    ),
    Case(
        "7: V_NMI set ten times during the handler is one more NMI",
        "start: nop\nvmmcall",
        (*VNMI_ON, "inj", "run", *(("ctl+", V_NMI),) * 10, "run", "run", {"nmi": 2, "v_nmi_pending": 0}),
        {2: REPORTING},
    ),
    Bare(
        "9: an NMI in single-stepped code: the handler is not stepped, the trap comes after the next instruction",
        "pushfq\nor dword [rsp], 0x100\npopfq\nspot: nop\nafter: nop\nhlt",
        (Stimulus("spot"),),
        {"entered": [(2, "spot"), (1, "after")], "TF": 0},
        {1: "and dword [rsp+0x10], 0xfffffeff\ninc qword [rbx+8]\niretq"},
        derived=True,
    ),
    Case(
        "11: an IRET that faults leaves V_NMI_MASK set, and V_NMI waits",
        "start: nop\nvmmcall",
        (
            *VNMI_ON, "inj", "run", {"exit": "VMMCALL", "gp": 1, "v_nmi_blocking": 1, "entered": [(2, "start"), (13,
            "returning")]},
            ("ctl+", V_NMI), "run", {"entered": [(2, "returning"), (13, "returning")]},
        ),
        {2: BAD_CS, 13: FIX_CS},
    ),
    Case(
        "12: an IRET that returns to itself has completed: V_NMI_MASK is 0",
        "start: nop\nvmmcall",
        (
            *VNMI_ON, "inj", "run", {"exit": "VMMCALL", "v_nmi_blocking": 1, "at": "same"},
            ("ctl+", V_NMI), "run", {"exit": "VMMCALL", "entered": [(2, "start"), (2, "same")], "rsp": 0},
        ),
        {2: RETURN_TO_ITSELF},
        derived=True,
    ),
    Case(
        "14: self-NMI twice under CLGI is one NMI, as the latch is one deep",
        f"clgi\n{SELF_NMI}{SELF_NMI}stgi\nopen: nop\nvmmcall",
        ("run", {"exit": "VMMCALL", "nmi": 1, "entered": [(2, "open")]}),
        derived=True,
    ),
    Case(
        "15: a V_NMI in an STI shadow is taken after the next instruction, without an exit",
        "start: nop\nsecond: nop\nvmmcall",
        (*VNMI_ON, ("ctl+", V_NMI), ("ist", 1), "run", {"exit": "VMMCALL", "entered": [(2, "second")], "runs": 1}),
    ),
    Case(
        "16: CLGI under virtual GIF holds V_NMI and sets no mask; STGI lets it in",
        "clgi\nvmmcall\nstgi\nopen: nop\nvmmcall",
        (
            *VNMI_ON, ("ctl+", V_GIF_ENABLE | V_GIF), "run",
            {"v_gif": 0, "v_nmi_blocking": 0}, ("ctl+", V_NMI), "run",
            {"exit": "VMMCALL", "nmi": 1, "entered": [(2, "open")], "v_gif": 1, "v_nmi_blocking": 0},
        ),
    ),
    Case(
        "16: an intercepted STGI exits first",
        "clgi\nvmmcall\nopening: stgi\nopen: nop\nvmmcall",
        (
            *VNMI_ON, ("ctl+", V_GIF_ENABLE | V_GIF), "run", ("ctl+", V_NMI), ("icpt", "stgi"), "run",
            {"exit": "STGI", "at": "opening", "v_gif": 0, "v_nmi_pending": 1, "v_nmi_blocking": 0, "nmi": 0},
        ),
    ),
    Case(
        "17: a physical NMI exits first, and V_NMI is written back as 1 for the next VMRUN",
        "start: nop\nvmmcall",
        (
            *VNMI_ON, ("ctl+", V_NMI), "clgi", "hostnmi", "run",
            {"exit": "NMI", "at": "start", "v_nmi_pending": 1, "v_nmi_blocking": 0, "nmi": 0},
            "stgi", {"nmis": 1}, "run", {"exit": "VMMCALL", "entered": [(2, "start")], "v_nmi_pending": 0},
        ),
    ),
    Case(
        "18: exit 61h does not consume the physical NMI",
        "start: nop\nvmmcall",
        (
            ("icpt", "nmi"), "clgi", "hostnmi", "run", {"exit": "NMI", "nmi_latch": 1, "nmi_mask": 0, "nmis": 0},
            "run", {"exit": "NMI", "nmi_latch": 1, "at": "start"}, "stgi", {"nmis": 1, "nmi_latch": 0},
        ),
    ),
    Bare(
        "19: the IRET of an exception inside the NMI handler unmasks NMIs",
        SELF_NMI + "sent: nop\nhlt",
        (),
        {"entered": [(2, "sent"), (3, "unfinished"), (2, "unfinished")], "nmi": 2},
        {2: BREAKS_INSIDE},
    ),
    Case(
        "19: it clears V_NMI_MASK just so",
        "start: nop\nvmmcall",
        (
            *VNMI_ON, "inj", "run", ("ctl+", V_NMI), "run",
            {"entered": [(2, "start"), (3, "unfinished"), (2, "unfinished")], "nmi": 2},
        ),
        {2: BREAKS_INSIDE.replace(SELF_NMI, "vmmcall\n")},
    ),
    Case(
        "22: V_NMI 1 with V_NMI_MASK 1 waits for an IRET",
        "push 0x10\npush rsp\npush 2\npush 8\nlea rax, [there]\npush rax\nreturning: iretq\nthere: nop\nvmmcall",
        (
            *VNMI_ON, ("ctl+", V_NMI | V_NMI_MASK), "run",
            {"exit": "VMMCALL", "entered": [(2, "there")], "v_nmi_pending": 0, "v_nmi_blocking": 0},
        ),
    ),
    Case(
        "24: STI; HLT with V_NMI pended in the shadow: HLT exits, V_NMI still pends",
        "start: sti\nwaiting: hlt\nafter: nop\nvmmcall",
        (
            *VNMI_ON, ("ist", 1), ("if", 1), ("set", "rip", 0x300001), ("ctl+", V_NMI), ("run", "noskip"),
            {"exit": "HLT", "at": "waiting", "v_nmi_pending": 1, "shadow": 1, "nmi": 0},
            ("skip", 1), ("ist", 0), "run", {"exit": "VMMCALL", "entered": [(2, "after")]},
        ),
    ),
    Case(
        "24: where HLT is not intercepted the virtual NMI wakes the guest",
        "start: hlt\nafter: nop\nvmmcall",
        (
            *VNMI_ON, ("noicpt", "hlt"), ("ist", 1), ("ctl+", V_NMI), "run",
            {"exit": "VMMCALL", "entered": [(2, "after")], "nmi": 1},
        ),
        derived=True,
    ),
    Case(
        "27: a processor that caches misses a V_NMI that was set under a set clean bit",
        "vmmcall\nvmmcall",
        (*VNMI_ON, "run", ("ctl+", V_NMI), ("set", "clean", 8), "run", {"exit": "VMMCALL", "nmi": 0,
        "v_nmi_pending": 0}),
        switches={"caching": True},
    ),
    Case(
        "27: it sees it when the clean bit is clear",
        "vmmcall\nvmmcall",
        (*VNMI_ON, "run", ("set", "clean", 8), ("ctl+", V_NMI), {"clean": 0}, "run", {"exit": "VMMCALL", "nmi": 1}),
        switches={"caching": True},
    ),
    Case(
        "27: a processor that does not cache sees it all the same",
        "vmmcall\nvmmcall",
        (*VNMI_ON, "run", ("ctl+", V_NMI), ("set", "clean", 8), "run", {"exit": "VMMCALL", "nmi": 1}),
    ),
    Case(
        "28: EVENTINJ #GP with V_NMI 1: the #GP frame first, the NMI returns to the first instruction of its handler",
        "start: nop\nvmmcall",
        (
            *VNMI_ON, ("ctl+", V_NMI), ("inj", 0x80000B0D), "run",
            {"exit": "VMMCALL", "entered": [(13, "start"), (2, "h13")], "gp": 1, "nmi": 1},
        ),
        {13: "inc qword [rbx+0x68]\nadd rsp, 8\niretq"},
        derived=True,
    ),
    Case(
        "29: exception intercept 2 does not catch an NMI",
        SELF_NMI + "vmmcall",
        (("icpt_exc", 2), "run", {"exit": "VMMCALL", "nmi": 1}),
        derived=True,
    ),
    Case(
        "30: nRIP of an IRET exit is the next instruction, not where IRET goes",
        "start: nop\nvmmcall",
        (("icpt", "iret"), "inj", "run", {"exit": "IRET", "at": "returning", "next_rip": 0x310206, "rsp": 40, "IF": 0}),
        {2: "inc qword [rbx+0x10]\nreturning: iretq\nbeyond: vmmcall"},
    ),
    Case(
        "30: who moves RIP to nRIP skips the IRET: the frame stays and the mask too",
        "start: nop\nvmmcall",
        (
            *VNMI_ON, ("icpt", "iret"), "inj", "run", ("skip", 2), "run",
            {"exit": "VMMCALL", "at": "beyond+3", "rsp": 40, "v_nmi_blocking": 1},
        ),
        {2: "inc qword [rbx+0x10]\nreturning: iretq\nbeyond: vmmcall"},
    ),
)  # fmt: skip
CASES = PUZZLES


@table(PUZZLES)
def test_puzzle(case: Case | Bare) -> None:
    judge(case)
