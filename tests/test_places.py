"""Where the NMIs of a run are: every move, and nothing twice."""

from __future__ import annotations

import pytest

from vnmi_lab.checks import lab06
from vnmi_lab.checks.places import PLACES, Way, follow
from vnmi_lab.library import LIBRARY
from vnmi_lab.scenario import Scenario
from vnmi_lab.trace import Trace

SCENARIOS = ("one", "in-handler", "two-at-once", "gif-two", "shadow-two", "idt-absent", "moved-pending")


def followed(text: str, policy: str | None = None) -> Way:
    scenario = LIBRARY[text].scenario if text in LIBRARY else Scenario.parse(text)
    return follow(Trace((scenario.on(policy) if policy else scenario).machine(), text, 200))


@pytest.mark.parametrize("policy", ["legacy", "vnmi"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_an_nmi_is_never_in_two_places(name: str, policy: str) -> None:
    way = followed(name, policy)
    for before, after in zip(way.moves, way.moves[1:], strict=False):
        grown = sum(after.spots) - sum(before.spots)
        assert grown <= 0 or "arrives" in after.who, after
        assert all(count <= 1 for count in after.spots[2:])
    assert sum(way.moves[-1].spots) == 0, "all are delivered"


def test_the_way_of_an_nmi_whose_delivery_fails() -> None:
    assert [place for place, _step in lab06.token().visited()] == [
        "nmi_queued", "nmi_pending", "V_NMI", "EXITINTINFO", "EVENTINJ"
    ]  # fmt: skip


def test_a_function_has_the_name_that_the_kernel_gives_it() -> None:
    who = {move.who for move in lab06.token_legacy().moves}
    assert {"process_nmi", "svm_inject_nmi"} <= who


def test_an_nmi_that_nobody_puts_back_disappears_on_the_way_in() -> None:
    last = followed("idt-absent-lost").moves[-1]
    assert (last.who, sum(last.spots)) == ("VMRUN", 0)


def test_the_mask_is_in_one_place_at_a_time() -> None:
    for policy, mask in (("legacy", "nmi_masked"), ("vnmi", "V_NMI_MASK")):
        assert {move.masks for move in followed("in-handler", policy).moves} == {(), (mask,)}


def test_a_migration_brings_what_waits_to_the_queue() -> None:
    move = next(move for move in followed("moved-pending").moves if "KVM_SET_VCPU_EVENTS" in move.who)
    assert dict(zip(PLACES, move.spots, strict=True))["nmi_queued"] == 1


def test_the_table_reads_in_a_terminal_and_on_a_page_where_nothing_is_told_by_colour() -> None:
    text, html = repr(lab06.token()), lab06.token()._repr_html_()
    assert text.splitlines()[0].split() == ["step", "by", *PLACES, "masked", "in"]
    assert html.count("<tr>") == len(text.splitlines())
    assert 'scope="col"' in html
    assert 'scope="row"' in html
    assert "color" not in html


def test_a_title_is_escaped() -> None:
    assert "<b>" not in Way("<b>", ())._repr_html_()
