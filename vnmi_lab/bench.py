"""The project's own measurements: ratios taken within one run, and the few absolute numbers that matter.

Against Unicorn (extra ``bench``), which a Python user would pick otherwise: an NMI model has to decide at every
boundary, so untraced steps compare with Unicorn stepped one instruction at a time, and traced steps with a
per-instruction hook that reads RIP, RSP and RFLAGS. Unicorn runs the same bytes, but delivers no NMI.

Against matplotlib and ipympl, with which a notebook would show a run otherwise: ``browser``, in Chromium
(``benchmarks/browser``).

Against Spin, which somebody who knows model checking would pick instead of the judge: ``benchmarks/spin/nmi.pml``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from vnmi_lab.guest import MAIN, STACK, Guest
from vnmi_lab.machine import BareMetal
from vnmi_lab.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 5
STEPS, FOREIGN_STEPS = 400_000, 40_000
HISTORY = 100_000
MOST_NMIS, ARRIVALS = 5, 1_000_000
GUESTS = {
    "nop/loop guest": Guest.of(
        "again: mov ecx, 1000\ntop: nop\n nop\n nop\n nop\n add rax, rcx\n loop top\n jmp again", tail="hlt"
    ),
    "NMI-heavy guest": Guest.of(
        "top: mov dword [r15], 0x4400\n nop\n nop\n inc rax\n nop\n nop\n nop\n nop\n jmp top",
        {2: "inc qword [rbx+16]\n nop\n nop\n iretq"},
        tail="hlt",
    ),
}
REFERENCE = Path(__file__).parents[1] / "tests" / "reference"
PAGES = Path(__file__).parents[1] / "benchmarks" / "browser"
PROMELA = Path(__file__).parents[1] / "benchmarks" / "spin" / "nmi.pml"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure, with the target it is held against where there is one."""

    name: str
    value: float
    unit: str
    target: str = ""
    met: bool | None = None

    def __str__(self) -> str:
        """Return one line."""
        verdict = "" if self.met is None else f"   target {self.target}: {'met' if self.met else 'MISSED'}"
        return f"{self.name:<74} {self.value:>12,.2f} {self.unit}{verdict}"


def main(*, as_json: bool = False) -> int:
    """Measure everything and print it, as text or as one JSON object; always 0: a missed target is a finding."""
    figures = list(measure())
    if as_json:
        print(json.dumps({"python": sys.version.split()[0], "figures": [asdict(f) for f in figures]}, indent=1))
    else:
        for figure in figures:
            print(figure)
        if find_spec("unicorn") is None:
            print('no comparison with Unicorn: it is not installed (pip install "vnmi_lab[bench]")')
    return 0


def browser(*, as_json: bool = False) -> int:
    """Measure the player in Chromium, beside two views that matplotlib draws, and print it as ``main`` does.

    1 and one line where that cannot be measured.
    """
    try:
        figures = _in_browser()
        if as_json:
            print(json.dumps({"load": os.getloadavg()[0], "figures": [asdict(f) for f in figures]}, indent=1))
            return 0
        print(f"{'load of this machine, of ' + str(os.cpu_count()) + ' processors':<74} {os.getloadavg()[0]:>12,.2f}")
        for figure in figures:
            print(figure, flush=True)  # it takes minutes
    except NotMeasuredError as problem:
        print(f"vnmi-lab: {problem}", file=sys.stderr)
        return 1
    return 0


class NotMeasuredError(Exception):
    """What is needed is not here; one line says what."""


def _in_browser() -> Iterator[Figure]:
    """Load the measurements of ``benchmarks/browser``, which are no part of the package, and begin."""
    if not (PAGES / "measure.py").is_file():
        raise NotMeasuredError(f"what measures in a browser is in a checkout only ({'/'.join(PAGES.parts[-2:])})")
    for needed in ("playwright", "ipympl"):
        if find_spec(needed) is None:
            raise NotMeasuredError(f'{needed} is not installed (pip install "vnmi_lab[bench,test]")')
    root = str(PAGES.parents[1])
    if root not in sys.path:
        sys.path.insert(0, root)
    measured: Iterator[Figure] = import_module("benchmarks.browser.measure").measure()
    return measured


def measure() -> Iterator[Figure]:
    """Yield every figure."""
    for name, guest in GUESTS.items():
        yield from _speed(name, guest)
    yield from _history()
    yield from _snapshots()
    yield from _imports()
    yield from _conformance()
    yield from _judge()
    yield from against_spin()
    yield from _sweep()


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _speed(name: str, guest: Guest) -> Iterator[Figure]:
    """Compare steps a second, round by round in one run, and give the median of the ratios."""
    ours, traced, stepped, hooked = [], [], [], []
    foreign = find_spec("unicorn") is not None
    for _ in range(ROUNDS):
        machine = BareMetal(guest)
        ours.append(STEPS / _seconds(lambda m=machine: m.advance(STEPS)))  # type: ignore[misc]  # bound at once
        machine = BareMetal(guest)
        traced.append(STEPS / _seconds(lambda m=machine: Trace(m, limit=STEPS)))  # type: ignore[misc]  # bound at once
        if foreign:
            stepped.append(FOREIGN_STEPS / _seconds(_Unicorn(guest).step))
            hooked.append(FOREIGN_STEPS / _seconds(_Unicorn(guest, hook=True).run))
    yield Figure(f"{name}: untraced", median(ours) / 1e6, "M steps/s")
    yield Figure(f"{name}: traced", median(traced) / 1e6, "M steps/s")
    if foreign:
        yield Figure(f"{name}: Unicorn, one step at a time", median(stepped) / 1e6, "M steps/s")
        yield Figure(f"{name}: Unicorn, hook with three reads", median(hooked) / 1e6, "M steps/s")
        ratio = median(a / b for a, b in zip(ours, stepped, strict=True))
        yield Figure(f"{name}: untraced / Unicorn stepped", ratio, "x", "at least 3x", ratio >= 3)  # noqa: PLR2004 - the target
        ratio = median(a / b for a, b in zip(traced, hooked, strict=True))
        yield Figure(f"{name}: traced / Unicorn hooked", ratio, "x", "at least 1.5x", ratio >= 1.5)  # noqa: PLR2004 - the target


class _Unicorn:
    """The same bytes in Unicorn, stepped or hooked, as a Python user would do it."""

    def __init__(self, guest: Guest, *, hook: bool = False) -> None:
        import unicorn
        from unicorn import x86_const as x86

        self.x86: Any = x86
        self.uc = cast("Any", unicorn).Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self.uc.mem_map(MAIN, 0x100000)
        self.uc.mem_map(0xFEE00000, 0x1000)
        self.uc.mem_write(MAIN, guest.main.code)
        self.uc.reg_write(x86.UC_X86_REG_RSP, STACK)
        self.uc.reg_write(x86.UC_X86_REG_R15, 0xFEE00300)
        self.seen: list[tuple[int, int, int]] = []
        if hook:
            self.uc.hook_add(unicorn.UC_HOOK_CODE, self._hook)

    def _hook(self, uc: Any, _address: int, _size: int, _data: object) -> None:  # noqa: ANN401 - Unicorn has no types
        x86 = self.x86
        read = uc.reg_read
        self.seen.append((read(x86.UC_X86_REG_RIP), read(x86.UC_X86_REG_RSP), read(x86.UC_X86_REG_EFLAGS)))

    def step(self) -> None:
        """Step one instruction at a time."""
        rip, register = MAIN, self.x86.UC_X86_REG_RIP
        for _ in range(FOREIGN_STEPS):
            self.uc.emu_start(rip, 0xFFFFFFFF, count=1)
            rip = self.uc.reg_read(register)

    def run(self) -> None:
        """Run with the hook."""
        self.uc.emu_start(MAIN, 0xFFFFFFFF, count=FOREIGN_STEPS)
        if len(self.seen) < FOREIGN_STEPS:
            msg = f"Unicorn's hook saw {len(self.seen)} of {FOREIGN_STEPS} steps"
            raise RuntimeError(msg)


def _history() -> Iterator[Figure]:
    """Measure what the full history of a long run costs, and how long a step back takes."""
    guest = GUESTS["NMI-heavy guest"]
    tracemalloc.start()
    trace = Trace(BareMetal(guest), limit=HISTORY)
    mebibytes = tracemalloc.get_traced_memory()[0] / (1 << 20)
    tracemalloc.stop()
    yield Figure(f"history of {HISTORY:,} traced steps", mebibytes, "MiB", "under 64 MiB", mebibytes < 64)  # noqa: PLR2004 - the target
    backward = [_seconds(lambda i=i: trace[i]) for i in range(HISTORY - 1, HISTORY - 2000, -1)]  # type: ignore[misc]  # bound at once
    worst = max(backward) * 1000
    yield Figure("one step back, median", median(backward) * 1000, "ms")
    yield Figure("one step back, worst of 2,000", worst, "ms", "under 5 ms", worst < 5)  # noqa: PLR2004 - the target
    seconds = _seconds(lambda: [trace[i] for i in range(5000)])
    yield Figure("reading every step with every change, in order", 5000 / seconds, "steps/s")


def _snapshots() -> Iterator[Figure]:
    machine = BareMetal(GUESTS["NMI-heavy guest"])
    machine.advance(10_000)
    times: dict[str, list[float]] = {"snapshot": [], "restore": []}
    for _ in range(2000):
        machine.advance(3)
        start = time.perf_counter()
        taken = machine.snapshot()
        middle = time.perf_counter()
        machine.restore(taken)
        times["restore"].append(time.perf_counter() - middle)
        times["snapshot"].append(middle - start)
    for name, seconds in times.items():
        yield Figure(f"{name}, after three steps", median(seconds) * 1e6, "us")


def _imports() -> Iterator[Figure]:
    """Measure what importing adds to a bare interpreter: the package, and all of processor, machine and trace."""
    codes = {"": [], "import vnmi_lab": [], "import vnmi_lab.trace, vnmi_lab.conform": []}  # type: dict[str, list[float]]
    for _ in range(2 * ROUNDS):
        for code, seconds in codes.items():
            seconds.append(_seconds(lambda code=code: _python(code)))  # type: ignore[misc]  # bound at once
    bare, package, core = ((median(seconds) * 1000) for seconds in codes.values())
    yield Figure("import vnmi_lab, over a bare interpreter", package - bare, "ms")
    extra = core - bare
    yield Figure("importing all of the core, over the same", extra, "ms", "under 30 ms", extra < 30)  # noqa: PLR2004 - the target


def _python(code: str) -> None:
    """Run code in a fresh interpreter that may keep compiled bytecode, as an installed one does."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)  # noqa: S603 - our own code


def _judge() -> Iterator[Figure]:
    """Measure the judge: each wrong policy to its shortest counterexample, the right ones to a full verdict, growth."""
    from vnmi_lab.explore import Search, explore
    from vnmi_lab.hv.profiles import POLICIES, VNMI
    from vnmi_lab.judge import ACQUITTED, EXPOSED

    times = {name: case.verdict(POLICIES[name]).seconds for name, case in EXPOSED.items()}
    for name, seconds in times.items():
        yield Figure(f"shortest counterexample of {name}", seconds, "s")
    slowest = max(times, key=lambda name: times[name])
    worst = times[slowest]
    yield Figure(f"slowest counterexample ({slowest})", worst, "s", "under 0.3 s", worst < 0.3)  # noqa: PLR2004 - the target
    for name in ACQUITTED:
        seconds = explore(ACQUITTED[name][0].search(POLICIES[name])).seconds
        yield Figure(f"verdict on {name}, 3 NMIs", seconds, "s", "under 3 s", seconds < 3)  # noqa: PLR2004 - the target
        everything = sum(case.verdict(POLICIES[name]).seconds for case in ACQUITTED[name])
        yield Figure(f"all {len(ACQUITTED[name])} searches on {name}", everything, "s")
    for nmis in range(1, MOST_NMIS + 1):
        tracemalloc.start()
        verdict = explore(Search(VNMI, nmis=nmis))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        yield Figure(f"vnmi, {nmis} NMIs: states", verdict.states, "states")
        yield Figure(f"vnmi, {nmis} NMIs: memory for each state", peak / verdict.states / 1024, "KiB")
    verdict = explore(Search(VNMI))
    yield Figure("states visited", verdict.states / verdict.seconds, "states/s")


# --- Spin ------------------------------------------------------------------------------------------------------------

TO_C, TO_PROGRAM, SEARCH = ("-a",), ("-DSAFETY", "-o", "pan", "pan.c"), ("-w16",)
"""What Spin, the C compiler and the program they make are told. No optimization, and a table of states no larger than
these models need: that is the soonest verdict."""
DEFINES: dict[str, tuple[str, ...]] = {"legacy": (), "vnmi": ("-DVNMI",)}
TOO_LONG = 60
CUT_SHORT = "max search depth too small"
FROM_SOURCE = (
    "from vnmi_lab.explore import Search, explore; from vnmi_lab.hv.profiles import POLICIES; "
    "explore(Search(POLICIES[{policy!r}]))"
)


class SpinError(Exception):
    """Spin is not here, or did not come to a verdict; one line says why."""


class Spun(NamedTuple):
    """What Spin found, and the seconds that generating, compiling and searching took, each with its process."""

    states: int
    errors: int
    seconds: tuple[float, float, float] = (0, 0, 0)


def spin(*defines: str) -> Spun:
    """Check the Promela model with Spin in a folder of its own that is gone afterwards; ``SpinError`` in one line."""
    programs = {name: shutil.which(name) for name in ("spin", "gcc")}
    for name, program in programs.items():
        if program is None:
            raise SpinError(f"no {name} on the PATH (Debian: apt-get install spin gcc)")
    if not PROMELA.is_file():
        raise SpinError(f"its model is in a checkout only (benchmarks/spin/{PROMELA.name})")
    with TemporaryDirectory(prefix="vnmi-spin-") as name:
        folder = Path(name)
        shutil.copy(PROMELA, folder)
        to_c, _text = _tool(folder, str(programs["spin"]), *defines, *TO_C, PROMELA.name)
        to_program, _text = _tool(folder, str(programs["gcc"]), *TO_PROGRAM)
        search, text = _tool(folder, str(folder / "pan"), *SEARCH)
    return parse_spin(text)._replace(seconds=(to_c, to_program, search))


def parse_spin(text: str) -> Spun:
    """Read the states and errors in what Spin's program prints; ``SpinError`` when it stopped before the end."""
    errors = re.search(r"^State-vector .* errors: (\d+)$", text, re.MULTILINE)
    states = re.search(r"^ *(\d+) states, stored", text, re.MULTILINE)
    if errors is None or states is None or ("Search not completed" in text and errors[1] == "0") or CUT_SHORT in text:
        said = next((line for line in text.splitlines() if line.strip()), "nothing")
        raise SpinError(f"its search gave no verdict, but said: {said.strip()}")
    return Spun(int(states[1]), int(errors[1]))


def _tool(folder: Path, *command: str) -> tuple[float, str]:
    """Run a program in a folder; return the seconds it took and what it printed."""
    start = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TOO_LONG, check=False)  # noqa: S603 - our own command
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpinError(f"{Path(command[0]).name} did not run: {error}") from error
    seconds = time.perf_counter() - start
    if done.returncode:
        said = next((line for line in (done.stderr + done.stdout).splitlines() if line.strip()), "nothing")
        raise SpinError(f"{Path(command[0]).name} failed with {done.returncode}: {said.strip()}")
    return seconds, done.stdout


def against_spin() -> Iterator[Figure]:
    """Compare the judge with Spin on a model of the same machine, each part of the way to a verdict apart."""
    try:
        for policy, defines in DEFINES.items():
            yield from _spun(policy, [spin(*defines) for _ in range(ROUNDS)])
    except SpinError as error:
        print(f"no comparison with Spin: {error}", file=sys.stderr)


def _spun(policy: str, runs: list[Spun]) -> Iterator[Figure]:
    from vnmi_lab.explore import Search, explore
    from vnmi_lab.hv.profiles import POLICIES

    if runs[0].errors:
        raise SpinError(f"it finds {runs[0].errors} errors in the model of {policy}, where none was expected")
    name = f"{policy}, {Search(POLICIES[policy]).nmis} NMIs"
    parts = zip(*(run.seconds for run in runs), strict=True)
    yield Figure(f"{name}: Spin, states", runs[0].states, "states")
    for part, seconds in zip(("Promela to C", "C to program", "search"), parts, strict=True):
        yield Figure(f"{name}: Spin, {part}", median(seconds) * 1000, "ms")
    theirs = median(sum(run.seconds) for run in runs)
    yield Figure(f"{name}: Spin, source to verdict", theirs * 1000, "ms")
    ours = [explore(Search(POLICIES[policy])) for _ in runs]
    yield Figure(f"{name}: judge, states", ours[0].states, "states")
    yield Figure(f"{name}: judge, search", median(verdict.seconds for verdict in ours) * 1000, "ms")
    whole = median(_seconds(lambda: _python(FROM_SOURCE.format(policy=policy))) for _ in runs)
    yield Figure(f"{name}: judge, source to verdict", whole * 1000, "ms")
    yield Figure(f"{name}: source to verdict, Spin / judge", theirs / whole, "x")


# --- the rest --------------------------------------------------------------------------------------------------------


def _sweep() -> Iterator[Figure]:
    if find_spec("numpy") is None:
        return
    from vnmi_lab import sweep
    from vnmi_lab.hv.profiles import LEGACY

    table = sweep.compile_table(LEGACY)
    seconds = _seconds(lambda: sweep.simulate(table, 20.0, arrivals=ARRIVALS))
    yield Figure(f"sweep of {ARRIVALS:,} arrivals", seconds, "s", "under 2 s", seconds < 2)  # noqa: PLR2004 - the target


def _conformance() -> Iterator[Figure]:
    from vnmi_lab import conform

    files = sorted(REFERENCE.glob("isa*.jsonl"))
    if not files:
        return
    cases = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    seconds = _seconds(lambda: list(conform.check_lines(cases)))
    yield Figure("conformance cases", len(cases) / seconds, "cases/s")
    yield Figure("all public conformance cases", seconds, "s", "under 5 s", seconds < 5)  # noqa: PLR2004 - the target
