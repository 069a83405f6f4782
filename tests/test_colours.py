"""The colours of every theme: readable, told apart by eyes that see fewer of them, and never the only sign.

The simulated deficiencies are Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color
Vision Deficiency", IEEE TVCG 15(6), 2009, table 1 at severity 1.0, applied to linear RGB. Differences are CIE 1976.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations, product

import pytest

from tests.decoded import Picture, read
from tests.kvm_runs import two_at_once
from tests.timeline_runs import latched, nested
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.timeline import Payload, asset, build, palette, png, state_at, svg
from vnmi_lab.timeline.palette import STYLES
from vnmi_lab.timeline.sheet import Sheet
from vnmi_lab.trace import Trace

Vector = tuple[float, float, float]

THEMES = re.findall(r"/\* palette: ([\w-]+) \*/", asset("player.css"))
PAGES = {"light": ("#ffffff",), "dark": ("#212121", "#111111")}
"""What `--jp-layout-color1` and `0` are in JupyterLab 4's themes."""
HUES = ("main", "nmi", "other", "pend", "guest")
TEXT = [("ink", "bg"), ("muted", "bg"), ("accent", "bg"), ("ink", "surface"), ("muted", "surface")]
TEXT += [("ink", "change-fill"), ("muted", "change-fill"), ("bg", "ink"), ("bg", "accent")]
TEXT += [(f"{hue}-ink", f"{hue}-fill") for hue in HUES] + [("bg", f"{hue}-edge") for hue in ("nmi", "other")]
TEXT += [("ink", f"{hue}-fill") for hue in HUES]
GRAPHICS = [("edge", "bg"), ("edge", "surface"), ("change-edge", "bg"), ("change-edge", "change-fill")]
GRAPHICS += [(f"{hue}-edge", back) for hue in HUES for back in ("bg", f"{hue}-fill")]

EYES: dict[str, tuple[Vector, Vector, Vector]] = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
APART = 12
"""The least difference between two hues; about 2.3 is just noticed side by side."""
TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))  # sRGB, IEC 61966-2-1
WHITE = (0.9505, 1.0, 1.089)


def times(matrix: tuple[Vector, Vector, Vector], vector: Vector) -> Vector:
    a, b, c = (sum(x * y for x, y in zip(row, vector, strict=True)) for row in matrix)
    return a, b, c


def linear(colour: str) -> Vector:
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (r, g, b))
    return r, g, b


def luminance(colour: str) -> float:
    return times(TO_XYZ, linear(colour))[1]


def contrast(one: str, other: str) -> float:
    """Give the contrast as WCAG 2 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def seen(colour: str, eyes: str) -> Vector:
    """Give what those eyes make of a colour, as CIELAB."""
    r, g, b = (min(1.0, max(0.0, c)) for c in times(EYES[eyes], linear(colour)))
    shares = [c / white for c, white in zip(times(TO_XYZ, (r, g, b)), WHITE, strict=True)]
    x, y, z = (s ** (1 / 3) if s > 216 / 24389 else (24389 / 27 * s + 16) / 116 for s in shares)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize(("pairs", "least"), [(TEXT, 4.5), (GRAPHICS, 3.0)], ids=["text", "graphics"])
@pytest.mark.parametrize("theme", THEMES)
def test_contrast(theme: str, pairs: list[tuple[str, str]], least: float) -> None:
    colours = palette(theme)
    for page, (front, back) in product((colours["bg"], *PAGES.get(theme, ())), pairs):
        here = {**colours, "bg": page}
        assert contrast(here[front], here[back]) >= least, (front, back, page)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("theme", THEMES)
def test_hues_stay_apart_for_every_eye(theme: str, eyes: str) -> None:
    colours = palette(theme)
    for one, other in combinations(HUES, 2):
        a, b = (seen(colours[f"{hue}-edge"], eyes) for hue in (one, other))
        assert sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5 >= APART, (one, other)


def test_the_simulations_keep_grey_grey_and_take_red_from_green() -> None:
    for eyes, matrix in EYES.items():
        assert all(abs(sum(row) - 1) < 1e-5 for row in matrix), eyes
    grey = [sum(abs(a - b) for a, b in zip(seen("#a04040", e), seen("#5a5a20", e), strict=True)) for e in EYES]
    assert grey[2] < grey[0] / 2


def test_every_theme_names_the_same_colours_and_every_style_has_its_own() -> None:
    assert THEMES[:2] == ["light", "dark"]
    names = {frozenset(palette(theme)) for theme in THEMES}
    assert len(names) == 1
    assert {f"{hue}-{part}" for hue in STYLES.values() for part in ("fill", "edge", "ink")} <= next(iter(names))


# --- without any colour


RUNS: dict[str, Callable[[], Payload]] = {
    "bare": lambda: build(latched()),
    "nested": lambda: build(nested()),
    "legacy": lambda: build(Trace(two_at_once(LEGACY))),
    "vnmi": lambda: build(Trace(two_at_once(VNMI))),
}
LANE = re.compile(r'class="(?:code|code small)" x="28" y="(\d+)" text-anchor="start">(\w+)<')


def is_line(picture: Picture, x: int, y: int) -> bool:
    """Tell by brightness alone whether a line goes through a place, which may be a pixel off."""
    return any(luminance(picture.rows[row][x]) < 0.35 for row in (y - 1, y))


@pytest.mark.parametrize("name", RUNS)
def test_the_level_of_every_bit_is_read_off_a_grey_picture(name: str) -> None:
    payload = RUNS[name]()
    drawing, picture = svg(payload), read(png(payload))
    tops = {key: int(y) - 15 for y, key in LANE.findall(drawing)}
    waves = [w for w in payload["waves"] if not w["quiet"] and w["style"] not in {"bus", "shadow"}]
    assert waves
    sheet = Sheet(payload)
    for wave, step in product(waves, range(payload["steps"])):
        high = tops[wave["key"]] + 9
        places = [int(sheet.x(step + part / 16)) for part in range(6, 16)]  # where a slope has come up
        lines = sum(is_line(picture, x, high) for x in places)
        bit = bool(state_at(payload, step)[wave["key"]])
        assert (lines > len(places) / 2) is bit, (wave["key"], step)


@pytest.mark.parametrize("name", RUNS)
def test_a_mask_and_what_pends_have_hatches_of_their_own_and_the_text_says_which(name: str) -> None:
    payload = RUNS[name]()
    drawing = svg(payload)
    hatched = {style: re.findall(rf'class="{style} hatch" d="M[\d.]+ \d+l(-?\d+) ', drawing) for style in STYLES}
    assert {style for style, found in hatched.items() if found} <= {"mask", "pend", "nmi"}
    assert not set(hatched["mask"]) & set(hatched["pend"])
    for wave in payload["waves"]:
        if not wave["quiet"]:
            assert f">{wave['key']}<" in drawing
