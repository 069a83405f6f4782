"""A prediction of a word, bit by bit: what a register or a field of the VMCB will hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vnmi_lab.checks.asked import DOES, SAYS, Asked, Beginning, Flag, Line, Reveal, Said
from vnmi_lab.checks.measure import number
from vnmi_lab.checks.text import prose, wrapped
from vnmi_lab.trace import AnyMachine, Trace


@dataclass(frozen=True, slots=True)
class Bit:
    """A bit to be set or cleared: its number, its name, and why it is as the machine has it."""

    number: int
    name: str
    why: str


@dataclass(slots=True, repr=False)
class SetBits(Asked):
    """What will ``word``, a field of the state, be after the step that ``where`` finds? Other bits stay as they are.

    ``until`` gives the last step that may be seen before the answer, and the word there is what one begins with.
    """

    id: str
    question: str
    word: str
    bits: tuple[Bit, ...]
    why: str
    scene: Callable[[], AnyMachine]
    where: Callable[[Trace], int]
    until: Callable[[Trace], int]
    title: str = ""
    record: list[Said] = field(default_factory=list)

    def shown(self) -> Beginning:
        """Return the run up to the question."""
        trace = self.trace()
        return Beginning(trace, self.until(trace) + 1)

    def start(self) -> int:
        """Return the word at the question."""
        trace = self.trace()
        return number(trace[self.until(trace)], self.word)

    def answer(self) -> int:
        """Return the word that the machine comes to."""
        trace = self.trace()
        return number(trace[self.where(trace)], self.word)

    def set(self, value: int) -> Reveal:
        """Say what the word will be; ``ValueError`` for a word that differs in a bit that is not asked about."""
        if (value ^ self.start()) & ~self.mask:
            asked = ", ".join(str(bit.number) for bit in self.bits)
            msg = f"take {self.start():#x} and set or clear bits {asked} of it, not {value:#x}"
            raise ValueError(msg)
        return self.told(self._reveal(value), "set", answer=value)

    @property
    def mask(self) -> int:
        """The bits that are asked about."""
        return sum(1 << bit.number for bit in self.bits)

    def retold(self, answer: str | int | None) -> Reveal | None:
        """Return what was revealed to a word."""
        if answer is None:
            return self._reveal(None)
        return self._reveal(answer) if isinstance(answer, int) and not (answer ^ self.start()) & ~self.mask else None

    def _reveal(self, value: int | None) -> Reveal:
        answer, trace = self.answer(), self.trace()
        where = self.where(trace)
        flags = [Flag(where, "machine", self.written(answer))]
        lines = [Line("", f"{self.written(answer)}.", DOES, self.why)]
        if value is not None:
            flags.append(Flag(where, "you", self.written(value)))
            lines[0] = lines[0]._replace(mark=f"{SAYS}, and {DOES}" if value == answer else DOES)
            if value != answer:
                lines.append(Line("", f"{self.written(value)}.", SAYS, self._differing(value ^ answer)))
        lines += [self._bit(bit, value, answer) for bit in self.bits]
        said: Said = "skipped" if value is None else "right" if value == answer else "wrong"
        return Reveal(said, tuple(lines), tuple(flags))

    def _bit(self, bit: Bit, value: int | None, answer: int) -> Line:
        so = answer >> bit.number & 1
        mark = "" if value is None or value >> bit.number & 1 == so else f"you said {1 - so}"
        return Line(f"Bit {bit.number},", f"{bit.name} = {so}.", mark, bit.why)

    def _differing(self, difference: int) -> str:
        names = [bit.name for bit in self.bits if difference >> bit.number & 1]
        return f"Another word in {' and '.join(names)}."

    def written(self, value: int) -> str:
        """Return the word as a line: its name, and its value as the manuals write it."""
        return f"{self.word} = {value:08X}h"

    def asks(self) -> str:
        """Return the bits."""
        rows = "".join(f"<li>bit {bit.number}: {prose(bit.name)}</li>" for bit in self.bits)
        return f"<p>Now {self.written(self.start())}. Set or clear:</p><ul>{rows}</ul>"

    def __repr__(self) -> str:
        """Return the question for a terminal."""
        bits = [f"  bit {bit.number:>2}  {bit.name} = {self.start() >> bit.number & 1} now" for bit in self.bits]
        now = f"Now {self.written(self.start())}."
        return "\n".join([wrapped(self.question), now, *bits, "Answer with .set(WORD), or .skip() to see it."])
