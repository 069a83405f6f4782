"""The diagram says what the delivery tables say, and the committed picture is the one they draw."""

from __future__ import annotations

from pathlib import Path

import pytest

from vnmi_lab.cli import main
from vnmi_lab.hw import diagram
from vnmi_lab.rules import RULES

PICTURE = Path(__file__).parents[1] / "docs" / "nmi-states.svg"
OPEN, PENDING, IN_SERVICE, BOTH = (0, 0), (1, 0), (0, 1), (1, 1)

# What an NMI does, as the manual has it; an arrival in PENDING or BOTH changes nothing.
EXPECTED = {
    (OPEN, "arrives"): PENDING,
    (PENDING, "arrives"): PENDING,
    (IN_SERVICE, "arrives"): BOTH,
    (BOTH, "arrives"): BOTH,
    (PENDING, "taken"): IN_SERVICE,
    (OPEN, "iret"): OPEN,
    (PENDING, "iret"): PENDING,
    (IN_SERVICE, "iret"): OPEN,
    (BOTH, "iret"): PENDING,
}


@pytest.mark.parametrize("kind", diagram.KINDS, ids=lambda kind: kind.source)
def test_transitions_are_those_of_the_manual(kind: diagram.Kind) -> None:
    words = {kind.arrives: "arrives", diagram.TAKEN: "taken", diagram.IRET: "iret"}
    found = {(t.before, words[t.action]): t.after for t in diagram.transitions(kind)}
    assert found == EXPECTED
    assert all(rule in RULES for t in diagram.transitions(kind) for rule in t.rules)


def test_the_committed_picture_is_the_one_the_tables_draw() -> None:
    assert PICTURE.read_text(encoding="utf-8") == diagram.svg(), (
        "run: vnmi-lab diagram --format svg -o docs/nmi-states.svg"
    )


def test_the_command_prints_text_and_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagram"]) == 0
    assert capsys.readouterr().out == diagram.text()
    target = tmp_path / "states.svg"
    assert main(["diagram", "--format", "svg", "-o", str(target)]) == 0
    assert target.read_text(encoding="utf-8") == diagram.svg()
