"""The format of a learner's progress: notes that are counted, so that two files of them merge and none is lost.

Equal notes of one kernel are one note with a count. Of two copies of a note the one that was counted further holds;
so it does not matter in which order files are merged, nor how often. ``docs/progress.md`` describes the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias, get_args

Kind: TypeAlias = Literal["check", "hint", "solution", "reset", "choose", "place", "set", "skip"]
Value: TypeAlias = str | int
Data: TypeAlias = tuple[tuple[str, Value], ...]
Key: TypeAlias = tuple[str, str, Kind, Data]

FORMAT, VERSION = "vnmi_lab progress", 1
KINDS: tuple[Kind, ...] = get_args(Kind)
LONGEST_TEXT = 200
"""Characters of a text in a note, and of a name."""
LARGEST = 10_000_000
"""Characters of a file; a learner's whole course needs a hundredth of it."""

ID = re.compile(r"[\w.~@-]{1,200}")
WORD = re.compile(r"[a-z_]{1,20}")
KERNEL = re.compile(r"[0-9a-f]{1,32}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
MOST_TIMES = 10**9


class UnreadableError(ValueError):
    """A text that is no progress file; the message says where and why."""


class OtherVersionError(ValueError):
    """A progress file of a version that this package does not know."""

    def __init__(self, version: object) -> None:
        super().__init__(f"it is of version {version!r}, and this vnmi_lab knows version {VERSION}")


class Noted(NamedTuple):
    """What a learner did with an exercise or a prediction, what came of it, and how often; times are UTC."""

    id: str
    kind: Kind
    data: Data
    kernel: str
    times: int
    first: str
    last: str

    @property
    def key(self) -> Key:
        """What makes two notes the same note."""
        return self.kernel, self.id, self.kind, self.data

    def get(self, name: str) -> Value | None:
        """Return a value of its data, None if it has no such."""
        return dict(self.data).get(name)


class Log:
    """Notes, each once, and the ``name`` that a learner typed, if they did; ``changes`` grows with every ``put``."""

    def __init__(self, notes: Iterable[Noted] = (), name: str = "") -> None:
        self.name = name
        self.changes = 0
        self._notes: dict[Key, Noted] = {}
        for noted in notes:
            self.put(noted)

    def __iter__(self) -> Iterator[Noted]:
        """Go through the notes in the order in which they were first made."""
        return iter(sorted(self._notes.values(), key=lambda noted: (noted.first, noted.key)))

    def __len__(self) -> int:
        """Return the number of notes."""
        return len(self._notes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Log) and (self.name, self._notes) == (other.name, other._notes)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __contains__(self, noted: Noted) -> bool:
        """Whether it has this note, counted as far."""
        return self._notes.get(noted.key) == noted

    def get(self, key: Key) -> Noted | None:
        """Return the note with a key."""
        return self._notes.get(key)

    def put(self, noted: Noted) -> None:
        """Add a note, or count one that is there as far as this one."""
        self.changes += 1
        there = self._notes.get(noted.key, noted)
        self._notes[noted.key] = noted._replace(
            times=max(noted.times, there.times), first=min(noted.first, there.first), last=max(noted.last, there.last)
        )

    def take(self, other: Log) -> None:
        """Add all notes of another log; its name, if this one has none."""
        for noted in other:
            self.put(noted)
        self.name = self.name or other.name


def dump(log: Log) -> str:
    """Return a log as JSON, a line for each note."""
    head = {"format": FORMAT, "version": VERSION, "name": log.name}
    rows = [
        {"id": n.id, "kind": n.kind, **dict(n.data), "times": n.times, "first": n.first, "last": n.last}
        | {"kernel": n.kernel}
        for n in log
    ]
    lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    return f'{json.dumps(head, ensure_ascii=False)[:-1]}, "notes": [\n{lines}\n]}}\n'


def parse(text: str) -> Log:
    """Read a log; ``UnreadableError`` and ``OtherVersionError`` say in a line why a text is none."""
    if len(text) > LARGEST:
        raise UnreadableError(f"it has more than {LARGEST:,} characters")
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"it is no JSON: {error}") from None
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        raise UnreadableError(f'it does not say "format": "{FORMAT}"')
    if read.get("version") != VERSION:
        raise OtherVersionError(read.get("version"))
    name, notes = read.get("name", ""), read.get("notes")
    if not isinstance(name, str) or len(name) > LONGEST_TEXT or not isinstance(notes, list):
        raise UnreadableError("it has no list of notes, or no proper name")
    return Log([_noted(row, number) for number, row in enumerate(notes, 1)], name)


FIXED = ("id", "kind", "times", "first", "last", "kernel")


def _noted(row: object, number: int) -> Noted:
    """Read one note; a note that says something else than notes do is refused, since a count hangs on it."""
    if not isinstance(row, dict):
        raise UnreadableError(f"note {number} is no object")
    of_text = {"id": ID, "kernel": KERNEL, "first": TIME, "last": TIME}
    for name, form in of_text.items():
        if not isinstance(row.get(name), str) or not form.fullmatch(row[name]):
            raise UnreadableError(f"note {number} has no proper {name}")
    if row.get("kind") not in KINDS:
        raise UnreadableError(f"note {number} has no proper kind")
    if not _is_count(row.get("times")):
        raise UnreadableError(f"note {number} has no proper times")
    data = tuple(sorted((name, value) for name, value in row.items() if name not in FIXED))
    if not all(WORD.fullmatch(name) and _is_value(value) for name, value in data):
        raise UnreadableError(f"note {number} has data of another kind")
    return Noted(row["id"], row["kind"], data, row["kernel"], row["times"], row["first"], row["last"])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_TIMES


def _is_value(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT
    return isinstance(value, int) and not isinstance(value, bool)
