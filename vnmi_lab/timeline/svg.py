"""The still picture: the lanes of a payload as one SVG that carries its own colours, for light and dark pages."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any

from vnmi_lab.timeline.bars import draw_nmis
from vnmi_lab.timeline.columns import at, number, runs
from vnmi_lab.timeline.fields import GUEST, NMIS, OUTSIDE, SOFTWARE, WORLD, written
from vnmi_lab.timeline.palette import STYLES, palette
from vnmi_lab.timeline.sheet import MOST, NAMES, NO_XML, TOP, Sheet, known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vnmi_lab.timeline.build import Payload

RULER, CELL, STRIP, WAVE, ROW, CALL, WARN, FLAG = 24, 24, 14, 34, 42, 13, 30, 22
LETTER = 5.6
"""Pixels of a letter in a flag, about."""
FLAGS = {"given": ("", "main"), "you": ("you: ", "other"), "machine": ("the machine: ", "guest")}
"""Who put a flag there, as it says, and its style; a learner's own has a dashed pole."""
CELLS = {"exec", "deliver", "idle", "stop"}
ROWS = ("main", "handler", "handler in handler")
WORLDS = {"bare": "bare metal: no hypervisor", "kvm": "KVM"}


def svg(payload: Payload, cursor: int | None = None, *, most: int = MOST) -> str:
    """Draw a payload as one SVG of at most ``most`` steps, with a playhead at ``cursor`` if there is one."""
    sheet = Sheet(payload, most)
    tops: dict[str, int] = {}
    flags = [flag for flag in payload.get("flags", ()) if flag[0] in sheet.steps]
    sheet.y += FLAG * len(flags)
    _ruler(sheet)
    for group, name in payload["groups"]:
        top = sheet.y
        for draw in DRAWN.get(group, ()):
            draw(sheet, tops)
        for wave in payload["waves"]:
            if wave["group"] == group and not wave["quiet"]:
                tops[wave["key"]] = sheet.y
                (_bus if wave["style"] in {"bus", "shadow"} else _wave)(sheet, wave)
        sheet.owner(name, top)
    _links(sheet, tops)
    if cursor is not None:
        _playhead(sheet, max(0, min(sheet.end - 1, cursor)))
    _flags(sheet, flags)
    return _document(sheet)


def _document(sheet: Sheet) -> str:
    width, height = round(sheet.right + 13), sheet.y + 9
    title = escape(NO_XML.sub("", sheet.p["title"]))
    whole: int = sheet.p.get("whole") or sheet.p["steps"]
    some = len(sheet.steps) < whole
    note = f"{len(sheet.steps):,} of {whole:,} steps" if some else f"{len(sheet.steps)} steps"
    head = f'<text class="title" x="16" y="23">{title}</text>'
    head += f'<text class="detail" x="{width - 16}" y="23" text-anchor="end">{note}</text>'
    card = f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>'
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{title}"'
    body = "".join(sheet.parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_style()}</style>{card}{head}{body}</svg>'


_LOOK = """text{font:10.5px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;fill:var(--muted)}
.title{font:600 14px system-ui,"DejaVu Sans",sans-serif;fill:var(--ink)}
.name{font:12px system-ui,"DejaVu Sans",sans-serif;fill:var(--ink)}
.code{font-size:11.5px;fill:var(--ink)}.detail,.soft{font-family:system-ui,"DejaVu Sans",sans-serif;font-size:10px}
.card{fill:var(--bg);stroke:var(--line)}.owner{fill:var(--surface);stroke:var(--line)}.grid{stroke:var(--line)}
.rest{stroke:var(--edge);stroke-dasharray:1 4}.said{fill:var(--ink)}
.arrow{stroke:var(--ink);stroke-width:1.5;fill:none}.tip{fill:var(--ink)}.box{fill:var(--f);stroke:var(--e)}.solid{fill:var(--e);stroke:var(--e)}
.fill{fill:var(--f)}.low{stroke:var(--edge);stroke-width:1.25;fill:none}.high{stroke:var(--e);stroke-width:1.75;fill:none;stroke-linejoin:round}
.hatch{stroke:var(--e);stroke-width:.75;stroke-opacity:.35;fill:none}.ink{fill:var(--i)}.small{font-size:9px}
.on{fill:var(--bg);font-weight:600}
.link{stroke:var(--accent);stroke-width:1.25;stroke-dasharray:3 3;fill:none}.link-tip{fill:var(--accent)}
.pole{stroke:var(--e);stroke-width:2;fill:none}.yours{stroke-dasharray:4 3}
.head{fill:var(--ink);fill-opacity:.06;stroke:var(--ink);stroke-width:1.5}"""


def _style() -> str:
    owners = "".join(
        f".{name}{{--f:var(--{hue}-fill);--e:var(--{hue}-edge);--i:var(--{hue}-ink)}}" for name, hue in STYLES.items()
    )
    light, dark = (
        ";".join(f"--{name}:{value}" for name, value in palette(theme).items()) for theme in ("light", "dark")
    )
    return f"svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}{_LOOK}{owners}".replace("\n", "")


def _flags(sheet: Sheet, flags: Sequence[Sequence[Any]]) -> None:
    """Draw the flags that stand on the chart, a row each, with a pole down through the lanes."""
    for row, (step, whose, text) in enumerate(flags):
        (lead, style), y = FLAGS.get(whose, FLAGS["given"]), TOP + FLAG * row
        x, said = sheet.x(step), f"{lead}{text}"
        width = len(said) * LETTER + 12
        left = max(0.0, min(x, sheet.right - width))
        sheet.path(f"M{x} {y}V{sheet.y}", f"{style} pole{' yours' if whose == 'you' else ''}")
        sheet.box(left, y + 1, width, FLAG - 4, f"{style} box")
        sheet.text(left + 6, y + 14, said, f"{style} ink soft")


# --- lanes, top to bottom ---------------------------------------------------------------------------------------------


def _ruler(sheet: Sheet) -> None:
    top = sheet.lane(RULER)
    sheet.name(top + 16, "step")
    every = next((n for n in (1, 2, 5, 10, 20, 50, 100) if n * sheet.col >= 30), 200)  # noqa: PLR2004 - px of a number
    for step in sheet.steps[::every]:
        sheet.text(sheet.x(step + 0.5), top + 16, str(step), "", "middle")


def _outside(sheet: Sheet, tops: dict[str, int]) -> None:
    marks = [mark for mark in sheet.p["marks"] if mark[0] < sheet.end]
    if not marks:
        return
    top = tops["outside"] = sheet.lane(40)
    scripted = not sheet.kvm and all(style == "host" for _, style, _ in sheet.p["marks"])
    sheet.name(top + 24, "script" if scripted else "stimuli")
    ends = [*(sheet.x(mark[0] + 0.5) for mark in marks[1:]), sheet.right + 12]
    for (step, style, text), end in zip(marks, ends, strict=True):
        x = sheet.x(step + 0.5)
        host = style == "host"
        shape = f"M{x - 4} {top + 16}h8v8h-8z" if host else f"M{x} {top + 12}v14M{x - 4.5} {top + 22}l4.5 6 4.5 -6z"
        sheet.path(shape, f"{known(style)} solid")
        short = [] if host and " = " not in text else [text.split(" ")[0]]  # "do not intercept" is no "do"
        sheet.label(x + 9, top + 24, end - x - 14, [text, *short], "said" if host else f"{known(style)} ink")


def _calls(sheet: Sheet, _tops: dict[str, int]) -> None:
    names = [name for name in sheet.p["calls"]["lane"] if name[0] < sheet.end]
    if not names:
        return
    top = sheet.lane(max(40, 14 + CALL * (1 + max(row for _, row, *_ in names))))  # its name needs two lines
    sheet.name(top + 19, "KVM functions")
    sheet.text(NAMES, top + 32, "that changed something", "detail")
    for step, row, end, name in names:
        x, y = sheet.x(step + 0.5), top + 7 + row * CALL
        room = (sheet.x(end + 0.5) if end < sheet.end else sheet.right) - x - 10
        sheet.path(f"M{x} {y}v{CALL}", "low")
        letters = max(0, int((room - 4) / 5.5))
        cut = name if len(name) <= letters else f"{name[: max(0, letters - 1)]}…"
        if len(cut) > 5:  # noqa: PLR2004 - fewer letters name nothing
            sheet.label(x + 5, y + 10, room, [cut], "said")


def _lint(sheet: Sheet, _tops: dict[str, int]) -> None:
    """Draw what the hypervisor did wrong, each with a sign and a few words."""
    found = [finding for finding in sheet.p["lint"] if finding[0] < sheet.end]
    if not found:
        return
    top = sheet.lane(WARN)
    sheet.name(top + 19, "broken rules")
    ends = [*(sheet.x(finding[0] + 0.5) for finding in found[1:]), sheet.right + 12]
    for (step, label, *_), end in zip(found, ends, strict=True):
        x = sheet.x(step + 0.5)
        sheet.path(
            f"M{x - 6} {top + 21}L{x} {top + 9}L{x + 6} {top + 21}zM{x} {top + 13}v4M{x} {top + 18.5}v1", "arrow"
        )
        room = end - x - 12
        if room < len(label) * 5.5 + 4 and end > sheet.right:
            sheet.label(x - 9, top + 19, 400, [label], "said", "end")
        else:
            sheet.label(x + 9, top + 19, room, [label], "said")


def _world(sheet: Sheet, tops: dict[str, int]) -> None:
    bands = [band for band in sheet.p["worlds"] if band[0] < sheet.end]
    bare = not sheet.p["crossings"] and len(bands) == 1
    top = tops["world"] = sheet.lane(36 if bare else 84)
    high, low = top + 8, top + (8 if bare else 60)
    for y, text in ((high, "runs on"),) if bare else ((high, "host"), (low, "guest")):
        sheet.name(y + 13, text)
    for first, end, world in bands:
        x, y = sheet.x(first), low if world == "guest" else high
        width = min(sheet.x(end), sheet.right) - x
        sheet.box(x + 0.5, y + 0.5, width - 1, 17, f"{known(world)} box")
        sheet.label(x + 8, y + 13, width - 8, [WORLDS.get(world, world)], f"{known(world)} ink soft")
    crossings = [crossing for crossing in sheet.p["crossings"] if crossing[0] < sheet.end]
    places = [sheet.x(crossing[0] + 0.5) for crossing in crossings]
    for i, (step, way, text) in enumerate(crossings):
        x = sheet.x(step + 0.5)
        tail, head, tip = (high + 20, low - 3, -5) if way == "down" else (low - 2, high + 21, 5)
        sheet.path(f"M{x} {tail}V{head + tip}", "arrow")
        sheet.path(f"M{x - 4} {head + tip}h8L{x} {head}z", "tip")
        short, left = re.sub(r" ?\(.*", "", text), _is_left(sheet, places, crossings, i)
        before = places[i - 1] if i else sheet.gutter - 8
        taken = _is_left(sheet, places, crossings, i + 1) and len(crossings[-1][2].split(" (")[0]) * 6.4 + 12
        end = places[i + 1] if i + 1 < len(places) else sheet.right + 12
        room = x - before - 16 if left else end - x - 8 - taken
        place, anchor = (x - 8, "end") if left else (x + 8, "start")
        sheet.label(place, (high + low) / 2 + 13, room, [short] if left else [text, short], "said", anchor)


def _is_left(sheet: Sheet, places: list[float], crossings: list[Any], i: int) -> bool:
    """Return whether a name stands left of its arrow: that of the last one, where the sheet ends too soon."""
    return i + 1 == len(crossings) and len(crossings[i][2].split(" (")[0]) * 6.4 + 4 > sheet.right + 4 - places[i]


def _code(sheet: Sheet, tops: dict[str, int]) -> None:
    columns = sheet.p["columns"]
    depth = max(row for first, _, row in runs(columns["row"], sheet.end))
    tops["code"] = sheet.lane(16 + CELL + depth * ROW + (STRIP if depth else 0))
    bottom = sheet.y - 8 - CELL
    tops["main"] = bottom
    for row in range(depth + 1):
        sheet.name(bottom - row * ROW + 16, ROWS[row] if row < len(ROWS) else f"{row} handlers deep")
    sheet.path(f"M{sheet.gutter} {bottom + CELL / 2}H{sheet.right}", "rest")
    for first, end, row, style, *names in sheet.p["handlers"]:
        if first < sheet.end:
            x, y, width = sheet.x(first), bottom - row * ROW - STRIP, min(sheet.x(end), sheet.right) - sheet.x(first)
            sheet.box(x + 0.5, y + 0.5, width - 1, STRIP + CELL + 2, f"{known(style)} box")
            sheet.label(x + 7, y + 11, width, names, f"{known(style)} ink soft")
    for step in sheet.steps:
        kind, y = sheet.p["kinds"][step], bottom - at(columns["row"], step) * ROW
        if kind in CELLS:
            _cell(sheet, step, kind == "deliver", y, known(at(columns["owner"], step)))


def _cell(sheet: Sheet, step: int, deliver: bool, y: float, owner: str) -> None:  # noqa: FBT001 - of one lane only
    gap = 2 if sheet.col > 8 else 0.25  # noqa: PLR2004 - px: narrower cells touch
    text = sheet.p["words"][sheet.p["text"][step]]
    texts = [text, text.split(" ")[0], text.split(" ")[0].removesuffix("q")]  # at worst without the size
    if deliver:
        texts = ["NMI"] if "NMI" in text else re.findall(r"\b[0-9A-F]+h?\b", text)
    x = sheet.x(step)
    sheet.box(x + gap, y + 0.5, sheet.col - 2 * gap, CELL - 3, f"{owner} {'solid' if deliver else 'box'}")
    ink = "on" if deliver else f"{owner} ink"
    sheet.label(round(x + sheet.col / 2, 1), y + 15, sheet.col - 2, texts, ink, "middle")


def _runs(sheet: Sheet, key: str) -> list[tuple[float, float, Any]]:
    found = runs(sheet.p["state"][key], sheet.end)
    return [(sheet.x(first), min(sheet.x(end), sheet.right), value) for first, end, value in found if first < sheet.end]


def _wave(sheet: Sheet, wave: dict[str, Any]) -> None:
    top = sheet.lane(WAVE)
    sheet.name(top + 15, wave["key"], wave["detail"])
    high, low, style, slope = top + 9, top + WAVE - 8, known(wave["style"]), min(3, sheet.col / 4)
    for x, end, value in _runs(sheet, wave["key"]):
        if not number(value):
            if value is not None:
                sheet.path(f"M{x} {low}H{end}", "low")
            continue
        edge = f"M{x} {low}L{x + slope} {high}H{end}L{min(end + slope, sheet.right)} {low}"
        sheet.path(f"{edge}z", f"{style} fill")
        sheet.hatch(wave["style"], style, x, end, high, low)
        sheet.path(edge, f"{style} high")
        said = [wave["high"].replace("#", str(value)), str(value)]
        sheet.label(x + slope + 6, low - 4, end - x, said, f"{style} ink soft")


def _bus(sheet: Sheet, wave: dict[str, Any]) -> None:
    top = sheet.lane(WAVE)
    sheet.name(top + 15, wave["key"], wave["detail"])
    high, low, style = top + 9, top + WAVE - 8, known(wave["style"])
    form = "shadow" if wave["style"] == "shadow" else "vmcb"
    for x, end, value in _runs(sheet, wave["key"]):
        if not number(value) & wave["mask"]:
            sheet.path(f"M{x} {low}H{end}", "low")
            continue
        cut = min(4, (end - x) / 3)
        middle = (high + low) / 2
        sheet.path(
            f"M{x} {middle}l{cut} {high - middle}H{end - cut}L{end} {middle}L{end - cut} {low}H{x + cut}z",
            f"{style} box",
        )
        sheet.label(x + cut + 4, low - 4, end - x - 4, [written(form, value)], f"{style} ink")


DRAWN: dict[str, tuple[Callable[[Sheet, dict[str, int]], None], ...]] = {
    OUTSIDE: (_outside,),
    SOFTWARE: (_calls, _lint),
    WORLD: (_world,),
    GUEST: (_code,),
    NMIS: (draw_nmis,),
}
"""What a group has above its waves."""


def _links(sheet: Sheet, tops: dict[str, int]) -> None:
    for first, cause, last, effect, *_ in sheet.p["links"]:
        if last >= sheet.end or cause not in tops or effect not in tops:
            continue
        x, end = sheet.x(first + 0.5), sheet.x(last + 0.5)
        down = tops[effect] > tops[cause]
        start, goal = _leaves(cause, tops[cause], down=down), _enters(effect, tops[effect], down=down)
        if effect == "code":
            row = at(sheet.p["columns"]["row"], last)
            above = -STRIP - 1 if row else -2
            goal = tops["main"] - row * ROW + (above if down else CELL)
        way, stop, base = (-1, goal - 5, goal - 6) if down else (1, goal + 6, goal + 7)
        bend = f"C{x} {start - 24 * way} {end} {goal + 30 * way} {end} {stop}"
        parts = [(f"M{x} {start}{f'V{stop}' if first == last else bend}", "link")]
        parts.insert(cause != "outside", (f"M{end - 4} {base}h8L{end} {goal}z", "link-tip"))
        for d, classes in parts:
            sheet.path(d, classes)
        if cause == "outside":
            sheet.parts.insert(0, sheet.parts.pop())  # behind the boxes it would cross


def _leaves(lane: str, top: int, *, down: bool) -> int:
    """Give where an arrow leaves a lane, going down or up."""
    if lane in {"outside", "world"}:
        return top + (32 if lane == "outside" else 79 if down else 8)
    return top + (WAVE - 6 if down else 8 if lane == "event_inj" else WAVE - 14)


def _enters(lane: str, top: int, *, down: bool) -> int:
    """Give where an arrow enters a lane, going down or up."""
    if lane == "world":
        return top + (7 if down else 79)
    return top + (6 if down else WAVE - 6)


def _playhead(sheet: Sheet, cursor: int) -> None:
    width = max(sheet.col, 6)
    x = sheet.x(cursor) - (width - sheet.col) / 2
    sheet.box(x, TOP + 2, width, sheet.y - TOP, "head")
