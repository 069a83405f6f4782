"""The laws of the judge: what no schedule may do to a guest under a hypervisor, each with its source.

A law looks at a ``Moment``: the machine after a step, and what a bystander remembers of the run so far (``Watch``). The
bystander counts like a processor does: from an NMI's delivery until an IRET completes, any IRET, the next one waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.hv.vcpu import REQ_EVENT, REQ_NMI
from vnmi_lab.hw.delivery import NMI_WORD, TF, vector_of
from vnmi_lab.kvm import EXITED, FATAL, KERNEL, Kvm

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.hw.cpu import Cpu

NMI_VECTOR = vector_of(NMI_WORD)
IRET_EXIT, DB_EXIT = 0x74, 0x41
REMEMBERED_IDLE, REMEMBERED_BUSY = 2, 1
"""NMIs that may wait: two while none is in service, because a vCPU may not be running; one while one is."""


class Watch(NamedTuple):
    """What a bystander remembers.

    ``left``: NMIs still to come. ``irqs``: interrupts still to come. ``waiting``: NMIs that may still be delivered.
    ``owed``: one arrived after which the handler has not been entered. ``in_service``: no IRET has completed since
    an NMI was delivered. ``frames``: interrupt frames on the stack, ``nmis`` of them of NMIs. The last three describe
    the step just taken: the handler was entered ``early`` (in service) or once too often (``over``), and with which
    borrowed ``flags`` in its frame. ``history``: the return addresses of all NMIs so far, where that is asked for.
    """

    left: int
    irqs: int = 0
    waiting: int = 0
    owed: bool = False
    in_service: bool = False
    frames: int = 0
    nmis: int = 0
    early: bool = False
    over: bool = False
    flags: int = 0
    history: tuple[int, ...] | None = None

    def arrived(self) -> Watch:
        """Return what is remembered after one more NMI arrived."""
        limit = REMEMBERED_BUSY if self.in_service else REMEMBERED_IDLE
        waiting = max(self.waiting, min(self.waiting + 1, limit))
        return self._replace(left=self.left - 1, waiting=waiting, owed=True, early=False, over=False, flags=0)

    def interrupted(self) -> Watch:
        """Return what is remembered after an interrupt arrived."""
        return self._replace(irqs=self.irqs - 1, early=False, over=False, flags=0)

    def stepped(self, kvm: Kvm) -> Watch:
        """Return what is remembered after the machine took a step."""
        frames = kvm.cpu.frames
        nmis = sum(vector == NMI_VECTOR for vector, _frame in frames)
        watch = self._replace(frames=len(frames), nmis=nmis, early=False, over=False, flags=0)
        if len(frames) < self.frames:
            return watch._replace(in_service=False)
        if nmis <= self.nmis:
            return watch
        rip = kvm.cpu.memory.read(frames[-1][1], 8)
        borrowed = kvm.cpu.memory.read(frames[-1][1] + 16, 8) & TF
        return watch._replace(
            waiting=max(0, self.waiting - 1),
            owed=False,
            in_service=True,
            early=self.in_service,
            over=self.waiting == 0,
            flags=borrowed,
            history=None if self.history is None else (*self.history, rip),
        )


def return_rips(cpu: Cpu) -> tuple[int, ...]:
    """Return where each NMI handler on the stack will return to, outermost first."""
    return tuple(cpu.memory.read(frame, 8) for vector, frame in cpu.frames if vector == NMI_VECTOR)


class Moment(NamedTuple):
    """A machine after a step, what a bystander remembers, and whether nothing more will happen by itself."""

    kvm: Kvm
    watch: Watch
    done: bool


class Law(NamedTuple):
    """A sentence that no schedule may make false, with its source."""

    slug: str
    sentence: str
    source: str
    holds: Callable[[Moment], object]


def _nothing_left(moment: Moment) -> bool:
    vcpu = moment.kvm.vcpu
    waits = vcpu.nmi_queued or vcpu.nmi_pending or vcpu.nmi_injected or vcpu.vmcb.int_ctl.v_nmi_pending
    return not (moment.done and waits)


def _looked_at(moment: Moment) -> bool:
    kvm = moment.kvm
    if kvm.phase != KERNEL or not kvm.vcpu.nmi_pending or kvm.vcpu.requests & (REQ_EVENT | REQ_NMI):
        return True
    return kvm.ops.nmi_allowed(kvm.vcpu, False) <= 0  # noqa: FBT003 - for_injection, as in KVM


def _no_exit(code: int) -> Callable[[Moment], object]:
    return lambda m: not (m.kvm.phase == EXITED and m.kvm.vcpu.vmcb.exit_code == code)


LAWS: tuple[Law, ...] = (
    Law(
        "not_before_iret",
        "After an NMI is delivered, the next one is not before an IRET has completed.",
        "APM ch. 8, 15.21.10",
        lambda m: not m.watch.early,
    ),
    Law(
        "not_lost",
        "After an NMI arrives, the handler is entered at least once more.",
        "APM ch. 8; kvm-unit-tests pending nmi",
        lambda m: not (m.done and m.watch.owed),
    ),
    Law(
        "nothing_left",
        "When nothing more happens, no NMI is left in any of its four places.",
        "KVM process_nmi; the review of patch v4, 2022",
        _nothing_left,
    ),
    Law(
        "looked_at",
        "An NMI that waits in software and may be injected is looked at before the guest goes on.",
        "the review of patches v2 and v4, 2022: the stuck second NMI",
        _looked_at,
    ),
    Law(
        "not_over_delivered",
        "While one NMI is in service one more is remembered, and no more than that one is delivered after it.",
        "kvm-unit-tests pending nmi",
        lambda m: not m.watch.over,
    ),
    Law(
        "no_borrowed_flags",
        "The interrupt frame of an NMI shows no TF that the hypervisor borrowed.",
        "KVM svm_vcpu_run",
        lambda m: not m.watch.flags,
    ),
    Law(
        "enters",
        "The guest can always be entered, and does not shut down.",
        "APM 15.5.1, 15.21.10",
        lambda m: m.kvm.said not in FATAL,
    ),
)

COMES_TO_REST = Law(
    "comes_to_rest",
    "When no more NMIs arrive, the guest comes to rest.",
    "the guests of this lab, which all end in HLT",
    lambda _m: True,  # no single state says so: the search follows each state to its end
)

NO_EXITS: tuple[Law, ...] = (
    Law(
        "no_iret_exit",
        "With virtual NMIs, no IRET exits.",
        "semantics of Linux v6.4 with 72046d0a077a",
        _no_exit(IRET_EXIT),
    ),
    Law(
        "no_step_exit",
        "With virtual NMIs, nothing is single-stepped where no shadow and no GIF is in the way.",
        "semantics of Linux v6.4",
        _no_exit(DB_EXIT),
    ),
)
"""What a policy with virtual NMIs may not spend, beside ``LAWS``."""
