"""Every claim of a lab is in the ledger with its grade and its evidence, and every entry is claimed somewhere."""

from __future__ import annotations

import ast
import json
import re
import runpy
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import jupytext
import pytest

from vnmi_lab.checks import lab03
from vnmi_lab.hv.calls import FUNCTIONS  # filled by what a lab imports
from vnmi_lab.hv.vcpu import REQ_EVENT
from vnmi_lab.rules import RULES

ROOT = Path(__file__).parent.parent
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "claims.py"))
LABS: dict[str, Path] = TOOL["labs"]()
NUMBERS = list(LABS)
CLAIMS = [claim for number in NUMBERS for claim in TOOL["ledger"](number)]
SOURCES = (
    r"APM vol\. [1-5], [\w.]+( p\. \d+| table [\w-]+)?( and [\w.]+)*",  # section, appendix or instruction
    r"Linux \d\.\d+(-rc\d+)? [\w./-]+\.[chS]( \w+)?",
    r"Linux \d\.\d+(-rc\d+)? Documentation/[\w./-]+\.rst",
    r"Linux commit [0-9a-f]{12}",
    r"Linux commits [0-9a-f]{12}(, [0-9a-f]{12})+",
    r"kvm-unit-tests x86/\w+\.c( [\w -]+)?",
    r"KVM mailing list 20\d\d-\d\d-\d\d, .{3,}",
    r'"Virtual NMI feature" v[1-7], .{3,}',
    r"(Xen|QEMU|Bochs|FreeBSD) .{3,}",
    r"Intel SDM vol\. \d[A-D]?, .{3,}",
    r"CVE-\d{4}-\d{4,}",
)
"""Forms of a source that a reader can look up."""
ENDS = re.compile(r"[ \t]*\|?[ \t]*(\n(?=[ \t]*(\n|[-*] |\d+\. |\|))|\n?\Z)")
"""What may follow a mark: the end of its paragraph, of its bullet, or of its row."""


@cache
def text(number: str) -> list[str]:
    """Return the markdown of a lab, a cell each."""
    book = jupytext.read(LABS[number], fmt="py:percent")
    return [cell.source for cell in book.cells if cell.cell_type == "markdown"]


# --- both ways ---------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
def test_every_mark_has_its_entry_and_every_entry_its_mark(number: str) -> None:
    marked = set(TOOL["marks"](LABS[number].read_text(encoding="utf-8")))
    written = {claim.id for claim in TOOL["ledger"](number)}
    assert marked - written == set(), "these have no entry in the ledger"
    assert written - marked == set(), "these are claimed nowhere in the lab"
    assert written, "a lab without any claim"


@pytest.mark.parametrize("number", NUMBERS)
def test_a_mark_stands_at_the_end_of_what_it_is_about_and_belongs_to_its_lab(number: str) -> None:
    found: list[str] = []
    for cell in text(number):
        for comment in TOOL["COMMENT"].finditer(cell):
            assert TOOL["MARK"].fullmatch(comment[0]), f"no mark of a claim: {comment[0]}"
            assert ENDS.match(cell, comment.end()), f"not at the end of a paragraph: {comment[0]}"
            found += TOOL["marks"](comment[0])
    assert found == TOOL["marks"](LABS[number].read_text(encoding="utf-8")), "a mark outside the markdown"
    assert all(name.startswith(f"{number}-") for name in found)
    assert [name for name, times in Counter(found).items() if times > 1] == []


def test_every_ledger_is_a_labs() -> None:
    assert {path.stem for path in TOOL["LEDGER"].glob("*.toml")} <= set(NUMBERS)
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)


# --- an entry ---------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
def test_an_entry_is_a_sentence_with_a_grade_and_evidence(number: str) -> None:
    for claim in TOOL["ledger"](number):
        assert re.fullmatch(r"\S+ \S+ .*[^. ]\.", claim.says), f"{claim.id}: not one sentence"
        assert claim.grade in TOOL["GRADES"], claim.id
        assert claim.evidence, f"{claim.id}: no evidence"
        assert all(found and all(found) for found in claim.evidence.values()), f"{claim.id}: empty evidence"


NEEDS = {
    "specification": ("rule", "source"),
    "KVM": ("rule", "source", "trace"),
    "trace": ("trace",),
    "model": ("test", "rule"),
}
"""Of which evidence a grade needs at least one."""


@pytest.mark.parametrize("number", NUMBERS)
def test_the_evidence_is_of_the_grade(number: str) -> None:
    for claim in TOOL["ledger"](number):
        assert any(key in claim.evidence for key in NEEDS[claim.grade]), f"{claim.id}: {NEEDS[claim.grade]}"
        if claim.grade == "specification":
            said = [*claim.evidence.get("source", ()), *(sources()[rule] for rule in claim.evidence.get("rule", ()))]
            assert any("APM" in source for source in said), f"{claim.id}: no source is the manual"


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_said_of_vnmi_is_said_to_be_from_the_specification(number: str) -> None:
    about = [claim.id for claim in TOOL["ledger"](number) if claim.grade == "specification" and about_vnmi(claim)]
    said = "from the specification" in " ".join("\n".join(text(number)).split())
    assert said or not about


def about_vnmi(claim: Any) -> bool:  # noqa: ANN401
    words = [claim.says, *(piece for found in claim.evidence.values() for piece in found)]
    return any(word in piece for piece in words for word in ("vNMI", "V_NMI", "VNMI", "15.21.10"))


# --- a piece of evidence ---------------------------------------------------------------


@cache
def sources() -> dict[str, str]:
    """Return the source of every rule: the processor's, and KVM's functions."""
    return {rule.id: rule.source for rule in (*RULES.values(), *FUNCTIONS.values())}


@cache
def named_in(path: str) -> frozenset[str]:
    """Return the names of the tests in a file, which is read and not run."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@cache
def cases_in(name: str) -> frozenset[str]:
    """Return the names of the cases in a recording."""
    lines = (ROOT / "tests" / "reference" / name).read_text(encoding="utf-8").splitlines()
    return frozenset(json.loads(line)["scenario"] for line in lines)


def _rule(value: str) -> bool:
    return value in sources()


def _test(value: str) -> bool:
    path, _, name = value.partition("::")
    is_test = re.fullmatch(r"tests/(\w+/)*test_\w+\.py", path) and name.startswith("test_")
    return bool(is_test) and (ROOT / path).is_file() and name in named_in(path)


def _trace(value: str) -> bool:
    name, _, case = value.partition(":")
    return (
        bool(re.fullmatch(r"\w+\.jsonl", name))
        and (ROOT / "tests/reference" / name).is_file()
        and case in cases_in(name)
    )


def _source(value: str) -> bool:
    return any(re.fullmatch(form, value) for form in SOURCES)


RESOLVES = {"rule": _rule, "test": _test, "trace": _trace, "source": _source}


@pytest.mark.parametrize("number", NUMBERS)
def test_every_piece_of_evidence_is_there(number: str) -> None:
    pieces = [
        (claim.id, key, value)
        for claim in TOOL["ledger"](number)
        for key, found in claim.evidence.items()
        for value in found
    ]
    assert [piece for piece in pieces if not RESOLVES[piece[1]](piece[2])] == []


NOWHERE = [
    ("rule", "R-NMI-LATCHES"),
    ("test", "tests/test_claims.py::test_nothing"),
    ("test", "tests/test_nothing.py::test_it"),
    ("test", "tests/test_claims.py::sources"),
    ("trace", "kvm.jsonl:nothing"),
    ("trace", "nothing.jsonl:nmi1"),
    ("source", "the manual"),
    ("source", "APM"),
    ("source", "Linux svm.c"),
]


@pytest.mark.parametrize(("key", "value"), NOWHERE)
def test_what_is_not_there_is_noticed(key: str, value: str) -> None:
    assert not RESOLVES[key](value)


THERE = [
    ("rule", "R-NMI-LATCH"),
    ("rule", "K-process_nmi"),
    ("test", "tests/test_claims.py::test_what_is_there_is_found"),
    ("trace", "kvm.jsonl:nmi1"),
    ("source", "APM vol. 2, 15.21.10"),
    ("source", "APM vol. 2, 15.20 and 15.21.10"),
    ("source", "APM vol. 3, IRET"),
    ("source", "Linux 6.4 arch/x86/kvm/svm/svm.c svm_nmi_blocked"),
    ("source", "kvm-unit-tests x86/apic.c pending nmi"),
]


@pytest.mark.parametrize(("key", "value"), THERE)
def test_what_is_there_is_found(key: str, value: str) -> None:
    assert RESOLVES[key](value)


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^claim 01-99: no such key: sourze$"):
        TOOL["entries"]({"01-99": {"says": "Something is so.", "grade": "model", "sourze": "APM vol. 2, 15.20"}})


@pytest.mark.parametrize(
    ("cell", "good"),
    [
        ("It is so.\n<!-- claim: 01-01 -->", True),
        ("It is so. <!-- claim: 01-01 -->\n\nMore.", True),
        ("- It is so. <!-- claim: 01-01 -->\n- More.", True),
        ("| so | it is <!-- claim: 01-01 --> |\n| more | more |", True),
        ("It is so. <!-- claim: 01-01 --> And more.", False),
        ("It is so. <!-- claim: 01-01 -->\nand more.", False),
    ],
)
def test_where_a_mark_may_stand(cell: str, *, good: bool) -> None:
    mark = next(TOOL["MARK"].finditer(cell))
    assert bool(ENDS.match(cell, mark.end())) == good


# --- the count ---------------------------------------------------------------


def test_the_tool_counts_every_claim_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["claims.py"])
    assert TOOL["main"]() == 0
    *_head, last = capsys.readouterr().out.splitlines()
    grades = Counter(claim.grade for claim in CLAIMS)
    assert last == f"| all | {' | '.join(str(grades[grade]) for grade in TOOL['GRADES'])} | {len(CLAIMS)} |"


# --- figures that a lab states ---------------------------------------------------------------


def test_the_judge_of_lab_03_visits_as_many_states_as_the_lab_says() -> None:
    names: dict[str, Any] = {"REQ_EVENT": REQ_EVENT}
    exec(lab03.write_it.good, names)  # noqa: S102  # what a learner's cell does
    visited = re.search(r"([\d,]+) states were visited", lab03.write_it.check(names["iret_interception"]).message)
    assert visited is not None
    assert 1_000 < int(visited[1].replace(",", "")) < 2_000, "more than a thousand"
