"""Every view of a notebook, a row each: the tests look at them in every theme, and the gallery shows them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from playwright.sync_api import Locator, expect


class View(NamedTuple):
    """A view: its name, what is seen, the cell that shows it, and what a reader does first."""

    name: str
    seen: str
    code: str
    do: Callable[[Locator], None]


def go(step: int) -> Callable[[Locator], None]:
    """Give what goes to a step."""

    def act(view: Locator) -> None:
        number = view.get_by_role("spinbutton", name=re.compile("^Go to"))
        number.fill(str(step))
        number.press("Enter")

    return act


def answer(view: Locator) -> None:
    """Take the first option."""
    view.get_by_role("radio").first.check()
    view.get_by_role("button", name="Check").click()
    expect(view.locator(".vnmi-note[data-said]")).to_be_visible()


def nothing(_view: Locator) -> None:
    """Leave a view as it comes."""


FIRST = "import vnmi_lab.widgets\nfrom vnmi_lab import Stimulus\nfrom vnmi_lab.checks import lab01"
VIEWS = (
    View(
        "timeline",
        "A run on bare metal: the second NMI waits in the latch for the first one's IRET.",
        "vnmi_lab.show(lab01.second_nmi.trace())",
        go(6),
    ),
    View(
        "kvm",
        "A guest under KVM with vNMI: host and guest, KVM's fields, VMCB bits, which function changed what, and why an "
        "NMI is blocked.",
        'vnmi_lab.show("in-handler", controls=False)',
        go(14),
    ),
    View(
        "bench", "The bench: policy, guest, arrivals and options above the run.", 'vnmi_lab.show("in-handler")', go(9)
    ),
    View(
        "compare",
        "Policies side by side, aligned by what arrives and what the guest does: v6.4-rc drops the second NMI.",
        'vnmi_lab.side_by_side("wrong-bit-loses", ("vnmi", "vnmi-6.4-rc"))',
        nothing,
    ),
    View(
        "graph",
        "What the judge explored of a wrong policy, with the shortest counterexample to walk along.",
        'vnmi_lab.state_graph("m1")',
        nothing,
    ),
    View(
        "predict",
        "A prediction after a wrong answer: what was chosen stays beside what the machine does.",
        "lab01.second_nmi",
        answer,
    ),
    View(
        "result",
        "A check that fails says what is wrong, and opens the learner's run where it went wrong.",
        'lab01.two_runs.check([Stimulus(at="work", times=5)])',
        nothing,
    ),
)
