"""Bit-fields as values: the only place that shifts and masks a named field.

A ``Register`` is an ``int`` whose bits have names. Each name carries what the manual calls it, what KVM
calls it, and who writes it, so a view or a dump never has to know.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Self

HW, HV, BOTH = "HW", "HV", "both"


LONG = 60
"""Characters of a name that a message repeats."""


def shortened(text: str) -> str:
    """Return text as a message repeats it: no more than ``LONG`` characters of it."""
    return text if len(text) <= LONG else f"{text[: LONG - 1]}…"


def expect(value: object, types: tuple[type, ...], said: str) -> None:
    """Refuse a value of another type with a ``TypeError`` in one line, which begins with what is taken."""
    if not isinstance(value, types):
        found = f"the class {value.__name__}" if isinstance(value, type) else f"a value of {type(value).__name__}"
        msg = f"{said}, not {found}"
        raise TypeError(msg)


def misspelt(what: str, name: str, known: list[str], part: str = "field") -> str:
    """Return one line that says ``what`` has no ``part`` of that name, and which known name is nearest."""
    import difflib  # noqa: PLC0415 - only an error pays for it

    name = shortened(name)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"{what} has no {part} {name!r}; {hint}"


class Bits(NamedTuple):
    """A field of a register: lowest bit, width, names in the manual and in KVM, and who writes it."""

    low: int
    width: int = 1
    apm: str = ""
    kvm: str = ""
    owner: str = HV

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return ((1 << self.width) - 1) << self.low

    def get(self, value: int) -> int:
        """Return the field's value inside ``value``."""
        return (value & self.mask) >> self.low

    def put(self, value: int, field: int) -> int:
        """Return ``value`` with this field set to ``field``; ``ValueError`` when it does not fit."""
        if not 0 <= field < 1 << self.width:
            msg = f"{self.apm} is {self.width} bit(s) wide and must be 0 to {(1 << self.width) - 1}, not {field!r}"
            raise ValueError(msg)
        return value & ~self.mask | field << self.low


class Register(int):
    """An ``int`` with named bits; subclasses give ``FIELDS`` and a test of overlap runs when the class is made."""

    FIELDS: ClassVar[dict[str, Bits]] = {}

    def __init_subclass__(cls) -> None:
        """Refuse a register in which two fields share a bit."""
        seen = 0
        for name, bits in cls.FIELDS.items():
            if seen & bits.mask:
                msg = f"{cls.__name__}.{name} overlaps another field"
                raise TypeError(msg)
            seen |= bits.mask

    def __getattr__(self, name: str) -> int:
        """Return a field by name; a misspelt one names the nearest."""
        try:
            return self.FIELDS[name].get(self)
        except KeyError:
            raise AttributeError(misspelt(type(self).__name__, name, list(self.FIELDS))) from None

    def replace(self, **fields: int) -> Self:
        """Return a copy with the named fields changed."""
        value = int(self)
        for name, new in fields.items():
            if name not in self.FIELDS:
                raise AttributeError(misspelt(type(self).__name__, name, list(self.FIELDS)))
            value = self.FIELDS[name].put(value, new)
        return type(self)(value)

    def named(self) -> dict[str, int]:
        """Return every field's value by name, in table order."""
        return {name: bits.get(self) for name, bits in self.FIELDS.items()}

    def __repr__(self) -> str:
        """Show the value in hex and the fields that are not zero."""
        shown = ", ".join(f"{name}={value}" for name, value in self.named().items() if value)
        return f"{type(self).__name__}({int(self):#x}{': ' if shown else ''}{shown})"
