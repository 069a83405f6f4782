"""From a trace to its payload: one JSON-able value that the player, the picture and the table all read."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from vnmi_lab import costs
from vnmi_lab.lint import lint
from vnmi_lab.timeline import lanes
from vnmi_lab.timeline.blocked import read
from vnmi_lab.timeline.columns import Column, Words, at, column, plain, put, table
from vnmi_lab.timeline.fields import FIELDS, FLAGS, OPEN, Field, group_names
from vnmi_lab.timeline.instances import as_data, instances
from vnmi_lab.timeline.links import links
from vnmi_lab.timeline.micro import micro

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vnmi_lab.guest import CodeLine
    from vnmi_lab.rules import Rule
    from vnmi_lab.trace import Step

VERSION = 2
MOST_STEPS = 20_000
"""A longer run is refused: its payload would be megabytes, and no screen has pixels for its steps."""

Payload: TypeAlias = dict[str, Any]
"""The keys of version 2 are those ``build`` writes, in this order.

``version``, ``title`` and ``steps``; ``kinds``, one a step; ``text`` and ``sentence``, one a step, pointing into
``words``; ``columns`` (see ``columns.py``) of ``world``, ``row``, ``owner`` and ``at``, which is RIP where the step
began; ``state``, a column for each field; ``fields`` and ``flags``, how to show them; ``changes`` as
``[step, rule, field, old, new]``; ``stack``; ``code`` as ``[address, bytes, text, label, where]``; the ``rules`` that
the changes and links name; ``events``, ``calls``, ``marks``, ``crossings``, ``worlds``, ``handlers`` and ``waves``
(see ``lanes.py``); ``links`` (see ``links.py``), their sentences pointing into ``words``; ``visible_until``.

``groups``: whose the lanes are, top to bottom, as ``[id, name]``; a wave names its own.
``blocked``: why an NMI is kept out (see ``blocked.py``), None where there is no machine to ask.
``instances``: one an NMI, ``{id, name, spans, end, into, over, row}`` (see ``instances.py``); a span is
``[from, to, phase, place]``, ``into`` an id, ``row`` None where only the number is told.
``cycles``: a column of the modelled count after each step, None where nothing exits; ``cycles_note`` gives its sources.
``lint``: what the hypervisor did wrong, as ``[step, label, sentence, rule]`` (see ``vnmi_lab/lint.py``).
``micro``: the sub-steps of VMRUN, #VMEXIT, delivery and IRET (see ``micro.py``).
``flags``: only in a still view, what stands on the chart as ``[step, "given" or "you" or "machine", text]``.
``whole``: only where a payload is the beginning of a run (see ``beginning.py``): how many steps the run has.
"""


@runtime_checkable
class TraceLike(Protocol):
    """A finished run: steps, the guest's code, and the rules its changes name."""

    @property
    def title(self) -> str:
        """What the run is about."""

    @property
    def code(self) -> Sequence[CodeLine]:
        """The guest's disassembly."""

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Rules by id."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Step: ...


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Pause Python's search for cycles: it would go through every step again and again, and would find none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_undisturbed()
def build(trace: TraceLike, *, visible_until: int | None = None) -> Payload:
    """Give the payload of a trace; steps after ``visible_until`` are not drawn until it is lifted.

    ``ValueError`` in one line for a run without a step, or with more than ``MOST_STEPS``.
    """
    expect_length(trace)
    steps, answers = read(trace)
    words = Words()
    kinds = [step.kind for step in steps]
    state = table([step.state for step in steps])
    row, owner = lanes.rows(steps, {line.address: line.where for line in trace.code})
    changes = [[n, c.rule, c.field, plain(c.old), plain(c.new)] for n, step in enumerate(steps) for c in step.changes]
    found = lint(steps)
    arrows = links(state, kinds, changes)
    payload = {
        "version": VERSION,
        "title": trace.title,
        "steps": len(steps),
        "kinds": kinds,
        "text": [words(step.text) for step in steps],
        "sentence": [words(step.sentence) for step in steps],
        "words": words.table,
        "columns": {
            "world": column(s.world for s in steps),
            "at": column(s.rip for s in steps),
            "row": row,
            "owner": owner,
        },
        "state": state,
        "fields": [[f.key, f.group, f.form, f.note, _folded(f, state[f.key])] for f in FIELDS if f.key in state],
        "flags": [list(flag) for flag in FLAGS],
        "changes": changes,
        "stack": _stack(steps),
        "code": [[plain(c.address), c.raw.hex(" "), c.text, c.label, c.where] for c in trace.code],
        "rules": _rules(
            trace, {str(rule) for _, rule, *_ in changes} | {link[-1] for link in arrows} | {one.rule for one in found}
        ),
        "events": lanes.events(kinds, state),
        "calls": lanes.calls(steps, trace.rules),
        "marks": lanes.marks(steps),
        "crossings": lanes.crossings(steps),
        "worlds": lanes.worlds(steps),
        "handlers": lanes.handlers(steps, state.get("handler_depth", []), row, owner),
        "waves": lanes.waves(state),
        "groups": [list(group) for group in group_names(bare=lanes.is_bare(steps)).items()],
        "links": [[*ends, words(sentence), rule] for *ends, sentence, rule in arrows],
        "blocked": answers,
        "instances": as_data(instances(steps)),
        "micro": micro(steps, trace.rules),
        "lint": [list(finding) for finding in found],
        "cycles": None if lanes.is_bare(steps) else column(costs.cycles(kinds)),
        "cycles_note": costs.note(),
    }
    return payload | {"visible_until": visible_until}


def expect_length(trace: TraceLike) -> None:
    """Raise ``ValueError`` in one line for a run that is too long for a timeline, or has no step."""
    if len(trace) > MOST_STEPS:
        msg = f"a timeline shows at most {MOST_STEPS:,} steps, not {len(trace):,}: give Trace a smaller limit"
        raise ValueError(msg)
    if not len(trace):
        raise ValueError("a timeline needs at least one step; this trace has none")


def shown(payload: Payload, until: int | None = None) -> int:
    """Give how many steps may be drawn: all of them, or those up to the one that is still to be predicted."""
    limit = payload["visible_until"] if until is None else until
    return int(payload["steps"] if limit is None else max(1, min(payload["steps"], limit + 1)))


def state_at(payload: Payload, step: int) -> dict[str, Any]:
    """Give the state after a step, as the player shows it."""
    return {key: at(flat, step) for key, flat in payload["state"].items()}


def _folded(field: Field, flat: Column) -> bool:
    return field.form == "register" or (field.key not in OPEN and not any(flat[1::2]))


def _rules(trace: TraceLike, used: set[str]) -> dict[str, list[str]]:
    known = (trace.rules[name] for name in sorted(used) if name in trace.rules)
    return {rule.id: [rule.sentence, rule.source, rule.grade] for rule in known}


def _stack(steps: Sequence[Step]) -> dict[str, Any]:
    """Write the top of the stack as columns: its address, its height, and each word and note by address."""
    base: Column = []
    height: Column = []
    words: dict[str, Column] = {}
    notes: dict[str, Column] = {}
    last: object = None
    for index, step in enumerate(steps):
        if step.stack == last:
            continue
        last = step.stack
        put(base, index, step.stack[0][0] if step.stack else 0)
        put(height, index, len(step.stack))
        for address, value, note in step.stack:
            put(words.setdefault(str(address), []), index, value)
            if note or str(address) in notes:
                put(notes.setdefault(str(address), []), index, note)
    return {"base": base, "height": height, "words": words, "notes": notes}
