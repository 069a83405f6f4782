"""Lanes: what is drawn where, in units of steps and rows. Knows of no pixel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from vnmi_lab import words
from vnmi_lab.hv.calls import rule_of
from vnmi_lab.timeline.columns import Column, at, column, number, runs
from vnmi_lab.timeline.fields import WAVES, Wave

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vnmi_lab.rules import Rule
    from vnmi_lab.trace import Step

MARK_STYLES = (("nmi", re.compile(r"\bNMI\b")), ("intr", re.compile(r"\bINTR\b|\binterrupt\b", re.IGNORECASE)))
"""The first that matches the text of a stimulus names its mark; "other" if none does."""

EXIT = re.compile(r"^#VMEXIT\s*")
HOST = re.compile(r"^host:\s*")


def marks(steps: Iterable[Step]) -> list[list[Any]]:
    """Give what came from outside as ``[step, style, label]``."""
    found: list[list[Any]] = []
    for index, step in enumerate(steps):
        if step.kind == "host":
            found.append([index, "host", HOST.sub("", step.text)])
        elif step.kind == "stimulus":
            style = next((name for name, pattern in MARK_STYLES if pattern.search(step.text)), "other")
            found.append([index, style, step.text.removesuffix(" arrives")])
    return found


def crossings(steps: Iterable[Step]) -> list[list[Any]]:
    """Give each VMRUN and #VMEXIT as ``[step, "down" or "up", label]``."""
    found: list[list[Any]] = []
    for index, step in enumerate(steps):
        if step.kind == "vmrun":
            found.append([index, "down", step.text])
        elif step.kind == "vmexit":
            found.append([index, "up", EXIT.sub("", step.text) or step.text])
    return found


def worlds(steps: Sequence[Step]) -> list[list[Any]]:
    """Give the world as bands ``[from, to, name]``; a crossing lies in the middle of its step.

    The name is "bare", "guest" or "host", under KVM "kvm".
    """
    bands = _worlds(steps)
    if any(step.calls for step in steps):
        return [[first, end, "kvm" if world == "host" else world] for first, end, world in bands]
    return bands


def is_bare(steps: Sequence[Step]) -> bool:
    """Say whether nothing stands between a guest and the processor."""
    return all(step.world == "bare" for step in steps)


def _worlds(steps: Sequence[Step]) -> list[list[Any]]:
    bands: list[list[Any]] = []
    for index, step in enumerate(steps):
        crossing = step.kind in {"vmrun", "vmexit"}
        if not bands:
            before = {"vmrun": "host", "vmexit": "guest"}.get(step.kind, step.world)
            bands.append([0, len(steps), before])
        if bands[-1][2] != step.world:
            edge = index + 0.5 if crossing else float(index)
            bands[-1][1] = edge
            bands.append([edge, len(steps), step.world])
    return bands


MOST_NAMES = 6
"""Rows of the lane of KVM functions."""


def calls(steps: Sequence[Step], rules: Mapping[str, Rule]) -> dict[str, list[Any]]:
    """Give the KVM functions that ran, and the names to write in their lane.

    ``functions`` are ``[name, file, what it does]``, ``paths`` distinct lists of ``[depth, function]``, ``at`` the
    steps that have one as ``[step, path]``. A name in ``lane`` is ``[step, row, end, name]``: it may be as long as
    the way to ``end``, where another begins in its row.
    """
    functions: dict[str, int] = {}
    table: list[list[str]] = []
    paths: dict[tuple[tuple[int, int], ...], int] = {}
    found: list[list[int]] = []
    called = [(step, path) for step, path in enumerate(said.calls for said in steps) if path]
    for step, said in called:
        for _, name, file in said:
            if name not in functions:
                functions[name] = len(table)
                rule = rules.get(rule_of(name))
                table.append([name, file, rule.sentence if rule else ""])
        path = tuple((depth, functions[name]) for depth, name, _ in said)
        found.append([step, paths.setdefault(path, len(paths))])
    whole = [[list(call) for call in path] for path in paths]
    return {"functions": table, "paths": whole, "at": found, "lane": _names(steps, [step for step, _ in called])}


def _names(steps: Sequence[Step], called: Sequence[int]) -> list[list[Any]]:
    """Give the functions that did something, each step's names below those of the step close before it."""
    names: list[list[Any]] = []
    last, row = -MOST_NAMES, 0
    for step in called:
        acted = [call.function for call in words.acted(steps[step].events, steps[step].changes)]
        if not acted:
            continue
        if len(acted) > MOST_NAMES:
            acted[MOST_NAMES - 1 :] = [f"{len(acted) - MOST_NAMES + 1} more"]
        if step - last > CLOSE or row + len(acted) > MOST_NAMES:
            row = 0
        names += [[step, row + place, len(steps), name] for place, name in enumerate(acted)]
        last, row = step, row + len(acted)
    following: dict[int, int] = {}
    for name in reversed(names):
        name[2] = following.get(name[1], name[2])
        following[name[1]] = name[0]
    return names


CLOSE = 3
"""So many steps apart, names would be written over one another."""


def rows(steps: Sequence[Step], where: Mapping[int, str]) -> tuple[Column, Column]:
    """Give for each step the row of the code lane (how many handlers deep) and whose code it is.

    An IRET belongs to the handler it leaves, so an instruction stands at the depth before it.
    """
    row: list[int] = []
    owner: list[str] = []
    depth = 0
    for step in steps:
        after = number(step.state.get("handler_depth"))
        here = where.get(step.rip, "main") if step.kind == "exec" else "main"
        inside = after if step.kind == "deliver" else depth
        other = here not in {"main", "h2"} or (step.kind == "deliver" and after == depth)
        row.append(max(inside, int(here == "h2")) + int(other))
        owner.append("other" if other else "nmi" if row[-1] else "main")
        depth = after
    return column(row), column(owner)


def handlers(steps: Sequence[Step], depths: Column, row: Column, owner: Column) -> list[list[Any]]:
    """Give each run of a handler as ``[from, to, row, style, name, short name]``, the IRET that ends it included."""
    return _nmi_runs(depths, len(steps)) + _other_runs(steps, row, owner)


def _nmi_runs(depths: Column, end: int) -> list[list[Any]]:
    spans: list[list[Any]] = []
    opened: list[list[Any]] = []
    before = 0
    for first, _, value in runs(depths, end):
        depth = number(value)
        for row in range(before + 1, depth + 1):
            count = len(spans) + 1
            spans.append([first, end, row, "nmi", f"NMI handler, run {count}", f"NMI {count}"])
            opened.append(spans[-1])
        for _ in range(depth, before):
            opened.pop()[1] = first + 1
        before = depth
    return spans


def _other_runs(steps: Sequence[Step], row: Column, owner: Column) -> list[list[Any]]:
    """Give the runs of other handlers: from the step that enters one until code stands below it again."""
    code = [step for step, said in enumerate(steps) if said.kind in {"exec", "deliver"}]
    spans: list[list[Any]] = []
    for place, step in enumerate(code):
        if steps[step].kind != "deliver" or at(owner, step) != "other":
            continue
        level, end = at(row, step), step + 1
        for later in code[place + 1 :]:
            if at(row, later) < level or (at(row, later) == level and steps[later].kind == "deliver"):
                break
            end = later + 1
        vector = re.search(r"vector [0-9A-F]+h?", steps[step].text)
        name = vector[0] if vector else "other handler"
        spans.append([step, end, level, "other", f"handler of {name}" if vector else name, name])
    return spans


def events(kinds: Sequence[str], state: Mapping[str, Column]) -> list[int]:
    """Give the steps worth stopping at: all but instructions that leave every wave as it was."""
    moves = {step for wave in WAVES for step in state.get(wave.key, [])[2::2]}
    return [step for step, kind in enumerate(kinds) if kind != "exec" or step in moves]


def _shown(wave: Wave, flat: Column, *, kvm: bool) -> bool:
    values = flat[1::2]
    show = (kvm and wave.kvm) or wave.show
    if show in ("always", "asked"):
        return show == "always"
    if show == "set":
        return any(number(value) & wave.mask for value in values)
    return len({value for value in values if value is not None}) > 1


def waves(state: Mapping[str, Column]) -> list[dict[str, Any]]:
    """Give the waves of the fields this run has; ``quiet`` ones are drawn only when asked for."""
    return [
        {
            "group": w.group,
            "key": w.key,
            "detail": w.detail,
            "high": w.high,
            "style": w.style,
            "mask": w.mask,
            "quiet": not _shown(w, state[w.key], kvm="nmi_pending" in state),
        }
        for w in WAVES
        if any(value is not None for value in state.get(w.key, [])[1::2])
    ]
