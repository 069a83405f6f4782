"""What the problems are about: a small guest, a policy and NMIs, drawn anew for each; a level is a row of a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vnmi_lab.checks.practice.draw import Draw
from vnmi_lab.guests import DATA, NMI_VECTOR, Source
from vnmi_lab.machine import Stimulus
from vnmi_lab.scenario import BARE, Scenario

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
"""The labels of a program's instructions: every one has a name to be spoken of."""
WORK = ("inc rax", "inc rcx", "nop", "inc rdx", "nop")
INSIDE = ("body", "more", "last")
REST = "rest: hlt\nwoken: jmp rest"
TRAP = "trap: inc qword [rbx+24]\nback: iretq"
BREAKPOINT = 3


class Scene(NamedTuple):
    """A guest, what is absent at first, and the labels of its program and of its handler where NMIs may arrive."""

    guest: Source | str
    outer: tuple[str, ...]
    inner: tuple[str, ...]
    absent: tuple[str, ...] = ()


def _numbered(lines: list[str]) -> str:
    return "\n".join([*(f"{name}: {line}" for name, line in zip(NUMBERS, lines, strict=False)), REST])


def _handler(draw: Draw, *, breaks: bool = False) -> tuple[tuple[tuple[int, str], ...], tuple[str, ...]]:
    """Return the handlers of a guest and the labels of its NMI handler."""
    names = INSIDE[: 1 + draw.below(len(INSIDE))]
    at = draw.below(len(names)) if breaks else -1
    body = [f"{name}: {'int3' if number == at else draw.pick(WORK)}" for number, name in enumerate(names)]
    nmi = "\n".join(["entry: inc qword [rbx+16]", *body, "leave: iretq"])
    others = ((BREAKPOINT, TRAP),) if breaks else ()
    return ((NMI_VECTOR, nmi), *others), ("entry", *names, "leave")


def plain(draw: Draw, *, breaks: bool = False) -> Scene:
    """Return a program of a few instructions, one after the other; ``breaks``: its handler meets a breakpoint."""
    lines = [draw.pick(WORK) for _ in range(3 + draw.below(4))]
    if draw.chance(30):
        lines[0] = "cli"  # IF has no say about NMIs
    handlers, inner = _handler(draw, breaks=breaks)
    return Scene(Source(_numbered(lines), handlers), NUMBERS[: len(lines)], inner)


def breaking(draw: Draw) -> Scene:
    """Return a program whose NMI handler meets a breakpoint."""
    return plain(draw, breaks=True)


def closed(draw: Draw) -> Scene:
    """Return a program that closes GIF for a while."""
    before, inside, after = (1 + draw.below(most) for most in (2, 3, 2))
    lines = [*("nop",) * before, "clgi", *("nop",) * inside, "stgi", *("nop",) * after]
    handlers, inner = _handler(draw)
    return Scene(Source(_numbered(lines), handlers), NUMBERS[before : before + inside + 2], inner)


def shadowed(draw: Draw) -> Scene:
    """Return a program that touches a page which is absent, in the shadow of an STI: there is an exit in the shadow."""
    before = 1 + draw.below(2)
    lines = [*("nop",) * before, "sti", f"inc qword [{DATA:#x}]", *("nop",) * (1 + draw.below(3))]
    handlers, inner = _handler(draw)
    return Scene(Source(_numbered(lines), handlers), NUMBERS[before : before + 3], inner, ("data",))


def without_idt(draw: Draw) -> Scene:
    """Return a program whose IDT is on a page that is absent: the first delivery is interrupted."""
    return plain(draw)._replace(absent=(draw.pick(("idt", "stack")),))


def faulty(_draw: Draw) -> Scene:
    """Return the guest of the library whose handler's IRET faults once."""
    return Scene("bad-iret", ("start", "work"), ("entry", "body", "leave"))


def halfway(_draw: Draw) -> Scene:
    """Return the guest of the library whose IRET exits half-way, for a page that is absent."""
    return Scene("iret-npf", ("start", "work"), ("entry", "body", "leave"), ("frame",))


class Level(NamedTuple):
    """A level: what it is about, its guests, policies, what else people take for true, and the kinds of questions.

    What is named twice is drawn twice as often. ``entry``: how often in a hundred NMIs wait before the first entry.
    """

    about: str
    guests: tuple[Callable[[Draw], Scene], ...]
    policies: tuple[str, ...]
    rivals: tuple[str, ...]
    kinds: tuple[str, ...]
    entry: int = 0


LEVELS: dict[int, Level] = {
    1: Level(
        "NMIs on bare metal",
        (plain, plain, breaking),
        (BARE,),
        (),
        ("runs", "where", *("flag",) * 4, "next", "deepest"),
    ),
    2: Level(
        "event injection and IRET interception",
        (plain,),
        ("legacy", "legacy", "blind"),
        ("legacy", "blind", "m2", "vnmi"),
        ("runs", "iret", "steps", "where", "next", *("flag",) * 4, "deepest"),
    ),
    3: Level(
        "virtual NMIs",
        (plain, plain, breaking),
        ("vnmi",),
        ("legacy", "patch-v4", "vnmi-6.4-rc", "blind"),
        ("runs", "own", "kicks", "where", "next", "bits", "bits", *("flag",) * 4),
        20,
    ),
    4: Level(
        "shadows, GIF, and several NMIs at once",
        (closed, shadowed, plain),
        ("vnmi", "vnmi", "legacy"),
        ("legacy", "vnmi", "patch-v4", "vnmi-6.4-rc", "blind"),
        ("runs", "own", "where", "next", "bits", "steps"),
        30,
    ),
    5: Level(
        "interrupted delivery, faults, and wrong policies",
        (without_idt, without_idt, plain, closed, breaking, faulty, halfway),
        ("patch-v4", "patch-v4", "vnmi-6.4-rc", "xen-like", "vnmi", "legacy", "m2", "m4", "m5", "m6", "m7"),
        ("legacy", "vnmi", "patch-v4", "vnmi-6.4-rc", "xen-like", "blind", "m2", "m4", "m5", "m6", "m7", "m10", "m11"),
        (*("bug",) * 8, "runs", "where", "where", "next"),
        10,
    ),
}
"""The levels by number."""


def scenario(draw: Draw, level: Level) -> Scenario:
    """Draw a scenario of a level: one to three arrivals, the first of them in the program or before it."""
    scene = draw.pick(level.guests)(draw)
    first: int | str = 0 if draw.chance(level.entry) else draw.pick(scene.outer)
    stimuli = [Stimulus(first, times=_times(draw))]
    inner = draw.mixed(scene.inner)[: draw.below(3)]
    outer = [draw.pick(scene.outer)] if draw.chance(30) else []
    places = [place for place in (*scene.inner, *scene.outer) if place in {*inner, *outer} - {first}]
    stimuli += [Stimulus(place, times=_times(draw)) for place in places]
    return Scenario(scene.guest, draw.pick(level.policies), tuple(stimuli), scene.absent)


def _times(draw: Draw) -> int:
    """Return how many arrive at once: mostly one."""
    return draw.pick((1, 1, 1, 1, 1, 2, 2, 3, 2 + draw.below(9)))
