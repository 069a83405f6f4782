"""A guest under KVM as a row of a table: what it runs, what arrives, and one name for each thing that can be seen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from vnmi_lab.guest import COUNTERS, HANDLER_SPAN, HANDLERS, IDT, Guest
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hv.vcpu import STATE, Features
from vnmi_lab.hw.delivery import IF, RF, TF
from vnmi_lab.hw.events import Delivered, Event
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Outcome, Stimulus
from vnmi_lab.rules import Switches

SELF_NMI = "mov dword [r15], 0x4400\n"
REST = "rest: hlt\nwoken: jmp rest\n"
COUNT = "inc qword [rbx+16]\n"
HANDLER = f"{COUNT}body: nop\nleave: iretq"
ALONE = ("IRET", "EXC_DB", "STGI", "CLGI", "EXC_UD", "VINTR", "NMI", "NPF")
"""Exits that say how an NMI was handled; kicks, HLT and what the guest asks for do not."""


@cache
def guest_of(main: str, handlers: tuple[tuple[int, str], ...], ist: tuple[tuple[int, int, int], ...] = ()) -> Guest:
    """Assemble once."""
    return Guest.of(main, dict(handlers), tail="hlt", ist={v: (i, top) for v, i, top in ist})


class Played:
    """A machine with everything that happened to it."""

    def __init__(  # noqa: PLR0913 - what a machine is, by name
        self,
        ops: NmiOps,
        main: str,
        handlers: Mapping[int, str] | None = None,
        stimuli: Sequence[Stimulus] = (),
        *,
        features: Features | None = None,
        switches: Switches | None = None,
        absent: Sequence[int] = (),
        irqchip: bool = True,
        ist: tuple[tuple[int, int, int], ...] = (),
    ) -> None:
        guest = guest_of(main, tuple(sorted({2: HANDLER, **(handlers or {})}.items())), ist)
        features = features or Features(vnmi_cpuid=ops.uses_vnmi)
        self.kvm = Kvm(guest, ops, features, switches, stimuli, irqchip=irqchip, absent=absent)
        self.events: list[Event] = []
        self.kvm.cpu.sink = self.events.append

    def run(self, budget: int = 3_000) -> Outcome:
        """Do KVM_RUN until user space must see something or nothing more happens."""
        return self.kvm.run(budget)

    def until(self, label: str, phase: str = "guest") -> Played:
        """Go on until the guest is about to execute the instruction at a label."""
        address = self.kvm.guest.labels()[label]
        if self.kvm.phase == "user":
            self.kvm.start()
        for _ in range(3_000):
            if self.kvm.phase == phase and self.kvm.rip == address:
                return self
            assert self.kvm.step(), f"stopped before {label}"
        raise AssertionError(f"never came to {label}")

    def name(self, address: int) -> str:
        """Return the label at an address, or the handler it is in, or the address."""
        own = (item for item in self.kvm.guest.labels().items() if not re.match(r"h\d+(\.|$)", item[0]))
        labels = {at: name for name, at in own}
        if address in labels:
            return labels[address]
        if HANDLERS <= address < IDT:
            vector, distance = divmod(address - HANDLERS, HANDLER_SPAN)
            return f"h{vector}" + (f"+{distance}" if distance else "")
        return f"{address:#x}"

    @property
    def nmis(self) -> int:
        """How often the NMI handler counted itself."""
        return self.count(2)

    def count(self, vector: int) -> int:
        """How often a handler counted itself."""
        return self.kvm.cpu.memory.read(COUNTERS + 8 * vector, 8)

    def entered(self, vector: int = 2) -> list[str]:
        """Where each handler that was entered returns to."""
        return [self.name(e.return_rip) for e in self.events if isinstance(e, Delivered) and e.vector == vector]

    def vectors(self) -> list[int]:
        """Which handlers were entered, in order."""
        return [e.vector for e in self.events if isinstance(e, Delivered)]

    def exits(self) -> list[str]:
        """Exits that the NMI cost, in order."""
        names = [exit_name(code) for code in self.kvm.vcpu.exits]
        return [name for name in names if name in ALONE]

    def look(self, key: str) -> object:
        """Return one observation."""
        vcpu, ctl = self.kvm.vcpu, self.kvm.vcpu.vmcb.int_ctl
        flags = int(vcpu.vmcb.rflags)
        values: dict[str, Callable[[], object]] = {
            "nmis": lambda: self.nmis,
            "entered": self.entered,
            "vectors": self.vectors,
            "exits": self.exits,
            "pending": lambda: self.kvm.events().pending,
            "masked": lambda: self.kvm.events().masked,
            "at": lambda: self.name(self.kvm.rip),
            "TF": lambda: int(flags & TF > 0),
            "RF": lambda: int(flags & RF > 0),
            "IF": lambda: int(flags & IF > 0),
            "iret_icpt": lambda: int(vcpu.vmcb.intercept_3.iret),
            "stgi_icpt": lambda: int(vcpu.vmcb.intercept_4.stgi),
            "injected": lambda: int(vcpu.vmcb.event_inj) if vcpu.vmcb.event_inj.valid else 0,
            "info": lambda: int(vcpu.vmcb.exit_int_info),
            "said": lambda: self.kvm.said,
        }
        if key in values:
            return values[key]()
        if key in ctl.FIELDS:
            return int(getattr(ctl, key))
        return getattr(vcpu, key)


assert set(STATE), "the vCPU's fields are what ``look`` falls back to"


def differs(played: Played, wanted: Mapping[str, object]) -> str | None:
    """Return the first observation that is not what was wanted."""
    for key, value in wanted.items():
        got = played.look(key)
        if got != value:
            return f"{key} is {got!r}, not {value!r}"
    return None
