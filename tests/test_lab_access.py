"""The labs as somebody reads them who does not see them: headings, alternative texts, links and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import jupytext
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
LABS = sorted((ROOT / "labs").glob("[0-9][0-9]_*.py"))
MARKDOWN = MarkdownIt("commonmark").enable("table")
LONG_ENOUGH = 20
"""Letters that a picture's alternative text has at least: a name alone does not say what is to be seen."""
SAYS_NOTHING = {"here", "link", "this", "click here", "this page", "read more", "more", "see", "notebook"}
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def cells(path: Path) -> list[str]:
    """Return the markdown of a lab, a cell each."""
    return [cell.source for cell in jupytext.read(path, fmt="py:percent").cells if cell.cell_type == "markdown"]


def faults(notebook: Sequence[str], folder: Path) -> list[str]:
    """Return what is wrong with the markdown cells of a notebook; their links start at ``folder``."""
    tokens = [MARKDOWN.parse(COMMENT.sub("", cell)) for cell in notebook]
    every = [token for cell in tokens for token in cell]
    return [
        *_headings(every),
        *(fault for cell in tokens for fault in _tables(cell)),
        *(fault for cell in tokens for fault in _inline(cell, folder)),
        *(
            f"raw HTML: {token.content.strip()}"
            for token in every
            if token.type == "html_block" and token.content.strip()
        ),
    ]


def _headings(tokens: Sequence[Token]) -> Iterator[str]:
    found = [
        (int(token.tag[1]), after.content.strip()) for token, after in pairwise(tokens) if token.type == "heading_open"
    ]
    levels = [level for level, _text in found]
    if levels[:1] != [1] or levels.count(1) != 1:
        yield f"there must be one first heading, and first: {levels}"
    yield from (f"level {before} is followed by level {now}" for before, now in pairwise(levels) if now > before + 1)
    yield from ("a heading is empty" for _level, text in found if not text)
    texts = [text for _level, text in found]
    yield from (f"two headings are {text!r}" for text in sorted(set(texts)) if texts.count(text) > 1)


def _tables(tokens: Sequence[Token]) -> Iterator[str]:
    for number, token in enumerate(tokens):
        if token.type == "th_open" and not tokens[number + 1].content.strip():
            yield "a column of a table has no name"
        if token.type == "table_open" and not any(
            t.type == "tbody_open" for t in tokens[number : _end(tokens, number)]
        ):
            yield "a table has a head only"
        if token.type == "paragraph_open" and tokens[number + 1].content.lstrip().startswith("|"):
            yield f"a table that is none, since its head is missing: {tokens[number + 1].content[:40]!r}"


def _end(tokens: Sequence[Token], start: int) -> int:
    return next(n for n in range(start, len(tokens)) if tokens[n].type == "table_close")


def _inline(tokens: Sequence[Token], folder: Path) -> Iterator[str]:
    for before, token in pairwise(tokens):
        children = token.children or []
        if before.type == "paragraph_open" and [c.type for c in children] == [
            "text",
            "strong_open",
            "text",
            "strong_close",
            "text",
        ]:
            texts = [c.content.strip() for c in children if c.type == "text"]
            if not texts[0] and not texts[2]:
                yield f"bold letters in the place of a heading: {texts[1]!r}"
        for number, child in enumerate(children):
            if child.type == "html_inline":
                yield f"raw HTML: {child.content}"
            if child.type == "image":
                yield from _image(child, folder)
            if child.type == "link_open":
                yield from _link(children[number:], folder)


def _image(image: Token, folder: Path) -> Iterator[str]:
    alt, source = " ".join(image.content.split()), str(image.attrs["src"])
    if len(alt) < LONG_ENOUGH:
        yield f"the alternative text of {source} says too little: {alt!r}"
    yield from _target(source, folder)
    drawn = folder / source
    named = re.compile(r"<title>\S|<svg [^>]*aria-label=\"\S")
    if drawn.suffix == ".svg" and drawn.exists() and not named.search(drawn.read_text(encoding="utf-8")):
        yield f"{source} has no name"


def _link(tokens: Sequence[Token], folder: Path) -> Iterator[str]:
    end = next(n for n, token in enumerate(tokens) if token.type == "link_close")
    text = "".join(token.content for token in tokens[:end]).strip()
    target = str(tokens[0].attrs["href"])
    if text.lower() in SAYS_NOTHING or not re.search(r"\w{3}", text) or re.match(r"https?://", text):
        yield f"a link's text does not say where it leads: {text!r}"
    yield from _target(target, folder)


def _target(target: str, folder: Path) -> Iterator[str]:
    if not re.match(r"[a-z]+:", target) and not (folder / target.partition("#")[0]).exists():
        yield f"there is no {target}"


# --- the labs ---------------------------------------------------------------


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_lab_can_be_read_without_seeing_it(path: Path) -> None:
    assert faults(cells(path), ROOT / "labs") == []


# --- what it notices ---------------------------------------------------------------

GOOD = "# One\n\nText with a [lab about masks](there.txt).\n\n![Two NMIs that arrive one after another](there.txt)\n"
BAD = [
    ("## One", "one first heading"),
    ("# One\n# Two", "one first heading"),
    ("# One\n### Two", "level 1 is followed by level 3"),
    ("# One\n## Two\n## Two", "two headings are 'Two'"),
    ("# One\n##\n", "a heading is empty"),
    ("# One\n![NMI](there.txt)", "says too little: 'NMI'"),
    ("# One\n![](there.txt)", "says too little: ''"),
    ("# One\n![Two NMIs that arrive one after another](gone.svg)", "there is no gone.svg"),
    ("# One\n![Two NMIs that arrive one after another](bare.svg)", "bare.svg has no name"),
    ("# One\nmore [here](there.txt)", "does not say where it leads: 'here'"),
    ("# One\nmore [https://example.org/x](https://example.org/x)", "does not say where it leads"),
    ("# One\nmore [of the masks](gone.ipynb)", "there is no gone.ipynb"),
    ("# One\n\n| | b |\n|---|---|\n| 1 | 2 |", "a column of a table has no name"),
    ("# One\n\n| a | b |\n|---|---|", "a table has a head only"),
    ("# One\n\n| 1 | 2 |\n| 3 | 4 |", "a table that is none"),
    ("# One\n\n**Two**\n\ntext", "bold letters in the place of a heading: 'Two'"),
    ('# One\n\n<img src="there.txt">', "raw HTML: <img"),
    ("# One\n\nso <b>bold</b>", "raw HTML: <b>"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "there.txt").write_text("")
    (tmp_path / "bare.svg").write_text("<svg></svg>")
    return tmp_path


@pytest.mark.parametrize(("text", "fault"), BAD, ids=[fault for _text, fault in BAD])
def test_a_fault_is_noticed(text: str, fault: str, folder: Path) -> None:
    found = faults([text], folder)
    assert [one for one in found if fault in one], found


def test_what_is_well_made_is_left_alone(folder: Path) -> None:
    assert faults([GOOD, "## Two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<!-- claim: 01-01 -->"], folder) == []
