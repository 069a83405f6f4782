"""VMRUN's checks, instruction intercepts, IN and OUT, and what crosses at #VMEXIT."""

from __future__ import annotations

from tests.cases import (
    SELF_IRQ,
    SELF_NMI,
    STOP_IN,
    V_IGN_TPR,
    V_IRQ,
    V_NMI_ENABLE,
    Bare,
    Case,
    Check,
    Line,
    judge,
    table,
)  # fmt: skip
from vnmi_lab.guest import COUNTERS, IDT, MAIN, STACK, Guest
from vnmi_lab.hw import svm
from vnmi_lab.hw.delivery import (
    SOURCES,
)  # fmt: skip
from vnmi_lab.hw.events import Event, VmExit
from vnmi_lab.hw.vmcb import Intercept3, Intercept4
from vnmi_lab.machine import Host

NO_STACK = ("set", "rsp", 1 << 33)  # a push there is #PF


# --- the instruction intercepts

OPERATED = {  # name of the intercept: an instruction that reaches it, its length
    "idtr_write": ("lidt [rbx+0x100]", 7), "rdtsc": ("rdtsc", 2), "pushf": ("pushfq", 1), "popf": ("popfq", 1),
    "cpuid": ("cpuid", 2), "iret": ("iretq", 2), "swint": ("int 0x40", 2), "pause": ("pause", 2), "hlt": ("hlt", 1),
    "vmrun": ("vmrun", 3), "vmmcall": ("vmmcall", 3), "stgi": ("stgi", 3), "clgi": ("clgi", 3),
}  # fmt: skip
HONOURED = {
    **{n: 0x60 + b.low for n, b in Intercept3.FIELDS.items()},
    **{n: 0x80 + b.low for n, b in Intercept4.FIELDS.items()},
}
INSTRUCTIONS = [
    Case(
        f"{name} exits before anything is committed, nRIP is the next instruction",
        f"nop\nspot: {text}",
        (
            ("icpt", name), ("set", "rsp", STACK - 8), ("run", "noskip"),
            {"exit_code": HONOURED[name], "at": "spot", "next_rip": MAIN + 1 + length, "rsp": 8, "rax": 0, "gif": 0,
            "info": None},
            {"exit_info_1": 0, "exit_info_2": 0, "idt_limit": 0xFFF, "rdx": 0},
        ),
    )
    for name, (text, length) in OPERATED.items()
]  # fmt: skip


def test_the_exit_code_is_the_bit_plus_the_base_of_its_vector() -> None:
    for code in (0x60, 0x61, 0x62, 0x63, 0x64, 0x6A, 0x6E, 0x70, 0x71, 0x72, 0x74, 0x75, 0x77, 0x78, 0x7B, 0x7F):
        assert 1 << (code - 0x60) in [b.mask for b in Intercept3.FIELDS.values()]
    for code in (0x80, 0x81, 0x84, 0x85):
        assert 1 << (code - 0x80) in [b.mask for b in Intercept4.FIELDS.values()]
    assert {s.intercept for s in SOURCES} - {None} == {0x60, 0x61, 0x62, 0x63, 0x64}
    assert svm.exit_name(svm.INVALID) == "INVALID"
    assert svm.exit_name(0x999) == "0x999"


def test_every_intercept_the_model_honours_has_a_case() -> None:
    from vnmi_lab.hw.insn import ROWS

    by_code = {row.intercept for row in ROWS} - {None}
    assert {HONOURED[name] for name in OPERATED} == by_code


SECOND_TIME = [
    Case("INT3 is no SWINT", "int3\nvmmcall", (("icpt", "swint"), "run", {"exit": "VMMCALL", "bp": 1})),
    Case("an injected software interrupt is not intercepted", "vmmcall", (("icpt", "swint"), ("inj", 0x80000440),
    "run", {"at": "h64+3"}), STOP_IN),
    Case("IRET's intercept comes before its faults", "spot: iretq", (("icpt", "iret"), NO_STACK, "run",
    {"exit": "IRET", "at": "spot"})),
    Case("VMMCALL's comes before #UD", "vmmcall", ("run", {"exit": "VMMCALL", "ud": 0})),
    Case("without intercept RDTSC counts steps, TSC_OFFSET added", "rdtsc\nvmmcall", (("set", "tsc_offset", 1 << 33),
    "run", {"rdx": 2})),
    Case("LIDT loads the table", "lidt [rbx+0x100]\nvmmcall", (("poke", COUNTERS + 0x100, 0x440000_0ABC), "run",
    {"idt_limit": 0xABC,
         "idt_base": 0x440000})),
]  # fmt: skip

# --- IN and OUT

IOPM = 0x380000
IO = [  # name, instruction, length, ports whose bit is set, exits?, EXITINFO1
    ("OUT to a port in the map", "out 0x80, al", 2, (0x80,), True, 0x80 << 16 | 1 << 9 | 1 << 4),
    ("IN from one", "in al, 0x80", 2, (0x80,), True, 0x80 << 16 | 1 << 9 | 1 << 4 | 1),
    ("OUT of four bytes", "out 0x80, eax", 2, (0x80,), True, 0x80 << 16 | 1 << 9 | 4 << 4),
    ("OUT of four bytes whose last is in the map", "out 0x80, eax", 2, (0x83,), True, 0x80 << 16 | 1 << 9 | 4 << 4),
    ("OUT across two bytes of the map", "out 0x87, eax", 2, (0x88,), True, 0x87 << 16 | 1 << 9 | 4 << 4),
    ("OUT beside one", "out 0x80, al", 2, (0x7F, 0x81), False, 0),
    ("OUT of four bytes beside one", "out 0x80, eax", 2, (0x7F, 0x84), False, 0),
    ("OUT through DX", "mov edx, 0x1234\nspot: out dx, al", 1, (0x1234,), True, 0x1234 << 16 | 1 << 9 | 1 << 4),
]


def io_case(row: tuple[str, str, int, tuple[int, ...], bool, int]) -> Case:
    name, text, length, ports, exits, info = row
    words: dict[int, int] = {}
    for port in ports:
        at = IOPM + port // 64 * 8
        words[at] = words.get(at, 0) | 1 << port % 64
    spot = text if "spot" in text else f"spot: {text}"
    after = MAIN + (5 if "mov" in text else 0) + length
    seen = (
        {"exit": "IOIO", "at": "spot", "exit_info_1": info, "exit_info_2": after, "next_rip": after}
        if exits
        else {"exit": "VMMCALL"}
    )
    pokes = tuple(("poke", at, bits) for at, bits in words.items())
    return Case(name, f"{spot}\nvmmcall", (*pokes, ("set", "iopm_base_pa", IOPM), ("icpt", "ioio_prot"), "run", seen))


IOIO = [io_case(row) for row in IO]
IOIO.append(Case("IN that nobody answers reads ones", "in al, 0x80\nvmmcall", ("run", {"rax": 0xFF})))
IOIO.append(
    Case("IN of four bytes clears the upper half", "mov rax, -1\nin eax, 0x80\nvmmcall", ("run", {"rax": 0xFFFFFFFF}))
)

# --- VMRUN's checks

BAD: list[tuple[str, tuple[Line, ...], str]] = [  # what, how the host makes it so, the rule
    ("EFER.SVME 0", (("set", "efer", 0x500),), "R-CHECK-SVME"),
    ("no VMRUN intercept", (("noicpt", "vmrun"),), "R-CHECK-VMRUN"),
    ("ASID 0", (("set", "asid", 0),), "R-CHECK-ASID"),
    ("CR0.NW without CD", (("set", "cr0", 0xA0000011),), "R-CHECK-CR0"),
    ("CR0 above 32 bits", (("set", "cr0", 0x180000011),), "R-CHECK-CR0"),
    ("CR3 above the physical address space", (("set", "cr3", 1 << 52),), "R-CHECK-CR3"),
    ("a reserved bit of CR4", (("set", "cr4", 1 << 31 | 0x20),), "R-CHECK-CR4"),
    ("a reserved bit of EFER", (("set", "efer", 0x1502),), "R-CHECK-EFER"),
    ("long mode without CR4.PAE", (("set", "cr4", 0),), "R-CHECK-LONG"),
    ("long mode with CS.L and CS.D", (("set", "cs_attrib", 0x69B),), "R-CHECK-LONG"),
    ("DR6 above 32 bits", (("set", "dr6", 1 << 32),), "R-CHECK-DR"),
    ("DR7 above 32 bits", (("set", "dr7", 1 << 32),), "R-CHECK-DR"),
    ("the I/O map out of range", (("set", "iopm_base_pa", 1 << 52),), "R-CHECK-MAPS"),
    ("the MSR map out of range", (("set", "msrpm_base_pa", (1 << 52) - 0x1000),), "R-CHECK-MAPS"),
    *((f"EVENTINJ type {kind}", (("inj", 0x80000000 | kind << 8),), "R-CHECK-INJ-TYPE") for kind in (1, 5, 6, 7)),
    *((f"EVENTINJ exception {v}", (("inj", 0x80000300 | v),), "R-CHECK-INJ-EXC") for v in (2, 4, 5, 9, 15, 32, 255)),
    ("V_NMI_ENABLE without the NMI intercept", (("ctl+", V_NMI_ENABLE),), "R-CHECK-VNMI"),
    ("CPL 3", (("set", "cpl", 3),), "R-MODEL-RING0"),
    ("no long mode", (("set", "efer", 0x1000),), "R-MODEL-RING0"),
    ("no 64-bit code segment", (("set", "cs_attrib", 0x49B),), "R-MODEL-RING0"),
]
INVALID = [
    Case(
        f"{what} alone is INVALID",
        "start: inc r8\nvmmcall",
        (
            *how, ("set", "exit_int_info", 5), ("set", "rax", 77), ("ist", 1), "run",
            {"exit": "INVALID", "at": "start", "rsp": 0, "rax": 77, "r8": 0, "rflags": 2, "shadow": 1, "gif": 0},
            {"exit_int_info": 5, "runs": 1},
        ),
    )
    for what, how, _rule in BAD
]  # fmt: skip
VALID = [
    Case(f"{what} is fine", "vmmcall", (*how, "run", {"exit": "VMMCALL"}))
    for what, how in [
        ("CR0.CD with NW", (("set", "cr0", 0xE0000011),)),
        ("CR0.CD without NW", (("set", "cr0", 0xC0000011),)),
        ("EVENTINJ with a bad type and V 0", (("inj", 0x100),)),
        ("EVENTINJ exception 2 with V 0", (("inj", 0x302),)),
        ("the I/O map at the end of memory", (("set", "iopm_base_pa", (1 << 52) - 0x3000),)),
        ("the NMI intercept without V_NMI_ENABLE", (("icpt", "nmi"),)),
    ]
]
IN_DETAIL = [
    Case("EVENTINJ is delivered once", "nop\nvmmcall", ("inj", "run", "run", {"nmi": 1, "inj": 0})),
    Case("EVENTINJ ignores IF, shadow and the mask", "start: vmmcall",
         (("if", 0), ("ist", 1), ("cpu", "nmi_mask", 1), "inj", "run", {"nmi": 1, "entered": [(2, "start")]})),
    Case("EVENTINJ of an NMI masks no physical NMI", "start: vmmcall",
         ("inj", "run", {"entered": [(2, "start"), (2, "next")], "nmi_mask": 1}),
         {2: "inc r8\ncmp r8, 1\njne stop\n" + SELF_NMI + "next: nop\nstop: vmmcall"}),
    Case("VMRUN sets GIF and #VMEXIT clears it", SELF_NMI + "vmmcall", ("clgi", "run", {"nmi": 1, "gif": 0})),
    Case("#VMEXIT restores the host's flags", "sti\nnop\nvmmcall", (("hostif", 0), "run", ("hostintr", 0x40), "stgi",
    {"interrupts": 0})),
    Case("V_TPR and V_IRQ are written back", "vmmcall", (("ctl+", V_IRQ | 5), "run", {"v_irq": 1, "v_tpr": 5})),
    Case("nRIP is 0 on exits that are no instruction", "start: nop\nvmmcall",
         (("set", "next_rip", 99), ("icpt", "nmi"), "clgi", "hostnmi", "run", {"exit": "NMI", "next_rip": 0})),
    Case("EXITINTINFO is cleared by the next exit", "start: nop\nvmmcall",
         (("absent", IDT), "inj", "run", {"info": 0x80000200}, ("absent",), "run", {"info": None, "exit_int_info": 0})),
    Case("an ICR with another destination sends nothing",
    "mov dword [r15+0x10], 0x1000000\n" + SELF_NMI + SELF_IRQ + "vmmcall",
         ("run", {"nmi": 0, "irr": 0, "nmi_latch": 0})),
    Case("an ICR with shorthand self or all sends it",
    "mov dword [r15+0x10], 0x1000000\nmov dword [r15], 0x44400\nvmmcall",
         ("run", {"nmi": 1})),
    Case("an ICR with shorthand others does not", "mov dword [r15], 0xc4400\nvmmcall", ("run", {"nmi": 0})),
    Case("the ICR reads back", "mov dword [r15], 0x40\nmov eax, [r15]\nvmmcall", ("run", {"rax": 0x40})),
    Case("a physical interrupt that is not intercepted goes to the guest", SELF_IRQ + "sti\nnop\nthere: vmmcall",
         ("run", {"entered": [(0x40, "there")], "irr": 0})),
    Case("a virtual interrupt has the vector of V_INTR_VECTOR", "vmmcall",
         (("if", 1), ("ist", 0), ("set", "int_vector", 0x55), ("ctl+", V_IRQ | V_IGN_TPR), "run", {"count 0x55": 1,
         "v_irq": 0})),
]  # fmt: skip


def test_every_check_of_vmrun_has_a_row_and_the_exit_names_it() -> None:
    assert {rule for _what, _how, rule in BAD} == {row[0] for row in svm.CHECKS}
    for _what, how, rule in BAD:
        host = Host(Guest.of("vmmcall"))
        for words in how:
            host.do(*words)  # type: ignore[misc]  # a line of script
        seen: list[Event] = []
        host.cpu.sink = seen.append
        host.do("run")
        assert [event.rule for event in seen if isinstance(event, VmExit)] == [rule]


CASES: tuple[Case | Bare | Check, ...] = (*INSTRUCTIONS, *SECOND_TIME, *IOIO, *INVALID, *VALID, *IN_DETAIL)


@table(CASES)
def test_svm(case: Case | Bare | Check) -> None:
    judge(case)
