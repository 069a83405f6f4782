"""A learner's progress in a file: read again before each write, written whole or not at all, shared by open kernels.

Whatever goes wrong is said once in a line, and what was noted stays in memory and goes into the next file that can be
written. A file that cannot be understood is kept under another name, never written over.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from threading import RLock

from vnmi_lab.checks.record import (
    LARGEST,
    LONGEST_TEXT,
    Data,
    Kind,
    Log,
    Noted,
    OtherVersionError,
    UnreadableError,
    Value,
    dump,
    parse,
)

FILE = "vnmi-progress.json"
WIDTH = 64
WAITS, TRIES = 0.02, 50
"""Seconds between two looks at a lock, and looks: after a second another kernel does not hold it, it hangs."""


def to_stderr(message: str) -> None:
    """Say something to a learner in a terminal."""
    print(message, file=sys.stderr)  # noqa: T201  # there is nobody else to say it


class Saved:
    """What was noted; with a ``path`` it is in that file, too. ``tell`` is given each message, once."""

    def __init__(self, path: Path | None = None, tell: Callable[[str], object] = to_stderr) -> None:
        self.path = path and Path(os.path.realpath(path))  # a link stays a link
        self.log = Log()
        self.trouble = ""
        self._tell = tell
        self._told: set[str] = set()
        self._turn = RLock()  # a cell and a panel may note something together: pages' messages come in a thread apart
        self._kernel = token_hex(4)
        self._now = datetime.now(UTC)
        self._began = _written(self._now)
        self._same: tuple[object, int] | None = None  # the file and the changes of the log when both held the same

    def note(self, id_: str, kind: Kind, data: dict[str, Value]) -> None:
        """Count a note, and save."""
        held = tuple(sorted((name, _short(value)) for name, value in data.items()))
        with self._turn:
            self.log.put(self._again(id_, kind, held))
            self.sync()

    def _again(self, id_: str, kind: Kind, data: Data) -> Noted:
        # Two notes never have the same time, however coarse the clock is: what was first counts.
        self._now = max(datetime.now(UTC), self._now + timedelta(microseconds=1))
        at = _written(self._now)
        there = self.log.get((self._kernel, id_, kind, data))
        return Noted(id_, kind, data, self._kernel, there.times + 1 if there else 1, there.first if there else at, at)

    def sync(self) -> None:
        """Take in what other kernels saved, and save what they lack. Never raises for what a file system does."""
        if self.path is None:
            return
        try:
            with self._turn, _locked(self.path.parent):
                self._exchange(self.path)
            self.trouble = ""
        except OSError as error:
            self.trouble = (
                f"Your progress cannot be saved in {self.path}: {error.strerror or error}. It is kept while this "
                "notebook's kernel runs; `vnmi_lab.progress()` has a button to download it."
            )
            self._once(self.trouble)

    def _exchange(self, path: Path) -> None:
        """Read, unless the file is the one that was written last; write, unless it has all there is."""
        known, changes = self._same or (None, 0)
        if known is None or known != _identity(path):
            there = self._there(path)
            self._notice(there)
            self.log.take(there)
            must_write = self.log != there
        else:
            must_write = self.log.changes != changes
        if must_write:
            replace(path, dump(self.log))
        self._same = (_identity(path), self.log.changes)

    def _there(self, path: Path) -> Log:
        """Read the file; one that is none of ours is moved out of the way, and ``OSError`` keeps it from being lost."""
        try:
            return read(path)
        except FileNotFoundError:
            return Log()
        except (UnreadableError, OtherVersionError) as error:
            kept = _free(path)
            path.rename(kept)
            self._once(f"{path.name} could not be read: {error}. It is kept as {kept.name}, and a new one is begun.")
            return Log()

    def _notice(self, there: Log) -> None:
        """Say that a lab is worked at in another kernel, too: in a second tab, perhaps, where this is not seen."""
        mine = {noted.id.partition(".")[0] for noted in self.log if noted.kernel == self._kernel}
        theirs = (noted for noted in there if noted.kernel != self._kernel and noted.last > self._began)
        for lab in sorted(mine & {noted.id.partition(".")[0] for noted in theirs}):
            self._once(
                f"{lab.replace('lab', 'Lab ')} is open in two tabs, or in two kernels. What you do in each is saved; "
                "run a cell again to see here what you said there."
            )

    def _once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._tell(message)


def read(path: Path) -> Log:
    """Read a file; ``OSError``, ``UnreadableError`` or ``OtherVersionError`` say why it cannot be read."""
    with path.open(encoding="utf-8") as file:
        try:
            return parse(file.read(LARGEST + 1))
        except UnicodeDecodeError:
            raise UnreadableError("it is no text") from None


def replace(path: Path, text: str) -> None:
    """Put a text in the place of a file, whole or not at all; ``OSError`` leaves the file as it was."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise


def _identity(path: Path) -> object:
    """Return what a file is known by: each that is written is another one. None if there is none."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _free(path: Path) -> Path:
    """Return a name beside a file that no other has."""
    return next(
        place
        for number in range(1, sys.maxsize)
        if not (place := path.with_name(f"{path.stem}.kept-{number}{path.suffix}")).exists()
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other kernels from writing in a folder, where the platform and its file system can.

    Elsewhere a note that another kernel writes in the same moment may be missing until that kernel writes again.
    """
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock  # noqa: PLC0415  # Windows and a browser have none
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        for _try in range(TRIES):
            try:
                flock(handle, LOCK_EX | LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(WAITS)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(handle)


def _written(time_: datetime) -> str:
    return time_.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _short(value: Value) -> Value:
    if isinstance(value, int) and value.bit_length() > WIDTH:
        value = f"{value:#x}"
    return value[:LONGEST_TEXT] if isinstance(value, str) else value
