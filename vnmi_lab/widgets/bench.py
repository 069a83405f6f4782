"""The bench: a scenario's controls above its timeline, and everything they show as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Any, cast

import ipywidgets as widgets

from vnmi_lab import timeline
from vnmi_lab.compare import BUDGET, Row, measure
from vnmi_lab.guest_text import same, source_of
from vnmi_lab.guests import GUESTS, Source
from vnmi_lab.hv.profiles import ABOUT, POLICIES
from vnmi_lab.machine import Stimulus
from vnmi_lab.scenario import BARE, Scenario
from vnmi_lab.timeline import MOST_STEPS
from vnmi_lab.trace import Trace
from vnmi_lab.widgets.copyable import Copyable
from vnmi_lab.widgets.drawer import NATURAL, Arrivals, Editor, Options, Sources, guest_options
from vnmi_lab.widgets.notes import Note, problem
from vnmi_lab.widgets.timeline import MimeBundle, Timeline, fallback
from vnmi_lab.widgets.turn import TURN

OWN = "your own"
ALONE = "No hypervisor: the guest alone on the processor."


class Bench(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A scenario to change and to run, and the timeline of its run.

    Plain values: ``scenario``, its ``text``, the ``trace``, the ``counts`` (a row of ``vnmi_lab.compare``) and the
    ``timeline``. A choice runs at once, the code when the learner leaves the editor. What is wrong is said beside its
    control; then the run and its scenario stay as they were, and what was typed stays, too.
    """

    scenario: Scenario
    trace: Trace
    counts: Row

    def __init__(
        self,
        scenario: Scenario,
        *,
        title: str = "",
        cursor: int = 0,
        visible_until: int | None = None,
        link: str = "",
        lint: bool = True,
    ) -> None:
        """Run ``scenario`` and show it; ``title`` is the first run's, ``link`` and ``lint`` as of ``Timeline``."""
        self._syncing = False
        self._typed: tuple[Source, str] | None = None  # the learner's own guest, and how they wrote it
        self._pending: Stimulus | None = None  # what is to be placed on the timeline
        self._controls()
        self.scenario = scenario
        self._run(scenario)
        payload = self._payload(title)
        self.timeline = Timeline(payload, cursor=cursor, visible_until=visible_until, link=link, lint=lint)
        self.timeline.put(payload, self.trace)
        self.timeline.observe(lambda change: self._placed(change["new"]), "placed")
        self._show()
        said = widgets.HBox([self.arrivals, self.address], layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([self.knobs, self.about, said, self.note, self.more, self.drawer, self.result, self.timeline])
        self.add_class("vnmi-bench")

    @property
    def text(self) -> str:
        """The scenario as text."""
        return str(self.scenario)

    # --- building ----------------------------------------------------------------------------------------------------

    def _controls(self) -> None:
        half = widgets.Layout(flex="1 1 260px", width="auto")
        policies = [(f"{name}: {follows}", name) for name, follows in described().items()]
        self.policy = widgets.Dropdown(options=policies, description="Policy", style=NATURAL, layout=half)
        self.guest = widgets.Dropdown(options=guest_options(OWN), description="Guest", style=NATURAL, layout=half)
        self.place = widgets.Button(description="Place an NMI", tooltip="Then click a step of the timeline")
        self.run = widgets.Button(description="Run", button_style="primary", tooltip="Run what is in the editor")
        for button in (self.place, self.run):
            button.layout = widgets.Layout(width="auto")
        self.knobs = widgets.HBox(
            [self.policy, self.guest, self.place, self.run], layout=widgets.Layout(flex_flow="row wrap")
        )
        self.about, self.result, self.note = widgets.HTML(), widgets.HTML(), Note()
        self.arrivals = widgets.HBox(layout=widgets.Layout(flex_flow="row wrap", align_items="center"))
        self.address = Copyable(name="Scenario", layout=widgets.Layout(flex="1 1 360px"))
        self.more = widgets.Button(description=MORE, layout=widgets.Layout(width="auto", align_self="flex-start"))
        self.editor = Editor(self._edited)
        self.form = Arrivals(self._add, self._ask_where)
        self.options = Options(self._change)
        self.sources = Sources(self._choose)
        self.budget = widgets.BoundedIntText(
            BUDGET,
            1,
            MOST_STEPS,
            description="Step budget",
            style=NATURAL,
            layout=widgets.Layout(width="200px"),
        )
        parts = (self.editor.widget, self.form.widget, self.options.widget, self.sources.widget, self.budget)
        self.drawer = widgets.VBox(parts)
        self.drawer.add_class("vnmi-drawer")
        self.drawer.layout.display = "none"
        self._listen()

    def _listen(self) -> None:
        def when(control: widgets.Widget, action: Callable[[Any], None]) -> None:
            def changed(change: dict[str, Any]) -> None:
                with TURN:  # who shows a scenario meanwhile is not to take this for their own doing
                    if not self._syncing:
                        self.note.guard(lambda: action(change["new"]))

            control.observe(changed, "value")

        when(self.policy, lambda policy: self._choose(self.scenario.on(policy)))
        when(self.guest, self._choose_guest)
        when(self.budget, self._choose_budget)
        self.place.on_click(lambda _button: self.note.guard(self._toggle_placing))
        self.run.on_click(lambda _button: self._run_again())
        self.more.on_click(lambda _button: self._fold(hide=self.drawer.layout.display is None))

    def _run_again(self) -> None:
        with TURN:
            if self.editor.apply():
                self.note.guard(lambda: self._choose(self.scenario))

    def _fold(self, *, hide: bool) -> None:
        self.drawer.layout.display = "none" if hide else None
        self.more.description = MORE if hide else LESS

    # --- running -----------------------------------------------------------------------------------------------------

    def _choose(self, scenario: Scenario) -> None:
        """Run a scenario and show it in place of the one before."""
        self._run(scenario)
        payload = self._payload()
        with self.timeline.hold_sync():
            self.timeline.put(payload, self.trace)
            self.timeline.cursor = min(self.timeline.cursor, payload["steps"] - 1)
        self._stop_placing()
        self._show()

    def _choose_budget(self, _steps: int) -> None:
        self._choose(self.scenario)

    def _run(self, scenario: Scenario) -> None:
        """Run a scenario; only when that has gone well is it the bench's."""
        trace = Trace(scenario.machine(), titled(scenario), self.budget.value)
        counts = measure(scenario, budget=self.budget.value)
        self.scenario, self.trace, self.counts = scenario, trace, counts

    def _payload(self, title: str = "") -> timeline.Payload:
        payload = timeline.build(self.trace)
        return {**payload, "title": title or payload["title"], "visible_until": None}

    def _change(self, change: Callable[[Scenario], Scenario]) -> None:
        if not self._syncing:
            self._choose(change(self.scenario))

    # --- the guest ---------------------------------------------------------------------------------------------------

    def _edited(self, source: Source) -> None:
        """Take the code from the editor: a guest of the library keeps its name."""
        name = next((name for name, named in GUESTS.items() if same(source, named.source)), None)
        if name is None:
            self._typed = source, self.editor.text.value
        self._choose(replace(self.scenario, guest=name or source))

    def _choose_guest(self, guest: str) -> None:
        if guest != OWN:
            self._with_guest(guest)
        elif self._typed is not None:
            self._with_guest(self._typed[0])
        else:
            self._fold(hide=False)

    def _with_guest(self, guest: str | Source) -> None:
        """Take another guest; what arrives at a label that it does not have is left out, and that is said."""
        labels = Scenario(guest).source.guest().labels()
        gone = [s for s in self.scenario.stimuli if isinstance(s.at, str) and s.at not in labels]
        kept = [s for s in self.scenario.stimuli if s not in gone]
        absent = tuple(place for place in self.scenario.absent if place not in self._own_labels())
        self._choose(replace(self.scenario, guest=guest, stimuli=tuple(kept), absent=absent))
        if gone:
            listed = ", ".join(map(arrival, gone))
            self.remark(f"Left out, because this guest has no such label: {listed}.")

    def _own_labels(self) -> set[str]:
        return set(self.scenario.source.guest().labels())

    # --- what arrives ------------------------------------------------------------------------------------------------

    def _add(self, stimulus: Stimulus) -> None:
        self._choose(replace(self.scenario, stimuli=(*self.scenario.stimuli, stimulus)))

    def _remove(self, number: int) -> None:
        stimuli = self.scenario.stimuli
        self._choose(replace(self.scenario, stimuli=stimuli[:number] + stimuli[number + 1 :]))

    def _toggle_placing(self) -> None:
        if self._pending is None:
            self._ask_where(Stimulus(0))
        else:
            self._stop_placing()

    def _ask_where(self, stimulus: Stimulus) -> None:
        """Let the next step that is pointed at on the timeline be where this arrives."""
        self._pending = stimulus
        self.timeline.placing = f"{arrival(stimulus, where=False)} arrives"
        self.place.description = "Do not place"

    def _stop_placing(self) -> None:
        self._pending = None
        self.timeline.placing, self.timeline.placed = "", None
        self.place.description = "Place an NMI"

    def _placed(self, step: int | None) -> None:
        """Let what is to be placed arrive before a step, in the scenario's own terms."""
        with TURN:
            if step is None or self._pending is None:
                return
            placed = replace(self._pending, at=self.trace.when(step))
            self.timeline.cursor = step
            if not self.note.guard(lambda: self._add(placed)):
                self._stop_placing()

    # --- showing -----------------------------------------------------------------------------------------------------

    def remark(self, text: str) -> None:
        """Say something beside the controls."""
        self.note.value = problem(text, remark=True)

    def _show(self) -> None:
        """Let every control show the scenario."""
        self._syncing = True
        try:
            scenario = self.scenario
            own = isinstance(scenario.guest, Source)
            self.policy.value = scenario.policy
            self.guest.value = OWN if own else scenario.guest
            typed = self._typed if self._typed and own and self._typed[0] == scenario.guest else None
            if not self.editor.is_edited or self._is_in_editor(scenario.source):
                self.editor.show(scenario.source, typed and typed[1])
            self.form.show(scenario)
            self.options.show(scenario)
            self.address.text = self.text
            self.about.value = _about(scenario)
            self.result.value = self._outcome()
            self.arrivals.children = self._chips()
        finally:
            self._syncing = False

    def _is_in_editor(self, source: Source) -> bool:
        try:
            return same(source_of(self.editor.text.value), source)
        except ValueError:
            return False

    def _chips(self) -> tuple[widgets.Widget, ...]:
        """Return what arrives, each with a way to remove it."""
        made = []
        for number, stimulus in enumerate(self.scenario.stimuli):
            said = arrival(stimulus)
            chip = widgets.Button(
                description=f"{said} ✕", tooltip=f"Remove: {said}", layout=widgets.Layout(width="auto")
            )
            chip.add_class("vnmi-arrival")
            chip.on_click(lambda _button, number=number: self.note.guard(lambda: self._remove(number)))
            made.append(chip)
        none = widgets.HTML("<span class='vnmi-said'>Nothing arrives.</span>")
        return tuple(made) or (none,)

    def _outcome(self) -> str:
        """Say in a line what became of the NMIs and what it cost."""
        row = self.counts
        parts = [
            f"{row.arrived} arrived",
            f"{row.delivered} delivered",
            f"{row.coalesced} coalesced",
            f"{row.lost} lost",
        ]
        parts += [f"{getattr(row, name)} {name}" for name in ("extra", "waiting") if getattr(row, name)]
        kinds = f"kicks {row.kicks}, IRET {row.iret}, #DB {row.db}, STGI {row.stgi}, VINTR {row.vintr}"
        exits = f"Exits: {row.exits}, of them {kinds}"
        said = f"NMIs: {', '.join(parts)}. {exits if self.scenario.policy != BARE else 'No exits on bare metal'}."
        budget = (
            f"It has not come to rest: stopped at the budget of {self.budget.value:,} steps." if self.trace.cut else ""
        )
        ended = "" if row.ended in ("waiting", "budget") else f"It ended with {row.ended}."
        note = "".join(problem(text, remark=True) for text in (budget, ended) if text)
        return f"<div class='vnmi-said' role='status'>{escape(said)}</div>{note}"

    def _repr_mimebundle_(self, **kwargs: Any) -> MimeBundle | None:  # noqa: ANN401  # IPython's own
        """Give the panel; and for pages that run no widget the scenario, what it came to, picture and table."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = cast("MimeBundle", bundle if isinstance(bundle, tuple) else (bundle, {}))
        still = fallback(self.timeline.still, self.timeline.cursor or None)
        said = f"<p>Scenario: <code>{escape(self.text)}</code></p>{self._outcome()}"
        text = f"{still['text/plain']}\nScenario: {self.text}"
        return {**data, **still, "text/plain": text, "text/html": said + still["text/html"]}, metadata


MORE, LESS = "More: code, arrivals, options, other scenarios", "Less"


def described() -> dict[str, str]:
    """Return what each machine of a scenario does, in a sentence."""
    return {BARE: ALONE, **ABOUT}


def titled(scenario: Scenario) -> str:
    """Return what the run of a scenario is called."""
    guest = scenario.guest if isinstance(scenario.guest, str) else "your guest"
    comes = ", ".join(map(arrival, scenario.stimuli)) or "nothing arrives"
    machine = "on bare metal" if scenario.policy == BARE else f"under {scenario.policy}"
    return f"{guest} {machine}: {comes}"


def arrival(stimulus: Stimulus, *, where: bool = True) -> str:
    """Say what arrives, how often, and when."""
    names = {"nmi": "NMI", "intr": f"interrupt {stimulus.vector:X}h", "smi": "SMI"}
    times = f"{stimulus.times} x " if stimulus.times > 1 else ""
    at = f" at {stimulus.at}" if isinstance(stimulus.at, str) else f" after {stimulus.at} steps"
    return f"{times}{names.get(stimulus.what, stimulus.what)}{at if where else ''}"


def _about(scenario: Scenario) -> str:
    guest = GUESTS[scenario.guest].sentence if isinstance(scenario.guest, str) else "The guest of the editor."
    name, said = scenario.policy, described()[scenario.policy]
    source = f" title='{escape(POLICIES[name].follows)}'" if name in POLICIES else ""
    return f"<div class='vnmi-said'><b{source}>{escape(name)}</b>: {escape(said)} {escape(guest)}</div>"
