"""Chance that is the same everywhere: a few lines of arithmetic, so that no version of Python draws otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_WORD = (1 << 64) - 1


class Draw:
    """An endless stream of choices that depends on ``start`` alone (SplitMix64, by S. Vigna, public domain)."""

    def __init__(self, *start: int) -> None:
        self._state = 0
        for number in start:
            self._state = (self._next() + number) & _WORD

    def _next(self) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _WORD
        mixed = self._state
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ mixed >> shift) * factor & _WORD
        return mixed ^ mixed >> 31

    def below(self, count: int) -> int:
        """Return a number from 0 to ``count`` - 1."""
        return self._next() * count >> 64

    def chance(self, percent: int) -> bool:
        """Return True so often in a hundred."""
        return self.below(100) < percent

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of them."""
        return choices[self.below(len(choices))]

    def mixed(self, items: Sequence[T]) -> list[T]:
        """Return them in another order."""
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in range(len(rest))]
