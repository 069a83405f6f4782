"""A learner's hook in a process of its own: the same verdict, and no way to cheat."""

from __future__ import annotations

from pathlib import Path

import pytest

from vnmi_lab import isolate
from vnmi_lab.cli import main
from vnmi_lab.explore import Verdict
from vnmi_lab.hv.profiles import LEGACY
from vnmi_lab.isolate import ask
from vnmi_lab.judge import LearnerError, judge
from vnmi_lab.laws import LAWS

RIGHT = """
from vnmi_lab.hv.vcpu import REQ_EVENT

def iret_interception(vcpu):
    vcpu.awaiting_iret_completion = True
    vcpu.nmi_iret_rip = int(vcpu.vmcb.rip)
    vcpu.vmcb.intercept("iret", on=False)
    vcpu.make_request(REQ_EVENT)
"""
EARLY = """
def iret_interception(vcpu):
    print("a learner may print")
    vcpu.nmi_masked = False
    vcpu.vmcb.intercept("iret", on=False)
    vcpu.make_request(2)
"""
CHEATS = """
import sys
import vnmi_lab.explore, vnmi_lab.judge, vnmi_lab.laws
vnmi_lab.laws.LAWS = ()
vnmi_lab.explore.Verdict.holds = True
vnmi_lab.judge.LAWS = ()
sys.modules["vnmi_lab.explore"] = None
"""
PROCESS_NMI = """
def process_nmi(vcpu):
    limit = 1 if vcpu.ops.get_nmi_mask(vcpu) or vcpu.nmi_injected else 2
    limit -= vcpu.ops.is_vnmi_pending(vcpu)
    vcpu.nmi_pending = min(vcpu.nmi_pending + vcpu.nmi_queued, limit)
    vcpu.nmi_queued = 0
    if vcpu.nmi_pending and vcpu.ops.set_vnmi_pending(vcpu):
        vcpu.nmi_pending -= 1
    if vcpu.nmi_pending:
        vcpu.make_request(2)
"""


def asked(folder: Path, source: str, name: str = "iret_interception") -> tuple[Verdict, ...]:
    """Judge a hook from a file with that source."""
    file = folder / "mine.py"
    file.write_text(source)
    return ask(f"{file}:{name}", "idle", 2)


def test_a_right_hook_gives_the_verdict_it_gives_in_process(tmp_path: Path) -> None:
    (alone,) = asked(tmp_path, RIGHT)
    (here,) = judge(LEGACY, "idle", 2)
    assert alone.holds
    assert (alone.states, alone.transitions) == (here.states, here.transitions)
    assert alone.policy == "mine.py:iret_interception"


def test_a_wrong_hook_gets_its_schedule_and_may_print(tmp_path: Path) -> None:
    (verdict,) = asked(tmp_path, EARLY)
    assert verdict.broken is not None
    assert verdict.broken.slug == "not_before_iret"


def test_cheating_does_not_reach_the_judge(tmp_path: Path) -> None:
    (verdict,) = asked(tmp_path, CHEATS + EARLY)
    assert verdict.broken is not None
    assert LAWS, "the laws of this process are as they were"
    assert not verdict.holds


def test_a_vnmi_hook_goes_into_the_vnmi_policy(tmp_path: Path) -> None:
    (verdict,) = asked(tmp_path, PROCESS_NMI, "process_nmi")
    assert verdict.holds


TROUBLE = [  # the file, what is said
    ("def iret_interception(vcpu):\n    vcpu.nmi_maskd = 1\n", "AttributeError: .* at line 2: vcpu.nmi_maskd = 1"),
    ("def iret_interception(vcpu):\n    while True:\n        pass\n", "still running after 20,000 lines, at line"),
    ("def iret_interception(vcpu):\n    import os\n    os._exit(0)\n", "ended its process instead of returning"),
    ("def iret_interception(vcpu):\n    import time\n    time.sleep(60)\n", "did not return within 1 seconds"),
    ("def iret_interception(vcpu):\n    return 'yes'\n", "returned 'yes'; a hook returns nothing, a number"),
    ("1 / 0\n", "ZeroDivisionError: division by zero at line 1: 1 / 0"),
    ("x = 1\n", "has no function 'iret_interception'"),
    ("def iret_interception(vcpu:\n    return\n", "SyntaxError"),
]


@pytest.mark.parametrize(("source", "said"), TROUBLE)
def test_trouble_is_one_line(source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolate, "SECONDS", 1.0)
    with pytest.raises(LearnerError, match=said) as problem:
        asked(tmp_path, source)
    assert "\n" not in str(problem.value)


def test_the_command_runs_a_file_in_its_own_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(CHEATS + EARLY)
    assert main(["explore", "--policy", f"{file}:iret_interception", "--guest", "idle"]) == 1
    assert "broken after" in capsys.readouterr().out
