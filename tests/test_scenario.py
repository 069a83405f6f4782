"""Scenarios as values: their text form, what is refused and where, and the library."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnmi_lab.guests import GUESTS, PLACES, Source
from vnmi_lab.hv.profiles import POLICIES
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.kvm import Kvm
from vnmi_lab.library import COSTS, DIFFERENCES, LIBRARY, PUZZLES, find
from vnmi_lab.machine import BareMetal, Stimulus
from vnmi_lab.rules import SWITCHABLE, Switches
from vnmi_lab.scenario import BARE, LABEL, Scenario, ScenarioError
from vnmi_lab.trace import Trace

URL_SAFE = re.compile(r"[A-Za-z0-9._~@-]*")  # a query takes all of these as they are (RFC 3986, section 3.4)
LINES = st.lists(st.sampled_from(["nop", "sti", "hlt", "work: nop", "add rax, 1 ; ü"]), unique=True).map("\n".join)
SOURCES = st.builds(
    Source,
    LINES,
    st.lists(st.tuples(st.integers(0, 255), LINES), max_size=2, unique_by=lambda pair: pair[0]).map(tuple),
)


def stimuli(labels: list[str]) -> st.SearchStrategy[Stimulus]:
    when = st.one_of(st.integers(0, 999), st.sampled_from(labels)) if labels else st.integers(0, 999)
    times = st.integers(1, 12)
    return st.one_of(
        st.builds(Stimulus, when, st.sampled_from(["nmi", "smi", "migrate", "getset"]), times),
        st.builds(Stimulus, when, st.just("intr"), times, st.integers(0, 255)),
    )


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    guest = draw(st.one_of(st.sampled_from(list(GUESTS)), SOURCES))
    source = GUESTS[guest].source if isinstance(guest, str) else guest
    labels = [name for name in source.guest().labels() if LABEL.fullmatch(name)]
    places = st.one_of(st.integers(0, 0xFFFFFFFF), st.sampled_from([*PLACES, *labels]))
    switches = {name: draw(st.booleans()) for name in Switches().names()}
    off = draw(st.sets(st.sampled_from(sorted(SWITCHABLE)), max_size=2))
    return Scenario(
        guest,
        draw(st.sampled_from([BARE, *POLICIES])),
        tuple(draw(st.lists(stimuli(labels), max_size=4))),
        tuple(draw(st.lists(places, max_size=3, unique=True))),
        Features(**{f.name: draw(st.booleans()) for f in fields(Features)}),
        Switches(off=frozenset(off), **switches),
        draw(st.booleans()),
    )


@given(scenarios())
def test_text_gives_the_value_back(scenario: Scenario) -> None:
    text = str(scenario)
    assert Scenario.parse(text) == scenario
    assert URL_SAFE.fullmatch(text)


@given(st.one_of(st.text(), st.text("v1~plainvm@x.0-", max_size=60).map("v1~plain~vnmi~".__add__)))
def test_any_text_is_a_scenario_or_gets_one_line(text: str) -> None:
    line = ""
    try:
        scenario = Scenario.parse(text)
        assert Scenario.parse(str(scenario)) == scenario
    except ScenarioError as problem:
        line = str(problem)
    assert not line or re.match(r"character \d+, ", line)


SHAPE = "a scenario reads v1~GUEST~MACHINE~ITEM..., such as v1~plain~vnmi~nmi@work"
WRONG = {
    "": f"character 1, '': {SHAPE}",
    "v2~plain~vnmi": f"character 1, 'v2': {SHAPE}",
    "v1~plain": f"character 4, 'plain': {SHAPE}",
    "v1~plian~vnmi": "character 4, 'plian': the library has no guest 'plian'; did you mean 'plain'?",
    "v1~plain~vnm": "character 10, 'vnm': vnmi_lab has no machine 'vnm'; did you mean 'vnmi'?",
    "v1~plain~vnmi~nmi@wrok": "character 15, 'nmi@wrok': the guest has no label 'wrok'; did you mean 'work'?",
    "v1~plain~vnmi~nmi@work~nim@body": "character 24, 'nim@body': a scenario has no arrival 'nim'; did you mean 'nmi'?",
    "v1~plain~vnmi~nmi@": "character 15, 'nmi@': an arrival reads WHAT@WHEN or WHATxTIMES@WHEN, such as nmi@work,"
    " nmix10@body, irq.65@12",
    "v1~plain~vnmi~nmix0@work": "character 15, 'nmix0@work': a stimulus needs times >= 1 and a step >= 0, not times=0"
    " at='work'",
    "v1~plain~vnmi~irq.256@work": "character 15, 'irq.256@work': a vector must be 0 to 255, not 256",
    "v1~plain~vnmi~nmi.3@work": "character 15, 'nmi.3@work': only irq has a vector, not nmi",
    "v1~plain~vnmi~chaching": "character 15, 'chaching': a scenario has no item 'chaching'; did you mean 'caching'?",
    "v1~plain~vnmi~vgif": "character 15, 'vgif': vgif is on already; write no.vgif",
    "v1~plain~vnmi~no.caching": "character 15, 'no.caching': caching is off already; write caching",
    "v1~plain~vnmi~caching~caching": "character 23, 'caching': caching is said twice",
    "v1~plain~vnmi~absent@idt~absent@idt": "character 26, 'absent@idt': a page is absent only once",
    "v1~plain~vnmi~absent@0x100000000": "character 15, 'absent@0x100000000': a page must be below 4 GiB, not at"
    " 0x100000000",
    "v1~plain~vnmi~off@R-NO": "character 15, 'off@R-NO': off names 'R-NO', which is no rule that can be switched off;"
    " see vnmi_lab.rules.SWITCHABLE",
    "v1~asm.bm9x~bare": "character 4, 'asm.bm9x': line 1, column 1: unknown instruction 'noq': did you mean 'not'?",
    "v1~plain~vnmi~nmix1001@work": "character 15, 'nmix1001@work': at most 1000 come at once, not 1001",
    "v1~asm.bm9w!~bare": "character 4, 'asm.bm9w!': 'bm9w!' is not base64url of UTF-8 text",
    "v1~asm.a~bare": "character 4, 'asm.a': 'a' is not base64url of UTF-8 text",
    "v1~asm.bm9w.2~bare": "character 4, 'asm.bm9w.2': after asm. come main, then a vector and a handler each, with"
    " dots between",
}


@pytest.mark.parametrize(("text", "line"), WRONG.items())
def test_wrong_text_gets_position_text_and_what_would_be_right(text: str, line: str) -> None:
    with pytest.raises(ScenarioError) as error:
        Scenario.parse(text)
    assert str(error.value) == line


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_is_canonical_short_and_runs(name: str) -> None:
    entry = LIBRARY[name]
    assert str(entry.scenario) == entry.text == str(find(name)) == str(find(entry.text))
    assert len(entry.text) <= 200
    assert entry.sentence.endswith(".")
    trace = Trace(entry.scenario.machine(), name, limit=50)
    assert all(step.sentence for step in trace)


def test_the_library_covers_the_puzzles_that_a_run_can_show() -> None:
    said = " ".join(entry.sentence for entry in LIBRARY.values())
    numbers = {int(n) for group in re.findall(r"puzzles? ([\d, ]+)", said) for n in re.findall(r"\d+", group)}
    # 2, 4, 17, 18, 29 are those of a scripted host, 25 and 26 of nested guests
    assert numbers == {1, 3, *range(5, 17), 19, 20, 21, 22, 23, 24, 27, 28, 30}
    assert not set(COSTS) & set(DIFFERENCES) & set(PUZZLES)


@pytest.mark.parametrize("name", GUESTS)
def test_every_guest_comes_to_rest_on_bare_metal(name: str) -> None:
    machine = Scenario(name, BARE).machine()
    assert isinstance(machine, BareMetal)
    assert machine.run(400).kind == "waiting"
    assert GUESTS[name].sentence.endswith(".")


def test_options_reach_the_machine() -> None:
    machine = Scenario.parse("v1~plain~legacy~nmix2@body~absent@idt~no.vgif~caching~no.irqchip").machine()
    assert isinstance(machine, Kvm)
    assert machine.ops is POLICIES["legacy"]
    assert machine.stimuli == (Stimulus("body", "nmi", 2),)
    assert 0x330 in machine.cpu.absent
    assert machine.features == Features(vgif=False)
    assert machine.cpu.switches.caching
    assert not machine.irqchip


AT_ONCE = [  # scenario, handler runs on bare metal
    ("v1~plain~bare~nmix2@work", 2),  # the first is taken before the second comes
    ("v1~plain~bare~nmix5@0", 2),
    ("v1~plain~bare~nmi@work~nmix5@body", 2),  # none of them can be taken at once
    ("v1~gif~bare~nmix2@closed", 1),
    ("v1~plain~bare~nmix2@work~nmix2@rest", 4),
    ("v1~plain~bare~nmix2@later~nmix2@work", 4),  # in whatever order they are written
    ("v1~plain~bare~nmix2@h2", 0),  # never gets there
]


@pytest.mark.parametrize(("text", "runs"), AT_ONCE)
def test_several_at_once_on_bare_metal_are_one_after_another(text: str, runs: int) -> None:
    machine = Scenario.parse(text).machine()
    assert isinstance(machine, BareMetal)
    machine.run(400)
    assert machine.cpu.memory.read(0x340010, 8) == runs
