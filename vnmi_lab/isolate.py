"""Runs a learner's hook in a process of its own, so that it can change nothing but the vCPU it is given.

The judge, the machine and the verdict stay in the parent. For each call the parent sends the vCPU's fields and its VMCB
as one line of JSON; the child rebuilds them, calls the hook, and sends back what they are now. Nothing that comes back
is ever executed or unpickled. A hook that does not answer in time is ended with its process.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from base64 import b64decode, b64encode
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vnmi_lab.hv.ops import ROWS, NmiOps
from vnmi_lab.hv.profiles import POLICIES
from vnmi_lab.hv.vcpu import COUNTED, STATE, Features, Vcpu
from vnmi_lab.hw.bits import misspelt
from vnmi_lab.hw.cpu import Cpu
from vnmi_lab.judge import LearnerError, checked, judge, load_function, named, parent_of, split, watched
from vnmi_lab.machine import VMCB_PA

if TYPE_CHECKING:
    from collections.abc import Callable

    from vnmi_lab.explore import Verdict

SECONDS = 10.0
"""How long one call of a hook may take."""
FIELDS = (*STATE, *COUNTED)
LARGEST_LINE = 1 << 20


class Hook:
    """A learner's function from a file, living in a child process; call it like the function itself."""

    def __init__(self, path: Path, name: str, parent: str = "legacy") -> None:
        self.__name__ = name
        self.path, self.parent = path, parent
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, vcpu: Vcpu, *args: object) -> object:
        """Run the hook on the vCPU's fields and VMCB, and take over what it made of them."""
        answer = self._ask({**state_of(vcpu), "args": args})
        if "error" in answer:
            raise LearnerError(str(answer["error"]))
        take(vcpu, answer)
        return answer.get("result")

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        self._child = None

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        child = self._child = self._child or self._start()
        assert child.stdin is not None
        with suppress(BrokenPipeError):
            child.stdin.write(json.dumps(question).encode() + b"\n")
            child.stdin.flush()
        line = self._line(child)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self.close()
            msg = f"{self.__name__} ended its process instead of returning"
            raise LearnerError(msg)
        return answer

    def _line(self, child: subprocess.Popen[bytes]) -> bytes:
        assert child.stdout is not None
        ready, _, _ = select.select([child.stdout], [], [], SECONDS)
        if not ready:
            self.close()
            msg = f"{self.__name__} did not return within {SECONDS:g} seconds"
            raise LearnerError(msg)
        return child.stdout.readline(LARGEST_LINE)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "vnmi_lab.isolate", str(self.path), self.__name__, self.parent]
        root = str(Path(__file__).parents[1])
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
        )


def isolated(path: Path, name: str, parent: str = "legacy") -> tuple[NmiOps, Hook]:
    """Return ``parent`` with a learner's function in a child process, and the hook, to be closed after the search."""
    if name not in ROWS:
        raise ValueError(misspelt("NmiOps", name, list(ROWS), "hook"))
    if not path.is_file():
        msg = f"no such file {str(path)!r}"
        raise ValueError(msg)
    hook = Hook(path, name, parent)
    hooks: dict[str, Any] = {name: hook}
    return POLICIES[parent].but(f"{path.name}:{name}", **hooks), hook


def ask(
    policy: str, guest: str | None = None, nmis: int | None = None, *, switches: bool = False
) -> tuple[Verdict, ...]:
    """Judge a policy by name, or a hook in a learner's file by ``FILE.py:NAME``, which then runs in its own process.

    ``ValueError`` or ``LearnerError`` in one line for what cannot be judged.
    """
    checked(guest, nmis)
    if ".py" not in policy:
        return judge(named(policy), guest, nmis, switches=switches)
    path, name = split(policy)
    ops, hook = isolated(path, name, parent_of(name).name)
    try:
        return judge(ops, guest, nmis, switches=switches)
    finally:
        hook.close()


# --- what crosses the pipe -------------------------------------------------------------------------------------------


def state_of(vcpu: Vcpu) -> dict[str, Any]:
    """Return all of a vCPU that a hook may see or change, as JSON has it."""
    return {
        "fields": {name: getattr(vcpu, name) for name in FIELDS},
        "vmcb": b64encode(vcpu.vmcb.to_bytes()).decode(),
        "features": {name: getattr(vcpu.features, name) for name in Features.__slots__},
    }


def vcpu_of(state: dict[str, Any], ops: NmiOps) -> Vcpu:
    """Return a vCPU in a state, under a policy."""
    vcpu = Vcpu(Cpu(), VMCB_PA, ops, Features(**state["features"]))
    take(vcpu, state)
    return vcpu


def take(vcpu: Vcpu, answer: dict[str, Any]) -> None:
    """Take over fields and VMCB, each only if it still has the type it had."""
    vmcb = b64decode(answer["vmcb"])
    if len(vmcb) != len(vcpu.vmcb.to_bytes()):
        msg = "the hook returned a VMCB of another size"
        raise LearnerError(msg)
    for name, value in answer["fields"].items():
        if name not in FIELDS:
            raise LearnerError(misspelt("Vcpu", name, list(FIELDS)))
        setattr(vcpu, name, tuple(value) if isinstance(value, list) else value)
    vcpu.cpu.memory.write_bytes(vcpu.vmcb.pa, vmcb)


# --- the child -------------------------------------------------------------------------------------------------------


def child(path: Path, name: str, parent: str) -> None:
    """Answer calls of one hook, one a line, until the parent goes."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    try:
        with redirect_stdout(sys.stderr):
            function: Callable[..., object] = watched(load_function(path, name))
        trouble = ""
    except (ValueError, LearnerError) as problem:
        trouble = str(problem)
    for line in sys.stdin:
        with redirect_stdout(sys.stderr):
            answer = {"error": trouble} if trouble else _answer(function, parent, json.loads(line))
        print(json.dumps(answer), file=out, flush=True)


def _answer(function: Callable[..., object], parent: str, question: dict[str, Any]) -> dict[str, Any]:
    vcpu = vcpu_of(question, POLICIES[parent])
    try:
        result = function(vcpu, *question["args"])
    except LearnerError as problem:
        return {"error": str(problem)}
    if result is not None and not isinstance(result, bool | int):
        return {"error": f"{function.__name__} returned {result!r}; a hook returns nothing, a number, or True or False"}
    return {**state_of(vcpu), "result": result}


if __name__ == "__main__":
    child(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
