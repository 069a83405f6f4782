"""A run that a problem is about, read in the ways that questions, answers and reasons need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

from vnmi_lab import why
from vnmi_lab.checks.asked import LONGEST
from vnmi_lab.checks.measure import NMI, counted, depth, entries, exits, times
from vnmi_lab.compare import Row, measure
from vnmi_lab.guest import CodeLine, Guest
from vnmi_lab.guests import DATA
from vnmi_lab.hv.profiles import ABOUT, POLICIES
from vnmi_lab.hw.svm import exit_name
from vnmi_lab.judge import EXPOSED
from vnmi_lab.kvm import FATAL, Kvm
from vnmi_lab.scenario import BARE, Scenario
from vnmi_lab.trace import AnyMachine, Step, Trace
from vnmi_lab.words import place

NEVER = "never"
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
OWN_EXITS = {"iret": "IRET", "steps": "EXC_DB", "stgi": "STGI", "vintr": "VINTR"}
"""Exits that a policy asks for itself."""


ABSENT = {
    "idt": "The page of the IDT",
    "stack": "The page of the stack",
    "data": f"The page at {DATA:#x}",
    "frame": "The page with the handler's frame",
}
"""What is absent by its name in a scene: the first who touches it exits with a nested page fault."""


class Run:
    """The run of a scenario, and under the same policy the counts of ``vnmi_lab.compare``."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.trace = Kept(scenario.machine())
        self.guest: Guest = scenario.source.guest()
        self._under: dict[str, Row] = {}

    @cached_property
    def row(self) -> Row:
        """What becomes of the NMIs, and the exits."""
        return self.under(self.scenario.policy)

    @property
    def fits(self) -> bool:
        """Whether the run is short enough to be asked about, and an NMI came to a guest that could be entered."""
        return not self.trace.cut and self.row.arrived > 0 and self.row.ended not in FATAL

    @property
    def shows(self) -> bool:
        """Whether the policy is right, or does something here that the right one does not."""
        policy = self.scenario.policy
        if policy not in EXPOSED:
            return True
        other = self.under("vnmi" if POLICIES[policy].uses_vnmi else "legacy")
        return replace(other, machine=policy) != self.row

    @cached_property
    def stimuli(self) -> list[int]:
        """The steps at which something arrived from outside."""
        return [step.index for step in self.trace if step.kind == "stimulus"]

    @cached_property
    def entered(self) -> list[Step]:
        """The entries of the NMI handler."""
        return entries(self.trace)

    def line(self, address: int) -> CodeLine | None:
        """Return the line of the listing at an address."""
        return next((line for line in self.trace.code if line.address == address), None)

    def name(self, address: int) -> str:
        """Return what a place in the guest is called: its own label, else the nearest one before it."""
        line = self.line(address)
        return line.label if line is not None and line.label else place(address, self.guest).strip("'")

    def spoken(self, name: str) -> str:
        """Return a place with the instruction there: "`body` (`nop`)"."""
        line = next((line for line in self.trace.code if self.name(line.address) == name), None)
        return f"`{name}`" if line is None else f"`{name}` (`{spelt(line.text, self.guest)}`)"

    def returns(self, trace: Trace) -> list[str]:
        """Return where each NMI of a run of this guest will return to, in the order in which they are taken."""
        return [self.name(step.rip) for step in entries(trace)]

    def returns_in(self, row: Row) -> list[str]:
        """Return the same from a row of ``compare``."""
        return [self.name(entry.returns_to) for entry in row.entered if entry.vector == NMI]

    def under(self, policy: str) -> Row:
        """Return what the same scenario comes to under another policy."""
        if policy not in self._under:
            self._under[policy] = measure(self.scenario.on(policy))
        return self._under[policy]

    def held(self, position: int) -> str:
        """Say what keeps an NMI waiting before step ``position``; nothing where none waits or nothing keeps it."""
        machine = self.trace.goto(position)
        cpu = machine.cpu
        if not isinstance(machine, Kvm):
            found = why.may_take(cpu, "nmi") if cpu.nmi_latch else None
        elif cpu.guest_mode and cpu.v_nmi_enable and cpu.v_nmi_pending:
            found = why.may_take(cpu)
        elif machine.vcpu.nmi_queued or machine.vcpu.nmi_pending:
            found = why.may_inject(machine)
            if found.decides is None:
                return "KVM has it still, and can bring it at the next entry only."
        else:
            found = None
        return found.decides.sentence if found is not None and found.decides is not None else ""


class Kept(Trace):
    """A trace whose steps are kept once they have been read."""

    def __init__(self, machine: AnyMachine) -> None:
        """Run ``machine``, as far as a prediction shows."""
        super().__init__(machine, limit=LONGEST)
        self._kept: dict[int, Step] = {}

    def __getitem__(self, index: int) -> Step:
        """Return one step."""
        at = index + len(self) if index < 0 else index
        if at not in self._kept:
            self._kept[at] = super().__getitem__(at)
        return self._kept[at]


def spelt(text: str, guest: Guest) -> str:
    """Return an instruction with the labels of the guest in the place of addresses."""
    named = {f"{address:#x}": label for label, address in reversed(guest.labels().items()) if "." not in label}
    return " ".join(named.get(word, word) for word in text.split(" "))


def exits_of(trace: Trace, name: str) -> list[Step]:
    """Return the exits of a run that are called ``name``."""
    return [step for step, event in exits(trace) if exit_name(event.code) == name]


def own_exits(trace: Trace) -> list[Step]:
    """Return the exits of a run that its policy asked for itself."""
    return [step for step, event in exits(trace) if exit_name(event.code) in OWN_EXITS.values()]


def deepest(trace: Trace) -> int:
    """Return how many NMI handlers are entered and not left, at most."""
    return max(depth(step) for step in trace)


def at_steps(steps: Iterable[Step]) -> str:
    """Return where something happens: "at steps 5 and 14", "nowhere"."""
    numbers = [str(step.index) for step in steps]
    if not numbers:
        return "nowhere"
    head, last = ", ".join(numbers[:-1]), numbers[-1]
    return f"at steps {head} and {last}" if head else f"at step {last}"


def became(row: Row, steps: Iterable[Step]) -> str:
    """Say what became of the NMIs of a run."""
    came_in = f"{counted(row.arrived, 'NMI')} arrive{'s' if row.arrived == 1 else ''}"
    entered = f"the handler is entered {times(row.delivered)}, {at_steps(steps)}"
    return f"{'; '.join([came_in, entered, *fates(row)])}."


def fates(row: Row) -> list[str]:
    """Say what became of those that were not delivered, and of what was delivered and never came."""
    told = (
        (row.coalesced, "merged with one that waited already"),
        (row.lost, "lost"),
        (row.waiting, "still waiting at the end"),
        (row.extra, "delivered and never came"),
    )
    return [f"{number} {'is' if number == 1 else 'are'} {what}" for number, what in told if number]


def arrivals(scenario: Scenario) -> str:
    """Say what arrives, and when; and which page is absent at first."""
    said = []
    for number, stimulus in enumerate(scenario.stimuli):
        what = "one" if stimulus.times == 1 else f"{stimulus.times} at once"
        who = "it" if number else "the guest"
        when = f"when {who} first comes to `{stimulus.at}`" if stimulus.at else "before it starts"
        said.append(f"{what} {when}")
    *head, last = said
    listed = f"{', '.join(head)}, and {last}" if head else last
    away = " ".join(f"{ABSENT[str(page)]} is absent at first." for page in scenario.absent)
    return " ".join(filter(None, [away, f"NMIs arrive: {listed}."]))


def machine_words(policy: str) -> str:
    """Say what the guest runs on."""
    return "The guest runs on bare metal." if policy == BARE else f"The guest runs under `{policy}`. {ABOUT[policy]}"


def came(trace: Trace) -> int:
    """Return the step at which the first NMI comes from outside."""
    return next(step.index for step in trace if step.kind == "stimulus")
