"""Machines that run: a guest on bare metal, and a guest under a host that follows a plain script.

Both advance one ``step`` at a time, can be frozen and put back exactly, and do the same thing again when they are:
that is all a trace needs. ``Host`` is the script of the recorded traces (``tests/reference/README.md``): edits of the
VMCB, arrivals, and ``run``. There is no hypervisor logic in it; that is the point of lab 02.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.guest import COUNTERS, IDT, IDT_LIMIT, MAIN, STACK, TSS, VECTORS, Guest
from vnmi_lab.hw import svm
from vnmi_lab.hw.bits import misspelt
from vnmi_lab.hw.cpu import DR6_AT_RESET, Cpu, Snapshot
from vnmi_lab.hw.delivery import BY_NAME, HOLDS, ON_IRET
from vnmi_lab.hw.events import Changed, HostDid
from vnmi_lab.hw.vmcb import Vmcb, diff
from vnmi_lab.script import ACTIONS, Action, checked

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from vnmi_lab.rules import Switches

VMCB_PA = 1 << 32  # above what the guest can address
BUDGET = 10_000
SKIP = {0x81: 3, 0x78: 1}  # the host moves RIP over VMMCALL and HLT


class Outcome(NamedTuple):
    """How a run ended: ``kind`` is "exit", "done", "waiting" (halted, nothing pending), "stopped" or "budget"."""

    kind: str
    text: str

    def __str__(self) -> str:
        """Return the sentence."""
        return self.text


def _budget_outcome(budget: int) -> Outcome:
    return Outcome("budget", f"still running after {budget:,} steps")


def _waiting() -> Outcome:
    return Outcome("waiting", "halted, and nothing is pending that could wake it")


def _stopped(cpu: Cpu) -> Outcome:
    return Outcome("stopped", f"the processor stopped: {cpu.stopped}")


# --- bare metal ------------------------------------------------------------------------------------------------------


KINDS = ("nmi", "smi", "init", "intr", "migrate", "getset")


@dataclass(frozen=True, slots=True)
class Stimulus:
    """Something from outside: ``what`` ("nmi", "smi", "init", "intr") arrives ``times`` times.

    ``at`` is a step number (0: before the first one), or a label: when RIP first gets there. On bare metal steps are
    the processor's, under KVM the machine's. "migrate" is KVM's: at a stop in user space the vCPU moves to a new one.
    So is "getset": user space sets the vCPU's events to what they are.
    """

    at: int | str
    what: str = "nmi"
    times: int = 1
    vector: int = 0x40

    def __post_init__(self) -> None:
        """Refuse what cannot arrive."""
        if self.what not in KINDS:
            msg = f"what must be one of {', '.join(KINDS)}, not {self.what!r}"
            raise ValueError(msg)
        if not 0 <= self.vector < VECTORS:
            msg = f"a vector must be 0 to {VECTORS - 1}, not {self.vector!r}"
            raise ValueError(msg)
        if self.times < 1 or (isinstance(self.at, int) and self.at < 0):
            msg = f"a stimulus needs times >= 1 and a step >= 0, not times={self.times} at={self.at!r}"
            raise ValueError(msg)


class Schedule:
    """Which stimuli are still to come, and which is due now."""

    def __init__(self, guest: Guest, stimuli: Sequence[Stimulus]) -> None:
        self.stimuli = tuple(stimuli)
        self.due = tuple(range(len(self.stimuli)))
        """Numbers of those that have not come; the only thing here that changes."""
        self._where = tuple(_resolve(guest, s.at) for s in self.stimuli)

    def next(self, now: int, rip: int, held: Container[str] = ()) -> Stimulus | None:
        """Take the first stimulus that is due and not of a ``held`` kind: its step has come, or RIP is at its label."""
        for i in self.due:
            address = self._where[i]
            if self.stimuli[i].what in held:
                continue
            if now >= self._at(i) if address is None else rip == address:
                return self._take(i)
        return None

    def overdue(self) -> Stimulus | None:
        """Take the first stimulus that waits for a step number: nothing else happens, so time passes."""
        timed = [i for i in self.due if self._where[i] is None]
        return self._take(min(timed, key=self._at)) if timed else None

    def quiet(self, now: int) -> int:
        """Return for how many steps no stimulus can come due."""
        if not self.due:
            return BUDGET
        if any(self._where[i] is not None for i in self.due):
            return 0
        return max(0, min(self._at(i) for i in self.due) - now)

    def _take(self, i: int) -> Stimulus:
        self.due = tuple(j for j in self.due if j != i)
        return self.stimuli[i]

    def _at(self, i: int) -> int:
        """Return the step number a stimulus waits for; only for one that waits for no label."""
        at = self.stimuli[i].at
        assert isinstance(at, int)
        return at


class BareSnapshot(NamedTuple):
    """State of ``BareMetal``."""

    cpu: Snapshot
    due: tuple[int, ...]


class BareMetal:
    """A guest alone on the processor, taking physical NMIs and interrupts: the definition of right."""

    def __init__(self, guest: Guest, stimuli: Sequence[Stimulus] = (), switches: Switches | None = None) -> None:
        self.guest, self.switches = guest, switches
        self.stimuli = tuple(stimuli)
        self.schedule = Schedule(guest, stimuli)
        self.cpu = cpu = Cpu(guest.image(), switches)
        guest.registers(cpu)
        cpu.rip, cpu.r[4] = MAIN, STACK
        cpu.idt_base, cpu.idt_limit, cpu.tr_base = IDT, IDT_LIMIT, TSS

    def fresh(self) -> BareMetal:
        """Return the same machine at its start."""
        return BareMetal(self.guest, self.stimuli, self.switches)

    def step(self) -> bool:
        """Let one stimulus arrive that is due, or pass one boundary; halted, let the next one come early."""
        stimulus = self.schedule.next(self.cpu.steps, self.cpu.rip)
        if stimulus is None:
            if self.cpu.step():
                return True
            stimulus = None if self.cpu.stopped else self.schedule.overdue()
        if stimulus is not None:
            arrive(self.cpu, stimulus)
        return stimulus is not None

    def advance(self, count: int) -> int:
        """Do what ``count`` calls of ``step`` would do, faster; return how many took place."""
        done = 0
        while done < count:
            used = self.cpu.run(min(count - done, self.schedule.quiet(self.cpu.steps)))
            done += used
            if not used:
                if not self.step():
                    break
                done += 1
        return done

    def run(self, budget: int = BUDGET) -> Outcome:
        """Run until the processor waits for good or stops, at most ``budget`` steps."""
        if self.advance(budget) == budget:
            return _budget_outcome(budget)
        return _stopped(self.cpu) if self.cpu.stopped else _waiting()

    def snapshot(self) -> BareSnapshot:
        """Return the state."""
        return BareSnapshot(self.cpu.snapshot(), self.schedule.due)

    def restore(self, snapshot: BareSnapshot) -> None:
        """Become what ``snapshot`` recorded."""
        self.cpu.restore(snapshot.cpu)
        self.schedule.due = snapshot.due


def arrive(cpu: Cpu, stimulus: Stimulus) -> None:
    """Let a stimulus arrive at the processor itself."""
    for _ in range(stimulus.times):
        if stimulus.what == "intr":
            cpu.arrive_intr(stimulus.vector)
        else:
            cpu.arrive(stimulus.what)


def _resolve(guest: Guest, at: int | str) -> int | None:
    if isinstance(at, int):
        return None
    labels = guest.labels()
    if at not in labels:
        raise ValueError(misspelt("the guest's code", at, list(labels), "label"))
    return labels[at]


# --- a host that follows a script ------------------------------------------------------------------------------------


class Report(NamedTuple):
    """What the host sees after a #VMEXIT ("exit") or on demand ("mark"), before it changes anything."""

    kind: str
    exit_code: int
    rip: int
    rsp: int
    rflags: int
    exit_int_info: int
    int_ctl: int
    int_state: int
    counters: tuple[int, ...]
    host_nmi: int


class HostSnapshot(NamedTuple):
    """State of ``Host``."""

    cpu: Snapshot
    position: int
    running: bool
    own: tuple[int, int, int, bool]
    reports: tuple[Report, ...]


class Host:
    """A guest under a host that does what a script says, one line after the other.

    ``do(name, *operands)`` carries out a line at once; ``load`` queues lines for ``step``. Names are those of
    ``tests/reference/README.md``; setting a field of ``host.vmcb`` is a line of script too, so that nothing is lost
    when the script is played again (``fresh``).
    """

    def __init__(self, guest: Guest, switches: Switches | None = None) -> None:
        self.guest, self.switches = guest, switches
        self.cpu = Cpu(guest.image(), switches)
        guest.registers(self.cpu)
        self.view = Vmcb(self.cpu.memory, VMCB_PA)
        """The VMCB, for reading; what is set here is not in the script."""
        reset_vmcb(self.view)
        self.script: list[Action] = []
        self.position = 0
        self.running = False
        self.nmis = self.interrupts = self.smis = 0
        self._skip = True
        self.reports: tuple[Report, ...] = ()

    @property
    def vmcb(self) -> Vmcb:
        """The VMCB; a field that is set becomes a line of the script, carried out at once."""
        return _ScriptedVmcb(self)

    def fresh(self) -> Host:
        """Return a new host at the start, with the lines carried out so far queued."""
        host = Host(self.guest, self.switches)
        host.load(self.script[: self.position])
        return host

    # --- driving it --------------------------------------------------------------------------------------------------

    def do(self, name: str, *operands: object, budget: int = BUDGET) -> Outcome:
        """Carry out one line of script now; a ``run`` ends at the #VMEXIT. ``ValueError`` for a line that is none.

        A ``run`` that used up its budget is continued by the next ``run``.
        """
        if not (self.running and name == "run"):
            self.load(((name, *operands),))
        return self.finish(budget)

    def load(self, lines: Sequence[Action | str]) -> None:
        """Queue lines of script; each is checked first."""
        actions = [checked((line,) if isinstance(line, str) else tuple(line)) for line in lines]
        self.script.extend(actions)

    def finish(self, budget: int = BUDGET) -> Outcome:
        """Carry out everything queued; at most ``budget`` guest steps for each run."""
        while self.running or self.step():
            if self.running:
                used = self.cpu.run(budget)
                if self.cpu.guest_mode:
                    return self._unfinished(used, budget)
                self._exited()
        if not self.reports:
            return Outcome("done", "done")
        return Outcome("exit", f"#VMEXIT {svm.exit_name(self.reports[-1].exit_code)}")

    def _unfinished(self, used: int, budget: int) -> Outcome:
        if self.cpu.stopped:
            return _stopped(self.cpu)
        return _budget_outcome(budget) if used >= budget else _waiting()

    def advance(self, count: int) -> int:
        """Do what ``count`` calls of ``step`` would do, faster; return how many took place."""
        done = 0
        while done < count:
            if not self.running:
                if not self.step():
                    break
                done += 1
                continue
            used = self.cpu.run(count - done)
            done += used
            if not self.cpu.guest_mode:
                self._exited()
            elif not used:
                break
        return done

    def step(self) -> bool:
        """Pass one boundary of the guest, or carry out the next line of script; False when there is none."""
        if self.running:
            if not self.cpu.step():
                return False
            if not self.cpu.guest_mode:
                self._exited()
            return True
        if self.position >= len(self.script):
            return False
        action = self.script[self.position]
        self.position += 1
        self._perform(action)
        return True

    def _perform(self, action: Action) -> None:
        name, *operands = action
        row = ACTIONS[str(name)]
        tracing = self.cpu.sink is not None
        before = self.view.to_bytes() if tracing and name != "run" else b""
        self.cpu.emit(HostDid("R-HOST", row.text(operands)))
        row.perform(self, operands)
        if before:
            for change in diff(before, self.view.to_bytes()):
                self.cpu.emit(Changed("R-HOST", _event_field(change.field), change.old, change.new))
        self._take_pending()

    def _take_pending(self) -> None:
        """Let the host itself take what is pending and not held: it counts, and returns with IRET at once."""
        cpu = self.cpu
        while not cpu.guest_mode and self._takes("smi"):
            self.smis += 1
        while not cpu.guest_mode and self._takes("nmi"):
            self.nmis += 1
            for rule, field, new in ON_IRET[False]:
                cpu.change(rule, field, new)
        while not cpu.guest_mode and self._takes("intr"):
            self.interrupts += 1

    def _takes(self, name: str) -> bool:
        source, cpu = BY_NAME[name], self.cpu
        left = getattr(cpu, source.pending)
        if not left or any(HOLDS[hold](cpu) and cpu.on(rule) for hold, rule in source.holds):
            return False
        for rule, field, new in source.takes:
            cpu.change(rule, field, new(cpu))
        return bool(getattr(cpu, source.pending) != left)  # a rule switched off must not make the host loop

    def vmrun(self, *, skip: bool) -> None:
        """Enter the guest; at its #VMEXIT move RIP over VMMCALL or HLT if ``skip``."""
        self._skip = skip
        self.cpu.tr_base = self.view.tr_base  # what VMLOAD would do
        svm.vmrun(self.cpu, VMCB_PA)
        self.running = bool(self.cpu.guest_mode)
        if not self.running:
            self._exited()

    def _exited(self) -> None:
        self.running = False
        self.reports = (*self.reports, self.report("exit"))
        length = SKIP.get(self.view.exit_code, 0)
        if self._skip and length:
            self.cpu.changed("R-HOST", "vmcb.rip", self.view.rip, self.view.rip + length)
            self.view.rip += length
        self._take_pending()

    def report(self, kind: str = "mark") -> Report:
        """Return what the VMCB and the counters hold now."""
        vmcb, memory = self.view, self.cpu.memory
        counters = tuple(memory.read(COUNTERS + 8 * vector, 8) for vector in range(VECTORS))
        return Report(
            kind, vmcb.exit_code, vmcb.rip, vmcb.rsp, vmcb.rflags, vmcb.exit_int_info, vmcb.int_ctl, vmcb.int_state,
            counters, self.nmis,
        )  # fmt: skip

    # --- values ------------------------------------------------------------------------------------------------------

    _own = staticmethod(attrgetter("nmis", "interrupts", "smis", "_skip"))

    def snapshot(self) -> HostSnapshot:
        """Return the state: the processor, the place in the script, what the host counted."""
        return HostSnapshot(self.cpu.snapshot(), self.position, self.running, self._own(self), self.reports)

    def restore(self, snapshot: HostSnapshot) -> None:
        """Become what ``snapshot`` recorded; the script stays as it is."""
        self.cpu.restore(snapshot.cpu)
        self.position, self.running, self.reports = snapshot.position, snapshot.running, snapshot.reports
        self.nmis, self.interrupts, self.smis, self._skip = snapshot.own


class _ScriptedVmcb(Vmcb):
    """The host's VMCB as the learner sees it: setting a field is a line of the host's script."""

    __slots__ = ("host",)

    host: Host

    def __init__(self, host: Host) -> None:
        super().__init__(host.cpu.memory, VMCB_PA)
        object.__setattr__(self, "host", host)

    def __setattr__(self, name: str, value: int) -> None:
        if self.host.running:
            msg = f"the guest is still running; {name} can be set after its next #VMEXIT"
            raise ValueError(msg)
        self.host.do("set", name, value)


def reset_vmcb(vmcb: Vmcb) -> None:
    """Fill in the VMCB that every scenario starts with: 64-bit mode, CPL 0, the intercepts a host cannot do without."""
    for name, value in RESET.items():
        setattr(vmcb, name, value)
    for name in ("vmrun", "vmmcall", "hlt", "shutdown"):
        vmcb.intercept(name)


RESET = {
    "asid": 1, "rflags": 2, "rip": MAIN, "rsp": STACK, "idt_base": IDT, "idt_limit": IDT_LIMIT, "tr_base": TSS,
    "efer": 0x1500, "cr0": 0x80000011, "cr4": 0x20, "dr6": DR6_AT_RESET, "dr7": 0x400, "g_pat": 0x0007040600070406,
    "cs_selector": 0x08, "cs_attrib": 0x29B, "ss_selector": 0x10, "ds_selector": 0x10, "es_selector": 0x10,
}  # fmt: skip


def _event_field(name: str) -> str:
    return name if "." in name else f"vmcb.{name}"
