"""Progress that is kept in a file, as the tests of it read it."""

from __future__ import annotations

from pathlib import Path

from vnmi_lab.checks import progress
from vnmi_lab.checks.saved import Saved
from vnmi_lab.checks.standing import Row
from vnmi_lab.checks.standing import rows as standing_of


def rows() -> tuple[Row, ...]:
    return standing_of(progress.noted())


def restart(path: Path) -> list[str]:
    """Begin anew with a file, as a kernel does after a restart; the messages about it."""
    messages: list[str] = []
    progress.use(Saved(path, messages.append))
    return messages
