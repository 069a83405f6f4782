"""The graph of states on a page: the walk by mouse and by key, looking around, themes, widths, hostile texts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.alone import Alone, OpenView, Scheme, views
from tests.browser.axe import findings, settle
from vnmi_lab.graph import graph
from vnmi_lab.hv.profiles import POLICIES

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CSS = ("player.css", "views.css")
EVIL = "<img src=x onerror=alert(1)>"
LAST = 13


@pytest.fixture
def view(browser: Browser, tmp_path: Path) -> Iterator[OpenView]:
    with views(browser, tmp_path) as opened:
        yield opened


@cache
def payload(policy: str) -> dict[str, Any]:
    return graph(POLICIES[policy])


def traits(policy: str = "patch-v4", cursor: int = 0) -> dict[str, Any]:
    return {"payload": payload(policy), "cursor": cursor}


def stands(shown: Alone, node: int) -> None:
    """Expect the marker around a node."""
    expect(shown.root).to_have_attribute("data-node", str(node))
    settle(shown.page)  # the marker glides
    marker, canvas = shown.root.locator(".vl-walker").bounding_box(), shown.root.locator(".vl-canvas").bounding_box()
    assert marker is not None
    assert canvas is not None
    _, y = shown.page.evaluate(f"() => models[0].get('payload').drawing.places[{node}]")
    assert abs(marker["y"] + marker["height"] / 2 - canvas["y"] - y) < 1


def test_the_counterexample_is_walked_step_by_step(view: OpenView) -> None:
    shown = view("graph", traits(), css=CSS)
    walk = payload("patch-v4")["walk"]
    card = shown.root.get_by_role("region", name="This step")
    for cursor, (node, text, sentence) in enumerate(walk):
        shown.at(cursor)
        expect(shown.root).to_have_attribute("data-node", str(node))
        expect(card.locator(".vl-doing")).to_have_text(text)
        expect(card.locator(".vl-sentence")).to_have_text(sentence)
        shown.press("ArrowRight")
    stands(shown, walk[-1][0])
    expect(card).to_contain_text("a law breaks here")
    expect(shown.root.get_by_role("status")).to_contain_text("13: KVM handles #VMEXIT HLT (78h).")
    scenario = shown.root.get_by_role("textbox", name="The counterexample as a scenario")
    expect(scenario).to_have_value("v1~idle~patch-v4~nmi@1~nmi@1")


def test_every_button_and_key_moves_as_it_says(view: OpenView) -> None:
    shown = view("graph", traits(), css=CSS)
    for name, cursor in [("Step (right", 1), ("Last step", LAST), ("Step back", 12), ("First step", 0)]:
        shown.click(name)
        shown.at(cursor)
    for key, cursor in [("Shift+ArrowRight", 10), ("ArrowLeft", 9), ("End", LAST), ("Home", 0)]:
        shown.press(key)
        shown.at(cursor)
    shown.root.get_by_role("slider").fill("7")
    shown.page.wait_for_function("() => models[0].get('cursor') === 7")
    sheet = shown.root.get_by_role("group", name="Keys", exact=True)
    shown.press("?")
    expect(sheet).to_be_visible()
    shown.press("Escape")
    expect(sheet).to_be_hidden()
    assert shown.page.evaluate("() => stolen.filter((key) => key !== 'Shift')") == []


def test_play_walks_to_the_end_and_tells_the_kernel_only_then(view: OpenView) -> None:
    shown = view("graph", traits(), css=CSS, still=True)
    shown.root.get_by_role("combobox").select_option("10")
    shown.press(" ")
    expect(shown.root).to_have_attribute("data-playing", "true")
    shown.at(LAST)
    expect(shown.root).to_have_attribute("data-playing", "false")
    shown.page.wait_for_function(f"() => models[0].get('cursor') === {LAST}")
    assert shown.page.evaluate("() => models[0].saved") == 1


def test_one_looks_at_any_node_by_mouse_and_goes_on_by_the_list_of_ways(view: OpenView) -> None:
    shown = view("graph", traits(cursor=2), css=CSS)
    off = next(n for n in range(19) if n not in {node for node, *_ in payload("patch-v4")["walk"]})
    place = payload("patch-v4")["drawing"]["places"][off]
    unit = (
        shown.root.locator(".vl-canvas").evaluate("node => node.clientWidth")
        / payload("patch-v4")["drawing"]["columns"]
    )
    shown.root.locator(".vl-canvas").click(position={"x": place[0] * unit, "y": place[1]})
    stands(shown, off)
    expect(shown.root).to_contain_text("Looked at, off the walk")
    into = shown.root.get_by_role("list", name="Ways here").get_by_role("button").first
    into.focus()
    into.press("Enter")
    expect(shown.root).not_to_have_attribute("data-node", str(off))
    expect(shown.stage()).to_be_focused()
    shown.root.locator(".vl-canvas").click(position={"x": place[0] * unit, "y": place[1]})
    shown.press("Escape")
    expect(shown.root).not_to_contain_text("Looked at, off the walk")


def test_without_a_counterexample_it_goes_from_node_to_node(view: OpenView) -> None:
    shown = view("graph", traits("vnmi"), css=CSS)
    count = len(payload("vnmi")["nodes"])
    shown.press("End")
    shown.at(count - 1)
    stands(shown, count - 1)
    expect(shown.root).to_contain_text("vnmi: holds in all 2,149 reachable states.")
    expect(shown.root).to_contain_text("First reached after")
    expect(shown.root.get_by_role("textbox")).to_have_count(0)


@pytest.mark.parametrize("width", [600, 800, 1280, 2560])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_at_any_width(view: OpenView, width: int, scheme: Scheme) -> None:
    shown = view("graph", traits("vnmi"), css=CSS, width=width, scheme=scheme)
    expect(shown.root).to_have_attribute("data-theme", scheme)
    assert not shown.is_wider_than(width)
    shown.press("End")
    settle(shown.page)  # the marker glides
    assert shown.cut_off(width) == []
    marker, stage = shown.root.locator(".vl-walker").bounding_box(), shown.stage().bounding_box()
    assert marker is not None
    assert stage is not None
    assert stage["x"] <= marker["x"]
    assert marker["x"] + marker["width"] <= stage["x"] + stage["width"] + 1


@pytest.mark.parametrize(("jupyter", "scheme"), [("true", "light"), ("false", "dark")])
def test_axe_finds_nothing_grave(view: OpenView, jupyter: str, scheme: Scheme) -> None:
    shown = view("graph", traits(cursor=9), css=CSS, jupyter=jupyter, scheme=scheme)
    shown.press("?")
    assert findings(shown.page, ".vnmi-player") == []


def test_on_paper_the_whole_graph_fits(view: OpenView) -> None:
    shown = view("graph", traits(), css=CSS, width=700)
    shown.page.emulate_media(media="print")
    expect(shown.root.locator(".vl-bar")).to_be_hidden()
    box = shown.root.locator(".vl-canvas .vl-svg").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 700


def test_hostile_texts_stay_texts(view: OpenView) -> None:
    hostile = {**payload("patch-v4"), "title": EVIL, "verdict": EVIL, "note": EVIL, "scenario": EVIL}
    hostile["nodes"] = [{**node, "name": EVIL, "lines": [EVIL]} for node in hostile["nodes"]]
    hostile["edges"] = [[a, b, [EVIL], *more] for a, b, _, *more in hostile["edges"]]
    hostile["walk"] = [[node, EVIL, EVIL] for node, *_ in hostile["walk"]]
    shown = view("graph", {"payload": hostile, "cursor": 3}, css=CSS)
    expect(shown.root.locator(".vl-title")).to_have_text(EVIL)
    assert shown.page.locator("img").count() == 0


def test_a_payload_it_cannot_read_is_said_and_closing_leaves_no_listener(view: OpenView) -> None:
    shown = view("graph", traits(), css=CSS)
    shown.page.evaluate("() => models[0].set('payload', { version: 99 })")
    expect(shown.page.get_by_role("alert")).to_have_text("The graph cannot be drawn: this view reads version 1, not 99")
    assert len(shown.errors) == 1
    shown.errors.clear()
    assert shown.listeners() == 0
    expect(shown.page.get_by_role("alert")).to_have_count(0)  # what it drew is gone, too
