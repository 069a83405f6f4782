"""The table of the course says what is in the labs, and the ledger's page how many claims there are."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from vnmi_lab.checks.course import COURSE, Lab

ROOT = Path(__file__).parent.parent
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "course_table.py"))
ROWS: dict[str, list[str]] = TOOL["standing"]()
LABS = [lab for lab in COURSE if lab.exists]
AGAIN = "run: python tools/course_table.py --keep-seconds"
MOST_SECONDS, MOST_TOGETHER = 10, 90


def by_slug(lab: Lab) -> str:
    return lab.slug


def test_every_lab_has_its_line() -> None:
    assert list(ROWS) == [lab.number for lab in LABS], AGAIN


@pytest.mark.parametrize("lab", LABS, ids=by_slug)
def test_what_can_be_counted_at_once_is_as_it_says(lab: Lab) -> None:
    row = ROWS[lab.number]
    standing = int(row[5].replace(",", ""))
    assert list(TOOL["counted"](lab, standing, row[6]).cells) == row, AGAIN


@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS, ids=by_slug)
def test_the_judge_explores_as_many_states_as_it_says(lab: Lab) -> None:
    assert f"{TOOL['states'](lab):,}" == ROWS[lab.number][5], AGAIN


def test_the_last_line_has_the_sums() -> None:
    page = (ROOT / "docs" / "course.md").read_text(encoding="utf-8")
    rows = [TOOL["counted"](lab, int(ROWS[lab.number][5].replace(",", "")), ROWS[lab.number][6]) for lab in LABS]
    assert TOOL["table"](rows) in page, AGAIN


def test_each_lab_and_the_whole_course_ran_as_fast_as_they_must() -> None:
    took = [float(row[6]) for row in ROWS.values()]
    assert min(took) > 0
    assert max(took) < MOST_SECONDS
    assert sum(took) < MOST_TOGETHER


@pytest.mark.parametrize("lab", LABS, ids=by_slug)
def test_a_lab_says_the_minutes_that_the_course_says(lab: Lab) -> None:
    text = (ROOT / "labs" / f"{lab.number}_{lab.slug}.py").read_text(encoding="utf-8")
    said = re.search(r"\*\*Time:\*\* about (\d+) minutes", text)
    assert said is not None
    assert int(said[1]) == lab.minutes <= 45


def test_the_page_of_the_ledger_has_the_counts_as_they_are() -> None:
    claims: dict[str, Any] = TOOL["CLAIMS"]
    page = claims["PAGE"].read_text(encoding="utf-8")
    assert claims["with_table"](page) == page, "run: python tools/claims.py --write"
    assert claims["table"]() in page
    assert claims["with_table"]("| lab | old |\n| 1 | 2 |\nafter") == f"{claims['table']()}after"
