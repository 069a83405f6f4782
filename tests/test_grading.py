"""Learners' notebooks, judged outside their own process: the verdicts of the notebook, whatever a notebook does."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.submissions import FOLDER, LABS, good, imports, notebook, submission, wrong
from vnmi_lab.checks import Exercise
from vnmi_lab.cli import main
from vnmi_lab.grading import BadNotebookError, Limits, Report, grade, sandbox

LAB = LABS["01"]
FIRST, SECOND, THIRD = LAB.exercises
GOOD = good(LAB)
QUICK = Limits(cell_seconds=2, seconds=30)


def outcomes(report: Report) -> list[str]:
    return [graded.result.outcome for graded in report.exercises]


# --- the same verdicts ---


def answer(exercise: Exercise, source: str) -> object:
    names: dict[str, object] = {}
    exec(f"{imports(LABS[exercise.id[3:5]])}\n{source}", names)  # noqa: S102  # what a learner's cells do
    return names[exercise.variable]


def test_a_lab_as_it_is_given_out_is_not_attempted() -> None:
    report = grade(FOLDER / LAB.notebook)
    assert outcomes(report) == ["not attempted"] * 3
    assert (report.earned, report.points, report.labs) == (0, 3, ("01",))


@pytest.mark.parametrize("number", [pytest.param(n, marks=[] if n == "03" else pytest.mark.slow) for n in LABS])
def test_good_and_wrong_answers_get_what_they_get_in_the_notebook(number: str, tmp_path: Path) -> None:
    lab = LABS[number]
    cells = [right if place % 2 else no for place, (right, no) in enumerate(zip(good(lab), wrong(lab), strict=True))]
    report = grade(submission(tmp_path, lab, cells))
    for place, (exercise, graded) in enumerate(zip(lab.exercises, report.exercises, strict=True)):
        if place % 2:
            assert (graded.result.outcome, graded.earned) == ("correct", 1)
        else:
            here = exercise.judged(answer(exercise, exercise.wrong[0].code))
            assert (graded.result, graded.earned) == (here, 0)


def test_an_answer_that_was_never_checked_counts_if_its_name_is_its_own(tmp_path: Path) -> None:
    report = grade(submission(tmp_path, LAB, [FIRST.good, *GOOD[1:]]))
    assert outcomes(report) == ["correct"] * 3


def test_the_last_answer_counts_and_a_program_may_look_for_it(tmp_path: Path) -> None:
    looks = f"for tried in ([], {FIRST.variable}):\n    result = lab.two_runs.check(tried)\nassert result.ok, result"
    report = grade(submission(tmp_path, LAB, [FIRST.good, looks, *GOOD[1:]]))
    assert outcomes(report) == ["correct"] * 3


def test_an_error_is_the_learners_own_line(tmp_path: Path) -> None:
    cells = ["stimuli = [1 / 0]\nlab.two_runs.check(stimuli)", "door = (\nlab.open_the_door.check(door)", "exit()"]
    first, second, third = (graded.result for graded in grade(submission(tmp_path, LAB, cells)).exercises)
    assert (first.outcome, first.message, first.line) == (
        "raised",
        "ZeroDivisionError: division by zero",
        "line 1: stimuli = [1 / 0]",
    )
    assert second.outcome == "raised"
    assert second.message.startswith("SyntaxError: '(' was never closed")
    assert third.outcome == "not attempted"


def test_a_hook_that_raises_gets_the_words_of_the_notebook(tmp_path: Path) -> None:
    lab = LABS["03"]
    cells = ["def iret_interception(vcpu):\n    vcpu.nmi_maskd = 1\n\nlab.write_it.check(iret_interception)"]
    found = {one.result.exercise: one.result for one in grade(submission(tmp_path, lab, cells)).exercises}
    result = found["lab03.write_it"]
    assert result.outcome == "raised"
    assert "AttributeError" in result.message
    assert result.line == "line 2: vcpu.nmi_maskd = 1"


def test_cells_that_are_not_python_do_no_harm(tmp_path: Path) -> None:
    others = ["%%bash\nrm -rf /", "%matplotlib inline\n!ls\nx = 1", "%%guest mine\nhlt", "show(1).cursor = 2", "show?"]
    report = grade(submission(tmp_path, LAB, ["from vnmi_lab import show", *others, "assert x and mine.main", *GOOD]))
    assert outcomes(report) == ["correct"] * 3


def test_hints_and_predictions_are_told(tmp_path: Path) -> None:
    prediction = LAB.predictions[0]
    name = prediction.id.replace("lab01", "lab")
    cells = ["lab.two_runs.hint()\nlab.two_runs.hint()", f'{name}.choose("A")', "lab.second_nmi.skip()"]
    report = grade(submission(tmp_path, LAB, cells))
    assert [graded.hints for graded in report.exercises] == [2, None, None]
    said = prediction.retold("A")
    assert said is not None
    assert [(one.id, one.answer, one.said) for one in report.predictions] == [
        (prediction.id, "A", said.said),
        ("lab01.second_nmi", None, "skipped"),
    ]


@pytest.mark.slow
def test_a_progress_file_beside_the_notebook_is_read_unless_it_may_be_anothers(tmp_path: Path) -> None:
    from vnmi_lab.checks.saved import FILE, Saved

    store = Saved(tmp_path / FILE)
    store.note("lab01.two_runs", "hint", {"number": 3})
    store.note("lab01.second_nmi", "choose", {"answer": "B", "said": "right"})
    path = submission(tmp_path, LAB, GOOD)
    report = grade(path)
    assert [graded.hints for graded in report.exercises] == [3, 0, 0]
    assert [one.id for one in report.predictions] == ["lab01.second_nmi"]
    (tmp_path / "01_of_a_friend.ipynb").write_text("{}")
    assert [graded.hints for graded in grade(path).exercises] == [None] * 3


# --- whatever a notebook does ---

PIPES = """
import json, os
for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"):
    try:
        os.write(int(name), WHAT)
    except (OSError, ValueError):
        pass
"""
BAD: dict[str, tuple[str, str]] = {  # the cell, and how the verdict on the exercise in it begins
    "loops": ("while True: pass", "This cell did not end in time."),
    "sleeps": ("import time\ntime.sleep(1000)", "This cell did not end in time."),
    "ends the process": ("import os\nos._exit(0)", "This cell ended its process."),
    "kills its group": ("import os\nos.killpg(0, 9)", "This cell ended its process."),
    "takes all memory": ("x = bytearray(1 << 40)", "MemoryError"),
    "fills a file": ("open('x', 'wb').write(bytes(17 << 20))", "OSError"),
    "reads what nobody types": ("input()", "EOFError"),
    "recurses": ("def f(): f()\nf()", "RecursionError"),
    "raises with a terminal's codes": ("raise ValueError('\\x1b[2J' + 'x' * 100_000)", "ValueError: \x1b[2Jxxx"),
    "says nonsense to the grader": (PIPES.replace("WHAT", 'b"nonsense\\n"'), "This cell wrote into the pipe"),
    "asks and does not listen": (
        PIPES.replace("WHAT", 'b\'{"check": "none"}\\n\' * 9000') + "import time\ntime.sleep(99)",
        "This cell does not listen to the grader.",
    ),
    "talks too long": ("for _ in range(10**6): lab.second_nmi.skip()", "This cell "),
    "leaves": ("raise SystemExit", "SystemExit: "),
}


FAST = ("loops", "ends the process", "raises with a terminal's codes")
EACH = [pytest.param(what, marks=[] if what in FAST else pytest.mark.slow) for what in BAD]


@pytest.mark.parametrize("what", EACH)
def test_what_one_cell_does_costs_no_other_its_verdict(what: str, tmp_path: Path) -> None:
    source, begins = BAD[what]
    path = submission(tmp_path, LAB, [GOOD[0], f"{source}\n{SECOND.good}\n{SECOND.call}", GOOD[2]])
    before = time.monotonic()
    report = grade(path, QUICK)
    assert outcomes(report) == ["correct", "raised", "correct"]
    assert report.exercises[1].result.message.startswith(begins)
    assert time.monotonic() - before < QUICK.seconds + 5, "the notebook's own limit, and no more"
    assert "\x1b" not in str(report)
    assert all(len(line) < 1_200 for line in str(report).splitlines())


def test_a_gigabyte_is_printed_into_nowhere(tmp_path: Path) -> None:
    cells = ["import os, sys\nline = b'x' * (1 << 20)", "for _ in range(1024): os.write(1, line); os.write(2, line)"]
    report = grade(submission(tmp_path, LAB, [*cells, "print('x' * (1 << 26))", *GOOD]))
    assert outcomes(report) == ["correct"] * 3
    assert len(str(report)) < 1_000


def test_fake_verdicts_and_patched_checks_are_worth_nothing(tmp_path: Path) -> None:
    patched = """
import vnmi_lab.checks.exercise as e, vnmi_lab.checks.result as r, vnmi_lab.laws, vnmi_lab.grading.session as s
right = r.Verdict(True, "fine")
e.Exercise.judged = e.Exercise.check = lambda self, answer: r.Result(self.id, "correct", "fine")
r.Result.ok = True
s.Session._judged = lambda *_: r.Result("lab01.two_runs", "correct", "fine")
for one in lab.EXERCISES: one.judge = lambda answer: right
"""
    fake = {"exercise": "lab01.two_runs", "outcome": "correct", "message": "", "line": "", "divergence": None}
    lines = [{"result": fake}, {"check": "lab01.two_runs", "result": fake}, {"ready": {"network": "mine"}}]
    said = "".join(json.dumps(line) + "\n" for line in lines).encode()
    cells = [patched, "print('lab01.two_runs: correct')", PIPES.replace("WHAT", repr(said)), *wrong(LAB)]
    report = grade(submission(tmp_path, LAB, cells), QUICK)
    assert report.earned == 0
    assert report.in_force["network"] != "mine"


def test_a_hook_cannot_reach_the_judge(tmp_path: Path) -> None:
    lab = LABS["03"]
    hook = """
def iret_interception(vcpu):
    import gc, vnmi_lab.laws, vnmi_lab.explore
    vnmi_lab.laws.LAWS = ()
    vnmi_lab.explore.explore = lambda *_: None
    vcpu.nmi_masked = False
    vcpu.vmcb.intercept("iret", on=False)
    vcpu.make_request(REQ_EVENT)

lab.write_it.check(iret_interception)
"""
    result = grade(submission(tmp_path, lab, [hook])).exercises[1].result
    assert result.outcome == "incorrect"
    assert result.message.startswith("Two NMIs nest")


@pytest.mark.slow
def test_a_hook_that_gives_back_nonsense_is_told_so(tmp_path: Path) -> None:
    lab = LABS["03"]
    returns = "def iret_interception(vcpu):\n    return 'yes'\n\nlab.write_it.check(iret_interception)"
    loops = "def iret_interception(vcpu):\n    import time\n    time.sleep(99)\n\nlab.write_it.check(iret_interception)"
    results = [
        grade(submission(tmp_path / str(n), lab, [cell]), QUICK).exercises[1].result
        for n, cell in enumerate((returns, loops))
    ]
    assert [result.outcome for result in results] == ["raised"] * 2
    assert "returned 'yes'; a hook returns nothing, a number" in results[0].message
    assert results[1].message == "This cell did not end in time."


def test_files_of_others_and_its_own_original_stay_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "handed in"
    helper = folder / "mine.py"
    path = submission(folder, LAB, ["import os, shutil, mine", "shutil.rmtree('.', ignore_errors=True)", *GOOD])
    helper.write_text("x = 1\n")
    friend = submission(tmp_path / "friend", LAB, GOOD)
    if sandbox.walls():
        reach = f"shutil.rmtree({str(tmp_path)!r}, ignore_errors=True)\nopen({str(tmp_path / 'new')!r}, 'w')"
        path = submission(folder, LAB, ["import os, shutil, mine", "shutil.rmtree('.', ignore_errors=True)", reach])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    report = grade(path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert outcomes(report) == ["not attempted" if sandbox.walls() else "correct"] * 3
    assert friend.exists()


def processes(word: str) -> list[str]:
    """Return the processes that have a word in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_children_end_with_their_notebook_also_in_sessions_of_their_own(tmp_path: Path) -> None:
    word = f"7{time.time_ns()}"
    forks = f"""
import os, subprocess
for n in range(5):
    subprocess.Popen(["sleep", "{word}"], start_new_session={sandbox.walls()})
"""
    report = grade(submission(tmp_path, LAB, [forks, *GOOD]))
    assert outcomes(report) == ["correct"] * 3
    assert processes(word) == []


def needs_walls() -> None:
    if not sandbox.walls():
        pytest.skip("no user namespaces here")


def test_behind_walls_there_is_no_network_no_other_process_and_no_swarm(tmp_path: Path) -> None:
    needs_walls()
    network = "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)\nlab.two_runs.check(1)"
    others = """
import os, contextlib
with contextlib.suppress(ProcessLookupError):
    os.kill(-1, 9)
assert [name for name in os.listdir("/proc") if name.isdecimal()] == [str(os.getpid())]
"""
    swarm = f"import subprocess, time\nswarm = [subprocess.Popen(['sleep', '99']) for _ in range(90)]\n{GOOD[2]}"
    swarm += "\ntime.sleep(99)"
    report = grade(submission(tmp_path, LAB, [network, others + GOOD[1], swarm]), QUICK)
    assert (report.in_force["network"], report.in_force["files"]) == ("none", "read-only")
    first, second, third = (graded.result for graded in report.exercises)
    assert first.message == "OSError: [Errno 101] Network is unreachable"
    assert second.outcome == "correct"
    assert report.stopped == ((3, "started more than 64 processes"),)
    assert third.message == "This cell started more than 64 processes."


def test_the_environment_holds_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "word")
    tells = "import os\nraise ValueError(os.getcwd() == os.environ['HOME'], sorted(os.environ))\nlab.two_runs.check(1)"
    message = grade(submission(tmp_path, LAB, [tells])).exercises[0].result.message
    assert message.startswith("ValueError: (True, [")
    assert "SECRET" not in message
    assert "PWD" not in message


@pytest.mark.slow
def test_without_walls_there_are_limits_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "walls", lambda: False)
    path = submission(tmp_path, LAB, [GOOD[0], f"while True: pass\n{GOOD[1]}", f"os._exit(1)\n{GOOD[2]}"])
    report = grade(path, QUICK)
    assert outcomes(report) == ["correct", "raised", "raised"]
    assert (report.in_force["network"], report.in_force["files"]) == ("open", "writable")
    assert {"seconds", "output"} <= set(report.in_force["limits"])


@pytest.mark.slow
def test_what_comes_too_late_is_said_to_be_not_reached(tmp_path: Path) -> None:
    loops = [f"while True: pass\n{cell}" for cell in GOOD]
    report = grade(submission(tmp_path, LAB, loops), Limits(cell_seconds=1, seconds=2))
    assert outcomes(report) == ["raised"] * 3
    assert report.exercises[0].result.message == "This cell did not end in time."
    assert report.exercises[2].result.message == "Not reached: another cell did not end in time."


# --- the command ---


def test_the_command_says_it_as_text_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = submission(tmp_path, LAB, [wrong(LAB)[0], *GOOD[1:]])
    assert main(["check", str(path), str(tmp_path / "none.ipynb"), "--json"]) == 1
    out, err = capsys.readouterr()
    assert f"vnmi-lab check: {tmp_path / 'none.ipynb'}: No such file or directory" in err
    said = json.loads(out)
    assert (said["format"], said["version"]) == ("vnmi-lab check", 1)
    (one,) = said["notebooks"]
    assert one["points"] == {"earned": 2, "of": 3}
    assert [exercise["outcome"] for exercise in one["exercises"]] == ["incorrect", "correct", "correct"]
    first = FIRST.judged(answer(FIRST, FIRST.wrong[0].code))
    assert first.divergence is not None
    divergence = one["exercises"][0]["divergence"]
    assert {name: divergence[name] for name in ("step", "field", "expected", "actual")} == {
        name: getattr(first.divergence, name) for name in ("step", "field", "expected", "actual")
    }
    assert divergence["rule"]["id"] == first.divergence.rule.id
    assert one["sandbox"]["network"] in ("none", "open")
    assert main(["check", str(submission(tmp_path, LAB, GOOD))]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: 3 of 3 points, lab 01\n  correct        lab01.two_runs\n")


NO_NOTEBOOKS = [
    ("", "not a notebook of format 4"),
    ("[" * 100_000, "not a notebook of format 4"),
    ('{"cells": [{"cell_type": "code"}]}', "not a notebook of format 4"),
    ('{"cells": [{"cell_type": "code", "source": "x = 1"}]}', "no lab; its cells import none"),
]


@pytest.mark.parametrize(("text", "said"), NO_NOTEBOOKS)
def test_what_is_no_notebook_of_a_lab_gets_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.ipynb"
    path.write_text(text)
    with pytest.raises(BadNotebookError, match=said) as problem:
        grade(path)
    assert "\n" not in str(problem.value)
    assert main(["check", str(path)]) == 2


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(BadNotebookError, match="not a plain file"):
        grade(tmp_path)


def test_where_no_process_can_be_started_no_learner_is_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sandbox, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "executable", shutil.which("false") or "false")
    path = submission(tmp_path, LAB, GOOD)
    assert main(["check", str(path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"vnmi-lab check: {path}: no process for it, it ended")


def test_names_of_files_say_nothing_to_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = submission(tmp_path / "\x1b[2J[", LAB, GOOD[:1])
    assert main(["check", str(path), str(tmp_path / "\x1b[1m.ipynb")]) == 1
    assert "\x1b" not in "".join(capsys.readouterr())


def test_a_lab_is_known_by_what_it_imports(tmp_path: Path) -> None:
    path = notebook(tmp_path / "renamed by the portal.ipynb", [imports(LAB), *GOOD])
    assert grade(path).earned == 3
