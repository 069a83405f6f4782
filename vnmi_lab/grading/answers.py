"""What a learner answered, as JSON: plain values, values of this package, and functions by number.

Nothing that comes from a learner's process is executed or unpickled; what is none of these becomes its short text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from reprlib import repr as short
from types import FunctionType
from typing import Any

from vnmi_lab.guests import Source
from vnmi_lab.hv.ops import ROWS, Events, NmiOps
from vnmi_lab.hv.profiles import POLICIES
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.machine import Stimulus
from vnmi_lab.rules import Switches
from vnmi_lab.scenario import Scenario

VALUES: dict[str, type] = {kind.__name__: kind for kind in (Stimulus, Source, Scenario, Features, Switches, Events)}
"""The types of this package that an answer may be made of."""
LONGEST = 60_000
"""Characters of a text."""
MOST = 400
"""Parts of a list."""
DEEPEST = 12
LARGEST_BITS = 10_000
SIMPLE: tuple[tuple[type, Callable[[Any], bool]], ...] = (
    (bool, lambda _value: True),
    (int, lambda value: int(value).bit_length() <= LARGEST_BITS),
    (float, lambda _value: True),
    (str, lambda value: len(value) <= LONGEST),
)
"""Types that JSON has, and which values of them may be sent."""
KINDS: dict[str, Callable[[list[Any]], object]] = {
    "tuple": tuple,
    "set": lambda parts: {part for part in parts if _plain(part)},
    "dict": lambda parts: {pair[0]: pair[1] for pair in parts if _plain(pair[0])},
}


class Other:
    """A value that could not be sent; all that is known of it is how it reads."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        """Return how it reads."""
        return self.text


def encode(value: object, functions: list[FunctionType], depth: int = 0) -> Any:  # noqa: ANN401  # JSON
    """Return a value as JSON; functions are added to ``functions`` and stand there by their number."""
    for kind, fits in SIMPLE:
        if isinstance(value, kind) and fits(value):
            return kind(value)
    if value is None:
        return None
    if value is ...:
        return {"as": "..."}
    if isinstance(value, FunctionType):
        functions.append(value)
        return {"as": "function", "number": len(functions) - 1, "name": value.__name__}
    made = None if depth >= DEEPEST else _made(value, functions, depth + 1)
    return {"as": "other", "text": short(value)} if made is None else made


def _made(value: object, functions: list[FunctionType], depth: int) -> Any:  # noqa: ANN401  # JSON
    """Return a value that has parts, or None for one that cannot be sent."""
    if isinstance(value, NmiOps):
        return _policy(value, functions, depth)
    if type(value) in VALUES.values():
        names = [field.name for field in fields(value)] if is_dataclass(value) else getattr(value, "_fields", ())
        parts = [[name, encode(getattr(value, name), functions, depth)] for name in names]
        return {"as": type(value).__name__, "parts": parts}
    if isinstance(value, Mapping):
        pairs = [[encode(part, functions, depth) for part in pair] for pair in islice(value.items(), MOST)]
        return {"as": "dict", "parts": pairs}
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Iterable):
        return None
    parts = [encode(part, functions, depth) for part in islice(value, MOST)]
    if isinstance(value, tuple):
        return {"as": "tuple", "parts": parts}
    return {"as": "set", "parts": parts} if isinstance(value, set | frozenset) else parts


def _policy(ops: NmiOps, functions: list[FunctionType], depth: int) -> dict[str, Any]:
    """Return a policy as a shipped one and what a learner put in the place of its functions."""

    def differing(shipped: NmiOps) -> list[str]:
        return [row for row in ROWS if getattr(shipped, row) is not getattr(ops, row)]

    parent = min(POLICIES.values(), key=lambda shipped: len(differing(shipped)))
    hooks = [[row, encode(getattr(ops, row), functions, depth)] for row in differing(parent)]
    return {"as": "policy", "parent": parent.name, "name": ops.name, "uses_vnmi": ops.uses_vnmi, "parts": hooks}


def decode(sent: object, function: Callable[[int, str], FunctionType]) -> Any:  # noqa: ANN401  # any answer
    """Return the value that was sent; ``function`` makes the one with a number and a name. Never raises."""
    try:
        return _decoded(sent, function)
    except Exception:  # noqa: BLE001  # a learner's process may send anything
        return Other("what cannot be read")


def _decoded(sent: Any, function: Callable[[int, str], FunctionType]) -> Any:  # noqa: ANN401  # JSON, and any answer
    if isinstance(sent, list):
        return [_decoded(part, function) for part in sent]
    if not isinstance(sent, dict):
        return sent
    match sent["as"]:
        case "...":
            value: object = ...
        case "function":
            value = function(int(sent["number"]), str(sent["name"]))
        case "other":
            value = Other(str(sent["text"]))
        case kind:
            value = _composed(kind, sent, [_decoded(part, function) for part in sent["parts"]])
    return value


def _composed(kind: str, sent: dict[str, Any], parts: list[Any]) -> object:
    if kind == "policy":
        knows = bool(sent["uses_vnmi"])
        return POLICIES[sent["parent"]].but(str(sent["name"]), uses_vnmi=knows, **dict(parts))
    return VALUES[kind](**dict(parts)) if kind in VALUES else KINDS[kind](parts)


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float | tuple | type(None))
