"""Views alone on a page, each with a model in the place of the kernel's: no JupyterLab and no kernel."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from vnmi_lab.timeline import asset, script

Scheme = Literal["light", "dark"]

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>a view</title>
<style>%s</style><body%s><main></main>
<script type="module">
const { default: view } = await import("data:text/javascript;base64,%s");
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
  close.push(view.render({ model, el }));
}
</script>"""


class Alone:
    """A page of views; ``view(n)`` is the n-th, ``root`` the first. What the page complains about is in ``errors``."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        page.on("request", lambda request: self.errors.append(request.url) if request.url.startswith("http") else None)
        self.root = self.view()

    def view(self, number: int = 0) -> Locator:
        return self.page.locator(".vnmi-player").nth(number)

    def stage(self, number: int = 0) -> Locator:
        """What takes the keys."""
        return self.view(number).locator(".vl-scroll")

    def at(self, cursor: int, number: int = 0) -> None:
        """Expect a view to stand at a place."""
        expect(self.view(number)).to_have_attribute("data-cursor", str(cursor))

    def press(self, *keys: str) -> None:
        """Press keys while the first stage has the focus."""
        for key in keys:
            self.stage().press(key)

    def click(self, name: str) -> None:
        """Press a button of the first view."""
        self.root.get_by_role("button", name=name).click()

    def saved(self, cursor: int) -> int:
        """How often the kernel was told, once it knows of ``cursor``."""
        self.page.wait_for_function(f"() => models[0].get('cursor') === {cursor}")
        return int(self.page.evaluate("() => models[0].saved"))

    def listeners(self) -> int:
        """Close the first view and count what still listens to its model."""
        self.page.evaluate("() => close[0]()")
        return int(self.page.evaluate("() => Object.values(models[0].heard).flat().length"))

    def cut_off(self, width: int) -> list[str]:
        """Give the names of the buttons that do not lie wholly on the page."""
        found = []
        for button in self.root.get_by_role("button").all():
            box = button.bounding_box()
            if box is not None and (box["x"] < 0 or box["x"] + box["width"] > width):
                found.append(str(button.get_attribute("aria-label")))
        return found

    def is_wider_than(self, width: int) -> bool:
        """Say whether the page has to be scrolled sideways."""
        return bool(self.page.evaluate("() => document.documentElement.scrollWidth") > width)


class OpenView:
    """Opens a page with a view for each model's traits."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.browser, self.folder = browser, folder
        self.pages: list[Alone] = []

    def __call__(  # noqa: PLR0913 - a page and its reader, by name at every call
        self,
        entry: str,
        *traits: Mapping[str, Any],
        css: tuple[str, ...] = ("player.css",),
        width: int = 1280,
        scheme: Scheme = "light",
        jupyter: str = "",
        theme: str = "",
        still: bool = False,
    ) -> Alone:
        """Open the views of a bundle entry, and wait until they are drawn."""
        body = f' data-jp-theme-light="{jupyter}"' if jupyter else ""
        body += f' data-jp-theme-name="{theme}"' if theme else ""
        module = b64encode(script(entry).encode()).decode()
        text = json.dumps(traits).replace("<", "\\u003c")
        file = self.folder / "page.html"
        file.write_text(PAGE % ("".join(map(asset, css)), body, module, text), encoding="utf-8")
        viewport: ViewportSize = {"width": width, "height": 900}
        made = self.browser.new_context(
            viewport=viewport, color_scheme=scheme, reduced_motion="reduce" if still else "no-preference"
        )
        shown = Alone(made.new_page())
        self.pages.append(shown)
        shown.page.goto(file.as_uri())
        for number in range(len(traits)):
            expect(shown.view(number)).to_have_attribute("data-ready", "true")
        return shown


@contextmanager
def views(browser: Browser, folder: Path) -> Iterator[OpenView]:
    """Give what opens views; afterwards no page may have complained."""
    opened = OpenView(browser, folder)
    yield opened
    for shown in opened.pages:
        assert shown.errors == []
        shown.page.context.close()
