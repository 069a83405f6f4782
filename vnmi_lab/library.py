"""Scenarios with names: what an NMI costs, where the policies differ, and the puzzles that a run can show.

Each is a sentence and the text form of a scenario. A puzzle whose outcome was reasoned from code or text, and is stated
by no source, says "derived"; nothing about virtual NMIs is verified on hardware.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab.hw.bits import misspelt
from vnmi_lab.scenario import SEPARATOR, VERSION, Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping


class Entry(NamedTuple):
    """A scenario of the library: what it shows, in a sentence, and its text form."""

    sentence: str
    text: str

    @property
    def scenario(self) -> Scenario:
        """The scenario as a value."""
        return Scenario.parse(self.text)


COSTS: Mapping[str, Entry] = {
    "one": Entry("One NMI while the guest works.", "v1~plain~vnmi~nmi@work"),
    "one-halted": Entry("One NMI while the guest is halted: it needs no kick.", "v1~plain~vnmi~nmi@99"),
    "in-handler": Entry(
        "A second NMI arrives in the handler of the first, and waits for its IRET.", "v1~plain~vnmi~nmi@work~nmi@body"
    ),
    "two-at-once": Entry(
        "Two NMIs at once: hardware would take the first and remember the second (puzzle 6).",
        "v1~plain~vnmi~nmix2@work",
    ),
    "two-before-entry": Entry("Two NMIs before the guest first runs: no kick.", "v1~plain~vnmi~nmix2@0"),
    "storm": Entry(
        "Ten more NMIs arrive at once in the handler of the first: the guest sees one more (puzzle 7).",
        "v1~plain~vnmi~nmi@work~nmix10@body",
    ),
    "storm-spread": Entry(
        "Three more NMIs arrive one after another in the handler of the first: a kick for each.",
        "v1~plain~vnmi~nmi@work~nmi@entry~nmi@body~nmi@leave",
    ),
    "shadow": Entry(
        "One NMI while an exit lies in the shadow of an STI (puzzle 15).",
        "v1~shadow~vnmi~nmi@shadowed~absent@data",
    ),
    "shadow-two": Entry(
        "Two NMIs while an exit lies in the shadow of an STI: even vNMI steps over the shadow (puzzle 15).",
        "v1~shadow~vnmi~nmix2@shadowed~absent@data",
    ),
    "gif": Entry("One NMI while the guest's GIF is 0 (puzzle 16).", "v1~gif~vnmi~nmi@closed"),
    "gif-two": Entry(
        "Two NMIs while the guest's GIF is 0: hardware's latch keeps one, KVM both (puzzle 14, derived).",
        "v1~gif~vnmi~nmix2@closed",
    ),
    "sev-es": Entry(
        "One NMI in an SEV-ES guest, whose IRET cannot be intercepted: NMI_COMPLETE, with or without vNMI.",
        "v1~sev-es~vnmi~nmi@work~sev_es_guest",
    ),
}
"""The rows of the table of exit costs, and what is close to them."""

DIFFERENCES: Mapping[str, Entry] = {
    "stuck-second": Entry(
        "Two NMIs at once, and an interrupt later: patch v4 delivers the second only then.",
        "v1~plain~patch-v4~nmix2@work~irq@later",
    ),
    "ghost": Entry(
        "Three NMIs one after another in a handler, and an interrupt later: patch v4 delivers one too many then.",
        "v1~plain~patch-v4~nmi@work~nmi@entry~nmi@body~nmi@leave~irq@later",
    ),
    "wrong-bit-loses": Entry(
        "A second NMI in the handler of the first: v6.4-rc drops it (puzzle 8).",
        "v1~plain~vnmi-6.4-rc~nmi@work~nmi@body",
    ),
    "wrong-bit-over-delivers": Entry(
        "One NMI and then two more while GIF is 0: v6.4-rc delivers three (puzzle 8, derived).",
        "v1~gif~vnmi-6.4-rc~nmi@closed~nmix2@opening",
    ),
    "moved": Entry(
        "Migration between two NMIs, one in service and one in V_NMI: patch v4 leaves one behind (puzzle 22).",
        "v1~stops~patch-v4~nmi@work~nmi@body~migrate@saved",
    ),
    "moved-masked": Entry(
        "Migration in the handler, and an NMI after it: patch v4 forgot that NMIs are masked (puzzle 22).",
        "v1~stops~patch-v4~nmi@work~migrate@saved~nmi@saved",
    ),
    "nested": Entry(
        "A second NMI in the handler, under blind injection: the handler nests (puzzle 1).",
        "v1~plain~blind~nmi@work~nmi@body",
    ),
    "bad-iret": Entry(
        "The handler's IRET faults with an NMI waiting: Xen's way takes it before the fault is handled (puzzle 11).",
        "v1~bad-iret~xen-like~nmi@work~nmi@body",
    ),
}
"""Where the shipped policies differ, under the one that gets it wrong."""

PUZZLES: Mapping[str, Entry] = {
    "invalid": Entry("V_NMI_ENABLE without the NMI intercept: VMRUN is refused (puzzle 3).", "v1~plain~m10~nmi@work"),
    "idt-absent": Entry(
        "The IDT's page is absent when an NMI is delivered: KVM injects it again (puzzle 5).",
        "v1~plain~vnmi~nmi@work~absent@idt",
    ),
    "idt-absent-lost": Entry(
        "The same, and nobody looks at EXITINTINFO: the NMI is lost (puzzle 5).", "v1~plain~m5~nmi@work~absent@idt"
    ),
    "three-before-entry": Entry(
        "Three NMIs before the guest first runs: it sees two (puzzle 7).", "v1~plain~vnmi~nmix3@0"
    ),
    "stepped": Entry(
        "Code that single-steps itself is interrupted by two NMIs: legacy loses its trap (puzzle 9, derived).",
        "v1~stepped~legacy~nmi@work~nmi@body",
    ),
    "stepped-handler": Entry(
        "A handler that steps its own IRET, with an NMI waiting: legacy swallows that #DB (puzzle 10, derived).",
        "v1~stepped-handler~legacy~nmi@work~nmi@body",
    ),
    "bad-iret-stepped": Entry(
        "Legacy steps an IRET that faults: the fault's frame shows the borrowed TF (puzzle 11, derived).",
        "v1~bad-iret~legacy~nmi@work~nmi@body",
    ),
    "iret-to-itself": Entry(
        "An IRET that returns to itself: legacy sees the same RIP and stays masked (puzzle 12, derived).",
        "v1~iret-to-itself~legacy~nmi@work~nmi@body",
    ),
    "iret-npf": Entry(
        "A nested page fault half-way through IRET: NMIs stay masked until it completes (puzzle 13).",
        "v1~iret-npf~legacy~nmi@work~nmi@body~absent@frame",
    ),
    "gif-self": Entry(
        "Two NMIs to itself under CLGI: one handler run on bare metal, two under KVM (puzzle 14, derived).",
        "v1~gif-self~vnmi",
    ),
    "int3-inside": Entry(
        "An exception's IRET inside the NMI handler unmasks NMIs, on hardware too (puzzles 19, 20).",
        "v1~int3-inside~vnmi~nmi@work~nmi@body",
    ),
    "smi": Entry("An SMI and an NMI at once: the NMI waits for RSM (puzzle 21).", "v1~plain~vnmi~smi@work~nmi@work"),
    "smi-in-handler": Entry(
        "An SMI in the NMI handler, and another NMI: RSM does not unmask, the IRET does (puzzle 21).",
        "v1~plain~vnmi~nmi@work~smi@body~nmi@body",
    ),
    "get-then-set": Entry(
        "An NMI in V_NMI behind GIF 0; its events are read and set as they were: it is doubled (puzzle 23, derived).",
        "v1~gif-stops~vnmi~nmi@closed~getset@stopped",
    ),
    "moved-pending": Entry(
        "Migration with V_NMI 1 and V_NMI_MASK 1 loses nothing (puzzle 22).",
        "v1~stops~vnmi~nmi@work~nmi@body~migrate@saved",
    ),
    "sti-hlt": Entry(
        "V_NMI set in the shadow before HLT: KVM may sleep on it (puzzle 24, derived).",
        "v1~sti-hlt~vnmi~nmi@halting~absent@halting",
    ),
    "caching": Entry(
        "Clean bit 3 left set on a processor that caches: V_NMI is missed (puzzle 27).",
        "v1~plain~m12~nmi@work~caching",
    ),
    "exception-first": Entry(
        "An exception in EVENTINJ and V_NMI 1: the exception's frame comes first (puzzle 28, derived).",
        "v1~stepped~vnmi~nmi@next",
    ),
    "skipped-iret": Entry(
        "nRIP of an IRET exit is the next instruction: who goes there skips the IRET (puzzle 30).",
        "v1~plain~m4~nmi@work~nmi@body",
    ),
    "self": Entry(
        "An NMI to itself, and one from its handler (kvm-unit-tests eventinj: NMI).", "v1~self~vnmi~absent@idt"
    ),
    "self10": Entry("Ten NMIs to itself in the handler: one more (kvm-unit-tests: pending nmi).", "v1~self10~vnmi"),
}
"""Corner cases and stages of kvm-unit-tests that a run shows."""

LIBRARY: dict[str, Entry] = {**COSTS, **DIFFERENCES, **PUZZLES}
"""Every named scenario."""
assert len(LIBRARY) == len(COSTS) + len(DIFFERENCES) + len(PUZZLES), "two scenarios have the same name"


def find(text: str) -> Scenario:
    """Return a scenario by its name or its text form; ``ValueError`` in one line for neither."""
    if text in LIBRARY:
        return LIBRARY[text].scenario
    if text.startswith(VERSION[0]) and SEPARATOR in text:
        return Scenario.parse(text)
    raise ValueError(misspelt("the library", text, [*LIBRARY], "scenario"))
