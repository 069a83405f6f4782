"""The judge: verdicts with their counts, shortest schedules that replay, and what it says of a learner's code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vnmi_lab.cli import main
from vnmi_lab.explore import NMI, STEP, Search, Verdict, brief, explore
from vnmi_lab.guests import GUESTS
from vnmi_lab.hv.profiles import LEGACY, POLICIES, VNMI
from vnmi_lab.hv.vcpu import Vcpu
from vnmi_lab.judge import (
    ACQUITTED,
    DEVIATIONS,
    EXPOSED,
    MOST_LINES,
    Case,
    Deviation,
    LearnerError,
    depends,
    divergence,
    judge,
    learned,
)
from vnmi_lab.kvm import Kvm
from vnmi_lab.laws import COMES_TO_REST, LAWS, Moment, Watch
from vnmi_lab.scenario import Scenario
from vnmi_lab.transparency import bare_metal, transparent

# policy, states seen, the law it breaks, the shortest schedule that breaks it
KILLED = [
    ("blind", 206, "not_before_iret", "step NMI step*2 NMI step*4"),
    ("patch-v4", 383, "looked_at", "step NMI*2 step*10"),
    ("vnmi-6.4-rc", 1193, "not_lost", "step NMI step*4 NMI step*2 NMI step*7"),
    ("xen-like", 305, "not_before_iret", "step NMI step*8 NMI step*4"),
    ("m1", 206, "not_before_iret", "step NMI step*2 NMI step*4"),
    ("m2", 281, "not_before_iret", "step NMI step*6 NMI step*2"),
    ("m3", 305, "not_before_iret", "step NMI step*8 NMI step*4"),
    ("m4", 2909, "not_before_iret", "step NMI step*7 NMI step*4"),
    ("m5", 317, "not_lost", "step NMI step*3 NMI*2 step*6"),
    ("m6", 383, "looked_at", "step NMI*2 step*10"),
    ("m7", 1788, "looked_at", "step NMI*2 step*4 NMI step*13"),
    ("m8", 1230, "not_lost", "step NMI step*4 NMI step*2 NMI step*7"),
    ("m9", 485, "not_before_iret", "step NMI step*5 migrate step NMI step*2"),
    ("m10", 7, "enters", "step*3"),
    ("m11", 185, "no_iret_exit", "step NMI*2 step*5"),
    ("m12", 796, "not_lost", "step NMI step*4 NMI step*2 NMI step*7"),
]
HOLD = {
    "legacy": [1838, 1883, 2375, 4393, 2215, 1649, 6021, 2011, 639, 651, 562, 1283],
    "vnmi": [2149, 2006, 2444, 3210, 2515, 2004, 6103, 2078, 2379, 984, 2149, 574, 595, 547, 1195, 1065],
}


@pytest.mark.parametrize(("policy", "states", "law", "schedule"), KILLED)
def test_a_wrong_policy_is_killed(policy: str, states: int, law: str, schedule: str) -> None:
    (verdict,) = judge(POLICIES[policy])
    assert verdict.broken is not None
    assert (verdict.states, verdict.broken.slug, brief(verdict.schedule)) == (states, law, schedule)


def test_every_shipped_policy_is_judged() -> None:
    assert {name for name, *_rest in KILLED} == set(EXPOSED)
    assert set(EXPOSED) | set(ACQUITTED) == set(POLICIES)


@pytest.mark.slow
@pytest.mark.parametrize("policy", HOLD)
def test_what_is_right_holds_everywhere(policy: str) -> None:
    verdicts = judge(POLICIES[policy])
    assert [verdict.states for verdict in verdicts] == HOLD[policy]
    assert all(verdict.holds for verdict in verdicts)


@pytest.mark.parametrize("policy", HOLD)
def test_what_is_right_holds_for_one_nmi(policy: str) -> None:
    ops = POLICIES[policy]
    assert all(case.verdict(ops, 1).holds for case in ACQUITTED[policy])


@pytest.mark.parametrize("deviation", DEVIATIONS, ids=lambda d: f"{d.policy} {d.case.guest}")
def test_a_known_deviation_is_found(deviation: Deviation) -> None:
    verdict = deviation.case.verdict(POLICIES[deviation.policy])
    assert verdict.broken is not None
    assert verdict.broken.slug == deviation.law
    assert "derived" in deviation.source


@pytest.mark.parametrize("policy", [name for name, *_rest in KILLED])
def test_a_counterexample_replays_to_the_law_it_breaks(policy: str) -> None:
    (verdict,) = judge(POLICIES[policy])
    assert verdict.search is not None
    kvm = verdict.replay()
    watch = Watch(verdict.search.nmis)
    for action in verdict.schedule:
        assert kvm.step()
        watch = watch.arrived() if action == NMI else watch.stepped(kvm)
    assert verdict.broken is not None
    done = not watch.left and kvm.is_waiting
    assert not verdict.broken.holds(Moment(kvm, watch, done))
    assert verdict.schedule.count(STEP) == kvm.ticks


# policy, guest: is everything it sees under two NMIs something that bare metal could show?
CLEAR = [
    ("legacy", "idle", True),
    ("vnmi", "idle", True),
    ("vnmi", "idle-faulty", True),
    ("blind", "idle", False),
    ("m2", "idle", False),
    ("m4", "idle", False),
    ("legacy", "idle-gif-self", False),
]


@pytest.mark.parametrize(("policy", "guest", "clear"), CLEAR)
def test_transparency(policy: str, guest: str, *, clear: bool) -> None:
    verdict = transparent(Search(POLICIES[policy], GUESTS[guest].source.guest(), 2))
    assert verdict.holds == clear
    assert clear or (verdict.broken is not None and verdict.broken.slug == "transparent")


def test_what_bare_metal_can_show() -> None:
    seen = bare_metal(GUESTS["idle-gif-self"].source.guest(), 0)
    after = GUESTS["idle-gif-self"].source.guest().labels()["after"]
    assert seen.beginnings == {(), (after,)}, "two NMIs behind CLGI are one: the latch is one deep"
    assert (
        len(bare_metal(GUESTS["idle"].source.guest(), 2).beginnings)
        > len(bare_metal(GUESTS["idle"].source.guest(), 1).beginnings)
        > 1
    )


def test_a_policy_whose_guest_never_rests_is_found() -> None:
    verdict = explore(Search(POLICIES["patch-v4"], nmis=2, laws=()))
    assert verdict.broken is COMES_TO_REST
    assert brief(verdict.schedule) == "NMI*2"


@pytest.mark.parametrize("policy", [name for name, *_rest in KILLED])
def test_a_counterexample_is_a_scenario(policy: str) -> None:
    (verdict,) = judge(POLICIES[policy])
    assert verdict.scenario is not None
    replayed, played = verdict.replay(), Scenario.parse(verdict.scenario).machine()
    assert len(verdict.scenario) <= 200
    assert isinstance(played, Kvm)
    for _action in verdict.schedule:
        assert replayed.step()
        assert played.step()
    assert played.snapshot() == replayed.snapshot()


# policy, the right one, what the guest sees first, and what it would see there; None: nothing else up to there
DIVERGED = [
    ("m2", "legacy", "NMI taken", "iretq"),
    ("m4", "legacy", "NMI taken", "iretq"),
    ("patch-v4", "vnmi", "nop", "NMI taken"),
    ("m9", "vnmi", "NMI taken", "nop"),
    ("m11", None, "", ""),
]


@pytest.mark.parametrize(("policy", "right", "ours", "theirs"), DIVERGED)
def test_the_first_divergence_is_what_the_guest_sees(policy: str, right: str | None, ours: str, theirs: str) -> None:
    (verdict,) = judge(POLICIES[policy])
    found = divergence(verdict)
    if right is None:
        assert found is None
    else:
        assert found is not None
        assert (found.right, found.ours.text, found.theirs.text) == (right, ours, theirs)
        assert str(found).startswith(f"first divergence from {right}, at step {found.ours.index}: ")


def test_what_holds_does_not_diverge() -> None:
    (verdict,) = judge(LEGACY, "idle", 1)
    assert divergence(verdict) is None


def test_two_searches_of_the_same_are_the_same() -> None:
    first, second = (explore(Search(VNMI, nmis=2)) for _ in range(2))
    assert replace(first, seconds=0) == replace(second, seconds=0)


def test_laws_are_sentences_with_a_source() -> None:
    assert len({law.slug for law in LAWS}) == len(LAWS)
    assert all(law.sentence.endswith(".") and law.source for law in LAWS)


def test_a_verdict_says_which_open_switch_it_depends_on() -> None:
    faulty = Case("idle-faulty", 2, transparent=True)
    first = faulty.verdict(LEGACY)
    assert not first.holds, "a faulting IRET moves RIP, and KVM takes that for the end of the handler"
    others = depends(LEGACY, faulty, first)
    assert set(others) == {"faulting_iret_unmasks"}, "a processor that unmasks then, too, shows the guest the same"
    assert others["faulting_iret_unmasks"].holds
    (plain,) = judge(LEGACY, "idle", 1, switches=True)
    assert plain.depends == ()
    assert str(plain).endswith("(depends on no open switch)")


def test_a_search_that_is_cut_does_not_claim_to_hold() -> None:
    verdict = explore(Search(LEGACY, nmis=2, most=100))
    assert not verdict.holds
    assert str(verdict) == "legacy: no law broken in the first 100 states; there are more"


def test_a_guest_that_gets_no_nmi_proves_nothing() -> None:
    verdict = explore(Search(LEGACY, nmis=0))
    assert not verdict.holds
    assert "no schedule delivers an NMI" in str(verdict)


# --- learner's code ---------------------------------------------------------------------------------------------------


def right(vcpu: Vcpu) -> None:
    """Do as KVM does."""
    LEGACY.iret_interception(vcpu)


def unmask_early(vcpu: Vcpu) -> None:
    """Unmask when IRET exits."""
    vcpu.nmi_masked = False
    vcpu.vmcb.intercept("iret", on=False)
    vcpu.make_request(2)


def raises(vcpu: Vcpu) -> None:
    """Use a field that does not exist."""
    vcpu.nmi_maskd = False  # type: ignore[attr-defined]  # that is the mistake


def endless(_vcpu: Vcpu) -> None:
    """Never return."""
    while True:
        pass


def named(function: object, name: str = "iret_interception") -> object:
    function.__name__ = name  # type: ignore[attr-defined]  # as if the learner had called it that
    return function


def verdict_on(function: object) -> Verdict:
    (*_, last) = judge(learned(named(function)), "idle", 2)  # type: ignore[arg-type]  # a function
    return last


def test_a_right_answer_holds_and_a_wrong_one_gets_its_schedule() -> None:
    assert verdict_on(right).holds
    wrong = verdict_on(unmask_early)
    assert wrong.broken is not None
    assert wrong.broken.slug == "not_before_iret"
    assert wrong.policy == "legacy but iret_interception=iret_interception"


def test_an_exception_names_the_learners_own_line() -> None:
    with pytest.raises(LearnerError, match=r"iret_interception raised AttributeError: .* at line \d+: vcpu.nmi_maskd"):
        verdict_on(raises)


def test_an_endless_loop_ends() -> None:
    with pytest.raises(LearnerError, match=rf"still running after {MOST_LINES:,} lines, at line \d+"):
        verdict_on(endless)


def test_a_function_of_another_name_is_no_hook() -> None:
    with pytest.raises(ValueError, match="no hook 'iret_intercept'; did you mean 'iret_interception'"):
        learned(named(right, "iret_intercept"))  # type: ignore[arg-type]  # a function


def test_the_command_judges_a_policy_or_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "--policy", "m2"]) == 1
    assert "m2: broken after 11 steps. After an NMI is delivered" in capsys.readouterr().out
    assert main(["explore", "--policy", "vnmi", "--guest", "idle", "--nmis", "1", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["policy"], found["holds"], found["law"]) == ("vnmi", True, None)
    file = tmp_path / "mine.py"
    file.write_text("def iret_interception(vcpu):\n    vcpu.nmi_masked = False\n    vcpu.make_request(2)\n")
    assert main(["explore", "--policy", f"{file}:iret_interception", "--guest", "idle"]) == 1
    assert "broken after" in capsys.readouterr().out


REFUSED = [
    (["--policy", "vnmii"], "the project has no policy 'vnmii'; did you mean 'vnmi'?"),
    (["--policy", "vnmi", "--guest", "idel"], "the project has no guest 'idel'; did you mean 'idle'?"),
    (["--policy", "vnmi", "--nmis", "0"], "the number of NMIs must be 1 to 8, not 0"),
    (["--policy", "no.py:iret_interception"], "no such file 'no.py'"),
    (["--policy", "no.py"], "'no.py' names no function; write FILE.py:NAME"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_what_cannot_be_judged_gets_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", *arguments]) == 2
    assert capsys.readouterr().err == f"vnmi-lab explore: {said}\n"


def test_a_file_that_does_not_load_names_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text("x = 1\ny = x / 0\n")
    assert main(["explore", "--policy", f"{file}:iret_interception"]) == 2
    assert "ZeroDivisionError: division by zero at line 2: y = x / 0" in capsys.readouterr().err


def test_guests_have_sentences_and_cases_name_them() -> None:
    assert all(guest.sentence for guest in GUESTS.values())
    asked = [*EXPOSED.values(), *(case for some in ACQUITTED.values() for case in some)]
    assert all(case.guest in GUESTS for case in asked)
