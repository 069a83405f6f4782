"""Lab 08, bug hunt: the exercises in which a function of KVM is mended, and judged over every schedule."""

from __future__ import annotations

from typing import Any

from vnmi_lab.checks.answers import under_kvm
from vnmi_lab.checks.exercise import Exercise, Wrong
from vnmi_lab.checks.hooks import AT_ONCE, BOTH, Hook
from vnmi_lab.checks.lab03 import IN_HANDLER
from vnmi_lab.checks.lab07_stages import STAGES
from vnmi_lab.checks.lab08_cases import LONG, WORKS, warned
from vnmi_lab.checks.measure import number
from vnmi_lab.checks.result import Divergence, Verdict, right, wrong
from vnmi_lab.hv.profiles import PATCH_V4, VNMI, VNMI_6_4_RC
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.judge import GIF, Case
from vnmi_lab.laws import LAWS, NO_EXITS, Law
from vnmi_lab.trace import Trace

# --- case 1: the ghost ----------------------------------------------------------------------------------------------

_GHOST = """def process_nmi(vcpu):
    limit = 1 if vcpu.ops.get_nmi_mask(vcpu) or vcpu.nmi_injected else 2
    {}
    vcpu.nmi_pending = min(vcpu.nmi_pending + vcpu.nmi_queued, limit)
    vcpu.nmi_queued = 0
    vcpu.make_request(REQ_EVENT)
"""
ONLY = {"not_over_delivered", "not_before_iret", "not_lost"}
NO_MORE = Case("idle-brief", 3, {"laws": tuple(law for law in LAWS if law.slug in ONLY), "irqs": 1})

process_nmi = Exercise(
    id="lab08.process_nmi",
    task="Mend process_nmi of patch v4, by one line, so that no ghost comes.",
    variable="process_nmi",
    judge=Hook(
        "process_nmi",
        PATCH_V4,
        (NO_MORE,),
        "A tick of the timer came at every moment, too: no ghost, and none too few. (The stuck one is still stuck.)",
        (BOTH,),
        rests=False,
    ),
    hints=(
        "One in service, one in the slot: how many more may wait? What does `limit` say?",
        "The one in the slot waits too. If `v_nmi_pending` is 1, one fewer may wait in `nmi_pending`.",
        "`limit -= vcpu.vmcb.int_ctl.v_nmi_pending`.",
    ),
    start=_GHOST.format("...  # one line: vcpu.vmcb.int_ctl.v_nmi_pending") + "\n",
    good=_GHOST.format("limit -= vcpu.vmcb.int_ctl.v_nmi_pending"),
    why="What waits in the slot counts too: at most one more than the one in service, wherever it sits.",
    wrong=(
        Wrong("the other bit", _GHOST.format("limit -= vcpu.vmcb.int_ctl.v_nmi_blocking"), "An NMI is lost"),
        Wrong("more, not fewer", _GHOST.format("limit += vcpu.vmcb.int_ctl.v_nmi_pending"), "One NMI too many"),
        Wrong("always one", _GHOST.format("limit = 1"), "One NMI too few"),
    ),
)

# --- case 2: the wrong bit ------------------------------------------------------------------------------------------

_BIT = """def is_vnmi_pending(vcpu):
    bits = vcpu.vmcb.int_ctl
    return bool(bits.v_nmi_enable and {})
"""

is_vnmi_pending = Exercise(
    id="lab08.is_vnmi_pending",
    task="Mend is_vnmi_pending.",
    variable="is_vnmi_pending",
    judge=Hook(
        "is_vnmi_pending",
        VNMI_6_4_RC,
        (Case("idle", 2), GIF),
        "With GIF 1 and with GIF 0, at every moment there is: none is lost, and none is too many.",
    ),
    hints=(
        "The function is to say whether the slot is taken. Which of the three bits is the slot?",
        "V_NMI, bit 11. KVM calls it V_NMI_PENDING_MASK, and bit 12 V_NMI_BLOCKING_MASK.",
        "`bits.v_nmi_pending` in the place of `bits.v_nmi_blocking`.",
    ),
    start=_BIT.format("bits.v_nmi_blocking") + "\n",
    good=_BIT.format("bits.v_nmi_pending"),
    why="V_NMI is the slot; V_NMI_MASK says that an NMI is in service.",
    wrong=(
        Wrong("either bit", _BIT.format("(bits.v_nmi_pending or bits.v_nmi_blocking)"), "An NMI is lost"),
        Wrong("both bits", _BIT.format("bits.v_nmi_pending and bits.v_nmi_blocking"), "One NMI too many"),
        Wrong("turned round", _BIT.format("not bits.v_nmi_blocking"), "One NMI too few"),
        Wrong("never", _BIT.format("False"), "An NMI waits in `nmi_pending`"),
    ),
)

# --- case 3: the assertion ------------------------------------------------------------------------------------------

NO_FALSE_ALARM = Law(
    "no_false_alarm",
    "A hypervisor that is right writes no warning.",
    "KVM svm_enable_nmi_window, b4bd55646747",
    lambda moment: not moment.kvm.vcpu.warnings,
)
CALM: dict[str, Any] = {"laws": (*LAWS, NO_FALSE_ALARM)}
QUIET = (
    Case("idle-gif", 2, CALM),
    Case("idle-shadow", 2, {**CALM, "absent": (0,)}),
    Case("idle", 2, {"laws": (*LAWS, NO_FALSE_ALARM, AT_ONCE)}),
)
_WINDOW = """def enable_nmi_window(vcpu):
    masked = vcpu.ops.get_nmi_mask(vcpu)
    if {}:
        vcpu.warnings += 1
    open_window(vcpu, masked=masked)
"""
_calm = Hook("enable_nmi_window", VNMI, QUIET, "", (BOTH,))


def _judge_window(answer: object) -> Verdict:
    verdict = _calm(answer)
    if not verdict.ok:
        return verdict
    assert callable(answer)
    stuck = STAGES["the new processor"].ops.but(enable_nmi_window=answer)
    trace = Trace(under_kvm(WORKS, stuck, IN_HANDLER), "A hypervisor that waits for a window that never opens", LONG)
    if warned(trace):
        return right(
            "It is silent in a hypervisor that is right, in every state of it, and it fires in one that waits for the "
            "mask to fall, where no exit will come.",
            trace,
        )
    at = next(step.index for step in trace if step.kind == "vmrun" and number(step, "nmi_pending"))
    found = Divergence.at(trace, at, "warnings", expected=1, actual=0, rule="K-svm_enable_nmi_window")
    words = "Now it never fires: this hypervisor waits for an exit when V_NMI_MASK falls, and nobody is warned."
    return wrong(words, trace, found)


enable_nmi_window = Exercise(
    id="lab08.enable_nmi_window",
    task="Mend the assertion: it must fire only where KVM waits for something that will not exit.",
    variable="enable_nmi_window",
    judge=_judge_window,
    hints=(
        "For GIF and for a shadow a window is a fine thing, with vNMI and without. For what is there none with vNMI?",
        "For the mask: nothing exits when the processor clears V_NMI_MASK.",
        "`if vcpu.vmcb.int_ctl.v_nmi_enable and masked:`.",
    ),
    start=_WINDOW.format("vcpu.vmcb.int_ctl.v_nmi_enable") + "\n",
    good=_WINDOW.format("vcpu.vmcb.int_ctl.v_nmi_enable and masked"),
    why="With vNMI only a mask has no window. GIF has the STGI intercept, and a shadow one step.",
    wrong=(
        Wrong("it never fires", _WINDOW.format("False"), "Now it never fires"),
        Wrong(
            "when not masked", _WINDOW.format("vcpu.vmcb.int_ctl.v_nmi_enable and not masked"), "The host's log has a"
        ),
        Wrong("the slot", _WINDOW.format("vcpu.vmcb.int_ctl.v_nmi_pending"), "The host's log has a warning"),
        Wrong(
            "and no window",
            _WINDOW.format("vcpu.vmcb.int_ctl.v_nmi_enable and masked").replace("    open_window", "    return  #"),
            "An NMI waits in `nmi_pending`",
        ),
    ),
)

# --- case 4: masked cannot pend -------------------------------------------------------------------------------------

_ROOM = """def set_vnmi_pending(vcpu):
    bits = vcpu.vmcb.int_ctl
    if not bits.v_nmi_enable or {}:
        return False
    vcpu.vmcb.update("int_ctl", v_nmi_pending=1)
    return True
"""

set_vnmi_pending = Exercise(
    id="lab08.set_vnmi_pending",
    task="Mend set_vnmi_pending.",
    variable="set_vnmi_pending",
    judge=Hook(
        "set_vnmi_pending",
        VNMI,
        (
            Case("idle", 2, {"laws": (*LAWS, *NO_EXITS)}),
            Case("idle-gif", 2),
            Case("idle", 2, {"features": Features(vnmi_cpuid=False)}),
        ),
        "One in service and one queued: that is what the two bits are for.",
        (BOTH,),
    ),
    hints=(
        "What does it mean that both bits are 1? You wrote that word in Lab 04, exercise 1.",
        "One NMI in service, one queued behind it. So the mask is no reason to keep an NMI out of the slot.",
        "Leave `bits.v_nmi_blocking` out: only `bits.v_nmi_pending` says that there is no room.",
    ),
    start=_ROOM.format("bits.v_nmi_pending or bits.v_nmi_blocking") + "\n",
    good=_ROOM.format("bits.v_nmi_pending"),
    why="V_NMI_MASK says that an NMI is in service, and that is just when another one has to wait in V_NMI.",
    wrong=(
        Wrong("only the mask", _ROOM.format("bits.v_nmi_blocking"), "An NMI waits in `nmi_pending`"),
        Wrong("both at once", _ROOM.format("(bits.v_nmi_pending and bits.v_nmi_blocking)"), "One NMI too few"),
        Wrong("turned round", _ROOM.format("not bits.v_nmi_blocking"), "An NMI waits in `nmi_pending`"),
        Wrong("always room", _ROOM.format("False"), "One NMI too few"),
    ),
)
