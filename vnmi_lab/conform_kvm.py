"""Replays what a real kernel was recorded to do: KVM_RUN, KVM_NMI and vCPU events, row by row.

The schema is that of ``tests/reference/README.md`` ("kvm"). The policy that must agree field by field is ``LEGACY``, as
the recorded kernel had no vNMI hardware; ``VNMI`` must deliver the same number of NMIs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vnmi_lab.guest import COUNTERS, MAIN, STACK, Guest, count
from vnmi_lab.hv.profiles import LEGACY
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.hw.delivery import CODE_SELECTOR, DATA_SELECTOR, IF
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.kvm import KEEP, Kvm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vnmi_lab.hv.ops import NmiOps

NMI_VECTOR, IRQ_VECTOR = 2, 0x40
MINI = {
    "nop": "90",
    "hlt": "f4",
    "cli": "fa",
    "sti": "fb",
    "mov ss": "418ed4",
    "iret": "48cf",
    "pause": "f390",
}
SHOWN_EXITS = {"IRET": "IRET", "EXC_DB": "DB", "HLT": "HLT"}
"""Exits that a row lists, and what it calls them."""
_SETEV = re.compile(r"SETEV p=(-?\d+),? i=(-?\d+),? m=(-?\d+),? s=(-?\d+)$")
_FRAME = 40
LARGEST = 255
"""The fields of ``struct kvm_vcpu_events`` are bytes."""


class KvmCaseError(ValueError):
    """A case that cannot be replayed; the text says what is wrong with it."""


def assemble(program: Sequence[object] | None, vector: int) -> bytes:
    """Return a program's bytes in long mode: the recording used 16-bit code, and only the order matters."""
    out = b""
    for item in program or ():
        name = str(item)
        if name == "count":
            out += count(vector)
        elif re.fullmatch(r"out 0x[0-9a-f]{1,2}", name):
            out += bytes([0xE6, int(name[4:], 16)])
        elif name in MINI:
            out += bytes.fromhex(MINI[name])
        else:
            msg = f"unknown guest instruction {name!r}"
            raise KvmCaseError(msg)
    return out


def machine(case: Mapping[str, object], ops: NmiOps = LEGACY, features: Features | None = None) -> Kvm:
    """Return the case's guest under a policy, before its first step."""
    programs = {NMI_VECTOR: case.get("nmi_handler"), IRQ_VECTOR: case.get("int40_handler")}
    handlers = {v: assemble(_list(p), v) for v, p in programs.items() if p}
    guest = Guest.of(assemble(_list(case["main"]), 0) + b"\xf4" * 64, handlers, tail="hlt")
    kvm = Kvm(guest, ops, features, irqchip=False)
    frame = (MAIN, CODE_SELECTOR, 2, STACK, DATA_SELECTOR)
    for i, word in enumerate(frame):
        kvm.cpu.memory.write(STACK - _FRAME + 8 * i, 8, word)
    kvm.vcpu.vmcb.rsp = STACK - _FRAME
    return kvm


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        msg = f"a program must be a list, not {value!r}"
        raise KvmCaseError(msg)
    return value


def replay(
    case: Mapping[str, object], ops: NmiOps = LEGACY, features: Features | None = None
) -> list[dict[str, object]]:
    """Carry out a case's steps and return its rows."""
    kvm = machine(case, ops, features or Features(vnmi_cpuid=ops.uses_vnmi))
    rows: list[dict[str, object]] = []
    seen = 0
    recorded = case["rows"]
    assert isinstance(recorded, list)
    for row in recorded:
        said = _step(kvm, str(row["step"]))
        events = kvm.events()
        names = [exit_name(code) for code in kvm.vcpu.exits[seen:]]
        seen = len(kvm.vcpu.exits)
        rows.append(
            {
                "step": said,
                "exits": [SHOWN_EXITS[name] for name in names if name in SHOWN_EXITS],
                "pending": events.pending,
                "injected": int(events.injected),
                "masked": int(events.masked),
                "shadow": events.shadow,
                "nmi_count": kvm.cpu.memory.read(COUNTERS + 8 * NMI_VECTOR, 8),
                "IF": int(kvm.vcpu.vmcb.rflags & IF > 0),
            }
        )
    return rows


def _step(kvm: Kvm, step: str) -> str:
    """Do one step and say what it was; a run says where it stopped."""
    text = step.removesuffix(" rc=0")
    events = _SETEV.match(text)
    if text == "start":
        return step
    if re.fullmatch(r"NMI x[1-9]\d{0,3}", text):
        kvm.nmi(int(text[5:]))
    elif re.fullmatch(r"SET masked=[01]", text):
        kvm.set_events(masked=int(text[-1]))
    elif events:
        kvm.set_events(*(_setting(int(value)) for value in events.groups()))
    elif re.fullmatch(r"HLT|OUT 0x[0-9a-f]{1,2}", text):
        return kvm.run().text
    else:
        msg = f"unknown step {step!r}"
        raise KvmCaseError(msg)
    return step


def _setting(value: int) -> int:
    if not KEEP <= value <= LARGEST:
        msg = f"a number of SETEV must be {KEEP} to {LARGEST}, not {value}"
        raise KvmCaseError(msg)
    return value


def first_difference(case: Mapping[str, object]) -> tuple[int, str, object, object] | None:
    """Return row, field, recorded and ours of the first difference under ``LEGACY``, or None."""
    recorded = case["rows"]
    assert isinstance(recorded, list)
    for i, (theirs, ours) in enumerate(zip(recorded, replay(case), strict=True)):
        for field, value in theirs.items():
            got = ours.get(field, "no such field")
            if got != value:
                return i, field, value, got
    return None


assert KEEP == -1, "the recordings write -1 for leave"
