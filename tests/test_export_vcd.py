"""VCD, read back by other people's readers: pyvcd, and GTKWave's converter to FST and back."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from vcd.reader import Token, TokenKind, tokenize

from tests.export_runs import Make, every_run, of, worded
from vnmi_lab.export import write
from vnmi_lab.timeline import TraceLike

Read = dict[str, list[int | str | None]]
"""What a reader makes of a file: the value of each variable at every time, by its path; None where it is unknown."""


class Replay:
    """A file read with pyvcd: every variable's value at every time, and its width."""

    def __init__(self, text: bytes) -> None:
        self.values: Read = {}
        self.widths: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}
        self._now: dict[str, int | str | None] = {}
        self._time = -1
        scope: list[str] = []
        for token in tokenize(io.BytesIO(text)):
            if token.kind is TokenKind.SCOPE:
                scope.append(token.scope.ident)
            elif token.kind is TokenKind.UPSCOPE:
                scope.pop()
            elif token.kind is TokenKind.VAR:
                path = ".".join([*scope, token.var.reference])
                self._names.setdefault(token.var.id_code, []).append(path)
                self.widths[path] = token.var.size
                self.values[path] = []
            elif token.kind is TokenKind.CHANGE_TIME:
                self._until(token.time_change)
            else:
                self._change(token)

    def _until(self, time: int) -> None:
        assert time > self._time
        for _ in range(max(self._time, 0), time):
            for path, seen in self.values.items():
                seen.append(self._now[path])
        self._time = time

    def _change(self, token: Token) -> None:
        if token.kind is TokenKind.CHANGE_SCALAR:
            bit = token.scalar_change
            self._now |= dict.fromkeys(self._names[bit.id_code], int(bit.value) if bit.value in "01" else None)
        elif token.kind is TokenKind.CHANGE_VECTOR:
            word = token.vector_change
            self._now |= dict.fromkeys(self._names[word.id_code], word.value if isinstance(word.value, int) else None)
        elif token.kind is TokenKind.CHANGE_STRING:
            self._now |= dict.fromkeys(self._names[token.string_change.id_code], token.string_change.value)


def matches(values: Read, trace: TraceLike) -> None:
    """Assert that every field of every step stands in the file, under its scope."""
    fields = {path.rsplit(".", 1)[1]: seen for path, seen in values.items() if ".step." not in path}
    assert all(len(seen) == len(trace) for seen in fields.values())
    for index in range(len(trace)):
        state = {key: value for key, value in trace[index].state.items() if key.isidentifier() and key != "word"}
        assert {key: fields[key][index] for key in state} == state


@every_run
def test_pyvcd_reads_back_every_field_of_every_step(make: Make) -> None:
    trace = make()
    matches(Replay(write(trace, "vcd").text.encode("ascii")).values, trace)


@pytest.mark.parametrize("make", [lambda: of("in-handler", "legacy"), lambda: of("storm", "vnmi")])
def test_what_a_step_did_is_a_text_with_its_blanks_escaped(make: Make) -> None:
    trace = make()
    values = Replay(write(trace, "vcd").text.encode()).values
    for index in range(len(trace)):
        for name in ("kind", "world", "text"):
            found = values[f"vnmi_lab.step.{name}"][index]
            assert isinstance(found, str)
            assert found.encode().decode("unicode_escape") == getattr(trace[index], name)


def test_scopes_and_widths_are_those_of_the_machine() -> None:
    widths = Replay(write(of("in-handler", "legacy"), "vcd").text.encode()).widths
    wanted = {
        "vnmi_lab.kvm.nmi_pending": 16, "vnmi_lab.kvm.nmi_masked": 1, "vnmi_lab.vmcb.int_ctl": 32,
        "vnmi_lab.vmcb.event_inj": 64, "vnmi_lab.vmcb.v_nmi_pending": 1, "vnmi_lab.vmcb.iret_intercept": 1,
        "vnmi_lab.cpu.live_v_nmi_pending": 1, "vnmi_lab.kvm.nmi_iret_rip": 64,
        "vnmi_lab.cpu.rip": 64, "vnmi_lab.cpu.IF": 1,
    }  # fmt: skip
    assert {path: widths[path] for path in wanted} == wanted


def test_one_step_is_one_nanosecond_and_the_last_has_its_width() -> None:
    text = write(of("one", "vnmi"), "vcd").text
    assert "$timescale 1 ns $end" in text
    assert text.endswith(f"\n#{len(of('one', 'vnmi'))}\n")


def test_no_text_ends_its_declaration_or_starts_a_line_of_its_own() -> None:
    text = write(worded(), "vcd").text
    assert text.isascii()
    comment = text.splitlines()[0]
    assert comment.count("$") == 2
    assert r"s@nop\x20\x5c\x20$end\x20#5" in text


@every_run
def test_gtkwave_reads_the_same(make: Make, tmp_path: Path) -> None:
    if not (shutil.which("vcd2fst") and shutil.which("fst2vcd")):
        pytest.skip("no vcd2fst here: install Debian's gtkwave")
    trace = make()
    (tmp_path / "run.vcd").write_text(write(trace, "vcd").text, encoding="ascii")
    subprocess.run(["vcd2fst", "run.vcd", "run.fst"], cwd=tmp_path, check=True, capture_output=True)  # noqa: S607
    back = subprocess.run(["fst2vcd", "run.fst"], cwd=tmp_path, check=True, capture_output=True)  # noqa: S607
    matches(Replay(back.stdout).values, trace)
