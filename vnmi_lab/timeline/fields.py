"""What each field of a state is called, how it is written, and which of them are drawn as lanes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vnmi_lab.hw.delivery import NMI_WORD, kind_of


@dataclass(frozen=True, slots=True)
class Field:
    """One field as the panels show it: ``note`` is the other name, the bit number or the unit."""

    key: str
    group: str
    form: str
    note: str = ""


KVM, NMI, INTERRUPTS, VMCB, REGISTERS = "KVM", "NMI", "Interrupts", "VMCB", "Registers"

FIELDS = (
    Field("rip", REGISTERS, "address"),
    Field("rsp", REGISTERS, "address"),
    Field("rflags", REGISTERS, "flags"),
    *(Field(name, REGISTERS, "register") for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp")),
    *(Field(f"r{n}", REGISTERS, "register") for n in range(8, 16)),
    Field("cr2", REGISTERS, "register"),
    Field("nmi_queued", KVM, "count", "NMIs posted"),
    Field("nmi_pending", KVM, "count", "NMIs accepted"),
    Field("nmi_injected", KVM, "bit", "on its way into the guest"),
    Field("nmi_masked", KVM, "bit", "KVM's own mask"),
    Field("awaiting_iret_completion", KVM, "bit", "IRET has exited"),
    Field("nmi_iret_rip", KVM, "address", "RIP of that IRET"),
    Field("nmi_singlestep", KVM, "bit", "TF, RF borrowed"),
    Field("iret_intercept", KVM, "bit", "VMCB, IRET exits"),
    Field("requests", KVM, "requests", "KVM_REQ_*"),
    Field("kicks", KVM, "count", "INTRs sent to make it exit"),
    Field("nmi_mask", NMI, "bit", "physical mask"),
    Field("nmi_latch", NMI, "bit", "physical, one deep"),
    Field("handler_depth", NMI, "count", "NMI handlers entered and not left"),
    Field("host_nmi", NMI, "bit", "NMI waiting for the host"),
    Field("IF", INTERRUPTS, "bit", "RFLAGS bit 9"),
    Field("TF", INTERRUPTS, "bit", "RFLAGS bit 8"),
    Field("gif", INTERRUPTS, "bit", "global interrupt flag"),
    Field("shadow", INTERRUPTS, "shadow", "interrupt shadow"),
    Field("halted", INTERRUPTS, "bit", "waiting in HLT"),
    Field("guest_mode", INTERRUPTS, "bit", "running a guest"),
    Field("int_ctl", VMCB, "vmcb", "at 060h"),
    Field("v_irq", VMCB, "bit", "bit 8, V_IRQ"),
    Field("v_gif", VMCB, "bit", "bit 9, V_GIF"),
    Field("v_nmi_pending", VMCB, "bit", "bit 11, V_NMI"),
    Field("v_nmi_blocking", VMCB, "bit", "bit 12, V_NMI_MASK"),
    Field("v_nmi_enable", VMCB, "bit", "bit 26, V_NMI_ENABLE"),
    Field("live_v_nmi_pending", VMCB, "bit", "V_NMI inside the processor"),
    Field("live_v_nmi_blocking", VMCB, "bit", "V_NMI_MASK inside the processor"),
    Field("int_state", VMCB, "vmcb", "at 068h"),
    Field("exit_code", VMCB, "vmcb", "at 070h, EXITCODE"),
    Field("exit_info_1", VMCB, "vmcb", "at 078h, EXITINFO1"),
    Field("exit_info_2", VMCB, "vmcb", "at 080h, EXITINFO2"),
    Field("exit_int_info", VMCB, "vmcb", "at 088h, EXITINTINFO"),
    Field("event_inj", VMCB, "vmcb", "at 0A8h, EVENTINJ"),
    Field("clean", VMCB, "vmcb", "at 0C0h, clean bits"),
)

OPEN = {"rip", "rsp", "rflags", "nmi_mask", "nmi_latch", "IF", "gif", "int_ctl", "event_inj"}
OPEN |= {"v_nmi_enable", "v_nmi_pending", "v_nmi_blocking"}
OPEN |= {"nmi_pending", "nmi_injected", "nmi_masked", "awaiting_iret_completion", "iret_intercept", "requests"}
"""Fields the panel always shows; of the others, those that stay 0 in a run and the general registers are folded."""


OUTSIDE, SOFTWARE, CONTROL, WORLD, GUEST, NMIS = "outside", "kvm", "vmcb", "world", "guest", "nmis"
GROUPS = {
    OUTSIDE: "outside",
    SOFTWARE: "KVM",
    CONTROL: "VMCB",
    WORLD: "world",
    GUEST: "guest",
    NMIS: "NMIs",
}
"""Whose the lanes are, top to bottom; on bare metal the guest's are the processor's (``group_names``)."""


def group_names(*, bare: bool) -> dict[str, str]:
    """Give the name of each group of lanes."""
    return GROUPS | {GUEST: "processor"} if bare else GROUPS


@dataclass(frozen=True, slots=True)
class Wave:
    """A field drawn as a digital wave: ``high`` is the word written in its high part.

    ``show`` says when it is drawn unasked: "always", "set" (it is high at some step), "moves" (it changes) or "asked".
    A value is high when it has a bit of ``mask``; a ``#`` in ``high`` stands for it. ``kvm`` is ``show`` under KVM,
    where the physical processor's own NMI state is the host's business.
    """

    group: str
    key: str
    detail: str
    high: str
    style: str
    show: str
    mask: int = -1
    kvm: str = ""


EVENT_VALID = 1 << 31
"""EVENTINJ bit 31, V: the field holds an event (APM 15.20)."""


def is_nmi(word: int) -> bool:
    """Say whether EVENTINJ or EXITINTINFO holds an NMI."""
    return bool(word & EVENT_VALID) and kind_of(word) == kind_of(NMI_WORD)


WAVES = (
    Wave(SOFTWARE, "nmi_queued", "posted", "# queued", "pend", "set"),
    Wave(SOFTWARE, "nmi_pending", "accepted", "# pending", "pend", "set"),
    Wave(SOFTWARE, "nmi_injected", "on its way", "injected", "plain", "set"),
    Wave(SOFTWARE, "nmi_masked", "KVM's own mask", "masked", "mask", "set"),
    Wave(SOFTWARE, "awaiting_iret_completion", "IRET has exited", "waiting", "plain", "set"),
    Wave(SOFTWARE, "nmi_singlestep", "TF, RF borrowed", "stepping", "plain", "set"),
    Wave(CONTROL, "event_inj", "EVENTINJ, 0A8h", "", "bus", "set", EVENT_VALID),
    Wave(CONTROL, "exit_int_info", "EXITINTINFO, 088h", "", "bus", "set", EVENT_VALID),
    Wave(CONTROL, "iret_intercept", "IRET exits", "intercepted", "plain", "set"),
    Wave(CONTROL, "v_nmi_enable", "V_NMI_ENABLE, bit 26", "enabled", "plain", "set"),
    Wave(CONTROL, "v_nmi_pending", "V_NMI, bit 11", "pending", "pend", "set"),
    Wave(CONTROL, "v_nmi_blocking", "V_NMI_MASK, bit 12", "blocking", "mask", "set"),
    Wave(CONTROL, "v_irq", "V_IRQ, bit 8", "pending", "plain", "set"),
    Wave(CONTROL, "v_gif", "V_GIF, bit 9", "on", "plain", "moves"),
    Wave(GUEST, "live_v_nmi_pending", "in the processor", "pending", "pend", "moves"),
    Wave(GUEST, "live_v_nmi_blocking", "in the processor", "blocking", "mask", "moves"),
    Wave(GUEST, "nmi_mask", "physical mask", "masked", "mask", "always", kvm="moves"),
    Wave(GUEST, "nmi_latch", "physical, one deep", "pending", "pend", "always", kvm="moves"),
    Wave(GUEST, "handler_depth", "NMI handlers entered", "#", "plain", "asked"),
    Wave(GUEST, "IF", "RFLAGS bit 9", "on", "plain", "moves"),
    Wave(GUEST, "gif", "global interrupt flag", "on", "plain", "moves", kvm="asked"),
    Wave(GUEST, "shadow", "interrupt shadow", "", "shadow", "moves"),
)

REQUESTS = ("NMI", "EVENT", "SMI")
"""The bits of ``requests``, from bit 0: KVM_REQ_NMI and so on."""

SHADOWS = ("none", "STI", "MOV SS")
"""What an interrupt shadow comes from, by the number a state holds."""


def form_of(forms: Mapping[str, str], field: str) -> str:
    """Give the form of a field that a change names: ``vmcb.rip`` is written like ``rip``, ``[0x1000]`` is memory."""
    return "register" if field.startswith("[") else forms.get(field.removeprefix("vmcb."), "vmcb")


def written(form: str, value: object) -> str:
    """Write a value the way its form asks: APM hex for VMCB fields, 0x for addresses and registers."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if form in {"shadow", "requests"} and isinstance(value, int):
        return _named(form, value)
    if form == "vmcb":
        return f"{value:X}h"
    if form in {"address", "register", "flags"}:
        return f"{value:#x}"
    return str(value)


def _named(form: str, value: int) -> str:
    if form == "requests":
        return " ".join(name for bit, name in enumerate(REQUESTS) if value >> bit & 1) or "none"
    return SHADOWS[value] if value in range(len(SHADOWS)) else str(value)


FLAGS = (
    ("CF", 0),
    ("PF", 2),
    ("AF", 4),
    ("ZF", 6),
    ("SF", 7),
    ("TF", 8),
    ("IF", 9),
    ("DF", 10),
    ("OF", 11),
    ("RF", 16),
)
"""The flags of RFLAGS that the panels name, with their bits (APM vol. 1, 3.1.4)."""
