"""What is shipped: the wheel has everything and works outside the checkout; Binder's files fit the project."""

from __future__ import annotations

import os
import re
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.installed import run
from vnmi_lab import __version__

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.slow
def test_the_wheel_has_the_labs_the_assets_and_the_type_marker(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    notebooks = {f"vnmi_lab/_labs/{path.name}" for path in (ROOT / "labs").glob("*.ipynb")}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "vnmi_lab").rglob("*.py")}
    assets = {
        str(path.relative_to(ROOT)) for path in (ROOT / "vnmi_lab").rglob("*.*") if path.suffix in {".js", ".css"}
    }
    assert notebooks
    assert assets
    assert {"vnmi_lab/py.typed", *notebooks, *sources, *assets} <= names
    assert {name.partition("/")[0] for name in names} == {"vnmi_lab", f"vnmi_lab-{__version__}.dist-info"}
    assert {f"vnmi_lab-{__version__}.dist-info/licenses/{name}" for name in ("LICENSE", "NOTICE")} <= names


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    python = installed / "python"
    where = run(python, "-c", "import vnmi_lab; print(vnmi_lab.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.parent))
    assert "commands:" in run(installed / "vnmi-lab", "--help", cwd=tmp_path)
    assert run(python, "-m", "vnmi_lab", "--version", cwd=tmp_path) == f"vnmi-lab {__version__}\n"


@pytest.mark.slow
def test_an_installed_wheel_opens_its_own_copy_of_the_labs(installed: Path, tmp_path: Path) -> None:
    said = run(
        installed / "vnmi-lab", "open", "--version", cwd=tmp_path
    )  # an option of JupyterLab: it says its version
    assert re.fullmatch(r"copied \d+ files of the labs into vnmi-labs\n\d+\.\d+\.\d+\n", said)
    work, ours = tmp_path / "vnmi-labs", ROOT / "labs"
    kinds = {".ipynb", ".svg"}  # what a lab shows; others lie about in a checkout where somebody works
    shown = {path.relative_to(ours) for path in ours.rglob("*") if path.suffix in kinds and path.parent.name[0] != "."}
    assert {Path("pictures/one_nmi.svg"), Path("01_nmi_on_bare_metal.ipynb")} <= shown
    assert all((work / name).read_bytes() == (ours / name).read_bytes() for name in shown)


@pytest.mark.parametrize("lock", LOCKS, ids=[path.stem for path in LOCKS])
def test_a_lock_has_a_hash_for_everything_and_names_no_address(lock: Path) -> None:
    text = lock.read_text()
    entries = re.findall(r"^[a-z0-9].*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+$", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^\S", text, re.MULTILINE)) > 0
    assert "://" not in text


def test_every_lock_has_the_same_version_of_a_package() -> None:
    lab, test, dev = (
        set(re.findall(r"^(\S+==\S+)", (ROOT / f"requirements/{name}.txt").read_text(), re.MULTILINE))
        for name in ("lab", "test", "dev")
    )
    assert lab <= test <= dev


def test_binder_installs_what_was_locked_on_a_python_that_fits() -> None:
    pinned = (ROOT / "binder/requirements.txt").read_text().split()
    locked = (ROOT / "requirements/lab.txt").read_text()
    assert pinned
    assert all(f"{pin} " in locked for pin in pinned)
    assert (ROOT / "binder/runtime.txt").read_text() == "python-3.11\n"  # what CI runs; without it Binder takes 3.10
    assert os.access(ROOT / "binder/postBuild", os.X_OK)


def test_the_files_that_name_the_version_agree() -> None:
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
