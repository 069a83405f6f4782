"""Every rule is needed: switched off, at least one case of the tables turns red."""

from __future__ import annotations

import pytest

from tests import test_delivery, test_kvm_unit_tests, test_puzzles, test_reference, test_vnmi
from tests.cases import Runnable
from vnmi_lab.rules import GRADES, LABELS, RULES, SWITCHABLE, Switches

TABLES: tuple[Runnable, ...] = (
    *test_vnmi.RULES,
    *test_puzzles.CASES,
    *test_kvm_unit_tests.CASES,
    *test_delivery.CASES,
    *test_vnmi.OPEN,
    *test_vnmi.EXHAUSTIVE,
    *test_reference.CASES,
)


def test_every_rule_has_a_sentence_a_source_and_a_grade() -> None:
    for key, rule in RULES.items():
        assert rule.id == key
        assert rule.grade in GRADES
        assert rule.source
        assert rule.sentence.endswith(".")
        assert rule.sentence[0].isupper()


def test_what_cannot_be_switched_off_only_labels() -> None:
    assert set(RULES) - set(SWITCHABLE) == set(LABELS)
    with pytest.raises(ValueError, match="R-EXEC"):
        Switches(off=frozenset({"R-EXEC"}))


def first_red(rule: str) -> str | None:
    """Return the first case that fails without ``rule``."""
    without = Switches(off=frozenset({rule}))
    return next((case.name for case in TABLES if case.run(without) is not None), None)


@pytest.mark.slow
@pytest.mark.parametrize("rule", SWITCHABLE)
def test_without_this_rule_a_case_turns_red(rule: str) -> None:
    assert first_red(rule) is not None, f"{rule} survives: {SWITCHABLE[rule].sentence}"
