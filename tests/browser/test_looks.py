"""How the player looks: inside a step, the bits of int_ctl, high contrast, on paper, menus in a narrow window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.players import Open, players
from tests.kvm_runs import two_at_once
from tests.timeline_runs import latched, looping
from vnmi_lab.hv.profiles import VNMI
from vnmi_lab.timeline import Payload, build, state_at
from vnmi_lab.timeline.columns import plain
from vnmi_lab.timeline.palette import palette
from vnmi_lab.trace import Trace

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    with players(browser, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def vnmi() -> Payload:
    return build(Trace(two_at_once(VNMI), "Two NMIs at once"))


def first(payload: Payload, kind: str) -> int:
    return int(payload["kinds"].index(kind))


# --- inside a step


def test_sub_steps_lead_from_the_state_before_to_the_state_after(show: Open, vnmi: Payload) -> None:
    shown = show(vnmi)
    player = shown.view()
    exit_ = first(vnmi, "vmexit")
    subs = dict(vnmi["micro"]["at"])[exit_]
    shown.press("m", "e")
    expect(player).to_have_attribute("data-sub", str(len(subs) - 1))
    listed = player.get_by_role("list", name="Sub-steps").get_by_role("button")
    expect(listed).to_have_count(len(subs))

    def fields() -> dict[str, str]:
        pairs = player.locator(".vl-row").evaluate_all(
            "rows => rows.map((row) => [row.dataset.field, row.dataset.value])"
        )
        return dict(pairs)

    after, before = ({key: str(plain(value)) for key, value in state_at(vnmi, at).items()} for at in (exit_, exit_ - 1))
    here = fields()
    assert here == {key: after[key].replace("None", "null") for key in here}
    for sub in reversed(range(len(subs) - 1)):
        shown.press("ArrowLeft")
        shown.at(exit_)
        expect(player).to_have_attribute("data-sub", str(sub))
        expect(listed.nth(sub)).to_have_attribute("aria-current", "step")
    shown.press("ArrowLeft")
    shown.at(exit_ - 1)
    here = fields()
    assert here == {key: before[key].replace("None", "null") for key in here}
    shown.press("ArrowRight")
    expect(player).to_have_attribute("data-sub", "0")
    expect(player.get_by_role("status")).to_contain_text(f"Step {exit_}, sub-step 1 of {len(subs)}: ")
    expect(player.locator(".vl-processor .vl-heading")).to_contain_text("after sub-step 1")
    listed.nth(1).click()
    expect(player).to_have_attribute("data-sub", "1")
    expect(listed.nth(1)).to_be_focused()
    shown.click("Sub-steps")
    expect(player).to_have_attribute("data-sub", "")
    shown.at(exit_)
    expect(listed).to_have_count(0)


def test_play_goes_through_sub_steps(show: Open, vnmi: Payload) -> None:
    shown = show(vnmi)
    shown.press("m")
    shown.page.evaluate("""() => { window.seen = new Set(); let cursor = "";
      const note = ({ attributeName, oldValue }) => {
        if (attributeName === "data-cursor") cursor = oldValue; // the cursor is written before the sub-step
        else seen.add(`${cursor}.${oldValue}`);
      };
      new MutationObserver((records) => records.forEach(note)).observe(document.querySelector(".vnmi-player"),
        { attributeFilter: ["data-cursor", "data-sub"], attributeOldValue: true }); }""")
    shown.view().get_by_role("combobox").select_option("60")
    shown.press(" ")
    shown.at(vnmi["steps"] - 1)
    expect(shown.view()).to_have_attribute("data-playing", "false")
    seen = set(shown.page.evaluate("() => [...seen]"))
    assert {f"{step}.{sub}" for step, subs in vnmi["micro"]["at"] for sub in range(len(subs))} <= seen


# --- bits


def test_the_bits_of_int_ctl_have_numbers_and_say_what_they_are(show: Open, vnmi: Payload) -> None:
    shown = show(vnmi)
    strip = shown.view().get_by_role("img", name="Bits of int_ctl")
    changed = next(step for step in range(vnmi["steps"]) if state_at(vnmi, step)["v_nmi_pending"])
    shown.page.evaluate(f"() => models[0].set('cursor', {changed})")
    shown.at(changed)
    value = state_at(vnmi, changed)["int_ctl"]
    bits = strip.locator("[data-bit]").evaluate_all("cells => cells.map((cell) => cell.lastChild.textContent)")
    assert "".join(bits) == f"{value:032b}"
    for bit in (8, 9, 11, 12, 26):
        expect(strip.locator(f'[data-bit="{bit}"] .vl-bit-number')).to_have_text(str(bit))
    expect(strip).to_have_attribute(
        "aria-label",
        f"Bits of int_ctl, {value:X}h. bit 26, V_NMI_ENABLE: 1; bit 12, V_NMI_MASK: 0; "
        "bit 11, V_NMI: 1; bit 9, V_GIF: 1; bit 8, V_IRQ: 0",
    )
    expect(strip.locator('[data-changed="true"]')).to_have_count(1)


# --- themes


@pytest.mark.parametrize(
    ("jupyter", "name", "theme"),
    [
        ("true", "JupyterLab Light High Contrast", "light-contrast"),
        ("false", "JupyterLab Dark High Contrast", "dark-contrast"),
        ("true", "JupyterLab Light", "light"),
    ],
)
def test_high_contrast_is_a_theme_of_its_own(show: Open, jupyter: str, name: str, theme: str) -> None:
    shown = show(build(latched()), jupyter=jupyter, theme=name)
    expect(shown.view()).to_have_attribute("data-theme", theme)
    ink = shown.view().evaluate("node => getComputedStyle(node).getPropertyValue('--vl-ink').trim()")
    assert ink == palette(theme)["ink"]
    shown.page.evaluate("() => { document.body.dataset.jpThemeName = 'JupyterLab Dark'; }")
    expect(shown.view()).to_have_attribute("data-theme", theme.removesuffix("-contrast"))


# --- paper


@pytest.mark.parametrize(("steps", "says"), [(19, ""), (3000, " (steps 0 to 119 of ")])
def test_paper_shows_the_lanes_fitted_to_its_width_and_no_controls(show: Open, steps: int, says: str) -> None:
    payload = build(latched() if steps == 19 else looping(steps))
    shown = show(payload, scheme="dark")
    shown.page.set_viewport_size({"width": 718, "height": 1000})
    shown.press("u")
    shown.page.emulate_media(media="print", color_scheme="dark")
    player = shown.view()
    for gone in (".vl-bar", ".vl-pop", ".vl-top .vl-group"):
        expect(player.locator(gone).first).to_be_hidden()
    expect(player).to_have_attribute("data-theme", "light")
    assert shown.page.evaluate("() => document.documentElement.scrollWidth") <= 718
    title = player.locator(".vl-title").evaluate("node => getComputedStyle(node, '::after').content")
    assert title.strip('"').startswith(says)
    picture, page = player.locator(".vl-svg").bounding_box(), player.bounding_box()
    assert picture is not None
    assert page is not None
    assert picture["x"] + picture["width"] <= page["x"] + page["width"] + 1
    assert picture["width"] > page["width"] / 2
    shown.page.emulate_media(media="screen", color_scheme="dark")
    expect(player).to_have_attribute("data-theme", "dark")
    expect(player.locator(".vl-bar").first).to_be_visible()
    shown.press("End")
    shown.at(payload["steps"] - 1)


def test_printing_prints_so(show: Open) -> None:
    shown = show(build(latched()))
    shown.page.evaluate("""() => { window.heard = [];
      addEventListener("afterprint", () => heard.push(document.querySelector(".vnmi-player").dataset.theme));
      addEventListener("beforeprint", () => heard.push(document.querySelector(".vl-svg").getAttribute("width"))); }""")
    before = shown.view().locator(".vl-svg").get_attribute("width")
    shown.page.pdf()
    paper, after = shown.page.evaluate("() => heard")
    assert paper != before
    assert after == "light"
    expect(shown.view().locator(".vl-svg")).to_have_attribute("width", str(before))


# --- widths


@pytest.mark.parametrize("width", [600, 800, 2560])
def test_menus_stay_on_the_page_at_any_width(show: Open, vnmi: Payload, width: int) -> None:
    shown = show(vnmi, width=width)
    shown.press("a", "e", "b")
    for key, name in [("u", "Run until"), ("Shift+L", "Lanes")]:
        shown.press(key)
        menu = shown.view().get_by_role("group", name=name, exact=True).and_(shown.page.locator(".vl-pop"))
        box = menu.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        for button in menu.get_by_role("button").all():
            inside = button.bounding_box()
            assert inside is not None
            assert inside["x"] + inside["width"] <= box["x"] + box["width"]
    assert shown.page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_a_narrow_window_keeps_the_main_controls_in_one_row(show: Open, vnmi: Payload) -> None:
    shown = show(vnmi, width=600)
    bar = shown.view().get_by_role("group", name="Controls", exact=True)
    boxes = [bar.get_by_role("button", name="First step").bounding_box(), bar.get_by_role("combobox").bounding_box()]
    tops = [box["y"] + box["height"] / 2 for box in boxes if box is not None]
    assert len(tops) == 2
    assert abs(tops[0] - tops[1]) < 8
