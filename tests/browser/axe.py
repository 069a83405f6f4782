"""What axe-core says against a page or a part of one, in lines that name the rule and the place."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

GRAVE = {"serious", "critical"}
FOREIGN = {
    "bypass": "a page of a test has nothing to skip",
    "landmark-one-main": "the page around a view is not ours",
    "page-has-heading-one": "the same",
    "region": "the same",
}
"""Rules about the page around a view, which is JupyterLab's or a test's."""

FINISH = """() => document.getAnimations()
  .filter((one) => one.effect.getComputedTiming().endTime < Infinity)
  .forEach((one) => one.finish())"""


def findings(page: Page, part: str | None = None) -> list[str]:
    """Give the serious and critical findings within the elements that a selector names; ``ValueError`` for none."""
    if part is not None and not page.locator(part).count():
        raise ValueError(f"nothing on the page is {part}")
    settle(page)
    options = {"resultTypes": ["violations"], "rules": {rule: {"enabled": False} for rule in FOREIGN}}
    found: list[dict[str, Any]] = Axe().run(page, part, options).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['target'][0]}: {node['failureSummary']}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


def settle(page: Page) -> None:
    """Bring transitions to their end: a colour half-way is no colour of ours.

    Waiting for it could be for ever: where JupyterLab does not draw a cell that is off the screen, they stand still.
    """
    page.evaluate(FINISH)
