"""The drawing of policies side by side: a strip for each, one above another, on the columns they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from vnmi_lab.timeline.columns import number
from vnmi_lab.timeline.shapes import Shape, box, hatch, path, text

if TYPE_CHECKING:
    from collections.abc import Sequence

TOP, HEAD, BAND, ARROW, CELL, WAVE, FOOT = 26, 36, 20, 22, 22, 25, 10
NAMES, LETTERS = 124, 14
"""Pixels: the ruler, a strip's heading, host and guest, the way between them, an instruction, a wave, a strip's end;
and at the left the width of the names, and how many letters of a long one there is room for."""
BAR, MOST_BARS = 19, 4
PHASES = {"arrived": "main", "pending": "pend", "in service": "mask"}
OVER = {"coalesced": "merged", "lost": "lost", "extra": "from nowhere"}
"""What is written behind the bar of an NMI that did not end in its handler, or did not come from outside."""
BEYOND = {"IRET", "#DB", "STGI", "VINTR"}
"""Exits that a policy asks for itself, to learn when it may deliver the next NMI."""


Strip: TypeAlias = dict[str, Any]
"""What is drawn of a run, in columns: ``name``, ``paid`` in words, ``where`` it has steps; ``cells`` of the guest as
``[column, style, depth, taken, text, short]``; ``marks`` from outside as ``[column, style, text]``; ``crossings`` as
``[column, way, text]``; ``worlds`` as ``[from, to, name, why]``; ``waves`` as ``{name, high, style, runs}``; ``nmis``
as ``[row, name, end, stretches]``."""


def strips(runs: Sequence[Strip], columns: int, divergences: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Give the drawing: ``height``, ``gutter``, the ``names`` at the left (a unit a pixel), the ``shapes`` beside."""
    sheet = _Sheet(columns)
    sheet.ruler()
    for run in runs:
        sheet.strip(run)
    height = sheet.y
    behind = []
    for column, _, other, *_ in divergences:
        y = sheet.tops[other] + 14
        behind += [
            path([[column, 0, TOP - 6], [column, 0, height]], "mark"),
            text(column, y, ["differs from here on"], "mask ink soft strong", dx=6),
        ]
    return {"height": height, "gutter": NAMES, "names": sheet.names, "shapes": sheet.shapes + behind}


class _Sheet:
    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.names: list[Shape] = []
        self.shapes: list[Shape] = []
        self.tops: list[int] = []
        self.y = 0

    def ruler(self) -> None:
        for column in range(0, self.columns, 5):
            self.shapes.append(text(column + 0.5, 17, [str(column)], "", anchor="middle"))
        self.names.append(text(16, 17, ["column"], "lane"))
        self.y = TOP

    def rule(self) -> None:
        self.names.append(path([[0, 0, self.y + 0.5], [NAMES, 0, self.y + 0.5]], "grid"))
        self.shapes.append(path([[0, 0, self.y + 0.5], [self.columns, 0, self.y + 0.5]], "grid"))

    def name(self, y: float, said: str, classes: str = "lane") -> None:
        self.names.append(text(16, y, [said if len(said) <= LETTERS else f"{said[: LETTERS - 1]}…"], classes))

    def strip(self, run: Strip) -> None:
        self.rule()
        top = self.y
        self.tops.append(top)
        here = set(run["where"])
        first = len(self.shapes)
        self.heading(run)
        bare = all(world[2] == "bare" for world in run["worlds"])
        self.y += HEAD
        if bare:
            self.guest(run, here, "processor")
        else:
            self.worlds(run, here)
        self.nmis(run)
        for wave in run["waves"]:
            self.wave(wave, run)
        self.y += FOOT
        for start, end in _stretches(c for c in range(self.columns) if c not in here):
            self.shapes.insert(first, box(start, end, top + 1, self.y - top - 1, "only", 0))

    def heading(self, run: Strip) -> None:
        self.name(self.y + 18, run["name"], "lane strong big")
        self.name(self.y + 31, run["paid"], "note")
        for column, style, said in run["marks"]:
            y = self.y + 8
            self.shapes.append(path([[column + 0.5, 0, y], [column + 0.5, 0, y + 15]], f"{style} high"))
            tip = [[column + 0.5, -4.5, y + 12], [column + 0.5, 4.5, y + 12], [column + 0.5, 0, y + 19]]
            self.shapes.append(path(tip, f"{style} solid"))
            self.shapes.append(text(column + 0.5, y + 11, [said], f"{style} ink", dx=8))

    def worlds(self, run: Strip, here: set[int]) -> None:
        self.name(self.y + 14, "KVM")
        for start, end, world, why in run["worlds"]:
            if world != "guest":
                own = why in BEYOND
                self.shapes.append(
                    box(start, end, self.y, BAND, f"{'other' if own else 'main'} box{' thick' if own else ''}")
                )
                words = [f"{why} exit", why] if why else ["KVM"]
                self.shapes.append(
                    text(
                        (start + end) / 2,
                        self.y + 14,
                        words,
                        f"{'other' if own else 'main'} ink{' strong' if own else ''}",
                        end - start,
                        anchor="middle",
                    )
                )
        low = self.y + BAND + ARROW
        for column, way, _ in run["crossings"]:
            x, up = column + 0.5, way == "up"
            tail, head, base = (low - 2, self.y + BAND + 2, 6) if up else (self.y + BAND + 1, low - 3, -6)
            self.shapes.append(path([[x, 0, tail], [x, 0, head + base]], "arrow"))
            self.shapes.append(path([[x, -4, head + base], [x, 4, head + base], [x, 0, head]], "tip"))
        self.y = low
        self.guest(run, here, "guest")

    def guest(self, run: Strip, here: set[int], name: str) -> None:
        self.name(self.y + 15, name)
        middle = self.y + CELL / 2
        last = max(here, default=-1) + 1
        self.shapes.append(path([[0, 0, middle], [last, 0, middle]], "rest"))
        for column, style, depth, taken, said, short in run["cells"]:
            self.shapes.append(
                box(
                    column,
                    column + 1,
                    self.y + 0.5,
                    CELL - 1,
                    f"{style} {'solid' if taken else 'box'}{' thick' * (depth > 1)}",
                    1.5,
                )
            )
            words = [short] if taken else [said, short]
            self.shapes.append(
                text(column + 0.5, self.y + 15, words, "on" if taken else f"{style} ink", 1, anchor="middle")
            )
        self.y += CELL + 6

    def nmis(self, run: Strip) -> None:
        """Draw a bar for each NMI: outlined as it comes, upright lines while it waits, slanted ones in service."""
        shown = [one for one in run["nmis"] if one[0] is not None and one[0] < MOST_BARS]
        left = len(run["nmis"]) - len(shown)
        for row in range(max((one[0] for one in shown), default=-1) + 1):
            self.name(self.y + row * BAR + 14, "NMIs" if not row else "")
        if left:
            self.name(self.y + BAR + 14, f"and {left} more", "note")
        for row, name, end, spans in shown:
            y = self.y + row * BAR + 1
            for first, stop, phase, where in spans:
                style = PHASES[phase]
                self.shapes.append(box(first, stop, y, BAR - 3, f"{style} box"))
                lean = {"pend": 0, "mask": BAR - 3}.get(style)
                if lean is not None:
                    self.shapes.append(hatch(first, stop, y, y + BAR - 3, lean, f"{style} hatch"))
                said = (
                    [f"{name} in service", name]
                    if style == "mask"
                    else [f"{name} in {where}", f"{name[4:]}: {where}"] * bool(where) + [name, name[4:]]
                )
                self.shapes.append(text(first, y + 12, said, f"{style} ink soft", stop - first, dx=5))
            if end in OVER:
                self.shapes.append(text(spans[-1][1], y + 12, [OVER[end]], "said soft strong", dx=4))
        self.y += BAR * (max((one[0] for one in shown), default=-1) + 1) + 4

    def wave(self, wave: dict[str, Any], run: Strip) -> None:
        self.name(self.y + 16, wave["name"])
        high, low, style = self.y + 4, self.y + WAVE - 6, wave["style"]
        end = max(run["where"], default=-1) + 1
        for start, stop, value in wave["runs"]:
            stop = min(stop, end)  # noqa: PLW2901 - a run ends with its last step
            if not number(value):
                self.shapes.append(path([[start, 0, low], [stop, 0, low]], "low"))
                continue
            edge = [[start, 0, low], [start, 3, high], [stop, 0, high], [stop, 3 if stop < end else 0, low]]
            self.shapes.append(path(edge, f"{style} fill"))
            lean = {"mask": low - high, "pend": 0}.get(style)
            if lean is not None:
                self.shapes.append(hatch(start, stop, high, low, lean, f"{style} hatch"))
            self.shapes.append(path(edge, f"{style} high"))
            said = wave["high"].replace("#", str(value))
            self.shapes.append(
                text(start, low - 3, [said, said.split(" ")[0]], f"{style} ink soft", stop - start, dx=6)
            )
        self.y += WAVE


def _stretches(columns: Any) -> list[tuple[int, int]]:  # noqa: ANN401 - any iterable of columns in order
    found: list[list[int]] = []
    for column in columns:
        if found and found[-1][1] == column:
            found[-1][1] = column + 1
        else:
            found.append([column, column + 1])
    return [(first, end) for first, end in found]
