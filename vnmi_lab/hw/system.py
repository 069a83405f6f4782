"""The instructions that reach into the processor: flags, interrupts, IRET, ports, SVM.

``hw/insn.py`` has their bytes and intercepts; each function here is what one of them does once it is not intercepted.
It gets the address of the next instruction and sets RIP itself, so that a fault leaves RIP at the instruction.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vnmi_lab.hw import svm
from vnmi_lab.hw.delivery import CODE_SELECTOR, DATA_SELECTOR, EXCEPTION, IF, NT, ON_IRET, RF, SOFT, VM, event_word
from vnmi_lab.hw.events import Fault, IretRetired
from vnmi_lab.hw.memory import M64, PAGE

if TYPE_CHECKING:
    from vnmi_lab.hw.cpu import Cpu

RETRY = 2
"""A value of ``attention``: the instruction was not executed; ``Cpu.step`` must do it."""
_FRAME = Struct("<5Q")
STI_SHADOW, MOVSS_SHADOW = 1, 2
POPF_BITS = 0x247FD5
"""What POPF can change at CPL 0: not VM, VIF, VIP, RF."""
CPUID = {
    # leaf: eax, ebx, ecx, edx. Only what a guest of this lab looks at.
    0x0: (0x1, 0x68747541, 0x444D4163, 0x69746E65),  # "AuthenticAMD"
    0x80000000: (0x8000000A, 0, 0, 0),
    0x80000001: (0, 0, 1 << 2, 1 << 29),  # SVM; long mode
    0x8000000A: (1, 16, 0, 1 << 25 | 1 << 16 | 1 << 5 | 1 << 3),  # VNMI, VGIF, VMCB clean bits, NRIPS
}


def cli(cpu: Cpu, next_rip: int) -> None:
    """CLI."""
    cpu.rflags &= ~IF
    cpu.rip = next_rip


def sti(cpu: Cpu, next_rip: int) -> None:
    """STI: the shadow opens only when IF goes from 0 to 1."""
    if not cpu.rflags & IF:
        cpu.rflags |= IF
        if cpu.on("R-STI-SHADOW"):
            cpu.shadow = STI_SHADOW
    cpu.attention = 1
    cpu.rip = next_rip


def mov_ss(cpu: Cpu, next_rip: int, selector: int) -> None:
    """MOV SS: opens a shadow unless it stands in the shadow of a MOV SS."""
    if not _fits_ss(selector) and cpu.on("R-SS-LOAD"):
        raise Fault(13, selector & 0xFFFC)
    cpu.ss = selector & 0xFFFF
    if cpu.on("R-MOVSS-SHADOW") and not (cpu.shadow_before == MOVSS_SHADOW and cpu.on("R-MOVSS-TWICE")):
        cpu.shadow = MOVSS_SHADOW
    cpu.attention = 1
    cpu.rip = next_rip


def _fits_ss(selector: int) -> bool:
    """Return whether SS can hold a selector at CPL 0: the flat data segment with RPL 0, or a null one."""
    return selector == DATA_SELECTOR or not selector & ~3


def hlt(cpu: Cpu, next_rip: int) -> None:
    """HLT."""
    cpu.change("R-HLT", "halted", 1)
    cpu.attention = 1
    cpu.rip = next_rip


def pause(cpu: Cpu, next_rip: int) -> None:
    """PAUSE."""
    cpu.rip = next_rip


def pushfq(cpu: Cpu, next_rip: int) -> None:
    """PUSHFQ: RF and VM are pushed as 0."""
    rsp = (cpu.r[4] - 8) & M64
    cpu.write(rsp, 8, cpu.rflags & ~(RF | VM))
    cpu.r[4] = rsp
    cpu.rip = next_rip


def popfq(cpu: Cpu, next_rip: int) -> None:
    """POPFQ."""
    cpu.rflags = cpu.read(cpu.r[4], 8) & POPF_BITS | 2
    cpu.r[4] = (cpu.r[4] + 8) & M64
    cpu.attention = 1
    cpu.rip = next_rip


def int_n(cpu: Cpu, next_rip: int, vector: int) -> None:
    """INT n: a software interrupt; RIP and the shadow stay as they are until the handler is entered."""
    cpu.shadow = cpu.shadow_before
    cpu.raise_event(event_word(SOFT, vector), next_rip, soft=True)


def int3(cpu: Cpu, next_rip: int) -> None:
    """INT3: a trap-like exception whose gate must allow CPL."""
    cpu.shadow = cpu.shadow_before
    cpu.raise_event(event_word(EXCEPTION, 3), next_rip, soft=True)


def iretq(cpu: Cpu, next_rip: int) -> None:  # noqa: ARG001 - every system instruction is called alike
    """IRETQ: pop and validate five quadwords; only a completed one ends NMI masking."""
    frame = cpu.r[4]
    try:
        rip, cs, flags, rsp, ss = _pop_frame(cpu, frame)
        _check_iret(cpu, rip, cs & 0xFFFF, ss & 0xFFFF)
    except Fault:
        if not _has_virtual_nmis(cpu):
            _unmask_at_fault(cpu)
        raise
    cpu.cs, cpu.ss = cs & 0xFFFF, ss & 0xFFFF
    cpu.rflags, cpu.rf_before = flags & (POPF_BITS | RF) | 2, 0  # RF, too, is the frame's now
    cpu.r[4], cpu.rip = rsp, rip
    _unmask(cpu)
    _leave_frame(cpu, frame)
    if cpu.sink is not None:
        cpu.sink(IretRetired(ON_IRET[_has_virtual_nmis(cpu)][0][0], frame, rip))
    cpu.attention = 1


def _pop_frame(cpu: Cpu, frame: int) -> tuple[int, ...]:
    """Return RIP, CS, RFLAGS, RSP and SS as they stand on the stack."""
    if cpu.is_plain(frame, _FRAME.size):
        return _FRAME.unpack(cpu.memory.read_bytes(frame, _FRAME.size))
    return tuple(cpu.read((frame + 8 * i) & M64, 8) for i in range(5))


def _check_iret(cpu: Cpu, rip: int, cs: int, ss: int) -> None:
    if not cpu.on("R-IRET-CHECK"):
        return
    if cpu.rflags & NT:  # long mode has no task to return to
        raise Fault(13, 0)
    if cs != CODE_SELECTOR:
        raise Fault(13, cs & 0xFFFC)
    if rip >> 47 not in (0, 0x1FFFF):
        raise Fault(13, 0)
    if not _fits_ss(ss):
        raise Fault(13, ss & 0xFFFC)


def _leave_frame(cpu: Cpu, frame: int) -> None:
    """Forget the frame that this IRET popped and any above it; a frame of the guest's own making ends the innermost."""
    for i in range(len(cpu.frames) - 1, -1, -1):
        if cpu.frames[i][1] == frame:
            cpu.frames = cpu.frames[:i]
            return
    cpu.frames = cpu.frames[:-1]


def _has_virtual_nmis(cpu: Cpu) -> bool:
    return bool(cpu.guest_mode and cpu.v_nmi_enable)


def _unmask(cpu: Cpu) -> None:
    for rule, field, new in ON_IRET[_has_virtual_nmis(cpu)]:
        cpu.change(rule, field, new)


def _unmask_at_fault(cpu: Cpu) -> None:
    """Answer the open question whether an IRET that faults ends physical NMI masking."""
    if not cpu.on("R-IRET-FAULT"):
        cpu.change("R-IRET-UNMASK", "nmi_mask", 0)
    elif cpu.switches.faulting_iret_unmasks:
        cpu.change("R-IRET-FAULT", "nmi_mask", 0)


def lidt(cpu: Cpu, next_rip: int, address: int) -> None:
    """LIDT: limit (2 bytes) and base (8 bytes) from memory."""
    limit, base = cpu.read(address, 2), cpu.read((address + 2) & M64, 8)
    cpu.idt_limit, cpu.idt_base = limit, base
    cpu.rip = next_rip


def cpuid(cpu: Cpu, next_rip: int) -> None:
    """CPUID: leaves outside the table read 0."""
    leaf = CPUID.get(cpu.r[0] & 0xFFFFFFFF, (0, 0, 0, 0))
    cpu.r[0], cpu.r[3], cpu.r[1], cpu.r[2] = leaf
    cpu.rip = next_rip


def rdtsc(cpu: Cpu, next_rip: int) -> None:
    """RDTSC: the model's clock is its count of steps, plus TSC_OFFSET in a guest."""
    if cpu.bursting:
        cpu.attention = RETRY  # a burst counts its steps only at its end; ``step`` counts each
        return
    now = (cpu.steps + cpu.tsc_offset) & M64
    cpu.r[0], cpu.r[2] = now & 0xFFFFFFFF, now >> 32
    cpu.rip = next_rip


def in_port(cpu: Cpu, next_rip: int, port: int, size: int) -> None:
    """IN: no device answers, so every bit reads 1."""
    if not _io_exit(cpu, next_rip, port, size, 1):
        ones = (1 << 8 * size) - 1
        cpu.r[0] = cpu.r[0] & ~0xFF | 0xFF if size == 1 else ones
        cpu.rip = next_rip


def out_port(cpu: Cpu, next_rip: int, port: int, size: int) -> None:
    """OUT: hands port, value and size to ``on_out``."""
    if not _io_exit(cpu, next_rip, port, size, 0):
        if cpu.on_out is not None:
            cpu.on_out(port, cpu.r[0] & (1 << 8 * size) - 1, size)
        cpu.rip = next_rip


def _io_exit(cpu: Cpu, next_rip: int, port: int, size: int, direction: int) -> bool:
    """Exit 7Bh if the permission map says so; EXITINFO1 as APM 15.10.2 lays it out."""
    if not cpu.intercepts >> 27 & 1 or not cpu.on("R-ICPT-IOIO"):
        return False
    bits = cpu.memory.read(cpu.iopm_base_pa + port // 8, 2) >> port % 8
    if not bits & (1 << size) - 1:
        return False
    cpu.intercept(0x7B, next_rip, port << 16 | 1 << 9 | size << 4 | direction, next_rip)
    return True


def vmmcall(cpu: Cpu, next_rip: int) -> None:
    """VMMCALL that nobody intercepts."""
    if cpu.on("R-VMMCALL-UD"):
        raise Fault(6)
    cpu.rip = next_rip


def vmrun(cpu: Cpu, next_rip: int) -> None:
    """VMRUN of the VMCB at RAX; the host resumes at the next instruction after #VMEXIT."""
    _need_svme(cpu)
    address = cpu.r[0]
    if (address % PAGE or address >> svm.PHYSICAL_BITS) and cpu.on("R-VMRUN-ADDRESS"):
        raise Fault(13, 0)
    cpu.rip = next_rip
    cpu.attention = 1
    svm.vmrun(cpu, address & ~(PAGE - 1))


def stgi(cpu: Cpu, next_rip: int) -> None:
    """STGI: V_GIF under virtual GIF, GIF otherwise."""
    _need_svme(cpu)
    _set_gif(cpu, 1)
    cpu.rip = next_rip


def clgi(cpu: Cpu, next_rip: int) -> None:
    """CLGI: V_GIF under virtual GIF, GIF otherwise."""
    _need_svme(cpu)
    _set_gif(cpu, 0)
    cpu.rip = next_rip


def _need_svme(cpu: Cpu) -> None:
    if not cpu.svme and cpu.on("R-SVME-UD"):
        raise Fault(6)


def _set_gif(cpu: Cpu, value: int) -> None:
    if cpu.guest_mode and cpu.v_gif_enable and cpu.on("R-VGIF"):
        cpu.change("R-VGIF", "v_gif", value)
    else:
        cpu.change("R-STGI" if value else "R-CLGI", "gif", value)
    cpu.attention = 1
