"""Lanes: what is drawn where, in units of steps and rows. Knows of no pixel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from vnmi_lab.timeline.columns import Column, at, column, number, runs
from vnmi_lab.timeline.fields import EVENT_VALID, WAVES, Wave

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
    """Give the world as bands ``[from, to, name]``; a crossing lies in the middle of its step."""
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


def _shown(wave: Wave, flat: Column) -> bool:
    values = flat[1::2]
    if wave.show == "always":
        return True
    if wave.show == "set":
        return any(number(value) & wave.mask for value in values)
    return len({value for value in values if value is not None}) > 1


def waves(state: Mapping[str, Column]) -> list[dict[str, Any]]:
    """Give the waves of the fields this run has; ``quiet`` ones are drawn only when asked for."""
    return [
        {
            "key": w.key,
            "detail": w.detail,
            "high": w.high,
            "style": w.style,
            "mask": w.mask,
            "quiet": not _shown(w, state[w.key]),
        }
        for w in WAVES
        if any(value is not None for value in state.get(w.key, [])[1::2])
    ]


class Links:
    """Cause and effect: walks the states of a run and notes which change let a delivery happen."""

    def __init__(self) -> None:
        """Start with no cause seen."""
        self.found: list[list[Any]] = []
        self._since: dict[str, int] = {}

    def walk(self, state: Mapping[str, Column], kinds: Sequence[str]) -> list[list[Any]]:
        """Give the arrows as ``[from step, from lane, to step, to lane, sentence]``."""
        for now in range(len(kinds)):
            old, new = ({key: number(at(state.get(key, []), step)) for key in WATCHED} for step in (now - 1, now))
            if kinds[now] == "stimulus" and new["nmi_latch"] and not old["nmi_latch"]:
                self.found.append(
                    [now, "outside", now, "nmi_latch", "The NMI that arrived is remembered in nmi_latch."]
                )
            if kinds[now] == "deliver":
                self._deliver(now, old, new)
            for name, key, was, becomes in CAUSES:
                if (bool(old[key]), bool(new[key])) == (was, becomes):
                    self._since[name] = now
            if new["event_inj"] & EVENT_VALID and new["event_inj"] != old["event_inj"]:
                self._since["injection"] = now
        return self.found

    def _deliver(self, now: int, old: Mapping[str, int], new: Mapping[str, int]) -> None:
        if old["nmi_latch"] and not new["nmi_latch"]:
            self._held(
                now, "latched", "unmasked", "nmi_mask", "The IRET cleared nmi_mask, so the latched NMI is taken."
            )
        elif old["live_v_nmi_pending"] and not new["live_v_nmi_pending"]:
            sentence = "The IRET cleared V_NMI_MASK, so the pending virtual NMI is taken."
            self._held(now, "v_latched", "v_unmasked", "live_v_nmi_blocking", sentence)
        elif "injection" in self._since:
            sentence = "VMRUN found a valid EVENTINJ, so the event is taken before the guest's first instruction."
            self.found.append([self._since.pop("injection"), "event_inj", now, "code", sentence])

    def _held(self, now: int, latched: str, unmasked: str, lane: str, sentence: str) -> None:
        cause = self._since.get(unmasked, -1)
        if cause > self._since.get(latched, now):
            self.found.append([cause, lane, now, "code", sentence])


WATCHED = ("nmi_mask", "nmi_latch", "event_inj", "live_v_nmi_pending", "live_v_nmi_blocking")
CAUSES = (
    ("latched", "nmi_latch", False, True),
    ("unmasked", "nmi_mask", True, False),
    ("v_latched", "live_v_nmi_pending", False, True),
    ("v_unmasked", "live_v_nmi_blocking", True, False),
)
"""Name of a cause, the field, its value before and after."""
