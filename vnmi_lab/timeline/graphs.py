"""The drawing of a graph of states, layer beside layer, and the page without a browser's help: picture and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from vnmi_lab.timeline import pages
from vnmi_lab.timeline.layers import layered
from vnmi_lab.timeline.shapes import Shape, document, drawn, path, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    Box: TypeAlias = tuple[float, float, float, float]

WIDTH, HEIGHT, GAP, MARGIN = 166, 66, 30, 28
"""Pixels: a node, what is free between two of a layer, and around all."""
AWAY, TRACK = 11, 15
"""Pixels: how far above the middle of a node edges go on, and below it back; from one way back to the next."""
BENT = 14
"""Straight pieces that stand for a curve."""
UNIT, TITLE, LINE = 262, 36, 18
LETTER, LABEL = 5.6, 11
"""Pixels: a letter of a label, and how high one is."""
ALONG = (7, 6, 8, 5, 9, 4, 10, 3, 11)
"""Where along an edge its label may stand, of ``BENT``: the first place that no other label has."""


def drawing(
    nodes: Sequence[dict[str, Any]], edges: Sequence[list[Any]], walk: Sequence[int], broken: int | None
) -> dict[str, Any]:
    """Give the drawing of a graph: a layer is a unit wide; ``places`` are ``[unit, pixel]`` of each node's middle."""
    layers = layered(len(nodes), [(a, b) for a, b, *_ in edges])
    tallest = max(map(len, layers), default=0)
    rows = 2 * MARGIN + tallest * (HEIGHT + GAP) - GAP
    places = [[0.0, 0.0]] * len(nodes)
    for rank, layer in enumerate(layers):
        top = (rows - len(layer) * (HEIGHT + GAP) + GAP) / 2
        for at, node in enumerate(layer):
            places[node] = [rank + 0.5, round(top + at * (HEIGHT + GAP) + HEIGHT / 2, 1)]
    far = [edge for edge in edges if places[edge[1]][0] < places[edge[0]][0] - 1]
    tracks = {(edge[0], edge[1]): rows + TRACK * n for n, edge in enumerate(sorted(far, key=lambda e: e[0] - e[1]))}
    shapes: list[Shape] = []
    labels: list[Box] = []
    for edge in sorted(edges, key=lambda edge: edge[4]):
        shapes += _edge(edge, places, tracks.get((edge[0], edge[1]), 0), labels)
    height = rows + TRACK * len(far) + 6 * bool(far)
    walked = set(walk)
    for number, (own, place) in enumerate(zip(nodes, places, strict=True)):
        shapes += _node(own, place, on_way=number in walked, broken=number == broken)
    return {
        "columns": len(layers),
        "height": height,
        "node": [WIDTH, HEIGHT],
        "places": places,
        "shapes": shapes,
    }


def _node(node: dict[str, Any], place: list[float], *, on_way: bool, broken: bool) -> list[Shape]:
    x, y = place
    style = "mask" if broken else "guest" if node["name"].startswith("guest") else "main"
    top = y - HEIGHT / 2
    frame = [[x, -WIDTH / 2, top], [x, WIDTH / 2, top], [x, WIDTH / 2, top + HEIGHT], [x, -WIDTH / 2, top + HEIGHT]]
    shapes = [path(frame, f"{style} box{' thick' if on_way else ''}")]
    if broken:
        inner = [[x, dx - (4 if dx > 0 else -4), at + (4 if at == top else -4)] for _, dx, at in frame]
        shapes.append(path([*inner, inner[0]], f"{style} high"))
    left = 10 - WIDTH / 2
    shapes.append(text(x, top + 17, [node["name"]], f"{style} ink strong", dx=left))
    for n, line in enumerate(node["lines"]):
        shapes.append(text(x, top + 31 + 12 * n, [line], f"{style} ink soft", dx=left))
    count = f"{node['states']:,}"
    shapes.append(text(x, top + HEIGHT - 8, [count], f"{style} ink soft", dx=-left, anchor="end"))
    return shapes


def _edge(edge: list[Any], places: Sequence[list[float]], track: float, taken: list[Box]) -> list[Shape]:
    """Draw an edge with its label; one that goes back more than a layer goes along a track below all nodes.

    ``taken`` are the places of the labels so far; this one's is added.
    """
    first, last, labels, _, on_way = edge
    (x, y), (x2, y2) = places[first], places[last]
    half = WIDTH / 2
    if x2 > x:
        curves = [[(x, half, y - AWAY), (x + 0.5, 0, y - AWAY), (x + 0.5, 0, y2 - AWAY), (x2, -half - 7, y2 - AWAY)]]
    elif x2 == x:
        reach = half + 34
        curves = [[(x, half, y + AWAY), (x, reach, y + AWAY), (x, reach, y2 + AWAY), (x, half + 7, y2 + AWAY)]]
    elif x2 == x - 1:
        gap = x - 0.5
        curves = [[(x, -half, y + AWAY), (gap, 0, y + AWAY), (gap, 0, y2 + AWAY), (x2, half + 7, y2 + AWAY)]]
    else:
        near, there = (x, -half - 16, track), (x2, half + 20, track)
        curves = [
            [(x, -half, y + AWAY), (x, -half - 22, y + AWAY), (x, -half - 6, track), near],
            [near, near, there, there],
            [there, (x2, half + 4, track), (x2, half + 24, y2 + AWAY), (x2, half + 7, y2 + AWAY)],
        ]
    into, way = (-half, -1) if x2 > x else (half, 1)
    end = y2 + (-AWAY if x2 > x else AWAY)
    tip = [[x2, into + 8 * way, end - 4], [x2, into + 8 * way, end + 4], [x2, into, end]]
    points = [_between(curve, n / BENT) for curve in curves for n in range(BENT + 1)]
    style = "way" if on_way else "edge"
    said = labels[0] if len(labels) == 1 else f"{labels[0]} +{len(labels) - 1}"
    at = _free(points, said, taken) if len(curves) == 1 else curves[1][0]
    anchor, beside = ("middle", 0.0) if len(curves) == 1 else ("end", -4.0)
    return [
        path([[round(u, 3), round(dx, 1), round(v, 1)] for u, dx, v in points], style),
        path(tip, f"{style}-tip tip"),
        text(round(at[0], 3), round(at[2] - 3, 1), [said], f"{style}-said small", dx=at[1] + beside, anchor=anchor),
    ]


def _free(points: Sequence[tuple[float, ...]], said: str, taken: list[Box]) -> tuple[float, ...]:
    """Give the point of an edge for its label where it covers least of those that stand already."""

    def box(point: tuple[float, ...]) -> Box:
        x, half = point[0] * UNIT + point[1], len(said) * LETTER / 2
        return x - half, point[2] - LABEL, x + half, point[2]

    def covered(point: tuple[float, ...]) -> float:
        left, top, right, low = box(point)
        return sum(max(0.0, min(right, r) - max(left, x)) * max(0.0, min(low, b) - max(top, y)) for x, y, r, b in taken)

    best = min((points[n] for n in ALONG), key=covered)
    taken.append(box(best))
    return best


def _between(ends: Sequence[tuple[float, float, float]], t: float) -> tuple[float, ...]:
    """Give a point of a Bezier curve."""
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    return tuple(sum(w * end[n] for w, end in zip(weights, ends, strict=True)) for n in range(3))


# --- without a browser -----------------------------------------------------------------------------------------------

LOOK = """.edge{stroke:var(--edge);fill:none}.edge-tip{fill:var(--edge)}.edge-said{fill:var(--muted)}
.edge-said,.way-said{stroke:var(--bg);stroke-width:3;paint-order:stroke}
.way{stroke:var(--accent);stroke-width:2.25;fill:none}.way-tip{fill:var(--accent)}
.way-said{fill:var(--accent);font-weight:600}"""


def summary(payload: dict[str, Any]) -> str:
    """Say in a line what was explored, and how it ended."""
    return f"{payload['title']}. {payload['verdict']}"


def svg(payload: dict[str, Any]) -> str:
    """Draw the graph as one SVG, with what is to be said below it."""
    shown = payload["drawing"]
    lines = [payload["verdict"], payload["note"], *([payload["scenario"]] if payload["scenario"] else [])]
    body = drawn(shown["shapes"], UNIT, 0, TITLE)
    below = TITLE + shown["height"] + LINE
    said = drawn([text(16, below + LINE * n, [line], "lane") for n, line in enumerate(lines)], 1)
    width = max(UNIT * shown["columns"] + 16, 900)
    return document(body + said, width, below + LINE * len(lines), payload["title"], LOOK)


def tables(payload: dict[str, Any]) -> str:
    """Give the states, the ways between them and the counterexample as HTML tables."""
    names = [f"{n}. {node['name']}: {', '.join(node['lines'])}" for n, node in enumerate(payload["nodes"])]
    nodes = [
        [name, f"{node['states']:,}", node["nmis"], node["steps"]]
        for name, node in zip(names, payload["nodes"], strict=True)
    ]
    edges = [[names[a], ", ".join(labels), names[b], f"{count:,}"] for a, b, labels, count, _ in payload["edges"]]
    walk = [[n, said, sentence, names[node]] for n, (node, said, sentence) in enumerate(payload["walk"])]
    found = pages.table("States", ["seen", "states", "first reached after NMIs", "and steps"], nodes)
    found += pages.table("Ways", ["from", "by", "to", "transitions"], edges)
    return found + (pages.table("The counterexample", ["step", "what", "", "leads to"], walk) if walk else "")


def bundle(payload: dict[str, Any]) -> dict[str, str]:
    """Give what a notebook keeps beside the widget, by mime type."""
    return pages.bundle(summary(payload), svg(payload), "States and ways as tables", tables(payload))
