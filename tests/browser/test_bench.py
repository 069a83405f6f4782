"""The scenario panel and the predictions on the timeline in JupyterLab, by mouse and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.axe import findings
from tests.browser.conftest import OpenNotebook
from tests.browser.lab import THEMES, NotebookPage
from tests.browser.test_jupyterlab import write
from vnmi_lab.checks import lab04
from vnmi_lab.hv.profiles import ABOUT

pytestmark = [pytest.mark.browser, pytest.mark.slow]

VNMI = f"vnmi: {ABOUT['vnmi']}"
ONE = "v1~plain~vnmi~nmi@work"
FAIL = """import vnmi_lab.widgets.bench as module
def fail(*_args):
    raise RuntimeError("<b>broken</b>")
module.titled = fail"""


def scenario(panel: Locator) -> Locator:
    return panel.get_by_label("Scenario", exact=True)


def point_at(panel: Locator, step: int, steps: int) -> None:
    """Click the middle of a step's column."""
    canvas = panel.locator(".vl-canvas")
    box = canvas.bounding_box()
    assert box is not None
    canvas.click(position={"x": box["width"] * (step + 0.5) / steps, "y": 12})


@pytest.fixture
def bench(open_notebook: OpenNotebook, tmp_path: Path) -> Iterator[NotebookPage]:
    page = open_notebook(write(tmp_path / "bench.ipynb", "from vnmi_lab import show\nshow('one')"))
    assert page.run_all() == []
    expect(page.page.locator(".vnmi-player")).to_have_attribute("data-ready", "true")
    yield page
    assert page.errors == []


def test_a_policy_is_chosen_and_arrivals_are_placed_by_mouse_and_keyboard(bench: NotebookPage) -> None:
    keys, panel = bench.page.keyboard, bench.page.locator(".vnmi-bench")
    player = panel.locator(".vnmi-player")
    expect(panel.locator(".vnmi-drawer")).to_be_hidden()
    policy = panel.get_by_label("Policy")
    policy.focus()
    keys.type("legacy")
    expect(scenario(panel)).to_have_value("v1~plain~legacy~nmi@work")
    expect(policy).to_be_focused()
    expect(player.locator(".vl-title")).to_have_text("plain under legacy: NMI at work")
    expect(panel).to_contain_text("IRET 1")
    policy.select_option(label=VNMI)
    expect(scenario(panel)).to_have_value(ONE)

    panel.get_by_role("button", name="Place an NMI").click()
    expect(player.locator(".vl-scroll")).to_be_focused()
    point_at(panel, 9, int(player.get_by_label("Go to step", exact=True).get_attribute("max") or 0) + 1)
    expect(scenario(panel)).to_have_value(f"{ONE}~nmi@entry")
    expect(player).to_have_attribute("data-cursor", "9")
    expect(player.locator(".vl-step b").first).to_have_text("NMI arrives")
    panel.get_by_role("button", name="Place an NMI").press("Enter")
    expect(player.locator(".vl-scroll")).to_be_focused()
    for key in ("Home", "ArrowRight", "ArrowRight", "Enter"):
        keys.press(key)
    expect(scenario(panel)).to_have_value(f"{ONE}~nmi@entry~nmi@2")
    expect(player.locator(".vl-scroll")).to_be_focused()
    panel.get_by_role("button", name="NMI after 2 steps ✕").click()
    panel.get_by_role("button", name="NMI at entry ✕").click()
    expect(scenario(panel)).to_have_value(ONE)


def test_every_control_is_within_600_pixels_and_readable(bench: NotebookPage) -> None:
    page, panel = bench.page, bench.page.locator(".vnmi-bench")
    panel.get_by_role("button", name="More: ").click()
    page.set_viewport_size({"width": 600, "height": 1600})
    beyond = """panel => [...panel.querySelectorAll("button, input, select, textarea")]
      .filter((one) => one.offsetParent && one.getBoundingClientRect().right > panel.getBoundingClientRect().right + 1)
      .map((one) => one.outerHTML.slice(0, 80))"""
    assert panel.evaluate(beyond) == []
    for theme in THEMES:
        bench.wear(theme)
        expect(panel.locator(".vnmi-player")).to_have_attribute("data-theme", re.compile(theme))
        assert findings(page, ".vnmi-bench") == []


def test_code_is_mended_in_place_and_a_scenario_is_copied_and_pasted(bench: NotebookPage) -> None:
    panel = bench.page.locator(".vnmi-bench")
    bench.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel.get_by_role("button", name="More: ").click()
    editor = panel.get_by_role("textbox", name="Code", exact=True)
    good = editor.input_value()
    editor.fill(good.replace("sti", "stj"))
    panel.get_by_role("button", name="Run", exact=True).click()
    problem = panel.get_by_role("alert")
    expect(problem).to_contain_text("line 1, column 10: unknown instruction 'stj': did you mean 'sti'?")
    expect(problem).to_contain_text("1 | start:   stj")
    expect(scenario(panel)).to_have_value(ONE)
    editor.fill(good.replace("sti", "sti\n         nop"))
    panel.get_by_role("button", name="Run", exact=True).click()
    expect(problem).to_have_count(0)
    expect(scenario(panel)).to_have_value(re.compile(r"^v1~asm\."))

    panel.get_by_role("button", name="Copy: Scenario").click()
    expect(panel.get_by_text("Copied.")).to_be_visible()
    assert bench.page.evaluate("() => navigator.clipboard.readText()") == scenario(panel).input_value()
    paste = panel.get_by_label("Paste")
    paste.fill("v1~plain~vnmi~nmi@wrk")
    panel.get_by_role("button", name="Use it").click()
    expect(panel.get_by_role("alert")).to_have_text(
        "character 15, 'nmi@wrk': the guest has no label 'wrk'; did you mean 'work'?"
    )
    expect(paste).to_have_value("v1~plain~vnmi~nmi@wrk")
    paste.fill(ONE)
    paste.press("Enter")
    expect(scenario(panel)).to_have_value(ONE)
    expect(panel.get_by_role("alert")).to_have_count(0)


def test_where_the_clipboard_is_blocked_the_text_is_selected_and_a_failing_callback_is_seen(
    open_notebook: OpenNotebook, tmp_path: Path
) -> None:
    cells = ["from vnmi_lab import show\nshow('one')", "%%guest mine\nstart: nop\nitn3", FAIL]
    page = open_notebook(write(tmp_path / "bench.ipynb", *cells), theme="dark", width=800, fresh=True)
    assert page.run_all() == []
    cell = page.page.locator(".jp-Cell").nth(1)
    expect(cell).to_contain_text("line 2, column 1: unknown instruction 'itn3': did you mean 'int3'?")
    expect(cell).to_contain_text("2 | itn3")
    expect(cell).not_to_contain_text("Traceback")
    panel = page.page.locator(".vnmi-bench")
    page.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('blocked')); }")
    panel.get_by_role("button", name="Copy: Scenario").click()
    expect(panel.get_by_text("The clipboard is blocked here")).to_be_visible()
    assert page.page.evaluate("() => getSelection().toString()") == ONE
    before = panel.locator(".vl-title").inner_text()
    panel.get_by_label("Policy").select_option(label=f"m2: {ABOUT['m2']}")
    expect(panel.get_by_role("alert")).to_contain_text("RuntimeError: <b>broken</b>")
    expect(panel.locator(".vl-title")).to_have_text(before)
    expect(scenario(panel)).to_have_value(ONE)
    assert page.page.evaluate("() => document.querySelector('.vnmi-bench').scrollWidth") <= 800
    page.page.set_viewport_size({"width": 600, "height": 1600})
    panel.get_by_role("button", name="More: ").click()
    cut = "spans => spans.filter((span) => span.scrollWidth > span.clientWidth + 1).map((span) => span.textContent)"
    switches = panel.locator(".vnmi-drawer .widget-checkbox :is(label, span)")
    assert switches.count() > 15
    assert switches.evaluate_all(cut) == []  # no word of a switch is left out
    assert page.errors == []


LATE = """import threading, time
from vnmi_lab.widgets.answer import Answer
in_time = Answer._said
def late(*said):
    if threading.current_thread() is not threading.main_thread():
        time.sleep(3)
    in_time(*said)
Answer._said = late"""


def opened(open_notebook: OpenNotebook, folder: Path, *before: str) -> NotebookPage:
    ask = "from vnmi_lab import show\nfrom vnmi_lab.checks import lab04 as lab\nlab.{}"
    names = ("behind_the_iret", "written_back", "no_exit")
    page = open_notebook(write(folder / "predict.ipynb", *before, *(ask.format(name) for name in names)))
    assert page.run_all() == []
    return page


def test_predictions_are_made_with_the_mouse(open_notebook: OpenNotebook, tmp_path: Path) -> None:
    page = opened(open_notebook, tmp_path, LATE)  # what is said is read after the click that follows it
    flag, bits = page.page.locator(".vnmi-predict").nth(0), page.page.locator(".vnmi-predict").nth(1)
    expect(flag.get_by_role("button", name="Check")).to_be_disabled()
    seen = len(lab04.behind_the_iret.run_seen())
    for step in (12, 10):  # and then another thought
        point_at(flag, step, seen)
        expect(flag.locator(".vnmi-placed")).to_contain_text(f"before step {step}")
        expect(flag.locator(".vl-pennant")).to_have_text(["the second NMI arrives", "you: the second NMI is taken"])
    flag.get_by_role("button", name="Check").click()
    expect(flag.locator(".vnmi-note[data-said]")).to_have_attribute("data-said", "wrong")
    expect(flag.locator(".vl-pennant")).to_have_text(
        ["the machine: the second NMI is taken", "you: the second NMI is taken"]
    )
    assert flag.locator(".vl-pennant").evaluate_all("flags => flags.map((flag) => +flag.dataset.step)") == [15, 14]
    expect(flag.locator(".vl-place")).to_be_hidden()
    expect(flag.locator(".vnmi-placed")).to_contain_text("before step 10")

    expect(bits.get_by_text("int_ctl = 07000A00h")).to_be_visible()
    for name in ("V_NMI", "V_NMI_MASK"):
        bits.get_by_role("checkbox", name=re.compile(rf"{name}$")).click()
    expect(bits.get_by_text("int_ctl = 07001200h")).to_be_visible()
    bits.get_by_role("button", name="Check").click()
    expect(bits.locator(".vnmi-note[data-said]")).to_have_attribute("data-said", "right")
    expect(bits.locator(".vl-pennant")).to_have_text(["the machine: int_ctl = 07001200h", "you: int_ctl = 07001200h"])
    expect(bits.get_by_role("checkbox").first).to_be_disabled()
    assert page.errors == []


def test_predictions_are_made_with_the_keyboard_alone(open_notebook: OpenNotebook, tmp_path: Path) -> None:
    page = opened(open_notebook, tmp_path)
    keys = page.page.keyboard
    flag, bits, choice = (page.page.locator(".vnmi-predict").nth(n) for n in range(3))
    flag.locator(".vl-scroll").focus()
    keys.press("Enter")
    expect(flag.locator(".vl-pennant")).to_have_count(2)
    flag.get_by_role("button", name="It never happens").focus()
    keys.press("Enter")
    expect(flag.locator(".vnmi-placed")).to_have_text("You say: it never happens.")
    expect(flag.locator(".vl-pennant")).to_have_count(1)
    keys.press("Tab")
    expect(flag.get_by_role("button", name="Check")).to_be_focused()
    flag.locator(".vl-scroll").focus()  # another thought
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Enter"):
        keys.press(key)
    expect(flag.locator(".vnmi-placed")).to_contain_text("before step 11")
    flag.get_by_role("button", name="Check").press("Enter")
    expect(flag.locator(".vnmi-note[data-said]")).to_have_attribute("data-said", "right")

    bits.get_by_role("checkbox").first.focus()
    for key in ("Tab", "Space", "Tab", "Space"):
        keys.press(key)
    expect(bits.get_by_text("int_ctl = 07001200h")).to_be_visible()
    for key in ("Tab", "Tab", "Tab", "Tab", "Enter"):
        keys.press(key)
    expect(bits.locator(".vnmi-note[data-said]")).to_have_attribute("data-said", "right")

    # one group of radio buttons: one stop of Tab, and the arrow keys choose
    choice.get_by_role("radio").first.focus()
    for key, chosen in (("Space", 0), ("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("ArrowUp", 0)):
        keys.press(key)
        expect(choice.get_by_role("radio").nth(chosen)).to_be_checked()
    keys.press("Tab")
    expect(choice.get_by_role("button", name="Check")).to_be_focused()
    keys.press("Space")
    expect(choice.locator(".vnmi-note[data-said]")).to_have_attribute("data-said", "right")
    assert page.errors == []
