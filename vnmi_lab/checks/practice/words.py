"""Which bits: what ``int_ctl`` will hold after the processor or KVM wrote it next."""

from __future__ import annotations

from collections.abc import Iterator

from vnmi_lab.checks.bitset import Bit, SetBits
from vnmi_lab.checks.measure import number
from vnmi_lab.checks.practice.ask import Ask
from vnmi_lab.checks.practice.runs import Run

BITS = ((9, "V_GIF", "v_gif"), (11, "V_NMI", "v_nmi_pending"), (12, "V_NMI_MASK", "v_nmi_blocking"),
        (25, "V_GIF_ENABLE", "v_gif_enable"), (26, "V_NMI_ENABLE", "v_nmi_enable"))  # fmt: skip
"""The bits that are asked about: number, APM name, field."""
WHO = {
    "vmexit": "at the next #VMEXIT, when the processor has written its own copies back",
    "vmrun": "at the next VMRUN, when KVM has prepared it",
}


def bits(ask: Ask) -> SetBits | None:
    """Ask for the word after the next #VMEXIT or VMRUN that changes it."""
    run = ask.run
    moments = list(_moments(run))
    if not moments:
        return None
    until, where = ask.draw.pick(moments)
    who = WHO[run.trace[where].kind]
    question = f"{ask.intro()} The picture stops at step {until}. Which word stands in `int_ctl` of the VMCB {who}?"
    return SetBits(
        ask.id,
        question,
        "int_ctl",
        tuple(Bit(bit, name, _why(run, field, until, where)) for bit, name, field in BITS),
        f"That is step {where}: {run.trace[where].sentence}",
        run.scenario.machine,
        lambda _trace: where,
        lambda _trace: until,
        ask.title,
    )


def _moments(run: Run) -> Iterator[tuple[int, int]]:
    """Yield the steps between which to ask: an arrival or the end of an exit, and the next writing of the word."""
    for until in range(run.stimuli[0], len(run.trace)):
        if run.trace[until].kind not in ("stimulus", "vmrun", "kvm", "deliver"):
            continue
        where = next((i for i in range(until + 1, len(run.trace)) if run.trace[i].kind in WHO), None)
        if where is not None and number(run.trace[until], "int_ctl") != number(run.trace[where], "int_ctl"):
            yield until, where


def _why(run: Run, field: str, until: int, where: int) -> str:
    """Say what changed the bit last on the way, or that nothing did; what the processor did to its copy comes first."""
    written = _last(run, f"int_ctl.{field}", until, where)
    if not written:
        return "Nothing writes another value on the way."
    inside = _last(run, field, until, where - 1) if run.trace[where].kind == "vmexit" else ""
    return f"{inside} {written}".strip()


def _last(run: Run, field: str, until: int, where: int) -> str:
    """Return the last change of a field between two steps, with its rule."""
    for step in range(where, until, -1):
        for change in reversed(run.trace[step].changes):
            if change.field == field:
                return f"Step {step}, {change.rule.removeprefix('K-')}: {run.trace.rules[change.rule].sentence}"
    return ""
