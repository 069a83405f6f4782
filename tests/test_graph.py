"""The graph of what the judge explored: nothing lost in merging, a layout without chance, the counterexample walked."""

from __future__ import annotations

import json
from base64 import b64decode
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vnmi_lab
from vnmi_lab.explore import Node, explore
from vnmi_lab.graph import COARSER, SEEN, Look, graph
from vnmi_lab.hv.profiles import LEGACY, POLICIES, VNMI
from vnmi_lab.hv.vcpu import Vcpu
from vnmi_lab.judge import EXPOSED, PLAIN, judge
from vnmi_lab.kvm import Kvm
from vnmi_lab.library import find
from vnmi_lab.timeline import graphs
from vnmi_lab.timeline.layers import crossings, layered
from vnmi_lab.trace import Trace

EVIL = "<img src=x onerror=alert(1)>\x00\"'&</title>"


@pytest.mark.parametrize("policy", EXPOSED)
def test_the_walk_is_the_counterexample_and_goes_along_the_edges(policy: str) -> None:
    payload = graph(POLICIES[policy])
    verdict = judge(POLICIES[policy])[-1]
    assert verdict.broken is not None
    assert payload["scenario"] == verdict.scenario
    walk = payload["walk"]
    trace = Trace(verdict.replay(), limit=len(verdict.schedule))
    assert [text for _, text, _ in walk[1:]] == [step.text for step in trace]
    assert [sentence for *_, sentence in walk[1:]] == [step.sentence for step in trace]
    edges = {(a, b): on_way for a, b, _, _, on_way in payload["edges"]}
    way = {(a, b) for (a, *_), (b, *_) in pairwise(walk) if a != b}
    assert {ends for ends, on_way in edges.items() if on_way} == way
    assert payload["nodes"][0]["steps"] == 0
    assert walk[0][0] == 0
    last = payload["nodes"][walk[-1][0]]
    assert verdict.broken.sentence in payload["verdict"]
    if verdict.broken.slug != "comes_to_rest":
        assert "a law breaks here" in last["lines"]
        assert last["states"] == 1


@pytest.mark.parametrize("policy", ["legacy", "vnmi"])
def test_every_state_is_in_one_node_and_every_move_in_one_edge(policy: str) -> None:
    payload = graph(POLICIES[policy])
    verdict = explore(PLAIN.search(POLICIES[policy]))
    assert sum(node["states"] for node in payload["nodes"]) == verdict.states
    within = verdict.transitions - sum(count for *_, count, _ in payload["edges"])
    assert 0 < within < verdict.transitions
    assert payload["walk"] == []
    assert payload["scenario"] is None
    assert "holds in all" in payload["verdict"]
    ends = {node for a, b, *_ in payload["edges"] for node in (a, b)}
    assert ends == set(range(len(payload["nodes"])))
    assert all(labels for _, _, labels, *_ in payload["edges"])


def test_what_the_edges_say_is_what_the_machine_does() -> None:
    labels = {
        policy: {label for *_, said, _, _ in graph(POLICIES[policy])["edges"] for label in said}
        for policy in ("legacy", "vnmi")
    }
    assert {"NMI", "VMRUN", "NMI taken", "IRET exit", "#DB exit", "INTR exit"} <= labels["legacy"]
    assert {"NMI", "VMRUN", "NMI taken", "IRET", "INTR exit"} <= labels["vnmi"]
    assert not {"IRET exit", "#DB exit"} & labels["vnmi"]


def test_recording_changes_no_verdict_and_hears_every_transition() -> None:
    heard: list[tuple[Node | None, str]] = []

    def record(before: Node | None, action: str, _after: Node, _kvm: Kvm) -> None:
        heard.append((before, action))

    search = PLAIN.search(VNMI)
    ours, plain = explore(search, record), explore(search)
    assert (ours.states, ours.transitions, ours.schedule) == (plain.states, plain.transitions, plain.schedule)
    assert len(heard) == plain.transitions + 1
    assert [action for before, action in heard if before is None] == [""]


def test_a_graph_too_large_is_merged_further_and_says_by_what() -> None:
    whole, small, tiny = (graph(VNMI, nodes=most) for most in (60, 12, 3))
    assert len(whole["nodes"]) > 12 >= len(small["nodes"])
    assert len(tiny["nodes"]) == 3
    assert "Drawn are 3 of them" in tiny["note"]
    assert SEEN["window"] in whole["note"]
    assert SEEN["window"] not in small["note"]
    for payload in (whole, small):
        assert sum(node["states"] for node in payload["nodes"]) == 2149
        assert f"merged into {len(payload['nodes'])}," in payload["note"]


def test_a_walk_is_drawn_whatever_is_left_out() -> None:
    payload = graph(POLICIES["patch-v4"], nodes=4)
    walked = {node for node, *_ in payload["walk"]}
    assert walked <= set(range(len(payload["nodes"])))
    assert any("a law breaks here" in node["lines"] for node in payload["nodes"])


def test_a_search_that_was_stopped_says_so() -> None:
    payload = graph(LEGACY, most=100)
    assert "there are more" in payload["verdict"]
    assert "The search was stopped; there are more states." in payload["note"]


def test_what_is_left_out_are_fields_that_are_seen() -> None:
    assert {name for names in COARSER for name in names} < set(SEEN)
    assert set(SEEN) == set(Look._fields) - {"broken"}


def test_it_is_small_and_the_same_every_time() -> None:
    once, again = (json.dumps(graph(POLICIES["vnmi-6.4-rc"])) for _ in range(2))
    assert once == again
    assert len(once) < 80_000


# --- layout

graphs_of = st.integers(1, 12).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=30),
    )
)


@given(graphs_of)
def test_each_node_is_in_one_layer_as_far_away_as_the_layer_says(
    given_graph: tuple[int, list[tuple[int, int]]],
) -> None:
    count, edges = given_graph
    layers = layered(count, edges)
    assert sorted(node for layer in layers for node in layer) == list(range(count))
    rank = {node: n for n, layer in enumerate(layers) for node in layer}
    assert rank[0] == 0
    reached = {0}
    for _ in range(count):
        reached |= {b for a, b in edges if a in reached}
    for a, b in edges:
        if a in reached:
            assert rank[b] <= rank[a] + 1
    for node in reached - {0}:
        assert any(rank[a] == rank[node] - 1 for a, b in edges if b == node and a in reached)


def test_reordering_takes_crossings_away() -> None:
    edges = [(0, 1), (0, 2), (0, 3), (1, 6), (2, 5), (3, 4)]
    assert crossings([[0], [1, 2, 3], [4, 5, 6]], edges) == 3
    assert crossings(layered(7, edges), edges) == 0


@pytest.mark.parametrize("policy", ["legacy", "m5", "patch-v4", "vnmi"])
def test_no_two_nodes_overlap_and_all_lie_inside(policy: str) -> None:
    shown = graph(POLICIES[policy])["drawing"]
    width, height = shown["node"]
    for n, (x, y) in enumerate(shown["places"]):
        assert 0 < x < shown["columns"]
        assert height / 2 <= y <= shown["height"] - height / 2
        for other, below in shown["places"][:n]:
            assert other != x or abs(below - y) > height
    assert width < 214


# --- without a browser, and in a notebook


def pictured(payload: dict[str, Any]) -> list[str | None]:
    root = ET.fromstring(graphs.svg(payload))  # noqa: S314 - our own
    return [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_says_what_is_to_be_said() -> None:
    payload = graph(POLICIES["patch-v4"])
    texts = pictured(payload)
    for said in (payload["verdict"], payload["note"], payload["scenario"], "a law breaks here", "VMRUN"):
        assert said in texts


def test_a_page_without_widgets_gets_a_sentence_a_picture_and_tables() -> None:
    shown = vnmi_lab.state_graph("patch-v4")
    bundle = shown._repr_mimebundle_()
    assert bundle is not None
    data = bundle[0]
    assert data["text/plain"].startswith("What the judge explored: patch-v4, guest idle, 3 NMIs. patch-v4 breaks a law")
    picture = data["text/html"].split("base64,")[1].split('"')[0]
    assert b64decode(picture).decode() == data["image/svg+xml"]
    assert b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/html"].count("<table>") == 3
    assert find(shown.payload["scenario"]).policy == "patch-v4"


def test_hostile_texts_are_escaped_everywhere() -> None:
    payload = graph(POLICIES["patch-v4"])
    payload["title"] = payload["verdict"] = payload["scenario"] = EVIL
    payload["walk"] = [[0, EVIL, EVIL]]
    ET.fromstring(graphs.svg(payload))  # noqa: S314 - our own
    assert "<img src=x" not in graphs.bundle(payload)["text/html"]


def iret_interception(vcpu: Vcpu) -> None:
    vcpu.nmi_masked = False
    vcpu.vmcb.intercept("iret", on=False)


def test_ones_own_hook_is_judged_and_its_graph_shown() -> None:
    payload = vnmi_lab.state_graph(iret_interception).payload
    assert payload["verdict"].startswith("legacy but iret_interception=iret_interception breaks a law after ")
    assert payload["walk"]
    assert payload["scenario"] is None


@pytest.mark.parametrize(
    ("policy", "guest", "nmis"), [("legasy", None, None), ("legacy", "idel", None), ("legacy", None, 0)]
)
def test_names_that_are_none_are_refused_in_a_line(policy: str, guest: str | None, nmis: int | None) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        vnmi_lab.state_graph(policy, guest, nmis)


def test_a_long_search_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("vnmi_lab.graph.TOLD", 100)
    vnmi_lab.state_graph("patch-v4")  # 383 states
    said = capsys.readouterr().out
    assert said == "".join(f"Exploring: {count} states so far.\r" for count in (100, 200, 300))
    graph(POLICIES["patch-v4"])
    assert capsys.readouterr().out == ""


def test_one_nmi_is_not_several() -> None:
    assert graph(POLICIES["m5"], nmis=1)["title"] == "What the judge explored: m5, guest idle, 1 NMI"
