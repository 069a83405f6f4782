"""The picture as a PNG, read back: sizes, colours, and where each level is."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from html import escape

import pytest

from tests.decoded import read
from tests.kvm_runs import two_at_once
from tests.timeline_runs import hostile, latched, looping, nested
from vnmi_lab.checks import lab01
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.timeline import Payload, build, bundle, drawn, html, palette, png, svg
from vnmi_lab.timeline.png import FEWER, outlines
from vnmi_lab.timeline.raster import Canvas, font, width_of
from vnmi_lab.trace import Trace
from vnmi_lab.widgets import Predict, show

LIGHT = palette("light")
BLACK = ("#000000", 1.0)


def sketch(draw: Callable[[Canvas], None], width: int = 9, height: int = 7) -> list[str]:
    canvas = Canvas(width, height)
    draw(canvas)
    return ["".join("." if pixel == "#ffffff" else "#" for pixel in row) for row in read(canvas.png()).rows]


RUNS = {
    "bare": lambda: build(latched()),
    "nested": lambda: build(nested()),
    "hostile": lambda: build(hostile()),
    "long": lambda: build(looping(600)),
    "lab": lambda: build(lab01.second_nmi.trace()),
    "legacy": lambda: build(Trace(two_at_once(LEGACY), "Two NMIs at once")),
    "vnmi": lambda: build(Trace(two_at_once(VNMI))),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_shape_of_the_svg_has_its_pixels(name: str) -> None:
    payload = RUNS[name]()
    picture = read(png(payload, 1))
    size = re.search(r'width="(\d+)" height="(\d+)"', svg(payload, 1, most=96))
    assert size
    assert (picture.width, picture.height) == (int(size[1]), int(size[2]))
    used = {pixel for row in picture.rows for pixel in row}
    assert {LIGHT["bg"], LIGHT["line"], LIGHT["ink"], LIGHT["muted"], LIGHT["main-edge"]} <= used


def test_a_wave_is_high_where_its_bit_is_set_and_low_where_it_is_not() -> None:
    payload = build(latched())
    picture, drawing = read(png(payload)), svg(payload)
    wave = re.search(r'class="mask high" d="M([\d.]+) (\d+)L([\d.]+) (\d+)H([\d.]+)L', drawing)
    assert wave
    start, low, up, high, end = (float(number) for number in wave.groups())
    middle = int(up + end) // 2
    assert picture.rows[int(high)][middle] == LIGHT["nmi-edge"]
    assert LIGHT["nmi-fill"] in picture.rows[int(low) - 3][middle : middle + 7]
    before = int(start) - 8
    assert picture.rows[int(high)][before] == LIGHT["bg"]
    assert picture.rows[int(low)][before] == LIGHT["edge"]
    inside = {picture.rows[int(low) - 3][x] for x in range(int(up), int(end))}
    assert len(inside) > 1  # the hatch: a mask is not told by its colour alone


def test_the_playhead_stands_on_its_step() -> None:
    payload = build(latched())
    without, with_ = read(png(payload)), read(png(payload, 5))
    differ = {x for a, b in zip(without.rows, with_.rows, strict=True) for x in range(len(a)) if a[x] != b[x]}
    box = re.search(r'class="head" x="([\d.]+)" y="\d+" class|<rect class="head" x="([\d.]+)"', svg(payload, 5))
    assert box
    left = float(box[2])
    assert left - 2 <= min(differ) <= left + 1
    assert max(differ) - min(differ) < 60


def test_a_long_run_becomes_a_picture_of_its_events_and_some_steps() -> None:
    payload = build(looping(10_000))
    data = png(payload)
    assert read(data).width < 1_100
    assert len(data) < 30_000
    wide = build(Trace(two_at_once(LEGACY)))
    assert read(png({**wide, "steps": wide["steps"]})).width < 2_600


def test_lines_boxes_and_dashes_fall_on_their_pixels() -> None:
    assert sketch(lambda c: c.line([(1, 1.5), (8, 1.5)], 1, BLACK), height=3) == [".........", ".#######.", "........."]
    assert sketch(lambda c: c.line([(0, 0.5), (9, 0.5)], 1, BLACK, (3, 2)), height=1) == ["###..###."]
    assert sketch(lambda c: c.block(0, 0, 6, 6, BLACK, 3), width=6, height=6) == [
        *("..##..", ".####.", "######", "######", ".####.", "..##.."),
    ]
    assert sketch(lambda c: c.polygon([[(0, 0), (6, 0), (0, 6)]], BLACK), width=6, height=6) == [
        *("######", "#####.", "####..", "###...", "##....", "#....."),
    ]
    assert sketch(lambda c: c.line([(0, 0), (4, 4)], 1, BLACK), width=5, height=5) == [
        *("#....", ".#...", "..#..", "...#.", "....#"),
    ]
    assert sketch(lambda c: c.line([(2, -5), (2, 50)], 2, BLACK), width=4, height=1) == [".##."]


def test_what_lets_through_is_mixed_with_what_is_below() -> None:
    canvas = Canvas(2, 1)
    canvas.span(0, 0, 1, ("#ff0000", 1.0))
    canvas.span(0, 0, 2, ("#000000", 0.5))
    assert read(canvas.png()).rows == [["#800000", "#808080"]]


def test_a_full_palette_takes_the_colour_most_like_it() -> None:
    canvas = Canvas(300, 1)
    for x in range(255):
        canvas.span(0, x, x + 1, (f"#{x:02x}0000", 1.0))
    canvas.span(0, 299, 300, ("#100001", 1.0))
    assert read(canvas.png()).rows[0][299] == "#100000"


def test_letters_are_drawn_and_an_unknown_one_is_a_box() -> None:
    assert sketch(lambda c: c.text(0, 7, "Ti", BLACK), width=8) == [
        *("#####.#.", "..#.....", "..#...#.", "..#...#.", "..#...#.", "..#...#.", "..#...#."),
    ]
    assert sketch(lambda c: c.text(0, 7, "\u4e2d", BLACK), width=5)[:2] == ["#####", "#...#"]
    assert width_of("a b", bold=True) == width_of("a b") + 2


def test_a_text_that_goes_up_is_the_text_turned_to_the_left() -> None:
    level = sketch(lambda canvas: canvas.text(2, 14, "KVM", BLACK), 30, 20)
    upward = sketch(lambda canvas: canvas.text(14, 28, "KVM", BLACK, upward=True), 20, 30)
    assert "#" in "".join(level)
    assert upward == ["".join(row[29 - y] for row in level) for y in range(30)]


def test_the_font_has_every_letter_of_a_keyboard_and_all_differ() -> None:
    letters = font()
    assert {chr(code) for code in range(32, 127)} <= set(letters)
    drawn_as = {letter: str(rows) for letter, rows in letters.items() if letter.isascii()}
    assert len(set(drawn_as.values())) == len(drawn_as)
    assert all(len(rows) <= 9 for rows in letters.values())


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ('<svg width="9" height="9"><style></style><ellipse rx="3"/></svg>', "<ellipse> is none of them"),
        ('<svg width="9" height="9"><style>.a > .b{fill:none}</style><path d="M0 0"/></svg>', "'.a > .b' is neither"),
    ],
)
def test_a_shape_or_a_selector_without_pixels_is_refused(picture: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        drawn(picture)


def test_a_path_it_cannot_follow_is_refused() -> None:
    assert outlines("M1 2h3v-1l-.5 1zM0 0C0 1 2 3 4 5")[0] == ([(1, 2), (4, 2), (4, 1), (3.5, 2)], True)
    with pytest.raises(ValueError, match=r"a path is made of M, L, H, V, C and Z; A"):
        outlines("M0 0A1 1")


def test_a_notebook_keeps_the_picture_in_each_form_it_may_need() -> None:
    payload: Payload = build(latched())
    kept = bundle(payload, 3)
    assert list(kept) == ["text/plain", "image/svg+xml", "image/png", "text/html"]
    assert b64decode(kept["image/png"]) == png(payload, 3)
    for panel in (show(latched()), Predict(lab01.second_nmi)):
        shown = panel._repr_mimebundle_()
        assert shown is not None
        assert kept.keys() <= shown[0].keys()
        assert read(b64decode(shown[0]["image/png"])).width > 300


def test_beside_a_long_run_stand_its_events_in_every_form() -> None:
    payload: Payload = build(looping(3000))
    kept = bundle(payload)
    whole = f"{payload['steps']:,} steps"
    assert f"{FEWER} of {whole}" in kept["image/svg+xml"]
    assert f"<caption>{escape(payload['title'])}: {FEWER} of {whole}, the events first</caption>" in kept["text/html"]
    assert kept["text/html"].count("<tr>") == FEWER + 1
    assert f"500 of {whole}" in html(payload)


def test_the_png_of_a_prediction_gives_nothing_away() -> None:
    panel = Predict(lab01.second_nmi)
    shown = panel._repr_mimebundle_()
    assert shown is not None
    still = panel.timeline.still
    assert b64decode(shown[0]["image/png"]) == png(still, panel.timeline.cursor)
    assert still["steps"] < panel.whole["steps"]
