"""Where a waiting NMI is: the table, the picture drawn from it, and the machine under every policy."""

from __future__ import annotations

import pytest

from vnmi_lab.checks import lab04, lab04_picture
from vnmi_lab.checks.lab04_way import MASKS, PLACES, POLICIES, RULES, run, way
from vnmi_lab.library import find
from vnmi_lab.timeline.instances import ARRIVED, PENDING, instances
from vnmi_lab.trace import Trace

NAMES = [place.name for place in PLACES]


@pytest.mark.parametrize("policy", ["legacy", "vnmi"])
@pytest.mark.parametrize("name", ["one", "in-handler", "two-at-once", "storm-spread", "three-before-entry", "gif-two"])
def test_a_waiting_nmi_is_in_one_of_the_four_places(name: str, policy: str) -> None:
    trace = Trace(find(name).on(policy).machine())
    spans = [span for one in instances(list(trace)) for span in one.spans if span.phase in (ARRIVED, PENDING)]
    waits = [span.place for span in spans]
    assert waits
    assert set(waits) <= {*NAMES, "nmi_injected"}, "KVM's note of what is in EVENTINJ"


def test_every_place_is_one_that_the_machine_uses_and_has_its_rule() -> None:
    trace = run(POLICIES[1][1], "")
    assert {*RULES.values(), *(mask.rule for mask in MASKS)} <= set(trace.rules)
    seen = {span.place for _name, ops in POLICIES for span in way(run(ops, ""))[:-1]}
    assert seen == set(NAMES)


def test_the_picture_names_them_all() -> None:
    picture = lab04_picture.svg()
    assert all(f">{place.name}<" in picture for place in (*PLACES, *MASKS))


@pytest.mark.parametrize(
    "answer", [[["nmi_queued", ["x"]], []], [[1], [2]], [None, []], [[], []], "ab", [["V_NMI"] * 99, []]]
)
def test_strange_ways_are_answered(answer: object) -> None:
    assert lab04.way.check(answer).outcome in {"incorrect", "not attempted"}
