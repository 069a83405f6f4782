"""What a learner's process does to itself before it runs a line of theirs: limits, and where Linux can, walls.

Started in namespaces of its own (``sandbox.py``), it makes every file read-only but those in a folder in memory, and
then gives up the right to undo that. What is in force is told to the parent, which writes it into the report.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

CLONE_NEWUSER = 0x10000000
MS_NOSUID_NODEV = 0x2 | 0x4
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY, MS_PRIVATE = 442, -100, 0x8000, 0x1, 1 << 18
"""Linux's numbers: <sched.h>, <sys/mount.h>, <linux/mount.h>; the call has this number on every architecture."""
MEBI = 1 << 20

SOCKETS = "/run"
"""Where the sockets of a system's services are: a socket with a path is reached without a network."""


class _MountAttr(ctypes.Structure):
    _fields_ = (("set", ctypes.c_uint64), ("clear", ctypes.c_uint64), ("how", ctypes.c_uint64), ("ns", ctypes.c_uint64))


def confine(given: Path, work: Path, limits: dict[str, int], *, walls: bool, root: bool) -> dict[str, Any]:
    """Copy ``given`` to ``work``, go there, and set the limits; return what is in force.

    ``walls``: this process was started in namespaces of its own. ``root``: Linux limits no number of processes for it.
    """
    read_only = walls and _read_only_but(work, limits["folder_mb"])
    shutil.copytree(given, work, dirs_exist_ok=True)
    os.chdir(work)
    limited = _limit(limits, others=0 if walls else _running())
    if root:
        limited = [name for name in limited if name != "RLIMIT_NPROC"]
    return {
        "network": "none" if walls else "open",
        "processes": "own" if walls else "shared",
        "files": "read-only" if read_only else "writable",
        "limits": [name.removeprefix("RLIMIT_").lower() for name in limited],
    }


def _read_only_but(work: Path, size: int) -> bool:
    """Make all that is mounted read-only, for good, but an empty folder in memory; False where that cannot be."""
    libc = ctypes.CDLL(None, use_errno=True)
    if Path(SOCKETS).is_dir() and not any(place.is_relative_to(SOCKETS) for place in (work, Path(sys.prefix))):
        libc.mount(b"tmpfs", os.fsencode(SOCKETS), b"tmpfs", MS_NOSUID_NODEV, b"size=1m")
    attr = _MountAttr(MOUNT_ATTR_RDONLY, 0, MS_PRIVATE, 0)
    asked = (AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(attr), ctypes.sizeof(attr))
    return bool(
        libc.syscall(MOUNT_SETATTR, *asked) == 0
        and libc.mount(b"tmpfs", os.fsencode(work), b"tmpfs", MS_NOSUID_NODEV, b"size=%dm" % size) == 0
        and libc.unshare(CLONE_NEWUSER) == 0  # in a user namespace below, these mounts cannot be changed
    )


def _limit(limits: dict[str, int], *, others: int) -> list[str]:
    """Set what ``resource`` can limit; return the names of the limits that are in force."""
    if sys.platform == "win32":
        return []
    import resource  # noqa: PLC0415  # Windows has none

    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": limits["seconds"],
        "RLIMIT_AS": limits["memory_mb"] * MEBI,
        "RLIMIT_FSIZE": limits["file_mb"] * MEBI,
        "RLIMIT_NOFILE": limits["open_files"],
        "RLIMIT_NPROC": limits["processes"] + others,
    }
    done = []
    for name, value in wanted.items():
        number = getattr(resource, name)
        _soft, hard = resource.getrlimit(number)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(number, (allowed, allowed))
            done.append(name)
    return done


def _running() -> int:
    """Return how many threads all users run: a limit on processes counts those of the same user everywhere."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[2])
    return 0
