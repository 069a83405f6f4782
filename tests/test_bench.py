"""The bench measures what it says; how fast a machine is, is not tested."""

from __future__ import annotations

import json

import pytest

from vnmi_lab import bench
from vnmi_lab.machine import BareMetal


@pytest.mark.slow
def test_figures_are_positive_and_a_target_has_a_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "ROUNDS": 1,
        "STEPS": 4000,
        "FOREIGN_STEPS": 500,
        "HISTORY": 6000,
        "MOST_NMIS": 1,
        "ARRIVALS": 5000,
    }.items():
        monkeypatch.setattr(bench, name, value)
    assert bench.main(as_json=True) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    names = {figure["name"] for figure in figures}
    assert {"NMI-heavy guest: untraced", "all public conformance cases", "snapshot, after three steps"} <= names
    assert all(figure["value"] > 0 for figure in figures if "over" not in figure["name"]), "a difference may be 0"
    assert all((figure["met"] is None) == (not figure["target"]) for figure in figures)


def test_both_guests_do_what_their_names_say() -> None:
    loop, heavy = (BareMetal(guest) for guest in bench.GUESTS.values())
    assert loop.advance(1000) == heavy.advance(1000) == 1000
    assert loop.cpu.frames == ()
    counter = heavy.cpu.memory.read(0x340010, 8)
    assert counter > 50, "an NMI every dozen steps or so"
