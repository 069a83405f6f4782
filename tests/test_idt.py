"""Through the IDT: the gate, the frame, faults on the way, exits on the way."""

from __future__ import annotations

import itertools

import pytest

from tests.cases import (
    ERROR_AT_TOP,
    SELF_IRQ,
    SELF_NMI,
    STOP_IN,
    Bare,
    Case,
    Check,
    gate_bytes,
    judge,
    table,
)  # fmt: skip
from vnmi_lab.guest import IDT, MAIN, STACK, TSS
from vnmi_lab.hw.delivery import (
    CONTRIBUTORY,
    Gate,
    doubles,
    event_word,
    gate_fault,
)  # fmt: skip
from vnmi_lab.rules import Switches

NO_STACK = ("set", "rsp", 1 << 33)  # a push there is #PF
NPF_READ, NPF_WRITE, NPF_FETCH = 0x100000004, 0x100000006, 0x100000014
STACK_PAGE = STACK - 0x1000
ERROR_NP_40 = 0x40 * 8 + 2


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


FRAME = {f"mem {STACK - 40 + 8 * i:#x}": v for i, v in enumerate((MAIN, 8, 2, STACK, 0x10))}
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
    Case("MOV SS with the data segment and another RPL too", "mov eax, 0x13\nmov ss, eax",
         ("run", {"at": "h13+3", ERROR_AT_TOP: 0x10}), STOP_IN),
    Case("a handler runs in the gate's code segment; the frame holds the other one", "vmmcall",
         (("set", "cs_selector", 0x18), "inj", "run", {"at": "h2+3", "cs_selector": 8, f"mem {STACK - 32:#x}": 0x18}),
         STOP_IN),
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


ONLY_8 = tuple(("gate", vector, 0) for vector in range(32) if vector != 8)
DOUBLE_FAULTS: list[Case | Bare] = [
    Case("an NMI whose gate is absent is #NP", "start: vmmcall",
         (("gate", 2, 0), "inj", "run", {"at": "h11+3", "entered": [(11, "start")], ERROR_AT_TOP: 2 * 8 + 3}),
         STOP_IN),
    Case("and when #NP is absent too it is #DF, with error code 0", "start: vmmcall",
         (("gate", 2, 0), ("gate", 11, 0), "inj", "run", {"at": "h8+3", "entered": [(8, "start")],
         ERROR_AT_TOP: 0}),
         STOP_IN),
    Case("a fault of #DF's own is shutdown, which exits", "start: ud2",
         (*ONLY_8, ("gate", 8, 0), "run", {"exit": "SHUTDOWN", "at": "start", "info": None})),
    Case("shutdown that is not intercepted stops the processor", "ud2",
         (*ONLY_8, ("gate", 8, 0), ("noicpt", "shutdown"), "run", {"outcome": "the processor stopped: shutdown"})),
    Bare("on bare metal too", "lidt [empty]\nud2\nempty: dq 0\ndq 0", (),
    {"outcome": "the processor stopped: shutdown"}),
    Case("#PF then #PF is #DF, and the second address stays in CR2", "vmmcall",
         (NO_STACK, ("icpt_exc", 8), ("inj", 0x80000B0E), "run", {"exit": "EXC_DF", "info": 0x80000B0E,
         "cr2": (1 << 33) - 8})),
    Case("#UD then #NP is #NP", "start: ud2", (("gate", 6, 0), "run", {"at": "h11+3", "entered": [(11, "start")]}),
    STOP_IN),
    Case("#GP then #NP is #DF", "start: mov eax, 8\nmov ss, eax",
         (("gate", 13, 0), "run", {"at": "h8+3", ERROR_AT_TOP: 0}), STOP_IN),
    Case("#PF then #NP is #DF", "mov rax, [0xffffffff80000000]", (("gate", 14, 0), "run", {"at": "h8+3"}), STOP_IN),
    Case("an interrupt then #GP then #NP is #DF", "vmmcall",
         (*gate_bytes(0x40, type=0), ("gate", 13, 0), ("inj", 0x80000040), "run", {"at": "h8+3"}), STOP_IN),
]  # fmt: skip

# --- exits on the way

EXITS: list[Case | Bare] = [
    Case("an intercepted exception exits before anything is pushed", "start: ud2",
         (("icpt_exc", 6), "run", {"exit": "EXC_UD", "at": "start", "rsp": 0, "ud": 0, "info": None, "next_rip": 0})),
    Case("its error code is in EXITINFO1, the address of a page fault in EXITINFO2 and not in CR2",
         "start: mov rax, 0x100000000\nspot: mov [rax], rax",
         (("icpt_exc", 14), "run", {"exit": "EXC_PF", "at": "spot", "exit_info_1": 2, "exit_info_2": 1 << 32,
         "cr2": 0})),
    Case("a fault during delivery: EXITINTINFO is the event, EXITCODE the fault", "start: vmmcall",
         (("gate", 2, 0), ("icpt_exc", 11), "inj", "run",
          {"exit": "EXC_NP", "info": 0x80000200, "exit_info_1": 2 * 8 + 3, "at": "start"})),
    Case("of an NMI that the processor took itself it has vector 2", SELF_NMI + "sent: vmmcall",
         (("gate", 2, 0), ("icpt_exc", 11), "run", {"exit": "EXC_NP", "info": 0x80000202, "at": "sent",
         "nmi_mask": 1})),
    Case("of an interrupt it has type 0", SELF_IRQ + "sti\nnop\nspot: vmmcall",
         (("gate", 0x40, 0), ("icpt_exc", 11), "run", {"exit": "EXC_NP", "info": 0x80000040, "at": "spot"})),
    Case("of INT n it has type 4", "start: int 0x40",
         (("gate", 0x40, 0), ("icpt_exc", 11), "run", {"exit": "EXC_NP", "info": 0x80000440, "at": "start"})),
    Case("of an exception it has type 3 and its error code", "mov eax, 8\nspot: mov ss, eax",
         (("gate", 13, 0), ("icpt_exc", 11), "run", {"exit": "EXC_NP", "info": 0x8_80000B0D, "at": "spot"})),
    Case("#DF that is intercepted: EXITINTINFO is the event before it", "start: vmmcall",
         (("gate", 2, 0), ("gate", 11, 0), ("icpt_exc", 8), "inj", "run",
          {"exit": "EXC_DF", "info": (2 * 8 + 3) << 32 | 0x80000B0B, "exit_info_1": 0, "at": "start"})),
    Case("an injected exception is not intercepted", "vmmcall", (("icpt_exc", 0), ("inj", 0x80000300), "run",
    {"de": 1})),
    Case("an exception of the guest's own in its handler is", "vmmcall",
         (("icpt_exc", 6), ("inj", 0x80000300), "run", {"exit": "EXC_UD", "at": "h0", "rsp": 40}), {0: "ud2"}),
    Case("SHUTDOWN exits with the shadow and RSP as they were", "nop", (*ONLY_8, ("gate", 8, 0), ("inj",
    0x80000306), "run",
         {"exit": "SHUTDOWN", "rsp": 0, "inj": 0})),
    Case("INT n in a shadow whose delivery exits leaves the shadow", "start: int 0x40",
         (("ist", 1), ("gate", 0x40, 0), ("icpt_exc", 11), "run", {"exit": "EXC_NP", "shadow": 1}), derived=True),
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
         ("clgi", "hostsmi", ("icpt", "smi"), "run", {"exit": "SMI", "smi": 1, "smis": 0}, "stgi", {"smi": 0,
         "smis": 1})),
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

CASES: tuple[Case | Bare | Check, ...] = (*GATES, *DOUBLE_FAULTS, *EXITS)


@table(CASES)
def test_idt(case: Case | Bare | Check) -> None:
    judge(case)
