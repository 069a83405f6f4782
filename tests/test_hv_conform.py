"""What a real kernel was recorded to do through the KVM API, row by row, and what virtual NMIs change of it.

The recordings are of Linux 6.12 on an emulated processor without virtual NMIs. That ``VNMI`` delivers the same is from
the specification; nothing here was verified on hardware.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vnmi_lab import conform
from vnmi_lab.conform_kvm import replay
from vnmi_lab.hv.ops import NmiOps
from vnmi_lab.hv.profiles import LEGACY, PATCH_V4, VNMI, VNMI_6_4_RC
from vnmi_lab.hv.vcpu import Features

RECORDED = Path(__file__).parent / "reference" / "kvm.jsonl"
CASES: list[dict[str, Any]] = [json.loads(line) for line in RECORDED.read_text().splitlines()]
NAMES = [case["scenario"] for case in CASES]
ROWS = [(case, i) for case in CASES for i in range(len(case["rows"]))]
every_case = pytest.mark.parametrize("case", CASES, ids=NAMES)


@pytest.mark.parametrize(("case", "row"), ROWS, ids=[f"{case['scenario']} {i}" for case, i in ROWS])
def test_legacy_gives_every_row(case: dict[str, Any], row: int) -> None:
    recorded = case["rows"][row]
    ours = replay({**case, "rows": case["rows"][: row + 1]}, LEGACY)[row]
    assert {field: ours[field] for field in recorded} == recorded


def test_no_case_is_missing() -> None:
    assert (len(CASES), len(ROWS), len(set(NAMES))) == (15, 133, 15)


@every_case
def test_virtual_nmis_deliver_the_same_and_never_exit_at_iret(case: dict[str, Any]) -> None:
    ours = replay(case, VNMI)
    assert ours[-1]["nmi_count"] == case["rows"][-1]["nmi_count"]
    exits = [name for row in ours for name in row["exits"]]  # type: ignore[attr-defined]  # a list of names
    assert exits.count("IRET") == 0
    assert exits.count("DB") == 0


TWO_BEHIND_A_SHADOW = """{"main": ["nop", "out 0x10", "nop", "nop", "out 0x11", "hlt"], "nmi_handler":
["count", "out 0x20", "iret"], "int40_handler": null, "rows": [{"step": "start"}, {"step": "OUT 0x10"},
{"step": "SETEV p=-1 i=-1 m=-1 s=1"}, {"step": "NMI x2"}, {"step": "OUT 0x20"}, {"step": "OUT 0x20"},
{"step": "HLT"}]}"""


def test_virtual_nmis_step_once_over_a_shadow_with_two_nmis_behind_it() -> None:
    rows = replay(json.loads(TWO_BEHIND_A_SHADOW), VNMI)
    assert [row["step"] for row in rows][-3:] == ["OUT 0x20", "OUT 0x20", "OUT 0x11"]
    assert [row["exits"] for row in rows][-3:] == [["DB"], [], []]
    assert rows[-1]["nmi_count"] == 2


FALLS_BACK = [  # why there are no virtual NMIs
    Features(vnmi_cpuid=False),
    Features(vnmi=False),
    Features(vgif=False),
]


@pytest.mark.parametrize("features", FALLS_BACK, ids=["no CPUID bit", "vnmi=0", "vgif=0"])
@pytest.mark.parametrize("ops", [VNMI, VNMI_6_4_RC], ids=lambda ops: ops.name)
@every_case
def test_without_the_feature_a_policy_is_legacy(case: dict[str, Any], ops: NmiOps, features: Features) -> None:
    assert replay(case, ops, features) == replay(case, LEGACY, features)


@pytest.mark.parametrize("features", FALLS_BACK, ids=["no CPUID bit", "vnmi=0", "vgif=0"])
@every_case
def test_without_the_feature_patch_v4_is_the_kernel_of_its_day(case: dict[str, Any], features: Features) -> None:
    old = Features(features.vnmi_cpuid, features.vnmi, features.vgif, boolean_pending=True)
    assert replay(case, PATCH_V4, features) == replay(case, LEGACY, old)


@every_case
def test_kernels_up_to_6_3_report_pending_as_yes_or_no_and_deliver_the_same(case: dict[str, Any]) -> None:
    rows = replay(case, LEGACY, Features(vnmi_cpuid=False, boolean_pending=True))
    for ours, theirs in zip(rows, case["rows"], strict=True):
        assert ours == {**theirs, "pending": min(theirs["pending"], 1)}


GOOD: dict[str, Any] = {
    "scenario": "x",
    "main": ["nop", "out 0x10", "hlt"],
    "nmi_handler": ["count", "iret"],
    "int40_handler": None,
    "rows": [{"step": "start", "nmi_count": 0}, {"step": "OUT 0x10"}],
}


def conformed(tmp_path: Path, capsys: pytest.CaptureFixture[str], **changes: object) -> tuple[int, str, str]:
    """Replay the good case with some keys changed as a file of one line."""
    path = tmp_path / "k.jsonl"
    path.write_text(json.dumps({**GOOD, **changes}))
    code = conform.main([path])
    out, err = capsys.readouterr()
    return code, out, err.replace(str(path), "k.jsonl").strip()


DIFFERENT = [  # rows, the line that is printed
    ([{"step": "start", "nmi_count": 1}], "x: record 0, field nmi_count: recorded 1, ours 0"),
    ([{"step": "OUT 0x11"}], "x: record 0, field step: recorded 'OUT 0x11', ours 'OUT 0x10'"),
    ([{"step": "OUT 0x10", "exits": ["IRET"]}], "x: record 0, field exits: recorded ['IRET'], ours []"),
    ([{"step": "start", "nonsense": 1}], "x: record 0, field nonsense: recorded 1, ours 'no such field'"),
]


@pytest.mark.parametrize(("rows", "said"), DIFFERENT)
def test_the_first_difference_is_named(
    rows: list[object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformed(tmp_path, capsys, rows=rows) == (1, f"{said}\n0 passed, 1 failed\n", "")


MALFORMED: list[tuple[dict[str, object], str]] = [
    ({"main": ["nopp"]}, "unknown guest instruction 'nopp'"),
    ({"main": ["out 0x1000"]}, "unknown guest instruction 'out 0x1000'"),
    ({"main": "nop"}, "a program must be a list, not 'nop'"),
    ({"nmi_handler": "nop"}, "a program must be a list, not 'nop'"),
    ({"nmi_handler": ["nop"] * 300}, "the handler of vector 2 is 300 bytes long; at most 256 fit"),
    ({"rows": {}}, "rows must be a list of records, each an object with a step"),
    ({"rows": ["start"]}, "rows must be a list of records, each an object with a step"),
    ({"rows": [{}]}, "rows must be a list of records, each an object with a step"),
    ({"rows": [{"step": "NMI"}]}, "unknown step 'NMI'"),
    ({"rows": [{"step": "NMI x0"}]}, "unknown step 'NMI x0'"),
    ({"rows": [{"step": "NMI x9999999"}]}, "unknown step 'NMI x9999999'"),
    ({"rows": [{"step": "SET masked=2"}]}, "unknown step 'SET masked=2'"),
    ({"rows": [{"step": "SETEV p=1"}]}, "unknown step 'SETEV p=1'"),
    ({"rows": [{"step": "SETEV p=-2 i=0 m=0 s=0"}]}, "a number of SETEV must be -1 to 255, not -2"),
    ({"rows": [{"step": "SETEV p=256 i=0 m=0 s=0"}]}, "a number of SETEV must be -1 to 255, not 256"),
    ({"rows": [{"step": 5}]}, "unknown step '5'"),
    ({"rows": [{"step": "OUT 0x10 twice"}]}, "unknown step 'OUT 0x10 twice'"),
]


@pytest.mark.parametrize(("changes", "said"), MALFORMED, ids=[said for _changes, said in MALFORMED])
def test_a_malformed_case_is_named_with_its_line(
    changes: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformed(tmp_path, capsys, **changes) == (2, "", f"k.jsonl: line 1: {said}")


def test_a_case_without_its_parts_says_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "k.jsonl"
    path.write_text('{"rows": []}')
    assert conform.main([path]) == 2
    assert "the case lacks scenario, main, nmi_handler" in capsys.readouterr().err


def test_a_guest_that_never_stops_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loops = {"main": ["iret"], "rows": [{"step": "OUT 0x10"}]}
    code, out, _err = conformed(tmp_path, capsys, **loops)
    assert code == 1
    assert "ours 'still running after" in out or "ours 'HLT'" in out
