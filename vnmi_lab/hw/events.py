"""Facts the processor states: frozen records in one closed union, and the faults it raises to itself.

A record says what happened and which rule made it happen (``vnmi_lab.rules``). Nobody listens here:
the processor hands records to its ``sink`` when somebody asked for a trace, and otherwise makes none.
They are named tuples, not dataclasses, because a dozen dataclasses take longer to import than all the rest of this.
"""

from __future__ import annotations

from typing import NamedTuple


class Changed(NamedTuple):
    """One field of the machine changed, by one rule."""

    rule: str
    field: str
    old: int
    new: int


class MemoryWritten(NamedTuple):
    """``size`` bytes at ``address`` changed from ``old`` to ``new``."""

    address: int
    size: int
    old: int
    new: int


class Executed(NamedTuple):
    """An instruction retired; ``text`` is its Intel syntax."""

    address: int
    text: str


class Taken(NamedTuple):
    """The processor recognized an event: ``source`` is a row of ``delivery.SOURCES``."""

    rule: str
    source: str


class Delivered(NamedTuple):
    """A handler was entered: the frame is at ``frame`` and returns to ``return_rip``."""

    rule: str
    vector: int
    handler: int
    return_rip: int
    frame: int


class IretRetired(NamedTuple):
    """An IRETQ completed; its frame was at ``frame``."""

    rule: str
    frame: int
    target: int


class Vmrun(NamedTuple):
    """VMRUN entered the guest at ``rip``; ``event_inj`` as the VMCB held it."""

    rule: str
    rip: int
    event_inj: int


class VmExit(NamedTuple):
    """#VMEXIT at ``rip`` with the values written to EXITCODE, EXITINFO1, EXITINFO2 and EXITINTINFO."""

    rule: str
    rip: int
    code: int
    info1: int
    info2: int
    int_info: int


class Arrived(NamedTuple):
    """``source`` ("nmi", "intr", "smi", "init") arrived; ``coalesced`` when it merged into the one pending."""

    rule: str
    source: str
    coalesced: bool


class Stopped(NamedTuple):
    """The processor stopped for good: "shutdown" or "init"."""

    rule: str
    why: str


class HostDid(NamedTuple):
    """A line of the host's script was carried out."""

    rule: str
    text: str


class KvmCalled(NamedTuple):
    """A function of KVM was entered; ``depth`` is how deep in the call path, ``file`` where the kernel has it."""

    rule: str
    function: str
    file: str
    depth: int


Event = (
    Changed
    | MemoryWritten
    | Executed
    | Taken
    | Delivered
    | IretRetired
    | Vmrun
    | VmExit
    | Arrived
    | Stopped
    | HostDid
    | KvmCalled
)


class Fault(Exception):
    """An exception of the *guest*: vector, error code where it has one, and the address of a page fault."""

    def __init__(self, vector: int, error: int | None = None, address: int = 0) -> None:
        super().__init__(f"guest exception {vector}")
        self.vector = vector
        self.error = error
        self.address = address


class NestedPageFault(Exception):
    """A guest-physical page is not present in the nested page table (EXITCODE 400h)."""

    def __init__(self, error: int, address: int) -> None:
        super().__init__(f"nested page fault at {address:#x}")
        self.error = error
        self.address = address
