"""Players alone on a page, as many as a test wants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from playwright.sync_api import Browser

from tests.browser.alone import Alone, views
from vnmi_lab.timeline import Payload


class Open(Protocol):
    """Opens a page with one player for each payload; ``options`` are those of ``alone.OpenView``."""

    def __call__(self, *payloads: Payload, links: tuple[str, ...] = (), **options: Any) -> Alone: ...  # noqa: ANN401


@contextmanager
def players(browser: Browser, folder: Path) -> Iterator[Open]:
    """Give what opens players; afterwards no page may have complained."""
    with views(browser, folder) as view:

        def open_(*payloads: Payload, links: tuple[str, ...] = (), **options: Any) -> Alone:  # noqa: ANN401
            names = (*links, *[""] * (len(payloads) - len(links)))
            traits = [
                {"payload": payload, "cursor": 0, "visible_until": None, "link": link}
                for payload, link in zip(payloads, names, strict=True)
            ]
            return view("timeline", *traits, **options)

        yield open_
