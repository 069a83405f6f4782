"""A problem of a seed and a level: drawn until it is worth asking, and answered by the machine.

A problem's id is ``pVERSION-LEVEL-SEED``. Whatever would make another problem of a seed raises ``VERSION``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from vnmi_lab.checks.bitset import SetBits
from vnmi_lab.checks.placing import PlaceFlag
from vnmi_lab.checks.practice.ask import Ask
from vnmi_lab.checks.practice.bugs import bug
from vnmi_lab.checks.practice.counts import COUNTS, how_many
from vnmi_lab.checks.practice.draw import Draw
from vnmi_lab.checks.practice.nexts import next_step
from vnmi_lab.checks.practice.places import flag, where
from vnmi_lab.checks.practice.runs import Run, spelt
from vnmi_lab.checks.practice.scenes import LEVELS, scenario
from vnmi_lab.checks.practice.words import bits
from vnmi_lab.checks.prediction import Prediction
from vnmi_lab.judge import EXPOSED

VERSION = 1
MOST_SEED = 999_999_999
KINDS: dict[str, Callable[[Ask], Prediction | PlaceFlag | SetBits | None]] = {
    **{kind: how_many(kind) for kind in COUNTS},
    "where": where,
    "flag": flag,
    "next": next_step,
    "bits": bits,
    "bug": bug,
}
"""The kinds of questions: each makes one about a run, or None where the run is of no use for it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A question about a run before it is shown; ``asked`` has the question, ``scenario`` is the run as text."""

    seed: int
    level: int
    kind: str
    scenario: str
    asked: Prediction | PlaceFlag | SetBits

    @property
    def id(self) -> str:
        """Its id, such as ``p1-3-17``."""
        return self.asked.id

    @property
    def listing(self) -> str:
        """The guest as text, with a label before each instruction that has one."""
        lines = []
        guest = self.asked.scene().guest
        for line in guest.listing():
            label = f"{line.label}:" if line.label else ""
            lines.append(f"{label:<9}{spelt(line.text, guest)}")
        return "\n".join(lines)

    def following(self) -> Problem:
        """Return the problem of the next seed."""
        return problem((self.seed + 1) % (MOST_SEED + 1), self.level)

    def __repr__(self) -> str:
        """Return the problem for a terminal: the guest, and the question."""
        return f"{self.id}: {LEVELS[self.level].about}\n\n{self.listing}\n\n{self.asked!r}"


def problem(seed: int, level: int) -> Problem:
    """Return the problem of a seed at a level; ``ValueError`` in one line for one that cannot be."""
    _whole("a level", level, 1, max(LEVELS))
    _whole("a seed", seed, 0, MOST_SEED)
    draw = Draw(VERSION, level, seed)
    row, name = LEVELS[level], f"p{VERSION}-{level}-{seed}"
    for _attempt in count():
        kind, drawn = draw.pick(row.kinds), scenario(draw, row)
        if kind == "bug" and drawn.policy not in EXPOSED:
            continue
        run = Run(drawn)
        asked = KINDS[kind](Ask(name, draw, row, run)) if run.fits and run.shows else None
        if asked is not None:
            return Problem(seed, level, kind, str(drawn), asked)
    raise AssertionError  # the attempts do not end


def _whole(what: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        msg = f"{what} must be a whole number from {least} to {most}, not {value!r}"
        raise ValueError(msg)
