"""A scenario as a value: a guest, what it runs on, what comes from outside, and the options.

It has one short text form that can stand in a URL as it is, and is read back exactly::

    v1~plain~vnmi~nmi@work~nmix10@body
    v1~GUEST~MACHINE~ITEM~ITEM...

GUEST     a name of ``GUESTS``, or ``asm.MAIN.VECTOR.HANDLER...`` with texts in base64url
MACHINE   ``bare``, or a policy: ``legacy``, ``vnmi``, ...
ITEM      an arrival, ``WHATxTIMES@WHEN``: ``nmi@work``, ``nmix2@0``, ``irq.65@body``, ``smi@work``;
          what user space does at a stop: ``migrate@saved``, ``getset@saved``;
          WHEN is a step number or a label of the guest, such as one in its handler
          a page that is absent at first: ``absent@idt``, ``absent@halting``, ``absent@0x360000``
          a rule that is switched off: ``off@R-NPF``
          a switch turned on or off: ``caching``, ``no.vgif``, ``no.vnmi_cpuid``
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from vnmi_lab.guests import GUESTS, PLACES, Source
from vnmi_lab.hv.profiles import POLICIES
from vnmi_lab.hv.vcpu import Features
from vnmi_lab.hw.bits import misspelt, shortened
from vnmi_lab.hw.delivery import NMI_WORD, vector_of
from vnmi_lab.hw.events import Delivered, Event
from vnmi_lab.kvm import MOVES, Kvm
from vnmi_lab.machine import BareMetal, Stimulus
from vnmi_lab.rules import Switches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vnmi_lab.guest import Guest
    from vnmi_lab.hv.ops import NmiOps

VERSION, SEPARATOR, BARE, ASM = "v1", "~", "bare", "asm"
SHAPE = f"a scenario reads {VERSION}~GUEST~MACHINE~ITEM..., such as v1~plain~vnmi~nmi@work"
ARRIVALS = {"nmi": "nmi", "irq": "intr", "smi": "smi", **{name: name for name in MOVES}}
"""What can come from outside: its word in the text, and in a ``Stimulus``."""
WORDS = {what: word for word, what in ARRIVALS.items()}
DEFAULT_VECTOR = Stimulus(0).vector
LABEL = re.compile(r"[A-Za-z_.][A-Za-z0-9_.]*")
_ARRIVAL = re.compile(r"(?P<word>[a-z]+)(?:\.(?P<vector>\d+))?(?:x(?P<times>\d+))?@(?P<when>.+)", re.ASCII)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]+", re.ASCII)
LONGEST, MOST_ITEMS = 50_000, 200
"""Characters and items of a text form: it may come from anywhere, and reading it must not take long."""
MOST = 1_000
"""Arrivals at once that a scenario may ask for."""
ENOUGH = 10_000
"""Steps of bare metal within which an arrival that can come has come."""


class _Option(NamedTuple):
    """A switch of a scenario: the field of ``Scenario`` it is in, that field's own name for it, its default."""

    part: str
    name: str
    default: bool


def _options() -> dict[str, _Option]:
    found = {f.name: _Option("features", f.name, bool(f.default)) for f in fields(Features)}
    switches = Switches()
    found |= {name: _Option("switches", name, getattr(switches, name)) for name in switches.names()}
    return found | {"irqchip": _Option("", "irqchip", default=True)}


OPTIONS: dict[str, _Option] = _options()
"""Every switch by its word; ``no.`` in front of one that is on by default turns it off."""
OPTION_SENTENCES: dict[str, str] = {
    "vnmi_cpuid": "The processor has virtual NMIs: CPUID Fn8000_000A, EDX bit 25.",
    "vnmi": "kvm_amd is loaded with vnmi=1.",
    "vgif": "kvm_amd is loaded with vgif=1; without virtual GIF KVM uses no virtual NMIs.",
    "boolean_pending": "User space reads a pending NMI as yes or no, as up to Linux 6.3.",
    "guest_mode": "The guest is an L2 under a hypervisor of its own.",
    "exit_on_nmi": "That hypervisor, L1, intercepts NMIs.",
    "nested_run_pending": "The first entry is L1's VMRUN.",
    "sev_es_guest": "An SEV-ES guest, whose IRET cannot be intercepted.",
    "faulting_iret_unmasks": "An IRET that faults unmasks physical NMIs.",
    "vnmi_before_intr": "At one boundary a virtual NMI comes before a physical interrupt.",
    "injected_nmi_exit_keeps_mask": "An exit while an injected NMI is delivered saves V_NMI_MASK as 1.",
    "eventinj_ends_shadow": "Delivering EVENTINJ ends an interrupt shadow.",
    "injected_soft_uses_nrip": "An injected software interrupt returns to nRIP.",
    "caching": "The processor keeps VMCB fields whose clean bit is set.",
    "irqchip": "Interrupt control is in the kernel, so HLT does not go to user space.",
}
"""What it means that a switch is on."""
assert OPTION_SENTENCES.keys() == OPTIONS.keys(), "an option without a sentence, or the other way round"


class ScenarioError(ValueError):
    """Text that is no scenario: one line with the position, the text there, and what would be right."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A run, complete: the same value always does the same. ``str`` gives its text form, ``parse`` reads it.

    ``guest`` names one of ``GUESTS`` or is a ``Source``. ``policy`` is ``bare`` or names one of ``POLICIES``. A
    stimulus comes at a step number or at a label. ``absent``: pages that the nested page table does not map at first,
    each by an address, a label, or a name of ``PLACES``. ``irqchip`` off: HLT goes to user space.
    """

    guest: str | Source = "plain"
    policy: str = "vnmi"
    stimuli: tuple[Stimulus, ...] = ()
    absent: tuple[int | str, ...] = ()
    features: Features = field(default_factory=Features)
    switches: Switches = field(default_factory=Switches)
    irqchip: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be run or written."""
        if isinstance(self.guest, str):
            _known_guest(self.guest)
        _known_policy(self.policy)
        labels = self.source.guest().labels()
        for stimulus in self.stimuli:
            _can_come(stimulus, labels)
        for place in self.absent:
            _is_place(place, labels)
        if len(set(self.absent)) < len(self.absent):
            msg = "a page is absent only once"
            raise ValueError(msg)

    # --- text --------------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        """Return the text form."""
        return SEPARATOR.join((VERSION, _guest_text(self.guest), self.policy, *self._items()))

    def _items(self) -> Iterator[str]:
        for stimulus in self.stimuli:
            vector = f".{stimulus.vector}" if stimulus.vector != DEFAULT_VECTOR else ""
            times = f"x{stimulus.times}" if stimulus.times > 1 else ""
            yield f"{WORDS[stimulus.what]}{vector}{times}@{stimulus.at}"
        for place in self.absent:
            yield f"absent@{place:#x}" if isinstance(place, int) else f"absent@{place}"
        for word, option in OPTIONS.items():
            if self.option(word) != option.default:
                yield f"no.{word}" if option.default else word
        for rule in sorted(self.switches.off):
            yield f"off@{rule}"

    @classmethod
    def parse(cls, text: str) -> Scenario:
        """Read the text form; ``ScenarioError`` says where it is wrong, and what would be right."""
        if len(text) > LONGEST:
            raise ScenarioError(f"a scenario has at most {LONGEST:,} characters, not {len(text):,}")
        pieces = list(_pieces(text))
        if len(pieces) > MOST_ITEMS + 3:
            raise ScenarioError(f"a scenario has at most {MOST_ITEMS} items, not {len(pieces) - 3:,}")
        if pieces[0].text != VERSION or len(pieces) < 3:  # noqa: PLR2004 - version, guest, machine
            raise pieces[0 if pieces[0].text != VERSION else -1].error(SHAPE)
        guest = pieces[1].read(_guest)
        made = cls(guest, pieces[2].read(_known_policy))
        seen: set[str] = set()
        for piece in pieces[3:]:
            made = piece.read(partial(_with, made, seen))
        return made

    # --- running -----------------------------------------------------------------------------------------------------

    @property
    def source(self) -> Source:
        """The guest as text."""
        return GUESTS[self.guest].source if isinstance(self.guest, str) else self.guest

    def option(self, word: str) -> bool:
        """Return whether a switch is on."""
        part, name, _default = OPTIONS[word]
        return bool(getattr(getattr(self, part) if part else self, name))

    def switched(self, word: str, *, on: bool) -> Scenario:
        """Return the same scenario with a switch on or off."""
        part, name, _default = OPTIONS[word]
        change: dict[str, Any] = {name: on}
        return replace(self, **({part: replace(getattr(self, part), **change)} if part else change))

    def on(self, policy: str) -> Scenario:
        """Return the same scenario on another machine."""
        return replace(self, policy=policy)

    def machine(self, ops: NmiOps | None = None) -> BareMetal | Kvm:
        """Return the machine at its start; ``ops`` stands in for the policy that the scenario names."""
        guest = self.source.guest()
        if self.policy == BARE and ops is None:
            return BareMetal(guest, at_once(guest, self.stimuli, self.switches), self.switches)
        return Kvm(
            guest,
            ops or POLICIES[self.policy],
            self.features,
            self.switches,
            self.stimuli,
            irqchip=self.irqchip,
            absent=[_address(place, guest.labels()) for place in self.absent],
        )


# --- several at once, on bare metal ----------------------------------------------------------------------------------


def at_once(guest: Guest, stimuli: tuple[Stimulus, ...], switches: Switches) -> tuple[Stimulus, ...]:
    """Return arrivals as a processor meets them: of several NMIs at once it takes one, if it can, before the next.

    That is why KVM lets two wait: the first would have been taken at once (KVM process_nmi).
    """
    made = [s for s in stimuli if s.what not in MOVES]
    several = {i for i, s in enumerate(made) if s.what == "nmi" and s.times > 1}
    while several:  # in the order in which they come: what comes earlier moves what comes later
        number = _first_to_come(guest, tuple(made), several, switches)
        several.discard(number)
        first = made[number]
        made[number] = replace(first, times=1)
        taken = _taken_at_once(guest, tuple(made), number, switches)
        if taken is None:
            made[number] = first
        else:
            made[number] = replace(first, at=taken, times=1)
            made.append(replace(first, at=taken + 1, times=first.times - 1))
    return tuple(made)


def _first_to_come(guest: Guest, stimuli: tuple[Stimulus, ...], several: set[int], switches: Switches) -> int:
    """Return which of several stimuli comes first; where none of them comes any more, any."""
    if len(several) > 1:
        machine = BareMetal(guest, stimuli, switches)
        for _ in range(ENOUGH):
            came = several - set(machine.schedule.due)
            if came or not machine.step():
                return min(came or several)
    return min(several)


def _taken_at_once(guest: Guest, stimuli: tuple[Stimulus, ...], number: int, switches: Switches) -> int | None:
    """Return the step at which a stimulus comes if the NMI is taken at that very boundary, else None."""
    machine = BareMetal(guest, stimuli, switches)
    for _ in range(ENOUGH):
        if number not in machine.schedule.due:
            break
        if not machine.step():
            return None
    else:
        return None
    while machine.schedule.next(machine.cpu.steps, machine.cpu.rip) is not None:
        pass  # what comes at the same moment changes nothing
    step, seen = machine.cpu.steps, list[Event]()
    machine.cpu.sink = seen.append
    machine.cpu.step()
    nmi = vector_of(NMI_WORD)
    return step if any(isinstance(e, Delivered) and e.vector == nmi for e in seen) else None


# --- reading ---------------------------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """A part of the text between separators, and where it starts, from 1."""

    at: int
    text: str

    def error(self, problem: object) -> ScenarioError:
        return ScenarioError(f"character {self.at}, {shortened(self.text)!r}: {problem}")

    def read(self, reader: Callable[[str], Any]) -> Any:  # noqa: ANN401 - whatever the reader returns
        """Return what the reader makes of the text; its complaint gets the position."""
        try:
            return reader(self.text)
        except ValueError as problem:
            raise self.error(problem) from None


def _pieces(text: str) -> Iterator[_Piece]:
    at = 1
    for part in text.split(SEPARATOR):
        yield _Piece(at, part)
        at += len(part) + 1


def _with(scenario: Scenario, seen: set[str], item: str) -> Scenario:
    """Return the scenario with one more item."""
    if "@" not in item:
        return _switched(scenario, item, seen)
    word, _, value = item.partition("@")
    if word == "absent":
        place = _number(value) if _NUMBER.fullmatch(value) else value
        return replace(scenario, absent=(*scenario.absent, place))
    if word == "off":
        off = scenario.switches.off | {value}
        return replace(scenario, switches=replace(scenario.switches, off=off))
    return replace(scenario, stimuli=(*scenario.stimuli, _stimulus(item)))


def _switched(scenario: Scenario, item: str, seen: set[str]) -> Scenario:
    word = item.removeprefix("no.")
    if word not in OPTIONS:
        known = [*OPTIONS, *(f"{name}@" for name in (*ARRIVALS, "absent", "off"))]
        raise ValueError(misspelt("a scenario", word, known, "item"))
    default = OPTIONS[word].default
    if item.startswith("no.") != default:
        msg = f"{word} is {'on' if default else 'off'} already; write {'no.' if default else ''}{word}"
        raise ValueError(msg)
    if word in seen:
        msg = f"{word} is said twice"
        raise ValueError(msg)
    seen.add(word)
    return scenario.switched(word, on=not default)


def _stimulus(item: str) -> Stimulus:
    found = _ARRIVAL.fullmatch(item)
    if found is None:
        msg = "an arrival reads WHAT@WHEN or WHATxTIMES@WHEN, such as nmi@work, nmix10@body, irq.65@12"
        raise ValueError(msg)
    word, when = found["word"], found["when"]
    if word not in ARRIVALS:
        raise ValueError(misspelt("a scenario", word, [*ARRIVALS, "absent", "off"], "arrival"))
    vector = int(found["vector"]) if found["vector"] else DEFAULT_VECTOR
    at = int(when) if when.isdecimal() and when.isascii() else when
    return Stimulus(at, ARRIVALS[word], int(found["times"] or 1), vector)


def _guest(text: str) -> str | Source:
    head, *parts = text.split(".")
    if head != ASM or not parts:
        return _known_guest(text)
    if len(parts) % 2 == 0:
        msg = "after asm. come main, then a vector and a handler each, with dots between"
        raise ValueError(msg)
    handlers = []
    for vector, code in zip(parts[1::2], parts[2::2], strict=True):
        if not _NUMBER.fullmatch(vector):
            msg = f"a vector must be a number, not {vector!r}"
            raise ValueError(msg)
        handlers.append((_number(vector), _decoded(code)))
    source = Source(_decoded(parts[0]), tuple(handlers))
    source.guest()
    return source


def _number(text: str) -> int:
    return int(text, 16 if text.startswith("0x") else 10)


def _decoded(text: str) -> str:
    try:
        return b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()
    except ValueError:
        msg = f"{shortened(text)!r} is not base64url of UTF-8 text"
        raise ValueError(msg) from None


def _guest_text(guest: str | Source) -> str:
    if isinstance(guest, str):
        return guest
    parts = [ASM, _encoded(guest.main)]
    for vector, text in guest.handlers:
        parts += [str(vector), _encoded(text)]
    return ".".join(parts)


def _encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


# --- what is right ---------------------------------------------------------------------------------------------------


def _known_guest(guest: str) -> str:
    if guest not in GUESTS:
        raise ValueError(misspelt("the library", guest, [*GUESTS], "guest"))
    return guest


def _known_policy(policy: str) -> str:
    if policy not in (BARE, *POLICIES):
        raise ValueError(misspelt("vnmi_lab", policy, [BARE, *POLICIES], "machine"))
    return policy


def _can_come(stimulus: Stimulus, labels: dict[str, int]) -> None:
    if stimulus.what not in WORDS:
        msg = f"a scenario has no {stimulus.what!r}; known: {', '.join(ARRIVALS)}"
        raise ValueError(msg)
    if stimulus.vector != DEFAULT_VECTOR and stimulus.what != "intr":
        msg = f"only irq has a vector, not {WORDS[stimulus.what]}"
        raise ValueError(msg)
    if stimulus.times > MOST:
        msg = f"at most {MOST} come at once, not {stimulus.times}"
        raise ValueError(msg)
    if isinstance(stimulus.at, str):
        _is_label(stimulus.at, labels)


def _is_label(name: str, labels: dict[str, int]) -> None:
    if name not in labels or not LABEL.fullmatch(name):
        raise ValueError(misspelt("the guest", name, [*filter(LABEL.fullmatch, labels)], "label"))


def _is_place(place: int | str, labels: dict[str, int]) -> None:
    if isinstance(place, str):
        _is_label(place, labels | PLACES)
    elif not 0 <= place < 1 << 32:
        msg = f"a page must be below 4 GiB, not at {place:#x}"
        raise ValueError(msg)


def _address(place: int | str, labels: dict[str, int]) -> int:
    return place if isinstance(place, int) else (labels | PLACES)[place]
