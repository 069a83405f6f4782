"""The recorder for real machines compiles without a warning, knows every scenario, and says what is not verified."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RECORDER = ROOT / "tools" / "kvm-recorder"
SCENARIOS = Path(__file__).parent / "reference" / "kvm.jsonl"
HEADER = Path("/usr/include/linux/kvm.h")
needs_gcc = pytest.mark.skipif(not (shutil.which("gcc") and HEADER.exists()), reason="needs gcc and linux/kvm.h")


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile it."""
    program = tmp_path_factory.mktemp("recorder") / "kvm-recorder"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(RECORDER / "record.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return program


@needs_gcc
def test_it_knows_every_scenario(recorder: Path) -> None:
    done = subprocess.run([recorder, "--dry-run", SCENARIOS], capture_output=True, text=True, check=True)
    cases = [json.loads(line) for line in SCENARIOS.read_text().splitlines()]
    assert done.stdout.splitlines() == [f"{case['scenario']}: {len(case['rows'])} steps" for case in cases]


REFUSED = [  # the line, what it says
    ('{"scenario":"x","main":["nopp"],"rows":[]}', "unknown guest instruction: nopp"),
    ('{"main":[],"rows":[]}', "no scenario with rows on this line"),
    ('{"scenario":"x","main":["nop"]}', "no scenario with rows on this line"),
]


@needs_gcc
@pytest.mark.parametrize(("line", "said"), REFUSED)
def test_what_it_cannot_play_is_said(recorder: Path, line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(line + "\n")
    done = subprocess.run([recorder, "--dry-run", path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"kvm-recorder: {said}")


@needs_gcc
def test_it_says_what_is_not_verified(recorder: Path) -> None:
    done = subprocess.run([recorder], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Not verified on hardware" in done.stderr


def test_the_page_says_so_too() -> None:
    assert "Not verified on hardware" in (RECORDER / "README.md").read_text()
