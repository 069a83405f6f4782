"""The timeline widget as Python sees it: its traits, and what it shows where no widget runs."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
import traitlets

import vnmi_lab
from tests.timeline_runs import hostile, latched
from vnmi_lab.guest import Guest
from vnmi_lab.library import find
from vnmi_lab.machine import BareMetal, Host, Stimulus
from vnmi_lab.timeline import Payload, TraceLike, build
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


def test_a_payload_keeps_its_own_limit() -> None:
    assert Timeline(build(latched(), visible_until=3)).visible_until == 3


def test_only_the_cursor_and_the_limit_can_be_set() -> None:
    timeline = Timeline(latched())
    with pytest.raises(traitlets.TraitError, match="read-only"):
        timeline.payload = {}
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
