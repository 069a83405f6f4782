"""What a learner did: every check, hint, solution and prediction is noted here. Nothing of it leaves the machine.

In a notebook it is saved in the folder that the notebook is in; elsewhere it lasts as long as Python runs, unless it
is saved by hand. The environment variable ``VNMI_LAB_PROGRESS`` names another file, or says ``off``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vnmi_lab.checks.record import Kind, Log, Noted, Value
from vnmi_lab.checks.saved import FILE, Saved, to_stderr

VARIABLE, OFF = "VNMI_LAB_PROGRESS", "off"
ANSWERS: tuple[Kind, ...] = ("choose", "place", "set", "skip")


class _Now:
    """What is in use now: the store, who hears its messages, and who is called after each note."""

    store: Saved
    listener: Callable[[str], object] | None = None
    watcher: Callable[[], object] | None = None


def use(store: Saved) -> None:
    """Note everything in another store from now on."""
    _Now.store = store


def keep(folder: Path) -> None:
    """Save in a folder from now on; the environment variable names another file, or forbids it."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen != OFF:
        fresh = Saved(Path(chosen) if chosen else folder / FILE, say)
        fresh.log.take(_Now.store.log)
        use(fresh)


def store() -> Saved:
    """Return what is in use."""
    return _Now.store


def say(message: str) -> None:
    """Give a message to who listens; to stderr when nobody does."""
    (_Now.listener or to_stderr)(message)


@contextmanager
def heard(listener: Callable[[str], object]) -> Iterator[None]:
    """Give the messages meanwhile to somebody else: what is printed while a button is pressed is seen by nobody."""
    before, _Now.listener = _Now.listener, listener
    try:
        yield
    finally:
        _Now.listener = before


def listen(listener: Callable[[str], object]) -> None:
    """Give all messages to somebody from now on."""
    _Now.listener = listener


def note(id: str, kind: Kind, **data: Value) -> None:  # noqa: A002  # an exercise has an id, and so has its note
    """Note what a learner did with the exercise or prediction ``id``; never raises for what a file system does."""
    _Now.store.note(id, kind, data)
    if _Now.watcher is not None:
        _Now.watcher()


def watch(watcher: Callable[[], object] | None) -> None:
    """Call somebody after each note; one at a time."""
    _Now.watcher = watcher


def noted() -> Log:
    """Return everything that was noted, also what other kernels saved meanwhile."""
    _Now.store.sync()
    return _Now.store.log


def hints_used(id: str) -> int:  # noqa: A002  # as above
    """Return how many hints of an exercise were seen since it was last reset."""
    mine = [one for one in noted() if one.id == id]
    since = max((one.last for one in mine if one.kind == "reset"), default="")
    return max((int(one.get("number") or 0) for one in mine if one.kind == "hint" and one.last > since), default=0)


def first_answer(id: str) -> Noted | None:  # noqa: A002  # as above
    """Return the first answer to a prediction, the one that stands; None when it was not asked yet."""
    return next((one for one in noted() if one.id == id and one.kind in ANSWERS), None)


use(Saved(tell=say))
