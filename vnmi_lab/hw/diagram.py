"""Draws the states of an NMI from the tables of ``hw/delivery.py``: nothing here knows a transition by itself.

Two small machines come out: the physical latch and mask, and V_NMI and V_NMI_MASK of a guest with virtual NMIs.
Each has a pending bit and a mask bit, so four states, and three things can happen in each.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from vnmi_lab.hw.delivery import ARRIVALS, BY_NAME, HOLDS, ON_IRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vnmi_lab.hw.cpu import Cpu

STATES = {(0, 0): "open", (1, 0): "pending", (0, 1): "in service", (1, 1): "in service, one pending"}
TAKEN, IRET = "taken", "IRET completes"


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two machines: its title, its source, how an NMI gets in and by which rules, its two bits."""

    title: str
    source: str
    arrives: str
    rules: tuple[str, str]
    pending: str
    mask: str
    virtual: bool


KINDS = (
    Kind(
        "physical NMI",
        "nmi",
        "NMI arrives",
        (ARRIVALS["nmi"][1], "R-NMI-COALESCE"),
        "nmi_latch",
        "nmi_mask",
        virtual=False,
    ),
    Kind(
        "virtual NMI (V_NMI_ENABLE = 1)",
        "vnmi",
        "host sets V_NMI",
        ("R-VMRUN-VNMI", "R-VMRUN-VNMI"),
        "v_nmi_pending",
        "v_nmi_blocking",
        virtual=True,
    ),
)
State = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Transition:
    """From one state to another (pending, mask): what happens, and the rules that make it so."""

    before: State
    action: str
    after: State
    rules: tuple[str, ...]


def _machine(kind: Kind, state: State) -> Cpu:
    """Return a stand-in for a processor in which nothing but ``state`` holds anything."""
    fields = dict.fromkeys(("shadow", "nmi_mask", "v_nmi_blocking", "nmi_latch", "v_nmi_pending", "v_gif_enable"), 0)
    fields |= {"gif": 1, kind.pending: state[0], kind.mask: state[1]}
    return cast("Cpu", SimpleNamespace(**fields))


def _arrive(kind: Kind, state: State) -> Transition:
    """Let one more arrive; V_NMI is set by software between two runs, the latch by the outside world."""
    return Transition(state, kind.arrives, (1, state[1]), (kind.rules[state[0]],))


def _take(kind: Kind, state: State) -> Transition | None:
    cpu, source = _machine(kind, state), BY_NAME[kind.source]
    if not getattr(cpu, source.pending) or any(HOLDS[hold](cpu) for hold, _rule in source.holds):
        return None
    for _rule, field, new in source.takes:
        setattr(cpu, field, new(cpu))
    after = getattr(cpu, kind.pending), getattr(cpu, kind.mask)
    return Transition(state, TAKEN, after, tuple(rule for rule, _field, _new in source.takes))


def _iret(kind: Kind, state: State) -> Transition:
    cpu = _machine(kind, state)
    for _rule, field, new in ON_IRET[kind.virtual]:
        setattr(cpu, field, new)
    after = getattr(cpu, kind.pending), getattr(cpu, kind.mask)
    return Transition(state, IRET, after, tuple(rule for rule, _field, _new in ON_IRET[kind.virtual]))


def transitions(kind: Kind) -> tuple[Transition, ...]:
    """Return every transition of one machine, in the order of its states."""
    found = ((_arrive(kind, state), _take(kind, state), _iret(kind, state)) for state in STATES)
    return tuple(t for group in found for t in group if t is not None)


def text() -> str:
    """Return the transitions as lines of text."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for kind in KINDS:
        yield f"{kind.title}: {kind.pending}, {kind.mask}"
        for t in transitions(kind):
            yield f"  {STATES[t.before]:<24} {t.action:<15} -> {STATES[t.after]:<24} {', '.join(t.rules)}"


# --- as a picture -------------------------------------------------------------------------------------------------

BOX_W, BOX_H, GAP_X, GAP_Y, LEFT, TOP = 212, 48, 148, 112, 24, 56
WIDTH = 2 * LEFT + 2 * BOX_W + GAP_X
HEIGHT = TOP + 2 * BOX_H + GAP_Y + 72
STYLE = (
    "text{font-family:system-ui,sans-serif;font-size:12px;fill:#1f2933}.t{font-size:15px;font-weight:600}"
    ".s{font-weight:600}.r{font-size:10px;fill:#52606d}.b{fill:#eef4fb;stroke:#2b6cb0;stroke-width:1.5}"
    ".m{fill:#fdf0e3;stroke:#b7560b}.a{fill:none;stroke:#3e4c59;stroke-width:1.5;marker-end:url(#h)}"
)
MARKER = (
    '<defs><marker id="h" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#3e4c59"/></marker></defs>'
)


def svg() -> str:
    """Return the diagram as SVG, both machines one beside the other."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {HEIGHT}" width="{2 * WIDTH}" role="img">',
        "<title>States of a physical and of a virtual NMI</title>",
        f"<style>{STYLE}</style>",
        MARKER,
        f'<rect width="{2 * WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for i, kind in enumerate(KINDS):
        parts.append(f'<g transform="translate({i * WIDTH} 0)">{"".join(_half(kind))}</g>')
    return "\n".join(parts) + "\n</svg>\n"


def _half(kind: Kind) -> Iterator[str]:
    yield f'<text class="t" x="{LEFT}" y="32">{kind.title}</text>'
    for state, name in STATES.items():
        x, y = _corner(state)
        box = "b m" if state[1] else "b"
        yield f'<rect class="{box}" x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="6"/>'
        yield f'<text class="s" text-anchor="middle" x="{x + BOX_W / 2:g}" y="{y + 20}">{name}</text>'
        bits = f"{kind.pending} {state[0]}, {kind.mask} {state[1]}"
        yield f'<text class="r" text-anchor="middle" x="{x + BOX_W / 2:g}" y="{y + 36}">{bits}</text>'
    for t in transitions(kind):
        if t.before != t.after:
            yield from _arrow(t)
    yield from _merges(kind)


def _corner(state: State) -> tuple[int, int]:
    return LEFT + state[0] * (BOX_W + GAP_X), TOP + state[1] * (BOX_H + GAP_Y)


def _arrow(t: Transition) -> Iterator[str]:
    (x1, y1), (x2, y2) = _corner(t.before), _corner(t.after)
    at: tuple[float, float]
    if y1 == y2:
        path, at = (x1 + BOX_W, y1 + 24, x2, y2 + 24), (x1 + BOX_W + GAP_X / 2, y1 + 16)
    elif x1 == x2:
        path, at = (x1 + 84, y1, x2 + 84, y2 + BOX_H), (x1 + 84, (y1 + y2 + BOX_H) / 2)
    else:
        path, at = (x1 + 24, y1 + BOX_H, x2 + BOX_W - 24, y2), ((x1 + x2 + BOX_W) / 2, (y1 + y2 + BOX_H) / 2 - 8)
    yield '<path class="a" d="M{} {}L{} {}"/>'.format(*path)
    yield _label(at[0], at[1], t.action, ", ".join(t.rules))


def _label(x: float, y: float, action: str, rules: str) -> str:
    width = 6.2 * max(len(action), 0.86 * len(rules))
    return (
        f'<rect x="{x - width / 2 - 4:g}" y="{y - 13:g}" width="{width + 8:g}" height="30" fill="#fff" opacity=".92"/>'
        f'<text text-anchor="middle" x="{x:g}" y="{y:g}">{action}</text>'
        f'<text class="r" text-anchor="middle" x="{x:g}" y="{y + 13:g}">{rules}</text>'
    )


def _merges(kind: Kind) -> Iterator[str]:
    same = [t for t in transitions(kind) if t.before == t.after and t.action == kind.arrives]
    states = " and ".join(f"“{STATES[t.before]}”" for t in same)
    rules = ", ".join(dict.fromkeys(rule for t in same for rule in t.rules))
    yield f'<text x="{LEFT}" y="{HEIGHT - 40}">In {states} one more NMI changes nothing.</text>'
    yield f'<text class="r" x="{LEFT}" y="{HEIGHT - 24}">{rules}</text>'
