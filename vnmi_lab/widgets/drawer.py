"""The parts of the scenario panel that stay folded at first: code, arrivals, options, examples, and a box to paste in.

Each shows a part of a scenario and hands back what the learner made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import ipywidgets as widgets

from vnmi_lab.guest_text import source_of, text_of
from vnmi_lab.guests import GUESTS, PLACES, Source
from vnmi_lab.library import LIBRARY
from vnmi_lab.machine import Stimulus
from vnmi_lab.scenario import ARRIVALS, LABEL, MOST, OPTION_SENTENCES, Scenario
from vnmi_lab.widgets.notes import Note

WIDE = widgets.Layout(width="auto")
NATURAL = {"description_width": "initial"}


def heading(text: str, more: str = "") -> widgets.HTML:
    """Return a heading, and what is to be known below it; both are this project's own words."""
    return widgets.HTML(f"<h3>{text}</h3><span class='vnmi-said'>{more}</span>")


class Editor:
    """The guest's code. A change is handed over when the learner leaves the field or runs it."""

    def __init__(self, changed: Callable[[Source], None]) -> None:
        self.changed = changed
        self.text = widgets.Textarea(description="Code", rows=12, layout=WIDE, style=NATURAL, continuous_update=False)
        self.note = Note()
        self.text.observe(lambda _change: self.apply(), "value")
        more = (
            "Main first, then each handler under a line such as <code>handler nmi:</code>. "
            "It runs when you leave the field."
        )
        self.widget = widgets.VBox([heading("Guest", more), self.text, self.note])
        self._shown = ""

    @property
    def is_edited(self) -> bool:
        """Whether the text is another one than that of the guest which runs."""
        return bool(self.text.value != self._shown)

    def apply(self) -> bool:
        """Hand over the guest as typed; True unless the text is wrong, which is said below it."""
        if not self.is_edited:
            return True
        return self.note.guard(lambda: self.changed(source_of(self.text.value)))

    def show(self, source: Source, typed: str | None = None) -> None:
        """Show a guest, as it was typed if it was."""
        self._shown = typed if typed is not None else text_of(source)
        self.note.value = ""
        self.text.value = self._shown


class Arrivals:
    """A form for something that is to arrive."""

    def __init__(self, add: Callable[[Stimulus], None], place: Callable[[Stimulus], None]) -> None:
        names = {
            "nmi": "NMI",
            "irq": "interrupt",
            "smi": "SMI",
            "migrate": "migration",
            "getset": "events read and set",
        }
        options = [(names[word], what) for word, what in ARRIVALS.items()]
        self.what = widgets.Dropdown(options=options, description="What", layout=widgets.Layout(width="200px"))
        self.times = widgets.BoundedIntText(1, 1, MOST, description="Times", layout=widgets.Layout(width="120px"))
        self.vector = widgets.BoundedIntText(0x40, 0, 255, description="Vector", layout=widgets.Layout(width="130px"))
        self.at = widgets.Combobox(
            description="At", placeholder="a label or a step", layout=widgets.Layout(width="220px")
        )
        self.add = widgets.Button(description="Add", layout=widgets.Layout(width="auto"))
        self.place = widgets.Button(description="Place on the timeline", layout=widgets.Layout(width="auto"))
        self.note = Note()
        for control in (self.what, self.times, self.vector, self.at):
            control.style.description_width = "initial"
        self.what.observe(lambda _change: self._fits(), "value")
        self.add.on_click(lambda _button: self.note.guard(lambda: add(self.stimulus(_when(self.at.value)))))
        self.place.on_click(lambda _button: self.note.guard(lambda: place(self.stimulus(0))))
        self._fits()
        row = widgets.HBox(
            [self.what, self.times, self.vector, self.at, self.add, self.place],
            layout=widgets.Layout(flex_flow="row wrap"),
        )
        more = "A label: when RIP is first there. A number: after so many steps, arrivals not counted."
        self.widget = widgets.VBox([heading("Something arrives", more), row, self.note])

    def _fits(self) -> None:
        self.vector.layout.display = None if self.what.value == "intr" else "none"

    def stimulus(self, at: int | str) -> Stimulus:
        """Return what the form describes, arriving at a moment."""
        made = Stimulus(at, self.what.value, self.times.value)
        return replace(made, vector=self.vector.value) if made.what == "intr" else made

    def show(self, scenario: Scenario) -> None:
        """Offer the labels of the scenario's guest."""
        self.at.options = tuple(filter(LABEL.fullmatch, scenario.source.guest().labels()))


class Options:
    """Every switch of a scenario, and the pages that may be absent."""

    def __init__(self, changed: Callable[[Callable[[Scenario], Scenario]], None]) -> None:
        self.changed = changed
        self.note = Note()
        self.boxes = {word: _box(f"{word}: {sentence}") for word, sentence in OPTION_SENTENCES.items()}
        self.absent = {name: _box(f"The page of the {where} is absent at first.") for name, where in _PAGES.items()}
        for word, box in self.boxes.items():
            box.observe(lambda change, word=word: self._set(word, on=change["new"]), "value")
        for name, box in self.absent.items():
            box.observe(lambda change, name=name: self._unmap(name, absent=change["new"]), "value")
        self.widget = widgets.VBox(
            [
                heading("A page fault in delivery"),
                *self.absent.values(),
                heading("Virtual NMIs, as processor and module offer them"),
                *(self.boxes[word] for word in _VNMI),
                heading("Other switches", "For the interrupt shadow and for GIF take the guests of those names."),
                *(box for word, box in self.boxes.items() if word not in _VNMI),
                self.note,
            ]
        )

    def _set(self, word: str, *, on: bool) -> None:
        self.note.guard(lambda: self.changed(lambda scenario: scenario.switched(word, on=on)))

    def _unmap(self, name: str, *, absent: bool) -> None:
        def change(scenario: Scenario) -> Scenario:
            others = tuple(place for place in scenario.absent if place != name)
            return replace(scenario, absent=(*others, name) if absent else others)

        self.note.guard(lambda: self.changed(change))

    def show(self, scenario: Scenario) -> None:
        """Show the switches of a scenario."""
        self.note.value = ""
        for word, box in self.boxes.items():
            box.value = scenario.option(word)
        for name, box in self.absent.items():
            box.value = name in scenario.absent


class Sources:
    """Where a scenario comes from: the library, or a text that is pasted."""

    def __init__(self, chosen: Callable[[Scenario], None]) -> None:
        self.examples = widgets.Dropdown(
            options=[("choose one", ""), *((f"{name}: {entry.sentence}", name) for name, entry in LIBRARY.items())],
            description="Example",
            layout=WIDE,
            style=NATURAL,
        )
        self.paste = widgets.Text(
            description="Paste",
            placeholder="v1~plain~vnmi~nmi@work",
            layout=WIDE,
            style=NATURAL,
            continuous_update=False,
        )
        self.paste.add_class("vnmi-mono")
        self.use = widgets.Button(description="Use it", layout=widgets.Layout(width="auto", flex="none"))
        self.note = Note()
        self.chosen = chosen
        self.examples.observe(lambda _change: self._example(), "value")
        self.paste.observe(lambda _change: self._pasted(), "value")
        self.use.on_click(lambda _button: self._pasted())
        self.paste.layout = widgets.Layout(flex="1 1 auto", width="auto")
        row = widgets.HBox([self.paste, self.use])
        self.widget = widgets.VBox([heading("Another scenario"), self.examples, row, self.note])

    def _example(self) -> None:
        name = self.examples.value
        if name:
            self.note.guard(lambda: self.chosen(LIBRARY[name].scenario))

    def _pasted(self) -> None:
        """Take what was pasted, when the learner presses Enter, leaves the field, or presses the button."""
        self.note.guard(lambda: self.chosen(read(self.paste.value)))


def read(text: str) -> Scenario:
    """Read a scenario that somebody pasted; ``ValueError`` in one line says where it is wrong."""
    text = text.strip()
    return LIBRARY[text].scenario if text in LIBRARY else Scenario.parse(text)


def guest_options(own: str) -> list[tuple[str, str]]:
    """Return the guests to choose from, each with its sentence; the last is the learner's own."""
    return [
        *((f"{name}: {named.sentence}", name) for name, named in GUESTS.items()),
        ("your own, from the editor", own),
    ]


_VNMI = ("vnmi_cpuid", "vnmi", "vgif")
_PAGES = {"idt": "IDT", "stack": "stack", "data": "guest's own data"}
assert _PAGES.keys() == PLACES.keys(), "a page that has a name has a box"


def _box(text: str) -> widgets.Checkbox:
    return widgets.Checkbox(description=text, indent=False, layout=WIDE)


def _when(text: str) -> int | str:
    text = text.strip()
    if not text:
        msg = "say at which label or after how many steps it arrives, such as work or 12"
        raise ValueError(msg)
    return int(text) if text.isascii() and text.isdecimal() else text
