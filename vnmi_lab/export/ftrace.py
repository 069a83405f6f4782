"""The run as the kernel's ``/sys/kernel/tracing/trace`` would print it: a header, then one event a line.

Under KVM the tracepoints are KVM's own, printed as Linux 6.12 prints them (``arch/x86/kvm/trace.h``, reasons of exits
as in ``uapi/asm/svm.h``). What no tracepoint of KVM says, such as an NMI's injection, is an event of a system that no
kernel has: its name begins with ``vnmi_lab_``. The run has no clock: a step is written as 1 ms, and the events inside
it are 1 us apart. The flags of interrupts and preemption are not modelled and stand as ``.....``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vnmi_lab.export.source import ascii_line
from vnmi_lab.hw.delivery import EXCEPTION, HAS_ERROR, INTR, NMI, SOFT, VALID, kind_of, vector_of
from vnmi_lab.hw.events import (
    Arrived,
    Changed,
    Delivered,
    Event,
    Executed,
    HostDid,
    IretRetired,
    KvmCalled,
    MemoryWritten,
    Stopped,
    Taken,
    VmExit,
    Vmrun,
)
from vnmi_lab.hw.svm import INVALID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vnmi_lab.export.source import Source

HEADER = """\
# tracer: nop
#
# entries-in-buffer/entries-written: {count}/{count}   #P:1
#
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
"""
TASK, PID, CPU = "vnmi_lab", 1, 0
EVENTS_A_STEP = 1000
REASONS = {
    0x60: "interrupt", 0x61: "nmi", 0x62: "smi", 0x63: "init", 0x64: "vintr", 0x6A: "write_idtr", 0x6E: "rdtsc",
    0x70: "pushf", 0x71: "popf", 0x72: "cpuid", 0x73: "rsm", 0x74: "iret", 0x75: "swint", 0x77: "pause", 0x78: "hlt",
    0x7B: "io", 0x7F: "shutdown", 0x80: "vmrun", 0x81: "hypercall", 0x84: "stgi", 0x85: "clgi", 0x400: "npf",
    INVALID: "invalid_guest_state",
}  # fmt: skip
"""How KVM's tracepoint names an exit; one that is not here is printed as a number, as the kernel does."""
EXCEPTIONS = {
    0: "DE", 1: "DB", 3: "BP", 4: "OF", 5: "BR", 6: "UD", 7: "NM", 8: "DF", 10: "TS", 11: "NP", 12: "SS", 13: "GP",
    14: "PF", 16: "MF", 17: "AC", 18: "MC",
}  # fmt: skip
FIRST_EXCEPTION = 0x40
LOW = (1 << 32) - 1


def ftrace(source: Source) -> str:
    """Give the run as lines of ftrace's text format."""
    trace = source.trace
    steps = list(source.steps())
    kvm = any(step.calls for step in steps)
    lines = []
    interrupted = 0
    for step in steps:
        told: list[str] = []
        for event in step.events:
            told += _kvm(event, interrupted) if kvm and isinstance(event, VmExit | Vmrun) else [_own(event)]
            if isinstance(event, VmExit):
                interrupted = event.int_info
        for place, text in enumerate(told):
            lines.append(_line(step.index, min(place, EVENTS_A_STEP - 1), text))
    title = f"# vnmi_lab: {ascii_line(trace.title)}\n# a step of the run is 1 ms; vnmi_lab_* are no kernel's events\n"
    return title + HEADER.format(count=len(lines)) + "".join(lines)


def _line(step: int, place: int, text: str) -> str:
    seconds, millis = divmod(step, 1000)
    return f"{TASK:>16}-{PID:<7} [{CPU:03}] ..... {seconds:5}.{millis * 1000 + place:06}: {text}\n"


def _kvm(event: VmExit | Vmrun, interrupted: int) -> Iterator[str]:
    """Yield the tracepoints of KVM around VMRUN and #VMEXIT."""
    if isinstance(event, Vmrun):
        if event.event_inj & VALID:
            yield _injected(event.event_inj, again=_same(event.event_inj, interrupted))
        yield f"kvm_entry: vcpu 0, rip {event.rip:#x}"
        return
    error = event.int_info >> 32 if event.int_info & VALID and event.int_info & HAS_ERROR else 0
    yield (
        f"kvm_exit: vcpu 0 reason {_reason(event.code)} rip {event.rip:#x} info1 {event.info1:#018x}"
        f" info2 {event.info2:#018x} intr_info {event.int_info & LOW:#010x} error_code {error:#010x}"
    )


def _reason(code: int) -> str:
    vector = EXCEPTIONS.get(code - FIRST_EXCEPTION)
    return f"{vector} excp" if vector else REASONS.get(code, f"{code:#x}")


def _same(word: int, other: int) -> bool:
    """Say whether an event is the one whose delivery the last exit interrupted."""
    return bool(other & VALID) and (kind_of(word), vector_of(word)) == (kind_of(other), vector_of(other))


def _injected(word: int, *, again: bool) -> str:
    """Give the tracepoint of what VMRUN is about to deliver; KVM has none for an NMI."""
    vector, note = vector_of(word), " [reinjected]" if again else ""
    kind = kind_of(word)
    if kind == NMI:
        return f"vnmi_lab_inj_nmi: vector 0x2{note}"
    if kind == EXCEPTION:
        name = f"#{EXCEPTIONS[vector]}" if vector in EXCEPTIONS else f"{vector:#x}"
        return f"kvm_inj_exception: {name}{f' ({word >> 32:#x})' if word & HAS_ERROR else ''}{note}"
    names = {INTR: "IRQ", SOFT: "Soft/INTn"}
    return f"kvm_inj_virq: {names.get(kind, f'type {kind}')} {vector:#x}{note}"


OWN: Mapping[type[Event], str] = {
    Arrived: "vnmi_lab_arrived: source {source} coalesced {coalesced:d}",
    Taken: "vnmi_lab_taken: source {source}",
    Delivered: "vnmi_lab_delivered: vector {vector:#x} rip {handler:#x} from {return_rip:#x} frame {frame:#x}",
    Executed: "vnmi_lab_executed: rip {address:#x} insn {text}",
    IretRetired: "vnmi_lab_iret: rip {target:#x} frame {frame:#x}",
    Vmrun: "vnmi_lab_vmrun: rip {rip:#x} event_inj {event_inj:#x}",
    VmExit: "vnmi_lab_vmexit: code {code:#x} rip {rip:#x} info1 {info1:#x} info2 {info2:#x} int_info {int_info:#x}",
    Changed: "vnmi_lab_changed: {field} {old:#x} to {new:#x} rule {rule}",
    MemoryWritten: "vnmi_lab_written: address {address:#x} size {size} {old:#x} to {new:#x}",
    KvmCalled: "vnmi_lab_called: {function} file {file} depth {depth}",
    HostDid: "vnmi_lab_host: {text}",
    Stopped: "vnmi_lab_stopped: {why}",
}
"""The events of the lab's own system, with the fields of each in the order of the run's own record."""


def _own(event: Event) -> str:
    fields = {name: ascii_line(value) if isinstance(value, str) else value for name, value in event._asdict().items()}
    return OWN[type(event)].format(**fields)
