"""A lab bench for NMI virtualization on AMD SVM.

In a notebook, `vnmi_lab.show(...)` opens the bench and `vnmi_lab.doctor()` says what works here. Importing this
package loads the standard library only; what draws is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "BareMetal",
    "Guest",
    "Host",
    "Kvm",
    "Scenario",
    "Stimulus",
    "Switches",
    "Trace",
    "__version__",
    "doctor",
    "practice",
    "progress",
    "show",
    "side_by_side",
    "state_graph",
]

# The name in this package, the module that has it, and its name there (None: the module itself).
_LAZY: dict[str, tuple[str, str | None]] = {
    "BareMetal": ("vnmi_lab.machine", "BareMetal"),
    "Guest": ("vnmi_lab.guest", "Guest"),
    "Host": ("vnmi_lab.machine", "Host"),
    "Kvm": ("vnmi_lab.kvm", "Kvm"),
    "Scenario": ("vnmi_lab.scenario", "Scenario"),
    "Stimulus": ("vnmi_lab.machine", "Stimulus"),
    "Switches": ("vnmi_lab.rules", "Switches"),
    "Trace": ("vnmi_lab.trace", "Trace"),
    "doctor": ("vnmi_lab.doctor", None),
    "load_ipython_extension": ("vnmi_lab.widgets", "load_ipython_extension"),
    "practice": ("vnmi_lab.widgets", "practice"),
    "progress": ("vnmi_lab.widgets", "progress"),
    "show": ("vnmi_lab.widgets", "show"),
    "side_by_side": ("vnmi_lab.widgets", "side_by_side"),
    "state_graph": ("vnmi_lab.widgets", "state_graph"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  # PEP 562: an attribute may be anything
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    loaded = import_module(module)
    return loaded if attribute is None else getattr(loaded, attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
