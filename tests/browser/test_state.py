"""What the page shows is what happened: every field of the state, after play and scrub, against Python's trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.alone import OpenView, views
from vnmi_lab.guest import Guest
from vnmi_lab.library import find
from vnmi_lab.machine import BareMetal, Host, Stimulus
from vnmi_lab.timeline import build
from vnmi_lab.timeline.columns import plain
from vnmi_lab.trace import Trace

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HANDLER = {2: "inc qword [rbx+16]\niretq"}


@pytest.fixture
def view(browser: Browser, tmp_path: Path) -> Iterator[OpenView]:
    with views(browser, tmp_path) as opened:
        yield opened


def bare() -> Trace:
    guest = Guest.of("mov ecx, 4\nsub rdx, 1\ntop: push rcx\npop rax\nloop top\nhlt", HANDLER, tail="hlt")
    return Trace(BareMetal(guest, [Stimulus(3), Stimulus(6), Stimulus(7)]))


def scripted() -> Trace:
    host = Host(Guest.of("nop\nnop\npush rax\nvmmcall", HANDLER))
    inject = ("set", "event_inj", 0x80000200)
    host.load([inject, "run", inject, "run"])
    return Trace(host)


def legacy() -> Trace:
    return Trace(find("in-handler").on("legacy").machine())


def vnmi() -> Trace:
    return Trace(find("in-handler").on("vnmi").machine())


def page_state(player: Locator) -> dict[str, str]:
    rows = player.locator(".vl-row").evaluate_all("rows => rows.map(({ dataset }) => [dataset.field, dataset.value])")
    return dict(rows)


def python_state(trace: Trace, step: int) -> dict[str, str]:
    """Every field of a step's state as JavaScript writes its value."""
    state = {key: plain(value) for key, value in trace[step].state.items()}
    return {key: "null" if value is None else str(value) for key, value in state.items()}


@pytest.mark.parametrize("make", [bare, scripted, legacy, vnmi])
def test_every_field_is_what_the_trace_says(view: OpenView, make: Callable[[], Trace]) -> None:
    trace = make()
    last = len(trace) - 1
    shown = view("timeline", {"payload": build(trace), "cursor": 0, "visible_until": None})
    player = shown.root
    player.get_by_role("combobox", name="Speed").select_option("20")
    shown.press(" ")
    expect(player).to_have_attribute("data-playing", "true")
    shown.at(last)
    expect(player).to_have_attribute("data-playing", "false")
    assert page_state(player) == python_state(trace, last)
    shown.press("Home")
    shown.at(0)
    assert page_state(player) == python_state(trace, 0)
    scrub = player.get_by_role("slider", name="Step")
    for step in Random(11).sample(range(last), min(10, last)):  # noqa: S311 - the same steps every time
        scrub.fill(str(step))
        shown.at(step)
        assert page_state(player) == python_state(trace, step)
    shown.press("Home", "ArrowRight", "End", "ArrowLeft")
    shown.at(last - 1)
    assert page_state(player) == python_state(trace, last - 1)
