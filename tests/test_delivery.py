"""At a boundary: which event wins, what holds it, what wakes; and what an instruction leaves behind for the next."""

from __future__ import annotations

from tests.cases import (
    SELF_IRQ,
    SELF_NMI,
    STOP_IN,
    V_GIF,
    V_GIF_ENABLE,
    V_IGN_TPR,
    V_IRQ,
    V_NMI,
    V_NMI_ENABLE,
    Bare,
    Case,
    Check,
    Line,
    judge,
    table,
)  # fmt: skip
from vnmi_lab.guest import STACK, Guest
from vnmi_lab.hw import svm
from vnmi_lab.hw.delivery import (
    ARRIVALS,
    BY_NAME,
    GATE_CHECKS,
    HOLDS,
    ON_IRET,
    SOURCES,
    held_by,
)  # fmt: skip
from vnmi_lab.machine import BareMetal, Stimulus
from vnmi_lab.rules import RULES

VNMI = ("ctl+", V_NMI_ENABLE | V_NMI)


# --- the tables are total


def test_every_rule_that_the_tables_name_exists() -> None:
    named = {rule for source in SOURCES for _hold, rule in source.holds} | {source.rule for source in SOURCES}
    named |= {source.intercept_rule for source in SOURCES if source.intercept}
    named |= {rule for source in SOURCES for rule, _field, _new in source.takes}
    named |= {rule for rows in ON_IRET.values() for rule, _field, _new in rows}
    named |= {rule for _field, rule in ARRIVALS.values()} | {row[0] for row in GATE_CHECKS}
    named |= {row[0] for row in svm.LOADS} | {row[0] for row in svm.SAVES} | {row[0] for row in svm.CHECKS}
    assert named <= RULES.keys()


def test_every_hold_is_used_and_every_source_that_is_used_exists() -> None:
    assert {hold for source in SOURCES for hold, _rule in source.holds} == HOLDS.keys()
    assert set(BY_NAME) == {"injection", "smi", "init", "trap", "nmi", "vnmi", "intr", "virq"}


def test_nothing_holds_an_injected_event_or_a_trap() -> None:
    assert not BY_NAME["injection"].holds
    assert not BY_NAME["trap"].holds


def test_held_by_names_every_hold() -> None:
    machine = BareMetal(Guest.of("nop", tail="hlt"))
    cpu = machine.cpu
    assert held_by(cpu, "nmi") == ()
    cpu.gif, cpu.shadow, cpu.nmi_mask = 0, 1, 1
    assert held_by(cpu, "nmi") == ("gif", "shadow", "nmi_mask")


# --- which one wins

PENDING: dict[str, tuple[Line, ...]] = {  # in order of priority: how the host makes it pending
    "injection": (("inj", 0x80000300),),
    "smi": ("hostsmi", ("icpt", "smi")),
    "init": ("hostinit", ("icpt", "init")),
    "nmi": ("hostnmi", ("icpt", "nmi")),
    "vnmi": (("icpt", "nmi"), VNMI),
    "intr": (("hostintr", 0x40), ("icpt", "intr")),
    "virq": (("ctl+", V_IRQ | V_IGN_TPR), ("icpt", "vintr"), ("set", "int_vector", 0x41)),
}
FIRST: dict[str, tuple[str, object]] = {  # what is seen when it wins
    "injection": ("de", 1),
    "smi": ("exit", "SMI"),
    "init": ("exit", "INIT"),
    "nmi": ("exit", "NMI"),
    "vnmi": ("nmi", 1),
    "intr": ("exit", "INTR"),
    "virq": ("exit", "VINTR"),
}
ORDER = list(PENDING)
PRIORITIES = [
    Case(
        f"{high} before {low}",
        "nop\nvmmcall",
        (("if", 1), "clgi", *PENDING[low], *PENDING[high], "run", {FIRST[high][0]: FIRST[high][1]}),
    )
    for i, high in enumerate(ORDER)
    for low in ORDER[i + 1 :]
    if high not in ("injection", "vnmi")
]
PRIORITIES += [
    Case(
        f"injection before {low}: its frame is pushed, then the other comes at the first boundary of its handler",
        "start: nop\nvmmcall",
        (("if", 1), "clgi", *PENDING[low], *PENDING["injection"], "run", {"exit": exit_name, "at": "h0", "rsp": 40}),
        {0: "nop\nvmmcall"},
    )
    for low, exit_name in (("smi", "SMI"), ("init", "INIT"), ("nmi", "NMI"))
]
PRIORITIES += [
    Case(
        "vnmi before virq: the handler starts with IF 0, the interrupt waits for its IRET",
        "start: nop\nvmmcall",
        (
            ("if", 1), *PENDING["virq"], *PENDING["vnmi"], "run", {"exit": "VINTR", "at": "start", "nmi": 1},
            ("noicpt", "vintr"), "run", {"entered": [(2, "start"), (0x41, "start")]},
        ),
    ),
    Case(
        "a TF trap before a physical NMI",
        f"{SELF_NMI}after: nop\nvmmcall",
        (("tf", 1), "run", {"exit": "VMMCALL", "entered": [(1, "after"), (2, "h1")]}),
        {1: "and dword [rsp+0x10], 0xfffffeff\niretq"},
    ),
    Case(
        "an SMI before a TF trap",
        "mov dword [r15], 0x4200\nafter: nop\nvmmcall",
        (("tf", 1), ("icpt", "smi"), "run", {"exit": "SMI", "exit_info_1": 1, "at": "after", "db": 0}),
    ),
]  # fmt: skip

# --- what holds each one

HOLDING: list[tuple[str, str, tuple[Line, ...]]] = [  # source, what holds it, how
    ("nmi", "shadow", (("ist", 1),)),
    ("nmi", "mask", (("cpu", "nmi_mask", 1),)),
    ("vnmi", "shadow", (("ist", 1),)),
    ("vnmi", "V_NMI_MASK", (("ctl+", 1 << 12),)),
    ("vnmi", "V_GIF", (("ctl+", V_GIF_ENABLE),)),
    ("intr", "shadow", (("ist", 1),)),
    ("intr", "IF", (("if", 0),)),
    ("virq", "shadow", (("ist", 1),)),
    ("virq", "IF", (("if", 0),)),
    ("virq", "V_TPR", (("ctl-", V_IGN_TPR),)),
    ("virq", "V_GIF", (("ctl+", V_GIF_ENABLE),)),
]
HELD = [
    Case(
        f"{source} is held by {what}",
        "vmmcall",
        (("if", 1), "clgi", *PENDING[source], *how, "run", {"exit": "VMMCALL", "nmi": 0, "irq": 0}),
    )
    for source, what, how in HOLDING
]
HELD += [
    Case(
        f"{source} is held by GIF 0",
        "clgi\nvmmcall",
        (("if", 1), ("ist", 1), "clgi", *PENDING[source], "run", {"exit": "VMMCALL", "nmi": 0, "irq": 0}),
    )
    for source in ("nmi", "vnmi", "intr", "virq")
]
HELD += [
    Case(
        f"{what} is held by GIF 0",
        f"clgi\nmov dword [r15], {icr:#x}\nnop\nvmmcall",
        (("icpt", what), "run", {"exit": "VMMCALL", what: 1}),
    )
    for what, icr in (("smi", 0x4200), ("init", 0x4500))
]
HELD += [
    Case("neither shadow nor IF holds an SMI", "vmmcall", (("ist", 1), "clgi", *PENDING["smi"], "run",
    {"exit": "SMI"})),
    Case("virtual GIF does not hold a physical NMI", "vmmcall",
         (("ctl+", V_GIF_ENABLE), "clgi", *PENDING["nmi"], "run", {"exit": "NMI"})),
    Case("CLGI under virtual GIF holds a virtual interrupt, STGI lets it in",
         "clgi\nnop\nstgi\nopen: nop\nvmmcall",
         (("if", 1), ("ist", 1), *PENDING["virq"], ("ctl+", V_GIF_ENABLE | V_GIF), "run", {"exit": "VINTR",
         "at": "open"})),
    Case("the host's IF does not hold a physical interrupt without V_INTR_MASKING", "vmmcall",
         (("if", 1), "clgi", *PENDING["intr"], "run", {"exit": "INTR"})),
]  # fmt: skip

# --- single step, RF, shadows

TF_ON = "pushfq\nor dword [rsp], 0x100\npopfq\n"
SHADOWS: list[Case | Bare] = [
    Case("STI opens a shadow when it sets IF", "sti\nvmmcall", ("run", {"exit": "VMMCALL", "shadow": 1})),
    Case("not when IF was set", "sti\nvmmcall", (("if", 1), "run", {"exit": "VMMCALL", "shadow": 0})),
    Case("MOV SS opens one", "mov ss, r12d\nvmmcall", ("run", {"exit": "VMMCALL", "shadow": 1})),
    Case("MOV SS after MOV SS does not", "mov ss, r12d\nmov ss, r12d\nvmmcall", ("run", {"exit": "VMMCALL",
    "shadow": 0})),
    Case("MOV SS after STI does", "sti\nmov ss, r12d\nvmmcall", ("run", {"exit": "VMMCALL", "shadow": 1})),
    Case("a shadow ends with the next instruction", "sti\nnop\nvmmcall", ("run", {"exit": "VMMCALL", "shadow": 0})),
    Case("an intercepted instruction leaves it", "sti\nspot: hlt", (("run", "noskip"), {"exit": "HLT", "at": "spot",
    "shadow": 1})),
    Case("INTERRUPT_SHADOW is loaded", "vmmcall", (("ist", 1), "run", {"shadow": 1})),
    Case("a loaded one counts as STI's: MOV SS opens its own", "mov ss, r12d\nvmmcall", (("ist", 1), "run",
    {"shadow": 1})),
    Case("an exception that is delivered ends it", "sti\nud2", ("run", {"at": "h6+3", "shadow": 0}), STOP_IN),
    Case("the trap after POPF that sets TF comes one instruction later", TF_ON + "one: nop\ntwo: vmmcall",
         ("run", {"exit": "VMMCALL", "entered": [(1, "two")]})),
    Case("the trap right after STI comes at once", "start: sti\nnext: nop\nend: vmmcall",
         (("tf", 1), "run", {"entered": [(1, "next"), (1, "end")]})),
    Case("the trap right after MOV SS does not come", "mov ss, r12d\nnext: nop\nend: vmmcall",
         (("tf", 1), "run", {"entered": [(1, "end")]})),
    Case("IRETQ into TF: one instruction, then the trap", "start: nop\nspot: nop\nend: vmmcall",
         ("inj", "run", {"entered": [(2, "start"), (1, "spot")]}), {2: "or dword [rsp+0x10], 0x100\niretq",
          1: "and dword [rsp+0x10], 0xfffffeff\niretq"}),
    Case("DR6.BS is set by a trap", "nop\nvmmcall", (("set", "dr6", 0), ("tf", 1), "run", {"dr6": 1 << 14, "db": 1})),
    Case("RF is clear after an instruction", "nop\nvmmcall", (("set", "rflags", 0x10002), "run", {"rflags": 2})),
    Case("RF stays when the instruction exits", "vmmcall", (("set", "rflags", 0x10002), "run", {"rflags": 0x10002})),
    Case("IRETQ with a bad CS is #GP at the IRETQ", "start: vmmcall", ("inj", "run", {"at": "h13+3", "entered": [(2,
    "start"), (13, "spot")]}),
         {2: "mov qword [rsp+8], 0x1234\nspot: iretq", 13: "vmmcall"}),
    Case("with a bad SS too, with the selector", "vmmcall", ("inj", "run", {"at": "h13+3", f"mem {STACK - 96:#x}": 8}),
         {2: "mov qword [rsp+32], 8\nspot: iretq", 13: "vmmcall"}),
    Case("with a RIP that is not canonical too", "vmmcall", ("inj", "run", {"at": "h13+3", f"mem {STACK - 96:#x}": 0}),
         {2: "mov rax, 0x800000000000\nmov [rsp], rax\niretq", 13: "vmmcall"}),
    Case("with NT set too", "vmmcall", ("inj", "run", {"at": "h13+3", f"mem {STACK - 96:#x}": 0}),
         {2: "pushfq\nor dword [rsp], 0x4000\npopfq\niretq", 13: "vmmcall"}),
    *(Bare(f"VMRUN of no page is #GP: RAX = {rax:#x}", f"mov rax, {rax:#x}\nspot: vmrun\nhlt", (),
           {"entered": [(13, "spot")], "gif": 1}, {13: "hlt"}) for rax in (0x380008, 1 << 52)),
    Bare("a host that single-steps traps after #VMEXIT, at the instruction after VMRUN",
         "mov rax, 0x380000\nclgi\n" + TF_ON + "vmrun\nafter: nop\nhlt", (),
         {"entered": [(1, "after")], "gif": 0, "at": "h1+1"}, {1: "hlt"}),
]  # fmt: skip

# --- waking up

WAKE: list[Case | Bare] = [
    Bare(
        f"{what} wakes HLT",
        "sti\nhlt\nawake: inc r8\nhlt",
        (Stimulus(9, what),),
        {"r8": 1, "entered": [(vector, "awake")]},
    )
    for what, vector in (("nmi", 2), ("intr", 0x40))
]
WAKE += [
    Bare("an interrupt that is held does not wake HLT", "hlt\ninc r8", (Stimulus(9, "intr"),), {"r8": 0,
    "irr": 1 << 0x40}),
    Bare("an NMI that is masked does not", "hlt\ninc r8", (Stimulus(9),), {"r8": 0, "nmi_latch": 1},
    setup={"nmi_mask": 1}),
    Bare("an NMI while GIF is 0 does not", "clgi\nhlt\ninc r8", (Stimulus(9),), {"r8": 0, "nmi_latch": 1}),
    Bare("an INIT stops it", "hlt\ninc r8", (Stimulus(9, "init"),), {"outcome": "the processor stopped: init"}),
    Bare("HLT waits", "hlt\ninc r8", (), {"r8": 0, "halted": 1}),
    Bare("STI; HLT with an interrupt pending does not miss it", SELF_IRQ + "sti\nhlt\nawake: nop\nhlt", (), {
        "entered": [(0x40, "awake")], "halted": 1}),
    Case("a virtual interrupt wakes a guest", "hlt\nawake: vmmcall",
         (("noicpt", "hlt"), ("if", 1), ("ist", 1), ("set", "int_vector", 0x40), ("ctl+", V_IRQ | V_IGN_TPR), "run",
          {"exit": "VMMCALL", "entered": [(0x40, "awake")]})),
    Case("a virtual NMI wakes a guest", "hlt\nawake: vmmcall",
         (("noicpt", "hlt"), ("icpt", "nmi"), ("ist", 1), VNMI, "run", {"exit": "VMMCALL", "entered": [(2, "awake")]})),
    Case("an interrupt that is intercepted ends HLT with an exit, RIP after the HLT", "hlt\nawake: vmmcall",
         (("noicpt", "hlt"), ("icpt", "nmi"), "run", ("world", "nmi"), {"exit": "NMI", "at": "awake"})),
    Case("a second interrupt is taken before the first: the higher vector",
    "mov dword [r15], 0x4041\nmov dword [r15], 0x4040\n"
         "sti\nnop\nthere: vmmcall", ("run", {"entered": [(0x41, "there"), (0x40, "there")], "irr": 0})),
]  # fmt: skip

CASES: tuple[Case | Bare | Check, ...] = (*PRIORITIES, *HELD, *SHADOWS, *WAKE)


@table(CASES)
def test_boundary(case: Case | Bare | Check) -> None:
    judge(case)
