"""A hook of mkdocs: every page of docs/ that mkdocs.yml does not name stands at the end of the navigation."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

SECTIONS = {"labs": "The labs, to read", "instructor": "For instructors", "claims": "Claims"}
"""The heading for what stands in a folder of docs/; pages of no such folder come under ``OTHERS``."""
OTHERS = "The course"


def on_config(config: MutableMapping[str, Any]) -> None:
    """Complete the navigation; mkdocs calls this before it looks at any page."""
    docs = Path(config["docs_dir"])
    named = set(_paths(config["nav"]))
    found = [*docs.rglob("*.md"), *(docs / "labs").glob("*.html")]
    sections: dict[str, list[str | dict[str, str]]] = {}
    for path in sorted(found):
        place = path.relative_to(docs)
        if place.as_posix() not in named:
            section = sections.setdefault(SECTIONS.get(place.parts[0], OTHERS), [])
            is_page = path.suffix == ".md"  # a page has a title of its own; a lab's is in its name
            section.append(place.as_posix() if is_page else {title(path.stem): place.as_posix()})
    config["nav"] += [{heading: pages} for heading, pages in sections.items()]


def title(stem: str) -> str:
    """Return what a lab is called where only the name of its file is known."""
    number, _, words = stem.partition("_")
    return f"{number} {words.replace('_', ' ')}"


def _paths(nav: Any) -> Iterator[str]:  # noqa: ANN401 - nested lists and dicts, as YAML has them
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from _paths(part)
