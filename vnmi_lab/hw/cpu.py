"""The processor: one instruction boundary at a time, on bare metal or as a guest under VMRUN.

``step`` is the definition: recognize at most one event, or else execute one instruction. ``run`` gives the same
result faster: while ``attention`` is 0 nothing can be recognized, so it calls compiled instructions back to back.
Whatever may let an event in (STI, IRET, an NMI arriving, ...) sets ``attention``.

Fields are plain integers. Those in ``STATE`` are the whole of the machine besides registers and memory.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.hw import apic, idt, svm, system
from vnmi_lab.hw.delivery import (
    ARRIVALS,
    CODE_SELECTOR,
    DATA_SELECTOR,
    EXCEPTION,
    RF,
    SOFT,
    TF,
    Source,
    anything_pending,
    compile_sources,
    event_word,
    kind_of,
    vector_of,
)  # fmt: skip
from vnmi_lab.hw.events import Arrived, Changed, Event, Executed, Fault, NestedPageFault, Taken
from vnmi_lab.hw.insn import Insn, compile_insn, decode
from vnmi_lab.hw.memory import M64, PAGE, Image, Memory, Pages
from vnmi_lab.rules import Switches

if TYPE_CHECKING:
    from collections.abc import Callable

FOUR_GIB = 1 << 32
DR6_AT_RESET = 0xFFFF0FF0
MAPPED_PLAIN = apic.BASE - 8  # below this, without nested paging, an access needs no check
DF_VECTOR, PF_VECTOR = 8, 14
STATE = (
    "rip", "rflags", "shadow", "nmi_mask", "nmi_latch", "irr", "smi", "init", "gif", "halted", "stopped", "trap",
    "injection", "injection_rip", "dr6", "cr2", "idt_base", "idt_limit", "tr_base", "cs", "ss", "svme", "icr_low",
    "icr_high", "guest_mode", "vmcb_pa", "intercepts", "intercept_exceptions", "v_tpr", "v_irq", "v_gif",
    "v_gif_enable", "v_nmi_enable", "v_nmi_pending", "v_nmi_blocking", "v_intr_masking", "v_ign_tpr", "v_intr_prio",
    "v_intr_vector", "nested_paging", "iopm_base_pa", "tsc_offset", "host_if", "host", "cache", "absent", "frames",
)  # fmt: skip
_state = attrgetter(*STATE)
SHADOW_RULES = ("R-SHADOW-END", "R-STI-SHADOW", "R-MOVSS-SHADOW")
"""Why ``shadow`` is what it is after an instruction, by its value."""


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
        *STATE, "attention", "bursting", "checked", "delivered", "in_flight", "in_flight_injected", "memory", "off",
        "on_out", "ops", "r", "rf_before", "shadow_before", "sink", "sources", "steps", "switches", "texts",
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
        self.texts: dict[int, str] = {}
        """What instructions are called in a trace, by address; as long-lived as ``ops``."""
        self.memory.on_code_write = self.forget_code
        self.r = [0] * 16
        for name in STATE:
            setattr(self, name, 0)
        self.rflags, self.gif, self.svme, self.stopped, self.dr6 = 2, 1, 1, "", DR6_AT_RESET
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
        if self.sink is not None:
            self.changed(rule, field, getattr(self, field), new)
        setattr(self, field, new)

    @property
    def rsp(self) -> int:
        """The stack pointer."""
        return self.r[4]

    @rsp.setter
    def rsp(self, value: int) -> None:
        self.r[4] = value

    @property
    def rax(self) -> int:
        """The accumulator, which VMRUN and #VMEXIT exchange."""
        return self.r[0]

    @rax.setter
    def rax(self, value: int) -> None:
        self.r[0] = value

    # --- the outside world -------------------------------------------------------------------------------------

    def arrive(self, name: str) -> None:
        """Let an NMI ("nmi"), SMI or INIT arrive; it is remembered, or merges into the one already pending."""
        field, rule = ARRIVALS[name]
        pending = getattr(self, field)
        coalesced = pending > 0 and self.on("R-NMI-COALESCE")
        if self.sink is not None:
            self.sink(Arrived("R-NMI-COALESCE" if coalesced else rule, name, coalesced))
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

    def is_plain(self, address: int, size: int) -> bool:
        """Return whether an access needs no check: mapped, no device, no nested paging in the way."""
        return address <= MAPPED_PLAIN - size and not self.checked

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
        self.texts.clear()
        self.memory.code_pages.clear()

    # --- running -----------------------------------------------------------------------------------------------

    def run(self, budget: int) -> int:
        """Run until the guest exits, the processor stops or waits for good, or ``budget`` steps; return the steps."""
        start, in_guest = self.steps, self.guest_mode
        end = start + budget
        while self.steps < end and not self.stopped and self.guest_mode == in_guest:
            if self.sink is None and (not self.attention or self._settled()):
                self._burst(end - self.steps)
            elif not self.step():
                break
        return self.steps - start

    def _settled(self) -> bool:
        """Clear ``attention`` if a glance shows that the next instruction is an ordinary one; say whether it was."""
        if self.attention == system.RETRY or any(anything_pending(self)) or self.halted or self.shadow:
            return False
        self.attention = self.rflags & (TF | RF)
        return not self.attention

    def step(self) -> bool:
        """Pass one instruction boundary: take one event, or execute one instruction. False when nothing can happen."""
        if self.stopped:
            return False
        if not self._recognize():
            if self.halted:
                return False
            if not (self.shadow or self.rflags & (TF | RF)):
                self.attention = 0
            self._execute()
        self.steps += 1
        return True

    def _burst(self, count: int) -> None:
        """Execute compiled instructions while nothing can be recognized."""
        ops, done = self.ops, 0
        self.bursting = True
        try:
            for done in range(1, count + 1):  # noqa: B007 - the count of what was started is the result
                ops[self.rip](self)
                if self.attention:
                    break
        except (Fault, NestedPageFault):
            self.attention = system.RETRY
        self.bursting = False
        self.steps += done - (self.attention == system.RETRY)

    def _recognize(self) -> bool:
        if not any(anything_pending(self)):
            return False
        for pending, source, holds in self.sources:
            if not pending(self):
                continue
            for held in holds:
                if held(self):
                    break
            else:
                self._take(source)
                return True
        return False

    def _take(self, source: Source) -> None:
        """Exit if this event is intercepted, which leaves it pending; otherwise take it."""
        self.attention = 1
        code = source.intercept
        if code is not None and self.intercepts >> (code - 0x60) & 1 and source.intercept_rule not in self.off:
            svm.vmexit(self, code, source.exit_info)
            return
        word = source.word(self)
        if self.sink is not None:
            self.sink(Taken(source.rule, source.name))
        for rule, field, new in source.takes:
            self.change(rule, field, new(self))
        if source.name == "init":
            if self.on("R-INIT-TAKE"):
                idt.stop(self, "R-INIT-TAKE", "init")
        elif source.name == "injection":
            if self.on("R-EVENTINJ"):
                self._deliver_injection(word)
            self.injection = self.injection_rip = 0
        elif source.name != "smi":
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
        text = self.texts.get(rip)
        if text is None:
            try:
                text = self.texts[rip] = self.decode(rip).text
            except (Fault, NestedPageFault):
                return ""
        return text

    def _undo(self) -> None:
        """Put back what was set aside for an instruction that did not complete."""
        self.shadow = self.shadow_before
        self.rflags |= self.rf_before

    def _completed(self, stepping: int, rip: int, text: str) -> None:
        if not self.shadow and not self.on("R-SHADOW-END"):
            self.shadow = self.shadow_before
        if self.sink is not None:
            self.sink(Executed(rip, text))
            self.changed(SHADOW_RULES[self.shadow], "shadow", self.shadow_before, self.shadow)
            self.changed("R-RF-CLEAR", "rflags", self.rflags | self.rf_before, self.rflags)
        if stepping and not (self.shadow == system.MOVSS_SHADOW and self.on("R-TF-MOVSS")):
            self.change("R-TF-TRAP", "trap", 1)
            self.attention = 1

    # --- what SVM needs ----------------------------------------------------------------------------------------

    def change_world(self) -> None:
        """Make ready for the first boundary of a guest, or for the host's next one."""
        self.attention = 1
        self._recheck()

    def intercept(self, code: int, next_rip: int, info1: int = 0, info2: int = 0) -> None:
        """Exit for an intercepted instruction: nothing of it has happened, its shadow still stands (APM 15.7)."""
        self._undo()
        if not self.on("R-SHADOW-EXIT"):
            self.shadow = 0
        self.attention = 1
        svm.vmexit(self, code, info1, info2, next_rip)

    # --- what one event or instruction does, in files of their own ------------------------------------------------

    raise_event = idt.raise_event

    op_cli, op_sti, op_mov_ss = system.cli, system.sti, system.mov_ss
    op_hlt, op_pause, op_rdtsc, op_cpuid = system.hlt, system.pause, system.rdtsc, system.cpuid
    op_pushfq, op_popfq, op_iretq, op_lidt = system.pushfq, system.popfq, system.iretq, system.lidt
    op_int, op_int3 = system.int_n, system.int3
    op_in, op_out = system.in_port, system.out_port
    op_vmmcall, op_vmrun, op_stgi, op_clgi = system.vmmcall, system.vmrun, system.stgi, system.clgi
