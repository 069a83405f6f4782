"""The bench measures what it says; how fast a machine is, is not tested."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vnmi_lab import bench, cli
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


def test_outside_a_checkout_the_browser_is_not_measured_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "PAGES", tmp_path / "benchmarks" / "browser")
    assert cli.main(["bench", "--browser"]) == 1
    said = capsys.readouterr()
    assert said.err == "vnmi-lab: what measures in a browser is in a checkout only (benchmarks/browser)\n"
    assert said.out == ""


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "find_spec", lambda name: None if name == "ipympl" else name)
    assert bench.browser() == 1
    assert capsys.readouterr().err == 'vnmi-lab: ipympl is not installed (pip install "vnmi_lab[bench,test]")\n'


@pytest.mark.slow
@pytest.mark.browser
def test_every_view_is_measured_in_the_browser(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.browser import measure

    for name, value in {"SIZES": (150,), "PAINTS": 1, "CLICKS": 6, "SECONDS": 2, "SCRUBBED": 20}.items():
        monkeypatch.setattr(measure, name, value)
    with ThreadPoolExecutor(1) as apart:  # the other tests' browser leaves an event loop running in this thread
        assert apart.submit(bench.browser, as_json=True).result() == 0
    figures = {figure["name"]: figure for figure in json.loads(capsys.readouterr().out)["figures"]}
    for view in ("player", "matplotlib, Image", "ipympl"):
        own = {name.partition(": ")[2]: figure["value"] for name, figure in figures.items() if f", {view}: " in name}
        assert len(own) >= 5
        taken = [value for what, value in own.items() if "paint" in what or "click" in what]
        assert taken
        assert all(value > 0 for value in taken)
    assert {"150 steps, player: messages during a scrub of 20", "150 steps, player: messages once it rests"} <= set(
        figures
    )
