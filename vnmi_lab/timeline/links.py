"""Cause and effect: which change, exit or arrival let another one happen, each with the rule at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from vnmi_lab.timeline.columns import Column, number
from vnmi_lab.timeline.fields import EVENT_VALID, is_nmi

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Seen: TypeAlias = dict[str, int]

WATCHED = (
    "nmi_mask", "nmi_latch", "event_inj", "exit_int_info", "live_v_nmi_pending", "live_v_nmi_blocking", "kicks",
    "exit_code", "awaiting_iret_completion", "nmi_singlestep", "nmi_masked", "nmi_injected", "nmi_pending",
    "nmi_queued", "v_nmi_pending",
)  # fmt: skip
PARTS = {
    "v_nmi_pending": "int_ctl.v_nmi_pending",
    "event_inj": "event_inj.valid",
    "exit_int_info": "vmcb.exit_int_info",
}
"""What a change may call a field that is part of another."""
CAUSES = (
    ("latched", "nmi_latch", False, True),
    ("unmasked", "nmi_mask", True, False),
    ("v_latched", "live_v_nmi_pending", False, True),
    ("v_unmasked", "live_v_nmi_blocking", True, False),
)
"""Name of a cause, the field, its value before and after."""

INTR, DB, IRET = 0x60, 0x41, 0x74
EXITS = {
    INTR: ("kick", "R-ICPT-INTR", "KVM kicked the running guest so that it exits and the NMI can be looked at."),
    DB: ("step", "R-TF-TRAP", "KVM borrowed TF to get an exit after one instruction."),
}
"""The cause of an exit, by its code, and the rule by which it exits."""
LANES = {
    "kick": "outside",
    "step": "nmi_singlestep",
    "iret exit": "world",
    "completed": "awaiting_iret_completion",
    "unmasked by KVM": "nmi_masked",
}
"""Where an arrow from a cause begins."""
KVM_CAUSES: tuple[tuple[str, str, bool, bool, str, str], ...] = (
    (
        "waiting", "awaiting_iret_completion", False, True,
        "iret exit", "IRET was about to execute, so KVM waits until it has.",
    ),
    ("step", "nmi_singlestep", False, True, "", ""),
    ("completed", "awaiting_iret_completion", True, False, "", ""),
    (
        "unmasked by KVM", "nmi_masked", True, False,
        "completed", "RIP has left the IRET, so KVM takes the NMI as over and unmasks.",
    ),
    (
        "injected", "nmi_injected", False, True,
        "unmasked by KVM", "NMIs are unmasked, so the NMI that was pending is injected.",
    ),
)  # fmt: skip
"""Name of a cause, the field, its value before and after, and what that follows from."""
ACCEPTED = (
    ("nmi_pending", "KVM accepted the NMI that was queued; it waits in software."),
    ("v_nmi_pending", "KVM put the NMI that was queued into V_NMI, where the processor takes it by itself."),
    ("nmi_injected", "The NMI that was queued may be taken now, so it is injected."),
)
"""Where an NMI may go from the queue, in one step."""
REQUEUE = "K-svm_complete_interrupts"
"""What queues an interrupted event again, where no field tells: it was on its way already."""


def links(state: Mapping[str, Column], kinds: Sequence[str], changes: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Give the arrows as ``[from step, from lane, to step, to lane, sentence, rule]``."""
    return _Links(changes).walk(state, kinds)


class _Links:
    """Walks the states of a run and remembers what may be the cause of something later."""

    def __init__(self, changes: Iterable[Sequence[Any]]) -> None:
        self.found: list[list[Any]] = []
        self._since: dict[str, int] = {}
        self._rules = {(step, field): rule for step, rule, field, *_ in changes}

    def walk(self, state: Mapping[str, Column], kinds: Sequence[str]) -> list[list[Any]]:
        moves: dict[int, dict[str, int]] = {
            step: {} for step, kind in enumerate(kinds) if kind in ("deliver", "vmexit", "kvm")
        }
        for key in WATCHED:
            flat = state.get(key, [])
            for step, value in zip(flat[::2], flat[1::2], strict=True):
                moves.setdefault(step, {})[key] = number(value)
        new = dict.fromkeys(WATCHED, 0)
        for now in sorted(moves):
            old, new = new, new | moves[now]
            self._kvm(now, kinds[now], old, new)
            self._arrive(now, kinds[now], old, new)
            if kinds[now] == "deliver":
                self._deliver(now, old, new)
            for name, key, was, becomes in CAUSES:
                if (bool(old[key]), bool(new[key])) == (was, becomes):
                    self._since[name] = now
            if new["event_inj"] & EVENT_VALID and new["event_inj"] != old["event_inj"]:
                self._since["injection"] = now
        return self.found

    def _link(self, cause: str | int, lane: str, now: int, effect: str, sentence: str, rule: str = "") -> None:
        """Add an arrow; its rule is that of the field it leads to, unless another is named."""
        first = self._since.pop(cause) if isinstance(cause, str) else cause
        own = self._rules.get((now, PARTS.get(effect, effect))) or self._rules.get((now, effect))
        self.found.append([first, lane, now, effect, sentence, rule or own or ""])

    def _arrive(self, now: int, kind: str, old: Seen, new: Seen) -> None:
        """Lead from an arrival to where it is remembered, and from KVM's queue to where it goes."""
        if kind == "stimulus" and new["nmi_latch"] and not old["nmi_latch"]:
            self._link(now, "outside", now, "nmi_latch", "The NMI that arrived is remembered in nmi_latch.")
        if kind == "stimulus" and new["nmi_queued"] > old["nmi_queued"]:
            self._link(now, "outside", now, "nmi_queued", "The NMI that arrived is queued for the vCPU.")
        if new["nmi_queued"] < old["nmi_queued"]:
            for lane, sentence in ACCEPTED:
                if new[lane] > old[lane]:
                    self._link(now, "nmi_queued", now, lane, sentence)

    def _kvm(self, now: int, kind: str, old: Seen, new: Seen) -> None:
        """Note what leads from one act of KVM to the next: a kick to its exit, an IRET exit to the next injection."""
        if kind == "vmexit":
            self._exit(now, new)
        for name, lane, was, becomes, cause, sentence in KVM_CAUSES:
            if (bool(old[lane]), bool(new[lane])) != (was, becomes):
                continue
            if cause in self._since:
                self._link(cause, LANES[cause], now, lane, sentence)
            if name != "unmasked by KVM" or new["nmi_pending"]:
                self._since[name] = now
        if new["kicks"] > old["kicks"]:
            self._since["kick"] = now
        if kind == "vmrun" and new["v_nmi_pending"] > old["v_nmi_pending"]:
            self._since["v_nmi"] = now
        self._again(now, kind, new)

    def _exit(self, now: int, new: Seen) -> None:
        cause, rule, sentence = EXITS.get(new["exit_code"], ("", "", ""))
        if cause in self._since:
            self._link(cause, LANES[cause], now, "world", sentence, rule)
        if new["exit_code"] == IRET:
            self._since["iret exit"] = now
        if is_nmi(new["exit_int_info"]):
            sentence = "The exit came in the middle of a delivery, so EXITINTINFO names the NMI."
            self._link(now, "world", now, "exit_int_info", sentence, "R-EXITINTINFO")
            self._since["interrupted"] = now
            self._since.pop("v_nmi", None)  # it was that one

    def _again(self, now: int, kind: str, new: Seen) -> None:
        """Lead from EXITINTINFO to the NMI that is injected again."""
        if kind == "kvm" and "interrupted" in self._since and new["nmi_injected"]:
            sentence = "KVM finds the NMI in EXITINTINFO and queues it to be injected again."
            rule = self._rules.get((now, "nmi_injected"), REQUEUE)
            self._link("interrupted", "exit_int_info", now, "nmi_injected", sentence, rule)
            self._since["again"] = now
        if kind == "vmrun":
            if "again" in self._since and is_nmi(new["event_inj"]):
                self._link("again", "nmi_injected", now, "event_inj", "The NMI that was interrupted is injected again.")
            self._since.pop("interrupted", None)

    def _deliver(self, now: int, old: Seen, new: Seen) -> None:
        if old["nmi_latch"] and not new["nmi_latch"]:
            sentence = "The IRET cleared nmi_mask, so the latched NMI is taken."
            self._held(now, "latched", "unmasked", "nmi_mask", sentence)
        elif old["live_v_nmi_pending"] and not new["live_v_nmi_pending"]:
            if "v_nmi" in self._since:
                sentence = "KVM set V_NMI: the processor takes that NMI by itself, without an exit."
                self._link("v_nmi", "v_nmi_pending", now, "code", sentence, "R-VNMI-TAKE")
            sentence = "The IRET cleared V_NMI_MASK, so the pending virtual NMI is taken."
            self._held(now, "v_latched", "v_unmasked", "live_v_nmi_blocking", sentence)
        elif "injection" in self._since:
            sentence = "VMRUN found a valid EVENTINJ, so the event is taken before the guest's first instruction."
            self._link("injection", "event_inj", now, "code", sentence, "R-EVENTINJ")

    def _held(self, now: int, latched: str, unmasked: str, lane: str, sentence: str) -> None:
        cause = self._since.get(unmasked, -1)
        if cause > self._since.get(latched, now):
            field = lane.removeprefix("live_")
            self._link(cause, lane, now, "code", sentence, self._rules.get((cause, field), ""))
