"""kvm-unit-tests, retold: what its NMI and interrupt tests of SVM ask of a processor.

x86/svm_tests.c with the test's host as ours and its guest as ours; x86/apic.c on bare metal; x86/eventinj.c with pages
missing in the nested page table, so that a delivery exits halfway. One row is one test or one stage of it.
"""

from __future__ import annotations

from tests.cases import (
    INJ_NMI,
    SELF_IRQ,
    SELF_NMI,
    V_GIF_ENABLE,
    V_IGN_TPR,
    V_INTR_MASKING,
    V_IRQ,
    V_NMI,
    V_NMI_ENABLE,
    Bare,
    Case,
    Check,
    judge,
    table,
)  # fmt: skip
from vnmi_lab.guest import IDT, Guest
from vnmi_lab.hw.events import Delivered, Event
from vnmi_lab.machine import BareMetal, Stimulus
from vnmi_lab.rules import Switches

SELF_SMI = "mov dword [r15], 0x4200\n"
VMMCALLS = "vmmcall\n" * 3
VIRQ_HIGH = V_IRQ | 0xF << 16  # kvm-unit-tests' priority F
VIRQ_LOW = V_IRQ | 8 << 16 | 0xA  # priority 8, V_TPR A
IRQ_VECTOR = ("set", "int_vector", 0x40)
HLT_GUEST = "hlt\nvmmcall"
VIRQ_GUEST = "cli\nnop\nvmmcall\nsti\nnop\nfired: nop\ncli\nvmmcall"

SVM: tuple[Case, ...] = (
    Case("nmi: not intercepted, the guest takes it", SELF_NMI + "vmmcall", ("run", {"exit": "VMMCALL", "nmi": 1})),
    Case(
        "nmi: intercepted, the host takes it at STGI",
        SELF_NMI + "back: vmmcall",
        (
            ("icpt", "nmi"), "run", {"exit": "NMI", "at": "back", "nmi": 0, "nmi_latch": 1, "nmis": 0, "info": None},
            "stgi", {"nmis": 1, "nmi_latch": 0, "nmi_mask": 0}, "run", {"exit": "VMMCALL", "nmi": 0, "nmis": 1},
        ),
    ),
    Case(
        "nmi_hlt: the NMI wakes the guest",
        HLT_GUEST,
        (
            ("noicpt", "hlt"), "run", {"outcome": "halted, and nothing is pending that could wake it"},
            ("world", "nmi"), {"exit": "VMMCALL", "nmi": 1},
        ),
    ),
    Case(
        "nmi_hlt: the NMI exits",
        HLT_GUEST,
        (
            ("noicpt", "hlt"), ("icpt", "nmi"), "run", ("world", "nmi"), {"exit": "NMI", "nmi": 0},
            "stgi", {"nmis": 1}, "run", {"exit": "VMMCALL", "nmi": 0},
        ),
    ),
    Case(
        "vnmi: three stages",
        "start: " + VMMCALLS,
        (
            ("ctl+", V_NMI_ENABLE), "run", {"exit": "INVALID", "nmi": 0, "at": "start", "exit_code": (1 << 64) - 1},
            ("icpt", "nmi"), "run", {"exit": "VMMCALL", "nmi": 0},
            ("ctl+", V_NMI), "run", {"exit": "VMMCALL", "nmi": 1, "v_nmi_blocking": 0, "v_nmi_pending": 0},
        ),
    ),
    Case(
        "exc_inject: an exception with vector 2 is refused",
        VMMCALLS,
        (("inj", 0x80000302), "run", {"exit": "INVALID", "nmi": 0, "event_inj": 0x80000302}),
    ),
    Case(
        "exc_inject: #DE",
        VMMCALLS,
        (("inj", 0x80000300), "run", {"exit": "VMMCALL", "de": 1, "inj": 0, "info": None}),
    ),
    Case(
        "virq_inject: held by IF 0, taken after STI and one instruction",
        VIRQ_GUEST,
        (
            IRQ_VECTOR, ("if", 1), ("ctl+", V_INTR_MASKING), "run", {"exit": "VMMCALL", "IF": 0},
            ("ctl+", VIRQ_HIGH), "run", {"exit": "VMMCALL", "irq": 1, "entered": [(0x40, "fired")], "v_irq": 0},
        ),
    ),
    Case(
        "virq_inject: the VINTR intercept exits before it fires",
        VIRQ_GUEST,
        (
            IRQ_VECTOR, ("ctl+", V_INTR_MASKING), "run", ("icpt", "vintr"), ("ctl+", VIRQ_HIGH),
            "run", {"exit": "VINTR", "irq": 0, "v_irq": 1, "at": "fired"},
            ("noicpt", "vintr"), "run", {"exit": "VMMCALL", "irq": 1, "v_irq": 0},
        ),
    ),
    Case(
        "virq_inject: a priority that is not above V_TPR does not fire",
        VIRQ_GUEST,
        (IRQ_VECTOR, ("ctl+", V_INTR_MASKING | VIRQ_LOW), "run", "run", {"exit": "VMMCALL", "irq": 0, "v_irq": 1}),
    ),
    Case(
        "virq_inject: nor does it reach the VINTR intercept",
        VIRQ_GUEST,
        (
            IRQ_VECTOR, ("icpt", "vintr"), ("ctl+", V_INTR_MASKING | VIRQ_LOW), "run", "run",
            {"exit": "VMMCALL", "irq": 0, "v_irq": 1},
        ),
    ),
    Case(
        "virq_inject: V_IGN_TPR overrules V_TPR",
        VIRQ_GUEST,
        (IRQ_VECTOR, ("ctl+", V_INTR_MASKING | VIRQ_LOW | V_IGN_TPR), "run", "run", {"exit": "VMMCALL", "irq": 1}),
    ),
    Case(
        "virq_inject_within_shadow",
        "nop\nsecond: nop\nvmmcall",
        (
            IRQ_VECTOR, ("ist", 1), ("if", 1), ("ctl+", VIRQ_HIGH), "run",
            {"exit": "VMMCALL", "irq": 1, "entered": [(0x40, "second")], "shadow": 0, "v_irq": 0},
        ),
    ),
    Case(
        "pending_event: INTR exits before the first instruction",
        "start: inc r8\nvmmcall",
        (
            "clgi", ("hostif", 1), ("hostintr", 0x40), ("icpt", "intr"), ("ctl+", V_INTR_MASKING), "run",
            {"exit": "INTR", "at": "start", "r8": 0, "interrupts": 0, "irr": 1 << 0x40},
            "stgi", {"interrupts": 1, "irr": 0}, "run", {"exit": "VMMCALL", "r8": 1, "irq": 0},
        ),
    ),
    Case(
        "pending_event: with V_INTR_MASKING the host's IF counts, not the guest's",
        "nop\nvmmcall",
        (
            "clgi", ("hostintr", 0x40), ("icpt", "intr"), ("if", 1), ("ctl+", V_INTR_MASKING), "run",
            {"exit": "VMMCALL", "irr": 1 << 0x40},
        ),
    ),
    Case(
        "svm_intr_intercept_mix_nmi",
        f"cli\nclgi\n{SELF_NMI}sti\nnop\nstgi\nafter: nop\nvmmcall",
        (
            ("icpt", "nmi"), "run", {"exit": "NMI", "at": "after", "nmi": 0, "nmis": 0, "IF": 1, "runs": 1},
            "stgi", {"nmis": 1}, "run", {"exit": "VMMCALL", "nmi": 0, "nmis": 1},
        ),
    ),
    Case(
        "svm_intr_intercept_mix_if",
        f"cli\n{SELF_IRQ}nop\nsti\nnop\nopen: nop\nvmmcall",
        (
            ("icpt", "intr"), "run", {"exit": "INTR", "at": "open", "IF": 1, "irq": 0, "runs": 1, "irr": 1 << 0x40},
            ("hostif", 1), {"interrupts": 0}, "stgi", {"interrupts": 1},
        ),
    ),
    Case(
        "svm_intr_intercept_mix_gif",
        f"cli\nclgi\n{SELF_IRQ}sti\nnop\nstgi\nopen: nop\nvmmcall",
        (("icpt", "intr"), "run", {"exit": "INTR", "at": "open", "irq": 0, "IF": 1, "runs": 1}),
    ),
    Case(
        "svm_intr_intercept_mix_gif2: IF is 1 all the time",
        f"clgi\n{SELF_IRQ}nop\nstgi\nopen: nop\nvmmcall",
        (("if", 1), ("icpt", "intr"), "run", {"exit": "INTR", "at": "open", "irq": 0, "runs": 1}),
    ),
    Case(
        "svm_intr_intercept_mix_smi",
        f"clgi\n{SELF_SMI}sti\nnop\nstgi\nopen: nop\nvmmcall",
        (("icpt", "smi"), "run", {"exit": "SMI", "at": "open", "runs": 1, "smi": 1}, "stgi", {"smis": 1, "smi": 0}),
    ),
    Case(
        "init_intercept",
        "start: nop\nvmmcall",
        ("clgi", "hostinit", ("icpt", "init"), "run", {"exit": "INIT", "at": "start", "init": 1}),
    ),
    Case(
        "vgif",
        "vmmcall\nstgi\nvmmcall\nclgi\nvmmcall",
        (
            ("ctl+", V_GIF_ENABLE), "run", {"exit": "VMMCALL", "v_gif": 0},
            "run", {"exit": "VMMCALL", "v_gif": 1}, "run", {"exit": "VMMCALL", "v_gif": 0, "runs": 3},
        ),
    ),
    Case(
        "svm_test_singlestep: the trap comes after the first instruction",
        "nop\nsecond: nop\nthird: vmmcall",
        (("tf", 1), "run", {"exit": "VMMCALL", "entered": [(1, "second"), (1, "third")], "db": 2, "TF": 1}),
    ),
    Case(
        "svm_test_singlestep: no trap when the first instruction exits",
        "start: vmmcall",
        (("tf", 1), "run", {"exit": "VMMCALL", "db": 0, "entered": []}),
    ),
    Case(
        "svm_nested_soft_inject: an injected NMI leaves the host's NMIs open",
        "start: ud2",
        (
            ("icpt", "nmi"), ("icpt_exc", 14), ("icpt_exc", 6), ("inj", INJ_NMI), "run",
            {"exit": "VMMCALL", "at": "h2+3", "ud": 0, "entered": [(2, "start")], "nmi_mask": 0}, "clgi", "hostnmi",
            {"nmis": 0}, "stgi", {"nmis": 1},
        ),
        {2: "vmmcall\niretq"},
    ),
)  # fmt: skip

# --- apic.c: no hypervisor

STI_LOOP = """
    mov rcx, 6
again:
    sti
post_sti:
    test dword [rbx+0x700], 1
    nop
    cli
    dec rcx
    jne again
    hlt
"""
ONE_NMI_ROUNDS = 40


def nmi_after_sti(switches: Switches) -> str | None:
    """Let one NMI arrive at every step in turn: it never lands on the instruction after STI."""
    guest = Guest.of(STI_LOOP, tail="hlt")
    forbidden = guest.labels()["post_sti"]
    for at in range(ONE_NMI_ROUNDS):
        machine = BareMetal(guest, (Stimulus(at),), switches)
        seen: list[Event] = []
        machine.cpu.sink = seen.append
        machine.run(1000)
        entries = [e.return_rip for e in seen if isinstance(e, Delivered)]
        if len(entries) != 1 or forbidden in entries:
            return f"an NMI at step {at} was taken with return addresses {entries}"
    return None


def two_senders(switches: Switches) -> str | None:
    """Let two NMIs arrive, the second at any distance after the first was taken: the handler runs exactly twice."""
    guest = Guest.of(STI_LOOP, tail="hlt")
    for first in range(4, 12):
        for distance in range(1, 12):
            machine = BareMetal(guest, (Stimulus(first), Stimulus(first + distance + 1)), switches)
            machine.run(1000)
            runs = machine.cpu.memory.read(0x340010, 8)
            if runs != 2:
                return f"NMIs at steps {first} and {first + distance + 1}: the handler ran {runs} times"
    return None


TEN_ONCE = f"""
    inc qword [rbx+0x10]
    cmp qword [rbx+0x10], 1
    jne done
    {SELF_NMI * 10}
last: nop
done:
    iretq
"""
APIC: tuple[Bare | Check, ...] = (
    Check("nmi-after-sti", nmi_after_sti),
    Check("multiple nmi", two_senders),
    Bare("pending nmi: ten in the handler give one more", SELF_NMI + "sent: nop\nhlt", (), {
        "nmi": 2, "entered": [(2, "sent"), (2, "sent")], "nmi_latch": 0, "nmi_mask": 0,
    }, {2: TEN_ONCE}),
    Bare("two at one boundary are one", "nop\nhlt", (Stimulus(0, times=2),), {"nmi": 1}, derived=True),
    Bare("two under CLGI are one", f"clgi\n{SELF_NMI}{SELF_NMI}stgi\nopen: nop\nhlt", (), {
        "nmi": 1, "entered": [(2, "open")],
    }, derived=True),
)  # fmt: skip

# --- eventinj.c: the IDT or the stack is not in the nested page table

NO_IDT, ALL_PAGES = ("absent", IDT), ("absent",)
NESTED_ONCE = f"""
    inc qword [rbx+0x10]
    cmp qword [rbx+0x10], 1
    jne done
    {SELF_NMI}
    nop
done:
    iretq
"""
FRESH = 0x360000
IRET_FROM_FRESH_PAGE = f"""
    inc qword [rbx+0x10]
    cmp qword [rbx+0x10], 1
    jne done
    {SELF_NMI}
    mov rsp, {FRESH + 0x1000:#x}
    push 0x10
    push rbp
    push 2
    push 8
    push r14
    vmmcall
returning:
    iretq
done:
    iretq
"""
EVENTINJ: tuple[Case, ...] = (
    Case(
        "DE: the IDT read exits, delivered exactly once",
        "nop\nvmmcall",
        (
            NO_IDT, ("inj", 0x80000300), "run", {"exit": "NPF", "info": 0x80000300, "de": 0},
            ALL_PAGES, "requeue", "run", {"exit": "VMMCALL", "de": 1},
        ),
    ),
    Case(
        "UD: a fault of the guest's own, its IDT read exits",
        "start: ud2\nnext: vmmcall",
        (
            NO_IDT, "run", {"exit": "NPF", "info": 0x80000306, "at": "start", "ud": 0},
            ALL_PAGES, "requeue", "run", {"exit": "VMMCALL", "ud": 1, "entered": [(6, "start")]},
        ),
        {6: "inc qword [rbx+0x30]\nadd qword [rsp], 2\niretq"},
    ),
    Case(
        "BP: executed again after the exit",
        "start: int3\nnext: vmmcall",
        (
            NO_IDT, "run", {"exit": "NPF", "info": 0x80000303, "at": "start", "bp": 0},
            ALL_PAGES, "run", {"exit": "VMMCALL", "bp": 1, "entered": [(3, "next")]},
        ),
    ),
    Case(
        "int 33: executed again after the exit",
        "start: int 0x21\nnext: vmmcall",
        (
            NO_IDT, "run", {"exit": "NPF", "info": 0x80000421, "at": "start", "next_rip": 0},
            ALL_PAGES, "run", {"exit": "VMMCALL", "count 0x21": 1, "entered": [(0x21, "next")]},
        ),
    ),
    Case(
        "int 33: injected again with nRIP, where the processor honours it",
        "start: int 0x21\nnext: vmmcall",
        (
            NO_IDT, "run", ALL_PAGES, "requeue", ("set", "next_rip", 0x300002), "run",
            {"exit": "VMMCALL", "count 0x21": 1, "entered": [(0x21, "next")]},
        ),
        switches={"injected_soft_uses_nrip": True},
    ),
    Case(
        "int 33: injected again where the processor returns to RIP, it comes twice",
        "start: int 0x21\nnext: vmmcall",
        (
            NO_IDT, "run", ALL_PAGES, "requeue", ("set", "next_rip", 0x300002), "run",
            {"exit": "VMMCALL", "count 0x21": 2, "entered": [(0x21, "start"), (0x21, "next")]},
        ),
        derived=True,
    ),
    Case(
        "vec 33: an interrupt whose IDT read exits",
        SELF_IRQ + "sti\nnop\nthere: vmmcall",
        (
            NO_IDT, "run", {"exit": "NPF", "info": 0x80000040, "irq": 0, "irr": 0, "at": "there"},
            ALL_PAGES, "requeue", "run", {"exit": "VMMCALL", "irq": 1, "entered": [(0x40, "there")]},
        ),
    ),
    Case(
        "vec 32 and 33 together: both, the higher first",
        "mov dword [r15], 0x4020\nmov dword [r15], 0x4021\nsti\nnop\nthere: vmmcall",
        ("run", {"exit": "VMMCALL", "count 0x20": 1, "count 0x21": 1, "entered": [(0x21, "there"), (0x20, "there")]}),
    ),
    Case(
        "sti; int 33 with vec 32 pending: int 33 first",
        "mov dword [r15], 0x4020\nsti\nint 0x21\nthere: vmmcall",
        ("run", {"exit": "VMMCALL", "entered": [(0x21, "there"), (0x20, "there")]}),
    ),
    Case(
        "NP: the gate is made present in the handler of #NP",
        "start: int 0x40\nnext: vmmcall",
        (
            ("gate", 0x40, 0), "run", {"exit": "VMMCALL", "at": "h11+3", "entered": [(11, "start")]},
            ("gate", 0x40, 1), "run", {"exit": "VMMCALL", "irq": 1, "entered": [(0x40, "next")]},
        ),
        {11: "vmmcall\nadd rsp, 8\niretq"},
    ),
    Case(
        "NMI: the IDT read exits, the nested one comes after the IRET",
        SELF_NMI + "sent: nop\nvmmcall",
        (
            NO_IDT, "run", {"exit": "NPF", "info": 0x80000202, "nmi": 0, "nmi_mask": 1},
            ALL_PAGES, "requeue", "run", {"exit": "VMMCALL", "nmi": 2, "entered": [(2, "sent"), (2, "sent")]},
        ),
        {2: NESTED_ONCE},
    ),
    Case(
        "NMI under vNMI: the IDT read exits, the nested one comes after the IRET",
        "start: nop\nvmmcall",
        (
            ("icpt", "nmi"), ("ctl+", V_NMI_ENABLE | V_NMI), NO_IDT, "run",
            {"exit": "NPF", "info": 0x80000202, "v_nmi_pending": 0, "v_nmi_blocking": 0},
            ALL_PAGES, "requeue", ("ctl+", V_NMI), "run",
            {"exit": "VMMCALL", "nmi": 2, "entered": [(2, "start"), (2, "start")], "v_nmi_blocking": 0},
        ),
    ),
    Case(
        "NMI IRET: an exit in the middle of IRET does not unmask",
        "mov rbp, rsp\nlea r14, [after]\n" + SELF_NMI + "after: nop\nvmmcall",
        (
            "run", {"exit": "VMMCALL", "at": "returning"}, ("absent", FRESH), "run",
            {"exit": "NPF", "at": "returning", "nmi_mask": 1, "nmi_latch": 1, "exit_info_1": 0x100000004, "info": None},
            ALL_PAGES, "run", {"exit": "VMMCALL", "nmi": 2, "entered": [(2, "after"), (2, "after")]},
        ),
        {2: IRET_FROM_FRESH_PAGE},
    ),
    Case(
        "NMI IRET under vNMI: an exit in the middle of IRET does not unmask",
        "mov rbp, rsp\nlea r14, [after]\nvmmcall\nafter: nop\nvmmcall",
        (
            ("icpt", "nmi"), ("ctl+", V_NMI_ENABLE), "run", {"exit": "VMMCALL"}, ("ctl+", V_NMI),
            "run", {"exit": "VMMCALL", "at": "returning", "v_nmi_blocking": 1}, ("ctl+", V_NMI), ("absent", FRESH),
            "run", {"exit": "NPF", "at": "returning", "v_nmi_blocking": 1, "v_nmi_pending": 1},
            ALL_PAGES, "run", {"exit": "VMMCALL", "nmi": 2, "entered": [(2, "after"), (2, "after")]},
        ),
        {2: IRET_FROM_FRESH_PAGE.replace(SELF_NMI, "")},
    ),
    Case(
        "DE, then #PF on the IDT: both exactly once",
        "start: nop\nvmmcall",
        (
            ("inj", 0x80000300), ("set", "rsp", 1 << 33), ("icpt_exc", 14), "run",
            {"exit": "EXC_PF", "info": 0x80000300, "exit_info_2": (1 << 33) - 8, "de": 0},
            ("set", "rsp", 0x350000), "requeue", "run", {"exit": "VMMCALL", "de": 1, "pf": 0},
        ),
    ),
    Case(
        "NP, then NPF on the stack: the NP is delivered once",
        "start: int 0x40\nvmmcall",
        (
            ("gate", 0x40, 0), ("absent", 0x34F000), "run",
            {"exit": "NPF", "info": (0x40 * 8 + 2) << 32 | 0x80000B0B, "at": "start", "np": 0},
            ALL_PAGES, "requeue", ("gate", 0x40, 1), "run", {"exit": "VMMCALL", "np": 1, "irq": 1},
        ),
    ),
)  # fmt: skip
CASES = (*SVM, *APIC, *EVENTINJ)


@table(SVM)
def test_svm_tests(case: Case) -> None:
    judge(case)


@table(APIC)
def test_apic(case: Bare | Check) -> None:
    judge(case)


@table(EVENTINJ)
def test_eventinj(case: Case) -> None:
    judge(case)
