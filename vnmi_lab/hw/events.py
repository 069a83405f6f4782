"""Facts the processor states: frozen records in one closed union, and the faults it raises to itself.

A record says what happened and which rule made it happen (``vnmi_lab.rules``). Nobody listens here:
the processor hands records to its ``sink`` when somebody asked for a trace, and otherwise makes none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Changed:
    """One field of the machine changed, by one rule."""

    rule: str
    field: str
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class MemoryWritten:
    """``size`` bytes at ``address`` changed from ``old`` to ``new``."""

    address: int
    size: int
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class Executed:
    """An instruction retired; ``text`` is its Intel syntax."""

    address: int
    text: str


@dataclass(frozen=True, slots=True)
class Taken:
    """The processor recognized an event: ``source`` is a row of ``delivery.SOURCES``."""

    rule: str
    source: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A handler was entered: the frame is at ``frame`` and returns to ``return_rip``."""

    rule: str
    vector: int
    handler: int
    return_rip: int
    frame: int


@dataclass(frozen=True, slots=True)
class IretRetired:
    """An IRETQ completed; its frame was at ``frame``."""

    rule: str
    frame: int
    target: int


@dataclass(frozen=True, slots=True)
class Vmrun:
    """VMRUN entered the guest at ``rip``; ``event_inj`` as the VMCB held it."""

    rule: str
    rip: int
    event_inj: int


@dataclass(frozen=True, slots=True)
class VmExit:
    """#VMEXIT at ``rip`` with the values written to EXITCODE, EXITINFO1, EXITINFO2 and EXITINTINFO."""

    rule: str
    rip: int
    code: int
    info1: int
    info2: int
    int_info: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """``source`` ("nmi", "intr", "smi", "init") arrived; ``coalesced`` when it merged into the one pending."""

    rule: str
    source: str
    coalesced: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """The processor stopped for good: "shutdown" or "init"."""

    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class HostDid:
    """A line of the host's script was carried out."""

    rule: str
    text: str


Event = (
    Changed | MemoryWritten | Executed | Taken | Delivered | IretRetired | Vmrun | VmExit | Arrived | Stopped | HostDid
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
