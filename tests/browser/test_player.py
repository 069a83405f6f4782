"""The player alone on a page: every control by mouse and by key, themes, widths, hostile texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.players import Open, players
from tests.kvm_runs import two_at_once
from tests.timeline_runs import hostile, latched, looping, nested
from vnmi_lab.checks import lab03, lab04
from vnmi_lab.guests import Source
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.scenario import BARE, Scenario
from vnmi_lab.timeline import beginning, build, state_at
from vnmi_lab.timeline.columns import plain
from vnmi_lab.trace import Trace

pytestmark = pytest.mark.browser

PLAYHEAD_IN_SIGHT = """() => {
  const [head, stage] = [".vl-playhead", ".vl-scroll"].map((n) => document.querySelector(n).getBoundingClientRect());
  return stage.left <= head.left && head.left <= stage.right;
}"""


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    with players(browser, tmp_path) as opened:
        yield opened


def test_every_button_moves_as_it_says(show: Open) -> None:
    shown = show(build(latched()))
    shown.at(0)
    for name, cursor in [
        ("Step (right", 1),
        ("Next event", 3),
        ("Last step", 18),
        ("Step back", 17),
        ("Previous event", 14),
        ("First", 0),
    ]:
        shown.click(name)
        shown.at(cursor)
    goto = shown.view().get_by_role("spinbutton")
    for typed, cursor in [("7", 7), ("999", 18), ("-3", 0), ("", 0)]:
        goto.fill(typed)
        goto.press("Enter")
        shown.at(cursor)
    shown.view().get_by_role("slider").fill("11")
    shown.at(11)
    shown.page.wait_for_function("() => models[0].get('cursor') === 11")


def test_every_key_moves_as_the_sheet_says_and_reaches_nobody_else(show: Open) -> None:
    shown = show(build(latched()))
    keys = [("ArrowRight", 1), ("Shift+ArrowRight", 11), ("ArrowLeft", 10), ("Shift+ArrowLeft", 0), (".", 3), (".", 4)]
    for key, cursor in [*keys, (",", 3), ("End", 18), ("ArrowRight", 18), ("Home", 0), ("ArrowLeft", 0)]:
        shown.press(key)
        shown.at(cursor)
    sheet = shown.view().get_by_role("group", name="Keys", exact=True)
    shown.press("?")
    expect(sheet).to_be_visible()
    shown.press("Escape")
    expect(sheet).to_be_hidden()
    assert shown.page.evaluate("() => stolen.filter((key) => key !== 'Shift')") == []
    shown.press("Tab")
    expect(shown.stage()).not_to_be_focused()
    assert shown.page.evaluate("() => stolen.includes('Tab')")


def test_play_goes_on_to_the_end_pauses_and_tells_the_kernel_only_then(show: Open) -> None:
    shown = show(build(latched()))
    shown.view().get_by_role("combobox").select_option("20")
    shown.press(" ")
    expect(shown.view()).to_have_attribute("data-playing", "true")
    shown.at(18)
    expect(shown.view()).to_have_attribute("data-playing", "false")
    assert shown.saved(18) == 1
    shown.press(" ")  # from the end it starts again
    expect(shown.view()).to_have_attribute("data-playing", "true")
    shown.click("Pause")
    expect(shown.view()).to_have_attribute("data-playing", "false")


@pytest.mark.slow
def test_the_speed_may_count_events(show: Open) -> None:
    payload = build(looping(200))
    shown = show(payload)
    speed = shown.view().get_by_role("combobox")
    speed.select_option("events 20")
    shown.page.evaluate("""() => { window.steps = []; const root = document.querySelector(".vnmi-player");
      new MutationObserver(() => window.steps.push(+root.dataset.cursor))
        .observe(root, { attributes: true, attributeFilter: ["data-cursor"] }); }""")
    expect(shown.view().get_by_text("events/s", exact=True)).to_be_visible()
    shown.press(" ")
    shown.at(payload["steps"] - 1)
    visited = shown.page.evaluate("() => window.steps")
    assert len(visited) > 3
    assert set(visited[1:-1]) <= set(payload["events"])  # from event to event, whatever lies between
    speed.select_option("5")
    expect(shown.view().get_by_text("steps/s", exact=True)).to_be_visible()


@pytest.mark.slow
def test_scrubbing_tells_the_kernel_once_it_rests(show: Open) -> None:
    shown = show(build(looping(200)))
    shown.page.evaluate("""() => { const slider = document.querySelector(".vl-scrub");
      for (let n = 0; n < 200; n++) { slider.value = n; slider.dispatchEvent(new Event("input")); } }""")
    assert shown.saved(199) == 1


@pytest.mark.slow
def test_the_whole_run_goes_on_where_its_beginning_stood(show: Open) -> None:
    run = Trace(Scenario(Source("again: inc rax\njmp again"), BARE).machine(), "busy", 60)
    shown = show(beginning(run, 20), width=700)
    last = len(run) - 1
    root = shown.view()
    cover = root.get_by_text("the rest of the run is on its way")
    expect(root).to_have_attribute("data-coming", str(len(run) - 20))
    expect(root.get_by_text(f"of {last}", exact=True)).to_be_visible()
    expect(cover).to_have_count(1)
    shown.press("End")
    shown.at(19)  # no further until the rest is there
    shown.press("ArrowLeft", "a", "+")
    wide = root.locator(".vl-canvas").evaluate("node => node.style.width")
    left = shown.stage().evaluate("node => node.scrollLeft")
    shown.page.evaluate("whole => models[0].set('payload', whole)", build(run))
    shown.at(18)
    expect(root).to_have_attribute("data-coming", "0")
    expect(cover).to_be_hidden()
    expect(root.locator('.vl-marker[data-marker="a"]')).to_have_count(1)
    assert root.locator(".vl-canvas").evaluate("node => node.style.width") == wide
    assert shown.stage().evaluate("node => node.scrollLeft") == left
    shown.press("End")
    shown.at(last)


@pytest.mark.slow
def test_play_goes_on_when_the_whole_run_comes(show: Open) -> None:
    run = Trace(Scenario(Source("again: inc rax\njmp again"), BARE).machine(), "busy", 60)
    shown = show(beginning(run, 20))
    shown.press(" ")
    expect(shown.view()).to_have_attribute("data-playing", "true")
    shown.page.evaluate("whole => models[0].set('payload', whole)", build(run))
    expect(shown.view()).to_have_attribute("data-playing", "true")
    shown.page.evaluate("other => models[0].set('payload', other)", build(latched()))
    expect(shown.view()).to_have_attribute("data-playing", "false")  # another run is another


def test_pointing_at_a_step_goes_there(show: Open) -> None:
    shown = show(build(latched()))
    box = shown.stage().bounding_box()
    assert box is not None
    shown.stage().click(position={"x": box["width"] * 9.5 / 19, "y": 100})
    shown.at(9)
    shown.press("ArrowRight")
    shown.at(10)


def test_the_state_shown_is_the_state_of_the_trace(show: Open) -> None:
    payload = build(nested())
    shown = show(payload)
    for step in (0, 2, 7, 8, 13, 18):
        shown.page.evaluate(f"() => models[0].set('cursor', {step})")
        shown.at(step)
        rows = (
            shown.view()
            .locator(".vl-row")
            .evaluate_all("rows => rows.map((row) => [row.dataset.field, row.dataset.value])")
        )
        expected = {key: plain(value) for key, value in state_at(payload, step).items()}
        assert dict(rows) == {key: str(expected[key]) for key, _ in rows}
        assert len(rows) == len(payload["fields"])


def test_the_step_says_what_changed_and_why(show: Open) -> None:
    shown = show(build(latched()))
    shown.page.evaluate("() => models[0].set('cursor', 9)")
    player = shown.view()
    entry = player.locator('[data-rule="R-IRET-UNMASK"]')
    expect(entry).to_contain_text("nmi_mask:1→0")
    expect(entry).to_contain_text("An IRET that completes unmasks NMIs.")
    expect(entry).to_contain_text("APM vol. 2, 8.1.4")
    expect(player.locator('.vl-row[data-field="nmi_mask"]')).to_contain_text("was 1")
    expect(player.locator('.vl-code[data-at="now"]')).to_contain_text("iretq")
    expect(player.locator('.vl-code[data-at="next"]')).to_contain_text("jne")
    expect(player.get_by_role("status")).to_have_text(
        "Step 9: iretq pops the frame and returns; NMIs are no longer masked."
    )
    shown.press("ArrowRight")
    expect(player.locator('.vl-word[data-frame="true"]')).to_have_count(5)


@pytest.mark.slow
def test_no_name_stands_on_another_where_a_run_ends_with_an_exit_and_an_iretq_is_named(show: Open) -> None:
    shown = show(build(lab03.still_there.shown()), build(Trace(two_at_once(LEGACY), "two")), width=560)
    names = shown.view().locator(".vl-svg text.vl-said").filter(has_text=re.compile(r"^(VMRUN|INTR|IRET)"))
    boxes = sorted((box["x"], box["x"] + box["width"]) for box in (name.bounding_box() for name in names.all()) if box)
    assert len(boxes) >= 5
    assert all(left[1] <= right[0] for left, right in pairwise(boxes))
    shown.view(1).locator(".vl-scroll").evaluate("node => { node.scrollLeft = 150; }")
    expect(shown.view(1).locator(".vl-svg text").filter(has_text=re.compile("^iretq?$")).first).to_be_attached()


def test_what_is_to_be_predicted_is_neither_drawn_nor_reached(show: Open) -> None:
    shown = show(build(latched(), visible_until=7))
    for go in ("End", ".", "ArrowRight", "Shift+ArrowRight"):
        shown.press(go)
        shown.at(7)
    goto = shown.view().get_by_role("spinbutton")
    goto.fill("12")
    goto.press("Enter")
    shown.at(7)
    expect(shown.view().locator(".vl-cover")).to_be_visible()
    expect(shown.view().locator(".vl-svg")).not_to_contain_text("run 2")
    shown.page.evaluate("() => { models[0].get('payload').visible_until = null; models[0].set('visible_until', 17); }")
    shown.press("End")
    shown.at(17)
    shown.page.evaluate("() => models[0].set('visible_until', null)")
    expect(shown.view().locator(".vl-cover")).to_be_hidden()
    shown.press("End")
    shown.at(18)


@pytest.mark.slow
def test_a_lane_does_not_give_away_that_handlers_will_nest(show: Open) -> None:
    shown = show(build(nested(), visible_until=7))
    gutter = shown.view().locator(".vl-gutter")
    expect(gutter).not_to_contain_text("handler in handler")
    shown.page.evaluate("() => models[0].set('visible_until', 18)")
    expect(gutter).to_contain_text("handler in handler")


def test_two_players_do_not_disturb_each_other(show: Open) -> None:
    shown = show(build(latched()), build(nested()))
    shown.press("End")
    shown.at(18)
    shown.at(0, 1)
    shown.stage(1).press("ArrowRight")
    shown.at(1, 1)
    shown.at(18)


def test_hostile_texts_stay_texts(show: Open) -> None:
    shown = show(build(hostile()))
    for step in range(3):
        shown.page.evaluate(f"() => models[0].set('cursor', {step})")
        assert shown.page.locator("img, script[src], [onload], [onerror]").count() == 0
    expect(shown.view().locator(".vl-title")).to_contain_text("<img src=x onerror=alert(1)>")


@pytest.mark.slow
def test_a_payload_it_cannot_read_is_said_and_another_one_is_drawn(show: Open) -> None:
    shown = show(build(latched()))
    shown.page.evaluate("() => { window.good = models[0].get('payload'); models[0].set('payload', { version: 99 }); }")
    expect(shown.page.get_by_role("alert")).to_have_text(
        "The timeline cannot be drawn: this player reads payload version 2, not 99"
    )
    assert len(shown.errors) == 1
    shown.errors.clear()
    shown.page.evaluate("() => models[0].set('payload', window.good)")
    shown.press("End")
    shown.at(18)


def test_closing_leaves_neither_a_listener_nor_what_was_drawn(show: Open) -> None:
    shown = show(build(latched()))
    shown.press(" ")
    assert shown.listeners() == 0
    expect(shown.view()).to_have_count(0)


@pytest.mark.slow
def test_all_lanes_shows_the_bits_that_stay_0(show: Open) -> None:
    shown = show(build(nested()))
    lane = shown.view().locator('[data-lane="v_nmi_blocking"]')
    expect(lane).to_have_count(0)
    shown.click("All lanes")
    expect(lane).to_have_text("0")
    expect(shown.view()).to_contain_text("V_NMI_MASK, bit 12")


@pytest.mark.slow
def test_a_long_run_follows_the_playhead_and_draws_a_window(show: Open) -> None:
    run = build(looping(10_000))
    shown = show(run)
    for key, cursor in (("End", run["steps"] - 1), ("Home", 0), ("Shift+ArrowRight", 10)):
        shown.press(key)
        shown.at(cursor)
        shown.page.wait_for_function(PLAYHEAD_IN_SIGHT)
    assert shown.view().locator(".vl-svg *").count() < 2_000
    shown.press("+", "+", "0")
    expect(shown.view().locator(".vl-svg")).to_have_count(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("jupyter", "scheme", "theme"), [("true", "dark", "light"), ("false", "light", "dark"), ("", "dark", "dark")]
)
def test_the_theme_is_jupyterlabs_or_the_systems(
    show: Open, jupyter: str, scheme: Literal["light", "dark"], theme: str
) -> None:
    shown = show(build(latched()), jupyter=jupyter, scheme=scheme)
    expect(shown.view()).to_have_attribute("data-theme", theme)
    shown.page.evaluate("() => { document.body.dataset.jpThemeLight = 'false'; }")
    expect(shown.view()).to_have_attribute("data-theme", "dark")


@pytest.mark.slow
def test_reduced_motion_plays_without_gliding(show: Open) -> None:
    shown = show(build(latched()), still=True)
    shown.view().get_by_role("combobox").select_option("20")
    shown.press(" ")
    shown.at(18)
    expect(shown.view()).to_have_class(re.compile("vl-jump"))
    assert shown.view().locator(".vl-playhead").evaluate("node => getComputedStyle(node).transitionDuration") == "0s"


@pytest.mark.slow
@pytest.mark.parametrize("width", [600, 800, 1280, 2560])
def test_nothing_is_cut_off_at_any_width(show: Open, width: int) -> None:
    shown = show(build(nested()), width=width)
    shown.click("All lanes")
    assert shown.page.evaluate("() => document.documentElement.scrollWidth") <= width
    for button in shown.view().get_by_role("button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_the_label_of_a_run_of_one_step_is_not_cut_off(show: Open) -> None:
    shown = show(build(lab04.no_intercept.shown()))
    flag = shown.view().locator(".vl-flag")
    expect(flag).to_have_text(re.compile("^0  host: "))
    assert flag.evaluate("node => node.scrollWidth <= node.clientWidth")
    seen = "node => node.getBoundingClientRect().right <= node.closest('.vl-scroll').getBoundingClientRect().right"
    assert flag.evaluate(seen)
    veil = shown.view().locator(".vl-veil")
    assert veil.evaluate("node => node.offsetWidth") == 0, "nothing is still to come"


# --- a guest under KVM


@pytest.mark.slow
@pytest.mark.parametrize("width", [800, 1280])
def test_a_guest_under_kvm_shows_what_ran_and_what_led_to_what(show: Open, width: int) -> None:
    trace = Trace(two_at_once(LEGACY), "Two NMIs at once")
    handled = trace.find(lambda step: step.text == "KVM: db_interception")
    assert handled is not None
    shown = show(build(trace), build(Trace(two_at_once(VNMI))), width=width)
    player = shown.view()
    shown.page.evaluate(f"() => models[0].set('cursor', {handled})")
    shown.at(handled)
    path = [(depth, name, file) for depth, name, file in trace[handled].calls]
    listed = player.locator(".vl-callee")
    expect(listed).to_have_text([f"{name}{file}" for _, name, file in path])
    indents = listed.evaluate_all("items => items.map((item) => parseFloat(getComputedStyle(item).paddingLeft))")
    assert indents == [12 * depth for depth, _, _ in path]
    entry = player.locator('[data-rule="K-svm_complete_interrupts"]')
    expect(entry).to_contain_text("nmi_masked:1→0")
    expect(entry).to_contain_text("svm/svm.c: svm_complete_interrupts()")
    expect(player.locator('.vl-row[data-field="requests"] dd').first).to_have_text("EVENT")
    expect(player.locator('.vl-now[data-lane="awaiting_iret_completion"]')).to_have_text("0")
    assert {"iret_interception", "KVM"} <= set(player.locator(".vl-svg text").all_text_contents())
    assert player.locator(".vl-link.vl-hot").count() == 2  # the unmasking, and the injection it leads to
    assert "iret_interception" not in shown.view(1).locator(".vl-svg text").all_text_contents()
    assert shown.page.evaluate("() => document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_every_lane_of_kvm_keeps_its_name_inside_the_gutter(show: Open) -> None:
    shown = show(build(Trace(two_at_once(LEGACY))), width=800)
    shown.click("All lanes")
    gutter = shown.view().locator(".vl-gutter").bounding_box()
    assert gutter is not None
    for name in shown.view().locator(".vl-name").all():
        now = name.locator("code, span").last.bounding_box()
        assert now is not None
        assert now["x"] + now["width"] <= gutter["x"] + gutter["width"]
    widths = shown.view().locator(".vl-name").evaluate_all("names => names.map((n) => n.scrollWidth - n.clientWidth)")
    assert max(widths) <= 0
