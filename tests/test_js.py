"""The player's logic in JavaScript, tested by node's own runner."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vnmi_lab.timeline import script

NODE = shutil.which("node")
FILES = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))
MODULES = sorted(Path(__file__).parent.parent.glob("vnmi_lab/assets/js/*.js"))
ENTRIES = [module.stem for module in MODULES if "\nexport default " in module.read_text(encoding="utf-8")]
needs_node = pytest.mark.skipif(not NODE, reason="needs node 18 or newer: apt-get install nodejs")


@needs_node
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".test.mjs"))
def test_the_players_logic(file: Path) -> None:
    assert NODE
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", str(file)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE), done.stdout


@needs_node
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_modules_of_a_page_are_one_module_with_no_name_twice(entry: str, tmp_path: Path) -> None:
    assert NODE
    page = tmp_path / "page.mjs"
    page.write_text(script(entry), encoding="utf-8")
    done = subprocess.run([NODE, "--check", str(page)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"^import ", script(entry), re.MULTILINE), "an import of a form that the bundle does not know"
