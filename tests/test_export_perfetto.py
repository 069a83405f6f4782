"""Trace events, checked against the rules of their format, and against the run."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.export_runs import Make, every_run, of
from vnmi_lab.export import write
from vnmi_lab.export.perfetto import PROCESS, STEP, nested
from vnmi_lab.timeline import build

Event = dict[str, Any]


def events(make: Make) -> list[Event]:
    whole = json.loads(write(make(), "perfetto").text)
    assert whole["displayTimeUnit"] in {"ms", "ns"}
    found: list[Event] = whole["traceEvents"]
    return found


def by_thread(found: list[Event], phases: str) -> dict[int, list[Event]]:
    threads = defaultdict(list)
    for event in found:
        if event["ph"] in phases:
            threads[event["tid"]].append(event)
    return threads


def slices(found: list[Event]) -> dict[int, list[tuple[float, float, str]]]:
    """Open and close slices as a viewer does; assert that each closes the innermost one, and that none stays open."""
    done: dict[int, list[tuple[float, float, str]]] = defaultdict(list)
    for thread, own in by_thread(found, "BEX").items():
        opened: list[tuple[float, float | None, str]] = []
        for event in own:
            while opened and opened[-1][1] is not None and opened[-1][1] <= event["ts"]:
                opened.pop()
            if event["ph"] == "E":
                start, end, name = opened.pop()
                assert (end, name) == (None, event["name"])
                done[thread].append((start, event["ts"], name))
                continue
            end = event["ts"] + event["dur"] if event["ph"] == "X" else None
            if end is not None:
                assert event["dur"] > 0
                assert all(outer is None or end <= outer for _, outer, _ in opened), "slices overlap"
                done[thread].append((event["ts"], end, event["name"]))
            opened.append((event["ts"], end, event["name"]))
        assert all(end is not None for _, end, _ in opened), "a slice is never closed"
    return done


@every_run
def test_the_events_keep_the_rules_of_the_format(make: Make) -> None:
    found = events(make)
    times = [event["ts"] for event in found if event["ph"] != "M"]
    assert times == sorted(times)
    named = {event["tid"]: event["args"]["name"] for event in found if event["name"] == "thread_name"}
    assert len(set(named.values())) == len(named)
    assert sum(event["name"] == "process_name" for event in found) == 1
    for event in found:
        assert event["ph"] in "BEXiCMsf"
        assert isinstance(event["name"], str)
        assert event["pid"] == PROCESS
        assert event["ph"] in "CM" or event["tid"] in named
        assert event["ph"] != "i" or event["s"] in "gpt"
        if event["ph"] == "C":
            assert all(isinstance(value, int) and value < 1 << 53 for value in event["args"].values())
    done = slices(found)
    arrows: dict[int, list[Event]] = defaultdict(list)
    for event in found:
        if event["ph"] in "sf":
            arrows[event["id"]].append(event)
            assert any(start <= event["ts"] < end for start, end, _ in done[event["tid"]]), "an arrow without a slice"
    for begin, end in arrows.values():
        assert (begin["ph"], end["ph"], end["bp"]) == ("s", "f", "e")
        assert (begin["name"], begin["cat"]) == (end["name"], end["cat"])


@every_run
def test_steps_worlds_counters_and_arrows_are_those_of_the_run(make: Make) -> None:
    trace, found = make(), events(make)
    payload = build(trace)
    threads = {event["args"]["name"]: event["tid"] for event in found if event["name"] == "thread_name"}
    steps = by_thread(found, "X")[threads["steps"]]
    assert [(event["ts"], event["name"]) for event in steps] == [
        (index * STEP, trace[index].text) for index in range(len(trace))
    ]
    worlds = by_thread(found, "X")[threads["world"]]
    assert [(event["ts"], event["dur"]) for event in worlds] == [
        (first * STEP, (end - first) * STEP) for first, end, _ in payload["worlds"]
    ]
    arrows = [event["args"] for event in found if event["ph"] == "s"]
    wanted = [{"why": payload["words"][why], "rule": rule} for *_, why, rule in payload["links"]]
    assert sorted(arrows, key=str) == sorted(wanted, key=str)
    counters: dict[str, list[Event]] = defaultdict(list)
    for event in found:
        if event["ph"] == "C":
            counters[event["name"]].append(event)
    for key, own in counters.items():
        for index in range(len(trace)):
            seen = [event["args"]["value"] for event in own if event["ts"] <= index * STEP]
            assert seen[-1] == (trace[index].state[key] or 0), key


def test_kvm_s_functions_are_nested_as_they_called_each_other() -> None:
    found = events(lambda: of("in-handler", "legacy"))
    threads = {event["args"]["name"]: event["tid"] for event in found if event["name"] == "thread_name"}
    done = slices(found)[threads["KVM functions"]]
    inside = {(inner[2], outer[2]) for inner in done for outer in done if outer[0] <= inner[0] and inner[1] <= outer[1]}
    assert ("svm_inject_nmi", "vcpu_enter_guest") in inside
    assert ("iret_interception", "svm_handle_exit") in inside
    entered = [event for event in found if event["ph"] == "B"]
    assert all(event["args"]["file"] for event in entered)


def test_an_exit_stands_between_its_worlds() -> None:
    found = events(lambda: of("in-handler", "legacy"))
    exits = [event for event in found if event["ph"] == "i" and event["name"] == "#VMEXIT IRET (74h)"]
    assert [event["ts"] for event in exits] == [15.5 * STEP, 25.5 * STEP]


def test_each_nmi_has_a_track_with_its_phases() -> None:
    trace = of("in-handler", "legacy")
    instances = build(trace)["instances"]
    found = events(lambda: trace)
    threads = {event["args"]["name"]: event["tid"] for event in found if event["name"] == "thread_name"}
    assert [instance["name"] for instance in instances] == ["NMI 1", "NMI 2"]
    for instance in instances:
        own = by_thread(found, "X")[threads[instance["name"]]]
        assert [(event["ts"], event["dur"], event["name"]) for event in own] == [
            (first * STEP, (end - first) * STEP, phase) for first, end, phase, _ in instance["spans"]
        ]
        assert {event["args"]["end"] for event in own} == {"done"}


SPANS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 9)).map(lambda one: (one[0], one[0] + one[1], "x")), max_size=12
)


@given(SPANS)
def test_spans_are_dealt_out_so_that_every_track_nests(spans: list[tuple[float, float, str]]) -> None:
    tracks = nested(spans)
    assert sorted(span for track in tracks for span in track) == sorted(spans)
    for track in tracks:
        for a in track:
            for b in track:
                apart = a[1] <= b[0] or b[1] <= a[0]
                assert apart or (a[0] <= b[0] and b[1] <= a[1]) or (b[0] <= a[0] and a[1] <= b[1])


def test_a_page_of_one_process_is_named_after_the_run() -> None:
    first = events(lambda: of("one", "vnmi"))[0]
    assert (first["name"], first["args"]["name"]) == ("process_name", "v1~plain~vnmi~nmi@work")
    assert pytest.approx(STEP) == 1000
