"""What a hypervisor did wrong at a step: the mutants are found out, the policies that are right are not accused."""

from __future__ import annotations

import pytest

from vnmi_lab.compare import BUDGET
from vnmi_lab.library import LIBRARY, find
from vnmi_lab.lint import lint
from vnmi_lab.rules import RULES
from vnmi_lab.scenario import BARE
from vnmi_lab.timeline import build, svg
from vnmi_lab.trace import Trace


def found(name: str, policy: str) -> set[str]:
    steps = list(Trace(find(name).on(policy).machine(), limit=BUDGET))
    said = lint(steps)
    assert {finding.rule for finding in said} <= RULES.keys()
    assert all(steps[finding.step].events and finding.sentence.endswith(".") for finding in said)
    return {finding.label for finding in said}


@pytest.mark.parametrize(
    ("name", "policy", "label"),
    [
        ("in-handler", "m2", "unmasked before IRET"),
        ("in-handler", "xen-like", "unmasked before IRET"),
        ("skipped-iret", "m4", "IRET skipped"),
        ("idt-absent-lost", "m5", "EXITINTINFO dropped"),
        ("invalid", "m10", "no NMI intercept"),
        ("caching", "m12", "clean bit left set"),
    ],
)
def test_a_broken_rule_is_found_where_it_is_broken(name: str, policy: str, label: str) -> None:
    assert found(name, policy) == {label}


@pytest.mark.parametrize("name", LIBRARY)
def test_those_that_are_right_are_not_accused(name: str) -> None:
    for policy in (BARE, "legacy", "vnmi"):
        assert found(name, policy) == set()


def test_the_lane_is_drawn_where_a_rule_was_broken_and_not_before() -> None:
    payload = build(Trace(find("invalid").machine()))
    step, label, *_ = payload["lint"][0]
    assert f">{label}<" in svg(payload)
    assert ">broken rules<" not in svg(payload | {"visible_until": step - 1})
    assert ">broken rules<" not in svg(build(Trace(find("one").machine())))
