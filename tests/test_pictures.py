"""The command line draws what a notebook shows: policies side by side, and the states that were explored."""

from __future__ import annotations

from pathlib import Path

import pytest

from vnmi_lab import cli
from vnmi_lab.graph import graph
from vnmi_lab.hv.profiles import POLICIES
from vnmi_lab.library import find
from vnmi_lab.timeline import graphs, sidestill
from vnmi_lab.timeline.side import side


def test_compare_draws_the_runs_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "two.svg"
    assert cli.main(["compare", "two-at-once", "--policies", "legacy,vnmi", "--svg", str(file)]) == 0
    assert file.read_text() == sidestill.svg(side(find("two-at-once"), ("bare", "legacy", "vnmi")))


def test_explore_draws_the_states_and_exits_as_the_verdict_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explore", "--policy", "patch-v4", "--svg", "-"]) == 1
    assert capsys.readouterr().out.rstrip("\n") == graphs.svg(graph(POLICIES["patch-v4"])).rstrip("\n")
    assert cli.main(["explore", "--policy", "legacy", "--nmis", "1", "--svg", "-"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "two-at-once", "--policies", "legacy,vnmi,blind,m1", "--svg", "-"],
        ["explore", "--policy", "legasy", "--svg", "-"],
        ["explore", "--policy", "mine.py:iret_interception", "--svg", "-"],
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert capsys.readouterr().err.count("\n") == 1
