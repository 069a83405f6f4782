"""Every name that a lab uses or speaks of is there: in its code, and between backquotes in its prose."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import jupytext
import pytest

import vnmi_lab
from vnmi_lab.checks import lab03
from vnmi_lab.checks.course import COURSE, Lab
from vnmi_lab.hv import exits, ops, profiles, svm, vcpu, x86
from vnmi_lab.hv.calls import FUNCTIONS
from vnmi_lab.hv.profiles import POLICIES, VNMI
from vnmi_lab.hw.vmcb import FIELDS, IntCtl, Vmcb
from vnmi_lab.kvm import Kvm
from vnmi_lab.library import LIBRARY
from vnmi_lab.machine import Host, Stimulus
from vnmi_lab.rules import Switches
from vnmi_lab.scenario import Scenario
from vnmi_lab.trace import Trace

ROOT = Path(__file__).parent.parent
LABS = [lab for lab in COURSE if lab.exists]
OF_LINUX = {
    "asm_exc_nmi",
    "get_vnmi_vmcb_l1",
    "kvm_amd",
    "kvm_entry",
    "kvm_exit",
    "panic_on_warn",
}
"""Names of Linux that nothing here stands for."""
SPOKEN = re.compile(r"`([^`]+)`")
CHAIN = re.compile(r"(lab|vcpu)((?:\.\w+)+)")
NAME = re.compile(r"([a-z]\w*_\w+|[a-zA-Z]\w*(?=\())(?:\(.*\))?", re.DOTALL)
FENCE = re.compile(r"```.*?```", re.DOTALL)


@cache
def cells(lab: Lab, kind: str) -> list[str]:
    """Return the cells of a lab that are "code" or "markdown"; a cell of another language is no code."""
    book = jupytext.read(ROOT / "labs" / f"{lab.number}_{lab.slug}.py", fmt="py:percent")
    return [cell.source for cell in book.cells if cell.cell_type == kind and not cell.source.startswith("%%")]


@cache
def a_vcpu() -> Any:  # noqa: ANN401  # whatever a chain of names starts at
    """Return a vCPU as a learner's function gets it."""
    return Kvm(lab03.GUEST, VNMI).vcpu


def has(start: Any, names: str) -> bool:  # noqa: ANN401
    """Say whether a chain of attributes, ".a.b", can be followed."""
    for name in names.strip(".").split("."):
        if not hasattr(start, name):
            return False
        start = getattr(start, name)
    return True


# --- code ---------------------------------------------------------------


def missing_in_code(lab: Lab, sources: list[str]) -> Iterator[str]:
    """Yield each import, and each attribute of something imported, that is not there."""
    bound: dict[str, Any] = {"vcpu": a_vcpu()}
    for source in sources:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("vnmi_lab"):
                yield from _imported(node, bound)
        chains = [chain for node in ast.walk(tree) if isinstance(node, ast.Attribute) and (chain := _chain(node))]
        yield from ("".join(chain) for chain in chains if chain[0] in bound and not has(bound[chain[0]], chain[1]))
        for line in source.splitlines():
            if line.startswith("# lab.") and (found := CHAIN.match(line[2:])) and not has(lab.module(), found[2]):
                yield found[0]


def _imported(node: ast.ImportFrom, bound: dict[str, Any]) -> Iterator[str]:
    module = import_module(str(node.module))
    for name in node.names:
        if hasattr(module, name.name):
            bound[name.asname or name.name] = getattr(module, name.name)
        else:
            try:
                bound[name.asname or name.name] = import_module(f"{node.module}.{name.name}")
            except ModuleNotFoundError:
                yield f"from {node.module} import {name.name}"


def _chain(node: ast.Attribute) -> tuple[str, str] | None:
    """Return the name that a chain of attributes starts at, and the chain; None if it starts at something else."""
    names: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        names.insert(0, inner.attr)
        inner = inner.value
    return (inner.id, "." + ".".join(names)) if isinstance(inner, ast.Name) else None


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.slug)
def test_what_the_code_of_a_lab_names_is_there(lab: Lab) -> None:
    assert list(missing_in_code(lab, cells(lab, "code"))) == []


# --- prose ---------------------------------------------------------------


@cache
def known() -> frozenset[str]:
    """Return every name that the machine, its hypervisor and the package have."""
    modules = (vnmi_lab, exits, ops, profiles, svm, vcpu, x86)
    state = Trace(Kvm(lab03.GUEST, VNMI, stimuli=[Stimulus(at="work")]), "", 40)[-1].state
    return frozenset(
        [
            *(name for module in modules for name in dir(module)),
            *(name for thing in (Host, Vmcb, Trace, Scenario, Switches) for name in dir(thing)),
            *(rule.removeprefix("K-") for rule in FUNCTIONS),
            *(*ops.ROWS, *state, *FIELDS, *IntCtl.FIELDS, *POLICIES, *LIBRARY),
            *dir(a_vcpu()),
        ]
    )


def missing_in_prose(lab: Lab, text: str, code: str = "") -> Iterator[str]:
    """Yield what stands between backquotes, looks like a name of this project, and is none."""
    for spoken in SPOKEN.findall(FENCE.sub("", text)):
        chain, name = CHAIN.match(spoken), NAME.fullmatch(spoken)
        if chain:
            is_there = has(lab.module() if chain[1] == "lab" else a_vcpu(), chain[2])
        elif spoken.startswith("v1~"):
            is_there = "____" in spoken or bool(Scenario.parse(spoken))
        elif name:
            is_there = (
                name[1] in known() | OF_LINUX
                or bool(re.search(rf"\b{name[1]}\b", code))
                or hasattr(lab.module(), name[1])
            )
        else:
            continue
        if not is_there:
            yield spoken


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.slug)
def test_what_the_prose_of_a_lab_names_is_there(lab: Lab) -> None:
    text, code = "\n\n".join(cells(lab, "markdown")), "\n".join(cells(lab, "code"))
    assert list(missing_in_prose(lab, text, code)) == []


def test_every_name_of_linux_is_spoken_of() -> None:
    said = {spoken for lab in LABS for cell in cells(lab, "markdown") for spoken in SPOKEN.findall(FENCE.sub("", cell))}
    assert said >= OF_LINUX


# --- what they notice ---------------------------------------------------------------

WRONG_CODE = [
    "from vnmi_lab import shwo",
    "from vnmi_lab.machine import Stimuli",
    "from vnmi_lab.checks import lab03 as lab\nlab.write_this",
    "from vnmi_lab.checks import lab03 as lab\nlab.write_it.chek(...)",
    "# lab.write_this.hint()",
    "def f(vcpu):\n    vcpu.nmi_maskd = False",
    "def f(vcpu):\n    return vcpu.vmcb.int_ctl.v_nmi_pendign",
]
WRONG_PROSE = [
    "`lab.write_this.hint()`",
    "`vcpu.nmi_maskd`",
    "`vcpu.vmcb.intercep('iret')`",
    "`svm_nmi_blokked`",
    "`Stimulos(at=5)`",
    "`nmi_lach`",
]


@pytest.mark.parametrize("source", WRONG_CODE)
def test_a_wrong_name_in_code_is_noticed(source: str) -> None:
    assert list(missing_in_code(LABS[3], [source]))


@pytest.mark.parametrize("text", WRONG_PROSE)
def test_a_wrong_name_in_prose_is_noticed(text: str) -> None:
    assert list(missing_in_prose(LABS[3], text))


def test_a_scenario_in_prose_is_read() -> None:
    with pytest.raises(ValueError, match="did you mean 'plain'"):
        list(missing_in_prose(LABS[3], "`v1~plane~vnmi~nmi@work`"))
