"""Lab 07, write it yourself: all of a learner's functions in one hypervisor, judged in every situation there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import FunctionType, MappingProxyType
from typing import Any

from vnmi_lab import judge
from vnmi_lab.checks.exercise import Exercise
from vnmi_lab.checks.tables import html, plain
from vnmi_lab.checks.text import prose, wrapped
from vnmi_lab.explore import explore
from vnmi_lab.guest import IDT
from vnmi_lab.hv.profiles import VNMI
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.judge import Case

HEAD = ("the guest", "without vNMI", "with vNMI")
SITUATIONS = MappingProxyType(
    {
        "works, and halts": Case("idle", 3),
        "closes GIF for a while": Case("idle-gif", 2),
        "exits in the shadow of an STI": Case("idle-shadow", 2, {"absent": (0,)}),
        "has no page for its IDT at first": Case("idle", 2, {"absent": (IDT,)}),
    }
)
"""What the whole hypervisor is tried in, and how a learner reads it."""


@dataclass(frozen=True, slots=True, repr=False)
class Whole:
    """A learner's hypervisor: what is theirs in it, and what the judge says, on an old and on a new processor."""

    words: str
    lines: tuple[tuple[str, str, str], ...]

    def __repr__(self) -> str:
        """Return it for a terminal."""
        return f"{wrapped(self.words)}\n{plain(HEAD, self.lines)}"

    def _repr_html_(self) -> str:
        return f"<p>{prose(self.words)}</p>{html(HEAD, self.lines, 'vnmi-whole')}"


def put_together(functions: Sequence[object], exercises: Sequence[Exercise]) -> Whole:
    """Judge the learner's functions together; where one is not yet written, KVM's stands in."""
    known = {exercise.variable: exercise for exercise in exercises}
    mine: dict[str, Any] = {}
    for function in functions:
        name = getattr(function, "__name__", "")
        if isinstance(function, FunctionType) and name in known and known[name].attempted(function):
            mine[name] = getattr(judge.learned(function, VNMI), name)
    asked = [getattr(function, "__name__", "") for function in functions]
    stand_in = [name for name in asked if name in known and name not in mine]
    lines: tuple[tuple[str, str, str], ...] = tuple(
        (text, _said(case, mine, vnmi=False), _said(case, mine, vnmi=True)) for text, case in SITUATIONS.items()
    )
    yours = f"Yours: {_listed(list(mine))}." if mine else "Nothing of it is yours yet."
    theirs = f" KVM's stands in for {_listed(stand_in)}." if stand_in else ""
    return Whole(yours + theirs, lines)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _said(case: Case, mine: dict[str, Any], *, vnmi: bool) -> str:
    """Return what the judge says of a case in a few words."""
    search = replace(case.search(VNMI.but(name="yours", **mine)), features=Features(vnmi_cpuid=vnmi))
    try:
        verdict = explore(search)
    except Exception as error:  # noqa: BLE001 - whatever a learner's function leads to
        return f"{type(error).__name__}: {error}"
    if verdict.broken is not None:
        return f"broken: {verdict.broken.sentence}"
    return f"holds in all {verdict.states:,} states"
