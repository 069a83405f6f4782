"""Policies side by side: alignment by law, divergence by the trace's own, pictures and tables from the same data."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from itertools import combinations
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vnmi_lab
from vnmi_lab.compare import measure
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.library import LIBRARY, find
from vnmi_lab.scenario import BARE
from vnmi_lab.timeline import sidestill
from vnmi_lab.timeline.align import GUEST, HOST, OUTSIDE, Item, align
from vnmi_lab.timeline.side import LONGEST, PASSED, side
from vnmi_lab.trace import Trace, first_divergence, visible

THREE = (BARE, "legacy", "vnmi")
EVIL = "<img src=x onerror=alert(1)>\x00\"'&</title>"


def where(payload: dict[str, Any], run: int) -> list[int]:
    return list(payload["runs"][run]["where"])


def traces(name: str, policies: tuple[str, ...]) -> list[Trace]:
    return [Trace(find(name).on(policy).machine(), limit=LONGEST) for policy in policies]


items = st.builds(Item, st.sampled_from((GUEST, OUTSIDE, HOST)), st.sampled_from("abc"))


@given(st.lists(st.lists(items, max_size=14), min_size=1, max_size=4))
def test_every_step_stands_in_one_column_in_order_beside_its_equals_only(runs: list[list[Item]]) -> None:
    columns = align(runs)
    for number, run in enumerate(runs):
        steps = [column.steps[number] for column in columns if number in column.steps]
        assert steps == list(range(len(run)))
    for column in columns:
        assert column.steps
        assert {runs[number][step] for number, step in column.steps.items()} == {column.item}


@given(st.lists(st.lists(items, max_size=12), min_size=2, max_size=4))
def test_guests_that_begin_the_same_share_their_columns(runs: list[list[Item]]) -> None:
    place = {(number, step): at for at, column in enumerate(align(runs)) for number, step in column.steps.items()}
    guests = [[step for step, item in enumerate(run) if item.rank == GUEST] for run in runs]
    for one, other in combinations(range(len(runs)), 2):
        for a, b in zip(guests[one], guests[other], strict=False):
            if runs[one][a] != runs[other][b]:
                break
            assert place[one, a] == place[other, b]


@pytest.mark.parametrize("name", LIBRARY)
def test_a_scenario_loses_no_step_of_any_policy(name: str) -> None:
    payload = side(find(name), THREE)
    for run, trace in enumerate(traces(name, THREE)):
        own = payload["runs"][run]
        assert own["where"] == sorted(set(own["where"]))
        assert [own["words"][index] for index in own["text"]] == [step.text for step in trace]
        assert own["steps"] == len(trace) == len(own["where"])
        assert max(own["where"]) < payload["columns"]


def emulated(trace: Trace, end: int) -> bool:
    """Say whether KVM carried out an instruction of the guest in the steps before one."""
    return any(not PASSED.isdisjoint(name for _, name, _ in trace[i].calls) for i in range(end))


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("policy", ["blind", "patch-v4", "vnmi-6.4-rc", "m5", "vnmi"])
def test_the_first_divergence_is_the_traces_own(name: str, policy: str) -> None:
    pair = ("legacy", policy)
    payload = side(find(name), pair)
    ours, other = traces(name, pair)
    found = first_divergence(ours, other)
    if found is None or emulated(ours, found[0].index) or emulated(other, found[1].index):
        return  # an instruction that KVM carries out is a step of the guest here, and none to the trace
    ((column, first, second, _, _, step, theirs),) = payload["divergences"]
    assert (first, second) == (0, 1)
    assert (step, theirs) == (found[0].index, found[1].index)
    assert column == min(where(payload, 0)[step], where(payload, 1)[theirs])


def test_an_instruction_that_kvm_carries_out_is_a_step_of_the_guest_like_any_other() -> None:
    payload = side(find("one-halted"), THREE)
    assert payload["divergences"] == []
    hlts = []
    for run, trace in enumerate(traces("one-halted", THREE)):
        found = trace.find(lambda s: s.text in ("hlt", "KVM: kvm_emulate_halt"))
        assert found is not None
        hlts.append(where(payload, run)[found])
    assert len(set(hlts)) == 1


def test_two_at_once_is_one_handler_after_another_and_only_legacy_exits_for_it() -> None:
    payload = side(find("two-at-once"), THREE)
    assert payload["verdict"] == [
        "The guest sees the same 15 steps under bare, legacy and vnmi.",
        "legacy: 5 exits (1 kick, 2 IRET, 1 #DB, 1 HLT).",
        "vnmi: 2 exits (1 kick, 1 HLT).",
    ]
    shared = [set(where(payload, run)) for run in range(3)]
    alone = sorted(shared[1] - shared[2])
    texts = dict(zip(where(payload, 1), payload["runs"][1]["text"], strict=True))
    words = payload["runs"][1]["words"]
    window = ["#VMEXIT IRET (74h)", "KVM: iret_interception", "VMRUN"]
    step = ["#VMEXIT EXC_DB (41h)", "KVM: db_interception", "VMRUN"]
    assert [words[texts[column]] for column in alone] == window + step + window
    visible_steps = [
        {where(payload, run)[i] for i in range(len(trace)) if visible(trace[i]) is not None and trace[i].text != "hlt"}
        for run, trace in enumerate(traces("two-at-once", THREE))
    ]
    assert visible_steps[0] == visible_steps[1] == visible_steps[2]


def test_what_one_policy_loses_is_a_gap_and_the_guests_come_together_again() -> None:
    payload = side(find("wrong-bit-loses"), ("vnmi", "vnmi-6.4-rc"))
    ((column, *_, shows, showed, _step, _other),) = payload["divergences"]
    assert (shows, showed) == ("NMI taken at 0x300002", "nop at 0x300002")
    assert column in where(payload, 0)
    assert column not in where(payload, 1)
    assert where(payload, 0)[-1] == where(payload, 1)[-1] == payload["columns"] - 1


def test_a_guest_that_goes_on_alone_diverges_where_the_other_ends_unless_it_was_cut() -> None:
    ((*_, shows, showed, step, _),) = side(find("self10"), ("legacy", "patch-v4"))["divergences"]
    assert (shows, step) == ("nothing more", None)
    assert showed.startswith("jmp")


def test_the_counts_are_those_of_compare() -> None:
    scenario = find("in-handler")
    counts = side(scenario, THREE)["counts"]
    for name, *values in counts["rows"]:
        row = measure(scenario.on(name))
        said = dict(zip(counts["head"], values, strict=True))
        assert said["arrived"] == row.arrived
        assert said["all exits"] == row.exits
        assert said["IRET"] == row.iret
    assert "STGI" not in counts["head"]
    assert "STGI" in side(find("gif"), ("legacy", "vnmi"))["counts"]["head"]


def test_a_policy_of_ones_own_stands_beside_the_shipped_ones() -> None:
    mine = LEGACY.but("mine", iret_interception=lambda _vcpu: None)
    payload = side(find("two-at-once"), (VNMI, mine))
    assert [run["name"] for run in payload["runs"]] == ["vnmi", "mine"]
    assert payload["runs"][1]["cut"]
    assert payload["runs"][1]["steps"] == LONGEST


@pytest.mark.parametrize("policies", [("legacy",), ("legacy", "legacy"), (BARE, "m1", "m2", "m3", "m4"), ()])
def test_too_few_too_many_and_twice_the_same_are_refused_in_a_line(policies: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"^2 to 4 different policies stand side by side, not [^\n]*$"):
        side(find("one"), policies)


def test_it_is_small_and_the_same_every_time() -> None:
    once, again = (json.dumps(side(find("two-at-once"), THREE)) for _ in range(2))
    assert once == again
    assert len(once) < 40_000


# --- without a browser


def test_the_picture_is_well_formed_and_says_what_is_to_be_said() -> None:
    payload = side(find("two-at-once"), THREE)
    root = ET.fromstring(sidestill.svg(payload))  # noqa: S314 - our own
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    for said in (
        "legacy",
        "vnmi",
        "IRET exit",
        "#DB exit",
        "NMI 2 in nmi_pending",
        "NMI 2 in V_NMI",
        *payload["verdict"],
    ):
        assert said in texts
    assert texts.count("IRET exit") == 2


def test_where_they_part_the_picture_and_the_table_say_so() -> None:
    payload = side(find("wrong-bit-loses"), ("vnmi", "vnmi-6.4-rc"))
    assert "differs from here on" in sidestill.svg(payload)
    assert "the guest of vnmi-6.4-rc first sees something else" in sidestill.tables(payload)


def test_a_page_without_widgets_gets_a_sentence_a_picture_and_tables() -> None:
    shown = vnmi_lab.side_by_side("two-at-once", ("legacy", "vnmi"))
    bundle = shown._repr_mimebundle_()
    assert bundle is not None
    data = bundle[0]
    assert data["text/plain"].startswith("Two NMIs at once")
    assert "v1~plain~vnmi~nmix2@work" in data["text/plain"]
    picture = data["text/html"].split("base64,")[1].split('"')[0]
    assert b64decode(picture).decode() == data["image/svg+xml"]
    assert b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/html"].count("<table>") == 2
    rows = re.findall(r"<tr><th scope=\"row\">\d+</th>", data["text/html"])
    assert len(rows) == shown.payload["columns"]


def test_hostile_texts_are_escaped_everywhere() -> None:
    payload = side(find("one"), ("legacy", "vnmi"), EVIL)
    payload["runs"][0]["words"] = [EVIL] * len(payload["runs"][0]["words"])
    payload["verdict"] = [EVIL]
    ET.fromstring(sidestill.svg(payload))  # noqa: S314 - our own
    assert "<img src=x" not in sidestill.bundle(payload)["text/html"]


def test_a_scenario_by_its_text_and_one_that_is_none() -> None:
    assert vnmi_lab.side_by_side("v1~plain~vnmi~nmi@work").payload["scenario"] == "v1~plain~vnmi~nmi@work"
    with pytest.raises(ValueError, match=r"did you mean 'two-at-once'"):
        vnmi_lab.side_by_side("two-at-onc")
