"""Runs written by hand, for the tests of what draws them: no processor in here."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from vnmi_lab.guest import CodeLine as Line
from vnmi_lab.hw.events import Changed
from vnmi_lab.rules import Rule
from vnmi_lab.trace import Step

RULES = MappingProxyType(
    {
        "R-NMI-LATCH": Rule(
            "R-NMI-LATCH", "An NMI that cannot be taken is remembered, one deep.", "APM vol. 2, 8.1.3", "APM"
        ),
        "R-NMI-TAKE": Rule(
            "R-NMI-TAKE", "Taking an NMI clears the latch and masks further NMIs.", "APM vol. 2, 8.1.3", "APM"
        ),
        "R-IRET-UNMASK": Rule("R-IRET-UNMASK", "An IRET that completes unmasks NMIs.", "APM vol. 2, 8.1.4", "APM"),
        "R-VMRUN-GIF": Rule("R-VMRUN-GIF", "VMRUN sets GIF.", "APM vol. 2, 15.5.1", "APM"),
        "R-VMEXIT-GIF": Rule("R-VMEXIT-GIF", "#VMEXIT clears GIF.", "APM vol. 2, 15.6", "APM"),
        "R-INJECT": Rule(
            "R-INJECT", "An injected NMI does not block delivery of further NMIs.", "APM vol. 2, 15.20", "APM"
        ),
        "R-EVENTINJ-CLEAR": Rule(
            "R-EVENTINJ-CLEAR",
            "EVENTINJ.V reads back 0 after a successful VMRUN.",
            "kvm-unit-tests exc_inject",
            "kernel",
        ),
        "R-RIP": Rule("R-RIP", "An instruction that retires moves RIP.", "model", "model"),
    }
)

CODE = (
    Line(0x1000, b"\x48\xc7\xc1\x05\x00\x00\x00", "mov rcx, 5", "main", "main"),
    Line(0x1007, b"\x90", "nop", "again", "main"),
    Line(0x1008, b"\x48\xff\xc9", "dec rcx", None, "main"),
    Line(0x100B, b"\x75\xfa", "jne 0x1007", None, "main"),
    Line(0x100D, b"\xf4", "hlt", None, "main"),
    Line(0x2000, b"\x50", "push rax", "nmi", "h2"),
    Line(0x2001, b"\x48\xff\xc3", "inc rbx", None, "h2"),
    Line(0x2004, b"\x58", "pop rax", None, "h2"),
    Line(0x2005, b"\x48\xcf", "iretq", None, "h2"),
)
AFTER = {0x1000: 0x1007, 0x1007: 0x1008, 0x1008: 0x100B, 0x2000: 0x2001, 0x2001: 0x2004, 0x2004: 0x2005}
TEXT = {line.address: line.text for line in CODE}
FRAME = ("RIP", "CS", "RFLAGS", "RSP", "SS")


@dataclass
class Run:
    """A trace in the making: each method adds one step."""

    title: str
    world: str = "bare"
    code: tuple[Line, ...] = CODE
    rules: MappingProxyType[str, Rule] = field(default_factory=lambda: RULES)
    steps: list[Step] = field(default_factory=list)
    memory: dict[int, tuple[int, str | None]] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = ("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
        flags = {
            "IF": 0,
            "TF": 0,
            "gif": 1,
            "shadow": 0,
            "nmi_mask": 0,
            "nmi_latch": 0,
            "handler_depth": 0,
            "halted": 0,
        }
        self.state = {"rip": 0x1000, "rsp": 0x8000, "rflags": 2, **flags, "guest_mode": 0, "host_nmi": 0}
        self.state |= dict.fromkeys(names, 0)
        if self.world != "bare":
            self.state |= {
                "gif": 0,
                "int_ctl": 0,
                "v_nmi_enable": 0,
                "v_nmi_pending": 0,
                "v_nmi_blocking": 0,
                "v_irq": 0,
            }
            self.state |= {"event_inj": 0, "exit_code": 0, "exit_int_info": 0, "int_state": 0}
            self.state |= {"live_v_nmi_pending": 0, "live_v_nmi_blocking": 0}

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Step:
        return self.steps[index]

    def step(self, kind: str, text: str, sentence: str, /, **changes: tuple[str, int]) -> Run:
        made = tuple(Changed(rule, key, self.state[key], new) for key, (rule, new) in changes.items())
        rip = self.state["rip"]
        self.state = self.state | {change.field: change.new for change in made}
        top = self.state["rsp"]
        stack = tuple((a, *self.memory.get(a, (0, None))) for a in range(top, min(top + 64, 0x8000), 8))
        self.steps.append(Step(len(self.steps), kind, self.world, rip, text, sentence, (), made, self.state, stack))
        return self

    def run(self, count: int = 1) -> Run:
        for _ in range(count):
            self._one()
        return self

    def _one(self) -> None:
        rip = self.state["rip"]
        text = TEXT[rip]
        more: dict[str, tuple[str, int]] = {}
        after = AFTER.get(rip, rip)
        if text == "mov rcx, 5":
            more["rcx"] = ("R-RIP", 5)
        elif text == "dec rcx":
            more["rcx"] = ("R-RIP", self.state["rcx"] - 1)
        elif text == "inc rbx":
            more["rbx"] = ("R-RIP", self.state["rbx"] + 1)
        elif text == "push rax":
            more["rsp"] = ("R-RIP", self.state["rsp"] - 8)
            self.memory[self.state["rsp"] - 8] = (self.state["rax"], None)
        elif text == "pop rax":
            more["rsp"] = ("R-RIP", self.state["rsp"] + 8)
        elif text.startswith("jne"):
            after = 0x1007 if self.state["rcx"] else 0x100D
        self.step("exec", text, f"{text} retires at {rip:#x}.", rip=("R-RIP", after), **more)

    def arrive(self) -> Run:
        sentence = "An NMI arrives from outside; the processor remembers it in its latch."
        return self.step("stimulus", "NMI arrives", sentence, nmi_latch=("R-NMI-LATCH", 1))

    def take(self, *, injected: bool = False) -> Run:
        top = self.state["rsp"] - 40
        values = (self.state["rip"], 8, self.state["rflags"], self.state["rsp"], 16)
        self.memory |= {top + 8 * n: (value, FRAME[n]) for n, value in enumerate(values)}
        rule = "R-INJECT" if injected else "R-NMI-TAKE"
        more = {"event_inj": ("R-EVENTINJ-CLEAR", 0)} if injected else {"nmi_latch": (rule, 0), "nmi_mask": (rule, 1)}
        text = "injected NMI taken" if injected else "NMI taken"
        depth = self.state["handler_depth"] + 1
        sentence = f"{text[0].upper()}{text[1:]}: the processor pushes a frame and enters the handler at 0x2000."
        return self.step(
            "deliver", text, sentence, rip=(rule, 0x2000), rsp=(rule, top), handler_depth=(rule, depth), **more
        )

    def iret(self) -> Run:
        rule = "R-IRET-UNMASK"
        frame = [self.memory[self.state["rsp"] + 8 * n][0] for n in range(5)]
        more = {"nmi_mask": (rule, 0)} if self.state["nmi_mask"] else {}
        depth = ("R-RIP", self.state["handler_depth"] - 1)
        sentence = "iretq pops the frame and returns" + ("; NMIs are no longer masked." if more else ".")
        return self.step(
            "exec", "iretq", sentence, rip=("R-RIP", frame[0]), rsp=("R-RIP", frame[3]), handler_depth=depth, **more
        )

    def write(self, name: str, key: str, value: int) -> Run:
        return self.step(
            "host", f"host: {name} = {value:X}h", f"The host writes {value:X}h to {name}.", **{key: ("R-RIP", value)}
        )

    def vmrun(self) -> Run:
        self.world = "guest"
        sentence = "VMRUN loads the guest from the VMCB and sets GIF."
        return self.step("vmrun", "VMRUN", sentence, gif=("R-VMRUN-GIF", 1), guest_mode=("R-VMRUN-GIF", 1))

    def vmexit(self, name: str, code: int) -> Run:
        self.world = "host"
        rule = "R-VMEXIT-GIF"
        sentence = f"#VMEXIT {name}: the processor writes the guest back to the VMCB and clears GIF."
        return self.step(
            "vmexit",
            f"#VMEXIT {name} ({code:02X}h)",
            sentence,
            gif=(rule, 0),
            guest_mode=(rule, 0),
            exit_code=(rule, code),
        )


def latched() -> Run:
    """One NMI in main, a second one inside its handler: latched, and taken after the IRET."""
    run = Run("A second NMI inside the handler waits for its IRET")
    run.run(3).arrive().take().run(2).arrive().run().iret().take().run(3).iret().run(4)
    return run


def nested() -> Run:
    """Two NMIs injected by EVENTINJ, the second inside the handler of the first: they nest."""
    run = Run("Two NMIs through EVENTINJ: the second does not wait", world="host")
    run.write("EVENTINJ", "event_inj", 0x80000200).vmrun().take(injected=True).run(2).vmexit("INTR", 0x60)
    run.write("EVENTINJ", "event_inj", 0x80000200).vmrun().take(injected=True).run(3).iret().run().iret().run(3)
    run.vmexit("HLT", 0x78)
    return run


def looping(count: int) -> Run:
    """A long run: the loop of main with an NMI now and then."""
    run = Run(f"{count} steps of a loop with NMIs")
    run.run()
    while len(run) < count - 12:
        run.arrive().take().run(3).iret()
        for _ in range(4):
            run.state["rcx"] = 5
            run.state["rip"] = 0x1007
            run.run(9)
    return run.run(max(0, count - len(run)) and 1)


def hostile() -> Run:
    """A run whose every text tries to be markup."""
    evil = "<img src=x onerror=alert(1)></script><svg onload=alert(1)>\"'&"
    rules = MappingProxyType({"R-RIP": Rule("R-RIP", evil, evil, evil)})
    code = (Line(0x1000, b"\x90", evil, evil, evil),)
    run = Run(evil, code=code, rules=rules)
    run.step("stimulus", evil, evil, rip=("R-RIP", 0x1001))
    run.memory[0x7FF8] = (1, evil)
    run.step("exec", evil, evil, rsp=("R-RIP", 0x7FF8))
    run.step("host", f"host: {evil}", evil)
    return run
