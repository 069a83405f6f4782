"""Laws that hold for every guest, every VMCB and every script: nothing the processor is given makes it fail.

Bytes are random, schedules are random, and VMCBs are random around a good one. The processor executes, faults, exits or
answers INVALID; runs can be cut anywhere; what a trace shows as changed is all that changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import V_GIF_ENABLE, V_IGN_TPR, V_IRQ, V_NMI, V_NMI_ENABLE, V_NMI_MASK
from vnmi_lab.guest import MAIN, Guest
from vnmi_lab.hv.calls import FUNCTIONS
from vnmi_lab.hv.profiles import POLICIES
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.hw import svm
from vnmi_lab.hw.cpu import Cpu
from vnmi_lab.hw.vmcb import LAYOUT, Field
from vnmi_lab.kvm import Kvm
from vnmi_lab.machine import VMCB_PA, BareMetal, Host, Stimulus
from vnmi_lab.rules import RULES, SWITCHABLE, Switches
from vnmi_lab.trace import Step, Trace

BUDGET = 120
HANDLED = (1, 2, 3, 6, 8, 11, 13, 14, 0x40)

# --- what is random

SNIPPETS = [
    bytes.fromhex(code)
    for code in (
        "90", "FB", "FA", "F4", "F390", "CC", "0F0B", "0FA2", "48CF", "0F01D9", "0F01DC", "0F01DD", "0F01D8", "CD40",
        "418ED4", "41C70700440000", "41C70740400000", "41C70700420000", "48C744240834120000", "9C810C24000100009D",
        "9C810C24000200009D", "48FF8310000000", "488B042500000080", "50", "58", "5C", "E680", "E580", "0F31", "EBFE",
        "48890425002030 00".replace(" ", ""), "488B0425F8FFDFFE", "0F011C2500003300", "C3", "E2FC", "6641",
    )
]  # fmt: skip
code = st.lists(st.one_of(st.sampled_from(SNIPPETS), st.binary(min_size=1, max_size=4)), max_size=24).map(b"".join)
handlers = st.dictionaries(st.sampled_from(HANDLED), code, max_size=3)
guests = st.builds(
    lambda main, handled, ist: Guest.of(main, handled, tail="hlt", ist={2: (1, 0x34C000)} if ist else {}),
    code, handlers, st.booleans(),
)  # fmt: skip
stimuli = st.lists(
    st.builds(
        Stimulus, st.integers(0, BUDGET), st.sampled_from(("nmi", "intr", "smi", "nmi", "init")), st.integers(1, 3)
    ),
    max_size=5,
)
switches = st.builds(
    Switches, *(st.booleans() for _ in Switches().names()),
    off=st.frozensets(st.sampled_from(sorted(SWITCHABLE)), max_size=2),
)  # fmt: skip

INT_CTL = [V_IRQ, V_NMI, V_NMI_MASK, V_GIF_ENABLE, V_NMI_ENABLE, V_IGN_TPR, 1 << 9, 1 << 24, 0xF0000, 0xFF]
words = st.one_of(
    st.sampled_from((0x80000200, 0x80000202, 0x80000040, 0x80000440, 0x80000300, 0x80000B0D, 0x80000B08, 0x80000302)),
    st.integers(0, (1 << 64) - 1),
)
flag = st.integers(0, 1)
lines = st.one_of(
    st.just(("run",)), st.just(("run",)), st.just(("run", "noskip")), st.just(("mark",)),
    st.tuples(st.just("inj"), words),
    st.tuples(st.sampled_from(("icpt", "noicpt")), st.sampled_from(("nmi", "iret", "hlt", "vintr", "intr", "shutdown",
    "smi", "init", "swint", "stgi", "cpuid", "vmmcall", "ioio_prot"))),
    st.tuples(st.sampled_from(("icpt_exc", "noicpt_exc")), st.sampled_from(HANDLED[:-1])),
    st.tuples(st.sampled_from(("tf", "if", "rf_tf", "hostif")), flag),
    st.tuples(st.just("ist"), st.integers(0, 3)),
    st.tuples(st.sampled_from(("ctl+", "ctl-")), st.sampled_from(INT_CTL)),
    st.tuples(st.just("gate"), st.sampled_from(HANDLED), flag),
    st.tuples(st.just("w64"), st.sampled_from(("rsp", "rip", "rflags", "idt_base")), st.one_of(st.integers(0,
    (1 << 64) - 1), st.sampled_from((MAIN, 0x350000, 1 << 33)))),
    st.sampled_from((("clgi",), ("stgi",), ("hostnmi",), ("hostintr",), ("hostsmi",), ("hostinit",))),
    st.lists(st.sampled_from((0x300000, 0x310000, 0x330000, 0x34F000, 0x332000)),
    max_size=2).map(lambda pages: ("absent", *pages)),
    st.tuples(st.just("set"), st.just("clean"), st.sampled_from((0, 8, 0xFFF))),
)  # fmt: skip
scripts = st.lists(lines, min_size=1, max_size=12)


def bare(guest: Guest, arrivals: list[Stimulus], how: Switches | None = None) -> BareMetal:
    return BareMetal(guest, arrivals, how)


def hosted(guest: Guest, script: list[tuple[object, ...]], how: Switches | None = None) -> Host:
    host = Host(guest, how)
    host.load(script)
    return host


machines = st.one_of(st.builds(bare, guests, stimuli), st.builds(hosted, guests, scripts))
any_machine = st.one_of(st.builds(bare, guests, stimuli, switches), st.builds(hosted, guests, scripts, switches))
Any: TypeAlias = BareMetal | Host

posted = st.lists(
    st.builds(
        Stimulus,
        st.integers(0, 60),
        st.sampled_from(("nmi", "nmi", "intr", "smi", "migrate", "getset")),
        st.integers(1, 3),
    ),
    max_size=5,
)
features = st.builds(
    Features, *(st.booleans() for _ in range(4)), sev_es_guest=st.booleans(), guest_mode=st.booleans(),
)  # fmt: skip
kvms = st.builds(
    lambda guest, policy, features, arrivals, irqchip: Kvm(guest, policy, features, None, arrivals, irqchip=irqchip),
    guests, st.sampled_from(list(POLICIES.values())), features, posted, st.booleans(),
)  # fmt: skip


def again(machine: Any) -> Any:
    """Return the machine before it was run, with the whole script queued."""
    if isinstance(machine, BareMetal):
        return machine.fresh()
    return hosted(machine.guest, machine.script, machine.switches)


def play(machine: Any, count: int = BUDGET) -> Any:
    machine.advance(count)
    return machine


# --- nothing fails


@given(any_machine)
def test_nothing_makes_the_processor_fail(machine: Any) -> None:
    play(machine)
    hash(machine.snapshot())


@given(st.lists(st.tuples(st.sampled_from(LAYOUT), st.integers(0, (1 << 64) - 1)), max_size=4), guests, switches)
def test_any_vmcb_is_run_or_refused(writes: list[tuple[Field, int]], guest: Guest, how: Switches) -> None:
    host = Host(guest, how)
    for row, value in writes:
        host.view.store(row.name, value & (1 << 8 * row.size) - 1)
    before = host.view.to_bytes()
    host.load(["run"])
    host.step()
    if not host.running:
        assert host.view.exit_code == svm.INVALID or how.off
        after = host.view.to_bytes()
        assert how.off or after[:0x70] + after[0x78:] == before[:0x70] + before[0x78:]
    host.advance(BUDGET)


@given(st.integers(0, 1 << 32), st.integers(0, (1 << 64) - 1))
def test_a_page_of_random_bytes_is_refused_or_run(seed: int, rax: int) -> None:
    cpu = Cpu()
    cpu.memory.write_bytes(VMCB_PA, Random(seed).randbytes(4096))  # noqa: S311 - no secret
    svm.vmrun(cpu, VMCB_PA)
    cpu.run(BUDGET)
    cpu = Cpu()
    cpu.r[0] = rax
    cpu.memory.write_bytes(0x1000, bytes.fromhex("0F01D8"))
    cpu.rip = 0x1000
    cpu.run(BUDGET)


# --- a run can be cut anywhere


@given(machines)
def test_advance_is_that_many_steps(machine: Any) -> None:
    other = again(machine)
    steps = 0
    while steps < BUDGET and other.step():
        steps += 1
    assert machine.advance(BUDGET) == steps
    assert machine.snapshot() == other.snapshot()


@given(machines, st.lists(st.integers(1, 30), max_size=20))
def test_advance_in_chunks_is_advance(machine: Any, chunks: list[int]) -> None:
    other = again(machine)
    done = sum(other.advance(chunk) for chunk in chunks)
    assert machine.advance(sum(chunks)) == done
    assert machine.snapshot() == other.snapshot()


@given(machines, st.integers(0, 40), st.integers(0, 40))
def test_restore_is_exact(machine: Any, before: int, after: int) -> None:
    machine.advance(before)
    here = machine.snapshot()
    digest = hash(here)
    machine.advance(after)
    there = machine.snapshot()
    machine.restore(here)  # type: ignore[arg-type]  # its own
    assert machine.snapshot() == here
    assert hash(machine.snapshot()) == digest
    machine.advance(after)
    assert machine.snapshot() == there


@given(machines, st.lists(st.integers(0, BUDGET), min_size=1, max_size=6))
def test_goto_is_the_machine_at_that_step(machine: Any, places: list[int]) -> None:
    trace = Trace(again(machine), limit=BUDGET)
    for place in places:
        if place <= len(trace):
            other = again(machine)
            other.advance(place)
            assert trace.goto(place).snapshot() == other.snapshot()


@given(machines)
def test_two_runs_are_equal(machine: Any) -> None:
    other = again(machine)
    assert play(machine).snapshot() == play(other).snapshot()


@given(machines)
def test_watching_changes_nothing(machine: Any) -> None:
    other = again(machine)
    play(machine)
    other.cpu.sink, other.cpu.memory.log = lambda _event: None, []
    play(other)
    assert machine.snapshot() == other.snapshot()


@given(machines, st.integers(0, 15), st.integers(0, 63), st.integers(0, 0xFFFF))
def test_snapshots_are_equal_exactly_when_states_are(machine: Any, register: int, bit: int, at: int) -> None:
    play(machine)
    here = machine.snapshot()
    machine.cpu.r[register] ^= 1 << bit
    assert machine.snapshot() != here
    machine.cpu.r[register] ^= 1 << bit
    value = machine.cpu.memory.read(0x340000 + at, 1)
    machine.cpu.memory.write(0x340000 + at, 1, value ^ 0xFF)
    assert machine.snapshot() != here
    machine.cpu.memory.write(0x340000 + at, 1, value)
    assert machine.snapshot() == here


# --- every change has its rule

NAMES = {  # a field of Step.state, and what a change of it may be called
    "iret_intercept": ("intercept_3.iret",),
    "IF": ("rflags", "vmcb.rflags"),
    "TF": ("rflags", "vmcb.rflags"),
    "shadow": ("int_state.interrupt_shadow", "vmcb.int_state"),
    "live_v_nmi_pending": ("v_nmi_pending",),
    "live_v_nmi_blocking": ("v_nmi_blocking",),
}
NOT_CHANGES = {"handler_depth", "host_nmi", "guest_mode"}  # told by Delivered, IretRetired, HostDid, Vmrun and VmExit
PARTS = {"int_ctl", "event_inj", "int_state", "clean", "exit_int_info"}  # a change of one names the bits


LOADED_FLAGS = 0x3D7FD5  # what VMRUN takes of RFLAGS; the others are constant


def _same_in_vmcb(name: str, old: object, new: object) -> bool:
    """Say whether two values are one as the VMCB has it: its shadow is one bit, constant flags are not loaded."""
    if name == "rflags" and isinstance(old, int) and isinstance(new, int):
        return old & LOADED_FLAGS == new & LOADED_FLAGS
    return name == "shadow" and bool(old) == bool(new)


def silent(before: Step, after: Step) -> list[str]:
    """Return the fields that differ between two steps though no change of the second names them."""
    told = {change.field for change in after.changes}
    found = []
    for name, new in after.state.items():
        old = before.state.get(name)
        if old == new or name in NOT_CHANGES or (name.startswith("live_") and None in (old, new)):
            continue
        if before.world != after.world and _same_in_vmcb(name, old, new):
            continue
        may = {name, f"vmcb.{name}", f"int_ctl.{name}", *NAMES.get(name, ())}
        if name in PARTS:
            may |= {field for field in told if field.startswith(f"{name}.")}
        if not may & told:
            found.append(f"{after.kind} {after.text!r}: {name} {old!r} -> {new!r}, told {sorted(told)}")
    return found


@given(machines)
def test_no_change_is_silent(machine: Any) -> None:
    trace = Trace(machine, limit=60)
    steps = list(trace)
    for before, after in itertools.pairwise(steps):
        if not (isinstance(machine, BareMetal) and after.kind in {"vmrun", "vmexit"}):  # a guest as its own host
            assert silent(before, after) == []
        assert {change.rule for change in after.changes} <= RULES.keys()
        assert after.sentence.endswith((".", ")", "!"))
        assert after.kind in {"exec", "deliver", "vmrun", "vmexit", "host", "stimulus", "stop"}


@given(kvms)
def test_no_change_under_kvm_is_silent(machine: Kvm) -> None:
    trace = Trace(machine, limit=60)
    for before, after in itertools.pairwise(list(trace)):
        assert silent(before, after) == []
        assert {change.rule for change in after.changes} <= trace.rules.keys() == RULES.keys() | FUNCTIONS.keys()
        assert after.sentence.endswith((".", ")", "!"))
        assert after.kind in {"exec", "deliver", "vmrun", "vmexit", "host", "kvm", "stimulus", "stop"}
        assert after.calls or after.kind not in {"kvm", "vmrun"}


@given(kvms)
def test_watching_kvm_changes_nothing(machine: Kvm) -> None:
    trace, other = Trace(machine.fresh(), limit=60), machine.fresh()
    list(trace)
    other.advance(len(trace))
    assert trace.goto(len(trace)).snapshot() == other.snapshot()


# --- a budget is a budget


@pytest.mark.parametrize("budget", [1, 127, 128, 129, 10_000])
def test_a_guest_that_never_ends(budget: int) -> None:
    guest = Guest.of("again: inc r8\njmp again")
    assert BareMetal(guest).run(budget).text == f"still running after {budget:,} steps"
    host = Host(guest)
    assert host.do("run", budget=budget).text == f"still running after {budget:,} steps"
    assert host.cpu.steps == budget
    assert host.do("run", budget=budget).kind == "budget"
    assert host.cpu.r[8] == budget


def test_a_trace_stops_at_its_limit() -> None:
    trace = Trace(BareMetal(Guest.of("again: jmp again")), limit=300)
    assert len(trace) == 300
    assert trace.cut


WRONG_LINES = [("icpt", "nmii"), ("set", "ripp", 1), ("inj", -1), ("ctl+", None), ("gate", 256, 1), ("nosuch",)]


def test_a_wrong_line_leaves_the_script_as_it_was() -> None:
    host = Host(Guest.of("vmmcall"))
    for line in WRONG_LINES:
        with pytest.raises((ValueError, AttributeError)):
            host.do(*line)  # type: ignore[arg-type]  # that is the point
    host.do("run")
    assert [report.exit_code for report in host.reports] == [0x81]
    assert play(host.fresh()).snapshot() == host.snapshot()


REFUSED: list[tuple[str, Callable[[], object]]] = [
    ("not init", lambda: Kvm(Guest.of("hlt"), stimuli=[Stimulus(0, "init")])),
    ("vector", lambda: Stimulus(0, "intr", vector=256)),
    ("vector", lambda: Stimulus(0, "intr", vector=-1)),
    ("IST index", lambda: Guest.of("hlt", ist={2: (8, 0x34C000)}).image()),
    ("IST index", lambda: Guest.of("hlt", ist={2: (-1, 0x34C000)}).image()),
    ("interrupt stack", lambda: Guest.of("hlt", ist={2: (1, 1 << 64)}).image()),
    ("vector", lambda: Guest.of("hlt", ist={256: (1, 0x34C000)}).image()),
]


@pytest.mark.parametrize(("what", "make"), REFUSED)
def test_what_cannot_be_is_refused_by_name(what: str, make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=what):
        make()
