"""Runs of a guest under KVM that several tests look at."""

from __future__ import annotations

from vnmi_lab.guest import Guest
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import Stimulus

MAIN = "mov rcx, 2\nagain: nop\ndec rcx\njne again\nhlt"
HANDLER = "push rax\ninside: nop\npop rax\niretq"


def two_at_once(ops: NmiOps) -> Kvm:
    """Return a guest that counts down while two NMIs arrive together."""
    return Kvm(Guest.of(MAIN, {2: HANDLER}, tail="hlt"), ops, stimuli=[Stimulus("again", times=2)])
