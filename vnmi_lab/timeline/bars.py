"""The lane of NMIs in the still picture: a bar for each, which rises from arrived to pending to in service."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from vnmi_lab.timeline.instances import ARRIVED, COALESCED, DONE, EXTRA, LOST, PENDING, SERVICE
from vnmi_lab.timeline.sheet import NAMES

if TYPE_CHECKING:
    from vnmi_lab.timeline.sheet import Sheet

BAR = 23
"""px, from one bar to the next."""
LEVELS = {ARRIVED: 4, PENDING: 12, SERVICE: 17}
LIFT = {ARRIVED: 7, PENDING: 4, SERVICE: 4}
"""px, from the foot of a bar to its text: over a low bar, in a high one."""
LOOKS = {ARRIVED: "plain", PENDING: "pend", SERVICE: "nmi"}
HATCHES = {PENDING: "pend", SERVICE: "mask"}
GLYPHS = {
    DONE: "m3 -6l3 3l5 -7",
    COALESCED: "m3 -6h8m-3 -3l3 3l-3 3",
    LOST: "m4 -10l7 8m0 -8l-7 8",
    EXTRA: "m7 -11v5m0 2.5v1.5",
}
NAMED = 52
"""px, room for the word "pending"."""
LETTER = 6.4
"""px, about the width of a letter."""


def draw_nmis(sheet: Sheet, _tops: dict[str, int]) -> None:
    """Draw the NMIs that came in the steps shown."""
    came = [one for one in sheet.p["instances"] if one["spans"][0][0] < sheet.end]
    if not came:
        return
    rows = max([one["row"] + 1 for one in came if one["row"] is not None], default=0)
    uncounted = [one["spans"][0][0] for one in came if one["row"] is None]
    top = sheet.lane(11 + BAR * rows + (15 if uncounted else 0))
    sheet.name(top + 19, "each NMI")
    sheet.text(NAMES, top + 32, "arrived, pending, served", "detail")
    after: dict[int, float] = {}
    for one in reversed(came):
        if one["row"] is not None:
            _draw(sheet, one, top + 4 + BAR * (one["row"] + 1), after.get(one["row"], sheet.right + 12))
            after[one["row"]] = sheet.x(one["spans"][0][0])
    for step in dict.fromkeys(uncounted):
        sheet.text(sheet.x(step) + 5, sheet.y - 7, f"+{uncounted.count(step)} more", "said soft")


def _draw(sheet: Sheet, one: dict[str, Any], bottom: int, following: float) -> None:
    """Draw one bar, its name and phases in it, and behind it how it ended."""
    shown = phases(sheet, [span for span in one["spans"] if span[0] < sheet.end])
    left, right = sheet.x(shown[0][0]), min(sheet.x(one["spans"][-1][1]), sheet.right)
    for first, end, phase, _ in shown:
        x, until, height = sheet.x(first), min(sheet.x(end), sheet.right), LEVELS[phase]
        sheet.box(x + 0.5, bottom - height, until - x - 1, height, f"{LOOKS[phase]} box")
        sheet.hatch(HATCHES.get(phase, ""), LOOKS[phase], x, until, bottom - height, bottom)
    width = len(one["name"]) * LETTER + 8
    named = right - left >= width
    x = left
    if named:
        sheet.text(left + 5, bottom - LIFT[shown[0][2]], one["name"], "said")
        x += width
    for first, end, phase, place in shown:
        x = max(x, sheet.x(first))
        words = [f"pending in {place}", phase, place] if phase == PENDING else [phase]
        room = round(min(sheet.x(end), sheet.right) - x - 7, 1)
        sheet.label(round(x + 5, 1), bottom - LIFT[phase], room, words, f"{LOOKS[phase]} ink soft")
    if not one["over"] or one["spans"][-1][1] > sheet.end:
        return
    sheet.path(f"M{right} {bottom}{GLYPHS[one['end']]}", "arrow")
    ends = endings(sheet.p["instances"], one)
    said = ends if named else [*(f"{one['name']} {end}" for end in ends), *ends]
    sheet.label(right + 15, bottom - 4, following - right - 15, said, "said soft")


def phases(sheet: Sheet, spans: list[list[Any]]) -> list[list[Any]]:
    """Give spans as they are drawn: where there is no room to name each place of a phase, they become one."""
    drawn: list[list[Any]] = []
    for phase, group in groupby(spans, key=lambda span: str(span[2])):
        mine = list(group)
        if min(sheet.x(end) - sheet.x(first) for first, end, *_ in mine) >= NAMED:
            drawn += mine
        else:
            drawn.append([mine[0][0], mine[-1][1], phase, ", ".join(place for *_, place in mine)])
    return drawn


def endings(every: list[dict[str, Any]], one: dict[str, Any]) -> list[str]:
    """Say how an NMI ended, the longest words first."""
    if one["end"] != COALESCED:
        return [one["end"]]
    into = every[one["into"] - 1]["name"]
    return [f"coalesced into {into}", f"into {into}", COALESCED]
