"""What a class did, counted from files that learners could have written by hand."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.submissions import LABS, good, submission, wrong
from vnmi_lab.checks import lab01
from vnmi_lab.checks.prediction import lettered
from vnmi_lab.checks.saved import Saved
from vnmi_lab.checks.text import prose
from vnmi_lab.cli import main
from vnmi_lab.grading import classpage
from vnmi_lab.grading.classroom import OUTCOMES, as_text, count

LAB = LABS["01"]
NAMES = [exercise.id for exercise in LAB.exercises]
CHOICE = lab01.interrupts_off
WRONG = next(letter for letter, _option in lettered(CHOICE.options) if letter != CHOICE.answer())
NASTY = "<script>alert(1)</script>\x1b[2J=cmd()"


def checked(folder: Path, name: str, *learners: tuple[str, ...], answers: tuple[object, ...] = ()) -> Path:
    """Write what ``check --json`` would: a notebook for each learner, with these outcomes of Lab 01."""
    notebooks = [
        {
            "notebook": f"{name}.ipynb",
            "labs": ["01"],
            "exercises": [
                {"exercise": id_, "outcome": outcome, "message": f"{NASTY} {id_}"}
                for id_, outcome in zip(NAMES, outcomes, strict=True)
            ],
            "predictions": [{"prediction": CHOICE.id, "answer": answer, "said": "right"} for answer in answers],
        }
        for outcomes in learners
    ]
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"format": "vnmi-lab check", "version": 1, "notebooks": notebooks}))
    return path


def test_outcomes_and_answers_of_all_files_are_counted(tmp_path: Path) -> None:
    some = checked(
        tmp_path, "some", ("correct", "incorrect", "raised"), ("correct", "correct", "not attempted"), answers=("A",)
    )
    more = checked(tmp_path, "more", ("incorrect", "incorrect", "not attempted"), answers=(None,))
    learner = Saved(tmp_path / "progress.json")
    learner.note(NAMES[0], "check", {"outcome": "incorrect"})
    learner.note(NAMES[0], "check", {"outcome": "correct"})
    learner.note(NAMES[1], "check", {"outcome": "raised"})
    learner.note(CHOICE.id, "choose", {"answer": "B", "said": "right"})
    learner.note(CHOICE.id, "choose", {"answer": "A", "said": "right"})
    counted, problems = count([some, more, tmp_path / "progress.json"])
    assert problems == []
    assert counted.learners == 4
    found = [[counted.exercises[name].outcomes[outcome] for outcome in OUTCOMES] for name in NAMES]
    assert found == [[3, 1, 0, 0], [1, 2, 1, 0], [0, 0, 1, 3]]
    assert counted.predictions[CHOICE.id].answers == {"A": 2, "B": 1, None: 1}, (
        "the first answer is the one that stands"
    )
    said = [(one.text[:2], one.times, one.is_right) for one in counted.predictions[CHOICE.id].said()]
    answer = f"{CHOICE.answer()}."
    wanted = [("A.", 2), ("B.", 1), ("C.", 0), ("D.", 0), ("sk", 1)]
    assert said == [(text, times, text == answer) for text, times in wanted], "not what the files claim"


BAD = [
    ("nothing", "", "not JSON"),
    ("deep", "[" * 100_000, "not JSON"),
    ("list", "[1]", "neither a progress file nor what vnmi-lab check --json writes: format 'None'"),
    ("other", '{"format": "\\u001b[2J"}', "format '\N{REPLACEMENT CHARACTER}[2J'"),
    ("newer", '{"format": "vnmi-lab check", "version": 2}', "version '2', and this vnmi_lab reads version 1"),
    ("half", '{"format": "vnmi-lab check", "version": 1, "notebooks": [{}]}', "not as vnmi-lab check --json writes it"),
    ("text", '{"format": "vnmi-lab check", "version": 1, "notebooks": ["a"]}', "not as vnmi-lab check --json"),
    ("progress", '{"format": "vnmi_lab progress", "version": 1, "notes": [1]}', "note 1 is no object"),
]


def test_a_bad_file_gets_a_line_and_the_others_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"{name}.json" for name, _text, _said in BAD]
    for path, (_name, text, _said) in zip(paths, BAD, strict=True):
        path.write_text(text)
    fine = checked(tmp_path, "fine", ("correct", "correct", "correct"))
    files = map(str, [*paths, tmp_path / "absent.json", fine])
    assert main(["class-report", *files]) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == len(BAD) + 1
    for line, (name, _text, said) in zip(lines, BAD, strict=False):
        assert line.startswith(f"vnmi-lab class-report: {tmp_path / name}.json: ")
        assert said in line
    assert lines[-1].endswith("absent.json: No such file or directory")
    assert out.startswith("1 learners' files\n  lab01.two_runs: 1 correct, 0 incorrect")
    assert main(["class-report", str(paths[0])]) == 2


def test_outcomes_exercises_and_answers_that_cannot_be_are_not_counted(tmp_path: Path) -> None:
    bad = checked(tmp_path, "bad", ("correct", "correct", "brilliant"))
    assert count([bad])[1] == [f"{bad}: not as vnmi-lab check --json writes it"]
    odd = checked(tmp_path, "odd", ("correct",) * 3, answers=("Z", NASTY, 10**30, True))
    counted, problems = count([odd])
    assert (problems, counted.predictions[CHOICE.id].learners) == ([], 0)


class Seen(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scopes = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.scopes += tag == "th" and "scope" in dict(attrs)


def test_the_page_is_whole_escaped_and_ordered(tmp_path: Path) -> None:
    path = checked(tmp_path, "some", ("incorrect",) * 3, answers=(WRONG,))
    html = classpage.page(count([path])[0])
    assert "alert(1)" in html
    assert "<script" not in html
    assert not re.search(r"""(src|href)=|url\(|@import""", html)
    assert f'content="{classpage.POLICY}"' in html
    seen = Seen()
    seen.feed(html)
    assert seen.scopes == seen.tags.count("th") > 10
    assert seen.tags.count("caption") == seen.tags.count("table") > 1
    assert [tag for tag in seen.tags if tag in ("h1", "h2", "h3")][:3] == ["h1", "h2", "h3"]
    why = next(line.why for line in CHOICE.truth().lines if line.lead == f"{WRONG}.")
    assert html.count(prose(why)) == 2, "the misconception behind the wrong option, in the list and in the table"


def test_the_csv_has_every_count_and_no_formula(tmp_path: Path) -> None:
    path = checked(tmp_path, "some", ("correct", "raised", "incorrect"), answers=("A",))
    assert main(["class-report", str(path), "--csv", str(tmp_path / "class.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "class.csv").read_text(encoding="utf-8").splitlines()))
    exercises = [row for row in rows if row["kind"] == "exercise"]
    assert [(row["id"], row["what"]) for row in exercises] == [
        (name, outcome) for name in NAMES for outcome in OUTCOMES
    ]
    assert [row["count"] for row in exercises] == list("1000" + "0010" + "0100")
    assert not any(value[:1] in "=+-@\t" for row in rows for value in row.values() if value)


def test_the_summary_has_nothing_that_a_terminal_acts_on(tmp_path: Path) -> None:
    assert "\x1b" not in as_text(count([checked(tmp_path, "some", ("incorrect",) * 3, answers=("A", "B"))])[0])


@pytest.mark.slow
def test_from_notebooks_to_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handed_in = [submission(tmp_path / name, LAB, cells) for name, cells in (("a", good(LAB)), ("b", wrong(LAB)))]
    assert main(["check", "--json", *map(str, handed_in)]) == 1
    (tmp_path / "class.json").write_text(capsys.readouterr().out)
    page = tmp_path / "class.html"
    assert main(["class-report", str(tmp_path / "class.json"), "--html", str(page)]) == 0
    assert "1 of 2 of those who answered" in page.read_text(encoding="utf-8")
