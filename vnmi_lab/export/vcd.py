r"""Value Change Dump (IEEE 1364-2005, clause 18): every field of every step as a wave for GTKWave, Surfer and others.

Time is counted in steps of the run: one step is written as 1 ns, and at ``#n`` stands the state after step n. A last
time mark gives the last step its width. Each field is a vector as wide as in the machine. What the step did is text,
as GTKWave's extension has it: type ``string``, with blanks as ``\x20``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vnmi_lab import __version__
from vnmi_lab.export.source import ascii_line
from vnmi_lab.hw import vmcb
from vnmi_lab.timeline.fields import CONTROL, FIELDS, KVM, SOFTWARE, VMCB, WAVES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vnmi_lab.export.source import Source
    from vnmi_lab.trace import Step, Value

UNIT = "1 ns"
SCOPES = {field.key: {KVM: "kvm", VMCB: "vmcb"}.get(field.group, "cpu") for field in FIELDS}
SCOPES |= {wave.key: wave.group if wave.group in (SOFTWARE, CONTROL) else "cpu" for wave in WAVES}
"""The scope of a field: that of its lane, where it has one; what is neither KVM's nor the VMCB's is the processor's."""
WIDTHS = {"bit": 1, "shadow": 2, "requests": 8, "count": 16, "address": 64, "register": 64, "flags": 64}
TEXTS = ("kind", "world", "text")
_FIELDS = {field.key: field for field in FIELDS}


@dataclass(frozen=True, slots=True)
class _Wave:
    """One variable: the path in scopes, its width (0 for a text), its code, and its value after each step."""

    scope: str
    name: str
    width: int
    code: str
    values: Sequence[Value]

    def declared(self) -> str:
        kind = "wire" if self.width else "string"
        return f"$var {kind} {self.width or 1} {self.code} {self.name} $end"

    def written(self, value: Value) -> str:
        if not self.width:
            return f"s{_escaped(str(value))} {self.code}"
        digits = f"{value & (1 << self.width) - 1:b}" if isinstance(value, int) else "x"
        return f"{digits}{self.code}" if self.width == 1 else f"b{digits} {self.code}"


def vcd(source: Source) -> str:
    """Give the run as VCD; a field that has no value in a step (a live bit while no guest runs) is ``x`` there."""
    steps = list(source.steps())
    waves = list(_waves(steps))
    lines = [
        f"$comment {ascii_line(source.title).replace('$', '?')} $end",
        f"$comment One step of the run is {UNIT}; at a time stands the state after that step. $end",
        f"$version vnmi_lab {__version__} $end",
        f"$timescale {UNIT} $end",
        "$scope module vnmi_lab $end",
    ]
    for scope in dict.fromkeys(wave.scope for wave in waves):
        inside = [wave.declared() for wave in waves if wave.scope == scope]
        lines += [f"$scope module {scope} $end", *inside, "$upscope $end"]
    lines += ["$upscope $end", "$enddefinitions $end"]
    for now in range(len(steps)):
        first = now == 0
        news = [wave.written(wave.values[now]) for wave in waves if first or wave.values[now] != wave.values[now - 1]]
        lines += [f"#{now}", "$dumpvars", *news, "$end"] if first else [f"#{now}", *news]
    return "\n".join([*lines, f"#{len(steps)}"]) + "\n"


def _waves(steps: Sequence[Step]) -> Iterator[_Wave]:
    count = 0
    for name in TEXTS:
        yield _Wave("step", name, 0, _code(count), [getattr(step, name) for step in steps])
        count += 1
    keys = list(dict.fromkeys(key for step in steps for key in step.state))
    for scope in (SOFTWARE, CONTROL, "cpu"):
        for key in keys:
            if SCOPES.get(key, "cpu") == scope:
                values = [step.state.get(key) for step in steps]
                yield _Wave(scope, re.sub(r"\W", "_", key, flags=re.ASCII), _width(key, values), _code(count), values)
                count += 1


def _width(key: str, values: Sequence[Value]) -> int:
    """Give the width the machine gives a field; more only where a value needs more."""
    form = _FIELDS[key].form if key in _FIELDS else "register"
    known = 8 * _SIZES.get(key, 8) if form == "vmcb" else WIDTHS[form]
    return max([known, *(value.bit_length() for value in values if isinstance(value, int))])


_SIZES = {field.name: field.size for field in vmcb.LAYOUT}


def _code(number: int) -> str:
    """Give the identifier code of a variable: printable characters, shortest first."""
    digits = chr(33 + number % 94)
    while number := number // 94:
        digits += chr(33 + number % 94)
    return digits


def _escaped(text: str) -> str:
    r"""Give a text without a blank: what is no printable ASCII, and the backslash, is ``\xHH`` a byte of UTF-8."""
    plain = set(range(0x21, 0x7F)) - {ord("\\")}
    return "".join(chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in text.encode("utf-8", "replace"))
