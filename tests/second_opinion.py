"""What a guest would see, worked out a second time from the words of the rules and the text of the guest.

It shares no code with the machine: no bytes, no addresses, no KVM. It knows the guests that practice makes, one
instruction and one label a line, on bare metal; and the formulas for the exits of KVM in semantics 7: an IRET exit for
each NMI that is delivered, and a step for each that had waited when an IRET was met.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vnmi_lab.guests import Source
from vnmi_lab.scenario import Scenario

NMI, BREAKPOINT, MAIN = 2, 3, 0
Place = tuple[int, int]


@dataclass
class Opinion:
    """What happened: where each NMI was taken, how deep handlers nested, how many had waited for an IRET."""

    returns: list[str] = field(default_factory=list)
    deepest: int = 0
    waited: int = 0
    moments: int = 0
    """Times at which something arrived while the guest was running."""


class Processor:
    """The guest on bare metal, by labels."""

    def __init__(self, scenario: Scenario) -> None:
        assert isinstance(scenario.guest, Source)
        texts = {MAIN: scenario.guest.main, **dict(scenario.guest.handlers)}
        self.code = {vector: [line.split(": ") for line in text.splitlines()] for vector, text in texts.items()}
        self.due = list(scenario.stimuli)
        self.virtual = scenario.policy == "vnmi"
        self.at: Place = (MAIN, 0)
        self.frames: list[tuple[int, Place, bool]] = []
        self.latch = self.mask = self.shadow = self.interrupts = self.halted = False
        self.gif = True
        self.seen = Opinion()

    def run(self) -> Opinion:
        for step in range(1000):
            again = self.arrive(step)
            if self.latch and not self.mask and self.gif and not self.shadow:
                self.seen.returns.append(self.label)
                self.latch, self.mask, self.halted = again, True, False
                self.enter(NMI, self.at)
                depth = sum(vector == NMI for vector, _at, _if in self.frames)
                self.seen.deepest = max(self.seen.deepest, depth)
            elif self.halted:
                return self.seen
            else:
                self.execute()
        raise AssertionError("the guest never comes to rest")

    @property
    def label(self) -> str:
        program, line = self.at
        return self.code[program][line][0]

    def arrive(self, step: int) -> bool:
        """Let arrive what is due; True if one more waits as soon as one is taken.

        That is so if more than one came at this moment; and of a virtual NMI, too, that is taken at this moment: V_NMI
        is in the processor, and what comes is with the hypervisor, so they do not merge. Both could be on bare metal.
        """
        taken = self.virtual and self.latch and not self.mask and self.gif and not self.shadow
        now = [s for s in self.due if s.at == self.label or s.at == step == 0]
        self.due = [s for s in self.due if s not in now]
        self.latch = self.latch or bool(now)
        self.seen.moments += bool(now) and step > 0  # before the first entry nobody needs a kick
        return sum(s.times for s in now) > 1 or (taken and bool(now))

    def enter(self, vector: int, back: Place) -> None:
        self.frames.append((vector, back, self.interrupts))
        self.interrupts = self.shadow = False
        self.at = (vector, 0)

    def execute(self) -> None:
        program, line = self.at
        word = self.code[program][line][1].split()[0]
        shadow, self.shadow = word == "sti" and not self.interrupts, False
        self.at = (program, line + 1)
        if word == "int3":
            self.enter(BREAKPOINT, self.at)
        elif word == "iretq":
            self.seen.waited += self.latch and self.mask
            _vector, self.at, self.interrupts = self.frames.pop()
            self.mask = False
        elif word == "jmp":
            self.at = (MAIN, line - 1)
        elif word in ("cli", "sti"):
            self.interrupts = word == "sti"
        elif word in ("clgi", "stgi"):
            self.gif = word == "stgi"
        elif word == "hlt":
            self.halted = True
        self.shadow = shadow


def opinion(scenario: Scenario) -> Opinion:
    """Work out what the guest of a scenario would see on bare metal."""
    return Processor(scenario).run()
