"""Practice: the same problem for the same seed, answers that a second opinion shares, options with reasons."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.second_opinion import Opinion, opinion
from vnmi_lab import cli
from vnmi_lab.checks import PlaceFlag, Prediction, SetBits, practice
from vnmi_lab.checks.practice import LEVELS, MOST_SEED, Problem, problem
from vnmi_lab.checks.practice.bugs import compared
from vnmi_lab.checks.practice.counts import COUNTS
from vnmi_lab.checks.practice.draw import Draw
from vnmi_lab.checks.practice.runs import NEVER, Run
from vnmi_lab.checks.prediction import lettered
from vnmi_lab.compare import measure
from vnmi_lab.guests import Source
from vnmi_lab.hw.events import Delivered, Event, Executed, VmExit
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.judge import EXPOSED, divergence, judge, named
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import VMCB_PA, Stimulus
from vnmi_lab.scenario import BARE, Scenario
from vnmi_lab.transparency import bare_metal

FEW = [(level, seed) for level in LEVELS for seed in range(6)]
MANY = int(os.environ.get("VNMI_PRACTICE", "12"))
"""Seeds of each level in the full run; more by hand."""
problem_of = cache(problem)


# --- the same problem, always


CHANCE = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
"""What SplitMix64 begins with from 0, as its author published it."""
GOLDEN: dict[tuple[int, int], tuple[str, int, object]] = {
    (1, 0): ("where", 0x6AD105AF, "D"),
    (1, 8): ("where", 0xF3DC20E3, "A"),
    (2, 17): ("steps", 0x69CAD923, "B"),
    (3, 17): ("flag", 0xBDA2324B, 9),
    (4, 5): ("own", 0xBFEA5293, "C"),
    (5, 1): ("where", 0x494826D6, "D"),
    (5, 99): ("bug", 0x53AB9F4E, "B"),
}
"""The kind, the scenario's checksum and the answer of some problems."""


@pytest.mark.parametrize(("level", "seed"), GOLDEN)
def test_a_seed_gives_the_problem_that_it_always_gave(level: int, seed: int) -> None:
    made = problem_of(seed, level)
    said = (made.kind, crc32(made.scenario.encode()), made.asked.answer())
    assert said == GOLDEN[level, seed], "another problem for an old seed: raise practice.problem.VERSION"


def test_chance_is_splitmix64() -> None:
    draw = Draw()
    assert [draw._next() for _ in range(3)] == CHANCE
    assert Draw(1, 2, 3).mixed(range(9)) == Draw(1, 2, 3).mixed(range(9))
    assert Draw(1, 2, 3).mixed(range(9)) != Draw(1, 3, 2).mixed(range(9))
    many = Draw(7)
    assert {many.below(6) for _ in range(200)} == set(range(6))
    assert 300 < sum(many.chance(40) for _ in range(1000)) < 500


def test_making_it_twice_makes_the_same() -> None:
    for level in LEVELS:
        assert repr(problem(7, level)) == repr(problem(7, level))


# --- every problem


@pytest.mark.parametrize(("level", "seed"), FEW)
def test_a_problem_is_sound(level: int, seed: int) -> None:
    sound(problem_of(seed, level))


def sound(made: Problem) -> None:
    """Hold a problem to everything that is promised of every problem."""
    asked = made.asked
    assert made.id == f"p1-{made.level}-{made.seed}"
    assert str(Scenario.parse(made.scenario)) == made.scenario
    assert "?" in asked.question
    assert len(asked.shown()) > 0
    assert not asked.trace().cut
    truth = asked.truth()
    assert all(line.why for line in truth.lines)
    if isinstance(asked, Prediction):
        values, texts = [o.value for o in asked.options], [o.text for o in asked.options]
        assert 3 <= len(values) == len(set(values)) <= 4
        assert len(set(texts)) == len(texts)
        assert len(asked.shown()) < len(asked.trace()), "the whole run is on the page"
        assert asked.choose(asked.answer()).said == "right"
    elif isinstance(asked, SetBits):
        assert asked.answer() != asked.start()
        assert asked.set(asked.answer()).said == "right"
    else:
        place = asked.answer()
        assert (asked.never() if place is None else asked.place(place)).said == "right"
        assert all(spot.where(asked.run_seen()) != place for spot in asked.spots)
    assert agrees(made)


def test_every_kind_of_question_is_asked() -> None:
    kinds = {level: Counter(problem_of(seed, level).kind for seed in range(6)) for level in LEVELS}
    assert all(len(found) >= 2 for found in kinds.values()), kinds
    assert {kind for found in kinds.values() for kind in found} >= {"runs", "where", "flag", "next", "bits", "bug"}


# --- the second opinion


def agrees(made: Problem) -> bool:
    """Whether another way to the answer comes to the same one."""
    scenario, asked = Scenario.parse(made.scenario), made.asked
    if isinstance(asked, PlaceFlag):
        return flag_agrees(scenario, asked)
    if isinstance(asked, SetBits):
        return bits_agree(scenario, asked)
    answer = next(o.value for at, o in zip("ABCDEFGH", asked.options, strict=False) if at == asked.answer())
    if made.kind == "next":
        return next_agrees(scenario, asked, str(answer))
    if made.kind == "bug":
        return bug_agrees(scenario, asked)
    return answer in (others := answers(made, scenario, asked)) and len(set(others)) == 1


def answers(made: Problem, scenario: Scenario, asked: Prediction) -> list[object]:
    """Return what ``compare`` counts, and where it reaches so far what the second opinion works out."""
    row, run = measure(scenario), Run(scenario)
    if made.kind == "where":
        number = ("second", "third", "fourth", "fifth", "sixth").index(asked.question.split()[-7]) + 1
        listed = [[run.name(entry.returns_to) for entry in row.entered if entry.vector == 2]]
        listed += [second.returns for second in seconds(scenario)]
        return [places[number] if number < len(places) else NEVER for places in listed]
    numbers: list[object] = [COUNTS[made.kind].of_row(row)]
    return numbers + [by for second in seconds(scenario) if (by := worked_out(made.kind, scenario, second)) is not None]


def seconds(scenario: Scenario) -> list[Opinion]:
    """Return the second opinion on a scenario that it understands: bare metal, or what is to look like it."""
    known = isinstance(scenario.guest, Source) and scenario.policy in (BARE, "legacy", "vnmi") and not scenario.absent
    if not known or ("clgi" in scenario.source.main and scenario.policy != BARE):
        return []
    return [opinion(scenario)]


def worked_out(kind: str, scenario: Scenario, second: Opinion) -> int | None:
    """Return a count by the formulas of semantics 7; None where they do not reach."""
    if kind == "runs":
        return len(second.returns)
    if kind == "deepest":
        return second.deepest
    if kind == "kicks":
        return second.moments
    if scenario.policy == "vnmi":
        return 0
    if "int3" in str(scenario.source):  # its IRET is taken for the handler's
        return None
    return {"iret": len(second.returns), "steps": second.waited, "own": len(second.returns) + second.waited}[kind]


def flag_agrees(scenario: Scenario, asked: PlaceFlag) -> bool:
    entered = [e.returns_to for e in measure(scenario).entered if e.vector == 2]
    seen = asked.run_seen()
    places = [int(step.rip) for step in seen if step.index == asked.answer()]
    second = [opinion(scenario).returns[-1]] if seconds(scenario) else []
    name = Run(scenario).name(entered[-1])
    return places == [entered[-1]] and second in ([], [name])


def stepped(scenario: Scenario, count: int) -> tuple[Any, list[Event]]:
    """Return the machine after so many steps, and what the last of them said; no trace is involved."""
    machine = scenario.machine()
    heard: list[Event] = []
    for _ in range(count):
        heard.clear()
        machine.cpu.sink = heard.append
        machine.step()
    return machine, heard


def bits_agree(scenario: Scenario, asked: SetBits) -> bool:
    machine, _heard = stepped(scenario, asked.where(asked.trace()) + 1)
    assert isinstance(machine, Kvm)
    return bool(machine.cpu.memory.read(VMCB_PA + 0x60, 4) == asked.answer())


def next_agrees(scenario: Scenario, asked: Prediction, answer: str) -> bool:
    _machine, heard = stepped(scenario, asked.until(asked.trace()) + 2)
    for event in heard:
        if isinstance(event, VmExit):
            return exit_name(event.code) == answer
        if isinstance(event, Delivered):
            return (event.vector, answer) == (2, "take")
    return any(isinstance(event, Executed) for event in heard) and answer == "exec"


def bug_agrees(scenario: Scenario, asked: Prediction) -> bool:
    """The policy is one that the judge exposes, and what ``compare`` counts is said by the right option alone."""
    run = Run(scenario)
    counts = compared(run, measure(scenario))
    says = [at for at, option in lettered(asked.options) if option.value == counts]
    return scenario.policy in EXPOSED and says == [asked.answer()]


HANDLER = "entry: nop\nbody: {body}\nleave: iretq"
BY_HAND = [  # what arrives where, what the handler does, where the NMIs return to, how deep, how many waited
    ((("two", 1),), "nop", ["two"], 1, 0),
    ((("two", 5),), "nop", ["two", "two"], 1, 1),
    ((("two", 1), ("body", 3)), "nop", ["two", "two"], 1, 1),
    ((("two", 1), ("entry", 1)), "int3", ["two", "leave"], 2, 1),
    ((("rest", 1),), "nop", ["rest"], 1, 0),
]


@pytest.mark.parametrize(("comes", "body", "returns", "deepest", "waited"), BY_HAND)
def test_the_second_opinion_itself(
    comes: tuple[tuple[str, int], ...], body: str, returns: list[str], deepest: int, waited: int
) -> None:
    handlers = ((2, HANDLER.format(body=body)), (3, "trap: nop\nback: iretq"))
    source = Source("one: nop\ntwo: nop\nrest: hlt\nwoken: jmp rest", handlers)
    found = opinion(Scenario(source, BARE, tuple(Stimulus(at, times=times) for at, times in comes)))
    assert (found.returns, found.deepest, found.waited) == (returns, deepest, waited)


def says(value: object, _trace: object) -> object:
    return value


def test_a_wrong_answer_is_noticed() -> None:
    for kind in ("where", "next", "bug", "runs"):
        made = next(one for level, seed in FEW if (one := problem_of(seed, level)).kind == kind)
        assert isinstance(made.asked, Prediction)
        others = [option for at, option in lettered(made.asked.options) if at != made.asked.answer()]
        mistaken = replace(made.asked, measure=partial(says, others[0].value))
        with pytest.raises(AssertionError):
            sound(replace(made, asked=mistaken))


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_many_problems_are_sound(level: int) -> None:
    for seed in range(1000, 1000 + MANY):
        sound(problem(seed, level))


@pytest.mark.slow
def test_what_the_guest_sees_under_a_right_policy_is_what_bare_metal_could_show() -> None:
    checked = 0
    for seed in range(60):
        scenario = Scenario.parse(problem_of(seed % 20, 2 + seed // 20).scenario)
        nmis = sum(stimulus.times for stimulus in scenario.stimuli)
        if scenario.policy not in ("legacy", "vnmi") or nmis > 2 or "clgi" in scenario.source.main:
            continue
        seen = bare_metal(scenario.source.guest(), nmis)
        assert tuple(e.returns_to for e in measure(scenario).entered if e.vector == 2) in seen.beginnings
        checked += 1
    assert checked >= 5


@pytest.mark.slow
def test_the_judge_exposes_every_policy_that_a_bug_is_asked_about() -> None:
    for policy in sorted(EXPOSED.keys() & {*LEVELS[5].policies}):
        (verdict,) = judge(named(policy))
        assert not verdict.holds
        assert divergence(verdict) is not None or verdict.broken


# --- what cannot be


@pytest.mark.parametrize(
    ("seed", "level", "said"),
    [
        (1, 0, "a level must be a whole number from 1 to 5, not 0"),
        (1, 6, "a level must be a whole number from 1 to 5, not 6"),
        (1, "2", "a level must be a whole number from 1 to 5, not '2'"),
        (-1, 1, f"a seed must be a whole number from 0 to {MOST_SEED}, not -1"),
        (MOST_SEED + 1, 1, f"a seed must be a whole number from 0 to {MOST_SEED}, not {MOST_SEED + 1}"),
        (True, 1, f"a seed must be a whole number from 0 to {MOST_SEED}, not True"),
        (1.0, 1, f"a seed must be a whole number from 0 to {MOST_SEED}, not 1.0"),
    ],
)
def test_a_seed_or_level_that_cannot_be_is_refused_in_a_line(seed: object, level: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        problem(seed, level)  # type: ignore[arg-type]  # what a learner may type


def test_after_the_last_seed_comes_the_first() -> None:
    assert problem(MOST_SEED, 1).following().seed == 0


# --- the command


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["practice", *words]) == 0
    return capsys.readouterr().out


def test_the_command_asks_and_reveals_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    asked = told(capsys, "--seed", "3", "--level", "2")
    assert asked.startswith("p1-2-3: event injection")
    assert "the machine does this" not in asked
    assert "Answer:" not in asked
    shown = told(capsys, "--seed", "3", "--level", "2", "--reveal")
    assert shown.startswith(asked.rstrip("\n"))
    assert "the machine does this" in shown
    assert "to see it: vnmi-lab run v1~" in shown


@pytest.mark.parametrize("level", LEVELS)
def test_json_has_the_answer_only_when_it_is_asked_for(level: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--seed", "4", "--level", str(level), "--json")
    asked, shown = json.loads(told(capsys, *words)), json.loads(told(capsys, *words, "--reveal"))
    assert not {"answer", "why", "scenario"} & asked.keys()
    assert shown["answer"] == problem_of(4, level).asked.answer()
    assert {key: shown[key] for key in asked} == asked
    assert len(asked["choices"]) >= 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--level", "9"), "a level must be a whole number from 1 to 5, not 9"),
        (("--seed", "-4"), "a seed must be a whole number from 0 to 999999999, not -4"),
        (("--seed", "x"), "argument --seed: invalid int value: 'x'"),
        (("--print", "0"), "a sheet has 1 to 100 problems, not 0"),
        (("--print", "2", "--seed", str(MOST_SEED)), "would go beyond seed"),
        (("--key", "k.html"), "--key goes with --print N"),
    ],
)
def test_bad_words_get_one_line(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["practice", *words])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


# --- on paper


@pytest.fixture(scope="module")
def made() -> list[Problem]:
    kinds: dict[str, Problem] = {}
    for level, seed in FEW:
        kinds.setdefault(problem_of(seed, level).kind, problem_of(seed, level))
    return list(kinds.values())


def test_the_sheet_has_every_question_and_no_answer(made: list[Problem]) -> None:
    page = practice.sheet(made)
    assert page.count("<section>") == len(made)
    assert all(f"{one.id}</h2>" in page for one in made)
    assert "the machine does this" not in page
    assert "Answer:" not in page
    for one in made:
        whys = {line.why for line in one.asked.truth().lines}
        assert not [why for why in whys if why and why in page]
        assert one.scenario not in page


def test_the_key_has_every_answer(made: list[Problem]) -> None:
    page = practice.key(made)
    assert page.count("Answer: ") == len(made)
    assert page.count("the machine does this") == len(made)
    assert all(f"--seed {one.seed} --level {one.level}" in page for one in made)


def test_pages_load_nothing(made: list[Problem]) -> None:
    for page in (practice.sheet(made), practice.key(made)):
        assert "default-src 'none'" in page
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert "<script" not in page


def test_the_command_writes_sheet_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, key = tmp_path / "sheet.html", tmp_path / "key.html"
    assert told(capsys, "--print", "2", "--level", "2", "--seed", "8", "-o", str(sheet), "--key", str(key)) == ""
    assert "p1-2-9</h2>" in sheet.read_text()
    assert key.read_text().count("Answer: ") == 2
