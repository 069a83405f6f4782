"""Every NMI of a run as one bar: what becomes of it, and that the count is the one the machine gives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.timeline_runs import latched, nested
from vnmi_lab.compare import BUDGET, measure
from vnmi_lab.hv.profiles import POLICIES
from vnmi_lab.hw.events import Arrived
from vnmi_lab.library import LIBRARY, find
from vnmi_lab.scenario import BARE
from vnmi_lab.timeline import build, html, svg
from vnmi_lab.timeline.bars import GLYPHS
from vnmi_lab.timeline.instances import MOST_ROWS, Instance, Span, as_data, count, instances
from vnmi_lab.trace import Trace


def follow(name: str, policy: str) -> list[Instance]:
    return instances(list(Trace(find(name).on(policy).machine(), limit=BUDGET)))


def lives(found: list[Instance]) -> list[tuple[str, str, int | None]]:
    """Give each NMI as the places it was in, its end, and what it merged into."""
    return [(" ".join(span.place for span in one.spans), one.end, one.into) for one in found]


# --- the count is the machine's ---------------------------------------------------------------------------------------


def agree(name: str, policy: str) -> None:
    row = measure(LIBRARY[name].scenario.on(policy))
    found = count(follow(name, policy))
    assert found == {field: getattr(row, field) for field in found}, f"{name} under {policy}"


@pytest.mark.parametrize("name", LIBRARY)
def test_the_count_is_that_of_compare(name: str) -> None:
    for policy in dict.fromkeys((BARE, LIBRARY[name].scenario.policy)):
        agree(name, policy)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_the_count_is_that_of_compare_under_every_policy(policy: str) -> None:
    for name in LIBRARY:
        agree(name, policy)


# --- what becomes of an NMI -------------------------------------------------------------------------------------------


def test_one_waits_in_eventinj_the_other_in_v_nmi_until_the_iret() -> None:
    assert lives(follow("two-at-once", "vnmi")) == [
        ("nmi_queued EVENTINJ handler", "done", None),
        ("nmi_queued V_NMI handler", "done", None),
    ]


def test_legacy_keeps_the_second_in_software() -> None:
    places = "nmi_queued nmi_pending EVENTINJ handler"
    assert lives(follow("in-handler", "legacy"))[1] == (places, "done", None)


def test_a_delivery_that_a_page_fault_interrupted_goes_through_exitintinfo() -> None:
    places = "nmi_queued V_NMI EXITINTINFO nmi_injected EVENTINJ handler"
    assert lives(follow("idt-absent", "vnmi")) == [(places, "done", None)]
    assert lives(follow("idt-absent-lost", "m5")) == [("nmi_queued EVENTINJ EXITINTINFO", "lost", None)]


def test_what_arrives_behind_one_that_waits_merges_into_it() -> None:
    bare, *rest = follow("storm", BARE)
    assert bare.end == "done"
    assert [one.end for one in rest] == ["done"] + ["coalesced"] * 9
    assert {one.into for one in rest[1:]} == {2}


def test_an_nmi_that_the_wrong_bit_drops_is_lost() -> None:
    assert [one.end for one in follow("wrong-bit-loses", "vnmi-6.4-rc")] == ["done", "lost"]


def test_an_nmi_that_nobody_sent_is_extra() -> None:
    assert [one.end for one in follow("get-then-set", "vnmi")] == ["done", "extra"]


def test_an_nmi_that_is_left_behind_is_pending_at_the_end() -> None:
    one = follow("sti-hlt", "vnmi")[0]
    assert (one.end, one.over, one.spans[-1].phase) == ("pending", False, "pending")


def test_the_first_of_bare_metal_never_waits() -> None:
    assert follow("one", BARE)[0].spans == [Span(2, 3, "arrived", "latch"), Span(3, 7, "in service", "handler")]


def test_bars_have_no_holes_and_begin_where_the_nmi_arrives() -> None:
    for name, entry in LIBRARY.items():
        steps = list(Trace(entry.scenario.machine(), limit=BUDGET))
        arrivals = [n for n, s in enumerate(steps) for e in s.events if isinstance(e, Arrived) and e.source == "nmi"]
        found = instances(steps)
        for one in found:
            assert all(a.end == b.first and a.first < a.end for a, b in zip(one.spans, one.spans[1:], strict=False))
            assert [span.phase for span in one.spans] == sorted(
                (span.phase for span in one.spans), key=["arrived", "pending", "in service"].index
            ), name
        if entry.scenario.policy != BARE and "self" not in name:
            assert [one.spans[0].first for one in found if one.came] == arrivals, name


def test_runs_written_by_hand_have_their_nmis_too() -> None:
    assert [one.end for one in instances(latched().steps)] == ["done", "done"]
    assert [(one.spans[0], one.end) for one in instances(nested().steps)] == [
        (Span(0, 1, "arrived", "EVENTINJ"), "done"),
        (Span(6, 7, "arrived", "EVENTINJ"), "done"),
    ]


def test_a_life_is_told_in_a_sentence_once_it_is_over() -> None:
    payload = build(Trace(find("storm").on(BARE).machine()))
    lives = [one["said"] for one in payload["instances"]]
    assert lives[0] == "NMI 1: arrived at step 2, in service from step 3, done at step 7."
    assert (
        lives[1] == "NMI 2: arrived at step 5, pending in latch from step 6, in service from step 8, done at step 11."
    )
    assert lives[2] == "NMI 3: arrived at step 5, coalesced into NMI 2 at step 5."
    assert f"<li>{lives[0]}</li>" in html(payload)
    assert lives[1] not in html(payload | {"visible_until": 8})
    left = build(Trace(find("sti-hlt").on("vnmi").machine()))["instances"][0]["said"]
    assert left.endswith("and so to the end of the run.")
    extra = build(Trace(find("get-then-set").on("vnmi").machine()))["instances"][1]["said"]
    assert extra.startswith("NMI 2: was there from step 11, pending in nmi_pending from step 13")
    assert extra.endswith("done at step 25. It is extra: nobody sent it.")


# --- rows -------------------------------------------------------------------------------------------------------------


def storm(count: int) -> Iterator[Instance]:
    for number in range(count):
        yield Instance(number + 1, spans=[Span(5, 9, "arrived", "latch")], end="coalesced", into=1)


def test_rows_are_used_again_once_bar_and_word_are_over() -> None:
    spread = [Instance(n + 1, spans=[Span(10 * n, 10 * n + 6, "in service", "handler")], end="done") for n in range(40)]
    assert {one["row"] for one in as_data(spread)} == {0}
    assert [one["row"] for one in as_data(follow("storm-spread", "legacy"))] == [0, 1, 2, 3]


def test_what_finds_no_row_is_counted() -> None:
    rows = [one["row"] for one in as_data(list(storm(40)))]
    assert rows[:MOST_ROWS] == list(range(MOST_ROWS))
    assert rows[MOST_ROWS:] == [None] * (40 - MOST_ROWS)


def test_the_picture_has_a_bar_for_each_nmi_and_a_word_for_its_end() -> None:
    picture = svg(build(Trace(find("storm").on(BARE).machine())))
    assert picture.count("coalesced into NMI 2") == 4
    assert picture.count(">done<") == 2
    assert ">+5 more<" in picture
    assert ">in service<" in picture
    lost = svg(build(Trace(find("idt-absent-lost").on("m5").machine())))
    assert ">lost<" in lost


def test_how_an_nmi_ended_is_not_told_before_it_has() -> None:
    trace = Trace(find("storm").on(BARE).machine())
    assert ">NMI 3<" not in svg(build(trace, visible_until=4))
    assert GLYPHS["done"] not in svg(build(trace, visible_until=6))
    assert svg(build(trace, visible_until=7)).count(GLYPHS["done"]) == 1
