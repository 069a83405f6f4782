"""Starts a learner's process behind what walls the platform has, talks with it, and ends it with all its children.

On Linux with user namespaces it has no network, sees no process but its own, and writes nowhere but in a folder in
memory. Elsewhere it has limits only; ``SECURITY.md`` says what that means.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from queue import Empty, Full, Queue
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, BinaryIO, Self

ROOT = Path(__file__).parents[2]
UNSHARE = ("--user", "--map-root-user", "--net", "--ipc", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc")
TICK = 0.1
"""Seconds between two looks at how many processes there are."""
LONGEST_LINE = 1 << 20
MOST_LINES = 20_000
"""Lines that a process may say without being asked."""
MOST_FILES, MOST_BYTES = 200, 20 << 20
"""Of the files beside a notebook, at most so many are copied for it."""
NEEDED_BY_WINDOWS = ("SYSTEMROOT", "COMSPEC")


class Gone(BaseException):  # no Exception: the checks turn those into verdicts on an answer
    """The learner's process is not there any more, or was ended; the text says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one notebook may use: seconds for a cell and for all of it; the rest is for each process."""

    cell_seconds: int = 30
    seconds: int = 120
    memory_mb: int = 2048
    file_mb: int = 16
    folder_mb: int = 64
    open_files: int = 256
    processes: int = 64


@cache
def walls() -> bool:
    """Whether this Python can be started in namespaces of its own here."""
    unshare = shutil.which("unshare")
    if unshare is None or sys.platform != "linux":
        return False
    command = [unshare, *UNSHARE, "--", sys.executable, "-S", "-c", ""]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  # ours
    return done.returncode == 0


class Child:
    """A learner's process with a notebook; use it in ``with``. What it says comes from ``hear``, line by line."""

    def __init__(self, notebook: Path, limits: Limits, skip: tuple[int, ...], labs: tuple[str, ...]) -> None:
        self.limits = limits
        self._folder = TemporaryDirectory(prefix="vnmi-check-", ignore_cleanup_errors=True)
        here = Path(self._folder.name)
        given, work = here / "given", here / "work"
        work.mkdir()
        _copy(notebook, given)
        inside = walls()
        self._inside = inside
        command = [sys.executable, "-m", "vnmi_lab.grading.child"]
        self._log = here / "log"
        with self._log.open("wb") as log:
            self._process = self._started(command, log, work)
        self.kept = ["seconds", "output", *(["processes", "folder"] if inside else [])]
        self._heard: Queue[bytes] = Queue(maxsize=100)
        self._closing = Event()
        self._said: Queue[bytes] = Queue(maxsize=100)
        self._threads = [Thread(target=run, daemon=True) for run in (self._read, self._write)]
        for thread in self._threads:
            thread.start()
        self._looked = float("inf")  # until its first line there may be another /proc
        self._init: int | None = None
        self.tell(
            {
                "given": str(given),
                "work": str(work),
                "notebook": notebook.name,
                "limits": asdict(limits),
                "walls": inside,
                "root": hasattr(os, "geteuid") and os.geteuid() == 0,
                "skip": skip,
                "labs": labs,
            }
        )

    def _started(self, command: list[str], log: BinaryIO, work: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [str(shutil.which("unshare")), *UNSHARE, "--", *command] if self._inside else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,  # of the start alone: a learner's cells have none
            env=_environment(work),
            cwd=work.parent,
            start_new_session=True,
        )

    def last_words(self) -> str:
        """Return the last line that was said on stderr."""
        return (self._log.read_text(encoding="utf-8", errors="replace").splitlines() or ["it said nothing"])[-1]

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End the process and all that it started, and forget its folder."""
        self._closing.set()
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(1.0)
        if not any(thread.is_alive() for thread in self._threads):  # else a child of a child holds the pipe
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()
        self._folder.cleanup()

    def tell(self, said: dict[str, Any]) -> None:
        """Send a line; ``Gone`` when many were sent and nobody reads them."""
        try:
            self._said.put(json.dumps(said).encode() + b"\n", timeout=1.0)
        except Full:
            raise Gone("does not listen to the grader") from None

    def hear(self, deadline: float) -> dict[str, Any]:
        """Return the next line; ``Gone`` when there will be none, or none in time, or something else is too much."""
        while True:
            self._look()
            try:
                line = self._heard.get(timeout=TICK)
            except Empty:
                if time.monotonic() > deadline:
                    raise Gone("did not end in time") from None
                continue
            if not line:
                raise Gone("ended its process")
            try:
                said = json.loads(line)
            except (ValueError, RecursionError):
                said = None
            self._looked = min(self._looked, time.monotonic())
            if not isinstance(said, dict):
                raise Gone("wrote into the pipe to the grader")
            if time.monotonic() > deadline:
                raise Gone("did not end in time")
            return said

    def _read(self) -> None:
        """Put lines into the queue, an empty one at the end; what is longer than a line may be ends it, too."""
        assert self._process.stdout is not None
        line = b"-"
        while line and not self._closing.is_set():
            with suppress(OSError, ValueError):
                line = self._process.stdout.readline(LONGEST_LINE)
            line = line if line.endswith(b"\n") else b""
            self._put(line)

    def _write(self) -> None:
        """Send what is in the queue; a learner's process that reads nothing blocks this thread, and no other."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            while not self._closing.is_set():
                with suppress(Empty):
                    self._process.stdin.write(self._said.get(timeout=TICK))
                    self._process.stdin.flush()

    def _put(self, line: bytes) -> None:
        while not self._closing.is_set():
            with suppress(Full):
                self._heard.put(line, timeout=TICK)
                return

    def _look(self) -> None:
        """Now and then, count the processes behind the walls; elsewhere the system's own limit has to do."""
        if not self._inside or time.monotonic() - self._looked < TICK:
            return
        self._looked = time.monotonic()
        with suppress(OSError, IndexError, ValueError):
            task = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            self._init = self._init or int(task.read_text(encoding="ascii").split()[0])
            running = sum(path.name.isdecimal() for path in Path(f"/proc/{self._init}/root/proc").iterdir())
            if running > self.limits.processes:
                raise Gone(f"started more than {self.limits.processes} processes")


def _environment(work: Path) -> dict[str, str]:
    """Return the environment of a learner's process: nothing of ours but where the package is."""
    return {
        "HOME": str(work),
        "TMPDIR": str(work),
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        "MPLBACKEND": "Agg",
        "OPENBLAS_NUM_THREADS": "1",
        "VNMI_LAB_GRADED": "1",
        **{name: os.environ[name] for name in NEEDED_BY_WINDOWS if name in os.environ},
    }


def _copy(notebook: Path, given: Path) -> None:
    """Copy a notebook and the small plain files beside it, but no other notebook and nothing that is linked."""
    given.mkdir()
    shutil.copyfile(notebook, given / notebook.name)
    room = MOST_BYTES
    for path in sorted(notebook.parent.iterdir())[:MOST_FILES]:
        plain = path.is_file() and not path.is_symlink() and not path.name.startswith(".")
        if plain and path.suffix != ".ipynb" and path.stat().st_size <= room:
            room -= path.stat().st_size
            with suppress(OSError):
                shutil.copyfile(path, given / path.name)
