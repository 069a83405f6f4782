"""Columns: how the states of a run are written down once instead of once a step.

A column is a flat list ``[step, value, step, value, ...]``; a value holds from its step until the next one.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import chain, compress, count
from operator import itemgetter, ne
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Column: TypeAlias = list[Any]

JSON_SAFE = 2**53 - 1
"""The largest integer a browser reads exactly from JSON."""


def plain(value: object) -> int | str | None:
    """Give a value that JSON carries exactly: integers beyond 53 bits become ``"0x..."``."""
    if value is None or isinstance(value, str) or (type(value) is int and abs(value) <= JSON_SAFE):
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
    seen = tuple(values)
    flat: Column = []
    for step in chain((0,) if seen else (), compress(count(1), map(ne, seen, seen[1:]))):
        put(flat, step, seen[step])
    return flat


def table(states: Sequence[Mapping[str, object]]) -> dict[str, Column]:
    """Write states as a column for each key, in the order in which keys come up; a key that is missing is None."""
    shapes = dict.fromkeys(map(tuple, states))
    keys = tuple(dict.fromkeys(chain.from_iterable(shapes)))
    if len(shapes) == 1 and len(keys) > 1:
        rows = [*map(itemgetter(*keys), states)]
    else:
        rows = [tuple([state.get(key) for key in keys]) for state in states]
    return {key: column(values) for key, values in zip(keys, zip(*rows, strict=True), strict=True)}


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
