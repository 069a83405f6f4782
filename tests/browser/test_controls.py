"""The second row of the player's controls, each by mouse and by key: run until, loop, markers, search, lanes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.alone import Alone
from tests.browser.players import Open, players
from tests.kvm_runs import two_at_once
from tests.timeline_runs import latched, looping, nested
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.timeline import Payload, build
from vnmi_lab.timeline.columns import at
from vnmi_lab.trace import Trace

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    with players(browser, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def legacy() -> Payload:
    return build(Trace(two_at_once(LEGACY), "Two NMIs at once"))


def steps(payload: Payload, kind: str) -> list[int]:
    return [step for step, name in enumerate(payload["kinds"]) if name == kind]


def news(shown: Alone) -> Locator:
    return shown.view().locator(".vl-news")


# --- run until


def test_exits_are_gone_through_by_button_and_key(show: Open, legacy: Payload) -> None:
    shown = show(legacy)
    exits = steps(legacy, "vmexit")
    for step in exits:
        shown.press("e")
        shown.at(step)
    shown.press("e")
    expect(news(shown)).to_have_text(f"No #VMEXIT after step {exits[-1]}.")
    shown.at(exits[-1])
    for step in reversed(exits[1:-1]):
        shown.click("Previous #VMEXIT")
        shown.at(step)
    shown.press("Shift+E")
    shown.at(exits[0])
    shown.click("Next #VMEXIT")
    shown.at(exits[1])


@pytest.mark.parametrize(("name", "kind"), [("#VMEXIT", "vmexit"), ("VMRUN", "vmrun"), ("a delivery", "deliver")])
def test_run_until_goes_on_and_back_the_same_way(show: Open, legacy: Payload, name: str, kind: str) -> None:
    shown = show(legacy)
    shown.click("Run until")
    menu = shown.view().get_by_role("group", name="Run until")
    wanted = steps(legacy, kind)
    for step in wanted:
        menu.get_by_role("button", name=f"On to where {name}", exact=True).click()
        shown.at(step)
    menu.get_by_role("button", name=f"On to where {name}", exact=True).click()
    expect(news(shown)).to_have_text(f"Not found after step {wanted[-1]}: {name}")
    shown.at(wanted[-1])
    for step in reversed(wanted[:-1]):
        menu.get_by_role("button", name=f"Back to where {name}", exact=True).click()
        shown.at(step)


def test_run_until_a_line_by_key_alone_and_again(show: Open) -> None:
    shown = show(build(latched()))
    shown.press("u")
    menu = shown.view().get_by_role("group", name="Run until")
    expect(menu.get_by_role("button").first).to_be_focused()
    line = menu.get_by_role("combobox", name="Line of the code")
    line.select_option(str(0x2005))
    for _ in range(2):
        shown.page.keyboard.press("Tab")  # nothing of it takes Tab
    menu.get_by_role("button", name="On to where a line").press("Enter")
    shown.at(9)
    expect(news(shown)).to_have_text("Ran to step 9: 0x2005 iretq")
    shown.page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(shown.view().get_by_role("button", name="Run until…")).to_be_focused()
    shown.press("r")
    shown.at(14)
    shown.press("Shift+R")
    shown.at(9)


def test_run_until_iret_and_a_change_of_a_mask(show: Open) -> None:
    shown = show(build(latched()))
    shown.press("u")
    for way, name, step in [
        ("On", "IRET", 9),
        ("On", "IRET", 14),
        ("Back", "a mask changes", 10),
        ("Back", "a mask changes", 9),
        ("Back", "a mask changes", 4),
    ]:
        shown.view().get_by_role("button", name=f"{way} to where {name}").click()
        shown.at(step)


def test_a_condition_is_typed_and_what_is_wrong_with_it_is_said(show: Open) -> None:
    shown = show(build(latched()))
    shown.press("u")
    typed = shown.view().get_by_role("textbox", name="Condition")
    typed.fill("nmi_mask == 1 and nmi_latch == 1")
    typed.press("Enter")
    shown.at(7)
    typed.fill("nmi_mask == 0")
    typed.press("Enter")
    shown.at(9)
    typed.press("Shift+Enter")
    shown.at(0)  # true from the start on, so the first step is where it becomes true
    typed.fill("nmi_mas == 1")
    typed.press("Enter")
    shown.at(0)
    wrong = shown.view().get_by_role("alert")
    expect(wrong).to_have_text(re.compile('^character 1: no field is called "nmi_mas"; near it: nmi_mask'))
    expect(typed).to_have_attribute("aria-invalid", "true")
    typed.fill("nmi_mask == 1")
    typed.press("Enter")
    shown.at(4)
    expect(wrong).to_be_hidden()


def test_run_until_does_not_reach_what_is_to_be_predicted(show: Open) -> None:
    shown = show(build(latched(), visible_until=7))
    shown.press("u")
    shown.view().get_by_role("button", name="On to where IRET").click()
    shown.at(0)
    expect(news(shown)).to_have_text("Not found after step 0: IRET")


def test_a_click_elsewhere_closes_a_menu(show: Open) -> None:
    shown = show(build(latched()))
    shown.click("Run until")
    menu = shown.view().get_by_role("group", name="Run until")
    expect(menu).to_be_visible()
    shown.view().locator(".vl-title").click()
    expect(menu).to_be_hidden()


# --- loop and markers


def test_markers_measure_and_play_loops_between_them(show: Open, legacy: Payload) -> None:
    shown = show(legacy)
    shown.press("a")
    for _ in range(2):
        shown.press("e")
    second = steps(legacy, "vmexit")[1]
    shown.press("b")
    spent = at(legacy["cycles"], second) - at(legacy["cycles"], 0)
    says = f"{second} steps, 2 exits, {spent:,} cycles"
    expect(shown.view().locator(".vl-span")).to_have_text(says)
    expect(shown.view().locator(".vl-between")).to_have_text(says)
    expect(shown.view().locator(".vl-marker")).to_have_text(["A", "B"])
    shown.press("Shift+A")
    shown.at(0)
    shown.press("Shift+B")
    shown.at(second)
    shown.press("o")
    expect(shown.view().get_by_role("button", name="Loop")).to_have_attribute("aria-pressed", "true")
    shown.view().get_by_role("combobox").select_option("60")
    shown.page.evaluate("""() => { window.seen = []; const root = document.querySelector(".vnmi-player");
      new MutationObserver(() => seen.push(+root.dataset.cursor)).observe(root, { attributes: true }); }""")
    shown.press(" ")
    shown.page.wait_for_function("() => seen.filter((step) => step === 0).length >= 2")
    shown.press(" ")
    assert max(shown.page.evaluate("() => seen")) <= second
    shown.press("Shift+B", "b")
    expect(shown.view().locator(".vl-marker")).to_have_text(["A"])
    expect(news(shown)).to_have_text("Marker B is gone.")


def test_markers_and_loop_by_mouse(show: Open) -> None:
    shown = show(build(latched()))
    shown.click("Set marker A")
    shown.click("Last step")
    shown.click("Set marker B")
    expect(shown.view().locator(".vl-span")).to_have_text("18 steps, 0 exits")
    shown.click("Remove marker B")
    expect(shown.view().locator(".vl-between")).to_have_count(0)
    loop = shown.view().get_by_role("button", name="Loop")
    loop.click()
    expect(loop).to_have_attribute("aria-pressed", "true")
    loop.click()
    expect(loop).to_have_attribute("aria-pressed", "false")


def test_cycles_are_counted_between_markers_where_the_run_has_them(show: Open) -> None:
    shown = show(build(latched()) | {"cycles": [0, 5, 4, 1005], "cycles_note": "assumed"})
    shown.press("a", "End", "b")
    expect(shown.view().locator(".vl-span")).to_have_text("18 steps, 0 exits, 1,000 cycles")
    expect(shown.view().locator(".vl-span")).to_have_attribute("title", "assumed")


@pytest.mark.parametrize("by", ["key", "button"])
def test_what_lies_between_the_markers_fills_the_width(show: Open, by: str) -> None:
    shown = show(build(looping(400)))
    goto = shown.view().get_by_role("spinbutton")
    for step, key in (("200", "a"), ("230", "b")):
        goto.fill(step)
        goto.press("Enter")
        shown.press(key)
    if by == "key":
        shown.press("f")
    else:
        shown.click("Zoom to what lies between")
    stage = shown.stage().bounding_box()
    assert stage is not None
    for marker in shown.view().locator(".vl-marker").all():
        box = marker.bounding_box()
        assert box is not None
        assert stage["x"] <= box["x"] <= stage["x"] + stage["width"]
    between = shown.view().locator(".vl-between").bounding_box()
    assert between is not None
    assert between["width"] > stage["width"] / 2


def test_dragging_scrubs_and_with_shift_or_the_middle_button_it_pans(show: Open) -> None:
    shown = show(build(looping(400)))
    box = shown.stage().bounding_box()
    assert box is not None
    mouse = shown.page.mouse

    def drag(button: str) -> None:
        mouse.move(box["x"] + 300, box["y"] + 80)
        mouse.down(button=button)  # type: ignore[arg-type]
        mouse.move(box["x"] + 100, box["y"] + 80, steps=4)
        mouse.up(button=button)  # type: ignore[arg-type]

    drag("left")
    shown.at(8)
    assert shown.stage().evaluate("node => node.scrollLeft") == 0
    shown.page.keyboard.down("Shift")
    drag("left")
    shown.page.keyboard.up("Shift")
    assert shown.stage().evaluate("node => node.scrollLeft") == 200
    drag("middle")
    assert shown.stage().evaluate("node => node.scrollLeft") == 400
    shown.at(8)
    shown.stage().evaluate("node => node.focus({ preventScroll: true })")
    shown.page.keyboard.press("k")
    assert shown.stage().evaluate("node => node.scrollLeft") > 400
    shown.page.keyboard.press("j")
    assert abs(shown.stage().evaluate("node => node.scrollLeft") - 400) <= 2  # browsers round
    shown.at(8)


# --- search


def test_search_finds_texts_rules_and_functions_and_counts(show: Open, legacy: Payload) -> None:
    shown = show(legacy)
    shown.press("/")
    box = shown.view().get_by_role("searchbox")
    expect(box).to_be_focused()
    box.press_sequentially("iretq")  # letters belong to the box
    shown.at(0)
    count = shown.view().locator(".vl-count")
    expect(count).to_have_text(re.compile("^[0-9]+ hits$"))
    hits = shown.view().locator(".vl-hit").count()
    expect(count).to_have_text(f"{hits} hits")
    box.press("Enter")
    expect(count).to_have_text(re.compile("^1 of "))
    first = shown.view().get_attribute("data-cursor")
    shown.click("Next hit")
    expect(count).to_have_text(re.compile("^2 of "))
    shown.click("Previous hit")
    shown.at(int(first or -1))
    shown.press("n")
    expect(count).to_have_text(re.compile("^2 of "))
    shown.press("Shift+N")
    shown.at(int(first or -1))
    shown.press("Home")
    box.fill("svm_inject_nmi")
    box.press("Shift+Enter")
    expect(count).to_have_text(re.compile(r"^(\d+) of \1$"))  # backward from before the first: the last
    box.fill("no such thing")
    box.press("Enter")
    expect(news(shown)).to_have_text("Nothing found.")
    box.press("Escape")
    expect(box).to_have_value("")
    expect(shown.stage()).to_be_focused()


# --- lanes


def lanes(shown: Alone) -> list[str]:
    names = shown.view().locator(".vl-now").evaluate_all("nodes => nodes.map((node) => node.dataset.lane)")
    return [str(name) for name in names]


def test_lanes_are_hidden_shown_and_pinned(show: Open, legacy: Payload) -> None:
    shown = show(legacy)
    before = lanes(shown)
    shown.press("Shift+L")
    menu = shown.view().get_by_role("group", name="Lanes")
    expect(menu.get_by_role("checkbox").first).to_be_focused()
    menu.get_by_role("checkbox", name=before[0], exact=True).uncheck()
    assert lanes(shown) == before[1:]
    pin = menu.get_by_role("button", name=f"Keep {before[-1]} at the top")
    pin.press("Enter")
    expect(pin).to_have_attribute("aria-pressed", "true")
    assert lanes(shown) == [before[-1], *before[1:-1]]
    menu.get_by_role("checkbox", name="world", exact=True).press(" ")
    expect(shown.view().locator(".vl-gutter .vl-name", has_text="host")).to_have_count(0)
    shown.press("l", "l")  # all lanes, and back to those that move: choices are gone, pins stay
    assert sorted(lanes(shown)) == sorted(before)
    assert lanes(shown)[0] == before[-1]


# --- linked cursors


def test_players_of_one_name_move_together_and_others_do_not(show: Open) -> None:
    vnmi = build(Trace(two_at_once(VNMI)))
    shown = show(build(latched()), build(latched()), vnmi, build(nested()), links=("one", "one", "one", "other"))
    shown.press("End")
    shown.at(18, 1)
    shown.at(0, 3)
    shown.press("Home", "ArrowRight")
    shown.stage(1).press("ArrowRight")
    shown.at(2)
    goto = shown.view().get_by_role("spinbutton")
    goto.fill("3")  # an NMI arrives, as it does in step 3 of the third
    goto.press("Enter")
    shown.at(3, 2)
    shown.page.evaluate("() => models[1].set('link', '')")
    shown.press("Home")
    shown.at(3, 1)
    shown.at(0, 2)
    shown.page.evaluate("() => close[2]()")
    shown.press("End")
    shown.at(0, 2)
