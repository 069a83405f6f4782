"""The call path of KVM functions: who is running, in which source file, and what each of them changed.

A function of the hypervisor is marked with ``@kvm("svm/svm.c")``. While somebody traces, entering and leaving one is a
fact in the trace, and whatever changed in the vCPU's fields or in its VMCB since the last such moment is attributed to
the function that was running: that function is the rule of the change.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from vnmi_lab.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.hv.vcpu import Vcpu

P = ParamSpec("P")
R = TypeVar("R")
LINUX = "Linux 6.12, arch/x86/kvm/"
FUNCTIONS: dict[str, Rule] = {}
"""Every marked function as a rule of its own: "K-process_nmi", its sentence, its source."""


def rule_of(function: str) -> str:
    """Return the id of the rule that stands for a KVM function."""
    return f"K-{function}"


def kvm(file: str) -> Callable[[Callable[Concatenate[Vcpu, P], R]], Callable[Concatenate[Vcpu, P], R]]:
    """Mark a function of the hypervisor with the file of the kernel that has it."""

    def mark(function: Callable[Concatenate[Vcpu, P], R]) -> Callable[Concatenate[Vcpu, P], R]:
        name = function.__name__
        sentence = (function.__doc__ or name).strip().splitlines()[0]
        FUNCTIONS[rule_of(name)] = Rule(rule_of(name), sentence, f"{LINUX}{file}: {name}()", "KVM")

        @wraps(function)
        def call(vcpu: Vcpu, *args: P.args, **kwargs: P.kwargs) -> R:
            if vcpu.cpu.sink is None:
                return function(vcpu, *args, **kwargs)
            vcpu.enter(name, file)
            try:
                return function(vcpu, *args, **kwargs)
            finally:
                vcpu.leave()

        marked: Any = call
        marked.kvm_file = file
        return cast("Callable[Concatenate[Vcpu, P], R]", marked)

    return mark
