"""Delivery of one event through the IDT: gate, stack, frame, handler, and the faults and exits on the way.

``raise_event`` follows the manual's pseudo-code for intercepts during delivery (APM 15.7.2): an exception that is
intercepted exits with EXITINTINFO naming the event whose delivery it interrupted; any other fault during delivery is
combined with that event and delivered instead. Registers change only once nothing can fault any more.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING

from vnmi_lab.hw import svm
from vnmi_lab.hw.delivery import (
    DF_WORD,
    EXCEPTION,
    HAS_ERROR,
    IF,
    INTERRUPT_GATE,
    NT,
    RF,
    TF,
    VM,
    Gate,
    doubles,
    event_word,
    gate_fault,
    kind_of,
    vector_of,
)  # fmt: skip
from vnmi_lab.hw.events import Delivered, Fault, NestedPageFault, Stopped
from vnmi_lab.hw.memory import M64

if TYPE_CHECKING:
    from vnmi_lab.hw.cpu import Cpu

DF_VECTOR, PF_VECTOR = 8, 14
FRAMES_KEPT = 63
"""Interrupt frames remembered for whoever watches; nothing of the machine depends on them."""
MOST_FAULTS = 8
"""Most faults in one delivery. #DF and shutdown end every such series sooner; without them the event is dropped."""
CLEARED = NT | RF | VM | TF
"""Flags that delivery clears, whatever the gate."""
_FRAME = Struct("<5Q")

gate_at = lru_cache(maxsize=1024)(Gate.decode)
fault_of = lru_cache(maxsize=1024)(gate_fault)


def raise_event(  # noqa: PLR0913 - what an event is, in words at every call
    cpu: Cpu, word: int, return_rip: int, *, soft: bool = False, injected: bool = False, address: int = 0,
    fault: bool = False,
) -> None:  # fmt: skip
    """Deliver an event. ``soft``: INT n or INT3; ``injected``: it came from EVENTINJ; ``address``: of a page fault."""
    cpu.in_flight = 0
    cpu.delivered = True
    cpu.attention = 1
    if not (injected and "R-EVENTINJ-ICPT" not in cpu.off):
        if intercepted(cpu, word, address, return_rip if soft else 0):
            return
        _set_cr2(cpu, word, address)
    for _attempt in range(MOST_FAULTS):
        cpu.in_flight, cpu.in_flight_injected = word, injected
        try:
            _enter(cpu, word, return_rip, soft=soft, fault=fault)
        except NestedPageFault as npf:
            svm.vmexit(cpu, svm.NPF, npf.error, npf.address)
        except Fault as second:
            combined = _combine(cpu, word, second)
            if combined is None:
                return
            word, return_rip, soft, injected, fault = combined, cpu.rip, False, False, True
            continue
        break
    cpu.in_flight = 0


def intercepted(cpu: Cpu, word: int, address: int, next_rip: int = 0) -> bool:
    """Exit if the event is an exception that the hypervisor intercepts; EXITINTINFO is the event before it.

    ``next_rip``: nRIP, which INT3 has and other exceptions have not (APM 15.7.1).
    """
    if kind_of(word) != EXCEPTION or not cpu.intercept_exceptions >> vector_of(word) & 1 or not cpu.on("R-ICPT-EXC"):
        return False
    vector = vector_of(word)
    svm.vmexit(cpu, 0x40 + vector, word >> 32, address if vector == PF_VECTOR else 0, next_rip)
    return True


def _set_cr2(cpu: Cpu, word: int, address: int) -> None:
    if kind_of(word) == EXCEPTION and vector_of(word) == PF_VECTOR:
        cpu.change("R-CR2", "cr2", address)


def _combine(cpu: Cpu, first: int, fault: Fault) -> int | None:
    """Return what to deliver after ``fault`` was raised while delivering ``first``; None when that exits or stops."""
    second = event_word(EXCEPTION, fault.vector, fault.error)
    if kind_of(first) == EXCEPTION and vector_of(first) == DF_VECTOR and cpu.on("R-SHUTDOWN"):
        _shutdown(cpu)
        return None
    if intercepted(cpu, second, fault.address):
        return None
    _set_cr2(cpu, second, fault.address)
    if not (doubles(first, second) and cpu.on("R-DF")):
        return second
    return None if intercepted(cpu, DF_WORD, 0) else DF_WORD


def _shutdown(cpu: Cpu) -> None:
    cpu.in_flight = 0
    if cpu.intercepts >> (svm.SHUTDOWN - 0x60) & 1 and cpu.on("R-ICPT-SHUTDOWN"):
        svm.vmexit(cpu, svm.SHUTDOWN)
    else:
        stop(cpu, "R-SHUTDOWN", "shutdown")


def stop(cpu: Cpu, rule: str, why: str) -> None:
    """Stop the processor for good."""
    cpu.stopped = why
    cpu.emit(Stopped(rule, why))


def _enter(cpu: Cpu, word: int, return_rip: int, *, soft: bool, fault: bool) -> None:
    """Read the gate, push the frame, continue at the handler; raises without having changed a register."""
    vector = vector_of(word)
    gate = _gate(cpu, vector, soft=soft)
    rule, rsp = "R-FRAME", cpu.r[4]
    if gate.ist and cpu.on("R-IST"):
        rule, rsp = "R-IST", cpu.read(cpu.tr_base + 0x1C + 8 * gate.ist, 8)
    if "R-FRAME" not in cpu.off:
        image = cpu.rflags | RF if fault and cpu.on("R-RF-FAULT") else cpu.rflags
        rsp = _push(cpu, rsp & ~15 & M64, (return_rip, cpu.cs, image, cpu.r[4], cpu.ss))
    frame = rsp
    if word & HAS_ERROR and kind_of(word) == EXCEPTION and cpu.on("R-FRAME-ERROR"):
        rsp = (rsp - 8) & M64
        cpu.write(rsp, 8, word >> 32)
    cpu.change(rule, "rsp", rsp)
    if cpu.rflags & CLEARED:
        cpu.change("R-TF-EVENT", "rflags", cpu.rflags & ~CLEARED)
    if gate.type == INTERRUPT_GATE and cpu.rflags & IF:
        cpu.change("R-GATE-IF", "rflags", cpu.rflags & ~IF)
    if cpu.shadow:
        cpu.change("R-SHADOW-DELIVERY", "shadow", 0)
    if cpu.halted:
        cpu.change("R-HLT-WAKE", "halted", 0)
    if cpu.cs != gate.selector & ~3:  # the gate's code segment, with CPL as its RPL
        cpu.change("R-ENTER", "cs", gate.selector & ~3)
    cpu.change("R-ENTER", "rip", gate.offset)
    cpu.frames = (*cpu.frames[-FRAMES_KEPT:], (vector, frame))
    if cpu.sink is not None:
        cpu.sink(Delivered("R-ENTER", vector, gate.offset, return_rip, frame))


def _gate(cpu: Cpu, vector: int, *, soft: bool) -> Gate:
    if vector * 16 + 15 > cpu.idt_limit and cpu.on("R-IDT-LIMIT"):
        raise Fault(13, vector * 8 + 2 | (not soft))
    base = (cpu.idt_base + vector * 16) & M64
    gate = gate_at(cpu.read(base, 8), cpu.read((base + 8) & M64, 8))
    wrong = fault_of(gate, vector, soft=soft, cpl=0, off=cpu.off)
    if wrong is not None:
        raise Fault(*wrong)
    return gate


def _push(cpu: Cpu, rsp: int, frame: tuple[int, ...]) -> int:
    """Store the frame, lowest address first, below ``rsp``; return its address."""
    bottom = (rsp - _FRAME.size) & M64
    if cpu.is_plain(bottom, _FRAME.size):
        cpu.memory.write_bytes(bottom, _FRAME.pack(*frame))
    else:
        for i, value in enumerate(reversed(frame), 1):
            cpu.write((rsp - 8 * i) & M64, 8, value)
    return bottom
