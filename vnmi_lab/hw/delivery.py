"""Which events the processor recognizes at an instruction boundary, what holds them, which one wins, what changes.

Two rules about this file:

(1) Everything that decides whether and when an event is taken stands here, in tables.
(2) Nothing here executes an instruction or touches memory; ``cpu.py`` interprets the tables.

Theory of operation. Between two instructions the processor looks at everything that is pending. ``SOURCES`` lists
the candidates in the order of their priority. A candidate is *held* while any of its ``holds`` is true; each cell of
that matrix is a rule. The first candidate that is pending and not held is *recognized*: if the hypervisor intercepts
it the guest exits and the event **stays pending**, otherwise it is *taken*: the ``takes`` of its row are applied (this
is where an NMI masks the next one) and it is delivered through the IDT. ``ON_IRET`` says what a completed IRET undoes.

An NMI has three places in this file: the physical latch and mask, which belong to the processor and are shared by
host and guest; ``v_nmi_pending`` and ``v_nmi_blocking``, which VMRUN loads from the VMCB when V_NMI_ENABLE is set; and
``injection``, which holds EVENTINJ and is held by nothing at all.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.hw.cpu import Cpu
    from vnmi_lab.rules import Switches

CF, PF, AF, ZF, SF, TF, IF, DF, OF = (1 << bit for bit in (0, 2, 4, 6, 7, 8, 9, 10, 11))
NT, RF, VM = 1 << 14, 1 << 16, 1 << 17

# Event words have the format of EVENTINJ and EXITINTINFO (APM 15.20); an event of the processor's own looks the same.
INTR, NMI, EXCEPTION, SOFT = 0, 2, 3, 4
VALID, HAS_ERROR = 1 << 31, 1 << 11


def event_word(kind: int, vector: int, error: int | None = None) -> int:
    """Return the event as EXITINTINFO would show it."""
    word = VALID | kind << 8 | vector
    return word if error is None else word | HAS_ERROR | error << 32


def kind_of(word: int) -> int:
    """Return the TYPE of an event word."""
    return word >> 8 & 7


def vector_of(word: int) -> int:
    """Return the vector an event word is delivered through; an NMI's is 2 whatever the word says."""
    return 2 if kind_of(word) == NMI else word & 0xFF


NMI_WORD = event_word(NMI, 2)
DB_WORD = event_word(EXCEPTION, 1)


def physical_if(cpu: Cpu) -> int:
    """Return the IF that gates physical interrupts: the host's while the guest runs with V_INTR_MASKING."""
    if cpu.guest_mode and cpu.v_intr_masking:
        return cpu.host_if
    return cpu.rflags & IF


HOLDS: dict[str, Callable[[Cpu], object]] = {
    "gif": lambda cpu: not cpu.gif,
    "v_gif": lambda cpu: cpu.v_gif_enable and not cpu.v_gif,
    "shadow": lambda cpu: cpu.shadow,
    "nmi_mask": lambda cpu: cpu.nmi_mask,
    "v_nmi_blocking": lambda cpu: cpu.v_nmi_blocking,
    "physical IF": lambda cpu: not physical_if(cpu),
    "guest IF": lambda cpu: not cpu.rflags & IF,
    "v_tpr": lambda cpu: not cpu.v_ign_tpr and cpu.v_intr_prio <= cpu.v_tpr & 0xF,
}


class Source(NamedTuple):
    """One candidate at a boundary: the field that says it is pending, what holds it, its intercept, what it changes."""

    name: str
    title: str
    pending: str
    word: Callable[[Cpu], int]
    holds: tuple[tuple[str, str], ...] = ()
    intercept: int | None = None
    intercept_rule: str = ""
    takes: tuple[tuple[str, str, Callable[[Cpu], int]], ...] = ()
    rule: str = "R-PRIORITY"
    exit_info: int = 0
    """EXITINFO1 when it is intercepted."""


def _zero(_cpu: Cpu) -> int:
    return 0


def _one(_cpu: Cpu) -> int:
    return 1


SOURCES: tuple[Source, ...] = (
    Source(
        "injection",
        "injected event",
        "injection",
        lambda cpu: cpu.injection,
        rule="R-EVENTINJ",
        takes=(("R-EVENTINJ", "injection", _zero),),
    ),
    Source(
        "smi",
        "SMI",
        "smi",
        _zero,
        (("gif", "R-GIF-SMI"),),
        0x62,
        "R-ICPT-SMI",
        takes=(("R-SMI-TAKE", "smi", _zero),),
        rule="R-SMI-TAKE",
        exit_info=1,  # bit 0: asserted from outside, not by an I/O trap
    ),
    Source(
        "init",
        "INIT",
        "init",
        _zero,
        (("gif", "R-GIF-INIT"),),
        0x63,
        "R-ICPT-INIT",
        takes=(("R-INIT-TAKE", "init", _zero),),
        rule="R-INIT-TAKE",
    ),
    Source(
        "trap",
        "single-step trap",
        "trap",
        lambda _cpu: DB_WORD,
        rule="R-TF-TRAP",
        takes=(("R-TF-TRAP", "trap", _zero), ("R-TF-TRAP", "dr6", lambda cpu: cpu.dr6 | 1 << 14)),
    ),
    Source(
        "nmi",
        "physical NMI",
        "nmi_latch",
        lambda _cpu: NMI_WORD,
        (("gif", "R-GIF-NMI"), ("shadow", "R-SHADOW-NMI"), ("nmi_mask", "R-MASK-NMI")),
        0x61,
        "R-ICPT-NMI",
        (("R-NMI-TAKE", "nmi_latch", lambda cpu: cpu.nmi_latch - 1), ("R-NMI-MASK", "nmi_mask", _one)),
        "R-NMI-TAKE",
    ),
    Source(
        "vnmi",
        "virtual NMI",
        "v_nmi_pending",
        lambda _cpu: NMI_WORD,
        (
            ("gif", "R-GIF-VNMI"),
            ("v_gif", "R-VGIF-VNMI"),
            ("shadow", "R-SHADOW-VNMI"),
            ("v_nmi_blocking", "R-MASK-VNMI"),
        ),
        takes=(("R-VNMI-TAKE", "v_nmi_pending", _zero), ("R-VNMI-MASK", "v_nmi_blocking", _one)),
        rule="R-VNMI-TAKE",
    ),
    Source(
        "intr",
        "physical interrupt",
        "irr",
        lambda cpu: event_word(INTR, cpu.irr.bit_length() - 1),
        (("gif", "R-GIF-INTR"), ("physical IF", "R-IF-INTR"), ("shadow", "R-SHADOW-INTR")),
        0x60,
        "R-ICPT-INTR",
        (("R-INTR-ACK", "irr", lambda cpu: cpu.irr ^ 1 << cpu.irr.bit_length() - 1),),
        "R-INTR-ACK",
    ),
    Source(
        "virq",
        "virtual interrupt",
        "v_irq",
        lambda cpu: event_word(INTR, cpu.v_intr_vector),
        (
            ("gif", "R-GIF-VIRQ"),
            ("v_gif", "R-VGIF-VIRQ"),
            ("guest IF", "R-IF-VIRQ"),
            ("shadow", "R-SHADOW-VIRQ"),
            ("v_tpr", "R-TPR-VIRQ"),
        ),
        0x64,
        "R-ICPT-VINTR",
        (("R-VIRQ-ACK", "v_irq", _zero),),
        "R-VIRQ-ACK",
    ),
)
BY_NAME = {source.name: source for source in SOURCES}

# A completed IRET ends masking: of virtual NMIs in a guest that has them enabled, of physical NMIs otherwise.
ON_IRET = {
    True: (("R-VNMI-IRET", "v_nmi_blocking", 0),),
    False: (("R-IRET-UNMASK", "nmi_mask", 0),),
}

# What an arrival from outside does: the field that remembers it, and the rule.
ARRIVALS = {
    "nmi": ("nmi_latch", "R-NMI-LATCH"),
    "smi": ("smi", "R-SMI-ARRIVE"),
    "init": ("init", "R-INIT-ARRIVE"),
}

# Faults while delivering faults (APM 8.2.9): the class of the first, the class of the second, what comes of it.
CONTRIBUTORY, PAGE_FAULT = frozenset({0, 10, 11, 12, 13}), frozenset({14})
DOUBLE = ((CONTRIBUTORY, CONTRIBUTORY), (PAGE_FAULT, CONTRIBUTORY | PAGE_FAULT))
WITH_ERROR = frozenset({8, 10, 11, 12, 13, 14, 17, 21})
DF_WORD = event_word(EXCEPTION, 8, 0)


def doubles(first: int, second: int) -> bool:
    """Return whether ``second``, raised while ``first`` was being delivered, becomes #DF (both event words)."""
    if kind_of(first) != EXCEPTION or kind_of(second) != EXCEPTION:
        return False
    return any(vector_of(first) in a and vector_of(second) in b for a, b in DOUBLE)


class Gate(NamedTuple):
    """A 16-byte descriptor of the long-mode IDT (APM 4.8.4)."""

    offset: int
    selector: int
    ist: int
    type: int
    dpl: int
    present: int

    @classmethod
    def decode(cls, low: int, high: int) -> Gate:
        """Read a gate from its two quadwords."""
        offset = low & 0xFFFF | low >> 32 & 0xFFFF0000 | (high & 0xFFFFFFFF) << 32
        return cls(offset, low >> 16 & 0xFFFF, low >> 32 & 7, low >> 40 & 0xF, low >> 45 & 3, low >> 47 & 1)

    def encode(self) -> bytes:
        """Return the 16 bytes."""
        low = self.offset & 0xFFFF | self.selector << 16 | self.ist << 32 | self.type << 40 | self.dpl << 45
        low |= self.present << 47 | (self.offset >> 16 & 0xFFFF) << 48
        return low.to_bytes(8, "little") + (self.offset >> 32).to_bytes(8, "little")


INTERRUPT_GATE, TRAP_GATE = 0xE, 0xF
CODE_SELECTOR, DATA_SELECTOR = 0x08, 0x10

# Checks of a gate in the processor's order: rule, what is wrong, the vector raised, does the error code name the
# gate (vector*8 + 2) or the selector.
GATE_CHECKS: tuple[tuple[str, Callable[[Gate, bool, int], bool], int, bool], ...] = (
    ("R-IDT-TYPE", lambda gate, _soft, _cpl: gate.type not in (INTERRUPT_GATE, TRAP_GATE), 13, True),
    ("R-IDT-DPL", lambda gate, soft, cpl: soft and gate.dpl < cpl, 13, True),
    ("R-IDT-PRESENT", lambda gate, _soft, _cpl: not gate.present, 11, True),
    ("R-IDT-CS", lambda gate, _soft, _cpl: gate.selector & ~3 != CODE_SELECTOR, 13, False),
)


def gate_fault(gate: Gate, vector: int, *, soft: bool, cpl: int, off: frozenset[str]) -> tuple[int, int] | None:
    """Return the vector and error code that this gate raises, or None; EXT is set unless ``soft``."""
    for rule, wrong, raised, names_gate in GATE_CHECKS:
        if rule not in off and wrong(gate, soft, cpl):
            error = vector * 8 + 2 if names_gate else gate.selector & 0xFFFC
            return raised, error | (not soft)
    return None


anything_pending = attrgetter(*(source.pending for source in SOURCES))
"""Return the fields that say whether a source is pending, all at once."""

Compiled = tuple[tuple["Callable[[Cpu], object]", Source, tuple["Callable[[Cpu], object]", ...]], ...]


def compile_sources(switches: Switches) -> Compiled:
    """Return the sources in the order and with the holds that ``switches`` ask for: is it pending, row, holds."""
    order = list(SOURCES)
    if not switches.vnmi_before_intr:
        order.remove(BY_NAME["vnmi"])
        order.insert(order.index(BY_NAME["intr"]) + 1, BY_NAME["vnmi"])
    if "R-PRIORITY" in switches.off:
        order.reverse()
    return tuple(
        (
            attrgetter(source.pending),
            source,
            tuple(HOLDS[hold] for hold, rule in source.holds if rule not in switches.off),
        )
        for source in order
    )


def held_by(cpu: Cpu, name: str) -> tuple[str, ...]:
    """Return the names of all holds that are true for a source now, in table order."""
    return tuple(hold for hold, _rule in BY_NAME[name].holds if HOLDS[hold](cpu))
