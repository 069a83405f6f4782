"""What a learner did: every check, hint, solution and prediction is noted here. Nothing of it leaves the machine."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["check", "hint", "solution", "reset", "choose", "place", "set", "skip"]


class Noted(NamedTuple):
    """One thing that a learner did with an exercise or a prediction, and what came of it."""

    id: str
    kind: Kind
    data: tuple[tuple[str, str | int], ...]


NOTED: list[Noted] = []
"""What was noted since Python began, in order."""


def note(id: str, kind: Kind, **data: str | int) -> None:  # noqa: A002  # an exercise has an id, and so has its note
    """Note what a learner did with the exercise or prediction ``id``; never raises."""
    NOTED.append(Noted(id, kind, tuple(sorted(data.items()))))
