"""Binder's environment without Docker: what its image has, then `binder/` alone, in a copy of this checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# The roots of the image's environment (environment.yml of repo2docker) and what is imported most beside them.
IMAGE = {
    *("ipykernel", "ipywidgets", "jupyter-offlinenotebook", "jupyter-resource-usage", "jupyter_client"),
    *("jupyter_server", "jupyterhub-base", "jupyterlab", "notebook", "pip"),
}


@dataclass(frozen=True, slots=True)
class Built:
    """A checkout built as Binder builds it: where it is, its environment, and how large that is, in MB."""

    checkout: Path
    environment: Path
    image_mb: float
    mb: float

    @property
    def python(self) -> Path:
        """The Python of the environment."""
        return self.environment / "bin/python"


def python_version() -> str:
    """Return the version that binder/runtime.txt names."""
    return (ROOT / "binder/runtime.txt").read_text().strip().removeprefix("python-")


def image_pins() -> list[str]:
    """Return what the image has at that version of Python, as repo2docker has locked it."""
    name = f"environment.py-{python_version()}-linux-64.lock"
    (lock,) = (path.read_text() for path in files("jupyter-repo2docker") or () if path.name == name)
    found = {name: version for name, version in re.findall(r"/([\w.-]+)-([\d.]+)-[^-/]+\.conda", lock) if name in IMAGE}
    assert found.keys() == IMAGE
    return [f"{name.removesuffix('-base')}=={version}" for name, version in sorted(found.items())]


def build(folder: Path) -> Built:
    """Copy the checkout, make the image's environment, and do what Binder does with `binder/`."""
    import uv  # only here: whoever runs the fast tests has none

    checkout, environment = folder / "checkout", folder / "environment"
    _copy(checkout)
    python = environment / "bin/python"
    _run(uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, environment, cwd=folder)
    install = (uv.find_uv_bin(), "pip", "install", "--quiet", "--compile-bytecode", "--python", python)
    _run(*install, *image_pins(), cwd=folder)
    image = size(environment)
    _run(*install, "-r", "binder/requirements.txt", cwd=checkout)
    _run("./binder/postBuild", cwd=checkout, path=python.parent)
    _run(python, "-m", "pip", "check", cwd=folder)
    return Built(checkout, environment, image, size(environment))


def size(folder: Path) -> float:
    """Return how much the files below a folder hold, in MB."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def resident_mb(process: int) -> float:
    """Return the memory of a process and of all that it started, in MB; shared pages count once (Linux)."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    assert found
    return int(found[1]) * 1024 / 1e6 + sum(resident_mb(int(child)) for child in children)


def _copy(target: Path) -> None:
    """Copy what git would commit here, as it is now; nothing that was built beside it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git is found as usual
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place)


def _run(*command: str | Path, cwd: Path, path: Path | None = None) -> None:
    """Run a command with nothing pointing to this environment; what it says is the message if it fails."""
    variables = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    if path is not None:
        variables["PATH"] = f"{path}{os.pathsep}{variables['PATH']}"
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
