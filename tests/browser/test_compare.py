"""Policies side by side on a page: every control by mouse and by key, what is said, themes, widths, hostile texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.alone import Alone, OpenView, Scheme, views
from tests.browser.axe import findings, settle
from vnmi_lab.library import find
from vnmi_lab.timeline.side import side

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CSS = ("player.css", "views.css")
EVIL = "<img src=x onerror=alert(1)>"
THREE = ("bare", "legacy", "vnmi")
IRET_EXIT, LAST = 12, 31


@pytest.fixture
def view(browser: Browser, tmp_path: Path) -> Iterator[OpenView]:
    with views(browser, tmp_path) as opened:
        yield opened


def traits(name: str = "two-at-once", policies: tuple[str, ...] = THREE, cursor: int = 0) -> dict[str, Any]:
    return {"payload": side(find(name), policies), "cursor": cursor}


def card(shown: Alone, policy: str) -> Any:  # noqa: ANN401 - a locator
    return shown.root.get_by_role("region", name=policy, exact=True)


def test_at_600_px_the_button_of_keys_stays_beside_the_title(view: OpenView) -> None:
    shown = view("compare", traits(), css=CSS, width=600)
    title, help_ = (
        shown.root.locator(name).bounding_box() for name in (".vl-title", '.vl-top [aria-label="Keys (?)"]')
    )
    assert title is not None
    assert help_ is not None
    assert help_["y"] < title["y"] + title["height"]


def test_each_policy_says_what_it_does_in_the_column_shown(view: OpenView) -> None:
    shown = view("compare", traits(cursor=IRET_EXIT), css=CSS)
    shown.at(IRET_EXIT)
    expect(card(shown, "legacy")).to_contain_text("#VMEXIT IRET (74h)")
    expect(card(shown, "legacy")).to_contain_text("the host continues")
    for other in ("bare", "vnmi"):
        expect(card(shown, other)).to_contain_text("Nothing to do here")
        expect(card(shown, other)).to_contain_text("Its last step: nop.")
    expect(shown.root.get_by_role("status")).to_have_text(
        "Column 12. bare: nothing to do; legacy: #VMEXIT IRET (74h); vnmi: nothing to do."
    )
    expect(shown.root.locator(".vl-verdict")).to_contain_text("legacy: 5 exits (1 kick, 2 IRET, 1 #DB, 1 HLT).")


def test_every_button_moves_as_it_says(view: OpenView) -> None:
    shown = view("compare", traits(), css=CSS)
    for name, column in [
        ("Step (right", 1),
        ("Next diff", 4),
        ("Last column", LAST),
        ("Step back", 30),
        ("First c", 0),
    ]:
        shown.click(name)
        shown.at(column)
    shown.click("Next difference")
    shown.click("Next difference")
    shown.click("Previous difference")
    shown.at(4)
    shown.root.get_by_role("slider").fill("17")
    shown.at(17)
    shown.page.wait_for_function("() => models[0].get('cursor') === 17")
    box = shown.stage().bounding_box()
    assert box is not None
    shown.stage().click(position={"x": box["width"] * 9.5 / (LAST + 1), "y": 60})
    shown.at(9)


def test_every_key_moves_as_the_sheet_says_and_reaches_nobody_else(view: OpenView) -> None:
    shown = view("compare", traits(), css=CSS)
    keys = [("ArrowRight", 1), ("Shift+ArrowRight", 11), ("ArrowLeft", 10), ("Shift+ArrowLeft", 0), (".", 4), (".", 5)]
    for key, column in [*keys, (",", 4), ("End", LAST), ("Home", 0), ("d", 0)]:
        shown.press(key)
        shown.at(column)
    sheet = shown.root.get_by_role("group", name="Keys", exact=True)
    shown.press("?")
    expect(sheet).to_be_visible()
    shown.press("Escape")
    expect(sheet).to_be_hidden()
    assert shown.page.evaluate("() => stolen.filter((key) => key !== 'Shift')") == []
    shown.press("Tab")
    expect(shown.stage()).not_to_be_focused()


def test_play_goes_on_to_the_end_and_nothing_below_moves(view: OpenView) -> None:
    shown = view("compare", traits(), css=CSS, still=True)
    shown.root.get_by_role("combobox").select_option("10")
    before = shown.root.locator(".vl-verdict").bounding_box()
    shown.press(" ")
    expect(shown.root).to_have_attribute("data-playing", "true")
    shown.at(LAST)
    expect(shown.root).to_have_attribute("data-playing", "false")
    assert shown.root.locator(".vl-verdict").bounding_box() == before
    shown.page.wait_for_function(f"() => models[0].get('cursor') === {LAST}")
    assert shown.page.evaluate("() => models[0].saved") == 1


def test_one_jumps_to_where_the_guest_first_sees_something_else(view: OpenView) -> None:
    shown = view("compare", traits("wrong-bit-loses", ("vnmi", "vnmi-6.4-rc")), css=CSS)
    column = shown.page.evaluate("() => models[0].get('payload').divergences[0][0]")
    shown.click("First divergence")
    shown.at(column)
    expect(card(shown, "vnmi")).to_contain_text("NMI taken")
    shown.press("Home")
    shown.press("d")
    shown.at(column)
    assert "differs from here on" in shown.root.locator(".vl-canvas .vl-svg text").all_text_contents()


def test_where_there_is_no_divergence_the_button_says_so_and_stays(view: OpenView) -> None:
    shown = view("compare", traits(cursor=3), css=CSS)
    button = shown.root.get_by_role("button", name="No divergence")
    expect(button).to_have_attribute("aria-disabled", "true")
    button.click(force=True)
    shown.at(3)


def test_the_picture_shows_who_exits_and_where_each_nmi_waits(view: OpenView) -> None:
    shown = view("compare", traits(), css=CSS)
    texts = shown.root.locator(".vl-canvas .vl-svg text").all_text_contents()
    assert texts.count("IRET exit") == 2
    assert {"#DB exit", "NMI 2 in latch", "NMI 2 in nmi_pending", "NMI 2 in V_NMI"} <= set(texts)
    head = shown.root.locator(".vl-counts thead [data-differs='true']")
    expect(head).to_have_text(["kicks", "IRET", "#DB", "all exits", "injections"])


@pytest.mark.parametrize("width", [600, 800, 1280, 2560])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_at_any_width(view: OpenView, width: int, scheme: Scheme) -> None:
    shown = view("compare", traits("wrong-bit-loses", (*THREE, "vnmi-6.4-rc")), css=CSS, width=width, scheme=scheme)
    expect(shown.root).to_have_attribute("data-theme", scheme)
    assert not shown.is_wider_than(width)
    assert shown.cut_off(width) == []
    shown.press("End")
    head, stage = shown.root.locator(".vl-playhead").bounding_box(), shown.stage().bounding_box()
    assert head is not None
    assert stage is not None
    settle(shown.page)  # the playhead glides
    head = shown.root.locator(".vl-playhead").bounding_box()
    assert head is not None
    assert stage["x"] - 1 <= head["x"] <= stage["x"] + stage["width"]


@pytest.mark.parametrize(("jupyter", "scheme"), [("true", "light"), ("false", "dark")])
def test_axe_finds_nothing_grave(view: OpenView, jupyter: str, scheme: Scheme) -> None:
    shown = view(
        "compare", traits("wrong-bit-loses", (*THREE, "vnmi-6.4-rc"), 16), css=CSS, jupyter=jupyter, scheme=scheme
    )
    shown.press("?")
    assert findings(shown.page, ".vnmi-player") == []


def test_on_paper_all_columns_fit_and_no_control_is_shown(view: OpenView) -> None:
    shown = view("compare", traits(), css=CSS)
    shown.page.emulate_media(media="print")
    expect(shown.root.locator(".vl-bar")).to_be_hidden()
    picture = shown.root.locator(".vl-canvas .vl-svg")
    expect(picture).to_have_attribute("width", "560")
    shown.page.set_viewport_size({"width": 900, "height": 900})  # on paper the sheet decides, whatever the window does
    shown.page.wait_for_function(
        "() => new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen)))"
    )
    expect(picture).to_have_attribute("width", "560")
    shown.page.emulate_media(media="screen")
    expect(picture).not_to_have_attribute("width", "560")


def test_hostile_texts_stay_texts(view: OpenView) -> None:
    hostile = traits()
    payload = hostile["payload"]
    payload["title"] = payload["scenario"] = EVIL
    payload["verdict"] = [EVIL]
    for run in payload["runs"]:
        run["name"], run["words"] = EVIL, [EVIL] * len(run["words"])
    for shape in payload["drawing"]["shapes"]:
        if shape[0] == "text":
            shape[5] = [EVIL]
    shown = view("compare", hostile, css=CSS)
    expect(shown.root.locator(".vl-title")).to_have_text(EVIL)
    shown.press("End")
    assert shown.page.locator("img").count() == 0


def test_a_payload_it_cannot_read_is_said_and_closing_leaves_no_listener(view: OpenView) -> None:
    shown = view("compare", traits(), css=CSS)
    shown.page.evaluate("() => models[0].set('payload', { version: 99 })")
    expect(shown.page.get_by_role("alert")).to_have_text(
        "The policies cannot be drawn: this view reads version 1, not 99"
    )
    assert len(shown.errors) == 1
    shown.errors.clear()
    assert shown.listeners() == 0
    expect(shown.page.get_by_role("alert")).to_have_count(0)  # what it drew is gone, too
