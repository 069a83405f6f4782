"""The scenario panel without a browser: each control, what is wrong and where that is said, and plain values."""

from __future__ import annotations

from html import escape
from typing import Any

import pytest

import vnmi_lab
from vnmi_lab.compare import measure
from vnmi_lab.guests import GUESTS, Source
from vnmi_lab.hv.profiles import ABOUT, POLICIES
from vnmi_lab.library import LIBRARY, find
from vnmi_lab.machine import Stimulus
from vnmi_lab.scenario import BARE, OPTIONS, Scenario
from vnmi_lab.trace import Trace
from vnmi_lab.widgets import Bench, show
from vnmi_lab.widgets.bench import OWN


def bundle(bench: Bench) -> dict[str, Any]:
    made = bench._repr_mimebundle_()
    assert made is not None
    return dict(made[0])


def place(bench: Bench, step: int) -> None:
    """Do what a click on the timeline does."""
    bench.place.click()
    assert bench.timeline.placing == "NMI arrives"
    bench.timeline.placed = step


def test_show_without_anything_is_a_bench_with_plain_values() -> None:
    bench = vnmi_lab.show()
    assert isinstance(bench, Bench)
    assert bench.scenario == find("one")
    assert bench.text == "v1~plain~vnmi~nmi@work"
    assert bench.counts == measure(bench.scenario)
    assert len(bench.trace) == bench.timeline.payload["steps"]
    assert bench.timeline.payload["title"] == "plain under vnmi: NMI at work"


@pytest.mark.parametrize("name", LIBRARY)
def test_every_scenario_of_the_library_comes_back_from_its_controls(name: str) -> None:
    bench = show(name)
    assert bench.scenario == LIBRARY[name].scenario
    bench.editor.apply()
    bench.run.click()
    assert bench.text == LIBRARY[name].text
    assert bench.note.value == ""
    for word, box in bench.options.boxes.items():
        assert box.value == bench.scenario.option(word)


def test_a_choice_runs_at_once() -> None:
    bench = show("in-handler")
    assert bench.counts.iret == 0
    bench.policy.value = "legacy"
    assert bench.text == "v1~plain~legacy~nmi@work~nmi@body"
    assert bench.counts == measure(bench.scenario)
    assert bench.counts.iret == 2
    assert "IRET 2, #DB 1" in bench.result.value
    bench.policy.value = BARE
    assert bench.timeline.payload["title"] == "plain on bare metal: NMI at work, NMI at body"
    assert bench.address.text == bench.text


def test_every_option_and_every_absent_page_can_be_switched() -> None:
    for word, option in OPTIONS.items():
        bench = show("one")
        bench.options.boxes[word].value = not option.default
        assert bench.text.endswith(f"~no.{word}" if option.default else f"~{word}"), bench.options.note.value
    bench = show("one")
    bench.options.absent["idt"].value = True
    assert bench.text == LIBRARY["idt-absent"].text
    bench.options.absent["idt"].value = False
    assert bench.text == LIBRARY["one"].text


def test_a_step_that_is_pointed_at_becomes_an_arrival_in_the_scenarios_own_terms() -> None:
    bench = show(Scenario())
    labels = bench.trace.find(lambda step: step.text == "sti")
    assert labels is not None
    place(bench, labels + 2)  # the first time at the label behind sti and nop
    assert bench.text == "v1~plain~vnmi~nmi@work"
    assert bench.trace[labels + 2].text == "NMI arrives"
    assert bench.timeline.cursor == labels + 2
    assert (bench.timeline.placing, bench.timeline.placed) == ("", None)
    again = bench.trace.find(lambda step: step.kind == "vmrun", labels + 3)
    assert again is not None
    place(bench, again)  # RIP has been there: a number of steps
    assert bench.text == f"v1~plain~vnmi~nmi@work~nmi@{again - 1}"
    assert bench.trace[again].text == "NMI arrives"


@pytest.mark.parametrize("policy", [BARE, "legacy", "vnmi"])
def test_an_arrival_comes_at_the_very_step_that_was_pointed_at(policy: str) -> None:
    before = show(Scenario("plain", policy, (Stimulus("work"), Stimulus("body"))))
    for step in range(len(before.trace)):
        bench = show(before.scenario)
        place(bench, step)
        arrived = bench.trace[step]
        if arrived.text != "NMI arrives":  # on bare metal the first of several at once may be taken before it
            assert policy == BARE
            continue
        assert bench.counts.arrived == 3, step


def test_placing_can_be_called_off_and_a_stray_place_does_nothing() -> None:
    bench = show("one")
    bench.place.click()
    bench.place.click()
    bench.timeline.placed = 4
    assert bench.text == "v1~plain~vnmi~nmi@work"
    bench.form.times.value = 3
    bench.form.place.click()
    assert bench.timeline.placing == "3 x NMI arrives"
    bench.timeline.placed = 0
    assert bench.text == "v1~plain~vnmi~nmi@work~nmix3@start"


def test_arrivals_are_added_by_a_form_and_removed_one_by_one() -> None:
    bench = show("one")
    bench.form.what.value, bench.form.vector.value, bench.form.at.value = "intr", 0x41, "later"
    bench.form.add.click()
    assert bench.text == "v1~plain~vnmi~nmi@work~irq.65@later"
    assert [chip.description for chip in bench.arrivals.children] == ["NMI at work ✕", "interrupt 41h at later ✕"]
    bench.arrivals.children[0].click()
    assert bench.text == "v1~plain~vnmi~irq.65@later"
    bench.arrivals.children[0].click()
    assert "Nothing arrives" in bench.arrivals.children[0].value
    for typed, said in [("latr", "did you mean &#x27;later&#x27;?"), ("", "say at which label"), ("-1", "no label")]:
        bench.form.at.value = typed
        bench.form.add.click()
        assert said in bench.form.note.value
        assert bench.form.at.value == typed
        assert bench.scenario.stimuli == ()


# --- the guest's code


def test_an_error_in_the_code_is_said_in_place_and_the_old_run_stays() -> None:
    bench = show("one")
    before, payload = bench.text, bench.timeline.payload
    broken = bench.editor.text.value.replace("sti", "stj")
    bench.editor.text.value = broken
    assert (
        "line 1, column 10: unknown instruction &#x27;stj&#x27;: did you mean &#x27;sti&#x27;?"
        in bench.editor.note.value
    )
    assert "   1 | start:   stj" in bench.editor.note.value
    bench.run.click()
    bench.policy.value = "legacy"
    assert bench.editor.text.value == broken, "nothing that was typed is lost"
    bench.policy.value = "vnmi"
    assert (bench.text, bench.timeline.payload) == (before, payload)
    bench.editor.text.value = broken.replace("stj", "sti\n         nop")
    assert bench.editor.note.value == ""
    assert bench.guest.value == OWN
    assert isinstance(bench.scenario.guest, Source)
    assert len(bench.trace) > payload["steps"]
    assert Scenario.parse(bench.text) == bench.scenario


def test_own_code_waits_while_a_guest_of_the_library_is_looked_at() -> None:
    bench = show("one")
    mine = bench.editor.text.value.replace("nop", "nop ; mine", 1)
    bench.editor.text.value = mine + "\n; and more"
    bench.editor.text.value = mine.replace("work:", "nop\nwork:")
    own = bench.text
    bench.guest.value = "gif"
    assert bench.text == "v1~gif~vnmi"
    assert "Left out, because this guest has no such label: NMI at work." in bench.note.value
    assert bench.editor.text.value != mine
    bench.guest.value = OWN
    assert bench.editor.text.value == mine.replace("work:", "nop\nwork:")
    assert Scenario.parse(own).guest == bench.scenario.guest


def test_code_that_is_the_librarys_keeps_its_name() -> None:
    bench = show("one")
    bench.editor.text.value = bench.editor.text.value.replace("start:   sti", "start: sti   ; as it was")
    assert bench.text == "v1~plain~vnmi~nmi@work"
    assert bench.guest.value == "plain"


def test_code_without_the_label_of_an_arrival_is_refused() -> None:
    bench = show("one")
    bench.editor.text.value = "a: nop"
    assert "the guest has no label &#x27;work&#x27;" in bench.editor.note.value
    assert bench.text == "v1~plain~vnmi~nmi@work"
    assert bench.editor.text.value == "a: nop"


# --- another scenario


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v1~plain~vnmi~nmi@wrk", "character 15, &#x27;nmi@wrk&#x27;: the guest has no label &#x27;wrk&#x27;"),
        ("v1~plian~vnmi", "character 4, &#x27;plian&#x27;: the library has no guest"),
        ("<script>alert(1)</script>", "character 1, &#x27;&lt;script&gt;"),
        ("v1~" * 40_000, "a scenario has at most 50,000 characters, not 120,000"),
    ],
)
def test_what_is_pasted_is_checked_and_stays(text: str, said: str) -> None:
    bench = show("one")
    bench.sources.paste.value = text
    assert said in bench.sources.note.value
    assert "<script" not in bench.sources.note.value
    assert bench.sources.paste.value == text
    assert bench.text == "v1~plain~vnmi~nmi@work"
    bench.sources.paste.value = "  v1~gif~legacy~nmi@closed\n"
    assert bench.sources.note.value == ""
    assert (bench.policy.value, bench.guest.value) == ("legacy", "gif")


def test_an_example_is_taken_as_it_is() -> None:
    bench = show("one")
    bench.sources.examples.value = "sev-es"
    assert bench.scenario == LIBRARY["sev-es"].scenario
    assert bench.options.boxes["sev_es_guest"].value


# --- runs that go wrong


def test_a_run_without_an_end_says_that_its_budget_is_spent() -> None:
    bench = show(Scenario(Source("again: jmp again")))
    assert "It has not come to rest: stopped at the budget of 500 steps." in bench.result.value
    bench.budget.value = 40
    assert "stopped at the budget of 40 steps" in bench.result.value
    assert len(bench.trace) == 40
    bench.guest.value = "plain"
    assert "budget" not in bench.result.value


def test_an_error_in_a_callback_is_seen_and_the_run_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = show("one")

    def fail(*_args: object, **_more: object) -> None:
        raise RuntimeError("<broken>")

    monkeypatch.setattr(Trace, "__init__", fail)
    bench.policy.value = "legacy"
    assert "RuntimeError: &lt;broken&gt;" in bench.note.value
    assert bench.text == "v1~plain~vnmi~nmi@work"
    place(bench, 3)
    assert "RuntimeError" in bench.note.value
    assert bench.timeline.placing == ""
    bench.options.boxes["vgif"].value = False
    assert "RuntimeError" in bench.options.note.value
    monkeypatch.undo()
    bench.run.click()
    assert bench.note.value == ""


def test_the_cursor_stays_in_a_shorter_run() -> None:
    bench = show("storm", cursor=25)
    bench.sources.examples.value = "one"
    assert bench.timeline.cursor == len(bench.trace) - 1


# --- what is said, and the page without widgets


def test_every_policy_and_guest_is_said_in_a_line() -> None:
    bench = show("one")
    for said, name in bench.guest.options[:-1]:
        assert said == f"{name}: {GUESTS[name].sentence}"
    assert {name for _, name in bench.policy.options} == {BARE, *POLICIES}
    for said, name in bench.policy.options:
        assert said.startswith(f"{name}: ")
        assert said.endswith(".")
    for name, ops in POLICIES.items():  # a sentence first; the commits are for who asks
        bench.policy.value = name
        assert f": {escape(ABOUT[name])} " in bench.about.value
        assert f"title='{escape(ops.follows)}'" in bench.about.value


def test_few_knobs_are_seen_at_first() -> None:
    bench = show("one")
    assert len(bench.knobs.children) == 4
    assert bench.drawer.layout.display == "none"
    bench.more.click()
    assert bench.drawer.layout.display is None
    bench.more.click()
    assert bench.drawer.layout.display == "none"


def test_a_page_without_widgets_gets_the_scenario_its_counts_and_the_picture() -> None:
    shown = bundle(show("in-handler"))
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert shown["image/svg+xml"].startswith("<svg ")
    assert "<code>v1~plain~vnmi~nmi@work~nmi@body</code>" in shown["text/html"]
    assert "2 arrived, 2 delivered" in shown["text/html"]
    assert "<table>" in shown["text/html"]
    assert shown["text/plain"].endswith("Scenario: v1~plain~vnmi~nmi@work~nmi@body")
