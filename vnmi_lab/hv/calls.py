"""The call path of KVM functions: who is running, in which source file, and what each of them changed.

A function of the hypervisor is marked with ``@kvm("svm/svm.c")``. While somebody traces, entering and leaving one is a
fact in the trace, and whatever changed in the vCPU's fields or in its VMCB since the last such moment is attributed to
the function that was running: that function is the rule of the change.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

from vnmi_lab.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.hv.vcpu import Vcpu

P = ParamSpec("P")
R = TypeVar("R")


class Origin(NamedTuple):
    """Where a function comes from: whose code does so, and the grade of that."""

    text: str
    grade: str


LINUX = Origin("Linux 6.12, arch/x86/kvm/", "KVM")
OURS = Origin("this project, and no kernel", "model")
FUNCTIONS: dict[str, Rule] = {}
"""Every marked function as a rule of its own: "K-process_nmi", its sentence, its source."""


def rule_of(function: str) -> str:
    """Return the id of the rule that stands for a KVM function."""
    return f"K-{function}"


def _source(origin: Origin, file: str, function: str) -> str:
    """Name whose code does so, with file and function where ``origin`` is a folder of a kernel."""
    return f"{origin.text}{file}: {function}()" if origin.text.endswith("/") else origin.text


def kvm(
    file: str, origin: Origin = LINUX, function: str | None = None
) -> Callable[[Callable[Concatenate[Vcpu, P], R]], Callable[Concatenate[Vcpu, P], R]]:
    """Mark a function of the hypervisor with the file of the kernel that has it.

    ``origin``: whose code does so, if it is not that of the pinned kernel; ``function``: its name there, if another.
    """
    named = function

    def mark(function: Callable[Concatenate[Vcpu, P], R]) -> Callable[Concatenate[Vcpu, P], R]:
        name = function.__name__
        sentence = (function.__doc__ or name).strip().splitlines()[0]
        FUNCTIONS[rule_of(name)] = Rule(rule_of(name), sentence, _source(origin, file, named or name), origin.grade)

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
