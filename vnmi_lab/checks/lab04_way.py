"""Where an NMI waits under KVM, and who masks: the four places and the three masks, and the way of one NMI."""

from __future__ import annotations

from reprlib import repr as short
from typing import NamedTuple

from vnmi_lab.checks.answers import under_kvm
from vnmi_lab.checks.exercise import Exercise, Wrong
from vnmi_lab.checks.lab03 import GUEST
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hv.profiles import LEGACY, VNMI
from vnmi_lab.machine import Stimulus
from vnmi_lab.timeline.instances import SERVICE, Span, instances
from vnmi_lab.trace import Trace


class Place(NamedTuple):
    """A place for a waiting NMI, or a mask: its name, whose it is, what it says, and the rule that fills it."""

    name: str
    whose: str
    says: str
    rule: str


PLACES = (
    Place("nmi_queued", "KVM", "nobody has looked yet", "K-kvm_inject_nmi"),
    Place("nmi_pending", "KVM", "accepted, and kept", "K-process_nmi"),
    Place("EVENTINJ", "VMCB", "in with this VMRUN", "K-svm_inject_nmi"),
    Place("V_NMI", "VMCB", "for the processor to take", "K-svm_set_vnmi_pending"),
)
"""Where an NMI waits, in the order in which it can go from one to another; the last two exclude each other."""

MASKS = (
    Place("nmi_mask", "processor", "bare metal", "R-NMI-MASK"),
    Place("nmi_masked", "KVM", "IRET interception", "K-svm_inject_nmi"),
    Place("V_NMI_MASK", "VMCB", "vNMI", "R-VNMI-MASK"),
)
"""Who says that an NMI is in service, and where that one is asked."""

RULES = {place.name: place.rule for place in PLACES}
POLICIES: tuple[tuple[str, NmiOps], ...] = (("IRET interception", LEGACY), ("vNMI", VNMI))


def run(ops: NmiOps, title: str) -> Trace:
    """Let a second NMI arrive in the handler of the first."""
    return Trace(under_kvm(GUEST, ops, [Stimulus(at="work"), Stimulus(at="handler")]), title)


def way(trace: Trace) -> list[Span]:
    """Return where the second NMI of a run is, place after place, and last that it is in service."""
    _first, second = instances(list(trace))
    spans = [span._replace(place=span.place or PLACES[0].name) for span in second.spans]
    return spans[: next(at for at, span in enumerate(spans) if span.phase == SERVICE) + 1]


def _judge(answer: object) -> Verdict:
    if not isinstance(answer, list | tuple) or len(answer) != len(POLICIES):
        return wrong("`way` must be two lists of places: one for IRET interception, one for vNMI.")
    trace = None
    for (name, ops), said in zip(POLICIES, answer, strict=True):
        if not isinstance(said, list | tuple):
            return wrong(f"The way with {name} must be a list of places.")
        unknown = [place for place in said if not isinstance(place, str) or place not in RULES]
        if unknown:
            return wrong(f"{short(unknown[0])} is none of the four places.")
        trace = run(ops, f"The way of the second NMI, with {name}")
        mistake = _compared(trace, name, list(said))
        if mistake is not None:
            return mistake
    return right("Three places with IRET interception, two with vNMI, and no NMI is in two of them.", trace)


def _compared(trace: Trace, name: str, said: list[str]) -> Verdict | None:
    """Return what is wrong with the places said for a run, from the first that is not so."""
    *waiting, served = way(trace)
    for place, span in zip([*said, ""], [*waiting, served], strict=False):
        so = "in service" if span is served else span.place
        if place == so or (not place and span is served):
            continue
        found = Divergence.at(
            trace, span.first, "the second NMI", expected=so, actual=place or "nothing", rule=_rule(so, waiting)
        )
        if span is served:
            return wrong(
                f"With {name} it is taken from `{waiting[-1].place}`, and never is in `{place}`.", trace, found
            )
        if not place:
            return wrong(f"With {name} the way goes on: at step {span.first} the NMI is in `{so}`.", trace, found)
        return wrong(f"With {name} the NMI is in `{so}` at step {span.first}, not in `{place}`.", trace, found)
    return None


def _rule(place: str, waiting: list[Span]) -> str:
    return RULES[place if place in RULES else waiting[-1].place]


exercise = Exercise(
    id="lab04.way",
    task="Write the places in which the second NMI waits, in their order, for each of the two machines.",
    variable="way",
    judge=_judge,
    hints=(
        "The lowest line of each timeline, *each NMI*, says where an NMI is. In section 2 you saw it with vNMI.",
        "With IRET interception the second NMI waits in KVM until the first is done. Only then it goes into the VMCB.",
        "With IRET interception it is in three places, EVENTINJ being the last. With vNMI it is in two.",
    ),
    start='way = [\n    ["nmi_queued", ...],  # with IRET interception\n    ["nmi_queued", ...],  # with vNMI\n]',
    good='way = [["nmi_queued", "nmi_pending", "EVENTINJ"], ["nmi_queued", "V_NMI"]]',
    why="IRET interception keeps it in `nmi_pending` until the mask falls, and injects it then. With vNMI it goes into "
    "the slot on the next way in, and the processor does the waiting.",
    wrong=(
        Wrong(
            "straight into the guest",
            'way = [["nmi_queued", "EVENTINJ"], ["nmi_queued", "V_NMI"]]',
            "With IRET interception the NMI is in `nmi_pending` at step",
        ),
        Wrong(
            "vNMI injects",
            'way = [["nmi_queued", "nmi_pending", "EVENTINJ"], ["nmi_queued", "EVENTINJ"]]',
            "With vNMI the NMI is in `V_NMI` at step",
        ),
        Wrong(
            "both doors",
            'way = [["nmi_queued", "nmi_pending", "EVENTINJ"], ["nmi_queued", "V_NMI", "EVENTINJ"]]',
            "With vNMI it is taken from `V_NMI`, and never is in `EVENTINJ`.",
        ),
        Wrong(
            "kept for good",
            'way = [["nmi_queued", "nmi_pending"], ["nmi_queued", "V_NMI"]]',
            "With IRET interception the way goes on: at step",
        ),
        Wrong("the mask", 'way = [["nmi_queued", "nmi_masked"], ["V_NMI_MASK"]]', "'nmi_masked' is none of the four"),
        Wrong("one list", 'way = ["nmi_queued", "nmi_pending", "EVENTINJ"]', "`way` must be two lists of places"),
    ),
)
