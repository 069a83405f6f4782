"""Lab 07, write it yourself: the hypervisors on the way from blind injection to vNMI, and what breaks each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from vnmi_lab.checks.hooks import AT_ONCE, broken, in_the_call_path
from vnmi_lab.checks.text import box, prose, wrapped
from vnmi_lab.explore import explore
from vnmi_lab.hv import exits, svm, x86
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hv.profiles import BLIND, LEGACY, POLICIES, VNMI
from vnmi_lab.hv.vcpu import REQ_EVENT, Vcpu
from vnmi_lab.judge import Case
from vnmi_lab.laws import LAWS, Law
from vnmi_lab.trace import Trace

LATE = (*LAWS, AT_ONCE)


def at_any_time(_vcpu: Vcpu, _for_injection: bool) -> int:  # noqa: FBT001 - KVM's signature
    """Allow an NMI at any time."""
    return 1


def let_it_exit(vcpu: Vcpu) -> None:
    """Count the IRET's exit, and do nothing about it."""
    vcpu.nmi_window_exits += 1


def take_it_for_delivered(vcpu: Vcpu) -> None:
    """Take what was injected for delivered, without a look."""
    vcpu.nmi_injected = False


NOTHING = BLIND.but(
    name="nothing",
    follows="the empty hypervisor of lab 07",
    nmi_allowed=at_any_time,
    get_nmi_mask=svm.svm_get_nmi_mask,
    set_nmi_mask=svm.svm_set_nmi_mask,
    iret_interception=in_the_call_path(let_it_exit, "lab 07"),
    complete_interrupts=in_the_call_path(take_it_for_delivered, "lab 07"),
)


class Stage(NamedTuple):
    """A hypervisor on the way: what it has, and the question to the judge that shows what it lacks."""

    ops: NmiOps
    nmis: int
    laws: tuple[Law, ...] = LAWS


def _ladder() -> dict[str, Stage]:
    """Put in one hook after the other."""
    inject = NOTHING.but(name="inject_nmi", inject_nmi=svm.svm_inject_nmi)
    allowed = inject.but(name="nmi_allowed", nmi_allowed=svm.svm_nmi_allowed)
    iret = allowed.but(name="iret_interception", iret_interception=exits.iret_interception)
    complete = iret.but(name="complete_interrupts", complete_interrupts=svm.svm_complete_interrupts)
    new = LEGACY.but(name="the new processor", follows="the hooks of Linux 6.3 with V_NMI_ENABLE set", uses_vnmi=True)
    uncounted = POLICIES["m7"].but(name="set_vnmi_pending")
    return {
        "nothing": Stage(NOTHING, 2),
        "inject_nmi": Stage(inject, 2),
        "nmi_allowed": Stage(allowed, 1),
        "iret_interception": Stage(iret, 2),
        "complete_interrupts": Stage(complete, 2, LATE),
        "enable_nmi_window": Stage(LEGACY, 2, LATE),
        "the new processor": Stage(new, 2, LATE),
        "set_vnmi_pending": Stage(uncounted, 3, LATE),
        "process_nmi": Stage(VNMI, 3, LATE),
    }


STAGES = MappingProxyType(_ladder())
"""Each hypervisor by the hook that was put in last."""


def two_at_any_time(vcpu: Vcpu) -> None:
    """Accept what was queued: two may wait, whether an NMI is in service or not."""
    x86.accept(vcpu, 2)
    vcpu.make_request(REQ_EVENT)


OVERFULL = LEGACY.but(
    name="overfull", follows="two may wait at any time", process_nmi=in_the_call_path(two_at_any_time, "lab 07")
)
"""A policy for exercise 6."""


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """What breaks a hypervisor: the judge's words, and the shortest run that does it, with the step to look at."""

    words: str
    run: Trace
    step: int

    def __repr__(self) -> str:
        """Return the words for a terminal."""
        return wrapped(f"What breaks it: {self.words}")

    def _repr_html_(self) -> str:
        return box(f"<strong>What breaks it.</strong> {prose(self.words)}", "--jp-warn-color1")


def breaks(stage: str) -> Found:
    """Return what breaks the hypervisor in which ``stage`` is the last hook that was put in."""
    ops, nmis, laws = STAGES[stage]
    said = broken(explore(replace(Case("idle", nmis).search(ops), laws=laws)))
    assert said.trace is not None
    assert said.divergence is not None
    return Found(said.message, said.trace, said.divergence.step)
