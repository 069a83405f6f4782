"""The course as a map: what is done, what is next, and the file that keeps it; for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from vnmi_lab.checks import progress
from vnmi_lab.checks.record import LONGEST_TEXT, Log, OtherVersionError, UnreadableError, dump, parse
from vnmi_lab.checks.saved import FILE, read, replace
from vnmi_lab.checks.standing import SIGNS, Mark, Row, as_value, counted, in_words, practised, rows, upcoming
from vnmi_lab.checks.text import Note, wrapped

STYLE = """
.vnmi-map{color:var(--jp-ui-font-color1,inherit);max-width:60em;line-height:1.5}
.vnmi-map table{border-collapse:collapse;width:100%;margin:.4em 0}
.vnmi-map th,.vnmi-map td{text-align:left;vertical-align:top;padding:.35em .6em .35em .4em;white-space:normal;
border-bottom:1px solid var(--jp-border-color2,#ccc);font-weight:normal;background:none}
.vnmi-map thead th{font-weight:600}
.vnmi-map tr[aria-current] th:first-child{box-shadow:inset 4px 0 var(--jp-brand-color1,#1976d2)}
.vnmi-map th[scope=row]{padding-left:.8em}
.vnmi-map ul{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:.15em .9em}
.vnmi-map small{color:var(--jp-ui-font-color2,#616161);font-size:.9em}
.vnmi-map a{color:var(--jp-content-link-color,#0b5cad)}
""".replace("\n", "")


@dataclass(frozen=True, slots=True, repr=False)
class Progress:
    """How far a learner is. ``save`` and ``load`` carry it to another place; ``name`` is only what was typed."""

    rows: tuple[Row, ...]
    source: str = ""
    practice: tuple[Mark, ...] = ()

    @property
    def practised(self) -> str:
        """What came of the problems of practice, in a sentence; nothing if there were none."""
        count = counted(len(self.practice), "problem", "problems")
        return f"Practice: {count}, {in_words(self.practice)}." if self.practice else ""

    @property
    def sentence(self) -> str:
        """How far it is, and what is next."""
        exercises = [mark for row in self.rows for mark in row.exercises]
        made = [mark for row in self.rows for mark in row.predictions]
        done = sum(mark.state == "done" for mark in exercises)
        said = [mark for mark in made if mark.state != "new"]
        counts = f"{done} of {counted(len(exercises), 'exercise', 'exercises')} done, "
        counts += f"{len(said)} of {counted(len(made), 'prediction', 'predictions')} answered"
        counts += f" ({in_words(said)})" if said else ""
        return f"{counts}. {self.next}"

    @property
    def next(self) -> str:
        """What is next, in a sentence."""
        row = upcoming(self.rows)
        if row is None:
            return "Everything is done."
        left = counted(len(row.left), "thing is", "things are") + " left in it"
        return f"Next: Lab {row.lab.number}, {row.lab.title}" + (f"; {left}." if row.is_begun else ".")

    def save(self, file: str | Path, *, name: str = "") -> Note:
        """Write everything to a file, and what is in it already, too; ``name`` is yours, if your teacher asks for it.

        A file that is there and is no progress is left as it is, with ``ValueError``.
        """
        path, log = Path(file), parse(dump(progress.noted()))
        if path.exists():
            log.take(_read(path))
        log.name = name[:LONGEST_TEXT] or log.name
        replace(path, dump(log))
        return Note("Saved", f"{counted(len(log), 'note', 'notes')} in `{path}`.")

    def load(self, file: str | Path) -> Note:
        """Add what a file has; nothing that was done here is lost. ``ValueError`` for a file that is none of ours."""
        return added(_read(Path(file)), str(file))

    def as_value(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        practice = [{"id": mark.id, "state": mark.state} for mark in self.practice]
        labs = as_value(self.rows)
        return {"sentence": self.sentence, "source": self.source or where(), "labs": labs, "practice": practice}

    def __repr__(self) -> str:
        """Return the map for a terminal."""
        lines = [wrapped(self.sentence), ""]
        for row in self.rows:
            lines.append(f"{row.lab.number} {row.lab.title} ({row.lab.minutes} minutes)")
            lines += [f"     {SIGNS[mark.state]} {mark.name}: {mark.words}" for mark in row.exercises]
            lines.append(wrapped(f"predictions: {in_words(row.predictions)}", "     "))
        practised = [wrapped(self.practised)] * bool(self.practice)
        return "\n".join([*lines, *practised, "", wrapped(self.source or where())])

    def _repr_html_(self) -> str:
        here = upcoming(self.rows)
        heads = "".join(f'<th scope="col">{head}</th>' for head in ("Lab", "Exercises", "Predictions"))
        body = "".join(_row(row, is_next=row is here) for row in self.rows)
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        practised = f"<p>{escape(self.practised)}</p>" if self.practice else ""
        kept = f"<p><small>{escape(self.source or where())}</small></p>"
        text = f"<p>{escape(self.sentence)}</p>{table}{practised}{kept}"
        return f'<style>{STYLE}</style><div class="vnmi-map">{text}</div>'


def report() -> Progress:
    """Return how far the learner is now."""
    log = progress.noted()
    return Progress(rows(log), progress.store().trouble, practised(log))


def read_from(places: Iterable[Path]) -> Progress:
    """Return how far the learner is whose file is in the first of these folders that has one, or is such a file.

    Nothing is written. ``ValueError`` in a line for a file that is none of ours.
    """
    files = [place / FILE if place.is_dir() else place for place in places]
    there = [file for file in files if file.exists()]
    if not there:
        named = ", ".join(dict.fromkeys(map(str, files)))
        return Progress(rows(Log()), f"Nothing is noted yet: there is no {named}.")
    log = _read(there[0])
    return Progress(rows(log), f"Read from {there[0]}.", practised(log))


def loaded(text: str, name: str) -> Note:
    """Add what a text in the format of the file has, and save it; ``ValueError`` in a line if it is none."""
    try:
        log = parse(text)
    except (UnreadableError, OtherVersionError) as error:
        raise ValueError(f"{name} could not be read: {error}. Nothing was changed.") from None
    return added(log, name)


def added(log: Log, name: str) -> Note:
    """Add what a log has, and save it; ``name`` says where it is from."""
    store = progress.store()
    count = sum(noted not in store.log for noted in log)
    store.log.take(log)
    store.sync()
    return Note("Loaded", f"{counted(count, 'note', 'notes')} from {name}; what you did here is still there.")


def where() -> str:
    """Say where progress is kept."""
    path = progress.store().path
    if path is None:
        return f'Kept while Python runs; progress().save("{FILE}") keeps it longer. Nothing leaves this machine.'
    return f"Kept in {path.name}, beside the notebooks. Nothing leaves this machine."


def _read(path: Path) -> Log:
    try:
        return read(path)
    except (UnreadableError, OtherVersionError) as error:
        raise ValueError(f"{path} could not be read: {error}. Nothing was changed.") from None


def _row(row: Row, *, is_next: bool) -> str:
    lab = row.lab
    link = f'<a href="{lab.notebook}">{lab.number} {escape(lab.title)}</a>'
    hint = f"<br><small>{lab.minutes} minutes{'; this one is next' if is_next else ''}</small>"
    current = ' aria-current="step"' if is_next else ""
    exercises = "".join(f"<li>{_mark(mark)}</li>" for mark in row.exercises)
    said = escape(in_words(row.predictions))
    return f'<tr{current}><th scope="row">{link}{hint}</th><td><ul>{exercises}</ul></td><td>{said}</td></tr>'


def _mark(mark: Mark) -> str:
    sign = f'<span aria-hidden="true">{SIGNS[mark.state]}</span>'
    return f"{sign} {escape(mark.name)} <small>{escape(mark.words)}</small>"
