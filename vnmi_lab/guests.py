"""Named guests: small programs whose labels are the moments that a scenario speaks of.

All of them count an NMI at ``entry`` of its handler, end in a loop of HLT called ``rest``, and run on bare metal as
they are. ``DATA`` is a page of their own that a scenario can leave out of the nested page table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from vnmi_lab.guest import IDT, MAIN, STACK, Guest
from vnmi_lab.hv.exits import NMI_COMPLETE
from vnmi_lab.hw.delivery import NMI_WORD, vector_of

NMI_VECTOR = vector_of(NMI_WORD)
DB, BP, GP = 1, 3, 13
DATA = 0x360000
PLACES = {"idt": IDT, "stack": STACK - 8, "data": DATA}
"""Pages that have a name in every guest, besides its labels."""
SELF = "mov dword [r15], 0x4400\n"
FAR_FRAME = MAIN + 0x1008
RETURN_FRAME = "frame: dq returned\ndq 8\ndq 2\ndq 0x350000\ndq 0x10"
"""An interrupt frame in the program's second page, and where it stands in ``idle-iret-npf``."""
REST = "rest: hlt\njmp rest"
HANDLER = "entry: inc qword [rbx+16]\nbody: nop\nleave: iretq"
FIRST_ONLY = "entry: inc qword [rbx+16]\ncmp qword [rbx+16], 1\njne leave\n"
STEPS_OFF = "and dword [rsp+16], 0xfffffeff\ninc qword [rbx+8]\niretq"
SET_TF = "pushfq\nor dword [rsp], 0x100\npopfq\n"


@dataclass(frozen=True, slots=True)
class Source:
    """A guest as text: main, and handlers as (vector, text)."""

    main: str
    handlers: tuple[tuple[int, str], ...] = ()

    def guest(self) -> Guest:
        """Assemble it; ``ValueError`` in one line for what cannot be."""
        return _assembled(self)


@dataclass(frozen=True, slots=True)
class Named:
    """A guest of the library and what it does, in a sentence."""

    sentence: str
    source: Source


@cache
def _assembled(source: Source) -> Guest:
    return Guest.of(source.main, dict(source.handlers), tail="hlt")


def _named(sentence: str, main: str, nmi: str = HANDLER, **others: str) -> Named:
    """Return a guest; ``others`` are handlers by vector: ``h13="..."``."""
    handlers = {NMI_VECTOR: nmi} | {int(name[1:]): text for name, text in others.items()}
    return Named(sentence, Source(f"{main}\n{REST}", tuple(sorted(handlers.items()))))


GUESTS: dict[str, Named] = {
    "plain": _named(
        "Interrupts on; works, then halts.",
        "start: sti\nnop\nwork: nop\nnop\nlater: nop\nnop",
    ),
    "stops": _named(
        "Stops to user space in its NMI handler, and once more after it.",
        "start: sti\nnop\nwork: nop\nnop\nout 0x11, al\nmoved: nop\nnop",
        "entry: inc qword [rbx+16]\nbody: nop\nout 0x10, al\nsaved: nop\nnop\nleave: iretq",
    ),
    "shadow": _named(
        "Touches a page in the shadow of an STI: where that page is absent there is an exit in the shadow.",
        f"start: nop\nwork: sti\nshadowed: inc qword [{DATA:#x}]\nafter: nop\nlater: nop\nnop",
    ),
    "sti-hlt": _named(
        "STI; HLT, with the HLT on a page of its own: where that page is absent there is an exit in the shadow.",
        "start: jmp work\ntimes 0xffa nop\nwork: sti\nhalting: hlt\nafter: nop",
    ),
    "gif": _named(
        "Closes GIF for a while.",
        "start: nop\nclgi\nclosed: nop\nnop\nopening: stgi\nopen: nop\nnop",
    ),
    "gif-stops": _named(
        "Closes GIF for a while, and stops to user space in that while.",
        "start: nop\nclgi\nclosed: nop\nout 0x10, al\nstopped: nop\nopening: stgi\nopen: nop\nnop",
    ),
    "gif-self": _named(
        "Sends itself two NMIs while GIF is closed.",
        f"start: nop\nclgi\nclosed: {SELF}{SELF}opening: stgi\nopen: nop\nnop",
    ),
    "self": _named(
        "Sends itself an NMI, and another from the handler of the first.",
        f"start: nop\nwork: {SELF}sent: nop\nnop",
        f"{FIRST_ONLY}body: {SELF}nop\nleave: iretq",
    ),
    "self10": _named(
        "Sends itself an NMI, and ten more from the handler of the first (kvm-unit-tests: pending nmi).",
        f"start: nop\nwork: {SELF}sent: nop\nnop",
        f"{FIRST_ONLY}body: {SELF * 10}nop\nleave: iretq",
    ),
    "bad-iret": _named(
        "The first NMI handler's IRET faults; the #GP handler mends the frame and stops to user space.",
        "start: nop\nwork: nop\nnop",
        f"{FIRST_ONLY}mov rbp, rsp\nbody: mov qword [rsp+8], 0x1234\nnop\nleave: iretq",
        h13="fault: inc qword [rbx+104]\nmov qword [rbp+8], 8\nout 0x13, al\nfixed: add rsp, 8\niretq",
    ),
    "iret-npf": _named(
        "The NMI handler returns from a frame on a page of its own: where that is absent the IRET exits half-way.",
        "start: lea r13, [frame]\nwork: nop\nreturned: nop\njmp rest\ntimes 0x1000 nop\n"
        "frame: dq returned\ndq 8\ndq 2\ndq 0x350000\ndq 0x10",
        f"{FIRST_ONLY}body: mov rsp, r13\nnop\nleave: iretq",
    ),
    "iret-to-itself": _named(
        "The NMI handler's first IRET returns to that same IRET, which then returns to the program.",
        "start: nop\nwork: nop\nnop\nlater: nop\nnop",
        f"{FIRST_ONLY}mov rbp, rsp\nlea r14, [leave]\npush 0x10\npush rbp\npush 2\npush 8\npush r14\nbody: nop\n"
        "leave: iretq",
    ),
    "int3-inside": _named(
        "The NMI handler executes INT3: the IRET of that exception is the first one.",
        "start: nop\nwork: nop\nnop",
        f"{FIRST_ONLY}body: nop\nint3\nunfinished: nop\nleave: iretq",
        h3="inside: inc qword [rbx+24]\niretq",
    ),
    "sev-es": _named(
        "An SEV-ES guest: its NMI handler says NMI_COMPLETE, by VMMCALL, as a VMGEXIT would.",
        "start: nop\nwork: nop\nnop",
        f"entry: inc qword [rbx+16]\nbody: mov eax, {NMI_COMPLETE:#x}\nvmmcall\nsaid: nop\nleave: iretq",
        h6="add qword [rsp], 3\niretq",
    ),
    "stepped": _named(
        "Single-steps itself; the #DB handler ends it.",
        f"start: {SET_TF}work: nop\nnext: nop\nafter: nop",
        h1=STEPS_OFF,
    ),
    "stepped-handler": _named(
        "The NMI handler single-steps its own last instructions.",
        "start: nop\nwork: nop\nnop",
        f"{FIRST_ONLY}body: nop\n{SET_TF}leave: iretq",
        h1=STEPS_OFF,
    ),
    # The judge's own: as short as can be, interrupts off, so that a search is small.
    "idle": _named("Works a little with interrupts off, then halts.", "start: nop\nnop\nwork: nop"),
    "idle-brief": _named(
        "Halts at once, and its handler only counts: the smallest there is.",
        "start: nop",
        "entry: inc qword [rbx+16]\nleave: iretq",
    ),
    "idle-stops": _named(
        "Halts after a stop to user space, and stops in its NMI handler, too.",
        "start: nop\nout 0x10, al\nnop",
        "entry: inc qword [rbx+16]\nout 0x11, al\nbody: nop\nleave: iretq",
    ),
    "idle-shadow": _named(
        "Touches page 0 in the shadow of an STI: where that page is absent there is an exit in the shadow.",
        "start: cli\nsti\nshade: inc qword [rax]\nnop",
    ),
    "idle-gif": _named("Closes and opens GIF, then halts.", "start: clgi\nshut: nop\nstgi\nnop"),
    "idle-faulty": _named(
        "The NMI handler's IRET always faults once; the #GP handler mends its frame.",
        "start: nop\nnop",
        "entry: inc qword [rbx+16]\nmov qword [rsp+8], 0x1234\nleave: iretq",
        h13="fix: mov rax, [rsp+32]\nmov qword [rax+8], 8\nadd rsp, 8\niretq",
    ),
    "idle-open": _named(
        "Its NMI handler lets interrupts in.",
        "start: nop\nnop",
        "entry: inc qword [rbx+16]\nsti\nbody: nop\nleave: iretq",
    ),
    "idle-iret-npf": _named(
        "The NMI handler returns from a frame on a page of its own: where that is absent its IRET exits half-way.",
        f"start: nop\nnop\nreturned: nop\njmp rest\ntimes 0x1000 nop\n{RETURN_FRAME}",
        f"entry: inc qword [rbx+16]\nmov rsp, {FAR_FRAME:#x}\nleave: iretq",
    ),
    "idle-self": _named("Sends itself an NMI, then halts.", f"start: nop\n{SELF}after: nop\nnop"),
    "idle-gif-self": _named(
        "Sends itself two NMIs behind CLGI, then halts.", f"start: clgi\n{SELF}{SELF}stgi\nafter: nop\nnop"
    ),
}
"""Every guest by its name in a scenario."""
