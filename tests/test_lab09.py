"""Lab 09: the figures that its prose states, and what it does where a package is missing."""

from __future__ import annotations

import re
import sys
from itertools import combinations_with_replacement, product
from xml.etree import ElementTree as ET

import pytest

from vnmi_lab.checks import Note, lab09
from vnmi_lab.checks.lab03 import GUEST
from vnmi_lab.checks.lab09 import RATIO, both_ways, in_the_log, logged
from vnmi_lab.checks.lab09_figures import PRICED, Rates, counters, over_rates, prices
from vnmi_lab.costs import COSTS
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hv.profiles import LEGACY, PATCH_V4, VNMI, is_vnmi_enabled_v4
from vnmi_lab.hv.svm import is_vnmi_enabled
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Stimulus
from vnmi_lab.sweep import compile_table, point, simulate


@pytest.fixture(scope="module")
def rates() -> Rates:
    found = over_rates(1, 10, 30, 100, 300)
    assert isinstance(found, Rates)
    return found


def test_the_shape_of_the_plot_is_as_the_lab_describes_it(rates: Rates) -> None:
    legacy = [p.extra_exits for p in rates.points if p.policy == "legacy"]
    assert legacy[0] == pytest.approx(1.0, abs=0.03), "rare: one exit each"
    assert legacy[0] < legacy[1] < legacy[2], "some must wait"
    assert legacy[4] < legacy[3] < legacy[2], "they merge"
    assert [p.extra_exits for p in rates.points if p.policy == "vnmi"] == [0] * 5


def test_cycles_are_exits_times_what_is_assumed(rates: Rates) -> None:
    assert COSTS["exit"].cycles + COSTS["handling"].cycles == 2_500, "the lab names the sum"
    assert all(cost.source.startswith("assumed") for cost in COSTS.values())
    assert all(p.cycles == pytest.approx(p.exits * 2_500) for p in rates.points)
    assert "assumed" in repr(lab09.assumptions())


def test_a_sweep_does_not_measure_its_own_start() -> None:
    table = compile_table(LEGACY)
    few, many = point(table, 300, 5_000), point(table, 300, 50_000)
    assert few.extra_exits == pytest.approx(many.extra_exits, rel=0.1)
    started = simulate(table, 300, arrivals=5_000, vcpus=4_096)
    assert started.extra_exits < 0.5 * many.extra_exits, "with a few steps each, the start is all there is"


def test_the_plot_takes_the_colour_of_the_page_and_says_what_it_shows(rates: Rates) -> None:
    text, shown = rates.svg(), rates._repr_html_()
    assert text in shown, "the same each time"
    drawn = ET.fromstring(text)  # noqa: S314  # our own
    assert drawn.get("role") == "img"
    assert "legacy at 1: 1.0" in str(drawn.get("aria-label"))
    assert "currentColor" in text
    assert "#010203" not in text
    assert shown.count('<th scope="col"') == 4
    assert len(re.findall('<th scope="row"', shown)) == 10
    assert len(shown) < 80_000
    assert "legacy, 300" in repr(rates)


@pytest.mark.parametrize("package", ["matplotlib", "numpy"])
def test_without_a_package_one_line_says_so_and_the_lab_goes_on(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    said = over_rates(1)
    assert isinstance(said, Note)
    assert f"`{package}` is not installed here" in said.text
    assert "\n" not in said.text


def test_the_price_list_is_that_of_the_machine() -> None:
    lines = {line[0]: line[1:] for line in prices().lines}
    assert tuple(lines) == PRICED
    assert lines["in-handler"] == ("2", "2 kick, 2 IRET, 1 #DB", "2 kick")
    assert lines["two-before-entry"] == ("2", "2 IRET, 1 #DB", "none")
    assert lines["gif-two"] == ("2", "1 kick, 2 IRET, 1 #DB, 1 STGI", "1 kick, 1 STGI")


def test_what_the_counters_count() -> None:
    lines = {line[0]: line[1:] for line in counters("storm", "idt-absent", "sev-es").lines}  # sent, delivered, counters
    assert lines["storm, legacy"] == ("11", "2", "2", "2")
    assert lines["storm, vnmi"] == ("11", "2", "2", "0")
    assert lines["idt-absent, vnmi"] == ("1", "1", "2", "0"), "handed over twice"
    assert lines["sev-es, vnmi"] == ("1", "1", "1", "1"), "NMI_COMPLETE"


def test_vnmi_needs_all_three() -> None:
    for cpuid, vgif, parameter in product((False, True), repeat=3):
        features = Features(vnmi_cpuid=cpuid, vgif=vgif, vnmi=parameter)
        assert features.has_vnmi == (cpuid and vgif and parameter)


@pytest.mark.parametrize("ops", [VNMI, PATCH_V4], ids=lambda ops: ops.name)
def test_which_vmcb_is_asked_while_a_nested_guest_runs(ops: NmiOps) -> None:
    vcpus = [Kvm(GUEST, ops, Features(guest_mode=nested)).vcpu for nested in (False, True)]
    enabled = is_vnmi_enabled if ops is VNMI else is_vnmi_enabled_v4
    assert [enabled(vcpu) for vcpu in vcpus] == [True, ops is PATCH_V4]


def test_the_log_has_a_line_for_each_way_in_and_out() -> None:
    lines = lab09.log().splitlines()
    assert all(
        re.fullmatch(r"\d+\.\d+: kvm_(entry: vcpu 0, |exit: vcpu 0 reason [\w ]+ )rip 0x\w+", line) for line in lines
    )
    assert [("entry" in line) for line in lines] == [n % 2 == 0 for n in range(len(lines))]
    reasons = [found[1] for line in lines if (found := re.search("reason (.*) rip", line))]
    counted = {word: len(steps) for word, steps in in_the_log(logged()).items()}
    assert counted == {
        "kicks": reasons.count("interrupt"),
        "delivered": reasons.count("iret"),
        "waited": reasons.count("DB excp"),
    }


@pytest.mark.slow
def test_no_schedule_of_three_nmis_does_more_than_the_worst() -> None:
    for steps in combinations_with_replacement(range(0, 20, 2), 3):
        spent = []
        for ops in (LEGACY, VNMI):
            machine = Kvm(GUEST, ops, Features(vnmi_cpuid=ops.uses_vnmi), stimuli=[Stimulus(at=at) for at in steps])
            machine.advance(200)
            spent.append(len(machine.vcpu.exits))
        assert spent[0] <= RATIO * spent[1], steps
    legacy, vnmi = both_ways([Stimulus(at=0, times=2)])
    assert (len(legacy), len(vnmi)) > (0, 0)
