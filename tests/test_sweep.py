"""Sweeps: the table is the machine's, and the figures are those the machine gives."""

from __future__ import annotations

import pytest

from vnmi_lab.costs import COSTS
from vnmi_lab.guest import Guest
from vnmi_lab.hv.profiles import BLIND, LEGACY, VNMI, VNMI_6_4_RC, XEN_LIKE
from vnmi_lab.sweep import GAINS, compile_table, plot, simulate, sweep

RARE, OFTEN = 1.0, 100.0


def test_the_table_is_closed_and_the_same_each_time() -> None:
    table = compile_table(VNMI)
    states = len(table.after[0])
    assert all(0 <= number < states for row in table.after for number in row)
    assert all(len(row) == states for row in (*table.after, *table.gains))
    assert table == compile_table(VNMI)


# policy, exits beside the kick for an NMI that comes alone: semantics of Linux, one IRET exit or none
ALONE = [(LEGACY, 1.0), (VNMI, 0.0), (XEN_LIKE, 1.0)]


@pytest.mark.parametrize(("ops", "extra"), ALONE, ids=lambda value: getattr(value, "name", value))
def test_an_nmi_that_comes_alone_costs_what_the_machine_says(ops: object, extra: float) -> None:
    point = simulate(compile_table(ops), RARE, arrivals=20_000)  # type: ignore[arg-type]  # a policy
    assert point.extra_exits == pytest.approx(extra, abs=0.02)
    assert point.delivered == pytest.approx(1.0, abs=0.01)


def test_vnmi_never_exits_for_an_iret_and_the_wrong_bit_loses() -> None:
    vnmi, wrong = (simulate(compile_table(ops), OFTEN, arrivals=20_000) for ops in (VNMI, VNMI_6_4_RC))
    assert vnmi.totals["iret_exits"] == vnmi.totals["db_exits"] == 0
    assert wrong.delivered < vnmi.delivered


def test_every_nmi_is_delivered_or_merged() -> None:
    for ops in (LEGACY, VNMI, XEN_LIKE):
        point = simulate(compile_table(ops), OFTEN, arrivals=20_000, vcpus=64)
        waiting = point.arrivals - point.totals["delivered"] - point.totals["merged"]
        assert 0 <= waiting <= 5 * 64, "at most a few on their way in each vCPU"


def test_the_same_seed_gives_the_same_point() -> None:
    table = compile_table(LEGACY)
    assert simulate(table, OFTEN, arrivals=5000) == simulate(table, OFTEN, arrivals=5000)
    assert simulate(table, OFTEN, arrivals=5000) != simulate(table, OFTEN, arrivals=5000, seed=1)


@pytest.mark.parametrize("rate", [0, -1, 1001])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="a rate is in NMIs for each 1,000 steps, above 0 and at most 1000"):
        simulate(compile_table(VNMI), rate)


@pytest.mark.slow
@pytest.mark.parametrize(("ops", "guest"), [(BLIND, None), (VNMI, "again: inc rax\n jmp again")])
def test_a_machine_without_an_end_to_its_states_is_refused(ops: object, guest: str | None) -> None:
    with pytest.raises(ValueError, match="more than 20,000 states"):
        compile_table(ops, *([Guest.of(guest, tail="hlt")] if guest else []))  # type: ignore[arg-type]  # a policy


def test_the_plot_has_a_line_for_each_policy_and_says_what_is_assumed() -> None:
    figure = plot(sweep((LEGACY, VNMI), (RARE, OFTEN), arrivals=5000))
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2]
    assert "assumed" in figure.axes[2].get_title()
    assert all(cost.source.startswith("assumed") or "://" in cost.source for cost in COSTS.values())
    assert len(set(GAINS)) == len(GAINS)
