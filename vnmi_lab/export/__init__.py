"""A run for other programs: one function for each format, and the table of them.

``write(trace, "vcd")`` gives a name for the file, its type, and its text. What each format holds and how to open it is
in ``docs/exports.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vnmi_lab import timeline
from vnmi_lab.export import tables
from vnmi_lab.export.ftrace import ftrace
from vnmi_lab.export.page import page
from vnmi_lab.export.perfetto import perfetto
from vnmi_lab.export.source import Run, Source, slug
from vnmi_lab.export.vcd import vcd
from vnmi_lab.export.wavedrom import wavedrom
from vnmi_lab.hw.bits import misspelt

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMATS", "Export", "Format", "known", "write"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its name, the suffix and type of its files, what it is for, and what opens it.

    ``needs_trace``: a timeline's payload is not enough.
    """

    name: str
    suffix: str
    mime: str
    sentence: str
    opens: str
    render: Callable[[Source], str]
    needs_trace: bool = True


@dataclass(frozen=True, slots=True)
class Export:
    """A run in a format: a name for the file, its type, and all of its text."""

    name: str
    mime: str
    text: str


def _svg(source: Source) -> str:
    return timeline.svg(source.payload)


FORMATS: Mapping[str, Format] = {
    "html": Format(
        "Web page", ".html", "text/html", "The animated timeline in one file, offline.", "any browser", page,
        needs_trace=False,
    ),
    "svg": Format(
        "Picture", ".svg", "image/svg+xml", "The still picture, for a document.", "a browser, Inkscape", _svg,
        needs_trace=False,
    ),
    "vcd": Format(
        "Waves (VCD)", ".vcd", "text/x-vcd", "Every field as a wave, for GTKWave or Surfer.", "GTKWave, Surfer", vcd,
    ),
    "perfetto": Format(
        "Perfetto", ".perfetto.json", "application/json", "Tracks, counters and arrows, for ui.perfetto.dev.",
        "ui.perfetto.dev: Open trace file", perfetto, needs_trace=False,
    ),
    "wavedrom": Format(
        "WaveDrom", ".wavedrom.json", "application/json", "A timing diagram for a document.",
        "the editor at wavedrom.com, or its packages", wavedrom, needs_trace=False,
    ),
    "ftrace": Format(
        "ftrace text", ".ftrace.txt", "text/plain", "The lines that KVM's tracepoints would print.",
        "less, grep, diff with a kernel's trace", ftrace,
    ),
    "csv": Format(
        "Table (CSV)", ".csv", "text/csv", "A row a step with every field.", "a spreadsheet, pandas", tables.csv_table,
    ),
    "jsonl": Format(
        "JSON lines", ".jsonl", "application/x-ndjson", "An object a line and step.", "jq, pandas", tables.jsonl,
    ),
    "json": Format(
        "JSON", ".json", "application/json", "The same as one object.", "jq, any language", tables.whole_json,
    ),
    "text": Format(
        "Text", ".txt", "text/plain", "A line a step.", "anything", tables.text,
    ),
}  # fmt: skip
"""Every format, by the word that chooses it."""


def known(format: str) -> Format:  # noqa: A002 - it is what the command line calls it, too
    """Give a format by its word; ``ValueError`` in one line for a word that is none."""
    if format not in FORMATS:
        raise ValueError(misspelt("vnmi_lab.export", format, [*FORMATS], "format"))
    return FORMATS[format]


def write(run: Run, format: str) -> Export:  # noqa: A002 - it is what the command line calls it, too
    """Give a run, a trace or a timeline's payload, in a format.

    ``ValueError`` in one line for a format that is not there, one that needs the trace where only a payload is at hand,
    and a run without a step where a timeline is to be drawn.
    """
    chosen, source = known(format), Source(run)
    return Export(slug(source.title) + chosen.suffix, chosen.mime, chosen.render(source))
