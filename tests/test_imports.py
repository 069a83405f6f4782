"""The core is plain Python: that is what lets the labs run in a browser without a server, and start at once."""

from __future__ import annotations

import subprocess
import sys
from pkgutil import walk_packages

import vnmi_lab

HEAVY = ("IPython", "anywidget", "ipywidgets", "jupyterlab", "matplotlib", "numpy", "unicorn")
DRAWS = ("vnmi_lab.widgets",)  # the only part that may load Jupyter's packages, and it needs no numpy either

MODULES = sorted(
    module.name
    for module in walk_packages(vnmi_lab.__path__, "vnmi_lab.")
    if not module.name.startswith("vnmi_lab._labs") and module.name != "vnmi_lab.__main__"
)
CORE = [name for name in MODULES if not name.startswith(DRAWS)]


def loaded_by(*modules: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after importing the modules."""
    code = f"import sys, {', '.join(modules)}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_the_standard_library_only() -> None:
    code = "import sys; before = set(sys.modules); import vnmi_lab; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    foreign = {name.partition(".")[0] for name in done.stdout.split()} - {"vnmi_lab"} - sys.stdlib_module_names
    assert foreign == set()


def test_no_core_module_loads_a_heavy_package() -> None:
    assert loaded_by(*CORE) == set()


def test_the_probe_would_notice() -> None:
    assert "numpy" in loaded_by("numpy")


def test_the_widgets_need_no_numpy() -> None:
    assert loaded_by("vnmi_lab.widgets") <= {"IPython", "anywidget", "ipywidgets"}
