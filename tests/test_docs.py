"""The pages in docs/: their examples say what they say, their links lead somewhere, and the site asks for nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tools import badges
from tools.examples import ELSEWHERE, pages, rebuilt
from vnmi_lab.cli import COMMANDS

ROOT = Path(__file__).parent.parent
EXAMPLES = pages()


@pytest.mark.parametrize("page", EXAMPLES, ids=[path.relative_to(ROOT / "docs").as_posix() for path in EXAMPLES])
def test_the_examples_of_a_page_say_what_stands_there(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = page.read_text(encoding="utf-8")
    assert rebuilt(text) == text, "python tools/examples.py writes it"


def test_every_page_with_code_is_run_by_something() -> None:
    code = re.compile(r"^```(python|pycon|console|sh|bash|shell)", re.MULTILINE)
    fenced = {path for path in (ROOT / "docs").rglob("*.md") if code.search(path.read_text(encoding="utf-8"))}
    assert {path.name for path in fenced - set(EXAMPLES)} <= ELSEWHERE.keys()
    assert {"python.md", "command-line.md", "quick-start.md"} <= {path.name for path in EXAMPLES}


def test_a_wrong_example_is_noticed() -> None:
    assert rebuilt("```pycon\n>>> 1 + 1\n3\n```\n") == "```pycon\n>>> 1 + 1\n2\n```\n"
    assert "did you mean 'vnmi'?" in rebuilt("```console\n$ vnmi-lab run one --policy vmni\n```\n")
    with pytest.raises(ZeroDivisionError):
        rebuilt("```python\n1 / 0\n```\n")
    with pytest.raises(ValueError, match="may start with vnmi-lab or cat, not with 'rm'"):
        rebuilt("```console\n$ rm -r /\n```\n")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_links_of_a_page_outside_the_site_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text())
    assert links
    missing = [link for link in links if not urlsplit(link).scheme and not (ROOT / link.partition("#")[0]).exists()]
    assert missing == []


def test_the_readme_has_every_lab_with_a_badge_that_opens_it_on_binder() -> None:
    readme = badges.README.read_text(encoding="utf-8")
    (block,) = badges.BLOCK.findall(readme)
    assert block == badges.table(badges.repository()), "make badges"
    found = re.findall(r"https://mybinder\.org/v2/gh/([^/]+/[^/]+)/HEAD\?urlpath=(\S+?)\)", block)
    assert {where for where, _ in found} == {badges.repository()}
    opened = [unquote(path).removeprefix("lab/tree/") for _, path in found]
    assert opened == sorted(f"labs/{path.name}" for path in (ROOT / "labs").glob("*.ipynb"))
    assert "OWNER/REPOSITORY" not in badges.table("somebody/something")


def test_every_command_is_on_its_page() -> None:
    page = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([a-z-]+)", page, re.MULTILINE)) == sorted(COMMANDS)


class Page(HTMLParser):
    """What a page loads, where it links to, and the names that a link can end in."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.names |= {attributes[name] for name in ("id", "name") if name in attributes}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag == "link" and attributes.get("rel") in {"stylesheet", "icon", "preload", "preconnect"}:
            self.loads.append(attributes["href"])
        elif "src" in attributes and not attributes["src"].startswith("data:"):
            self.loads.append(attributes["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; any warning of mkdocs is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    found = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    bad = []
    for path, page in found.items():
        assert not [address for address in page.loads if urlsplit(address).scheme or address.startswith("//")]
        for address in page.links + page.loads:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = found[target].names if target in found else None
            named = {parts.fragment, unquote(parts.fragment)}  # a browser tries both
            if not target.exists() or (parts.fragment and known is not None and not named & known):
                bad.append(f"{path.relative_to(site)}: {address}")
    assert bad == []


@pytest.mark.slow
def test_the_instructors_key_is_not_in_the_site(site: Path) -> None:
    assert (ROOT / "docs/instructor/instructor-key/key.toml").is_file()
    assert not list(site.rglob("key*")), "mkdocs.yml leaves out its folder"


@pytest.mark.slow
def test_every_page_is_reached_from_the_first(site: Path) -> None:
    reached, new = set[Path](), {site / "index.html"}
    while new:
        reached |= new
        links = {(path.parent / urlsplit(link).path).resolve() for path in new for link in Page(path).links}
        new = {path for path in links if path.suffix == ".html" and path.exists()} - reached
    assert {path for path in site.rglob("*.html") if path.name != "404.html"} <= reached
