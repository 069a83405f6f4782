"""Builds the labs as a static site whose Python runs in the browser (JupyterLite): tools/lite.py [FOLDER].

Pyodide's interpreter comes from npm, the wheels of lite/wheels.txt from the Python index, both with their hashes; the
project's own wheel is built here. The site asks for nothing beyond its own folder. There is no numpy and no matplotlib
in it: neither is published for this interpreter outside a CDN.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jupyter_core.paths import jupyter_path
from jupyterlite_pyodide_kernel.constants import PYODIDE_KERNEL_PLUGIN_ID, PYODIDE_PYTHON_VERSION, PYODIDE_VERSION

ROOT = Path(__file__).parent.parent
WHEELS = ROOT / "lite" / "wheels.txt"
OUTPUT = ROOT / "build" / "lite"
PYODIDE_HASHES = {"314.0.6": "d78ac549b28a2a58600cd06f44e017024151775f8c6b2d73fab1475400d38ea2"}
"""The npm package of each version of Pyodide that this builds with; the kernel says which version it takes."""
NEEDED = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
EXTENSIONS = ("@jupyter-widgets/jupyterlab-manager", "anywidget", "@jupyterlite/pyodide-kernel-extension")
KERNEL = {"kernelspec": {"display_name": "Python (Pyodide)", "language": "python", "name": "python"}}
"""What a notebook says to start this kernel at once; under any other name JupyterLite asks which one to take."""
PRELOADED = ("comm", "ipython", "jedi", "micropip", "vnmi-lab")
"""What is there before the first cell runs, with all that it needs; the kernel does not look for these again."""
PARTS = {"anywidget": ("ipywidgets", "psygnal", "typing-extensions"), "ipywidgets": ("comm", "ipython", "traitlets")}
"""What the packages need that are not in Pyodide's own lock."""


def build(output: Path) -> None:
    """Build the site into a folder, in the place of what was there."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        pyodide = work / "lite/static/pyodide"
        _interpreter(work, pyodide)
        _packages(work, pyodide)
        _contents(work / "contents")
        _configure(work / "lite")
        shutil.rmtree(output, ignore_errors=True)
        folders = {"lite-dir": work / "lite", "contents": work / "contents", "output-dir": output.resolve()}
        places = [f"--{name}={place}" for name, place in folders.items()]
        _run(sys.executable, "-m", "jupyterlite_core", "build", "--apps=lab", *places, cwd=work)


def _interpreter(work: Path, pyodide: Path) -> None:
    """Put npm's Pyodide into a folder."""
    name = _run("npm", "pack", "--silent", f"pyodide@{PYODIDE_VERSION}", cwd=work).split()[-1]
    found = sha256((work / name).read_bytes()).hexdigest()
    if found != PYODIDE_HASHES.get(PYODIDE_VERSION):
        raise SystemExit(f"{name} has the hash {found}, not that of PYODIDE_HASHES[{PYODIDE_VERSION!r}]")
    pyodide.mkdir(parents=True)
    with tarfile.open(work / name) as archive:
        for wanted in NEEDED:
            member = archive.getmember(f"package/{wanted}")
            member.name = wanted
            archive.extract(member, pyodide, filter="data")


def _packages(work: Path, pyodide: Path) -> None:
    """Put the wheels beside the interpreter, and a lock that names them and nothing else."""
    where = ("--dest", str(pyodide), "--python-version", PYODIDE_PYTHON_VERSION, "--platform", "any")
    only = ("--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:", "--requirement", str(WHEELS))
    _run(sys.executable, "-m", "pip", "download", *only, *where, cwd=work)
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(pyodide), cwd=ROOT)
    path = pyodide / "pyodide-lock.json"
    lock = json.loads(path.read_text())
    lock["packages"] = dict(_locked(wheel, lock["packages"]) for wheel in sorted(pyodide.glob("*.whl")))
    path.write_text(json.dumps(lock))


def _locked(wheel: Path, known: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a wheel's name and its entry in Pyodide's lock."""
    distribution, version = wheel.name.split("-")[:2]
    name = distribution.replace("_", "-")
    entry = known.get(name, {"imports": [distribution], "depends": list(PARTS.get(name, ()))})
    if entry.get("version", version) != version:
        raise SystemExit(f"lite/wheels.txt has {name} {version}, and Pyodide {PYODIDE_VERSION} {entry['version']}")
    if name == "vnmi-lab":
        entry["depends"] = ["anywidget"]
    file = {"file_name": wheel.name, "sha256": sha256(wheel.read_bytes()).hexdigest()}
    fixed = {"name": name, "version": version, "install_dir": "site", "package_type": "package"}
    return name, {"unvendored_tests": False, **entry, **fixed, **file}


def _contents(folder: Path) -> None:
    """Copy what a learner opens: the notebooks, for this kernel, and their pictures."""
    labs = ROOT / "labs"
    shutil.copytree(labs / "pictures", folder / "pictures")
    for path in sorted(labs.glob("[0-9][0-9]_*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["metadata"] = {**notebook["metadata"], **KERNEL}
        (folder / path.name).write_text(json.dumps(notebook), encoding="utf-8")


def _configure(folder: Path) -> None:
    """Write what the site is built with, and what it tells its kernel."""
    found = {
        name: Path(place, name)
        for place in reversed(jupyter_path("labextensions"))
        for name in EXTENSIONS
        if Path(place, name).is_dir()
    }
    builder = {
        "ignore_sys_prefix": ["federated_extensions"],
        "federated_extensions": [str(found[name]) for name in EXTENSIONS],
        "no_sourcemaps": True,
    }
    kernel = {"disablePyPIFallback": True, "loadPyodideOptions": {"packages": PRELOADED}}
    site = {
        "appName": "vnmi_lab",
        "exposeAppInBrowser": True,
        "litePluginSettings": {PYODIDE_KERNEL_PLUGIN_ID: kernel},
    }
    for name, content in (
        ("jupyter_lite_config.json", {"LiteBuildConfig": builder}),
        ("jupyter-lite.json", {"jupyter-lite-schema-version": 0, "jupyter-config-data": site}),
    ):
        (folder / name).write_text(json.dumps(content, indent=1))


def _run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603  # our own tools
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Build, and say how large it is."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    build(output)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"{output}: {size / 1e6:.0f} MB; python -m http.server --directory {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
