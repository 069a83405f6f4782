"""Several runs of one scenario on one axis: by what the guest does, then by what arrives, then by the host's work.

A column holds at most one step of each run, and steps share a column only when they are the same. What the guest sees
decides first: runs share columns as long as their guests see the same, and again where they come together. Between two
steps of a guest its arrivals are aligned in order, and what the host does in between by what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

GUEST, OUTSIDE, HOST = 0, 1, 2
"""Ranks: what aligns runs, first things first."""


class Item(NamedTuple):
    """A step as alignment sees it: its rank, and what must be the same in all steps of a column."""

    rank: int
    key: Hashable


@dataclass(slots=True)
class Column:
    """One place on the axis: what it is, and the step of each run that is there."""

    item: Item
    steps: dict[int, int] = field(default_factory=dict)


def align(runs: Sequence[Sequence[Item]]) -> list[Column]:
    """Give the columns: every step of every run stands in exactly one, each run's in order."""
    return _level(runs, {number: range(len(run)) for number, run in enumerate(runs)}, GUEST)


def _level(runs: Sequence[Sequence[Item]], spans: Mapping[int, range], rank: int) -> list[Column]:
    """Align stretches of some runs by their items of a rank, and what lies between those by the next."""
    anchors = {number: [i for i in span if runs[number][i].rank == rank] for number, span in spans.items()}
    columns = _together(runs, {number: found for number, found in anchors.items() if found})
    if rank == HOST:
        return columns
    follows = {
        (number, here): there
        for number, found in anchors.items()
        for here, there in pairwise([*found, spans[number].stop])
    }
    ahead = {
        number: range(spans[number].start, (found or [spans[number].stop])[0]) for number, found in anchors.items()
    }
    aligned = _level(runs, ahead, rank + 1)
    for column in columns:
        aligned.append(column)
        between = {number: range(step + 1, follows[number, step]) for number, step in column.steps.items()}
        aligned += _level(runs, between, rank + 1)
    return aligned


def _together(runs: Sequence[Sequence[Item]], steps: Mapping[int, Sequence[int]]) -> list[Column]:
    """Align lists of steps: as one while they begin the same, then in groups whose columns are merged."""
    columns: list[Column] = []
    place = 0
    while True:
        groups: dict[Item, list[int]] = {}
        for number, own in steps.items():
            if place < len(own):
                groups.setdefault(runs[number][own[place]], []).append(number)
        if len(groups) > 1:
            rests = [{number: steps[number][place:] for number in numbers} for numbers in groups.values()]
            return columns + reduce(_merged, (_together(runs, rest) for rest in rests))
        if not groups:
            return columns
        ((item, numbers),) = groups.items()
        columns.append(Column(item, {number: steps[number][place] for number in numbers}))
        place += 1


def _merged(ours: list[Column], others: list[Column]) -> list[Column]:
    """Merge two alignments where they have the same again; what only one has stands alone, ours first."""
    matcher = SequenceMatcher(None, [c.item for c in ours], [c.item for c in others], autojunk=False)
    merged: list[Column] = []
    for tag, first, end, start, stop in matcher.get_opcodes():
        if tag == "equal":
            pairs = zip(ours[first:end], others[start:stop], strict=True)
            merged += [Column(one.item, one.steps | other.steps) for one, other in pairs]
        else:
            merged += ours[first:end] + others[start:stop]
    return merged
