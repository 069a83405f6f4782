"""Delivery: which event wins, what holds it, the gate, the frame, faults on the way, exits on the way."""

from __future__ import annotations

import itertools

import pytest

from tests.cases import (
    SELF_IRQ,
    SELF_NMI,
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
from vnmi_lab.guest import COUNTERS, IDT, MAIN, STACK, TSS, Guest
from vnmi_lab.hw import svm
from vnmi_lab.hw.delivery import (
    ARRIVALS,
    BY_NAME,
    CONTRIBUTORY,
    GATE_CHECKS,
    HOLDS,
    ON_IRET,
    SOURCES,
    Gate,
    doubles,
    event_word,
    gate_fault,
    held_by,
)  # fmt: skip
from vnmi_lab.hw.vmcb import Intercept3, Intercept4
from vnmi_lab.machine import BareMetal, Stimulus
from vnmi_lab.rules import RULES, Switches

NO_STACK = ("set", "rsp", 1 << 33)  # a push there is #PF
NPF_READ, NPF_WRITE, NPF_FETCH = 0x100000004, 0x100000006, 0x100000014
STACK_PAGE = STACK - 0x1000
ERROR_NP_40 = 0x40 * 8 + 2
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
        (("if", 1), "clgi", *PENDING[low], *PENDING[high], "run", {FIRST[high][0]: FIRST[high][1]})
        + (
            ({"exit": "VMMCALL", "at": f"h{0 if high == 'injection' else 2}+10"},)
            if high in ("injection", "vnmi")
            else ()
        ),
        {0: "inc qword [rbx]\nnop\nnop\nnop\nvmmcall", 2: "inc qword [rbx+0x10]\nnop\nnop\nvmmcall"},
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
        (("tf", 1), ("icpt", "smi"), "run", {"exit": "SMI", "at": "after", "db": 0}),
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

# --- the gate


def gates(switches: Switches) -> str | None:
    """Compare every gate with APM 8.7: type, DPL for software, present, code segment, in this order."""
    for kind, dpl, cpl, soft, present, cs in itertools.product(
        range(16), range(4), range(4), (0, 1), (0, 1), (8, 16, 0)
    ):
        names_gate = 33 * 8 + 2 + (not soft)
        wanted: tuple[int, int] | None = None
        if kind not in (0xE, 0xF) or (soft and dpl < cpl):
            wanted = (13, names_gate)
        elif not present:
            wanted = (11, names_gate)
        elif cs != 8:
            wanted = (13, cs + (not soft))
        gate = Gate(0x310000, cs, 0, kind, dpl, present)
        got = gate_fault(gate, 33, soft=bool(soft), cpl=cpl, off=switches.off)
        if got != wanted:
            return f"{gate} at CPL {cpl}, soft {soft}: {got}, not {wanted}"
    return None


@pytest.mark.parametrize("gate", [Gate(0x310200, 8, 0, 0xE, 0, 1), Gate(0xFFFF800012345678, 0x1238, 7, 0xF, 3, 0)])
def test_a_gate_is_sixteen_bytes_and_back(gate: Gate) -> None:
    raw = gate.encode()
    assert len(raw) == 16
    assert Gate.decode(int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")) == gate


def gate_bytes(vector: int, **changes: int) -> tuple[Line, ...]:
    """Return the lines that write a changed gate of ``vector``."""
    fields = {
        "offset": 0x310000 + vector * 0x100,
        "selector": 8,
        "ist": 0,
        "type": 0xE,
        "dpl": 0,
        "present": 1,
        **changes,
    }
    raw = Gate(**fields).encode()
    return tuple(("poke", IDT + vector * 16 + 8 * i, int.from_bytes(raw[8 * i : 8 * i + 8], "little")) for i in (0, 1))


RESET_RSP = ("set", "rsp", STACK)
ERROR_AT_TOP = f"mem {STACK - 48:#x}"
FRAME = {f"mem {STACK - 40 + 8 * i:#x}": v for i, v in enumerate((MAIN, 8, 2, STACK, 0x10))}
STOP_IN = dict.fromkeys((0, 1, 2, 3, 6, 8, 11, 12, 13, 14, 17, 64), "vmmcall\niretq")
GATES: list[Case | Bare | Check] = [
    Check("every gate against the sentences of the manual", gates),
    Case("the limit of the IDT", "vmmcall",
         (("w32", "idt_limit", 0x40 * 16 + 14), ("inj", 0x80000040), "run", {"gp": 0, "at": "h13+3",
         ERROR_AT_TOP: ERROR_NP_40 | 1}),
         STOP_IN),
    Case("the last byte inside the limit is enough", "vmmcall",
         (("w32", "idt_limit", 0x40 * 16 + 15), ("inj", 0x80000040), "run", {"at": "h64+3"}), STOP_IN),
    Case("a gate of another type", "vmmcall",
         (*gate_bytes(0x40, type=0xC), ("inj", 0x80000040), "run", {"at": "h13+3", ERROR_AT_TOP: ERROR_NP_40 | 1}),
         STOP_IN),
    Case("a gate that is not present", "vmmcall",
         (*gate_bytes(0x40, present=0), ("inj", 0x80000040), "run", {"at": "h11+3", ERROR_AT_TOP: ERROR_NP_40 | 1}),
         STOP_IN),
    Case("INT n of a gate that is not present: EXT is 0", "int 0x40",
         (*gate_bytes(0x40, present=0), "run", {"at": "h11+3", ERROR_AT_TOP: ERROR_NP_40}), STOP_IN),
    Case("a gate into no code segment", "vmmcall",
         (*gate_bytes(0x40, selector=0x10), ("inj", 0x80000040), "run", {"at": "h13+3", ERROR_AT_TOP: 0x11}), STOP_IN),
    Case("an interrupt gate clears IF", "vmmcall",
         (("if", 1), ("inj", 0x80000040), "run", {"at": "h64+3", "IF": 0}), STOP_IN),
    Case("a trap gate leaves IF", "vmmcall",
         (*gate_bytes(0x40, type=0xF), ("if", 1), ("inj", 0x80000040), "run", {"at": "h64+3", "IF": 1}), STOP_IN),
    Case("the frame: SS, RSP, RFLAGS, CS, RIP", "vmmcall", ("inj", "run", {"rsp": 40, "at": "h2+3", **FRAME}), STOP_IN),
    Case("the frame is aligned down to 16", "vmmcall",
         (("set", "rsp", STACK - 9), "inj", "run", {"rsp": 56, f"mem {STACK - 56 + 24:#x}": STACK - 9}), STOP_IN),
    Case("TF, RF and NT are clear in the handler and saved in the frame", "vmmcall",
         (("set", "rflags", 0x14302), "inj", "run", {"rflags": 2, f"mem {STACK - 24:#x}": 0x14302}), STOP_IN),
    Case("the frame of a fault has RF", "ud2", ("run", {"at": "h6+3", f"mem {STACK - 24:#x}": 0x10002}), STOP_IN),
    Case("the frame of INT n has not", "int 0x40", ("run", {"at": "h64+3", f"mem {STACK - 24:#x}": 2}), STOP_IN),
    Case("CR2 holds the address of a page fault", "mov rax, [0xffffffff80000000]",
         ("run", {"at": "h14+3", "cr2": 0xFFFFFFFF80000000, "rsp": 48, ERROR_AT_TOP: 0}), STOP_IN),
    Case("the error code of a page fault says that it was a write", "mov rax, 0x100000000\nmov [rax], rax",
         ("run", {"at": "h14+3", "cr2": 1 << 32, ERROR_AT_TOP: 2}), STOP_IN),
    Case("an address that is not canonical is #GP", "mov rax, 0x800000000000\nmov rax, [rax]",
         ("run", {"at": "h13+3", ERROR_AT_TOP: 0, "cr2": 0}), STOP_IN),
    Case("MOV SS of no data segment is #GP with the selector", "mov eax, 8\nmov ss, eax",
         ("run", {"at": "h13+3", ERROR_AT_TOP: 8}), STOP_IN),
    Case("an injected exception with EV pushes its error code", "vmmcall",
         (("inj", 0x1234_80000B0D), "run", {"at": "h13+3", "rsp": 48, ERROR_AT_TOP: 0x1234}), STOP_IN),
    Case("an injected exception without EV pushes none", "vmmcall",
         (("inj", 0x8000030D), "run", {"at": "h13+3", "rsp": 40}), STOP_IN),
    Case("an injected interrupt has no error code, whatever its vector", "vmmcall",
         (("inj", 0x8000000D), "run", {"at": "h13+3", "rsp": 40}), STOP_IN),
    Case("RIP, RSP and RFLAGS come back with IRETQ", "nop\nthere: vmmcall",
         (("set", "rflags", 0x202), "inj", "run", {"at": "there+3", "rsp": 0, "rflags": 0x202, "nmi": 1})),
    Bare("a nested NMI on one interrupt stack overwrites the first frame", SELF_NMI + "sent: nop\nhlt", (),
         {"nmi": 2, "entered": [(2, "sent"), (3, "inside"), (2, "inside")],
         "outcome": "still running after 5,000 steps"},
         {2: "inc qword [rbx+0x10]\ncmp qword [rbx+0x10], 1\njne done\n" + SELF_NMI + "int3\ninside: nop\ndone: iretq"},
         ist=((2, 1, 0x34C000),)),
    Bare("with IST a handler has the stack of the TSS", SELF_NMI + "sent: hlt", (), {"rsp": 0x350000 - 0x34C000 + 40,
    "at": "h2+1"},
         {2: "hlt"}, ist=((2, 1, 0x34C000),)),
]  # fmt: skip

# --- faults while an event is delivered


def test_every_pair_of_exceptions() -> None:
    """APM 8.2.9."""
    contributory = {0, 10, 11, 12, 13}
    assert contributory == CONTRIBUTORY
    for first, second in itertools.product(range(32), range(32)):
        wanted = (second in contributory and first in contributory | {14}) or first == second == 14
        assert doubles(event_word(3, first), event_word(3, second)) == wanted, (first, second)
        assert not doubles(event_word(2, 2), event_word(3, second))
        assert not doubles(event_word(0, first), event_word(3, second))
        assert not doubles(event_word(4, first), event_word(3, second))


ONLY_8 = tuple(("gate", vector, False) for vector in range(32) if vector != 8)
DOUBLE_FAULTS: list[Case | Bare] = [
    Case("an NMI whose gate is absent is #NP", "start: vmmcall",
         (("gate", 2, False), "inj", "run", {"at": "h11+3", "entered": [(11, "start")], ERROR_AT_TOP: 2 * 8 + 3}),
         STOP_IN),
    Case("and when #NP is absent too it is #DF, with error code 0", "start: vmmcall",
         (("gate", 2, False), ("gate", 11, False), "inj", "run", {"at": "h8+3", "entered": [(8, "start")],
         ERROR_AT_TOP: 0}),
         STOP_IN),
    Case("a fault of #DF's own is shutdown, which exits", "start: ud2",
         (*ONLY_8, ("gate", 8, False), "run", {"exit": "SHUTDOWN", "at": "start", "info": None})),
    Case("shutdown that is not intercepted stops the processor", "ud2",
         (*ONLY_8, ("gate", 8, False), ("noicpt", "shutdown"), "run", {"outcome": "the processor stopped: shutdown"})),
    Bare("on bare metal too", "lidt [empty]\nud2\nempty: dq 0\ndq 0", (),
    {"outcome": "the processor stopped: shutdown"}),
    Case("#PF then #PF is #DF, and the second address stays in CR2", "vmmcall",
         (NO_STACK, ("icpt_exc", 8), ("inj", 0x80000B0E), "run", {"exit": "EXC_DF", "info": 0x80000B0E,
         "cr2": (1 << 33) - 8})),
    Case("#UD then #NP is #NP", "start: ud2", (("gate", 6, False), "run", {"at": "h11+3", "entered": [(11, "start")]}),
    STOP_IN),
    Case("#GP then #NP is #DF", "start: mov eax, 8\nmov ss, eax",
         (("gate", 13, False), "run", {"at": "h8+3", ERROR_AT_TOP: 0}), STOP_IN),
    Case("#PF then #NP is #DF", "mov rax, [0xffffffff80000000]", (("gate", 14, False), "run", {"at": "h8+3"}), STOP_IN),
    Case("an interrupt then #GP then #NP is #DF", "vmmcall",
         (*gate_bytes(0x40, type=0), ("gate", 13, False), ("inj", 0x80000040), "run", {"at": "h8+3"}), STOP_IN),
]  # fmt: skip

# --- exits on the way

TF_ON = "pushfq\nor dword [rsp], 0x100\npopfq\n"
EXITS: list[Case | Bare] = [
    Case("an intercepted exception exits before anything is pushed", "start: ud2",
         (("icpt_exc", 6), "run", {"exit": "EXC_UD", "at": "start", "rsp": 0, "ud": 0, "info": None, "next_rip": 0})),
    Case("its error code is in EXITINFO1, the address of a page fault in EXITINFO2 and not in CR2",
         "start: mov rax, 0x100000000\nspot: mov [rax], rax",
         (("icpt_exc", 14), "run", {"exit": "EXC_PF", "at": "spot", "exit_info_1": 2, "exit_info_2": 1 << 32,
         "cr2": 0})),
    Case("a fault during delivery: EXITINTINFO is the event, EXITCODE the fault", "start: vmmcall",
         (("gate", 2, False), ("icpt_exc", 11), "inj", "run",
          {"exit": "EXC_NP", "info": 0x80000200, "exit_info_1": 2 * 8 + 3, "at": "start"})),
    Case("of an NMI that the processor took itself it has vector 2", SELF_NMI + "sent: vmmcall",
         (("gate", 2, False), ("icpt_exc", 11), "run", {"exit": "EXC_NP", "info": 0x80000202, "at": "sent",
         "nmi_mask": 1})),
    Case("of an interrupt it has type 0", SELF_IRQ + "sti\nnop\nspot: vmmcall",
         (("gate", 0x40, False), ("icpt_exc", 11), "run", {"exit": "EXC_NP", "info": 0x80000040, "at": "spot"})),
    Case("of INT n it has type 4", "start: int 0x40",
         (("gate", 0x40, False), ("icpt_exc", 11), "run", {"exit": "EXC_NP", "info": 0x80000440, "at": "start"})),
    Case("of an exception it has type 3 and its error code", "mov eax, 8\nspot: mov ss, eax",
         (("gate", 13, False), ("icpt_exc", 11), "run", {"exit": "EXC_NP", "info": 0x8_80000B0D, "at": "spot"})),
    Case("#DF that is intercepted: EXITINTINFO is the event before it", "start: vmmcall",
         (("gate", 2, False), ("gate", 11, False), ("icpt_exc", 8), "inj", "run",
          {"exit": "EXC_DF", "info": (2 * 8 + 3) << 32 | 0x80000B0B, "exit_info_1": 0, "at": "start"})),
    Case("an injected exception is not intercepted", "vmmcall", (("icpt_exc", 0), ("inj", 0x80000300), "run",
    {"de": 1})),
    Case("an exception of the guest's own in its handler is", "vmmcall",
         (("icpt_exc", 6), ("inj", 0x80000300), "run", {"exit": "EXC_UD", "at": "h0", "rsp": 40}), {0: "ud2"}),
    Case("SHUTDOWN exits with the shadow and RSP as they were", "nop", (*ONLY_8, ("gate", 8, False), ("inj",
    0x80000306), "run",
         {"exit": "SHUTDOWN", "rsp": 0, "inj": 0})),
    Case("INT n in a shadow whose delivery exits leaves the shadow", "start: int 0x40",
         (("ist", 1), ("gate", 0x40, False), ("icpt_exc", 11), "run", {"exit": "EXC_NP", "shadow": 1}), derived=True),
    Case("and one that is delivered ends it", "int 0x40", (("ist", 1), "run", {"at": "h64+3", "shadow": 0}), STOP_IN),
    Case("a fault in a shadow that exits leaves the shadow", "ud2", (("ist", 1), ("icpt_exc", 6), "run",
    {"shadow": 1})),
    Case("an NPF in a shadow leaves the shadow", "mov rax, [0x360000]", (("ist", 1), ("absent", 0x360000), "run",
         {"exit": "NPF", "shadow": 1})),
    Case("NPF on a fetch", "jmp there\ntimes 4094 nop\nthere: vmmcall",
         (("absent", MAIN + 0x1000), "run",
          {"exit": "NPF", "exit_info_1": NPF_FETCH, "exit_info_2": 0x301003, "at": "there", "info": None,
          "next_rip": 0})),
    Case("NPF on the IDT", "start: ud2",
         (("absent", IDT), "run", {"exit": "NPF", "exit_info_1": NPF_READ, "exit_info_2": IDT + 0x60,
         "info": 0x80000306})),
    Case("NPF on the stack", "start: ud2",
         (("absent", STACK_PAGE), "run",
          {"exit": "NPF", "exit_info_1": NPF_WRITE, "exit_info_2": STACK - 8, "info": 0x80000306, "rsp": 0,
          "at": "start"})),
    Case("NPF on the TSS", "start: ud2",
         (*gate_bytes(6, ist=1), ("absent", TSS), "run",
          {"exit": "NPF", "exit_info_1": NPF_READ, "exit_info_2": TSS + 0x24, "info": 0x80000306})),
    Case("NPF on data, read and write", "mov rax, [0x360008]\nspot: mov [0x360010], rax\nvmmcall",
         (("absent", 0x360000), "run", {"exit": "NPF", "exit_info_1": NPF_READ, "exit_info_2": 0x360008, "info": None},
          ("skip", 8), "run", {"exit": "NPF", "exit_info_1": NPF_WRITE, "exit_info_2": 0x360010, "at": "spot"})),
    Case("NPF when the second half of an access is absent", "mov rax, [0x35fffc]",
         (("absent", 0x360000), "run", {"exit": "NPF", "exit_info_2": 0x360003})),
    Case("without nested paging an absent page does not matter", "mov rax, [0x360000]\nvmmcall",
         (("absent", 0x360000), ("set", "nested_ctl", 0), "run", {"exit": "VMMCALL"})),
    Case("an intercepted SMI stays pending, and the host takes it at STGI", "nop\nvmmcall",
         ("clgi", *PENDING["smi"], "run", {"exit": "SMI", "smi": 1, "smis": 0}, "stgi", {"smi": 0, "smis": 1})),
    Case("an SMI that is not intercepted comes and goes", "mov dword [r15], 0x4200\nvmmcall", ("run",
    {"exit": "VMMCALL", "smi": 0})),
    Case("an INIT that is not intercepted stops the processor", "mov dword [r15], 0x4500\nvmmcall",
         ("run", {"outcome": "the processor stopped: init"})),
    Case("VMMCALL that is not intercepted is #UD", "vmmcall", (("noicpt", "vmmcall"), "run", {"at": "h6+1"}),
    {6: "hlt"}),
    Bare("on bare metal it is #UD", "spot: vmmcall\nhlt", (), {"entered": [(6, "spot")]}, {6: "hlt"}),
    Bare("STGI, CLGI and VMRUN are #UD without SVME", "clgi\nhlt", (), {"at": "h6+1", "gif": 1}, {6: "hlt"},
    setup={"svme": 0}),
]  # fmt: skip

# --- single step, RF, shadows

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

# --- the instruction intercepts

OPERATED = {  # name of the intercept: an instruction that reaches it, its length
    "idtr_write": ("lidt [rbx+0x100]", 7), "rdtsc": ("rdtsc", 2), "pushf": ("pushfq", 1), "popf": ("popfq", 1),
    "cpuid": ("cpuid", 2), "iret": ("iretq", 2), "swint": ("int 0x40", 2), "pause": ("pause", 2), "hlt": ("hlt", 1),
    "vmrun": ("vmrun", 3), "vmmcall": ("vmmcall", 3), "stgi": ("stgi", 3), "clgi": ("clgi", 3),
}  # fmt: skip
EVENTS = {"intr", "nmi", "smi", "init", "vintr", "shutdown", "ioio_prot"}
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

DELIVERY = (
    *PRIORITIES, *HELD, *GATES, *DOUBLE_FAULTS, *EXITS, *SHADOWS, *WAKE, *INSTRUCTIONS, *SECOND_TIME, *IOIO,
    *INVALID, *VALID, *IN_DETAIL,
)  # fmt: skip
CASES = DELIVERY


@table(DELIVERY)
def test_delivery(case: Case | Bare | Check) -> None:
    judge(case)
