"""What the judge is asked about each policy, and about a hook that a learner wrote.

``EXPOSED`` names for every policy that is wrong the guest and the actions that break it; ``ACQUITTED`` what ``LEGACY``
and ``VNMI`` must survive; ``DEVIATIONS`` where KVM itself is known not to do as the processor does.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from dataclasses import replace
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from vnmi_lab.explore import Search, Verdict, explore
from vnmi_lab.guest import IDT
from vnmi_lab.guests import FAR_FRAME, GUESTS
from vnmi_lab.hv.ops import ROWS, NmiOps
from vnmi_lab.hv.profiles import LEGACY, POLICIES, VNMI
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.hw.bits import expect, misspelt
from vnmi_lab.laws import LAWS, NO_EXITS
from vnmi_lab.rules import Switches
from vnmi_lab.scenario import Scenario
from vnmi_lab.trace import Step, Trace, first_divergence
from vnmi_lab.transparency import transparent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType


class Case(NamedTuple):
    """A question to the judge: a guest by name, how many NMIs, and the actions, as ``Search`` has them.

    ``transparent``: whether the guest sees only what bare metal could have shown it, instead of the laws.
    """

    guest: str
    nmis: int
    actions: Mapping[str, Any] = MappingProxyType({})
    transparent: bool = False

    def verdict(self, ops: NmiOps, nmis: int | None = None) -> Verdict:
        """Return the verdict on a policy, for ``nmis`` NMIs if that is given."""
        search = self.search(ops)
        search = search if nmis is None else replace(search, nmis=nmis)
        return transparent(search) if self.transparent else explore(search)

    def search(self, ops: NmiOps) -> Search:
        """Return the search for a policy."""
        return Search(ops, GUESTS[self.guest].source.guest(), self.nmis, **self.actions)


PLAIN = Case("idle", 3)
NPF = Case("idle", 3, {"absent": (IDT,)})
IN_SHADOW = Case("idle-shadow", 3, {"absent": (0,)})
MOVED = Case("idle-stops", 3, {"migrate": True})
CACHED = Case("idle", 3, {"switches": Switches(caching=True)})
GIF = Case("idle-gif", 3)
FAULTY = Case("idle-faulty", 2)
CHEAP = Case("idle", 3, {"laws": LAWS + NO_EXITS})

INTERRUPTED = Case("plain", 2, {"irqs": 1})
HALFWAY = Case("idle-iret-npf", 3, {"absent": (FAR_FRAME,)})
LET_IN = Case("idle-open", 2, {"irqs": 1})
CLEAR = tuple(Case(guest, 2, transparent=True) for guest in ("idle", "idle-shadow", "idle-gif", "idle-self"))
SELF_GIF = Case("idle-gif-self", 2, transparent=True)

EXPOSED: dict[str, Case] = {
    **dict.fromkeys(("blind", "patch-v4", "vnmi-6.4-rc", "m1", "m2", "m4", "m6", "m7", "m8", "m10"), PLAIN),
    **dict.fromkeys(("xen-like", "m3"), FAULTY),
    "m5": NPF,
    "m9": MOVED,
    "m11": CHEAP,
    "m12": CACHED,
}
"""What breaks each policy that is wrong. M11 is correct for its guest and breaks only what it may spend."""
ACQUITTED: dict[str, tuple[Case, ...]] = {
    "legacy": (PLAIN, NPF, IN_SHADOW, MOVED, CACHED, GIF, INTERRUPTED, HALFWAY, *CLEAR),
    "vnmi": (
        PLAIN,
        NPF,
        IN_SHADOW,
        MOVED,
        CACHED,
        GIF,
        INTERRUPTED,
        HALFWAY,
        LET_IN,
        FAULTY,
        CHEAP,
        *CLEAR,
        Case("idle-faulty", 2, transparent=True),
    ),
}


class Deviation(NamedTuple):
    """A place where KVM is known not to do as the processor does, how it shows, and how sure that is."""

    policy: str
    case: Case
    law: str
    sentence: str
    source: str


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        "legacy",
        FAULTY,
        "not_before_iret",
        "An IRET that faults moves RIP, and KVM takes that for an IRET that completed.",
        "derived from the code of svm_complete_interrupts; not confirmed on hardware",
    ),
    Deviation(
        "legacy",
        LET_IN,
        "not_before_iret",
        "An interrupt that is taken instead of the IRET moves RIP, and KVM takes that for an IRET that completed.",
        "derived from the code of svm_complete_interrupts; found by this search, not confirmed on hardware",
    ),
    *(
        Deviation(
            policy,
            SELF_GIF,
            "transparent",
            "Two NMIs while GIF is 0 are one on bare metal, whose latch is one deep, and two under KVM.",
            "KVM process_nmi does not look at GIF; changelog of b4bd55646747; derived, documented, allowed",
        )
        for policy in ("legacy", "vnmi")
    ),
)


def cases(ops: NmiOps) -> tuple[Case, ...]:
    """Return what a policy is asked unless told otherwise: what breaks it, or all that it must survive."""
    if ops.name in EXPOSED:
        return (EXPOSED[ops.name],)
    if ops.name in ACQUITTED:
        return ACQUITTED[ops.name]
    return ACQUITTED["vnmi" if ops.uses_vnmi else "legacy"]


def judge(
    ops: NmiOps, guest: str | None = None, nmis: int | None = None, *, switches: bool = False
) -> tuple[Verdict, ...]:
    """Return the verdicts on a policy, up to the first that breaks a law.

    ``switches``: ask again under the other setting of each open switch, and say which the verdict depends on.
    """
    verdicts: list[Verdict] = []
    for case in cases(ops) if guest is None else (Case(guest, 3),):
        verdict = case.verdict(ops, nmis)
        needs = tuple(depends(ops, case, verdict, nmis)) if switches else None
        verdicts.append(replace(verdict, depends=needs, scenario=scenario(verdict, case)))
        if not verdict.holds:
            break
    return tuple(verdicts)


OPEN = tuple(name for name in Switches().names() if name != "caching")
"""The questions that no source answers; ``caching`` is no question but something a processor may do."""


def scenario(verdict: Verdict, case: Case) -> str | None:
    """Return a counterexample as a scenario that ``vnmi-lab run`` plays, or None: a learner's policy has no name."""
    if verdict.broken is None or verdict.policy not in POLICIES or verdict.search is None:
        return None
    search = verdict.search
    features = search.features or Features(vnmi_cpuid=search.ops.uses_vnmi)
    switches = search.switches or Switches()
    return str(Scenario(case.guest, verdict.policy, verdict.stimuli, search.absent, features, switches))


class Divergence(NamedTuple):
    """Where the guest first sees something else than under the policy that is right."""

    right: str
    ours: Step
    theirs: Step

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"first divergence from {self.right}, at step {self.ours.index}: {self.ours.text!r} at {self.ours.rip:#x},"
            f" where {self.right} has {self.theirs.text!r} at {self.theirs.rip:#x}"
        )


def divergence(verdict: Verdict) -> Divergence | None:
    """Return where a counterexample first shows the guest something else than ``LEGACY`` or ``VNMI`` would.

    None when the guest sees nothing else up to there (an NMI that is only left behind, an exit too many), and for a
    policy without a name, whose code may be gone.
    """
    if verdict.scenario is None or verdict.search is None:
        return None
    ops = verdict.search.ops
    right = VNMI if ops.uses_vnmi else LEGACY
    steps = len(verdict.schedule) + AFTERWARDS
    traces = [
        Trace(replace(verdict.search, ops=policy).machine(verdict.stimuli), limit=steps) for policy in (ops, right)
    ]
    found = first_divergence(*traces)
    return None if found is None else Divergence(right.name, *found)


AFTERWARDS = 200
"""Steps that a run is followed beyond the one that breaks a law: what is lost shows only later."""


def depends(ops: NmiOps, case: Case, first: Verdict, nmis: int | None = None) -> dict[str, Verdict]:
    """Return the open switches on which a verdict depends, each with the verdict under its other setting."""
    given = case.actions.get("switches") or Switches()
    others: dict[str, Verdict] = {}
    for name in OPEN:
        other = replace(given, **{name: not getattr(given, name)})
        verdict = case._replace(actions={**case.actions, "switches": other}).verdict(ops, nmis)
        if (verdict.holds, verdict.broken and verdict.broken.slug) != (first.holds, first.broken and first.broken.slug):
            others[name] = verdict
    return others


def checked(guest: str | None, nmis: int | None) -> None:
    """Refuse a guest or a number of NMIs that cannot be; ``ValueError`` in one line."""
    if guest is not None and guest not in GUESTS:
        raise ValueError(misspelt("the project", str(guest), list(GUESTS), "guest"))
    expect(nmis, (int, type(None)), "the number of NMIs is a whole number")
    if nmis is not None and not 1 <= nmis <= MOST_NMIS:
        msg = f"the number of NMIs must be 1 to {MOST_NMIS}, not {nmis!r}"
        raise ValueError(msg)


def named(policy: str) -> NmiOps:
    """Return a shipped policy; a misspelt one names the nearest."""
    if policy not in POLICIES:
        raise ValueError(misspelt("the project", policy, list(POLICIES), "policy"))
    return POLICIES[policy]


def as_json_value(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as JSON has it: states, transitions, seconds, the law and the schedule that broke it."""
    return {
        "policy": verdict.policy,
        "holds": verdict.holds,
        "states": verdict.states,
        "transitions": verdict.transitions,
        "seconds": round(verdict.seconds, 3),
        "law": verdict.broken and verdict.broken.slug,
        "sentence": verdict.broken and verdict.broken.sentence,
        "schedule": list(verdict.schedule),
        "scenario": verdict.scenario,
        "divergence": None if (found := divergence(verdict)) is None else str(found),
        "depends": None if verdict.depends is None else list(verdict.depends),
    }


# --- a learner's own code -------------------------------------------------------------------------------------------

MOST_NMIS = 8
MOST_LINES = 20_000
"""Lines that a learner's hook may run in one call."""


class LearnerError(Exception):
    """The learner's code could not be loaded, raised an exception, or did not come to an end; one line says where."""


def split(text: str) -> tuple[Path, str]:
    """Return file and function of ``FILE.py:NAME``."""
    path, _colon, name = text.rpartition(":")
    if not path:
        msg = f"{text!r} names no function; write FILE.py:NAME"
        raise ValueError(msg)
    return Path(path), name


def load_function(path: Path, name: str) -> Callable[..., Any]:
    """Return a learner's function from a file; ``ValueError`` or ``LearnerError`` in one line when there is none."""
    found = getattr(_module(path), name, None)
    if not callable(found):
        msg = f"{path} has no function {name!r}"
        raise ValueError(msg)  # noqa: TRY004 - what the learner typed, reported like all bad input
    return found  # type: ignore[no-any-return]  # whatever the learner wrote


OF_VNMI = ("process_nmi", "set_vnmi_pending", "is_vnmi_pending")
"""Hooks that differ between ``LEGACY`` and ``VNMI``: a learner's goes into the latter."""


def parent_of(hook: str) -> NmiOps:
    """Return the policy that a learner's hook goes into unless told otherwise."""
    return VNMI if hook in OF_VNMI else LEGACY


def learned(function: Callable[..., Any], parent: NmiOps | None = None) -> NmiOps:
    """Return ``parent`` with a learner's function in the place that its name says, watched while it runs."""
    hook = function.__name__
    if hook not in ROWS:
        raise ValueError(misspelt("NmiOps", hook, list(ROWS), "hook"))
    parent = parent or parent_of(hook)
    hooks: dict[str, Any] = {hook: watched(function)}
    return parent.but(**hooks)


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a learner's function so that an exception names their line and an endless loop ends."""
    home = function.__code__.co_filename

    @wraps(function)
    def call(*args: object) -> object:
        lines = 0

        def count(frame: FrameType, event: str, _arg: object) -> object:
            nonlocal lines
            if frame.f_code.co_filename != home:
                return None
            lines += event == "line"
            if lines > MOST_LINES:
                msg = f"{function.__name__} is still running after {MOST_LINES:,} lines, at line {frame.f_lineno}"
                raise LearnerError(msg)
            return count

        before = sys.gettrace()
        sys.settrace(count)  # type: ignore[arg-type]  # a local trace function, as CPython wants it
        try:
            return function(*args)
        except LearnerError:
            raise
        except Exception as error:
            raise LearnerError(_where(function.__name__, home, error)) from error
        finally:
            sys.settrace(before)

    return call


def _where(name: str, home: str, error: Exception) -> str:
    """Say what was raised, and at which of the learner's own lines."""
    own = [entry for entry in traceback.extract_tb(error.__traceback__) if entry.filename == home]
    at = f" at line {own[-1].lineno}: {own[-1].line}" if own else ""
    return f"{name} raised {type(error).__name__}: {error}{at}"


def _module(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(f"learner_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        msg = f"no such file {str(path)!r}"
        raise ValueError(msg)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise LearnerError(_where(str(path), str(path), error)) from error
    return module
