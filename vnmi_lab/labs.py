"""Where the labs are, and how a learner gets a copy of them that no upgrade will overwrite."""

from __future__ import annotations

import filecmp
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

WORK_FOLDER = "vnmi-labs"
"""The folder, below the current one, that an installed copy of the labs is opened in."""

_PACKAGE = Path(__file__).parent
_SHIPPED = _PACKAGE / "_labs"
_CHECKOUT = _PACKAGE.parent / "labs"
_NOT_FOR_LEARNERS = {"__pycache__", ".ipynb_checkpoints"}


class UnknownLabError(ValueError):
    """A name that fits no lab, or more than one."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy of the labs did: files written, and learner's files it left as they were."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]


def source() -> Path | None:
    """Return the labs of this installation: those of the wheel, else those of the checkout, else None."""
    if _SHIPPED.is_dir():
        return _SHIPPED
    return _CHECKOUT if (_CHECKOUT.parent / "pyproject.toml").is_file() and _CHECKOUT.is_dir() else None


def in_checkout(folder: Path) -> bool:
    """Whether these labs are the project's own, to be opened where they are."""
    return folder == _CHECKOUT


def notebooks(folder: Path) -> list[Path]:
    """List the lab notebooks of a folder in the order of their numbers."""
    return sorted(folder.glob("*.ipynb"))


def copy(origin: Path, target: Path) -> Copied:
    """Copy the labs into a work folder; a file that is there already is never overwritten.

    `kept` names the files that differ from the shipped ones: the learner's work.
    """
    written, kept = [], []
    for path in sorted(origin.rglob("*")):
        relative = path.relative_to(origin)
        if path.is_dir() or _NOT_FOR_LEARNERS & set(relative.parts):
            continue
        place = target / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with place.open("xb") as new:  # fails where anything is, a link that leads nowhere included
                new.write(path.read_bytes())
            written.append(relative)
        except FileExistsError:
            if not place.is_file() or not filecmp.cmp(path, place, shallow=False):
                kept.append(relative)
    return Copied(tuple(written), tuple(kept))


def find(folder: Path, name: str) -> Path:
    """Return the one notebook that a learner means by `1`, `01`, `01_first` or the file's name."""
    stems = {path.stem: path for path in notebooks(folder)}
    wanted = Path(name).stem
    prefix = f"{int(wanted):02}_" if wanted.isdecimal() else wanted
    fitting = [path for stem, path in stems.items() if stem.startswith(prefix)]
    if len(fitting) == 1:
        return fitting[0]
    close = get_close_matches(wanted, stems, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(stems) or 'none'}"
    raise UnknownLabError(f"no lab {name!r}: {hint}" if not fitting else f"{name!r} fits {len(fitting)} labs: {hint}")
