"""The page on the patch series: every element is there, and every cell leads somewhere."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from vnmi_lab.checks.course import COURSE
from vnmi_lab.hv.vcpu import Vcpu
from vnmi_lab.hw.bits import Register
from vnmi_lab.hw.vmcb import IntCtl
from vnmi_lab.rules import RULES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "patch-series.md").read_text(encoding="utf-8")
WANTED = (
    "bit 11, V_NMI",
    "bit 12, V_NMI_MASK",
    "bit 26, V_NMI_ENABLE",
    "CPUID Fn8000_000A EDX[25]",
    "`get_vnmi_vmcb`",
    "`is_vnmi_enabled`",
    "`svm_get_nmi_mask`",
    "`svm_set_nmi_mask`",
    "`svm_nmi_blocked`",
    "`svm_nmi_allowed`",
    "`svm_inject_nmi`, before",
    "`svm_inject_nmi`, after",
    "`iret_interception`",
    "its SEV-ES branch",
    "its statistics",
    "the set rule",
    "the clear rule",
    "the exit-in-delivery rule",
    "a pended NMI without an exit",
)
"""The elements that the page must have; it has a few more."""
NOT_ASKED = {"`get_vnmi_vmcb`"}
"""What no exercise and no prediction asks about on its own."""
LINK = re.compile(r"\[(\d\d), ([^\]]+)\]\(labs/([\w.]+)\)")
NAME = re.compile(r"`([^`]+)`")


class Element(NamedTuple):
    """A row of the page."""

    element: str
    what: str
    here: str
    taught: str
    asked: str


ROWS = [
    Element(*(cell.strip() for cell in line.strip("|").split("|")))
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| element"))
]
ASKED = {
    *(exercise.id for lab in COURSE for exercise in lab.exercises),
    *(prediction.id for lab in COURSE for prediction in lab.predictions),
}
HEADINGS = {
    lab.number: re.findall(
        r"^# ##+ (?:\d+\. )?(.+)$",
        (ROOT / "labs" / f"{lab.number}_{lab.slug}.py").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    for lab in COURSE
    if lab.exists
}


BITS = {11: "v_nmi_pending", 12: "v_nmi_blocking", 26: "v_nmi_enable"}


def by_element(row: Element) -> str:
    return row.element


def resolves(name: str) -> bool:
    """Say whether a rule, or a dotted name below ``vnmi_lab``, is there; a field of a register or a vCPU is, too."""
    if name.startswith("R-"):
        return name in RULES
    *path, last = name.split(".")
    module = next(
        n for n in range(len(path), 0, -1) if (ROOT / "vnmi_lab").joinpath(*path[:n]).with_suffix(".py").exists()
    )
    thing: object = import_module(".".join(["vnmi_lab", *path[:module]]))
    for part in path[module:]:
        thing = getattr(thing, part, None)
    if thing is Vcpu:
        return last in Vcpu.__slots__
    return hasattr(thing(0) if isinstance(thing, type) and issubclass(thing, Register) else thing, last)


def test_every_element_of_the_series_has_its_row() -> None:
    named = [row.element for row in ROWS]
    assert [element for element in WANTED if element not in named] == []
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("row", ROWS, ids=by_element)
def test_what_stands_for_it_here_exists(row: Element) -> None:
    names = NAME.findall(row.here)
    assert names
    assert [name for name in names if not resolves(name)] == []


@pytest.mark.parametrize(("bit", "field"), BITS.items())
def test_a_bit_has_the_number_that_the_page_says(bit: int, field: str) -> None:
    assert getattr(IntCtl(1 << bit), field) == 1
    row = next(row for row in ROWS if row.element.startswith(f"bit {bit},"))
    assert row.here == f"`hw.vmcb.IntCtl.{field}`"


@pytest.mark.parametrize("row", ROWS, ids=by_element)
def test_it_is_taught_where_the_page_says(row: Element) -> None:
    links = LINK.findall(row.taught)
    assert links
    assert LINK.sub("", row.taught).strip() == ""
    for number, heading, page in links:
        assert heading in [text.replace("`", "") for text in HEADINGS[number]]
        assert page == f"{next(lab for lab in COURSE if lab.number == number).notebook[:-6]}.html"


@pytest.mark.parametrize("row", ROWS, ids=by_element)
def test_it_is_asked_where_the_page_says(row: Element) -> None:
    names = NAME.findall(row.asked)
    assert [name for name in names if name not in ASKED] == []
    assert bool(names) != (row.element in NOT_ASKED)
    assert names or row.asked == "-"


@pytest.mark.parametrize("name", ["R-NOTHING", "hv.svm.svm_nothing", "hw.vmcb.IntCtl.v_nmi", "hv.vcpu.Vcpu.nmi_lost"])
def test_a_name_that_is_not_there_is_noticed(name: str) -> None:
    assert not resolves(name)
