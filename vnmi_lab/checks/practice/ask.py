"""What every maker of questions gets, and how it picks its options: the wrong ones are distinct, and have reasons."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vnmi_lab.checks.practice.draw import Draw
from vnmi_lab.checks.practice.runs import Run, arrivals, machine_words
from vnmi_lab.checks.practice.scenes import Level
from vnmi_lab.checks.prediction import Option
from vnmi_lab.hv.profiles import ABOUT
from vnmi_lab.scenario import BARE

FEWEST, MOST = 2, 3
"""Wrong options of a question."""


class Ask(NamedTuple):
    """A question to be made: its id, where chance comes from, the level, and the run it is about."""

    id: str
    draw: Draw
    level: Level
    run: Run

    @property
    def title(self) -> str:
        """What the run is called."""
        return f"Practice {self.id}"

    def intro(self) -> str:
        """Say what runs on what, and what arrives."""
        return f"{machine_words(self.run.scenario.policy)} {arrivals(self.run.scenario)}"

    def rivals(self) -> list[str]:
        """Return other policies of the level, in any order."""
        others = [policy for policy in self.level.rivals if policy != self.run.scenario.policy]
        return self.draw.mixed(others)


def under(policy: str) -> str:
    """Say that something is so under another policy."""
    return "So it is on bare metal." if policy == BARE else f"So it is under `{policy}`. {ABOUT[policy]}"


def distinct(right: Option, wrong: Iterable[Option]) -> list[Option]:
    """Return the wrong options that say something else than the right one and each other, the first of each."""
    found = {right.value: right}
    for option in wrong:
        found.setdefault(option.value, option)
        if len(found) > MOST:
            break
    return list(found.values())[1:]
