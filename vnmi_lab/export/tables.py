"""The run as rows: text to read, CSV for a spreadsheet, JSON and JSON lines for a program."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from vnmi_lab.timeline.fields import FIELDS

if TYPE_CHECKING:
    from vnmi_lab.export.source import Source
    from vnmi_lab.hw.events import Changed
    from vnmi_lab.trace import Step, Value

DECIMAL = {field.key for field in FIELDS if field.form in {"bit", "count", "shadow"}}
"""Fields written in decimal; the others are hexadecimal text, which no spreadsheet rounds to 15 digits."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection")."""

COLUMNS = ("step", "kind", "world", "rip", "text", "sentence", "changes")


def text(source: Source) -> str:
    """Give a line a step: its number, the world, what it did, and the sentence."""
    return "".join(f"{step.index:>4} {step.world:<5} {step.text:<32} {step.sentence}\n" for step in source.steps())


def as_json(step: Step) -> dict[str, Any]:
    """Give a step as JSON; ``state`` and ``stack`` are as they are after it, numbers are exact whatever their size."""
    return {
        "index": step.index, "kind": step.kind, "world": step.world, "rip": step.rip, "text": step.text,
        "changes": [[change.rule, change.field, change.old, change.new] for change in step.changes],
        "sentence": step.sentence, "calls": [list(call) for call in step.calls], "state": step.state,
        "stack": [list(line) for line in step.stack],
    }  # fmt: skip


def jsonl(source: Source) -> str:
    """Give one JSON object a line and step."""
    return "".join(json.dumps(as_json(step)) + "\n" for step in source.steps())


def whole_json(source: Source) -> str:
    """Give one JSON object: ``scenario``, which is the run's title, and ``steps``."""
    return json.dumps({"scenario": source.title, "steps": [as_json(step) for step in source.steps()]}, indent=1) + "\n"


def csv_table(source: Source) -> str:
    """Give a row a step under a header: what happened, what changed by which rule, and every field after it.

    A field without a value is empty. A text that a spreadsheet would run as a formula has a ``'`` in front.
    """
    steps = list(source.steps())
    keys = list(dict.fromkeys(key for step in steps for key in step.state))
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    state_columns = [f"state.{key}" if key in COLUMNS else key for key in keys]  # RIP stands there twice
    rows.writerow([*COLUMNS, *state_columns])
    for step in steps:
        told = [step.kind, step.world, hex(step.rip), step.text, step.sentence, "; ".join(map(_change, step.changes))]
        rows.writerow([step.index, *map(_cell, told), *(_value(key, step.state.get(key)) for key in keys)])
    return out.getvalue()


def _cell(told: str) -> str:
    return f"'{told}" if told.startswith(FORMULA) else told


def _change(change: Changed) -> str:
    return f"{change.field} {_value(change.field, change.old)} to {_value(change.field, change.new)} ({change.rule})"


def _value(key: str, value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _cell(value)
    return str(int(value)) if key in DECIMAL else hex(value)
