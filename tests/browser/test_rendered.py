"""The labs as pages: executed as a learner gets them, without a widget, a kernel or the network; and on paper."""

from __future__ import annotations

import re
import runpy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.axe import findings

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
LABS = sorted((ROOT / "labs").glob("[0-9][0-9]_*.ipynb"))
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "render_labs.py"))


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
@pytest.mark.filterwarnings("ignore:Kernel is running over TCP")
def test_a_lab_reads_without_a_kernel_and_prints(lab: Path, browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / f"{lab.stem}.html"
    path.write_text(TOOL["render"](lab), encoding="utf-8")
    assert path.stat().st_size < 1_500_000
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    pictures = page.locator("figure img")
    assert pictures.count() >= 3  # lab 00 is short
    assert page.evaluate("() => [...document.images].every((image) => image.complete && image.naturalWidth > 200)")
    assert page.evaluate("() => [...document.images].every((image) => image.alt.length > 20)")
    text = page.locator("body").inner_text()
    assert not re.search(r"Error displaying|Traceback|model_id|widget-view", text)
    assert page.locator("script").count() == 0
    expect(page.get_by_text("The steps as a table").first).to_be_visible()
    expect(page.get_by_text("Predict.").first).to_be_visible()
    expect(page.get_by_text("What the machine does").first).to_be_visible()
    checks = import_module(f"vnmi_lab.checks.lab{lab.stem[:2]}")
    outcomes = page.locator("[data-outcome]").evaluate_all("all => all.map((one) => one.dataset.outcome)")
    assert outcomes == ["not attempted"] * len(checks.EXERCISES)
    assert page.get_by_text("What the machine does").count() == len(checks.PREDICTIONS)
    assert findings(page, "figure") == []
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf())) > 1
    assert asked == []
    page.context.close()


def test_the_published_pages_are_made_from_the_labs_as_they_are() -> None:
    folder = ROOT / "docs" / "labs"
    made = {lab.stem: f'name="made-from" content="{TOOL["fingerprint"](lab)}"' for lab in LABS}
    stale = [name for name, said in made.items() if said not in (folder / f"{name}.html").read_text(encoding="utf-8")]
    assert stale == [], "run: make docs"
