"""The panel that says why an NMI is blocked: what it says, and how one jumps to where that ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.alone import OpenView, views
from tests.timeline_runs import latched
from vnmi_lab.library import find
from vnmi_lab.timeline import build
from vnmi_lab.trace import Trace

pytestmark = [pytest.mark.browser, pytest.mark.slow]
EVIL = "<img src=x onerror=alert(1)>"
BODY, IRETQ = 14, 15
"""Steps of the run: the last but one instruction of the handler, a second NMI in V_NMI; and its IRET."""


@pytest.fixture
def view(browser: Browser, tmp_path: Path) -> Iterator[OpenView]:
    with views(browser, tmp_path) as opened:
        yield opened


def traits(until: int | None = None) -> dict[str, Any]:
    payload = build(Trace(find("in-handler").on("vnmi").machine(), "in-handler"))
    return {"payload": payload, "cursor": BODY, "visible_until": until}


def test_it_says_what_decides_and_jumps_to_its_end_by_mouse_and_by_key(view: OpenView) -> None:
    shown = view("timeline", traits())
    panel = shown.root.get_by_role("region", name="Why is it blocked?")
    party = panel.locator('.vl-party[data-state="blocked"]')
    expect(party).to_contain_text("processor, virtual NMI blocks NMIs. 1 NMI waits.")
    expect(party.locator('[data-decides="true"]')).to_have_text("v_nmi_blocking yes, decides")
    expect(party.locator("li").first).to_have_text("gif no")
    party.get_by_role("button", name="go to step 15").click()
    shown.at(IRETQ)
    expect(party).to_have_count(0)
    expect(panel).to_contain_text("lets an NMI in.")
    expect(panel.locator("ul:visible")).to_have_count(0)
    shown.press("ArrowLeft")
    shown.press("w")
    shown.at(IRETQ)
    shown.press("w")  # nothing blocks now but that the guest runs, which ends with its next exit
    shown.at(24)


def test_nothing_below_it_moves_while_the_run_is_played(view: OpenView) -> None:
    shown = view("timeline", traits())
    tops = set()
    for step in range(26):
        shown.page.evaluate(f"() => models[0].set('cursor', {step})")
        shown.at(step)
        box = shown.root.locator(".vl-lines").first.bounding_box()
        assert box is not None
        tops.add(round(box["y"]))
    assert len(tops) == 1


def test_it_does_not_give_away_what_is_still_to_be_predicted(view: OpenView) -> None:
    shown = view("timeline", traits(until=BODY))
    party = shown.root.locator('.vl-party[data-state="blocked"]')
    expect(party.get_by_role("button")).to_have_attribute("aria-disabled", "true")
    expect(party.get_by_role("button")).not_to_contain_text("15")
    shown.press("w")
    shown.at(BODY)


def test_a_run_without_a_machine_has_no_such_panel(view: OpenView) -> None:
    shown = view("timeline", {"payload": build(latched()), "cursor": 0, "visible_until": None})
    expect(shown.root.locator(".vl-blocked")).to_be_hidden()


def test_hostile_texts_stay_texts(view: OpenView) -> None:
    hostile = traits()
    hostile["payload"]["blocked"]["conditions"] = [[EVIL] * 4 for _ in hostile["payload"]["blocked"]["conditions"]]
    shown = view("timeline", hostile)
    expect(shown.root.locator(".vl-blocked")).to_contain_text(EVIL)
    assert shown.page.locator("img").count() == 0
