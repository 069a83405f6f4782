"""The text of ftrace: each line in the format that the kernel prints, and every exit and entry of the run in it."""

from __future__ import annotations

import re

import pytest

from tests.export_runs import Make, bare, every_run, hosted, interrupted, of, worded
from vnmi_lab.export import write
from vnmi_lab.export.ftrace import OWN, REASONS, _injected, _kvm
from vnmi_lab.hw.events import Event, VmExit, Vmrun
from vnmi_lab.hw.svm import EXIT_NAMES
from vnmi_lab.timeline import TraceLike

LINE = re.compile(r"^ *(?P<task>.{1,16})-(?P<pid>\d+) +\[(?P<cpu>\d{3})\] (?P<flags>\S{5}) +"
                  r"(?P<time>\d+\.\d{6}): (?P<event>\w+): (?P<fields>.*)$")  # fmt: skip
HEX = r"0x[0-9a-f]+"
FORMATS = {
    "kvm_entry": rf"vcpu \d+, rip {HEX}",
    "kvm_exit": rf"vcpu \d+ reason [a-zA-Z_0-9 ]+ rip {HEX} info1 0x[0-9a-f]{{16}} info2 0x[0-9a-f]{{16}}"
    r" intr_info 0x[0-9a-f]{8} error_code 0x[0-9a-f]{8}",
    "kvm_inj_virq": rf"(IRQ|Soft/INTn) {HEX}( \[reinjected\])?",
    "kvm_inj_exception": rf"(#[A-Z]{{2}}|{HEX})( \({HEX}\))?( \[reinjected\])?",
}
"""Linux 6.12, arch/x86/kvm/trace.h: the formats of its TP_printk, as expressions."""


def lines(trace: TraceLike) -> list[re.Match[str]]:
    found = [LINE.match(line) for line in write(trace, "ftrace").text.splitlines() if not line.startswith("#")]
    assert None not in found
    return [match for match in found if match]


@every_run
def test_every_line_is_one_that_the_kernel_could_print(make: Make) -> None:
    trace = make()
    text = write(trace, "ftrace").text
    found = lines(trace)
    assert text.isascii()
    assert f"# entries-in-buffer/entries-written: {len(found)}/{len(found)}   #P:1" in text
    times = [float(match["time"]) for match in found]
    assert times == sorted(times)
    kvm = any(trace[index].calls for index in range(len(trace)))
    for match in found:
        if match["event"] in FORMATS:
            assert kvm
            assert re.fullmatch(FORMATS[match["event"]], match["fields"]), match[0]
        else:
            assert match["event"].startswith("vnmi_lab_")


@every_run
def test_entries_and_exits_are_those_of_the_run_in_their_order(make: Make) -> None:
    trace = make()
    steps = [trace[index] for index in range(len(trace))]
    kvm = any(step.calls for step in steps)
    wanted: list[tuple[str, int, int | None]] = []
    for step in steps:
        wanted += [("entry", e.rip, None) for e in step.events if isinstance(e, Vmrun)]
        wanted += [("exit", e.rip, e.info1) for e in step.events if isinstance(e, VmExit)]
    found = []
    names = ("kvm_entry", "kvm_exit") if kvm else ("vnmi_lab_vmrun", "vnmi_lab_vmexit")
    for match in lines(trace):
        if match["event"] in names:
            fields = dict(re.findall(r"(rip|info1) (0x[0-9a-f]+)", match["fields"]))
            way = "entry" if match["event"] == names[0] else "exit"
            found.append((way, int(fields["rip"], 16), int(fields["info1"], 16) if way == "exit" else None))
    assert found == wanted


def test_a_line_stands_in_the_columns_of_ftrace() -> None:
    text = write(of("in-handler", "legacy"), "ftrace").text
    assert "        vnmi_lab-1       [000] .....     0.001003: kvm_entry: vcpu 0, rip 0x300000\n" in text
    assert (
        ": kvm_exit: vcpu 0 reason iret rip 0x310205 info1 0x0000000000000000 info2 0x0000000000000000"
        " intr_info 0x00000000 error_code 0x00000000\n"
    ) in text
    assert ": vnmi_lab_inj_nmi: vector 0x2\n" in text
    assert text.splitlines()[2] == "# tracer: nop"


def test_without_kvm_no_event_has_the_name_of_one_of_kvm() -> None:
    for make in (bare, hosted, interrupted):
        assert not [match[0] for match in lines(make()) if match["event"].startswith("kvm_")]


def test_an_nmi_whose_delivery_was_interrupted_is_injected_again() -> None:
    assert ": vnmi_lab_inj_nmi: vector 0x2 [reinjected]\n" in write(of("idt-absent", "legacy"), "ftrace").text


@pytest.mark.parametrize(
    ("word", "again", "said"),
    [
        (0x80000041, False, "kvm_inj_virq: IRQ 0x41"),
        (0x80000041, True, "kvm_inj_virq: IRQ 0x41 [reinjected]"),
        (0x80000480, False, "kvm_inj_virq: Soft/INTn 0x80"),
        (0x80000301, False, "kvm_inj_exception: #DB"),
        (0x1080000B0E, True, "kvm_inj_exception: #PF (0x10) [reinjected]"),
        (0x80000202, False, "vnmi_lab_inj_nmi: vector 0x2"),
    ],
)
def test_what_is_injected_has_the_name_of_its_tracepoint(word: int, again: bool, said: str) -> None:  # noqa: FBT001
    assert _injected(word, again=again) == said
    name, fields = said.split(": ", 1)
    assert name not in FORMATS or re.fullmatch(FORMATS[name], fields)


def test_an_exit_with_an_interrupted_delivery_tells_its_error_code() -> None:
    text = next(iter(_kvm(VmExit("R-NPF", 0x1000, 0x400, 4, 0x330000, 0x1080000B0E), 0)))
    assert "reason npf " in text
    assert text.endswith("info2 0x0000000000330000 intr_info 0x80000b0e error_code 0x00000010")


def test_every_exit_the_machine_knows_has_the_kernel_s_name() -> None:
    exceptions = range(0x40, 0x60)
    assert {code for code in EXIT_NAMES if code not in exceptions} == set(REASONS)
    assert "reason DB excp " in next(iter(_kvm(VmExit("R", 0, 0x41, 0, 0, 0), 0)))
    assert "reason 0x7fff " in next(iter(_kvm(VmExit("R", 0, 0x7FFF, 0, 0, 0), 0)))


def test_every_event_has_a_line() -> None:
    assert set(OWN) == set(Event.__args__)
    text = write(worded(), "ftrace").text
    assert all(line.startswith(("#", " ")) for line in text.splitlines())
