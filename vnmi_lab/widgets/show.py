"""One call that shows whatever a learner has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

from vnmi_lab.checks import Asked
from vnmi_lab.guests import Source
from vnmi_lab.hw.bits import expect
from vnmi_lab.kvm import Kvm
from vnmi_lab.library import find
from vnmi_lab.machine import BareMetal, Host
from vnmi_lab.scenario import Scenario
from vnmi_lab.timeline import TraceLike
from vnmi_lab.trace import Trace
from vnmi_lab.widgets.bench import Bench
from vnmi_lab.widgets.bench import titled as named
from vnmi_lab.widgets.presenter import Presenter
from vnmi_lab.widgets.timeline import Timeline, titled

SHOWN: tuple[type, ...] = (str, Source, Scenario, BareMetal, Host, Kvm, TraceLike, Mapping)
PRESENTED: tuple[type, ...] = (*SHOWN[:-1], Asked)
A_PRESENTER = "a presenter shows a scenario, its name or text, a guest, a machine, a trace or a prediction"


@overload
def show(
    what: Scenario | Source | str = ...,
    *,
    title: str = ...,
    cursor: int = ...,
    visible_until: int | None = ...,
    link: str = ...,
    lint: bool = ...,
    controls: Literal[True] = ...,
    presenter: Literal[False] = ...,
) -> Bench: ...
@overload
def show(
    what: TraceLike | BareMetal | Host | Kvm | Scenario | Source | str | Mapping[str, Any],
    *,
    title: str = ...,
    cursor: int = ...,
    visible_until: int | None = ...,
    link: str = ...,
    lint: bool = ...,
    controls: Literal[False],
) -> Timeline: ...
@overload
def show(
    what: TraceLike | BareMetal | Host | Kvm | Mapping[str, Any],
    *,
    title: str = ...,
    cursor: int = ...,
    visible_until: int | None = ...,
    link: str = ...,
    lint: bool = ...,
) -> Timeline: ...
@overload
def show(
    what: TraceLike | BareMetal | Host | Kvm | Scenario | Source | str | Asked,
    *,
    title: str = ...,
    cursor: int = ...,
    presenter: Literal[True],
) -> Presenter: ...
def show(  # noqa: PLR0913 - by name at every call
    what: TraceLike | BareMetal | Host | Kvm | Scenario | Source | str | Mapping[str, Any] | Asked = "one",
    *,
    title: str = "",
    cursor: int = 0,
    visible_until: int | None = None,
    link: str = "",
    lint: bool = True,
    controls: bool = True,
    presenter: bool = False,
) -> Timeline | Bench | Presenter:
    """Show a scenario, also by its name or text, or a guest, on the bench; a trace, a payload or a machine in time.

    A copy of a machine is run from its start. ``controls=False`` gives the timeline alone. What has the same ``link``
    moves together, and ``lint=False`` leaves out the lane of broken rules, as of ``Timeline``. ``presenter=True`` is
    for a room: large, up to step ``cursor``; what follows is hidden until it is asked for; a prediction can be shown
    so, too. ``ValueError`` in one line for text that is no scenario, ``TypeError`` for what can be shown in no way.
    """
    expect(title, (str,), "a title is text")
    if presenter:
        expect(what, PRESENTED, A_PRESENTER)
        if isinstance(what, Asked):
            return Presenter(what, title=title, cursor=cursor)
        controls = False
    expect(what, SHOWN, "show takes a scenario, its name or text, a guest, a machine, a trace or a payload")
    if isinstance(what, str):
        what = find(what)
    if isinstance(what, Source):
        what = Scenario(what)
    if isinstance(what, Scenario):
        if controls:
            return Bench(what, title=title, cursor=cursor, visible_until=visible_until, link=link, lint=lint)
        title, what = title or named(what), what.machine()
    run = Trace(what.fresh(), title or titled(what)) if isinstance(what, BareMetal | Host | Kvm) else what
    if presenter:
        assert not isinstance(run, Mapping | Asked)
        return Presenter(run, title=title, cursor=cursor)
    assert not isinstance(run, Asked)
    return Timeline(run, cursor=cursor, visible_until=visible_until, link=link, lint=lint)
