"""Players alone on a page, as many as a test wants: no JupyterLab and no kernel."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from vnmi_lab.timeline import Payload, asset, script

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>player</title>
<style>%s</style><body%s><main></main>
<script type="module">
const { default: player } = await import("data:text/javascript;base64,%s");
window.models = []; window.close = []; window.stolen = [];
document.addEventListener("keydown", (event) => window.stolen.push(event.key));
for (const traits of %s) {
  const heard = {};
  const model = {
    get: (name) => traits[name],
    set: (name, value) => {
      if (traits[name] === value) return;
      traits[name] = value;
      (heard[`change:${name}`] || []).forEach((action) => action());
    },
    on: (name, action) => (heard[name] ??= []).push(action),
    off: (name, action) => { heard[name] = heard[name].filter((other) => other !== action); },
    save_changes: () => { model.saved = (model.saved || 0) + 1; },
    heard,
  };
  const el = document.createElement("div");
  document.querySelector("main").append(el);
  models.push(model);
  close.push(player.render({ model, el }));
}
</script>"""


class Shown:
    """A page with players; ``player(n)`` is the n-th of them."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        page.on("request", lambda request: self.errors.append(request.url) if request.url.startswith("http") else None)

    def player(self, number: int = 0) -> Locator:
        return self.page.locator(".vnmi-player").nth(number)

    def stage(self, number: int = 0) -> Locator:
        return self.player(number).locator(".vl-scroll")

    def at(self, cursor: int, number: int = 0) -> None:
        expect(self.player(number)).to_have_attribute("data-cursor", str(cursor))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.stage().press(key)

    def click(self, name: str) -> None:
        self.player().get_by_role("button", name=name).click()

    def saved(self, cursor: int) -> int:
        """How often the kernel was told, once it knows of ``cursor``."""
        self.page.wait_for_function(f"() => models[0].get('cursor') === {cursor}")
        return int(self.page.evaluate("() => models[0].saved"))


class Open:
    """Opens a page with one player for each payload."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.browser, self.folder = browser, folder
        self.pages: list[Shown] = []

    def __call__(
        self,
        *payloads: Payload,
        width: int = 1280,
        jupyter: str = "",
        scheme: Literal["light", "dark"] = "light",
        motion: Literal["reduce", "no-preference"] = "no-preference",
        theme: str = "",
        links: tuple[str, ...] = (),
    ) -> Shown:
        traits = [{"payload": payload, "cursor": 0, "visible_until": None, "link": ""} for payload in payloads]
        for trait, link in zip(traits, links, strict=False):
            trait["link"] = link
        body = f' data-jp-theme-light="{jupyter}"' if jupyter else ""
        body += f' data-jp-theme-name="{theme}"' if theme else ""
        module = b64encode(script("timeline").encode()).decode()
        page = PAGE % (asset("player.css"), body, module, json.dumps(traits).replace("<", "\\u003c"))
        file = self.folder / "page.html"
        file.write_text(page, encoding="utf-8")
        viewport: ViewportSize = {"width": width, "height": 900}
        made = self.browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion=motion)
        shown = Shown(made.new_page())
        self.pages.append(shown)
        shown.page.goto(file.as_uri())
        for number in range(len(payloads)):
            expect(shown.player(number)).to_have_attribute("data-ready", "true")
        return shown


@contextmanager
def players(browser: Browser, folder: Path) -> Iterator[Open]:
    """Give what opens players; afterwards no page may have complained."""
    opened = Open(browser, folder)
    yield opened
    for shown in opened.pages:
        assert shown.errors == []
        shown.page.context.close()
