"""The local APIC's page, as far as a guest of this lab needs it: the ICR that sends NMIs and interrupts.

Requests are remembered one bit a vector; there is no in-service register and no EOI, so a taken interrupt is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vnmi_lab.hw.cpu import Cpu

BASE = 0xFEE00000
ID, ICR_LOW, ICR_HIGH = 0x20, 0x300, 0x310
FIXED, SMI, NMI, INIT = 0, 2, 4, 5
SELF, ALL, OTHERS = 1, 2, 3


def read(cpu: Cpu, offset: int) -> int:
    """Return a register of this processor's APIC; those the model lacks read 0. The APIC's ID is 0."""
    return {ICR_LOW: cpu.icr_low, ICR_HIGH: cpu.icr_high}.get(offset, 0)


def write(cpu: Cpu, offset: int, value: int) -> None:
    """Write a register; writing ICR_LOW sends what it says (APM 16.5)."""
    if offset == ICR_HIGH:
        cpu.icr_high = value & 0xFF000000
    elif offset == ICR_LOW:
        cpu.icr_low = value & 0xCCFFF
        _send(cpu, value)


def _send(cpu: Cpu, icr: int) -> None:
    shorthand = icr >> 18 & 3
    to_self = shorthand in (SELF, ALL) or (shorthand == 0 and cpu.icr_high >> 24 in (0, 0xFF))
    if not to_self:
        return
    mode = icr >> 8 & 7
    if mode == NMI and cpu.on("R-ICR-NMI"):
        cpu.arrive("nmi")
    elif mode == FIXED and cpu.on("R-ICR-FIXED"):
        cpu.arrive_intr(icr & 0xFF)
    elif mode == SMI:
        cpu.arrive("smi")
    elif mode == INIT and icr >> 14 & 1:
        cpu.arrive("init")
