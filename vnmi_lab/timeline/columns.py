"""Columns: how the states of a run are written down once instead of once a step.

A column is a flat list ``[step, value, step, value, ...]``; a value holds from its step until the next one.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Column: TypeAlias = list[Any]

JSON_SAFE = 2**53 - 1
"""The largest integer a browser reads exactly from JSON."""


def plain(value: object) -> int | str | None:
    """Give a value that JSON carries exactly: integers beyond 53 bits become ``"0x..."``."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= JSON_SAFE else hex(value)
    return str(value)


def number(value: object) -> int:
    """Give back the integer that ``plain`` wrote; anything that is no number counts as 0."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.startswith("0x"):
        return int(value, 16)
    return 0


def column(values: Iterable[object]) -> Column:
    """Write a sequence of values as the steps where it changes."""
    flat: Column = []
    for step, value in enumerate(values):
        now = plain(value)
        if not flat or flat[-1] != now:
            flat += [step, now]
    return flat


def put(flat: Column, step: int, value: object) -> None:
    """Append a value that holds from ``step`` on, unless it already does."""
    now = plain(value)
    if not flat or flat[-1] != now:
        flat += [step, now]


def at(flat: Column, step: int) -> Any:  # noqa: ANN401 - a column holds whatever JSON holds
    """Give the value of a column at a step, None before its first."""
    index = bisect_right(range(len(flat) // 2), step, key=lambda k: flat[2 * k])
    return flat[2 * index - 1] if index else None


def runs(flat: Column, end: int) -> list[tuple[int, int, Any]]:
    """Give a column before ``end`` as runs ``(first step, step after the last, value)``."""
    starts = [*flat[::2], end]
    triples = zip(starts[:-1], starts[1:], flat[1::2], strict=True)
    return [(first, min(last, end), value) for first, last, value in triples if first < end]


class Words:
    """A table of strings in which each is written once."""

    def __init__(self) -> None:
        """Start empty."""
        self.table: list[str] = []
        self._index: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        """Give the index of a string, adding it when it is new."""
        if text not in self._index:
            self._index[text] = len(self.table)
            self.table.append(text)
        return self._index[text]
