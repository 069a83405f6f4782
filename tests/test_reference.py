"""The recorded traces of QEMU and Bochs, every public case, and what ``conform`` says about files that are no cases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cases import judge, table
from vnmi_lab import conform
from vnmi_lab.rules import Switches

FOLDER = Path(__file__).parent / "reference"
FILES = {"isa.jsonl": 50, "isa_random.jsonl": 280, "isa_ruled.jsonl": 12}


@dataclass(frozen=True)
class Recorded:
    """One recorded scenario."""

    name: str
    text: str

    def run(self, switches: Switches) -> str | None:
        """Replay it and compare."""
        wrong = conform.compare(conform.read_case(self.text), switches)
        return None if wrong is None else str(wrong)


def recorded(name: str) -> Iterator[Recorded]:
    """Yield the cases of a file."""
    for line in (FOLDER / name).read_text().splitlines():
        yield Recorded(f"{name} {json.loads(line)['scenario']}", line)


CASES = tuple(case for name in FILES for case in recorded(name))


@table(CASES)
def test_recorded_trace(case: Recorded) -> None:
    judge(case)


def test_no_case_is_missing() -> None:
    assert {name: sum(case.name.startswith(f"{name} ") for case in CASES) for name in FILES} == FILES


GOOD = {
    "scenario": "one",
    "main": ["nop", "vmmcall"],
    "handlers": {},
    "steps": ["run"],
    "trace": [{"kind": "exit", "exit": "VMMCALL", "guest_nmi": 0}],
}


def conformed(tmp_path: Path, capsys: pytest.CaptureFixture[str], *lines: str) -> tuple[int, str, str]:
    """Write the lines to a file, replay it, return exit code and output."""
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(lines))
    code = conform.main([path])
    out, err = capsys.readouterr()
    return code, out, err.replace(str(path), "x.jsonl")


def but(**changes: object) -> str:
    """Return the good case with some keys changed."""
    return json.dumps({**GOOD, **changes})


def test_all_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert conformed(tmp_path, capsys, but(), "", but()) == (0, "2 passed, 0 failed\n", "")


DIFFERENT = [  # what the recording says, the line that is printed
    ([{"kind": "exit", "exit": "HLT"}], "one: record 0, field exit: recorded 'HLT', ours 'VMMCALL'"),
    ([{"kind": "exit", "nonsense": 1}], "one: record 0, field nonsense: recorded 1, ours 'no such field'"),
    ([], "one: record 0, field kind: recorded 'no record', ours 'exit'"),
    (
        [GOOD["trace"][0], {"kind": "mark"}],  # type: ignore[index]  # the trace is a list
        "one: record 1, field kind: recorded 'mark', ours 'no record: the guest did not exit'",
    ),
    ([{"kind": "exit", "exit": "HLT", "IF": 1}], "one: record 0, field exit: recorded 'HLT', ours 'VMMCALL'"),
]


@pytest.mark.parametrize(("trace", "said"), DIFFERENT)
def test_the_first_difference_is_named(
    trace: list[object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformed(tmp_path, capsys, but(), but(trace=trace)) == (1, f"{said}\n1 passed, 1 failed\n", "")


MALFORMED: list[Any] = [  # the third line of the file, what is wrong with it
    ("{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
    ("[]", "a case must be an object, not list"),
    ('{"scenario": "x"}', "the case lacks main, handlers, steps, trace"),
    (but(main="nop"), "main and steps must be lists and handlers an object"),
    (but(main=["nopp"]), "unknown guest instruction 'nopp'"),
    (but(main=["cnt256"]), "unknown guest instruction 'cnt256'"),
    (but(main=[["nop"]]), "unknown guest instruction \"['nop']\""),
    (but(handlers={"two": []}), "handlers must map vectors to lists, not {'two': []}"),
    (but(handlers={"256": ["nop"]}), "a vector must be 0 to 255, not 256"),
    (but(handlers={"2": ["nop"] * 257}), "the handler of vector 2 is 257 bytes long; at most 256 fit"),
    (but(steps=["runn"]), "the script has no line 'runn'; did you mean 'run'?"),
    (but(steps=[[]]), None),
    (but(steps=[5]), None),
    (but(steps=[["inj", 1, 2]]), "step 'inj' takes 0 to 1 operands, not 2"),
    (but(steps=[["inj", "x"]]), "a number is needed here, not 'x'"),
    (but(steps=[["icpt", "nmii"]]), "the VMCB has no intercept 'nmii'; did you mean 'nmi'?"),
    (but(steps=[["icpt_exc", 32]]), None),
    (but(steps=[["w64", "ripp", 1]]), "the VMCB has no field 'ripp'; did you mean 'rip'?"),
    (but(steps=[["gate", "x", 1]]), "a number is needed here, not 'x'"),
    (but(steps=[["gate", 256, 1]]), "a vector must be 0 to 255, not 256"),
    (but(steps=[["ctl+", None]]), "a number is needed here, not None"),
    (but(steps=[["w32", "int_vector"]]), "step 'w32' takes 2 operands, not 1"),
    (but(trace={}), "trace must be a list of records, each an object with a kind"),
    (but(trace=[{}]), "trace must be a list of records, each an object with a kind"),
    (but(main=["nop"] * 70000), None),
]


@pytest.mark.parametrize(("line", "said"), MALFORMED)
def test_a_malformed_line_is_named_with_its_number(
    line: str, said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = conformed(tmp_path, capsys, but(), "", line)
    assert (code, out) == (2, "")
    assert err.startswith("x.jsonl: line 3: ")
    assert err.count("\n") == 1
    if said is not None:
        assert err == f"x.jsonl: line 3: {said}\n"


def test_a_case_that_never_exits_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loops = but(main=["nop", "hlt"], steps=[["noicpt", "hlt"], "run"])
    code, out, _err = conformed(tmp_path, capsys, loops)
    assert code == 1
    assert "the guest did not exit" in out
