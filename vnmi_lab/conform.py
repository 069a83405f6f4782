"""Replays recorded traces of other people's emulators and reports the first difference of each.

The schema is that of ``tests/reference/README.md``: "isa", a guest, a host's script, and a record for every ``run``
and ``mark``; or "kvm", a guest and the rows a kernel showed (``conform_kvm``). A field that a record does not have is
not compared.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from vnmi_lab import conform_kvm
from vnmi_lab.guest import MAIN, STACK, Guest, count, default_handler, handler_address
from vnmi_lab.hw.delivery import IF, TF, VALID
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.machine import Host, Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vnmi_lab.rules import Switches

# The guests' mini-instructions and their bytes, as recorded; "cntV" is made by ``count``.
MINI: dict[str, bytes] = {
    name: bytes.fromhex(code)
    for name, code in {
        "nop": "90", "sti": "FB", "cli": "FA", "hlt": "F4", "pause": "F390", "int3": "CC", "ud2": "0F0B",
        "cpuid": "0FA2", "iretq": "48CF", "vmmcall": "0F01D9", "stgi": "0F01DC", "clgi": "0F01DD", "int40": "CD40",
        "movss": "418ED4", "selfnmi": "41C70700440000", "ldpf": "488B042500000080",
        "pushf_tf_popf": "9C810C24000100009D", "popf_if": "9C810C24000200009D", "bad_cs": "48C744240834120000",
        "selfnmi_once": "4883BB0008000000750E48FF830008000041C70700440000",
        "selfnmi3_once": "4883BB0008000000751C48FF8300080000" + 3 * "41C70700440000",
    }.items()
}  # fmt: skip
COUNTERS = {"guest_nmi": 2, "guest_db": 1, "guest_np": 11, "guest_gp": 13, "guest_df": 8, "guest_irq": 0x40}


ISA_KEYS = ("scenario", "main", "handlers", "steps", "trace")
KVM_KEYS = ("scenario", "main", "nmi_handler", "rows")


class CaseError(ValueError):
    """A case that cannot be replayed; the text says what is wrong with it."""


class Mismatch(NamedTuple):
    """The first difference of one case: which record, which field, what was recorded and what we got."""

    scenario: str
    record: int
    field: str
    recorded: object
    ours: object

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"{self.scenario}: record {self.record}, field {self.field}: recorded {self.recorded!r}, ours {self.ours!r}"
        )


def mini(name: object) -> bytes:
    """Return the bytes of a mini-instruction; ``CaseError`` for one that is not known."""
    text = str(name)
    if text.startswith("cnt") and text[3:].isdigit() and int(text[3:]) < 256:
        return count(int(text[3:]))
    if text not in MINI:
        msg = f"unknown guest instruction {text!r}"
        raise CaseError(msg)
    return MINI[text]


class Listing:
    """Names addresses as the recordings do: ``main[2]:hlt``, ``h2+0x5``, ``h2def:iretq``."""

    def __init__(self, main: Sequence[str], handlers: Mapping[int, Sequence[str]]) -> None:
        self.names: dict[int, str] = {}
        self.handlers = set(handlers)
        for where, origin, program in (
            ("main", MAIN, main),
            *((f"h{v}", handler_address(v), program) for v, program in handlers.items()),
        ):
            at = origin
            for i, name in enumerate(program):
                self.names[at] = f"{where}[{i}]:{name}"
                at += len(mini(name))
            self.names[at] = f"{where}+{at - origin:#x}:end"

    def at(self, rip: int) -> str:
        """Return the symbolic name of an address."""
        if rip in self.names:
            return self.names[rip]
        if MAIN <= rip < handler_address(0):
            return f"main+{rip - MAIN:#x}"
        if handler_address(0) <= rip < handler_address(255) + 0x100:
            vector, offset = divmod(rip - handler_address(0), 0x100)
            if vector in self.handlers:
                return f"h{vector}+{offset:#x}"
            return f"h{vector}def" + (":iretq" if offset == len(default_handler(vector)) - 2 else f"+{offset:#x}")
        return f"{rip:#x}"


def record(report: Report, listing: Listing) -> dict[str, object]:
    """Return a report in the form of the recordings."""
    info = report.exit_int_info
    return {
        "kind": report.kind,
        "exit": exit_name(report.exit_code),
        "at": listing.at(report.rip),
        "rsp": STACK - report.rsp,
        "IF": int(report.rflags & IF > 0),
        "TF": int(report.rflags & TF > 0),
        "exitintinfo": f"{info:#x}" if info & VALID else None,
        "v_irq": report.int_ctl >> 8 & 1,
        "int_state": report.int_state,
        **{name: report.counters[vector] for name, vector in COUNTERS.items()},
        "host_nmi": report.host_nmi,
    }


@cache
def _guest(main: tuple[str, ...], handlers: tuple[tuple[int, tuple[str, ...]], ...]) -> Guest:
    code = {vector: b"".join(map(mini, program)) for vector, program in handlers}
    return Guest.of(b"".join(map(mini, main)), code)


def replay(case: Mapping[str, object], switches: Switches | None = None) -> list[dict[str, object]]:
    """Run one case and return its records; ``CaseError`` when it is no case."""
    main, handlers, steps = _parts(case)
    host = Host(_guest(tuple(main), tuple((v, tuple(p)) for v, p in sorted(handlers.items()))), switches)
    for step in steps:
        host.load([step])
        outcome = host.finish()
        if outcome.kind in ("budget", "waiting", "stopped"):
            break
    listing = Listing(main, handlers)
    return [record(report, listing) for report in host.reports]


def compare(case: Mapping[str, object], switches: Switches | None = None) -> Mismatch | None:
    """Return the first difference between a case's records and ours, or None."""
    name = str(case["scenario"])
    if "rows" in case:
        found = conform_kvm.first_difference(case)
        return None if found is None else Mismatch(name, *found)
    recorded = case["trace"]
    assert isinstance(recorded, list)
    ours = replay(case, switches)
    for i, theirs in enumerate(recorded):
        if i >= len(ours):
            return Mismatch(name, i, "kind", theirs["kind"], "no record: the guest did not exit")
        for field, value in theirs.items():
            got = ours[i].get(field, "no such field")
            if got != value:
                return Mismatch(name, i, field, value, got)
    if len(ours) > len(recorded):
        return Mismatch(name, len(recorded), "kind", "no record", ours[len(recorded)]["kind"])
    return None


# --- reading a file -----------------------------------------------------------------------------------------------


def _parts(
    case: Mapping[str, object],
) -> tuple[list[str], dict[int, list[str]], list[tuple[object, ...]]]:
    main, handlers, steps = case["main"], case["handlers"], case["steps"]
    if not isinstance(main, list) or not isinstance(handlers, dict) or not isinstance(steps, list):
        msg = "main and steps must be lists and handlers an object"
        raise CaseError(msg)
    try:
        programs = {int(vector): [str(name) for name in program] for vector, program in handlers.items()}
    except (TypeError, ValueError):
        msg = f"handlers must map vectors to lists, not {handlers!r:.60}"
        raise CaseError(msg) from None
    return [str(name) for name in main], programs, [tuple(s) if isinstance(s, list) else (s,) for s in steps]


def read_case(line: str) -> dict[str, object]:
    """Parse one line of a file; ``CaseError`` says what is wrong with it."""
    try:
        case = json.loads(line)
    except json.JSONDecodeError as error:
        msg = f"not JSON: {error.msg} at column {error.colno}"
        raise CaseError(msg) from None
    except RecursionError:
        msg = "lists or objects are nested too deeply"
        raise CaseError(msg) from None
    if not isinstance(case, dict):
        msg = f"a case must be an object, not {type(case).__name__}"
        raise CaseError(msg)
    missing = [key for key in (KVM_KEYS if "rows" in case else ISA_KEYS) if key not in case]
    if missing:
        msg = f"the case lacks {', '.join(missing)}"
        raise CaseError(msg)
    key, mark = ("rows", "step") if "rows" in case else ("trace", "kind")
    if not isinstance(case[key], list) or not all(isinstance(r, dict) and mark in r for r in case[key]):
        msg = f"{key} must be a list of records, each an object with a {mark}"
        raise CaseError(msg)
    return case


def check_lines(lines: Iterable[str]) -> Iterator[tuple[str, Mismatch | None]]:
    """Yield each case's name and its first difference; ``CaseError`` with the line's number for a malformed one."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            case = read_case(line)
            yield str(case["scenario"]), compare(case)
        except (ValueError, AttributeError, TypeError) as error:
            msg = f"line {number}: {error}"
            raise CaseError(msg) from None


def main(paths: Sequence[Path]) -> int:
    """Replay files, print the first difference of each failing case and the totals; return 0, 1 (differences) or 2."""
    passed = failed = 0
    for path in paths:
        try:
            with path.open(encoding="utf-8-sig") as lines:
                for _name, mismatch in check_lines(lines):
                    if mismatch is None:
                        passed += 1
                    else:
                        failed += 1
                        print(mismatch)
        except (OSError, UnicodeDecodeError, CaseError) as error:
            print(f"{path}: {_said(error)}", file=sys.stderr)
            return 2
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def _said(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text: byte {error.object[error.start]:#04x}"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
