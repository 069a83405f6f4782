"""The Promela model beside the judge: it is in the checkout, and where Spin is, both come to the same."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vnmi_lab import bench
from vnmi_lab.explore import Search, explore
from vnmi_lab.hv.profiles import POLICIES
from vnmi_lab.hv.vcpu import REQ_EVENT, REQ_NMI
from vnmi_lab.hw.delivery import TF
from vnmi_lab.kvm import EXITED, GUEST
from vnmi_lab.laws import LAWS, Law, Moment, Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vnmi_lab.kvm import Kvm

needs_spin = pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("gcc")), reason="needs Spin: apt-get install spin gcc"
)

SAMPLE = """\

(Spin Version 6.5.2 -- 6 December 2019)
\t+ Partial Order Reduction

Full statespace search for:
\tnever claim         \t- (none specified)
\tassertion violations\t+
\tcycle checks       \t- (disabled by -DSAFETY)
\tinvalid end states\t+

State-vector 36 byte, depth reached 45, errors: 0
      812 states, stored
      326 states, matched
     1138 transitions (= stored+matched)
        0 atomic steps
hash conflicts:         0 (resolved)

Stats on memory usage (in Megabytes):
    0.050\tequivalent memory usage for states (stored*(State-vector + overhead))
    0.286\tactual memory usage for states

pan: elapsed time 0 seconds
"""
BROKEN = "pan:1: assertion violated  !(in_service) (at depth 31)\npan: wrote nmi.pml.trail\n" + SAMPLE.replace(
    "errors: 0", "errors: 1"
).replace("\t+ Partial", "Warning: Search not completed\n\t+ Partial")
SHORT = "error: max search depth too small\n" + SAMPLE


def test_the_model_names_every_mutant_that_is_tried() -> None:
    text = bench.PROMELA.read_text(encoding="utf-8")
    assert all(f"defined({flag[2:]})" in text for flags in WRONG.values() for flag in flags)
    assert (bench.PROMELA.parent / "README.md").is_file()


@pytest.mark.parametrize(("text", "errors"), [(SAMPLE, 0), (BROKEN, 1)], ids=["holds", "broken"])
def test_what_spin_prints_is_read(text: str, errors: int) -> None:
    assert bench.parse_spin(text) == bench.Spun(812, errors)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\npan: reached -DMEMLIM bound\n", "pan: reached -DMEMLIM bound"),
        ("", "nothing"),
        (SHORT, "error: max search depth too small"),
    ],
)
def test_a_search_that_did_not_end_is_no_verdict(text: str, said: str) -> None:
    with pytest.raises(bench.SpinError, match=f"gave no verdict, but said: {said}$"):
        bench.parse_spin(text)


@pytest.mark.parametrize(
    ("program", "model", "line"),
    [
        (None, "nmi.pml", "no spin on the PATH (Debian: apt-get install spin gcc)"),
        (sys.executable, "none.pml", "its model is in a checkout only (benchmarks/spin/none.pml)"),
        (sys.executable, "nmi.pml", f"{Path(sys.executable).name} failed with 2: "),
        (str(Path(__file__).parent), "nmi.pml", "tests did not run: "),
    ],
    ids=["no spin", "no model", "a tool that fails", "no program"],
)
def test_without_a_verdict_of_spin_the_bench_says_so_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str | None, model: str, line: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: program)
    monkeypatch.setattr(bench, "PROMELA", bench.PROMELA.with_name(model))
    assert list(bench.against_spin()) == []
    said = capsys.readouterr()
    assert said.err.startswith(f"no comparison with Spin: {line}")
    assert said.err.count("\n") == 1
    assert said.out == ""


# --- where Spin is ---------------------------------------------------------------------------------------------------

WRONG = {"m1": ("-DM1",), "m2": ("-DM2",), "m6": ("-DVNMI", "-DM6"), "m7": ("-DVNMI", "-DM7"), "m8": ("-DVNMI", "-DM8")}
ENDS = 2
"""States of Spin's alone: the process of the vCPU at its end, and gone."""


def modelled(kvm: Kvm, watch: Watch) -> tuple[object, ...]:
    """Return what of a state the Promela model has, too."""
    cpu, vcpu, vmcb = kvm.cpu, kvm.vcpu, kvm.vcpu.vmcb
    inside = kvm.phase == GUEST
    vnmi = cpu if inside else vmcb.int_ctl
    return (
        *(kvm.phase, kvm.rip, tuple(cpu.memory.read(frame, 8) for _vector, frame in cpu.frames)),
        *((cpu.rflags if inside else int(vmcb.rflags)) & TF, bool(cpu.trap) and inside, bool(cpu.irr)),
        *(bool(cpu.injection if inside else vmcb.event_inj.valid), bool(vmcb.intercept_3.iret)),
        *(bool(vnmi.v_nmi_pending), bool(vnmi.v_nmi_blocking), kvm.phase == EXITED and int(vmcb.exit_code)),
        *(vcpu.nmi_queued, vcpu.nmi_pending, bool(vcpu.requests & REQ_EVENT), bool(vcpu.requests & REQ_NMI)),
        *(vcpu.nmi_masked, vcpu.awaiting_iret_completion, vcpu.nmi_singlestep, vcpu.halted),
        *(vcpu.awaiting_iret_completion and vcpu.nmi_iret_rip,),
        *(watch.left, watch.waiting, watch.owed, watch.in_service),
    )


@needs_spin
@pytest.mark.slow
@pytest.mark.parametrize("nmis", [1, 2, 3])
@pytest.mark.parametrize("policy", bench.DEFINES)
def test_the_judge_reaches_the_states_that_spin_reaches(policy: str, nmis: int) -> None:
    seen: set[object] = set()

    def note(moment: Moment) -> bool:
        seen.add(modelled(moment.kvm, moment.watch))
        return True

    search = Search(POLICIES[policy], nmis=nmis, laws=(*LAWS, Law("noted", "Every state is noted.", "", note)))
    seen.add(modelled(search.machine(), Watch(nmis)))
    assert explore(search).holds
    found = bench.spin(*bench.DEFINES[policy], f"-DNMIS={nmis}")
    assert (found.errors, found.states) == (0, len(seen) + ENDS)


@needs_spin
@pytest.mark.slow
@pytest.mark.parametrize("policy", WRONG)
def test_spin_finds_what_the_judge_finds(policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = sorted(bench.PROMELA.parent.iterdir())
    assert not explore(Search(POLICIES[policy])).holds
    assert bench.spin(*WRONG[policy]).errors == 1
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    assert sorted(bench.PROMELA.parent.iterdir()) == before


@needs_spin
@pytest.mark.slow
def test_a_mutant_of_the_other_policy_is_refused_in_a_line() -> None:
    with pytest.raises(bench.SpinError, match=r'^spin failed with 1: .*"M6, M7 and M8 are mutants of VNMI"$'):
        bench.spin("-DM6")


@needs_spin
@pytest.mark.slow
def test_the_bench_gives_each_part_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 1)
    figures = {figure.name: figure.value for figure in bench.against_spin()}
    for policy in bench.DEFINES:
        name = f"{policy}, 3 NMIs: Spin,"
        parts: Sequence[float] = [figures[f"{name} {part}"] for part in ("Promela to C", "C to program", "search")]
        assert figures[f"{name} source to verdict"] == pytest.approx(sum(parts))
