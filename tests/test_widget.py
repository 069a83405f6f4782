"""The timeline widget as Python sees it: its traits, and what it shows where no widget runs."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
import traitlets

import vnmi_lab
from tests.timeline_runs import hostile, latched, nested
from vnmi_lab.export import FORMATS, write
from vnmi_lab.guest import Guest
from vnmi_lab.guests import Source
from vnmi_lab.library import find
from vnmi_lab.machine import BareMetal, Host, Stimulus
from vnmi_lab.scenario import BARE, Scenario
from vnmi_lab.timeline import FIRST, LONG, MOST_STEPS, Payload, TraceLike, build
from vnmi_lab.trace import Trace
from vnmi_lab.widgets import Timeline, show

WIDGET = "application/vnd.jupyter.widget-view+json"


def bundle(timeline: Timeline) -> dict[str, Any]:
    shown = timeline._repr_mimebundle_()
    assert shown is not None
    return shown[0]


def machine() -> BareMetal:
    return BareMetal(Guest.of("nop\nnop\nhlt", {2: "iretq"}, tail="hlt"), [Stimulus(1)])


@pytest.mark.parametrize("what", [latched, lambda: build(latched()), machine, lambda: Host(Guest.of("vmmcall"))])
def test_show_takes_a_trace_a_payload_and_a_machine(what: Callable[[], TraceLike | BareMetal | Host | Payload]) -> None:
    value = what()
    if isinstance(value, Host):
        value.do("run")
    shown = vnmi_lab.show(value)
    assert isinstance(shown, Timeline)
    assert shown.payload["steps"] > 0


def test_show_links_a_timeline_and_a_bench() -> None:
    assert vnmi_lab.show(latched(), link="both").link == "both"
    assert vnmi_lab.show("one", controls=False, link="both").link == "both"
    bench = vnmi_lab.show("one", link="both")
    bench.policy.value = "legacy"
    assert bench.timeline.link == "both"  # and another run changes nothing about it
    assert vnmi_lab.show("one").timeline.link == ""


def test_the_broken_rules_can_be_left_out() -> None:
    scenario = find("invalid")
    for shown in (show(scenario, controls=False, lint=False), show(scenario, lint=False).timeline):
        assert shown.payload["lint"] == []
        assert "broken rules" not in bundle(shown)["image/svg+xml"]
        assert "broken rules" not in shown.answer({"save": "svg", "id": 1})["text"]
        assert "error" not in shown.answer({"save": "ftrace", "id": 2})
    assert "broken rules" in bundle(show(scenario, controls=False))["image/svg+xml"]


def test_show_runs_a_copy_of_a_machine() -> None:
    bare = machine()
    before = bare.snapshot()
    assert vnmi_lab.show(bare, title="a copy").payload["title"] == "a copy"
    assert bare.snapshot() == before


def test_a_page_without_widgets_gets_a_sentence_a_picture_and_a_table() -> None:
    data = bundle(Timeline(latched(), cursor=9))
    assert WIDGET in data
    assert data["text/plain"] == (
        "Timeline: A second NMI inside the handler waits for its IRET "
        "(19 steps, 2 events taken, 2 runs of the NMI handler)"
    )
    assert data["image/svg+xml"].startswith("<svg ")
    picture = data["text/html"].split("base64,")[1].split('"')[0]
    assert b64decode(picture).decode() == data["image/svg+xml"]
    assert "<table>" in data["text/html"]
    assert "<script" not in bundle(Timeline(hostile()))["text/html"]


def test_what_is_to_be_predicted_stays_out_of_the_fallback_until_it_is_lifted() -> None:
    timeline = Timeline(latched(), visible_until=7)
    assert "iretq" not in bundle(timeline)["text/html"]
    timeline.visible_until = None
    assert "iretq" in bundle(timeline)["text/html"]


def busy(steps: int) -> Trace:
    return Trace(Scenario(Source("again: inc rax\njmp again"), BARE).machine(), "busy", steps)


def test_of_a_long_run_a_notebook_gets_the_beginning_first_and_then_the_whole() -> None:
    sent: list[dict[str, Any]] = []
    run = busy(400)

    async def cell() -> Timeline:
        """What runs while a notebook's loop does; the rest is read once it is done."""
        arrived = asyncio.Event()
        timeline, asked = Timeline(run), Timeline(busy(400))
        sent.append(json.loads(timeline.sent))
        timeline.observe(lambda change: sent.append(json.loads(change["new"])), "sent")
        timeline.observe(lambda _change: arrived.set(), "sent")
        assert asked.payload == build(busy(400))  # who asks for it gets all of it
        assert "400 steps, of them the first 128 steps" in bundle(timeline)["text/plain"]
        await asyncio.wait_for(arrived.wait(), 60)
        return timeline

    timeline = asyncio.run(cell())
    assert [(payload["steps"], payload.get("whole")) for payload in sent] == [(FIRST, 400), (400, None)]
    assert timeline.payload == build(run)
    assert timeline.trace is run


def test_a_run_that_is_not_long_or_begins_late_is_sent_at_once() -> None:
    async def cell() -> list[Timeline]:
        return [Timeline(busy(LONG)), Timeline(busy(400), cursor=300)]

    assert [json.loads(made.sent)["steps"] for made in asyncio.run(cell())] == [LONG, 400]


def test_a_payload_keeps_its_own_limit() -> None:
    assert Timeline(build(latched(), visible_until=3)).visible_until == 3


def test_only_the_cursor_and_the_limit_can_be_set() -> None:
    timeline = Timeline(latched())
    with pytest.raises(AttributeError, match="payload"):
        timeline.payload = {}  # type: ignore[misc]  # that is what is asked
    with pytest.raises(traitlets.TraitError, match="read-only"):
        timeline.sent = b"{}"
    timeline.cursor = 4
    with pytest.raises(traitlets.TraitError):
        timeline.cursor = -1


@pytest.mark.parametrize("text", ["in-handler", "v1~plain~legacy~nmi@work~nmi@body~no.vnmi_cpuid"])
def test_a_scenario_is_shown_by_name_or_text(text: str) -> None:
    shown = show(text)
    assert shown.timeline.payload["steps"] > 20
    alone = show(find(text), controls=False)
    assert alone.payload["steps"] == shown.timeline.payload["steps"]


def test_text_that_is_no_scenario_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"the library has no scenario 'in-handle'; did you mean 'in-handler'\?"):
        show("in-handle")


@pytest.mark.parametrize("value", [None, 5, b"one", [], object(), Trace, Scenario])
def test_what_cannot_be_shown_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(TypeError, match=r"show takes a scenario, .* not (a value of|the class) \w+$"):
        show(value)  # type: ignore[call-overload]


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"version": 1}])
def test_a_mapping_that_is_no_payload_is_refused_in_one_line(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"this is no payload that timeline\.build made: its version is \w+$"):
        show(value)


def test_a_title_is_text() -> None:
    with pytest.raises(TypeError, match="a title is text, not a value of int"):
        show("one", title=5)  # type: ignore[call-overload]


def test_a_run_longer_than_a_timeline_is_refused_in_one_line() -> None:
    busy = Trace(Scenario(Source("again: jmp again"), BARE).machine(), "busy", MOST_STEPS + 1)
    with pytest.raises(ValueError, match=r"a timeline shows at most 20,000 steps, not 20,001: give Trace a smaller"):
        show(busy)


@pytest.mark.parametrize("policies", ["vnmi", ["bare", 5], ["bare", None]])
def test_policies_that_are_none_are_refused_in_one_line(policies: list[str]) -> None:
    with pytest.raises(
        TypeError, match=r"policies are a list, not a value of str|a policy is a name or a record of NmiOps, not"
    ):
        vnmi_lab.side_by_side("one", policies)


def test_a_comparison_and_a_graph_refuse_other_values_in_one_line() -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match=r"side_by_side takes a scenario, .* not a value of int"):
        vnmi_lab.side_by_side(wrong)
    with pytest.raises(TypeError, match=r"state_graph takes a policy's name, .* not a value of int"):
        vnmi_lab.state_graph(wrong)
    with pytest.raises(TypeError, match="the number of NMIs is a whole number, not a value of float"):
        vnmi_lab.state_graph("vnmi", None, 1.5)
    with pytest.raises(ValueError, match="the project has no guest '5'"):
        vnmi_lab.state_graph("vnmi", wrong)


# --- saving -----------------------------------------------------------------------------------------------------------


def sent(timeline: Timeline, monkeypatch: pytest.MonkeyPatch, content: object) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    monkeypatch.setattr(timeline, "send", answers.append)
    timeline._handle_custom_msg(content, [])
    return answers


@pytest.mark.parametrize("key", FORMATS)
def test_the_page_gets_the_file_it_asks_for(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = latched()
    made = write(trace, key)
    answers = sent(Timeline(trace), monkeypatch, {"save": key, "id": "7"})
    assert answers == [{"saved": "7", "name": made.name, "mime": made.mime, "text": made.text}]


def test_the_menu_offers_what_can_be_written() -> None:
    whole, payload = Timeline(latched()), Timeline(build(latched()))
    assert [row[0] for row in whole.formats] == [*FORMATS]
    assert [row[0] for row in payload.formats] == [key for key, made in FORMATS.items() if not made.needs_trace]
    assert {row[2] for row in whole.formats} == {write(latched(), key).name for key in FORMATS}


def test_what_is_hidden_cannot_be_saved_until_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = Timeline(latched(), visible_until=3)
    assert "hidden until you answer" in sent(timeline, monkeypatch, {"save": "vcd", "id": 1})[0]["error"]
    timeline.visible_until = None
    assert "text" in sent(timeline, monkeypatch, {"save": "vcd", "id": 1})[0]


def test_a_request_that_cannot_be_met_is_answered_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "did you mean 'vcd'?" in sent(Timeline(latched()), monkeypatch, {"save": "vdc", "id": 1})[0]["error"]
    assert "needs the trace" in sent(Timeline(build(latched())), monkeypatch, {"save": "vcd", "id": 1})[0]["error"]
    assert sent(Timeline(latched()), monkeypatch, "nonsense") == []


def test_another_run_is_saved_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    timeline, other = Timeline(latched()), nested()
    timeline.put(build(other), other)
    answer = sent(timeline, monkeypatch, {"save": "text", "id": 1})[0]
    assert (answer["text"], answer["name"]) == (write(other, "text").text, write(other, "text").name)
