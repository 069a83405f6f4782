"""The vCPU as KVM keeps it: software state beside the processor and the VMCB."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from vnmi_lab.hv.calls import rule_of
from vnmi_lab.hw.delivery import RF, TF
from vnmi_lab.hw.events import Changed, KvmCalled
from vnmi_lab.hw.vmcb import Vmcb, diff

if TYPE_CHECKING:
    from vnmi_lab.hv.ops import NmiOps
    from vnmi_lab.hw.cpu import Cpu

REQ_NMI, REQ_EVENT, REQ_SMI = 1, 2, 4
"""Bits of ``requests``: KVM_REQ_NMI, KVM_REQ_EVENT, KVM_REQ_SMI."""

STATE = (
    "nmi_queued",
    "nmi_pending",
    "nmi_injected",
    "nmi_masked",
    "awaiting_iret_completion",
    "nmi_iret_rip",
    "nmi_singlestep",
    "nmi_singlestep_guest_rflags",
    "exception",
    "irr",
    "interrupt_injected",
    "interrupt_soft",
    "soft_int_injected",
    "soft_int_old_rip",
    "soft_int_next_rip",
    "smi_pending",
    "in_smm",
    "smm_inside_nmi",
    "smm_saved",
    "requests",
    "immediate_exit",
    "signal",
    "halted",
    "soft_gif",
    "guest_mode",
    "nested_run_pending",
    "nmi_l1_to_l2",
)
KEPT = (
    "irr", "exception", "interrupt_injected", "interrupt_soft", "smi_pending", "in_smm", "smm_inside_nmi", "smm_saved",
    "halted", "soft_gif", "guest_mode",
)  # fmt: skip
"""What a migration carries beside registers, memory and the NMI events: vCPU events, LAPIC, MP and nested state."""
_state = attrgetter(*STATE)
COUNTED = ("nmi_injections", "nmi_window_exits", "kicks", "dropped", "host_nmi", "warnings")
_counted = attrgetter(*COUNTED)


@dataclass(frozen=True, slots=True)
class Features:
    """What the processor reports and what the module's parameters allow.

    ``vnmi_cpuid``: CPUID 8000_000A EDX[25]; ``vnmi``, ``vgif``: parameters of kvm_amd; ``boolean_pending``: kernels up
    to 6.3 report a pending NMI as yes or no, and take a number that is set as it is. The last four are annotated
    branches a lab can set, not machinery: the guest is an L2 (``guest_mode``) whose L1 intercepts NMIs
    (``exit_on_nmi``), whose first entry is L1's VMRUN (``nested_run_pending``), or it is an SEV-ES guest.
    """

    vnmi_cpuid: bool = True
    vnmi: bool = True
    vgif: bool = True
    boolean_pending: bool = False
    guest_mode: bool = False
    exit_on_nmi: bool = False
    nested_run_pending: bool = False
    sev_es_guest: bool = False

    @property
    def has_vnmi(self) -> bool:
        """Whether KVM uses virtual NMIs: ``vnmi = vgif && vnmi && cpu_has(VNMI)``."""
        return self.vgif and self.vnmi and self.vnmi_cpuid


class Vcpu:
    """One vCPU. The names of fields are KVM's; ``vmcb`` is vmcb01, ``cpu`` the processor that runs it.

    ``requests`` holds KVM_REQ_* bits; ``exception`` is (how, vector, error code) with how "pending" or "injected";
    ``irr`` has a bit for each interrupt that waits in the local APIC; ``interrupt_injected`` is a vector whose delivery
    is not confirmed, ``interrupt_soft`` says that it is an INT n. ``signal``: one waits for the vCPU's thread.
    """

    __slots__ = (*STATE, *COUNTED, "cpu", "exits", "features", "ops", "path", "seen", "vmcb")

    nmi_queued: int
    nmi_pending: int
    nmi_injected: bool
    nmi_masked: bool
    awaiting_iret_completion: bool
    nmi_iret_rip: int
    nmi_singlestep: bool
    nmi_singlestep_guest_rflags: int
    exception: tuple[str, int, int | None] | None
    irr: int
    interrupt_injected: int | None
    interrupt_soft: bool
    soft_int_injected: bool
    soft_int_old_rip: int
    soft_int_next_rip: int
    smi_pending: bool
    in_smm: bool
    smm_inside_nmi: bool
    smm_saved: tuple[int, ...] | None
    requests: int
    immediate_exit: bool
    signal: bool
    halted: bool
    soft_gif: bool
    guest_mode: bool
    nested_run_pending: bool
    nmi_l1_to_l2: bool
    nmi_injections: int
    nmi_window_exits: int
    kicks: int
    dropped: int
    host_nmi: int
    warnings: int

    def __init__(self, cpu: Cpu, pa: int, ops: NmiOps, features: Features) -> None:
        self.cpu, self.ops, self.features = cpu, ops, features
        self.vmcb = Vmcb(cpu.memory, pa)
        for name in COUNTED:
            setattr(self, name, 0)
        for name in STATE:
            setattr(self, name, initial(name))
        self.soft_gif = True
        self.guest_mode, self.nested_run_pending = features.guest_mode, features.nested_run_pending
        self.exits: tuple[int, ...] = ()
        self.path: list[str] = []
        self.seen: tuple[Any, bytes] | None = None

    # --- values ------------------------------------------------------------------------------------------------------

    def freeze(self) -> tuple[object, ...]:
        """Return the software state that decides what happens next."""
        return tuple(_state(self))

    def counted(self) -> tuple[object, ...]:
        """Return what was counted: nothing that happens depends on it."""
        return (*_counted(self), self.exits)

    def thaw(self, state: tuple[object, ...], counted: tuple[Any, ...]) -> None:
        """Become what ``freeze`` and ``counted`` returned."""
        for name, value in zip(STATE, state, strict=True):
            setattr(self, name, value)
        for name, value in zip(COUNTED, counted[:-1], strict=True):
            setattr(self, name, value)
        self.exits = counted[-1]

    def forget(self) -> None:
        """Become the vCPU of another machine, which got all but the NMI events: those come with KVM_SET_VCPU_EVENTS.

        RFLAGS are what KVM_GET_REGS reported, so a borrowed TF or RF does not travel.
        """
        if self.nmi_singlestep:
            self.vmcb.rflags = self.guest_rflags
        for name in STATE:
            if name not in KEPT:
                setattr(self, name, initial(name))
        self.vmcb.update("int_ctl", v_nmi_pending=0, v_nmi_blocking=0, v_irq=0, v_intr_prio=0)
        for name in ("iret", "vintr", *(("stgi",) if self.features.vgif else ())):
            self.vmcb.intercept(name, on=False)
        self.vmcb.event_inj = 0

    @property
    def guest_rflags(self) -> int:
        """The guest's RFLAGS, without the TF and RF that KVM borrowed (``svm_get_rflags``)."""
        flags = int(self.vmcb.rflags)
        if self.nmi_singlestep:
            flags &= ~((TF | RF) & ~self.nmi_singlestep_guest_rflags)
        return flags

    # --- requests ----------------------------------------------------------------------------------------------------

    def make_request(self, bit: int) -> None:
        """Raise a KVM_REQ_* bit (``kvm_make_request``)."""
        self.requests |= bit

    def check_request(self, bit: int) -> bool:
        """Take a KVM_REQ_* bit down and say whether it was up (``kvm_check_request``)."""
        was = bool(self.requests & bit)
        self.requests &= ~bit
        return was

    # --- what is running, and what it changed ------------------------------------------------------------------------

    def begin_watch(self) -> None:
        """Take what is there now as known: changes are told from here on."""
        self.path, self.seen = [], None
        self.flush()

    def enter(self, function: str, file: str) -> None:
        """Note that a function begins; what changed before it belongs to its caller."""
        self.flush()
        self.cpu.emit(KvmCalled(rule_of(function), function, file, len(self.path)))
        self.path.append(function)

    def leave(self) -> None:
        """Note that the running function ends; what changed in it is its own."""
        self.flush()
        self.path.pop()

    def flush(self) -> None:
        """Tell whoever traces what changed since the last time, by the function that is running, else by the host."""
        now = (_state(self), self.vmcb.to_bytes())
        if self.seen is not None:
            rule = rule_of(self.path[-1]) if self.path else "R-HOST"
            if self.seen[0] != now[0]:
                for name, old, new in zip(STATE, self.seen[0], now[0], strict=True):
                    if old != new:
                        self.cpu.emit(Changed(rule, name, as_int(old), as_int(new)))
            for change in diff(self.seen[1], now[1]):
                field = change.field if "." in change.field else f"vmcb.{change.field}"
                self.cpu.emit(Changed(rule, field, change.old, change.new))
        self.seen = now


def initial(name: str) -> object:
    """Return what a field of ``STATE`` is in a vCPU that has just been made."""
    kind = str(Vcpu.__annotations__[name])
    return None if "None" in kind else False if kind == "bool" else 0


def as_int(value: object) -> int:
    """Return a field of the vCPU as a number: an exception's or an interrupt's vector, 0 for none."""
    if isinstance(value, tuple):
        return int(value[1])
    return int(value) if isinstance(value, int) else 0
