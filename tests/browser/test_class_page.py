"""The page of a class as a teacher sees it: readable in both colour schemes, on a narrow screen, with no network."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.axe import findings
from vnmi_lab.checks import lab01, lab04
from vnmi_lab.checks.prediction import Prediction, lettered
from vnmi_lab.grading.classpage import page as class_page
from vnmi_lab.grading.classroom import OUTCOMES, Class, Work

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def a_class() -> Class:
    """Return a class of thirty, of whom everyone says something else."""
    counted = Class()
    asked = [one for module in (lab01, lab04) for one in module.PREDICTIONS if isinstance(one, Prediction)]
    for learner in range(30):
        answers: dict[str, str | int | None] = {}
        for number, one in enumerate(asked):
            letters = [None, *(letter for letter, _option in lettered(one.options))]
            answers[one.id] = letters[(learner * (number + 1)) % len(letters)]
        exercises = [one.id for module in (lab01, lab04) for one in module.EXERCISES]
        outcomes = {one: OUTCOMES[learner * (number + 2) % 7 % 4] for number, one in enumerate(exercises)}
        messages = dict.fromkeys(exercises, "The guest took 1 NMI, and `it` takes two to nest: " + "long " * 12)
        counted.add(Work(frozenset({"01", "04"}), outcomes, messages, answers))
    return counted


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_class(browser: Browser, tmp_path: Path, scheme: str) -> None:
    file = tmp_path / "class.html"
    file.write_text(class_page(a_class()), encoding="utf-8")
    page = browser.new_page(
        color_scheme="dark" if scheme == "dark" else "light", viewport={"width": 1100, "height": 900}
    )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert findings(page) == []
    page.set_viewport_size({"width": 380, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380, "only a table scrolls, in its own frame"
    assert asked == [file.as_uri()]
    assert page.locator("h1").count() == 1
    page.close()
