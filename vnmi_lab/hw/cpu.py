"""The processor: one instruction boundary at a time, on bare metal or as a guest under VMRUN.

``step`` is the definition: recognize at most one event, or else execute one instruction. ``run`` gives the same
result faster: while ``attention`` is 0 nothing can be recognized, so it calls compiled instructions back to back.
Whatever may let an event in (STI, IRET, an NMI arriving, ...) sets ``attention``.

Fields are plain integers. Those in ``STATE`` are the whole of the machine besides registers and memory.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.hw import apic, svm
from vnmi_lab.hw.delivery import (
    ARRIVALS, BY_NAME, CODE_SELECTOR, DATA_SELECTOR, DF_WORD, EXCEPTION, IF, INTERRUPT_GATE, NT, ON_IRET, RF, SOFT,
    TF, VM, WITH_ERROR, Gate, compile_sources, doubles, event_word, gate_fault, kind_of, vector_of,
)
from vnmi_lab.hw.events import (
    Arrived, Changed, Delivered, Event, Executed, Fault, IretRetired, NestedPageFault, Stopped, Taken,
)
from vnmi_lab.hw.insn import Insn, compile_insn, decode
from vnmi_lab.hw.memory import M64, PAGE, Image, Memory, Pages
from vnmi_lab.rules import Switches

if TYPE_CHECKING:
    from collections.abc import Callable

FOUR_GIB = 1 << 32
MAPPED_PLAIN = apic.BASE - 8  # below this, without nested paging, an access needs no check
DF_VECTOR, PF_VECTOR = 8, 14
FRAMES_KEPT = 63  # interrupt frames remembered for whoever watches; nothing of the machine depends on them
RETRY = 2  # attention: the instruction was not executed, execute it in ``step``
STI_SHADOW, MOVSS_SHADOW = 1, 2
POPF_BITS = 0x247FD5  # what POPF can change at CPL 0: not VM, VIF, VIP, RF

STATE = (
    "rip", "rflags", "shadow", "nmi_mask", "nmi_latch", "irr", "smi", "init", "gif", "halted", "stopped", "trap",
    "injection", "injection_rip", "dr6", "cr2", "idt_base", "idt_limit", "tr_base", "cs", "ss", "svme", "icr_low",
    "icr_high", "guest_mode", "vmcb_pa", "intercepts", "intercept_exceptions", "v_tpr", "v_irq", "v_gif",
    "v_gif_enable", "v_nmi_enable", "v_nmi_pending", "v_nmi_blocking", "v_intr_masking", "v_ign_tpr", "v_intr_prio",
    "v_intr_vector", "nested_paging", "iopm_base_pa", "tsc_offset", "host_if", "host", "cache", "absent", "frames",
)  # fmt: skip
_state = attrgetter(*STATE)
CPUID = {
    # leaf: eax, ebx, ecx, edx. Only what a guest of this lab looks at.
    0x0: (0x1, 0x68747541, 0x444D4163, 0x69746E65),  # "AuthenticAMD"
    0x80000000: (0x8000000A, 0, 0, 0),
    0x80000001: (0, 0, 1 << 2, 1 << 29),  # SVM; long mode
    0x8000000A: (1, 16, 0, 1 << 25 | 1 << 16 | 1 << 5 | 1 << 3),  # VNMI, VGIF, VMCB clean bits, NRIPS
}


class Snapshot(NamedTuple):
    """Everything a processor and its memory hold, immutable and hashable; equal exactly when the machines are."""

    regs: tuple[int, ...]
    state: tuple[object, ...]
    pages: Pages
    image: Image
    steps: int


class _Compiled(dict[int, "Callable[[Cpu], None]"]):
    """Compiled instructions by address; a missing one is decoded on the spot."""

    def __init__(self, cpu: Cpu) -> None:
        super().__init__()
        self.cpu = cpu

    def __missing__(self, rip: int) -> Callable[[Cpu], None]:
        op = self[rip] = compile_insn(self.cpu.decode(rip))
        return op


class Cpu:
    """One AMD64 processor in 64-bit mode at CPL 0, with its memory and local APIC.

    ``sink``, when set, is called with every ``Event``. ``switches`` answer the open questions and switch rules off.
    """

    __slots__ = (
        *STATE, "attention", "bursting", "checked", "delivered", "in_flight", "in_flight_injected", "memory", "off", "on_out",
        "ops", "r", "rf_before", "shadow_before", "sink", "sources", "steps", "switches",
    )  # fmt: skip

    rip: int
    rflags: int
    shadow: int
    nmi_mask: int
    nmi_latch: int
    irr: int
    smi: int
    init: int
    gif: int
    halted: int
    stopped: str
    trap: int
    injection: int
    injection_rip: int
    dr6: int
    cr2: int
    idt_base: int
    idt_limit: int
    tr_base: int
    cs: int
    ss: int
    svme: int
    icr_low: int
    icr_high: int
    guest_mode: int
    vmcb_pa: int
    intercepts: int
    intercept_exceptions: int
    v_tpr: int
    v_irq: int
    v_gif: int
    v_gif_enable: int
    v_nmi_enable: int
    v_nmi_pending: int
    v_nmi_blocking: int
    v_intr_masking: int
    v_ign_tpr: int
    v_intr_prio: int
    v_intr_vector: int
    nested_paging: int
    iopm_base_pa: int
    tsc_offset: int
    host_if: int
    host: tuple[int, ...] | None
    cache: tuple[int, bytes] | None
    absent: frozenset[int]
    frames: tuple[tuple[int, int], ...]

    def __init__(self, image: Image | None = None, switches: Switches | None = None) -> None:
        self.switches = Switches() if switches is None else switches
        self.off = self.switches.off
        self.sources = compile_sources(self.switches)
        self.memory = Memory(image)
        self.ops = _Compiled(self)
        self.memory.on_code_write = self.forget_code
        self.r = [0] * 16
        for name in STATE:
            setattr(self, name, 0)
        self.rflags, self.gif, self.svme, self.stopped = 2, 1, 1, ""
        self.cs, self.ss = CODE_SELECTOR, DATA_SELECTOR
        self.host, self.cache, self.absent, self.frames = None, None, frozenset(), ()
        self.sink: Callable[[Event], object] | None = None
        self.on_out: Callable[[int, int, int], object] | None = None
        self.steps = 0
        self.attention = 1
        self.checked = self.delivered = self.bursting = False
        self.in_flight = self.shadow_before = self.rf_before = 0
        self.in_flight_injected = False

    # --- values ------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the whole machine as an immutable value; call it between steps."""
        return Snapshot(tuple(self.r), _state(self), self.memory.freeze(), self.memory.image, self.steps)

    def restore(self, snapshot: Snapshot) -> None:
        """Become exactly what ``snapshot`` recorded."""
        self.r[:] = snapshot.regs
        for name, value in zip(STATE, snapshot.state, strict=True):
            setattr(self, name, value)
        self.memory.thaw(snapshot.pages)
        self.steps = snapshot.steps
        self.attention = 1
        self._recheck()

    # --- saying what changed -----------------------------------------------------------------------------------

    def on(self, rule: str) -> bool:
        """Return whether ``rule`` acts (it has not been switched off)."""
        return rule not in self.off

    def emit(self, event: Event) -> None:
        """Tell whoever traces."""
        if self.sink is not None:
            self.sink(event)

    def changed(self, rule: str, field: str, old: int, new: int) -> None:
        """Tell whoever traces that ``field`` changed, if it did."""
        if self.sink is not None and old != new:
            self.sink(Changed(rule, field, old, new))

    def change(self, rule: str, field: str, new: int) -> None:
        """Set ``field`` because ``rule`` says so; a rule that is switched off changes nothing."""
        if rule in self.off:
            return
        old = self.get(field)
        if old != new:
            if field == "rsp":
                self.r[4] = new
            elif field == "rax":
                self.r[0] = new
            else:
                setattr(self, field, new)
            if self.sink is not None:
                self.sink(Changed(rule, field, old, new))

    def get(self, field: str) -> int:
        """Return a field by name, "rsp" and "rax" among them."""
        if field == "rsp":
            return self.r[4]
        if field == "rax":
            return self.r[0]
        value: int = getattr(self, field)
        return value

    # --- the outside world -------------------------------------------------------------------------------------

    def arrive(self, name: str) -> None:
        """Let an NMI ("nmi"), SMI or INIT arrive; it is remembered, or merges into the one already pending."""
        field, rule = ARRIVALS[name]
        pending = self.get(field)
        coalesced = pending > 0 and self.on("R-NMI-COALESCE")
        self.emit(Arrived("R-NMI-COALESCE" if coalesced else rule, name, coalesced))
        if not coalesced:
            self.change(rule, field, pending + 1)
        self.attention = 1

    def arrive_intr(self, vector: int) -> None:
        """Let a physical interrupt request for ``vector`` arrive at the local APIC."""
        self.emit(Arrived("R-INTR-ARRIVE", "intr", bool(self.irr >> vector & 1)))
        self.change("R-INTR-ARRIVE", "irr", self.irr | 1 << vector)
        self.attention = 1

    def set_absent(self, pages: frozenset[int]) -> None:
        """Say which guest-physical pages (by number) the nested page table does not map."""
        self.absent = pages
        self._recheck()

    def _recheck(self) -> None:
        self.checked = bool(self.guest_mode and self.nested_paging and self.absent and self.on("R-NPF"))
        if self.absent:
            self.forget_code()

    # --- memory as instructions see it -------------------------------------------------------------------------

    def read(self, address: int, size: int) -> int:
        """Read ``size`` bytes at a linear address; raises ``Fault`` or ``NestedPageFault``."""
        if address > MAPPED_PLAIN or self.checked:
            self._access(address, size, 0)
            if address >> 12 == apic.BASE >> 12:
                return apic.read(self, address & (PAGE - 1)) & (1 << 8 * size) - 1
        return self.memory.read(address, size)

    def write(self, address: int, size: int, value: int) -> None:
        """Write ``size`` bytes at a linear address; raises ``Fault`` or ``NestedPageFault``."""
        if address > MAPPED_PLAIN or self.checked:
            self._access(address, size, 2)
            if address >> 12 == apic.BASE >> 12:
                apic.write(self, address & (PAGE - 1), value)
                return
        self.memory.write(address, size, value)

    def _access(self, address: int, size: int, error: int) -> None:
        """Check an access: ``error`` is 2 for a write, 10h for a fetch, as in an NPF's error code."""
        for byte in (address & M64, (address + size - 1) & M64):
            if (byte >> 47) not in (0, 0x1FFFF) and self.on("R-CANONICAL"):
                raise Fault(13, 0)
            if byte >= FOUR_GIB and self.on("R-PAGE-FAULT"):
                raise Fault(14, error & 2, byte)
            if self.checked and byte >> 12 in self.absent:
                raise NestedPageFault(FOUR_GIB | 4 | error, byte)

    def decode(self, rip: int) -> Insn:
        """Decode the instruction at ``rip``; raises what its fetch raises, or ``Fault(6)`` for unknown bytes."""

        def fetch(offset: int) -> int:
            address = (rip + offset) & M64
            if address > MAPPED_PLAIN or self.checked:
                self._access(address, 1, 0x10)
            self.memory.code_pages.add(address >> 12)
            return self.memory.read(address, 1)

        return decode(fetch, rip)

    def forget_code(self) -> None:
        """Drop compiled instructions: code was written, or may have moved under the nested page table."""
        self.ops.clear()
        self.memory.code_pages.clear()

    # --- running -----------------------------------------------------------------------------------------------

    def run(self, budget: int) -> int:
        """Run until the guest exits, the processor stops or waits for good, or ``budget`` steps; return the steps."""
        start, in_guest = self.steps, self.guest_mode
        end = start + budget
        while self.steps < end and not self.stopped and self.guest_mode == in_guest:
            if self.attention:
                if not self.step():
                    break
            else:
                self._burst(end - self.steps)
        return self.steps - start

    def _burst(self, count: int) -> None:
        """Execute compiled instructions while nothing can be recognized."""
        ops, done = self.ops, 0
        self.bursting = True
        try:
            for done in range(1, count + 1):  # noqa: B007 - the count of what was started is the result
                ops[self.rip](self)
                if self.attention:
                    break
            else:
                done = count
        except (Fault, NestedPageFault):
            self.attention = RETRY
        self.bursting = False
        if self.attention == RETRY:
            self.attention, done = 1, done - 1
        self.steps += done

    def step(self) -> bool:
        """Pass one instruction boundary: take one event, or execute one instruction. False when nothing can happen."""
        if self.stopped:
            return False
        if self._recognize():
            self.steps += 1
            return True
        if self.halted:
            return False
        self.steps += 1
        if not (self.shadow or self.rflags & (TF | RF)):
            self.attention = 0
        self._execute()
        return True

    def _recognize(self) -> bool:
        for source, holds in self.sources:
            if source.pending(self) and not any(held(self) for _name, held in holds):
                self.attention = 1
                code = source.intercept
                if code is not None and self.intercepts >> (code - 0x60) & 1 and self.on(source.intercept_rule):
                    svm.vmexit(self, code)
                    return True
                self._take(source.name)
                return True
        return False

    def _take(self, name: str) -> None:
        source = BY_NAME[name]
        word = source.word(self)
        self.emit(Taken(source.rule, name))
        for rule, field, new in source.takes:
            self.change(rule, field, new(self))
        if name == "init":
            self._stop("R-INIT-TAKE", "init")
        elif name == "injection":
            if self.on("R-EVENTINJ"):
                self._deliver_injection(word)
            self.injection = self.injection_rip = 0
        elif name != "smi":
            self.raise_event(word, self.rip)

    def _deliver_injection(self, word: int) -> None:
        if not self.switches.eventinj_ends_shadow:
            self.shadow_before = self.shadow
        soft = kind_of(word) == SOFT or (kind_of(word) == EXCEPTION and vector_of(word) in (3, 4))
        if not self.on("R-EVENTINJ-VECTOR"):
            word = word & ~0x700 | EXCEPTION << 8 if kind_of(word) == 2 and word & 0xFF else word
        self.raise_event(word, self.injection_rip if soft else self.rip, soft=soft, injected=True)
        if not self.switches.eventinj_ends_shadow and self.guest_mode:
            self.shadow, self.shadow_before = self.shadow_before, 0

    def _stop(self, rule: str, why: str) -> None:
        self.stopped = why
        self.emit(Stopped(rule, why))

    # --- one instruction ---------------------------------------------------------------------------------------

    def _execute(self) -> None:
        """Execute the instruction at RIP with everything that its completion, fault or exit entails."""
        stepping, rip, guest = self.rflags & TF, self.rip, self.guest_mode
        text = self._text(rip) if self.sink is not None else ""
        self.shadow_before, self.shadow = self.shadow, 0
        if self.rflags & RF and self.on("R-RF-CLEAR"):
            self.rf_before = RF
            self.rflags &= ~RF
        self.delivered = False
        try:
            self.ops[rip](self)
        except Fault as fault:
            self._undo()
            word = event_word(EXCEPTION, fault.vector, fault.error)
            self.raise_event(word, self.rip, address=fault.address, fault=True)
        except NestedPageFault as fault:
            self._undo()
            svm.vmexit(self, svm.NPF, fault.error, fault.address)
        else:
            if self.guest_mode == guest and not self.delivered:
                self._completed(stepping, rip, text)
        self.shadow_before = self.rf_before = 0

    def _text(self, rip: int) -> str:
        """Return the instruction's text for a trace; empty when it cannot be fetched."""
        try:
            return self.decode(rip).text
        except (Fault, NestedPageFault):
            return ""

    def _undo(self) -> None:
        """Put back what was set aside for an instruction that did not complete."""
        self.shadow = self.shadow_before
        self.rflags |= self.rf_before

    def _completed(self, stepping: int, rip: int, text: str) -> None:
        if self.sink is not None:
            self.sink(Executed(rip, text))
            self.changed("R-SHADOW-END", "shadow", self.shadow_before, self.shadow)
            self.changed("R-RF-CLEAR", "rflags", self.rflags | self.rf_before, self.rflags)
        if not self.shadow and not self.on("R-SHADOW-END"):
            self.shadow = self.shadow_before
        if stepping and not (self.shadow == MOVSS_SHADOW and self.on("R-TF-MOVSS")):
            self.change("R-TF-TRAP", "trap", 1)
            self.attention = 1

    # --- delivering an event -----------------------------------------------------------------------------------

    def raise_event(
        self, word: int, return_rip: int, *, soft: bool = False, injected: bool = False, address: int = 0,
        fault: bool = False,
    ) -> None:  # fmt: skip
        """Deliver an event through the IDT, with whatever faults and exits that leads to (APM 15.7.2)."""
        self.in_flight = 0
        self.delivered = True
        self.attention = 1
        if not (injected and self.on("R-EVENTINJ-ICPT")):
            if self._intercepted(word, address):
                return
            self._set_cr2(word, address)
        while True:
            self.in_flight, self.in_flight_injected = word, injected
            try:
                self._enter(word, return_rip, soft=soft, fault=fault)
            except NestedPageFault as npf:
                svm.vmexit(self, svm.NPF, npf.error, npf.address)
            except Fault as second:
                combined = self._combine(word, second)
                if combined is None:
                    return
                word, return_rip, soft, injected, fault = combined, self.rip, False, False, True
                continue
            self.in_flight = 0
            return

    def _set_cr2(self, word: int, address: int) -> None:
        if kind_of(word) == EXCEPTION and vector_of(word) == PF_VECTOR:
            self.change("R-CR2", "cr2", address)

    def _intercepted(self, word: int, address: int) -> bool:
        """Exit if the event is an exception that the hypervisor intercepts; EXITINTINFO is the event before it."""
        vector = vector_of(word)
        if kind_of(word) != EXCEPTION or not self.intercept_exceptions >> vector & 1 or not self.on("R-ICPT-EXC"):
            return False
        svm.vmexit(self, 0x40 + vector, word >> 32 if word & 0x800 else 0, address if vector == PF_VECTOR else 0)
        return True

    def _combine(self, first: int, fault: Fault) -> int | None:
        """Return what to deliver after ``fault`` was raised while delivering ``first``; None when that exits or stops."""
        second = event_word(EXCEPTION, fault.vector, fault.error)
        if kind_of(first) == EXCEPTION and vector_of(first) == DF_VECTOR and self.on("R-SHUTDOWN"):
            self._shutdown()
            return None
        if self._intercepted(second, fault.address):
            return None
        self._set_cr2(second, fault.address)
        if not (doubles(first, second) and self.on("R-DF")):
            return second
        return None if self._intercepted(DF_WORD, 0) else DF_WORD

    def _shutdown(self) -> None:
        self.in_flight = 0
        if self.intercepts >> (svm.SHUTDOWN - 0x60) & 1 and self.on("R-ICPT-SHUTDOWN"):
            svm.vmexit(self, svm.SHUTDOWN)
        else:
            self._stop("R-SHUTDOWN", "shutdown")

    def _enter(self, word: int, return_rip: int, *, soft: bool, fault: bool) -> None:
        """Read the gate, push the frame, continue at the handler; raises without having changed a register."""
        vector = vector_of(word)
        gate = self._gate(vector, soft=soft)
        frame = [self.ss, self.r[4], self._flags_image(fault=fault), self.cs, return_rip]
        if kind_of(word) == EXCEPTION and vector in WITH_ERROR and self.on("R-FRAME-ERROR"):
            frame.append(word >> 32)
        rsp = self.r[4]
        rule = "R-FRAME"
        if gate.ist and self.on("R-IST"):
            rule, rsp = "R-IST", self.read(self.tr_base + 0x1C + 8 * gate.ist, 8)
        if self.on("R-FRAME"):
            rsp = self._push_frame(rsp & ~15 & M64, frame)
        self.change(rule, "rsp", rsp)
        flags = self.rflags & ~(NT | RF | VM)
        self.change("R-TF-EVENT", "rflags", flags & ~TF)
        if gate.type == INTERRUPT_GATE:
            self.change("R-GATE-IF", "rflags", self.rflags & ~IF)
        self.change("R-SHADOW-DELIVERY", "shadow", 0)
        self.change("R-HLT-WAKE", "halted", 0)
        self.change("R-ENTER", "rip", gate.offset)
        self.frames = (*self.frames[-FRAMES_KEPT:], (vector, rsp))
        self.emit(Delivered("R-ENTER", vector, gate.offset, return_rip, rsp))

    def _gate(self, vector: int, *, soft: bool) -> Gate:
        if vector * 16 + 15 > self.idt_limit and self.on("R-IDT-LIMIT"):
            raise Fault(13, vector * 8 + 2 | (not soft))
        base = (self.idt_base + vector * 16) & M64
        gate = Gate.decode(self.read(base, 8), self.read((base + 8) & M64, 8))
        wrong = gate_fault(gate, vector, soft=soft, cpl=0, off=self.off)
        if wrong is not None:
            raise Fault(*wrong)
        return gate

    def _flags_image(self, *, fault: bool) -> int:
        return self.rflags | RF if fault and self.on("R-RF-FAULT") else self.rflags

    def _push_frame(self, rsp: int, frame: list[int]) -> int:
        bottom = (rsp - 8 * len(frame)) & M64
        if bottom > MAPPED_PLAIN - 8 * len(frame) or self.checked:
            for i, value in enumerate(frame, 1):
                self.write((rsp - 8 * i) & M64, 8, value)
        else:
            self.memory.write_bytes(bottom, b"".join(value.to_bytes(8, "little") for value in reversed(frame)))
        return bottom

    # --- what SVM needs ----------------------------------------------------------------------------------------

    def begin_guest(self) -> None:
        """Make ready for a guest's first boundary."""
        self.attention = 1
        self._recheck()

    def end_guest(self) -> None:
        """Make ready for the host's next boundary."""
        self.attention = 1
        self._recheck()

    def intercept(self, code: int, next_rip: int, info1: int = 0, info2: int = 0) -> None:
        """Exit for an intercepted instruction: nothing of it has happened, its shadow still stands (APM 15.7)."""
        self._undo()
        if not self.on("R-SHADOW-EXIT"):
            self.shadow = 0
        self.attention = 1
        svm.vmexit(self, code, info1, info2, next_rip)

    # --- system instructions (hw/insn.py calls these) ----------------------------------------------------------

    def op_cli(self, next_rip: int) -> None:
        """CLI."""
        self.rflags &= ~IF
        self.rip = next_rip

    def op_sti(self, next_rip: int) -> None:
        """STI: the shadow opens only when IF goes from 0 to 1."""
        if not self.rflags & IF:
            self.rflags |= IF
            if self.on("R-STI-SHADOW"):
                self.shadow = STI_SHADOW
        self.attention = 1
        self.rip = next_rip

    def op_mov_ss(self, next_rip: int, selector: int) -> None:
        """MOV SS: opens a shadow unless it stands in the shadow of a MOV SS."""
        if selector & ~3 not in (0, DATA_SELECTOR) and self.on("R-SS-LOAD"):
            raise Fault(13, selector & 0xFFFC)
        self.ss = selector & 0xFFFF
        if self.on("R-MOVSS-SHADOW") and not (self.shadow_before == MOVSS_SHADOW and self.on("R-MOVSS-TWICE")):
            self.shadow = MOVSS_SHADOW
        self.attention = 1
        self.rip = next_rip

    def op_hlt(self, next_rip: int) -> None:
        """HLT."""
        if self.on("R-HLT"):
            self.halted = 1
        self.attention = 1
        self.rip = next_rip

    def op_pause(self, next_rip: int) -> None:
        """PAUSE."""
        self.rip = next_rip

    def op_pushfq(self, next_rip: int) -> None:
        """PUSHFQ: RF and VM are pushed as 0."""
        rsp = (self.r[4] - 8) & M64
        self.write(rsp, 8, self.rflags & ~(RF | VM))
        self.r[4] = rsp
        self.rip = next_rip

    def op_popfq(self, next_rip: int) -> None:
        """POPFQ."""
        self.rflags = self.read(self.r[4], 8) & POPF_BITS & ~RF | 2
        self.r[4] = (self.r[4] + 8) & M64
        self.attention = 1
        self.rip = next_rip

    def op_int(self, next_rip: int, vector: int) -> None:
        """INT n: a software interrupt, RIP at the instruction until the handler is entered."""
        self.raise_event(event_word(SOFT, vector), next_rip, soft=True)

    def op_int3(self, next_rip: int) -> None:
        """INT3: a trap-like exception whose gate must allow CPL."""
        self.raise_event(event_word(EXCEPTION, 3), next_rip, soft=True)

    def op_ud(self) -> None:
        """UD2."""
        raise Fault(6)

    def op_iretq(self, next_rip: int) -> None:  # noqa: ARG002 - every system instruction is called alike
        """IRETQ: pop and validate five quadwords; only a completed one ends NMI masking."""
        frame = self.r[4]
        try:
            rip, cs, flags, rsp, ss = (self.read((frame + 8 * i) & M64, 8) for i in range(5))
            self._check_iret(rip, cs & 0xFFFF, ss & 0xFFFF)
        except Fault:
            if self.switches.faulting_iret_unmasks or not self.on("R-IRET-FAULT"):
                self._unmask()
            raise
        self.cs, self.ss = cs & 0xFFFF, ss & 0xFFFF
        self.rflags = flags & (POPF_BITS | RF) | 2
        self.r[4], self.rip = rsp, rip
        self._unmask()
        self._leave_frame(frame)
        if self.sink is not None:
            self.sink(IretRetired("R-IRET-UNMASK", frame, rip))
        self.attention = 1

    def _check_iret(self, rip: int, cs: int, ss: int) -> None:
        if not self.on("R-IRET-CHECK"):
            return
        if cs != CODE_SELECTOR:
            raise Fault(13, cs & 0xFFFC)
        if rip >> 47 not in (0, 0x1FFFF):
            raise Fault(13, 0)
        if ss not in (0, DATA_SELECTOR):
            raise Fault(13, ss & 0xFFFC)

    def _leave_frame(self, frame: int) -> None:
        """Forget the interrupt frame that this IRET popped, and any above it."""
        for i in range(len(self.frames) - 1, -1, -1):
            if self.frames[i][1] == frame:
                self.frames = self.frames[:i]
                return

    def _unmask(self) -> None:
        for rule, field, new in ON_IRET[bool(self.guest_mode and self.v_nmi_enable)]:
            self.change(rule, field, new)

    def op_lidt(self, next_rip: int, address: int) -> None:
        """LIDT: limit (2 bytes) and base (8 bytes) from memory."""
        limit, base = self.read(address, 2), self.read((address + 2) & M64, 8)
        self.idt_limit, self.idt_base = limit, base
        self.rip = next_rip

    def op_cpuid(self, next_rip: int) -> None:
        """CPUID: leaves outside the table read 0."""
        leaf = CPUID.get(self.r[0] & 0xFFFFFFFF, (0, 0, 0, 0))
        self.r[0], self.r[3], self.r[1], self.r[2] = leaf
        self.rip = next_rip

    def op_rdtsc(self, next_rip: int) -> None:
        """RDTSC: the model's clock is its count of steps, plus TSC_OFFSET in a guest."""
        if self.bursting:
            self.attention = RETRY  # a burst counts its steps only at its end; ``step`` counts each
            return
        now = (self.steps + self.tsc_offset) & M64
        self.r[0], self.r[2] = now & 0xFFFFFFFF, now >> 32
        self.rip = next_rip

    def op_in(self, next_rip: int, port: int, size: int) -> None:
        """IN: no device answers, so every bit reads 1."""
        if not self._io_exit(next_rip, port, size, 1):
            ones = (1 << 8 * size) - 1
            self.r[0] = self.r[0] & ~0xFF | 0xFF if size == 1 else ones
            self.rip = next_rip

    def op_out(self, next_rip: int, port: int, size: int) -> None:
        """OUT: hands port, value and size to ``on_out``."""
        if not self._io_exit(next_rip, port, size, 0):
            if self.on_out is not None:
                self.on_out(port, self.r[0] & (1 << 8 * size) - 1, size)
            self.rip = next_rip

    def _io_exit(self, next_rip: int, port: int, size: int, direction: int) -> bool:
        """Exit 7Bh if the permission map says so; EXITINFO1 as APM 15.10.2 lays it out."""
        if not self.intercepts >> 27 & 1 or not self.on("R-ICPT-IOIO"):
            return False
        bits = self.memory.read(self.iopm_base_pa + port // 8, 2) >> port % 8
        if not bits & (1 << size) - 1:
            return False
        self.intercept(0x7B, next_rip, port << 16 | 1 << 9 | size << 4 | direction, next_rip)
        return True

    def op_vmmcall(self, next_rip: int) -> None:
        """VMMCALL that nobody intercepts."""
        if self.on("R-VMMCALL-UD"):
            raise Fault(6)
        self.rip = next_rip

    def op_vmrun(self, next_rip: int) -> None:
        """VMRUN of the VMCB at RAX; the host resumes at the next instruction after #VMEXIT."""
        self._need_svme()
        self.rip = next_rip
        self.attention = 1
        svm.vmrun(self, self.r[0] & ~(PAGE - 1))

    def op_stgi(self, next_rip: int) -> None:
        """STGI: V_GIF under virtual GIF, GIF otherwise."""
        self._need_svme()
        self._set_gif(1)
        self.rip = next_rip

    def op_clgi(self, next_rip: int) -> None:
        """CLGI: V_GIF under virtual GIF, GIF otherwise."""
        self._need_svme()
        self._set_gif(0)
        self.rip = next_rip

    def _need_svme(self) -> None:
        if not self.svme and self.on("R-SVME-UD"):
            raise Fault(6)

    def _set_gif(self, value: int) -> None:
        if self.guest_mode and self.v_gif_enable and self.on("R-VGIF"):
            self.change("R-VGIF", "v_gif", value)
        else:
            self.change("R-STGI" if value else "R-CLGI", "gif", value)
        self.attention = 1

