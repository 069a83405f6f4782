"""What a panel says in place: a problem with its line, a remark. Whatever comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import ipywidgets as widgets

from vnmi_lab.guest_text import GuestTextError
from vnmi_lab.widgets.turn import TURN


def problem(text: str, code: str = "", *, remark: bool = False) -> str:
    """Return a problem as HTML, with the code it is about; a remark is none, but worth saying."""
    listing = f"<pre>{escape(code)}</pre>" if code else ""
    role, more = ("status", " vnmi-remark") if remark else ("alert", "")
    return f'<div class="vnmi-problem{more}" role="{role}">{escape(text)}{listing}</div>'


def explained(error: Exception) -> str:
    """Return an error as HTML: what is wrong with an input in its own words, anything else with its type."""
    if isinstance(error, GuestTextError):
        return problem(str(error), error.pointed if error.source else "")
    if isinstance(error, ValueError):
        return problem(str(error))
    return problem(f"Something went wrong, and the run stays as it was. {type(error).__name__}: {error}")


class Note(widgets.HTML):  # type: ignore[misc]  # ipywidgets has no types
    """A place for a problem beside the control that it is about."""

    def guard(self, action: Callable[[], None]) -> bool:
        """Do something; an error is shown here, where it would otherwise vanish. True if there was none."""
        with TURN:
            self.value = ""
            try:
                action()
            except Exception as error:  # noqa: BLE001  # whatever went wrong, the learner must see it
                self.value = explained(error)
                return False
            return True
