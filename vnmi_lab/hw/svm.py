"""VMRUN and #VMEXIT: what crosses between the VMCB and the processor, and the checks on the way in.

The processor has registers of its own; the VMCB is memory. VMRUN loads, #VMEXIT writes back, and in between a write to
the VMCB is not seen (for V_NMI: APM 15.21.10). Which field goes where is a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vnmi_lab.hw.bits import Register
from vnmi_lab.hw.delivery import EXCEPTION, IF, NMI, SOFT, TF, VALID, kind_of, vector_of
from vnmi_lab.hw.events import VmExit, Vmrun
from vnmi_lab.hw.memory import M64, PAGE
from vnmi_lab.hw.vmcb import FIELDS, LAYOUT, EventInj, IntCtl, Vmcb

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.hw.cpu import Cpu

INVALID, NPF, SHUTDOWN = M64, 0x400, 0x7F
PHYSICAL_BITS = 52

EXIT_NAMES: dict[int, str] = {
    0x60: "INTR",
    0x61: "NMI",
    0x62: "SMI",
    0x63: "INIT",
    0x64: "VINTR",
    0x6A: "IDTR_WRITE",
    0x6E: "RDTSC",
    0x70: "PUSHF",
    0x71: "POPF",
    0x72: "CPUID",
    0x73: "RSM",
    0x74: "IRET",
    0x75: "SWINT",
    0x77: "PAUSE",
    0x78: "HLT",
    0x7B: "IOIO",
    0x7F: "SHUTDOWN",
    0x80: "VMRUN",
    0x81: "VMMCALL",
    0x84: "STGI",
    0x85: "CLGI",
    0x400: "NPF",
    INVALID: "INVALID",
    **{
        0x40 + vector: f"EXC_{name}"
        for vector, name in {
            0: "DE",
            1: "DB",
            2: "NMI",
            3: "BP",
            4: "OF",
            5: "BR",
            6: "UD",
            7: "NM",
            8: "DF",
            10: "TS",
            11: "NP",
            12: "SS",
            13: "GP",
            14: "PF",
            16: "MF",
            17: "AC",
            18: "MC",
            19: "XF",
            21: "CP",
        }.items()
    },
}


def exit_name(code: int) -> str:
    """Return an exit code's name ("IRET", "EXC_DB"), or its hex where it has none here."""
    return EXIT_NAMES.get(code, f"{code:#x}")


def _bit(register: type[Register], name: str) -> Callable[[int], int]:
    return register.FIELDS[name].get


# What VMRUN loads: rule, VMCB field, the processor's field, how to take the value out of the field.
LOADS: tuple[tuple[str, str, str, Callable[[int], int]], ...] = (
    *(("R-VMRUN", name, name, int) for name in ("rip", "rsp", "rax", "cr2", "dr6", "idt_base", "idt_limit")),
    ("R-VMRUN", "rflags", "rflags", lambda value: value & 0x3D7FD5 | 2),
    *(("R-VMRUN", f"{name}_selector", name, int) for name in ("cs", "ss")),
    *(("R-VMRUN", name, name, int) for name in ("intercept_exceptions", "iopm_base_pa", "tsc_offset")),
    ("R-VMRUN", "nested_ctl", "nested_paging", lambda value: value & 1),
    ("R-VMRUN-SHADOW", "int_state", "shadow", lambda value: value & 1),
    *(("R-VMRUN-VIRQ", "int_ctl", name, _bit(IntCtl, name)) for name in ("v_tpr", "v_irq", "v_gif")),
    *(
        ("R-VMRUN", "int_ctl", name, _bit(IntCtl, name))
        for name in ("v_intr_prio", "v_ign_tpr", "v_intr_masking", "v_gif_enable", "v_nmi_enable")
    ),
    ("R-VMRUN", "int_vector", "v_intr_vector", lambda value: value & 0xFF),
)
# What #VMEXIT writes back besides the bits of int_ctl.
SAVES: tuple[tuple[str, str, str], ...] = (
    *(("R-VMEXIT", name, name) for name in ("rip", "rsp", "rax", "rflags", "cr2", "dr6", "idt_base", "idt_limit")),
    *(("R-VMEXIT", f"{name}_selector", name) for name in ("cs", "ss")),
)
# Guest-only state; zero whenever no guest runs, so that equal machines compare equal.
GUEST_ONLY = (
    "intercepts",
    "intercept_exceptions",
    "iopm_base_pa",
    "tsc_offset",
    "nested_paging",
    "v_tpr",
    "v_irq",
    "v_gif",
    "v_intr_prio",
    "v_ign_tpr",
    "v_intr_masking",
    "v_gif_enable",
    "v_nmi_enable",
    "v_nmi_pending",
    "v_nmi_blocking",
    "v_intr_vector",
    "shadow",
    "trap",
    "injection",
    "halted",
)
NO_INSTRUCTION = 0x1F | 1 << 27 | 1 << 31
"""Intercepts that no single instruction decides: INTR, NMI, SMI, INIT, VINTR, IOIO_PROT, SHUTDOWN."""
HOST_SAVED = ("rip", "rsp", "rax", "rflags", "cs", "ss", "idt_base", "idt_limit")

_EFER_KNOWN, _EFER_SVME, _LONG_MODE = 0xFD01, 1 << 12, 0x500
_CR4_KNOWN = 0xF7FFFF
_EFER_LME, _CR0_PG, _CR4_PAE, _CS_L_D = 1 << 8, 1 << 31, 1 << 5, 3 << 9
_EXCEPTION_VECTORS = frozenset({0, 1, 3, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 21})  # 4 and 5 not in 64-bit mode


def _bad_exception(read: Callable[[str], int]) -> bool:
    event = read("event_inj")
    return bool(event & VALID) and kind_of(event) == EXCEPTION and event & 0xFF not in _EXCEPTION_VECTORS


# Consistency checks of VMRUN (APM 15.5.1, 15.20, 15.21.10): rule, and what is wrong. Any of them exits INVALID.
CHECKS: tuple[tuple[str, Callable[[Callable[[str], int]], object]], ...] = (
    ("R-CHECK-SVME", lambda read: not read("efer") & _EFER_SVME),
    ("R-CHECK-VMRUN", lambda read: not read("intercept_4") & 1),
    ("R-CHECK-ASID", lambda read: read("asid") == 0),
    ("R-CHECK-CR0", lambda read: read("cr0") >> 32 or read("cr0") >> 29 & 3 == 1),
    ("R-CHECK-CR3", lambda read: read("cr3") >> PHYSICAL_BITS),
    ("R-CHECK-CR4", lambda read: read("cr4") & ~_CR4_KNOWN),
    ("R-CHECK-EFER", lambda read: read("efer") & ~_EFER_KNOWN),
    (
        "R-CHECK-LONG",
        lambda read: (
            read("efer") & _EFER_LME
            and read("cr0") & _CR0_PG
            and (not read("cr0") & 1 or not read("cr4") & _CR4_PAE or read("cs_attrib") & _CS_L_D == _CS_L_D)
        ),
    ),
    ("R-CHECK-DR", lambda read: read("dr6") >> 32 or read("dr7") >> 32),
    (
        "R-CHECK-MAPS",
        lambda read: max(read("iopm_base_pa") + 3 * PAGE, read("msrpm_base_pa") + 2 * PAGE) > 1 << PHYSICAL_BITS,
    ),
    (
        "R-CHECK-INJ-TYPE",
        lambda read: read("event_inj") & VALID and kind_of(read("event_inj")) not in (0, NMI, EXCEPTION, SOFT),
    ),
    ("R-CHECK-INJ-EXC", _bad_exception),
    ("R-CHECK-VNMI", lambda read: read("int_ctl") >> 26 & 1 and not read("intercept_3") & 2),
    (
        "R-MODEL-RING0",
        lambda read: (
            read("cpl")
            or read("efer") & _LONG_MODE != _LONG_MODE
            or read("cr0") & 0x80000001 != 0x80000001
            or not read("cs_attrib") >> 9 & 1
        ),
    ),
)


def failed_check(read: Callable[[str], int], off: frozenset[str] = frozenset()) -> str | None:
    """Return the rule of the first consistency check that a VMCB fails, or None."""
    return next((rule for rule, wrong in CHECKS if rule not in off and wrong(read)), None)


def vmrun(cpu: Cpu, pa: int) -> None:
    """Enter the guest whose VMCB is at ``pa``, or answer INVALID. The first guest boundary comes with the next step."""
    vmcb = Vmcb(cpu.memory, pa)
    page = _effective(cpu, vmcb)

    def read(name: str) -> int:
        row = FIELDS[name]
        return int.from_bytes(page[row.offset : row.offset + row.size], "little")

    cpu.vmcb_pa = pa
    wrong = failed_check(read, cpu.off)
    if wrong is not None:
        cpu.change("R-VMEXIT-GIF", "gif", 0)
        cpu.emit(VmExit(wrong, read("rip"), INVALID, 0, 0, 0))
        _store(cpu, vmcb, "R-INVALID", "exit_code", INVALID)
        return
    cpu.emit(Vmrun("R-VMRUN", read("rip"), read("event_inj")))
    cpu.host = tuple(getattr(cpu, name) for name in HOST_SAVED)
    cpu.host_if = cpu.rflags & IF
    cpu.guest_mode = 1
    cpu.changed("R-VMRUN", "guest_mode", 0, 1)
    cpu.intercepts = read("intercept_3") | read("intercept_4") << 32
    if not cpu.on("R-ICPT-INSN"):
        cpu.intercepts &= NO_INSTRUCTION
    for rule, field, name, extract in LOADS:
        cpu.change(rule, name, extract(read(field)))
    if cpu.v_nmi_enable:
        for name in ("v_nmi_pending", "v_nmi_blocking"):
            cpu.change("R-VMRUN-VNMI", name, IntCtl.FIELDS[name].get(read("int_ctl")))
    cpu.change("R-VMRUN-GIF", "gif", 1)
    _load_injection(cpu, read("event_inj"), read("next_rip"))
    cpu.change_world()


def _effective(cpu: Cpu, vmcb: Vmcb) -> bytes:
    """Return the VMCB as this processor sees it: cached values stand in for fields under a set clean bit."""
    page = vmcb.to_bytes()
    if not cpu.switches.caching or "R-CLEAN" in cpu.off or cpu.cache is None or cpu.cache[0] != vmcb.pa:
        return page
    clean = vmcb.clean.named()
    merged = bytearray(page)
    for row in LAYOUT:
        if row.clean is not None and clean[row.clean]:
            span = slice(row.offset, row.offset + row.size)
            merged[span] = cpu.cache[1][span]
    return bytes(merged)


def _load_injection(cpu: Cpu, event: int, next_rip: int) -> None:
    if not event & VALID:
        return
    cpu.change("R-EVENTINJ", "injection", event)
    cpu.injection_rip = next_rip if cpu.switches.injected_soft_uses_nrip else cpu.rip
    if kind_of(event) == NMI:
        if cpu.v_nmi_enable:
            cpu.change("R-EVENTINJ-VNMI", "v_nmi_blocking", 1)
        elif not cpu.on("R-EVENTINJ-NMI"):
            cpu.nmi_mask = 1  # what the rule denies: injection masking like an arrival


def vmexit(cpu: Cpu, code: int, info1: int = 0, info2: int = 0, next_rip: int = 0) -> None:
    """Leave the guest in the order of APM 15.6: clear GIF, write its state and the reason, bring the host back."""
    vmcb = Vmcb(cpu.memory, cpu.vmcb_pa)
    int_info = cpu.in_flight if cpu.on("R-EXITINTINFO") else 0
    cpu.change("R-VMEXIT-GIF", "gif", 0)
    cpu.emit(VmExit("R-VMEXIT", cpu.rip, code, info1, info2, int_info))
    for rule, field, name in SAVES:
        _store(cpu, vmcb, rule, field, getattr(cpu, name))
    _store(cpu, vmcb, "R-VMEXIT-SHADOW", "int_state", vmcb.int_state.replace(interrupt_shadow=int(cpu.shadow > 0)))
    _save_int_ctl(cpu, vmcb)
    for field, value in (("exit_code", code), ("exit_info_1", info1), ("exit_info_2", info2)):
        _store(cpu, vmcb, "R-VMEXIT", field, value)
    _store(cpu, vmcb, "R-EXITINTINFO", "exit_int_info", int_info)
    _store(cpu, vmcb, "R-NRIP", "next_rip", next_rip)
    _store(cpu, vmcb, "R-EVENTINJ-V", "event_inj", EventInj(vmcb.event_inj).replace(valid=0))
    if cpu.switches.caching:
        cpu.cache = (vmcb.pa, vmcb.to_bytes())
    _back_to_host(cpu)


def _back_to_host(cpu: Cpu) -> None:
    assert cpu.host is not None
    cpu.in_flight = 0
    for name, value in zip(HOST_SAVED, cpu.host, strict=True):
        cpu.change("R-VMEXIT-HOST", name, value)
    for name in GUEST_ONLY:
        setattr(cpu, name, 0)
    cpu.host = None
    cpu.host_if = 0
    cpu.guest_mode = 0
    cpu.changed("R-VMEXIT", "guest_mode", 1, 0)
    if cpu.rflags & TF:  # the host single-steps: VMRUN completes now (APM 15.5.1)
        cpu.change("R-TF-TRAP", "trap", 1)
    cpu.change_world()


def _save_int_ctl(cpu: Cpu, vmcb: Vmcb) -> None:
    old = new = IntCtl(vmcb.int_ctl)
    if cpu.on("R-VMEXIT-VIRQ"):
        new = new.replace(v_tpr=cpu.v_tpr, v_irq=cpu.v_irq)
        if cpu.v_gif_enable:
            new = new.replace(v_gif=cpu.v_gif)
    _report(cpu, "R-VMEXIT-VIRQ", old, new)
    if cpu.v_nmi_enable and cpu.on("R-VMEXIT-VNMI"):
        before = new
        new = new.replace(v_nmi_pending=cpu.v_nmi_pending, v_nmi_blocking=cpu.v_nmi_blocking)
        _report(cpu, "R-VMEXIT-VNMI", before, new)
        new = _exit_in_delivery(cpu, new)
    vmcb.store("int_ctl", new)


def _exit_in_delivery(cpu: Cpu, ctl: IntCtl) -> IntCtl:
    """Apply the rule for an NMI whose delivery this exit interrupts: it is not in service yet (APM 15.21.10)."""
    if not (cpu.in_flight and kind_of(cpu.in_flight) == NMI):
        return ctl
    rule = "R-EVENTINJ-EXIT" if cpu.in_flight_injected else "R-VNMI-EXIT"
    if not cpu.on(rule) or (cpu.in_flight_injected and cpu.switches.injected_nmi_exit_keeps_mask):
        return ctl
    new = ctl.replace(v_nmi_blocking=0)
    _report(cpu, rule, ctl, new)
    return new


def _report(cpu: Cpu, rule: str, old: IntCtl, new: IntCtl) -> None:
    if old != new:
        for name, bits in IntCtl.FIELDS.items():
            cpu.changed(rule, f"int_ctl.{name}", bits.get(old), bits.get(new))


def _store(cpu: Cpu, vmcb: Vmcb, rule: str, field: str, value: int) -> None:
    """Write a field as the processor does: without touching the clean bits, which are software's."""
    if cpu.on(rule):
        old = int(getattr(vmcb, field)) if cpu.sink is not None else value
        vmcb.store(field, value)
        cpu.changed(rule, f"vmcb.{field}", old, value)


def vector_name(word: int) -> str:
    """Return what an event word is, in words: "NMI", "#PF", "INTR 40h", "INT 80h"."""
    kind, vector = kind_of(word), vector_of(word)
    if kind == NMI:
        return "NMI"
    if kind == EXCEPTION:
        return "#" + exit_name(0x40 + vector).removeprefix("EXC_")
    return f"{'INT' if kind == SOFT else 'INTR'} {vector:02X}h"
