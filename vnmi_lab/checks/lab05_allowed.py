"""Lab 05, its last exercise: KVM's ``svm_nmi_allowed``, judged in every schedule and in every state."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from reprlib import repr as short

from vnmi_lab import judge
from vnmi_lab.checks.exercise import Exercise, Wrong
from vnmi_lab.checks.hooks import AT_AN_OPEN_DOOR, AT_ONCE, BOTH, Hook, in_their_line
from vnmi_lab.checks.lab05_predictions import GATE_ALONE
from vnmi_lab.checks.result import Verdict, right, wrong
from vnmi_lab.hv.ops import EBUSY
from vnmi_lab.hv.profiles import LEGACY
from vnmi_lab.hv.svm import svm_nmi_allowed
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.judge import GIF, IN_SHADOW, PLAIN
from vnmi_lab.kvm import Kvm
from vnmi_lab.laws import LAWS

CASES = (
    PLAIN._replace(actions={"laws": (*LAWS, AT_ONCE, BOTH)}),
    GIF._replace(nmis=2),
    IN_SHADOW._replace(nmis=2),
)


class _State(tuple[int, ...]):
    """What the function is asked about, each 0 or 1, in the order of ``NAMES``."""

    __slots__ = ()

    def __str__(self) -> str:
        """Return it as it is written in a message."""
        return ", ".join(f"{name} {value}" for name, value in zip(NAMES, self, strict=True))


NAMES = ("nested_run_pending", "GIF", "guest_mode", "exit_on_nmi", "mask", "shadow", "for_injection")


def states() -> Iterator[_State]:
    """Yield every state that can be: only a nested guest has an L1 that asks for something."""
    for state in product((0, 1), repeat=len(NAMES)):
        nested_run, _gif, guest_mode, exits, *_rest = state
        if guest_mode or not (nested_run or exits):
            yield _State(state)


def put(state: _State) -> Kvm:
    """Return a machine in a state."""
    nested_run, gif, guest_mode, exits, mask, shadow, _for_injection = state
    features = Features(
        vnmi_cpuid=False, guest_mode=bool(guest_mode), exit_on_nmi=bool(exits), nested_run_pending=bool(nested_run)
    )
    kvm = Kvm(GATE_ALONE, LEGACY, features)
    kvm.vcpu.vmcb.update("int_ctl", v_gif=gif)
    kvm.vcpu.vmcb.update("int_state", interrupt_shadow=shadow)
    kvm.vcpu.nmi_masked = bool(mask)
    return kvm


class _Allowed(Hook):
    """Judges ``nmi_allowed`` in every schedule, and then in every state, those of nested guests among them."""

    __slots__ = ()

    def __call__(self, answer: object) -> Verdict:
        """Return the verdict on the schedules if it is bad, else that on the states."""
        verdict = super().__call__(answer)
        if not verdict.ok:
            return verdict
        yours = self.policy(answer).nmi_allowed  # type: ignore[arg-type]  # a function, or it had not been ok
        asked = list(states())
        for state in asked:
            kvm = put(state)
            for_injection = bool(state[-1])
            so = svm_nmi_allowed(kvm.vcpu, for_injection)
            try:
                said = yours(kvm.vcpu, for_injection)
            except judge.LearnerError as error:
                raise in_their_line(error) from error
            if said != so:
                return wrong(
                    "No schedule of NMIs breaks a law. But asked about every state there is, yours answers "
                    f"{_told(said)} where KVM answers {_told(so)}: {state}."
                )
        return right(f"{verdict.message} And in all {len(asked)} states it answers as KVM does.", verdict.trace)


def _told(answer: object) -> str:
    return "-EBUSY" if answer == EBUSY else short(answer)


_ALLOWED = """def nmi_allowed(vcpu, for_injection):
    if vcpu.nested_run_pending:
        return EBUSY
    if not gif_set(vcpu):
        return 0
    if vcpu.guest_mode and vcpu.features.exit_on_nmi:
        return EBUSY if for_injection else 1
    if vcpu.ops.get_nmi_mask(vcpu) or vcpu.vmcb.int_state.interrupt_shadow:
        return 0
    return 1
"""
_GATE = "    if not gif_set(vcpu):\n        return 0\n"
_FOR_L1 = "    if vcpu.guest_mode and vcpu.features.exit_on_nmi:\n        return EBUSY if for_injection else 1\n"
_SHADE = " or vcpu.vmcb.int_state.interrupt_shadow"
_PENDING = "    if vcpu.nested_run_pending:\n        return EBUSY\n"


def _without(part: str, instead: str = "") -> str:
    assert part in _ALLOWED
    return _ALLOWED.replace(part, instead)


nmi_allowed = Exercise(
    id="lab05.nmi_allowed",
    task="Write svm_nmi_allowed: 1, 0, or -EBUSY.",
    variable="nmi_allowed",
    judge=_Allowed(
        "nmi_allowed",
        LEGACY,
        CASES,
        "NMIs came behind a closed gate, in a shadow and into a handler.",
        (AT_AN_OPEN_DOOR,),
    ),
    hints=(
        "Three things block: a closed gate, a shadow, and an NMI in service. For any of them the answer is 0.",
        (
            "The order matters for a nested guest. If L1 wants the exit, its mask and its shadow block nothing, but "
            "a closed gate does: so ask about GIF before, and about the mask and the shadow after."
        ),
        (
            "After GIF: `if vcpu.guest_mode and vcpu.features.exit_on_nmi:`, and there `return EBUSY if for_injection "
            "else 1`, because the exit to L1 must come first. Then `vcpu.ops.get_nmi_mask(vcpu)` and "
            "`vcpu.vmcb.int_state.interrupt_shadow`."
        ),
    ),
    start=(
        "def nmi_allowed(vcpu, for_injection):\n"
        "    if vcpu.nested_run_pending:\n"
        "        return EBUSY\n"
        "    ...  # what else may say no?\n"
        "    return 1\n\n"
    ),
    good=_ALLOWED,
    why="First what is only for a moment, then the gate, then whose NMI it is, then what blocks this guest.",
    wrong=(
        Wrong(
            "the mask forgotten",
            _without("vcpu.ops.get_nmi_mask(vcpu) or "),
            "Two NMIs nest: the second is taken, and no IRET has completed since the first.",
        ),
        Wrong("the gate forgotten", _without(_GATE), "An NMI is injected where bare metal would have held it back"),
        Wrong(
            "the shadow forgotten",
            _without(_SHADE),
            "An NMI is injected where bare metal would have held it back",
        ),
        Wrong("never", _without("    return 1\n", "    return 0\n"), "An NMI waits in `nmi_pending`"),
        Wrong("L1 forgotten", _without(_FOR_L1), "No schedule of NMIs breaks a law. But"),
        Wrong("no entry is held back", _without(_PENDING), "No schedule of NMIs breaks a law. But"),
    ),
)
