"""The instructor's pages: what they name exists, what they run runs, minutes add up, and the key is right and apart."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from vnmi_lab.checks import PlaceFlag, Prediction, SetBits
from vnmi_lab.checks.course import COURSE, Lab
from vnmi_lab.checks.practice import problem, problems, sheet
from vnmi_lab.checks.prediction import lettered
from vnmi_lab.compare import Row, measure
from vnmi_lab.scenario import Scenario
from vnmi_lab.words import place

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "instructor"
OWN = ("README.md", "plans.md", "offline.md", *(f"lab-{lab.number}.md" for lab in COURSE))
KEY: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / "instructor-key" / "key.toml").read_text(encoding="utf-8"))
ASKED = {asked.id: asked for lab in COURSE for asked in lab.predictions}
EXERCISES = {exercise.id: exercise for lab in COURSE for exercise in lab.exercises}

CODE = re.compile(r"`([^`]+)`")
NAMED = re.compile(r"(lab\d\d\.\w+)(?: ([A-H])| spot (\d)| bit (\d+)|: (.+))?")
MINUTES = re.compile(r"^\| (\d+) \|", re.MULTILINE)
QUESTION = re.compile(r"^### Question (\d\d-\d)\n(.*?)(?=^###? |\Z)", re.MULTILINE | re.DOTALL)
VOTE = re.compile(r"Expected first vote \(an estimate, not measured\): (.+)\.")


@cache
def page(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    return text.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]


def questions(lab: Lab) -> dict[str, str]:
    return dict(QUESTION.findall(page(f"lab-{lab.number}.md")))


@cache
def row(text: str) -> Row:
    return measure(Scenario.parse(text))


def problem_with(name: str) -> str | None:
    """Say what is wrong with a prediction's or an exercise's name and what stands behind it; None if it is right."""
    found = NAMED.fullmatch(name)
    if found is None:
        return "unreadable"
    id_, letter, spot, bit, wrong = found.groups()
    asked, exercise = ASKED.get(id_), EXERCISES.get(id_)
    if isinstance(asked, Prediction) and asked.answer() == letter:
        return "this is the right option"
    known = {
        "no such exercise or wrong answer": wrong is None
        or (exercise and wrong in {one.name for one in exercise.wrong}),
        "no such option": letter is None or (isinstance(asked, Prediction) and letter in dict(lettered(asked.options))),
        "no such spot": spot is None or (isinstance(asked, PlaceFlag) and 1 <= int(spot) <= len(asked.spots)),
        "no such bit": bit is None or (isinstance(asked, SetBits) and int(bit) in {one.number for one in asked.bits}),
        "no such prediction or exercise": asked or exercise,
    }
    return next((why for why, is_so in known.items() if not is_so), None)


@pytest.mark.parametrize("name", OWN)
def test_what_a_page_names_exists(name: str) -> None:
    names = [code for code in CODE.findall(page(name)) if NAMED.match(code)]
    assert [(code, why) for code in names if (why := problem_with(code))] == []
    numbers = re.findall(r"PI (\d\d-\d)((?:, \d\d-\d)*)", page(name))
    asked = {number for first, more in numbers for number in (first, *re.findall(r"\d\d-\d", more))}
    assert asked <= KEY.keys()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("lab01.ten_mor", "no such prediction or exercise"),
        ("lab01.ten_more B", "this is the right option"),
        ("lab01.ten_more E", "no such option"),
        ("lab01.two_runs: nowhere", "no such exercise or wrong answer"),
        ("lab04.behind_the_iret spot 9", "no such spot"),
        ("lab04.written_back bit 13", "no such bit"),
    ],
)
def test_a_name_that_does_not_exist_is_noticed(name: str, why: str) -> None:
    assert problem_with(name) == why


@pytest.mark.parametrize("name", OWN)
def test_what_a_page_runs_runs(name: str) -> None:
    texts = [code for code in CODE.findall(page(name)) if code.startswith("v1~")]
    texts += re.findall(r'show\("(v1~[^"]+)"', page(name))
    assert texts or not name.startswith("lab-")
    for text in texts:
        ran = row(text)
        assert ran.arrived or ran.ended == "FAIL_ENTRY", text


@pytest.mark.parametrize("lab", COURSE, ids=lambda lab: lab.number)
def test_a_lab_has_its_page_with_everything_on_it(lab: Lab) -> None:
    text = page(f"lab-{lab.number}.md")
    assert text.startswith(f"# Lab {lab.number}: {lab.title}\n")
    assert f"**Time:** {lab.minutes} minutes. Notebook: `{lab.notebook}`." in text
    assert sum(map(int, MINUTES.findall(section(text, "Timing")))) == lab.minutes
    assert len(re.findall(r"^- ", section(text, "Goals"), re.MULTILINE)) >= 3
    detected = re.findall(r"^\|[^|]+\| `(lab\d\d\.[^|]+)` \|", section(text, "Misconceptions"), re.MULTILINE)
    assert len(detected) >= 3
    assert all(re.search(r" [A-H]$| spot \d$| bit \d+$|: ", name) for name in detected), "which answer gives it away?"
    assert "| `v1~" in section(text, "To show live")
    assert section(text, "To discuss").count("\n1. ") == len(KEY[f"{lab.number}-discussion"]["notes"]) >= 2


@pytest.mark.parametrize("lab", COURSE, ids=lambda lab: lab.number)
def test_every_prediction_of_a_lab_has_its_place_in_the_timing(lab: Lab) -> None:
    timing = section(page(f"lab-{lab.number}.md"), "Timing")
    ids = [*(asked.id for asked in lab.predictions), *(exercise.id for exercise in lab.exercises)]
    missing = [id_ for id_ in ids if f"`{id_}`" not in timing]
    assert missing == [], f"say in docs/instructor/lab-{lab.number}.md, under Timing, when it is asked"


@pytest.mark.parametrize("lab", COURSE, ids=lambda lab: lab.number)
def test_the_key_answers_what_the_room_is_asked_and_the_machine_agrees(lab: Lab) -> None:
    asked = questions(lab)
    assert len(asked) >= 2
    for number, text in asked.items():
        options = dict(re.findall(r"^- ([A-D])\. (.+)$", text, re.MULTILINE))
        (vote,) = VOTE.findall(text)
        expected = dict(re.findall(r"([A-D]) (\d+) %", vote))
        assert expected.keys() == options.keys()
        assert sum(map(int, expected.values())) == 100
        assert re.findall(r"^- \*\*(.+):\*\*", text, re.MULTILINE) == ["Most are right", "Most are wrong", "Split"]
        answer = KEY[number]
        assert answer["answer"] in options
        assert answer["why"] not in text
        (scenario,) = re.findall(r"^Scenario: `(v1~.+)`$", text, re.MULTILINE)
        assert answer["shows"]
        for field, value in answer["shows"].items():
            assert shown(scenario, field) == value, (number, field)


def shown(scenario: str, field: str) -> object:
    """Return what the machine makes of a field of the key: a count, or the labels to which handlers return."""
    if field != "returns":
        return getattr(row(scenario), field)
    guest = Scenario.parse(scenario).source.guest()
    return [place(entry.returns_to, guest).strip("'") for entry in row(scenario).entered if entry.vector == 2]


def test_the_plans_add_up() -> None:
    plans = re.split(r"^## ", page("plans.md"), flags=re.MULTILINE)[1:]
    sums = {plan.partition("\n")[0]: sum(map(int, MINUTES.findall(plan))) for plan in plans}
    assert sums == {"50 minutes": 50, "90 minutes": 90, "180 minutes": 180}


def test_the_key_has_nothing_beyond_the_pages() -> None:
    asked = {number for lab in COURSE for number in questions(lab)}
    assert {name for name in KEY if re.fullmatch(r"\d\d-\d", name)} == asked


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in KEY if name.startswith("variant-")])
def test_the_variants_have_the_answers_that_the_key_says(name: str) -> None:
    variant = KEY[name]
    level, seed, answers = variant["level"], variant["seed"], variant["answers"]
    assert [problem(seed + at, level).asked.answer() for at in range(len(answers))] == answers


def test_a_variant_can_be_printed_without_its_answers() -> None:
    variant = KEY["variant-1A"]
    made = problems(len(variant["answers"]), variant["seed"], variant["level"])
    assert "the machine does this" not in sheet(made)


# --- apart


def secrets() -> list[str]:
    """Return sentences of the key that stand nowhere else."""
    told = [entry["why"] for entry in KEY.values() if "why" in entry]
    return told + [note for entry in KEY.values() for note in entry.get("notes", ())]


def test_no_notebook_and_no_page_has_anything_of_the_key() -> None:
    notebooks = [
        "".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
        for path in sorted((ROOT / "labs").glob("*.ipynb"))
    ]
    texts = [*notebooks, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))]
    assert len(notebooks) == len(COURSE)
    assert len(secrets()) >= 40
    assert [secret for secret in secrets() if any(secret in text for text in texts)] == []


def test_the_site_leaves_the_key_out() -> None:
    assert "/instructor/instructor-key/" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_wheel_has_nothing_of_the_key(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        assert not [name for name in files.namelist() if "instructor" in name or name.endswith("key.toml")]
        whole = b"".join(files.read(name) for name in files.namelist())
    assert [secret for secret in secrets() if secret.encode() in whole] == []
