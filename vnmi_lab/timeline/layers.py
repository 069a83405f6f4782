"""Layered layout of a small graph: ranks by the shortest way from a start, and an order in which few edges cross.

Nothing depends on a hash or on chance: the same graph gets the same picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SWEEPS = 6


def layered(count: int, edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Give the nodes 0 to ``count - 1`` in layers: node 0 first, each other as many edges away as its layer says.

    A node that cannot be reached stands in the first layer.
    """
    follows: list[list[int]] = [[] for _ in range(count)]
    for first, last in edges:
        follows[first].append(last)
    rank = {0: 0} if count else {}
    queue = [*rank]
    for node in queue:
        for other in follows[node]:
            if other not in rank:
                rank[other] = rank[node] + 1
                queue.append(other)
    layers: list[list[int]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for node in range(count):
        layers[rank.get(node, 0)].append(node)
    for sweep in range(SWEEPS):
        _reorder(layers, edges, forward=sweep % 2 == 0)
    return layers


def crossings(layers: Sequence[Sequence[int]], edges: Sequence[tuple[int, int]]) -> int:
    """Count the pairs of edges between the same two layers that cross."""
    place = {node: (rank, at) for rank, layer in enumerate(layers) for at, node in enumerate(layer)}
    spans = sorted({tuple(sorted((place[a], place[b]))) for a, b in edges if abs(place[a][0] - place[b][0]) == 1})
    return sum(
        one[0][0] == other[0][0] and (one[0][1] - other[0][1]) * (one[1][1] - other[1][1]) < 0
        for n, one in enumerate(spans)
        for other in spans[n + 1 :]
    )


def _reorder(layers: list[list[int]], edges: Sequence[tuple[int, int]], *, forward: bool) -> None:
    """Move each node towards the middle of those it is joined to in the layer before, or behind, if that is better."""
    before, fewest = [[*layer] for layer in layers], crossings(layers, edges)
    joined: dict[int, list[int]] = {}
    for a, b in edges:
        joined.setdefault(a, []).append(b)
        joined.setdefault(b, []).append(a)
    order = range(1, len(layers)) if forward else range(len(layers) - 2, -1, -1)
    for rank in order:
        beside = {node: at for at, node in enumerate(layers[rank - 1 if forward else rank + 1])}
        middle: dict[int, float] = {}
        for at, node in enumerate(layers[rank]):
            there = [beside[other] for other in joined.get(node, ()) if other in beside]
            middle[node] = sum(there) / len(there) if there else at
        layers[rank].sort(key=lambda node: (middle[node], node))
    if crossings(layers, edges) > fewest:
        layers[:] = before
