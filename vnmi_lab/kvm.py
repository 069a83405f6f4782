"""A guest under KVM: the processor, the hypervisor and user space, one step at a time.

A step is one boundary of the guest, KVM's handling of one exit, KVM's way into the guest, or one arrival from
outside. Like every machine it can be frozen, put back, and does the same again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.hv import svm, x86
from vnmi_lab.hv.ops import Events, NmiOps
from vnmi_lab.hv.profiles import VNMI
from vnmi_lab.hv.svm import KICK_VECTOR, NESTED_EXIT
from vnmi_lab.hv.vcpu import REQ_EVENT, REQ_SMI, Features, Vcpu
from vnmi_lab.hw.cpu import Cpu, Snapshot
from vnmi_lab.hw.delivery import IF
from vnmi_lab.hw.events import Arrived, HostDid
from vnmi_lab.machine import BUDGET, VMCB_PA, Outcome, Schedule, Stimulus, reset_vmcb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vnmi_lab.guest import Guest
    from vnmi_lab.rules import Switches

USER, KERNEL, GUEST, EXITED = "user", "kernel", "guest", "exited"
"""Where the vCPU's thread is: in user space, about to enter, in the guest, or just out of it."""
FATAL = ("FAIL_ENTRY", "SHUTDOWN")
"""Stops that no guest should come to."""
LAST = (*FATAL, NESTED_EXIT)
"""Stops after which KVM_RUN makes no sense."""
MOVES = {
    "migrate": "KVM_GET_VCPU_EVENTS, then KVM_SET_VCPU_EVENTS on a new vCPU",
    "getset": "KVM_GET_VCPU_EVENTS, then KVM_SET_VCPU_EVENTS",
}
"""What user space may do with the vCPU at a stop."""
KEEP = -1
"""In ``set_events``: leave the field as it is."""


class KvmSnapshot(NamedTuple):
    """State of ``Kvm``; the last two fields decide nothing but when a stimulus comes."""

    cpu: Snapshot
    vcpu: tuple[object, ...]
    phase: str
    said: str
    due: tuple[int, ...]
    ticks: int
    counted: tuple[object, ...]


class Kvm:
    """A guest under a policy. ``irqchip``: interrupt control is in the kernel, so HLT does not go to user space."""

    def __init__(  # noqa: PLR0913 - what a virtual machine is made of, by name at every call
        self,
        guest: Guest,
        ops: NmiOps = VNMI,
        features: Features | None = None,
        switches: Switches | None = None,
        stimuli: Sequence[Stimulus] = (),
        *,
        irqchip: bool = True,
        absent: Sequence[int] = (),
    ) -> None:
        self.guest, self.ops, self.switches, self.irqchip = guest, ops, switches, irqchip
        self.stimuli, self.absent = tuple(stimuli), tuple(absent)
        if any(stimulus.what == "init" for stimulus in stimuli):
            raise ValueError("a guest under KVM takes nmi, intr, smi or migrate, not init")
        self.schedule = Schedule(guest, stimuli)
        self.features = Features() if features is None else features
        self.cpu = Cpu(guest.image(), switches)
        guest.registers(self.cpu)
        self.cpu.rflags |= IF  # the host's own interrupts are on
        self.vcpu = Vcpu(self.cpu, VMCB_PA, ops, self.features)
        reset_vmcb(self.vcpu.vmcb)
        ops.init_vmcb(self.vcpu)
        self.cpu.set_absent(self.cpu.absent | {address >> 12 for address in absent})
        self.phase, self.said = USER, ""
        self.ticks = 0
        """Steps taken, arrivals not counted: what a stimulus by number waits for."""

    def fresh(self) -> Kvm:
        """Return the same machine at its start."""
        given = (self.guest, self.ops, self.features, self.switches, self.stimuli)
        return Kvm(*given, irqchip=self.irqchip, absent=self.absent)

    # --- user space --------------------------------------------------------------------------------------------------

    def nmi(self, times: int = 1) -> None:
        """Post NMIs (KVM_NMI, or another vCPU's IPI); a running guest is kicked."""
        for _ in range(times):
            x86.kvm_inject_nmi(self.vcpu)
            self._kick()

    def irq(self, vector: int) -> None:
        """Request an interrupt at the guest's local APIC; a running guest is kicked."""
        self.vcpu.irr |= 1 << vector
        self.vcpu.make_request(REQ_EVENT)
        self._kick()

    def _kick(self) -> None:
        if self.phase == GUEST and not self.cpu.irr:
            self.cpu.changed("R-HOST", "kicks", self.vcpu.kicks, self.vcpu.kicks + 1)
            self.vcpu.kicks += 1
            self.cpu.arrive_intr(KICK_VECTOR)

    def signal(self) -> None:
        """Send the vCPU's thread a signal: its next entry is called off, and KVM_RUN returns to user space."""
        self.vcpu.signal = True
        self._kick()

    def events(self) -> Events:
        """Return what KVM_GET_VCPU_EVENTS reports."""
        return self.vcpu.ops.get_vcpu_events(self.vcpu)

    def set_events(self, pending: int = KEEP, injected: int = KEEP, masked: int = KEEP, shadow: int = KEEP) -> None:
        """Do KVM_GET_VCPU_EVENTS, change what is not ``KEEP``, do KVM_SET_VCPU_EVENTS."""
        now = self.events()
        self.vcpu.ops.set_vcpu_events(
            self.vcpu,
            Events(
                now.injected if injected == KEEP else bool(injected),
                None if pending == KEEP else pending,
                now.masked if masked == KEEP else bool(masked),
                now.shadow if shadow == KEEP else bool(shadow),
            ),
        )

    def migrate(self, *, same: bool = False) -> None:
        """Save the vCPU at a stop in user space and restore it into a new one, as a migration does, or into itself."""
        events = self.events()
        if not same:
            self.vcpu.forget()
        self.ops.set_vcpu_events(self.vcpu, events)
        self.said = ""  # what user space was told has been dealt with

    def start(self) -> None:
        """Call KVM_RUN; ``step`` goes on from there."""
        self.phase, self.said = KERNEL, ""

    @property
    def is_waiting(self) -> bool:
        """Whether the vCPU is halted and nothing that KVM knows of would wake it."""
        return self.phase == KERNEL and self.vcpu.halted and not x86.kvm_vcpu_has_events(self.vcpu)

    def run(self, budget: int = BUDGET) -> Outcome:
        """Do KVM_RUN: until something user space must see, or the vCPU waits for good, or ``budget`` steps.

        A KVM_RUN that is still going on, because it waited or ran out of steps, goes on.
        """
        if self.phase == USER:
            self.start()
        for _ in range(budget):
            if not self.step():
                return Outcome("waiting", "halted, and nothing is pending that could wake it")
            if self.phase == USER:
                return Outcome("exit", self.said)
        return Outcome("budget", f"still running after {budget:,} steps")

    # --- one step ----------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Let a stimulus arrive, pass one boundary of the guest, or one pass of KVM; False when nothing can happen."""
        stimulus = self.schedule.next(self.ticks, self.rip, held=() if self.phase == USER else MOVES)
        if stimulus is None:
            if self._pass():
                self.ticks += 1
                return True
            stimulus = None if self.said in LAST else self.schedule.overdue()
        if stimulus is not None:
            self._arrive(stimulus)
        return stimulus is not None

    @property
    def rip(self) -> int:
        """The guest's RIP, in the processor while it runs and in the VMCB while it does not."""
        return self.cpu.rip if self.phase == GUEST else int(self.vcpu.vmcb.rip)

    def _arrive(self, stimulus: Stimulus) -> None:
        """Let a stimulus arrive at the virtual machine: through KVM, with a kick if the guest runs."""
        if stimulus.what in MOVES:
            self.cpu.emit(HostDid("R-HOST", MOVES[stimulus.what]))
            self.migrate(same=stimulus.what == "getset")
            return
        for _ in range(stimulus.times):
            self.cpu.emit(Arrived("R-WORLD", stimulus.what, coalesced=False))
        if stimulus.what == "nmi":
            self.nmi(stimulus.times)
        elif stimulus.what == "intr":
            self.irq(stimulus.vector)
        else:
            self.vcpu.make_request(REQ_SMI)
            self._kick()

    def _pass(self) -> bool:
        if self.phase == GUEST:
            if not self.cpu.step():
                return False
            if not self.cpu.guest_mode:
                self.phase = EXITED
                self.vcpu.seen = None  # what the processor wrote is its own to tell
            return True
        if self.phase == EXITED:
            self._exited()
            return True
        if self.phase == USER:
            return self._call_kvm_run()
        return self._enter()

    def _call_kvm_run(self) -> bool:
        """Let user space call KVM_RUN, again after every stop that is not the end."""
        if self.said in LAST:
            return False
        self.cpu.emit(HostDid("R-HOST", "KVM_RUN"))
        self.start()
        return True

    def _enter(self) -> bool:
        vcpu = self.vcpu
        if self.is_waiting:
            return vcpu.signal and self._return_to_user(x86.kvm_vcpu_exit_request(vcpu))
        vcpu.halted = False
        said = x86.vcpu_enter_guest(vcpu)
        if said is not None:
            return self._return_to_user(said)
        self.phase = GUEST if self.cpu.guest_mode else EXITED
        return True

    def _return_to_user(self, said: str) -> bool:
        self.phase, self.said = USER, said
        return True

    def _exited(self) -> None:
        """Open the host's own gate, let it take what is pending there, then let KVM handle the exit."""
        cpu, vcpu = self.cpu, self.vcpu
        cpu.change("R-STGI", "gif", 1)
        if cpu.nmi_latch and not cpu.nmi_mask:
            cpu.change("R-NMI-TAKE", "nmi_latch", 0)
            vcpu.host_nmi += 1
        cpu.irr = cpu.smi = 0
        svm.vmcb_mark_all_clean(vcpu)
        self.phase = KERNEL
        said = x86.after_exit(vcpu)
        if said is not None and not (said == "HLT" and self.irqchip):
            vcpu.halted = False
            self._return_to_user(said)

    def advance(self, count: int) -> int:
        """Do what ``count`` calls of ``step`` would do; return how many took place."""
        for done in range(count):
            if not self.step():
                return done
        return count

    # --- values ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> KvmSnapshot:
        """Return the state."""
        vcpu = self.vcpu
        return KvmSnapshot(
            self.cpu.snapshot(), vcpu.freeze(), self.phase, self.said, self.schedule.due, self.ticks, vcpu.counted()
        )

    def restore(self, snapshot: KvmSnapshot) -> None:
        """Become what ``snapshot`` recorded."""
        self.cpu.restore(snapshot.cpu)
        self.vcpu.thaw(snapshot.vcpu, snapshot.counted)
        self.phase, self.said, self.schedule.due = snapshot.phase, snapshot.said, snapshot.due
        self.ticks = snapshot.ticks
