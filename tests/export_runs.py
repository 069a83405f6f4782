"""Runs that every export is tried on: the library under two policies, other machines, and runs at the edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.timeline_runs import Run, hostile, looping
from vnmi_lab.guest import Guest
from vnmi_lab.library import LIBRARY, find
from vnmi_lab.machine import BareMetal, Host, Stimulus
from vnmi_lab.timeline import TraceLike
from vnmi_lab.trace import Trace

Make = Callable[[], TraceLike]
FAST = {"in-handler", "storm", "invalid", "idt-absent"}
HANDLER = "push rax\ninside: inc qword [rbx+0x10]\npop rax\niretq"


def of(name: str, policy: str) -> Trace:
    scenario = find(name).on(policy)
    return Trace(scenario.machine(), str(scenario))


def bare() -> Trace:
    guest = Guest.of("mov rcx, 3\nagain: nop\ndec rcx\njne again\nsti\nhlt", {2: HANDLER}, tail="hlt")
    return Trace(BareMetal(guest, [Stimulus("again"), Stimulus("inside")]), "Two NMIs")


def hosted() -> Trace:
    host = Host(Guest.of("nop\nnop\nvmmcall", {2: HANDLER}))
    host.load([("set", "event_inj", 0x80000200), "run"])
    return Trace(host, "An injected NMI")


def interrupted() -> Trace:
    """An interrupt, an exception with an error code and an INT, each through EVENTINJ."""
    host = Host(Guest.of("nop\nnop\nvmmcall", {0x41: "iretq"}))
    host.load([("set", "event_inj", 0x80000041), "run"])
    return Trace(host, "An injected interrupt")


def single() -> Run:
    return Run("One step").run()


def huge() -> Run:
    """Values of 64 bits with their highest bit set, and one that no register could hold."""
    run = Run("Large numbers", world="host")
    for value in ((1 << 64) - 1, 1 << 63, (1 << 53) + 1, 1 << 64):
        run.step("exec", "mov rax, ...", "A large number.", rax=("R-RIP", value), event_inj=("R-RIP", value))
    return run


def worded() -> Run:
    """Texts that are neither ASCII nor markup: an umlaut, a line break, a backslash, half of a pair, a formula."""
    run = Run("=cmd|' /C calc'!A0 $end \u00fc\n\ud800")
    run.step("exec", "@nop \\ $end #5", "+1 \u2192 \n#9\n", rcx=("R-RIP", 7))
    run.steps[0] = replace(run.steps[0], state=run.steps[0].state | {'a key, "odd" $end': 3, "word": "=1+1"})
    return run


EDGES: dict[str, Make] = {
    "bare": bare, "hosted": hosted, "interrupted": interrupted, "single": single, "huge": huge, "worded": worded,
    "hostile": hostile, "looping": lambda: looping(1500),
}  # fmt: skip


def _named(name: str, policy: str) -> Make:
    return lambda: of(name, policy)


RUNS = [
    *(
        pytest.param(_named(name, policy), id=f"{name}-{policy}", marks=[] if name in FAST else pytest.mark.slow)
        for name in LIBRARY
        for policy in ("legacy", "vnmi")
    ),
    *(pytest.param(make, id=name) for name, make in EDGES.items()),
]
every_run = pytest.mark.parametrize("make", RUNS)
