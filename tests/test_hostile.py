"""Text from anywhere (scenarios, titles, labels, names) stays text, and is refused at once when it is too long."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from tests.decoded import read
from tests.timeline_runs import hostile
from vnmi_lab.guest import Guest
from vnmi_lab.library import find
from vnmi_lab.machine import BareMetal
from vnmi_lab.scenario import LONGEST, MOST_ITEMS, Scenario, ScenarioError
from vnmi_lab.timeline import build, bundle, html, png, svg, table
from vnmi_lab.trace import Trace
from vnmi_lab.widgets import show

EVIL = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "]]></style><svg onload=alert(1)>",
    "\" onload=\"alert(1)' onload='alert(1)",
    "&lt;b&gt; &amp;#60;b> {{7*7}} ${7*7} %s %(x)s",
    "\u202eimn\u200b\u200d\ufeff\u2066left",
    "\x00\x07\x1b[31m\ud800\uffff",
    "<!--", "-->", "javascript:alert(1)", "\u2028\u2029",
)  # fmt: skip
HUGE = "x" * 1_000_000
ALLOWED = {
    *("figure", "img", "details", "summary", "table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("p", "code", "div", "span", "pre", "strong", "em", "b", "br", "ul", "li"),
}


class Tags(HTMLParser):
    """The tags and attributes that a page really has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(str(value))


def run(title: str) -> Trace:
    return Trace(BareMetal(Guest.of("nop\nhlt", tail="hlt")), title)


@pytest.mark.parametrize("text", EVIL)
def test_a_title_stays_a_title(text: str) -> None:
    payload = build(run(text))
    page = Tags(html(payload) + table(payload))
    assert page.tags <= ALLOWED
    assert page.attributes.keys() <= {"alt", "src", "scope"}
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.attributes["src"])
    drawing = ET.fromstring(svg(payload))  # noqa: S314 - our own, and that it is well formed is the question
    assert {node.tag.rpartition("}")[2] for node in drawing.iter()} <= {"svg", "style", "rect", "path", "text"}
    assert not [name for node in drawing.iter() for name in node.attrib if name.startswith("on") or "href" in name]
    assert read(png(payload)).width > 200
    assert set(bundle(payload)) == {"text/plain", "image/svg+xml", "image/png", "text/html"}


@pytest.mark.parametrize("text", EVIL)
def test_what_is_no_scenario_is_refused_in_one_line(text: str) -> None:
    for tried in (text, f"v1~{text}", f"v1~plain~{text}", f"v1~plain~vnmi~{text}", f"v1~plain~vnmi~nmi@{text}"):
        with pytest.raises(ValueError, match=r"\S") as refused:
            Scenario.parse(tried)
        assert len(str(refused.value).splitlines()) == 1
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", EVIL)
def test_the_label_of_a_guest_is_a_word_or_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as refused:
        Guest.of(f"{text}: nop\nhlt", tail="hlt")
    assert len(str(refused.value).splitlines()) == 1


def test_a_run_whose_every_text_is_markup_shows_texts() -> None:
    payload = build(hostile())
    page = Tags(html(payload))
    assert page.tags <= ALLOWED
    assert page.attributes.keys() <= {"alt", "src", "scope"}
    panel = show(payload)._repr_mimebundle_()
    assert panel is not None
    assert Tags(panel[0]["text/html"]).tags <= ALLOWED


@pytest.mark.parametrize(
    "text",
    [
        HUGE,
        f"v1~{HUGE}",
        f"v1~asm.{HUGE}~vnmi",
        f"v1~plain~vnmi~nmi@{'9' * 1_000_000}",
        "v1~plain~vnmi" + "~nmi@work" * 100_000,
        "~" * LONGEST,
    ],
    ids=["no version", "guest", "assembly", "digits", "items", "separators"],
)
def test_a_text_of_a_megabyte_is_refused_in_a_short_line(text: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        Scenario.parse(text)
    assert len(str(refused.value)) < 200
    with pytest.raises(ValueError, match=r"\S") as refused_too:
        find(text)
    assert len(str(refused_too.value)) < 1_000


def test_the_limits_of_a_scenario_leave_room_for_all_that_make_sense() -> None:
    most = "v1~plain~vnmi" + "~nmi@work" * MOST_ITEMS
    assert len(Scenario.parse(most).stimuli) == MOST_ITEMS
    with pytest.raises(ScenarioError, match=f"at most {MOST_ITEMS} items, not {MOST_ITEMS + 1}"):
        Scenario.parse(f"{most}~nmi@work")
    with pytest.raises(ScenarioError, match=re.escape("character 4, '" + "x" * 59 + "…'")):
        Scenario.parse("v1~" + "x" * 1_000)


def test_a_long_title_is_drawn_and_cut_by_nobody_but_the_page() -> None:
    payload = build(run(HUGE[:100_000]))
    assert read(png(payload)).width < 1_200
    assert HUGE[:100_000] in svg(payload)
