"""The course as a table: its labs in order, and what is asked in each."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple, cast

from vnmi_lab.checks.asked import Asked
from vnmi_lab.checks.exercise import Exercise


class Lab(NamedTuple):
    """A lab: ``number`` as its files have it, two digits; ``minutes`` is how long a newcomer needs."""

    number: str
    slug: str
    title: str
    minutes: int

    @property
    def notebook(self) -> str:
        """The name of its notebook's file."""
        return f"{self.number}_{self.slug}.ipynb"

    @property
    def exists(self) -> bool:
        """Whether this version of the package has it."""
        return find_spec(f"vnmi_lab.checks.lab{self.number}") is not None

    def module(self) -> ModuleType:
        """Return its checks, what its notebook calls ``lab``; ``ModuleNotFoundError`` when it does not exist."""
        return import_module(f"vnmi_lab.checks.lab{self.number}")

    @property
    def exercises(self) -> tuple[Exercise, ...]:
        """Its exercises in the order of the notebook; none when it does not exist."""
        return cast("tuple[Exercise, ...]", self.module().EXERCISES) if self.exists else ()

    @property
    def predictions(self) -> tuple[Asked, ...]:
        """Its predictions in the order of the notebook; none when it does not exist."""
        return cast("tuple[Asked, ...]", self.module().PREDICTIONS) if self.exists else ()


COURSE = (
    Lab("00", "start_here", "Start here", 15),
    Lab("01", "nmi_on_bare_metal", "An NMI on bare metal", 40),
    Lab("02", "event_injection", "Event injection", 45),
    Lab("03", "iret_interception", "IRET interception", 45),
    Lab("04", "vnmi", "vNMI", 45),
    Lab("05", "blocking_rules", "Blocking rules", 45),
    Lab("06", "when_delivery_fails", "When delivery fails", 45),
    Lab("07", "write_it_yourself", "Write it yourself", 45),
    Lab("08", "bug_hunt", "Bug hunt", 45),
    Lab("09", "what_it_costs", "What it costs", 45),
)
