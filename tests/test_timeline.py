"""The payload, the still picture and the table: what they say of runs written by hand and of real ones."""

from __future__ import annotations

import itertools
import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kvm_runs import two_at_once
from tests.timeline_runs import Run, hostile, latched, looping, nested
from vnmi_lab.costs import COSTS
from vnmi_lab.guest import Guest
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.kvm import Kvm
from vnmi_lab.library import LIBRARY, find
from vnmi_lab.machine import BareMetal, Host, Stimulus
from vnmi_lab.scenario import BARE
from vnmi_lab.timeline import Payload, TraceLike, build, html, palette, shown, state_at, summary, svg, table
from vnmi_lab.timeline.columns import JSON_SAFE, at, column, number, plain, runs
from vnmi_lab.timeline.fields import FIELDS, WAVES, written
from vnmi_lab.timeline.palette import STYLES, THEMES
from vnmi_lab.timeline.sheet import MOST, kept
from vnmi_lab.trace import Trace

HANDLER = "push rax\ninside: inc qword [rbx+0x10]\npop rax\niretq"


def bare() -> Trace:
    guest = Guest.of("mov rcx, 3\nagain: nop\ndec rcx\njne again\nsti\nhlt", {2: HANDLER}, tail="hlt")
    return Trace(BareMetal(guest, [Stimulus("again"), Stimulus("inside")]), "Two NMIs")


def hosted() -> Trace:
    host = Host(Guest.of("nop\nnop\nvmmcall", {2: HANDLER}))
    host.load([("set", "event_inj", 0x80000200), "run"])
    return Trace(host, "An injected NMI")


def legacy() -> Trace:
    return Trace(two_at_once(LEGACY), "Two NMIs under KVM")


def vnmi() -> Trace:
    return Trace(two_at_once(VNMI), "Two NMIs under KVM with vNMI")


# --- columns ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.none(), st.integers(0, 3), st.just(2**63), st.sampled_from(["a", "b"])), min_size=1))
def test_a_column_gives_back_every_value_it_was_written_from(values: list[int | str | None]) -> None:
    flat = column(values)
    assert [at(flat, step) for step in range(len(values))] == [plain(value) for value in values]
    assert [v for first, last, v in runs(flat, len(values)) for _ in range(first, last)] == [plain(v) for v in values]


@pytest.mark.parametrize("value", [0, JSON_SAFE, JSON_SAFE + 1, 2**64 - 1])
def test_a_number_survives_json_whatever_its_size(value: int) -> None:
    written = json.loads(json.dumps(plain(value)))
    assert number(written) == value
    assert isinstance(written, str) == (value > JSON_SAFE)


# --- the payload ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [bare, hosted, legacy, vnmi, latched, nested, lambda: looping(150), hostile])
def test_the_payload_holds_every_step_of_the_trace_exactly(make: Callable[[], TraceLike]) -> None:
    trace = make()
    payload = json.loads(json.dumps(build(trace)))
    for index in range(len(trace)):
        step = trace[index]
        assert state_at(payload, index).items() >= {key: plain(value) for key, value in step.state.items()}.items()
        assert payload["words"][payload["text"][index]] == step.text
        assert payload["words"][payload["sentence"][index]] == step.sentence
        assert at(payload["columns"]["world"], index) == step.world
        height, base = at(payload["stack"]["height"], index), at(payload["stack"]["base"], index)
        words = [number(at(payload["stack"]["words"][str(base + 8 * n)], index)) for n in range(height)]
        assert words == [value for _, value, _ in step.stack]
    assert [c[1:3] for c in payload["changes"]] == [
        [c.rule, c.field] for i in range(len(trace)) for c in trace[i].changes
    ]


def test_a_latched_nmi_has_its_mark_its_handler_and_its_cause() -> None:
    payload = build(latched())
    assert payload["marks"] == [[3, "nmi", "NMI"], [7, "nmi", "NMI"]]
    assert [span[:4] for span in payload["handlers"]] == [[4, 10, 1, "nmi"], [10, 15, 1, "nmi"]]
    assert [link[:4] for link in payload["links"]] == [
        [3, "outside", 3, "nmi_latch"],
        [7, "outside", 7, "nmi_latch"],
        [9, "nmi_mask", 10, "code"],
    ]
    assert payload["worlds"] == [[0, 19, "bare"]]


def test_injected_nmis_nest_between_vmrun_and_vmexit() -> None:
    payload = build(nested())
    assert [crossing[:2] for crossing in payload["crossings"]] == [[1, "down"], [5, "up"], [7, "down"], [18, "up"]]
    assert payload["crossings"][1][2] == "INTR (60h)"
    assert [band[2] for band in payload["worlds"]] == ["host", "guest", "host", "guest", "host"]
    assert [span[:3] for span in payload["handlers"]] == [[2, 15, 1], [8, 13, 2]]
    assert [link[:4] for link in payload["links"]] == [[0, "event_inj", 2, "code"], [6, "event_inj", 8, "code"]]


def test_the_real_machine_links_the_iret_to_the_nmi_it_lets_in() -> None:
    payload = build(bare())
    causes = [link for link in payload["links"] if link[1] == "nmi_mask"]
    assert len(causes) == 1
    iret, _, taken, _, _, rule = causes[0]
    assert rule == "R-IRET-UNMASK"
    assert payload["words"][payload["text"][iret]] == "iretq"
    assert payload["kinds"][taken] == "deliver"


def test_an_instruction_stands_in_the_row_of_the_handler_it_belongs_to() -> None:
    rows, owners = (build(latched())["columns"][key] for key in ("row", "owner"))
    assert [at(rows, step) for step in (0, 4, 9, 10, 14, 15)] == [0, 1, 1, 1, 1, 0]
    assert [at(owners, step) for step in (0, 4, 14, 15)] == ["main", "nmi", "nmi", "main"]


def test_a_handler_of_another_vector_is_named() -> None:
    guest = Guest.of("nop\nint3\nnop\nhlt", {3: "iretq"}, tail="hlt")
    spans = build(Trace(BareMetal(guest)))["handlers"]
    assert [(span[3], span[4]) for span in spans] == [("other", "handler of vector 3")]


def test_waves_that_never_move_wait_behind_the_toggle() -> None:
    quiet = {wave["key"]: wave["quiet"] for wave in build(nested())["waves"]}
    assert {key for key, value in quiet.items() if not value} == {"nmi_mask", "nmi_latch", "event_inj", "gif"}
    assert {"v_nmi_pending", "v_nmi_blocking", "v_nmi_enable", "IF"} <= {key for key, value in quiet.items() if value}
    assert not any(wave["key"].startswith("v_") for wave in build(latched())["waves"])


def test_lanes_stand_in_groups_by_whose_they_are() -> None:
    owners = [wave["group"] for wave in build(legacy())["waves"]]
    assert list(dict.fromkeys(owners)) == ["kvm", "vmcb", "guest"]
    assert owners == sorted(owners, key=[group for group, _ in build(legacy())["groups"]].index)
    said = texts(svg(build(legacy())))
    places = [said.index(name) for name in ("outside", "KVM", "VMCB", "world", "guest", "NMIs")]
    assert places[0] < said.index("nmi_pending") < said.index("event_inj") < said.index("handler") < places[-1]
    assert [name for _, name in build(bare())["groups"]] == ["outside", "KVM", "VMCB", "world", "processor", "NMIs"]


def test_on_bare_metal_only_four_groups_are_drawn() -> None:
    picture = svg(build(bare()))
    assert [name for name in texts(picture) if name in {"outside", "KVM", "VMCB", "world", "processor", "NMIs"}] == [
        "outside",
        "world",
        "processor",
        "NMIs",
    ]


def test_events_are_the_steps_at_which_more_happens_than_an_instruction() -> None:
    assert build(latched())["events"] == [3, 4, 7, 9, 10, 14]


def test_every_field_of_a_real_state_is_shown() -> None:
    known = {field.key for field in FIELDS}
    assert {key for trace in (bare(), hosted(), vnmi()) for key in trace[0].state} <= known
    assert {wave.key for wave in WAVES} <= known
    assert {wave.style for wave in WAVES} <= STYLES.keys()


def test_only_the_rules_that_changes_name_travel() -> None:
    payload = build(hosted())
    assert set(payload["rules"]) == {change[1] for change in payload["changes"]}
    assert all(sentence and source and grade for sentence, source, grade in payload["rules"].values())


def test_500_steps_weigh_less_than_300_kb() -> None:
    guest = Guest.of("again: push rcx\nmov rax, [rbx]\nadd rax, 3\nmov [rbx], rax\npop rcx\njmp again", {2: HANDLER})
    trace = Trace(BareMetal(guest, [Stimulus(20 * n) for n in range(25)]), limit=500)
    assert len(json.dumps(build(trace), separators=(",", ":"))) < 300_000


def test_a_trace_without_steps_says_so() -> None:
    with pytest.raises(ValueError, match=r"^a timeline needs at least one step; this trace has none$"):
        build(Run("nothing"))


def test_cycles_are_a_model_and_say_so() -> None:
    payload = build(vnmi())
    spent = [at(payload["cycles"], step) for step in range(payload["steps"])]
    each = [after - before for before, after in itertools.pairwise([0, *spent])]
    charged = {"exec": 1, "vmexit": 1500, "kvm": 1000}
    assert each == [charged.get(kind, 0) for kind in payload["kinds"]]
    assert payload["cycles_note"].count("assumed") == len(COSTS)
    assert build(bare())["cycles"] is None


# --- a guest under KVM ------------------------------------------------------------------------------------------------


def by_label(payload: Payload) -> list[tuple[str, str, str, str]]:
    """Give links as the labels of their steps and their lanes."""
    label = [payload["words"][index] for index in payload["text"]]
    return [(label[first], cause, label[last], effect) for first, cause, last, effect, *_ in payload["links"]]


def test_legacy_leads_from_the_iret_exit_by_a_single_step_to_the_injection() -> None:
    assert by_label(build(legacy()))[:10] == [
        ("NMI arrives x2", "outside", "NMI arrives x2", "nmi_queued"),
        ("NMI arrives x2", "outside", "#VMEXIT INTR (60h)", "world"),
        ("VMRUN", "nmi_queued", "VMRUN", "nmi_pending"),
        ("VMRUN", "nmi_queued", "VMRUN", "nmi_injected"),
        ("VMRUN", "event_inj", "NMI taken", "code"),
        ("#VMEXIT IRET (74h)", "world", "KVM: iret_interception", "awaiting_iret_completion"),
        ("VMRUN", "nmi_singlestep", "#VMEXIT EXC_DB (41h)", "world"),
        ("KVM: db_interception", "awaiting_iret_completion", "KVM: db_interception", "nmi_masked"),
        ("KVM: db_interception", "nmi_masked", "VMRUN", "nmi_injected"),
        ("VMRUN", "event_inj", "NMI taken", "code"),
    ]


def test_vnmi_leads_from_v_nmi_to_the_handler() -> None:
    assert by_label(build(vnmi())) == [
        ("NMI arrives x2", "outside", "NMI arrives x2", "nmi_queued"),
        ("NMI arrives x2", "outside", "#VMEXIT INTR (60h)", "world"),
        ("VMRUN", "nmi_queued", "VMRUN", "v_nmi_pending"),
        ("VMRUN", "nmi_queued", "VMRUN", "nmi_injected"),
        ("VMRUN", "event_inj", "NMI taken", "code"),
        ("VMRUN", "v_nmi_pending", "NMI taken", "code"),
        ("iretq", "live_v_nmi_blocking", "NMI taken", "code"),
    ]


def test_nothing_leads_from_an_unmasking_to_an_nmi_that_came_later() -> None:
    guest = Guest.of("nop\none: nop\nnop\ntwo: nop\nhlt", {2: HANDLER}, tail="hlt")
    payload = build(Trace(Kvm(guest, LEGACY, stimuli=[Stimulus("one"), Stimulus("two")])))
    assert "nmi_masked" not in {cause for _, cause, *_ in by_label(payload)}


def test_an_interrupted_delivery_leads_through_exitintinfo_to_the_next_injection() -> None:
    found = by_label(build(Trace(find("idt-absent").machine())))
    assert found[3:] == [
        ("#VMEXIT NPF (400h)", "world", "#VMEXIT NPF (400h)", "exit_int_info"),
        ("#VMEXIT NPF (400h)", "exit_int_info", "KVM: npf_interception", "nmi_injected"),
        ("KVM: npf_interception", "nmi_injected", "VMRUN", "event_inj"),
        ("VMRUN", "event_inj", "NMI taken", "code"),
    ]
    lost = by_label(build(Trace(find("idt-absent-lost").machine())))
    assert lost[-1][-1] == "exit_int_info"


@pytest.mark.parametrize("name", LIBRARY)
def test_every_link_names_a_rule_that_travels_and_lanes_that_exist(name: str) -> None:
    for policy in dict.fromkeys((BARE, LIBRARY[name].scenario.policy, "legacy", "vnmi")):
        payload = build(Trace(LIBRARY[name].scenario.on(policy).machine(), limit=300))
        lanes = {"outside", "world", "code", *(wave["key"] for wave in payload["waves"])}
        for first, cause, last, effect, sentence, rule in payload["links"]:
            assert first <= last
            assert {cause, effect} <= lanes
            assert payload["words"][sentence]
            assert rule in payload["rules"], (policy, effect)


def test_kvms_lanes_are_drawn_and_the_hosts_own_nmi_state_is_not() -> None:
    quiet = {wave["key"]: wave["quiet"] for wave in build(legacy())["waves"]}
    drawn = {key for key, value in quiet.items() if not value}
    wanted = {"nmi_queued", "nmi_pending", "nmi_injected", "nmi_masked", "awaiting_iret_completion", "iret_intercept"}
    assert drawn >= wanted
    assert not drawn & {"nmi_mask", "nmi_latch", "gif"}
    merged = {wave["key"] for wave in build(vnmi())["waves"] if not wave["quiet"]}
    assert merged >= {"v_nmi_pending", "live_v_nmi_blocking"}
    assert not merged & {"nmi_masked", "iret_intercept", "awaiting_iret_completion", "nmi_singlestep"}


def test_the_host_of_a_guest_under_kvm_is_kvm() -> None:
    assert [band[2] for band in build(vnmi())["worlds"]] == ["kvm", "guest"] * 2 + ["kvm"]
    assert "KVM" in texts(svg(build(vnmi())))


def test_the_functions_of_a_step_are_in_the_payload_with_files_and_sentences() -> None:
    trace = legacy()
    calls = json.loads(json.dumps(build(trace)))["calls"]
    paths = dict(calls["at"])
    for index, step in enumerate(trace):
        path = calls["paths"][paths[index]] if index in paths else []
        assert step.calls == tuple((depth, *calls["functions"][which][:2]) for depth, which in path)
    assert all(sentence for _, _, sentence in calls["functions"])


def test_names_of_functions_do_not_run_into_one_another() -> None:
    for trace in (legacy(), vnmi()):
        lane = build(trace)["calls"]["lane"]
        assert lane
        for row in {name[1] for name in lane}:
            ends = [(step, end) for step, at_row, end, _ in lane if at_row == row]
            assert all(one[1] == two[0] for one, two in itertools.pairwise(ends))
            assert ends[-1][1] == len(trace)
    assert build(bare())["calls"] == {"functions": [], "paths": [], "at": [], "lane": []}


def test_a_request_is_named() -> None:
    assert [written("requests", value) for value in (0, 1, 3)] == ["none", "NMI", "NMI EVENT"]


# --- the still picture and the table ----------------------------------------------------------------------------------


def texts(picture: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own


@pytest.mark.parametrize("make", [bare, hosted, legacy, vnmi, latched, nested, lambda: looping(700), hostile])
@pytest.mark.parametrize("cursor", [None, 0, 2, 10**6])
def test_the_picture_is_well_formed_and_says_its_title(make: Callable[[], TraceLike], cursor: int | None) -> None:
    trace = make()
    picture = svg(build(trace), cursor)
    assert trace.title in texts(picture)
    assert picture.count('class="head"') == (cursor is not None)


def test_the_picture_names_lanes_levels_and_crossings_in_words() -> None:
    said = texts(svg(build(nested())))
    assert {"host", "guest", "VMRUN", "INTR (60h)", "event_inj", "80000200h", "NMI handler, run 2"} <= set(said)
    assert {"nmi_mask", "masked", "nmi_latch", "pending"} <= set(texts(svg(build(latched()))))


@pytest.mark.parametrize("apart", [1, 2, 3])
def test_names_of_crossings_never_stand_on_each_other(apart: int) -> None:
    payload = build(legacy())
    last = payload["steps"] - 1
    crossings = [[1, "down", "VMRUN"], [last - apart, "down", "VMRUN"], [last, "up", "INTR (60h)"]]
    picture = svg({**payload, "crossings": crossings})
    found = re.findall(r'<text class="said[^"]*" x="([\d.]+)"[^>]*text-anchor="(\w+)">(VMRUN|INTR[^<]*)<', picture)
    widths = [(float(x), len(said) * 5.5, anchor == "end") for x, anchor, said in found]
    spans = sorted((x - width, x) if ends else (x, x + width) for x, width, ends in widths)
    assert len(spans) >= min(apart, 2)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))


def test_an_iretq_is_named_in_a_narrow_cell() -> None:
    picture = svg(build(Trace(find("two-at-once").machine(), "two")))
    assert len(re.findall(r">iretq?<", picture)) == 2


def test_a_long_run_is_drawn_by_its_events() -> None:
    payload = build(looping(3000))
    steps = kept(payload)
    assert len(steps) == MOST
    assert set(payload["events"][:MOST]) <= set(steps)
    assert f"{MOST} of {payload['steps']:,} steps" in texts(svg(payload))
    assert len(svg(payload)) < 200_000


def test_what_is_still_to_be_predicted_is_not_in_picture_table_or_summary() -> None:
    payload = build(latched(), visible_until=7)
    assert shown(payload) == 8
    assert "iretq" not in svg(payload) + table(payload)
    assert "iretq" in table({**payload, "visible_until": None})
    assert "8 steps, 1 events taken" in summary(payload)
    assert "handler in handler" in svg(build(nested()))
    assert "handler in handler" not in svg(build(nested(), visible_until=7))


def test_hostile_texts_are_escaped_everywhere() -> None:
    payload = build(hostile())
    for page in (svg(payload), table(payload), html(payload)):
        assert "<img src=x" not in page
        assert "<script" not in page
        assert "<svg onload" not in page


def test_the_table_has_a_row_a_step_with_rule_and_old_and_new() -> None:
    page = table(build(latched()))
    assert page.count("<tr>") == len(latched()) + 1
    assert "nmi_mask 1 → 0 (R-IRET-UNMASK)" in page
    assert page.count('scope="col"') == 7


def test_the_picture_carries_both_themes() -> None:
    style = re.search("<style>(.*)</style>", svg(build(latched())))
    assert style is not None
    assert all(palette(theme)["nmi-edge"] in style[1] for theme in THEMES)


def test_the_pictures_in_texts_are_what_the_project_draws_now() -> None:
    root = Path(__file__).parent.parent
    tool = runpy.run_path(str(root / "tools" / "picture.py"))
    for name in tool["PICTURES"]:
        assert (root / name).read_text(encoding="utf-8") == tool["draw"](name), f"{name}: run python tools/picture.py"
